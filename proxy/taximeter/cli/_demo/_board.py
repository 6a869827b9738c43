"""What the demo shows: the ledger by user, and the calls that came in last."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from taximeter.cli import _words
from taximeter.cli._calls import row_of
from taximeter.ledger import CallFilter, Ledger, LedgerSchemaError, LedgerUnavailable

LAST_CALLS = 10
_STYLES = {"completed": "green", "cancelled": "yellow", "abandoned": "yellow"}


class Board:
    """Draws a ledger as it is now. Reads the database: keep it off the event loop."""

    def __init__(self, ledger: Ledger, port: int) -> None:
        self._ledger = ledger
        self._port = port

    def draw(self) -> RenderableType:
        """Read the ledger and draw it."""
        title = Text.assemble(
            ("taximeter demo", "bold"),
            f"  proxy at http://127.0.0.1:{self._port}, simulated users and API. Ctrl-C ends it.\n",
        )
        try:
            rows = self._ledger.report(["user"])
            last = list(self._ledger.calls(CallFilter(limit=LAST_CALLS)))
        except (LedgerSchemaError, LedgerUnavailable):
            return Group(title, Text("waiting for the ledger's first rows ..."))
        users = Table(box=None, pad_edge=False, header_style="bold", show_footer=True)
        users.add_column("user", footer="all")
        heads = {
            "calls": _words.number(sum(row.calls for row in rows)),
            "errors": _words.number(sum(row.errors for row in rows)),
            "in": _words.number(sum(row.input_tokens for row in rows)),
            "out": _words.number(sum(row.output_tokens for row in rows)),
            "cost": _words.money(sum(row.cost_pico for row in rows)),
            "first token": "",
        }
        for head, foot in heads.items():
            users.add_column(head, footer=foot, justify="right")
        for row in rows:
            users.add_row(
                _words.plain(row.key["user"]),
                _words.number(row.calls),
                _words.number(row.errors),
                _words.number(row.input_tokens),
                _words.number(row.output_tokens),
                _words.money(row.cost_pico),
                _words.seconds(row.first_token_seconds_mean),
            )
        calls = Table(box=None, pad_edge=False, header_style="bold")
        for head in ("time (UTC)", "user", "model", "outcome"):
            calls.add_column(head, no_wrap=True)
        for head in ("in", "out", "cost", "first token", "total"):
            calls.add_column(head, justify="right", no_wrap=True)
        for view in last:
            started, *cells = row_of(view)[:-1]
            cells[2:3] = []
            outcome = Text(row_of(view)[3], style=_STYLES.get(view.outcome, "red"))
            calls.add_row(started[11:], cells[0], cells[1], outcome, *cells[2:])
        return Group(title, users, Text(), calls)
