"""How the table of families is written down: a line for each, in the order of the exposition."""

from __future__ import annotations

from taximeter.metrics._family import SECOND, Family, Kind, Source


class Table:
    """Families, in the order in which they were put down."""

    def __init__(self) -> None:
        self.families: list[Family] = []

    def family(
        self,
        kind: Kind,
        source: Source,
        name: str,
        help_text: str,
        *labels: str,
        edges: tuple[int, ...] = (),
        scale: int = 1,
    ) -> Family:
        """Put a family down; see `Family`."""
        family = Family(name, kind, source, help_text, labels, edges, scale)
        self.families.append(family)
        return family

    def counter(
        self, source: Source, name: str, help_text: str, *labels: str, scale: int = 1
    ) -> Family:
        """Put a counter down, without `_total`."""
        return self.family(Kind.COUNTER, source, name, help_text, *labels, scale=scale)

    def gauge(
        self, source: Source, name: str, help_text: str, *labels: str, scale: int = 1
    ) -> Family:
        """Put a gauge down."""
        return self.family(Kind.GAUGE, source, name, help_text, *labels, scale=scale)

    def seconds(
        self, source: Source, name: str, help_text: str, edges: tuple[int, ...], *labels: str
    ) -> Family:
        """Put a histogram of times down, counted in nanoseconds."""
        return self.family(
            Kind.HISTOGRAM, source, name, help_text, *labels, edges=edges, scale=SECOND
        )


def nanoseconds(*seconds: float) -> tuple[int, ...]:
    """Give edges that are written in seconds."""
    return tuple(round(each * SECOND) for each in seconds)
