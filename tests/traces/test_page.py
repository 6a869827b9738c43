"""docs/traces.md says what spans there are; this says that it is true."""

from __future__ import annotations

import re
from pathlib import Path

from taximeter.call import Stage
from taximeter.traces import DROPPED
from taximeter.traces import _names as names

PAGE = (Path(__file__).parent.parent.parent / "docs" / "traces.md").read_text(encoding="utf-8")
QUOTED = set(re.findall(r"`([^`\n]+)`", PAGE))
TOLD = {
    value.replace(names.TAG_PREFIX, names.TAG_PREFIX + "NAME") if value else value
    for name, value in vars(names).items()
    if name.isupper() and isinstance(value, str) and re.fullmatch(r"[a-z_]+(\.[a-z_]+)*\.?", value)
}
WORDS = {names.VERTEX, names.VERTEX_HOST, names.NO_OPERATION}


def test_every_name_is_on_the_page() -> None:
    """An attribute or an event that comes in is documented."""
    assert {word for word in TOLD - WORDS if word not in QUOTED} == set()


def test_the_page_names_nothing_else() -> None:
    """An attribute that is gone is gone from the page."""
    said = {
        word for word in QUOTED if re.fullmatch(r"(gen_ai|taximeter|openai)\.[a-zA-Z_.]+", word)
    }
    assert said - TOLD == set()


def test_every_reason_and_every_stage_is_on_the_page() -> None:
    """Each way of dropping a call, and each span of a stage."""
    assert {reason for reason in DROPPED if reason not in QUOTED} == set()
    assert {stage for stage in Stage if f" {stage} " not in PAGE} == set()
