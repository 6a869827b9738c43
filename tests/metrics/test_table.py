"""The table of families is all there is: what is exposed is in it, documented, and well named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from taximeter.call import Gaps
from taximeter.metrics import (
    CONTENT_TYPE_OPENMETRICS,
    CONTENT_TYPE_TEXT,
    FAMILIES,
    Family,
    Kind,
    Source,
)
from taximeter.metrics import _booked as families
from taximeter.metrics._exposition import Picture
from taximeter.metrics._family import USD
from taximeter.metrics._series import Exemplar
from taximeter.metrics._words import OUR_ERRORS
from taximeter.recorder._follow import JOURNAL_DAMAGED, WORKER_DIED
from taximeter.relay._errors import PROBLEMS, Fault
from tests.metrics.make import samples

PAGE = Path(__file__).parent.parent.parent / "docs" / "metrics.md"


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_family_is_named_as_the_conventions_want_it(family: Family) -> None:
    """Lower case, a unit last, no ending that the kind adds, a full sentence of help."""
    assert re.fullmatch(r"(?:taximeter|gen_ai|process)_[a-z0-9_]+", family.name)
    assert not family.name.endswith(("_total", "_info", "_bucket", "_count", "_sum", "_created"))
    assert family.help.endswith((".", "`."))
    assert len(set(family.labels)) == len(family.labels)
    assert "le" not in family.labels
    assert (family.kind is Kind.HISTOGRAM) == bool(family.edges)
    assert list(family.edges) == sorted(set(family.edges))
    assert "|" not in family.help


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_family_is_documented(family: Family) -> None:
    """A metric that comes in is on the page, by the name that is asked for."""
    assert f"| `{family.exposed}` |" in PAGE.read_text(encoding="utf-8")


def test_no_name_is_there_twice() -> None:
    """One name, one family; and none that another one's series could be taken for."""
    names = [family.name for family in FAMILIES]
    assert len(set(names)) == len(names)
    endings = {f"{family.name}_{end}" for family in FAMILIES for end in ("bucket", "count", "sum")}
    assert endings.isdisjoint(names)


def test_no_histogram_and_few_counters_name_people() -> None:
    """A user or a team is on counters alone: of calls, tokens, cost, and a team's refusals."""
    named = [family for family in FAMILIES if {"user", "team"} & set(family.labels)]
    assert {family.kind for family in named} == {Kind.COUNTER}
    assert len(named) == 7


def test_thresholds_are_on_edges() -> None:
    """What a latency budget asks for by default can be read off a bucket."""
    stage = {edge / 1e9 for edge in families.STAGE.edges}
    assert {0.2, 0.1, 2, 0.15} <= stage
    assert 2 * 10**9 in families.FIRST_TOKEN.edges
    assert 50_000_000 in families.OUTPUT_TOKEN.edges
    assert families.INTER_TOKEN.edges == Gaps.EDGES_NS


def test_every_code_of_ours_has_somebody_s_fault() -> None:
    """A code that comes into the relay is known here, and blamed on the same."""
    told = {code: problem.fault for code, problem in PROBLEMS.items()}
    told |= {WORKER_DIED: Fault.OURS, JOURNAL_DAMAGED: Fault.OURS}
    assert {code: str(fault) for code, fault in told.items()} == OUR_ERRORS


_COUNTED = Family("taximeter_x", Kind.COUNTER, Source.CALLS, "Help.", ("user",), scale=USD)
_TIMED = Family(
    "taximeter_y_seconds",
    Kind.HISTOGRAM,
    Source.CALLS,
    "Help.",
    ("a",),
    (10**9, 5 * 10**8 * 5),
    10**9,
)
_TOLD = Family("taximeter_z", Kind.INFO, Source.RECORDER, "Help.", ("version",))

TEXT = """\
# HELP taximeter_x_total Help.
# TYPE taximeter_x_total counter
taximeter_x_total{user="a\\"b\\\\c"} 1e-12
taximeter_x_total{user=""} 3.0
# HELP taximeter_y_seconds Help.
# TYPE taximeter_y_seconds histogram
taximeter_y_seconds_bucket{a="b",le="1.0"} 2.0
taximeter_y_seconds_bucket{a="b",le="2.5"} 2.0
taximeter_y_seconds_bucket{a="b",le="+Inf"} 5.0
taximeter_y_seconds_count{a="b"} 5.0
taximeter_y_seconds_sum{a="b"} 12.25
# HELP taximeter_z_info Help.
# TYPE taximeter_z_info gauge
taximeter_z_info{version="1"} 1.0
"""

OPENMETRICS = """\
# HELP taximeter_x Help.
# TYPE taximeter_x counter
taximeter_x_total{user="a\\"b\\\\c"} 1e-12
taximeter_x_total{user=""} 3.0
# HELP taximeter_y_seconds Help.
# TYPE taximeter_y_seconds histogram
# UNIT taximeter_y_seconds seconds
taximeter_y_seconds_bucket{a="b",le="1.0"} 2.0
taximeter_y_seconds_bucket{a="b",le="2.5"} 2.0
taximeter_y_seconds_bucket{a="b",le="+Inf"} 5.0 # {call_id="c",trace_id="t"} 9.0 1700000000.5
taximeter_y_seconds_count{a="b"} 5.0
taximeter_y_seconds_sum{a="b"} 12.25
# HELP taximeter_z Help.
# TYPE taximeter_z info
taximeter_z_info{version="1"} 1.0
"""


@pytest.mark.parametrize("openmetrics", [False, True])
def test_the_text_is_to_the_byte(openmetrics: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both formats, byte by byte, and read back by Prometheus' own readers."""
    monkeypatch.setattr("taximeter.metrics._exposition.FAMILIES", [_COUNTED, _TIMED, _TOLD])
    picture = Picture()
    picture.set(_COUNTED, 1, 'a"b\\c')
    picture.set(_COUNTED, 3 * USD, "")
    picture.bins[_TIMED] = {("b",): (2, 0, 3, 12_250_000_000)}
    picture.exemplars[_TIMED] = {("b",): {2: Exemplar("t", "c", 9 * 10**9, 1_700_000_000.5)}}
    picture.set(_TOLD, 1, "1")
    text = picture.text(as_openmetrics=openmetrics)
    assert text.decode() == (OPENMETRICS if openmetrics else TEXT)
    values = {
        (sample.name, sample.labels.get("le")): sample.value
        for sample in samples(text, openmetrics=openmetrics)
    }
    assert values["taximeter_y_seconds_bucket", "+Inf"] == 5


def test_the_content_types_are_prometheus_own() -> None:
    """What is sent is called what it is."""
    assert CONTENT_TYPE_TEXT == "text/plain; version=0.0.4; charset=utf-8"
    assert CONTENT_TYPE_OPENMETRICS.startswith("application/openmetrics-text; version=1.0.0")
