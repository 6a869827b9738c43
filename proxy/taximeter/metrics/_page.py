"""The reference part of docs/metrics.md, written from the table itself."""

from __future__ import annotations

from itertools import groupby

from taximeter.metrics._families import FAMILIES
from taximeter.metrics._family import Family, Source
from taximeter.settings import Metrics

_BEGIN = "<!-- What follows is made by `make docs` from the metrics themselves. Do not edit. -->"

_HEADS = {
    Source.LEDGER: "From the ledger's sums",
    Source.CALLS: "From booked calls",
    Source.RECORDER: "From the recorder",
    Source.RELAY: "From the relays",
    Source.SUPERVISOR: "From the supervisor",
}


def with_families(page: str) -> str:
    """Give the page with its reference part made anew; what stands before it stays."""
    said = page.partition(_BEGIN)[0]
    in_order = sorted(FAMILIES, key=lambda family: list(Source).index(family.source))
    sections = [
        _section(source, list(of_source))
        for source, of_source in groupby(in_order, key=lambda family: family.source)
    ]
    edges = [_edges(family) for family in FAMILIES if family.edges]
    buckets = "\n".join(
        ["## Buckets", "", "| histogram | upper edges |", "| --- | --- |", *edges, ""]
    )
    return "\n".join([f"{said}{_BEGIN}\n", *sections, buckets, _bound()])


def _bound() -> str:
    """Say what the bound on sets of labels comes to."""
    kept = [family for family in FAMILIES if family.source in (Source.LEDGER, Source.CALLS)]
    # A histogram has its edges, the one that is infinite, a sum and a count.
    lines = sum(len(family.edges) + 3 if family.edges else 1 for family in kept)
    field = Metrics.model_fields["label_sets_max"]
    most = lines * (2 * field.default + 1)
    return "\n".join(
        [
            "## The most there can be",
            "",
            f"One set of labels in each metric of booked calls is {lines} lines. So whatever "
            f"comes, they take at most {lines} * (2 * `label_sets_max` + 1) lines: {most:,} by "
            "default, if every place of every label is taken. Four thousand streams of a hundred "
            "users and ten models were 2,366 lines.",
            "",
        ]
    )


def _section(source: Source, families: list[Family]) -> str:
    lines = [f"## {_HEADS[source]}", "", "| metric | kind | labels | meaning |"]
    lines.append("| --- | --- | --- | --- |")
    for family in families:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        lines.append(f"| `{family.exposed}` | {family.kind} | {labels} | {family.help} |")
    return "\n".join([*lines, ""])


def _edges(family: Family) -> str:
    edges = ", ".join(f"{edge / family.scale:.10g}" for edge in family.edges)
    return f"| `{family.exposed}` | {edges} |"
