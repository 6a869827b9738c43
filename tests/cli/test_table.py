"""Tables that fit."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from taximeter.cli._table import Column, draw, fitting

COLUMNS = (
    Column("id"),
    Column("user", name=True),
    Column("cost", rank=1),
    Column("total", rank=2),
)
ROWS = [("0123456789", "a-user-with-a-long-name", "$1.234567", "1.23 s")]


def drawn(width: int) -> list[str]:
    """Draw the table on a terminal of so many cells."""
    out = io.StringIO()
    draw(Console(file=out, width=width, markup=False), COLUMNS, ROWS)
    return out.getvalue().splitlines()


def test_with_room_everything_is_shown() -> None:
    """A wide terminal gets every column whole."""
    assert drawn(100)[1].split() == [*ROWS[0][:3], "1.23", "s"]


def test_a_narrow_terminal_gets_fewer_columns_and_no_cut_figure() -> None:
    """What matters least goes first; names are shortened; figures are there or not."""
    for width in range(20, 60):
        head, line = drawn(width)
        assert line.startswith(ROWS[0][0])
        assert ("cost" in head) == (ROWS[0][2] in line)
        assert ("total" in head) == (ROWS[0][3] in line)
        assert "cost" in head or "total" not in head
        assert max(len(head), len(line)) <= width
    assert "cost" not in drawn(24)[0]
    assert "cost" in drawn(32)[0]


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 40)), min_size=1, max_size=8
    ),
    st.integers(0, 200),
)
def test_columns_go_by_rank(shape: list[tuple[int, bool, int]], room: int) -> None:
    """No column goes while one that matters less stays, and those of rank 0 always stay."""
    columns = [Column("x", rank, name) for rank, name, _ in shape]
    kept = fitting(columns, [width for _, _, width in shape], room)
    gone = set(range(len(columns))) - set(kept)
    assert all(columns[place].rank > 0 for place in gone)
    if gone:
        least_gone = min(columns[place].rank for place in gone)
        assert all(columns[place].rank <= least_gone for place in kept)
