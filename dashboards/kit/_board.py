"""A board, its sections, and the project that names them: the builder's model around ours."""

from __future__ import annotations

from typing import Any

from grafana_dashboards.components.annotations import Annotations
from grafana_dashboards.components.base import JsonGenerator
from grafana_dashboards.components.links import Links
from grafana_dashboards.components.panels import Panels
from grafana_dashboards.components.projects import Project
from grafana_dashboards.components.rows import Rows, RowsItemBase
from grafana_dashboards.components.templates import Templates

from dashboards.kit import _fields
from dashboards.kit._source import read_spec


class SectionSpec(_fields.Spec, kw_only=True):
    """Panels that answer one question."""

    title: str = ""
    """None for the panels on top, which have no header."""
    collapsed: bool = False
    panels: list[Any]


class Section(RowsItemBase):
    """A row of Grafana's with the panels below it."""

    def gen_json_from_data(self, data: Any, context: Any) -> dict[str, Any]:
        spec = read_spec(SectionSpec, data, "section")
        panels = self.registry.create_component(Panels, {"panels": spec.panels}).gen_json()
        return {"title": spec.title, "collapsed": spec.collapsed, "panels": panels}


class BoardSpec(_fields.Spec, kw_only=True):
    """A board."""

    uid: str
    title: str
    about: str
    """Whom it is for and what it answers; its description."""
    since: str = "now-6h"
    refresh: str = "30s"
    timezone: str = "browser"
    templates: list[Any]
    annotations: list[Any]
    links: list[Any]
    rows: list[Any]


class Board(JsonGenerator):
    """All of a board but where its panels stand, which is the exporter's."""

    def gen_json(self, context: Any) -> dict[str, Any]:
        """Give the board's JSON.

        Named parts are reached without the project's context, so what they have of its
        placeholders is expanded in the end.
        """
        board: dict[str, Any] = context.expand_placeholders(super().gen_json(context))
        return board

    def gen_json_from_data(self, data: Any, context: Any) -> dict[str, Any]:
        spec = read_spec(BoardSpec, data, "board")

        def make(kind: Any, name: str, items: list[Any]) -> list[Any]:
            made: list[Any] = self.registry.create_component(kind, {name: items}).gen_json()
            return made

        return {
            "uid": spec.uid,
            "title": spec.title,
            "description": " ".join(spec.about.split()),
            "since": spec.since,
            "refresh": spec.refresh,
            "timezone": spec.timezone,
            "templates": make(Templates, "templates", spec.templates),
            "annotations": make(Annotations, "annotations", spec.annotations),
            "links": make(Links, "links", spec.links),
            "sections": make(Rows, "rows", spec.rows),
        }


class BoardProject(Project):
    """Boards by name, and what their placeholders stand for."""

    def get_dashboards(self) -> list[Board]:
        """Give the project's boards, in its order."""
        return [self.registry.get_component(Board, name) for name in self.data["dashboards"]]
