"""Tables that fit: a narrow terminal gets fewer columns, never figures cut in two.

A figure or an id that is cut is worse than one that is not there, because it can be read for
another. So columns go, those that matter least first, until the rest has room. Names may be
shortened, with an ellipsis. Off a terminal there is room for everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

_GAP = 2
"""Cells between two columns."""
_NAME_CELLS_MIN = 8
"""A name is not shortened below this."""


class Column(NamedTuple):
    """One column of a table."""

    head: str
    rank: int = 0
    """0 stays whatever happens; of the others, the highest goes first."""
    name: bool = False
    """Holds names, which may be shortened; other cells are kept whole."""


def draw(
    console: Console,
    columns: Sequence[Column],
    rows: Iterable[Sequence[str]],
    footer: Sequence[str] | None = None,
) -> None:
    """Print a table, with as many of its columns as there is room for."""
    lines = [tuple(row) for row in rows]
    every = [tuple(column.head for column in columns), *lines, *([tuple(footer)] if footer else ())]
    widths = [max(cell_len(line[place]) for line in every) for place in range(len(columns))]
    kept = fitting(columns, widths, console.width)
    spare = console.width - sum(widths[place] for place in kept) - _GAP * (len(kept) - 1)
    while spare < 0:
        # The longest name gives way; Rich itself would take from figures, too.
        names = [place for place in kept if columns[place].name and widths[place] > 1]
        if not names:
            break
        widths[max(names, key=lambda place: widths[place])] -= 1
        spare += 1
    table = Table(box=None, pad_edge=False, header_style="bold", show_footer=footer is not None)
    for place in kept:
        column = columns[place]
        table.add_column(
            column.head,
            footer=footer[place] if footer else "",
            justify="left" if column.name or column.rank == 0 else "right",
            no_wrap=True,
            overflow="ellipsis",
            width=widths[place],
        )
    for line in lines:
        table.add_row(*(line[place] for place in kept))
    console.print(table)


def fitting(columns: Sequence[Column], widths: Sequence[int], room: int) -> list[int]:
    """Give the places of the columns to keep, so that they fit into `room` cells if they can."""
    kept = list(range(len(columns)))

    def needed() -> int:
        least = (
            min(widths[place], _NAME_CELLS_MIN) if columns[place].name else widths[place]
            for place in kept
        )
        return sum(least) + _GAP * (len(kept) - 1)

    for place in sorted(kept, key=lambda place: -columns[place].rank):
        if needed() <= room or columns[place].rank == 0:
            break
        kept.remove(place)
    return kept
