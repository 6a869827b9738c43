"""All boards from all sources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from grafana_dashboards.components.base import ComponentRegistry
from grafana_dashboards.errors import DashboardBuilderException
from grafana_dashboards.exporter import ProjectProcessor

# The builder finds component types among the classes that exist. They are held here, by an
# ordinary import: its own way to load plug-ins lets go of them.
from dashboards.kit import _board, _chrome, _panels, _panels_more, _targets
from dashboards.kit._export import Collector, render
from dashboards.kit._source import SourceError, read_components, show_braces

__all__ = ["BOARDS", "GENERATED", "compose", "render"]

BOARDS = Path(__file__).resolve().parent.parent / "boards"
GENERATED = BOARDS.parent / "generated"

_KINDS = (_board, _chrome, _panels, _panels_more, _targets)


def compose(folder: Path = BOARDS) -> dict[str, dict[str, Any]]:
    """Compose the boards of a folder of sources; give their JSON by file name.

    Raises:
        SourceError: if a source is wrong.
    """
    registry = ComponentRegistry()
    for component in read_components(sorted(folder.glob("*.yaml"))):
        registry.add(component)
        (kind,) = (key for key in component if key != "name")
        if kind not in registry_types(registry):
            raise SourceError(f"{component['name']}: there is no component of type {kind!r}")
    collector = Collector()
    try:
        ProjectProcessor([collector]).process_projects(registry[_board.BoardProject])
    except DashboardBuilderException as error:
        raise SourceError(show_braces(str(error))) from error
    return collector.boards


def registry_types(registry: Any) -> set[str]:
    """Give the component types there are; the builder leaves unknown ones out without a word."""
    return set(registry._types)
