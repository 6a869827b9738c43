"""The kit: strict about what it is given, exact about braces, tidy on the grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.kit import SourceError, _describe, compose, metrics_of
from dashboards.kit._export import _place
from dashboards.kit._source import finish, hide_braces

_PANEL = """
            - {kind}-panel:
                title: A
                shows: Something.
                act: Nothing.
                span: {span}
                height: 4
                {more}
                targets:
                  - prom: {{expr: '{expr}', legend: '{{{{instance}}}}'}}
"""
_BOARD = """
- name: test
  board-project: {{dashboards: [one], all: 'job="a"'}}
- name: one
  board:
    uid: one
    title: One
    about: Words.
    templates: []
    annotations: []
    links: []
    rows:
      - section:
          title: {title}
          collapsed: {collapsed}
          panels:
{panels}
"""


def _panel(
    kind: str = "stat", span: int = 6, more: str = "unit: s", expr: str = "sum(up{@{all}})"
) -> str:
    return _PANEL.format(kind=kind, span=span, more=more, expr=expr)


def _compose(folder: Path, *panels: str, title: str = "''", collapsed: str = "false") -> Any:
    text = _BOARD.format(title=title, collapsed=collapsed, panels="".join(panels))
    (folder / "one.yaml").write_text(text, encoding="utf-8")
    return compose(folder)["one.json"]


def test_a_query_keeps_its_braces_and_takes_its_placeholders(tmp_path: Path) -> None:
    """Braces of PromQL and legends come out as written; `@{name}` is replaced."""
    target = _compose(tmp_path, _panel())["panels"][0]["targets"][0]
    assert target["expr"] == 'sum(up{job="a"})'
    assert target["legendFormat"] == "{{instance}}"


def test_a_description_names_its_metrics(tmp_path: Path) -> None:
    """What a panel reads is in its description, found from the query itself."""
    expr = "rate(taximeter_calls_total{@{all}}[5m])"
    description = _compose(tmp_path, _panel(expr=expr))["panels"][0]["description"]
    assert description == ("Something.\n\nWhat to do: Nothing.\n\nMetrics: `taximeter_calls_total`")


def test_a_panel_of_what_is_to_come_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A metric of planned_metrics.yaml is named as one that nothing exports yet."""
    monkeypatch.setattr(_describe, "planned_names", lambda: {"taximeter_to_come"})
    panel = _compose(tmp_path, _panel(expr="max(taximeter_to_come{@{all}})"))["panels"][0]
    assert panel["description"].endswith(
        "Nothing exports this yet, so nothing is drawn: `taximeter_to_come`"
    )


@pytest.mark.parametrize(
    ("panel", "said"),
    [
        (_panel(more="colour: red"), "unknown field `colour`"),
        (_panel(more="unit: [s]"), "Expected `str"),
        (_panel(kind="pie"), "pie-panel"),
        (_panel(expr="sum(up{@{nothing}})"), "@{nothing}"),
        (_panel(expr="sum(up{@{all}}"), "A:"),
        (_panel(span=25), "width"),
        (_panel(more="links: [{title: x}]"), "either `board` or `url`"),
        (_panel().replace("prom:", "graphite-target:"), "`prom` or `sql`"),
    ],
)
def test_what_is_wrong_is_refused_with_its_name(tmp_path: Path, panel: str, said: str) -> None:
    """An unknown key, kind or placeholder, or a query that is none, is an error that names it."""
    with pytest.raises(SourceError) as caught:
        _compose(tmp_path, panel)
    assert said in str(caught.value)


def test_an_unknown_component_is_refused(tmp_path: Path) -> None:
    """A component of a type that does not exist is not left out silently."""
    (tmp_path / "one.yaml").write_text("- {name: x, bord: {}}", encoding="utf-8")
    with pytest.raises(SourceError, match="bord"):
        compose(tmp_path)


def test_panels_fill_lines_from_the_left_and_sink_no_deeper_than_they_must(tmp_path: Path) -> None:
    """Each panel stands as high up and as far left as it fits."""
    tall = _panel(span=12).replace("height: 4", "height: 8")
    board = _compose(tmp_path, tall, _panel(span=12), _panel(span=6), _panel(span=6), _panel())
    assert [tuple(panel["gridPos"].values()) for panel in board["panels"]] == [
        (0, 0, 12, 8),
        (12, 0, 12, 4),
        (12, 4, 6, 4),
        (18, 4, 6, 4),
        (0, 8, 6, 4),
    ]
    assert [panel["id"] for panel in board["panels"]] == [1, 2, 3, 4, 5]


def test_panels_of_a_folded_section_are_inside_it(tmp_path: Path) -> None:
    """A folded header holds its panels; Grafana would show them unfolded otherwise."""
    (header,) = _compose(tmp_path, _panel(), title="More", collapsed="true")["panels"]
    assert (header["type"], header["collapsed"]) == ("row", True)
    assert [panel["title"] for panel in header["panels"]] == ["A"]


def test_a_link_passes_on_the_time_a_name_and_what_else_is_chosen(tmp_path: Path) -> None:
    """A name is encoded whatever it contains, and the other variables stay as they are."""
    link = "{title: x, board: b, vars: ['user=${__value.raw}'], keep: [team]}"
    panel = _compose(tmp_path, _panel(more=f"links: [{link}]"))["panels"][0]
    assert panel["fieldConfig"]["defaults"]["links"] == [
        {
            "title": "x",
            "url": "/d/b?${__url_time_range}&var-user=${__value.raw:percentencode}"
            "&${team:queryparam}",
        }
    ]


def test_several_queries_have_names_of_their_own(tmp_path: Path) -> None:
    """refIds count up, and a table's columns go by them."""
    more = _panel() + "                  - prom: {expr: 'up'}\n"
    targets = _compose(tmp_path, more)["panels"][0]["targets"]
    assert [target["refId"] for target in targets] == ["A", "B"]


def test_braces_survive_whatever_the_builder_does() -> None:
    """Text comes out of hiding as it went in, placeholders aside."""
    text = '{{model}} ${user:sqlstring} {le="0.5", x=~"a{2}"} [$__rate_interval]'
    assert finish(hide_braces(text), "x") == text
    assert hide_braces("a @{b} {c}").count("{b}") == 1


def test_metrics_are_found_wherever_they_stand() -> None:
    """Also in arguments, both sides, subqueries and ranges."""
    expr = 'topk(5, a / on (x) b) or max_over_time((c{y=~"$z"} < 1)[1h:5m]) + rate(d[$__range])'
    assert metrics_of(expr) == ["a", "b", "c", "d"]


_SIZES = st.tuples(st.integers(1, 24), st.integers(1, 12))


@given(st.lists(st.tuples(st.booleans(), st.lists(_SIZES, min_size=1)), min_size=1))
def test_no_panels_overlap_whatever_their_sizes(sections: list[Any]) -> None:
    """Panels of any sizes stand apart, on the grid, below their section's header."""
    written = [
        {
            "title": f"S{number}",
            "collapsed": folded,
            "panels": [{"title": "A", "place": {"w": w, "h": h}} for w, h in sizes],
        }
        for number, (folded, sizes) in enumerate(sections)
    ]
    placed = _place(written, "x", {})
    for panels in (placed, *(header["panels"] for header in placed if header.get("panels"))):
        cells = [
            (x, y)
            for place in (panel["gridPos"] for panel in panels)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        ]
        assert len(cells) == len(set(cells))
        assert all(0 <= x < 24 for x, _ in cells)
    headers = [panel for panel in placed if "panels" in panel]
    assert [header["title"] for header in headers] == [f"S{i}" for i in range(len(sections))]


@given(st.text(st.characters(blacklist_categories=["Co", "Cs"])))
def test_any_text_comes_out_as_it_went_in(text: str) -> None:
    """Whatever braces a text has, only `@{name}` is a placeholder."""
    if "@{" not in text:
        assert finish(hide_braces(text), "x") == text
