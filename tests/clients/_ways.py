"""The two ways from a client to the upstream: direct, and through Taximeter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.rig import Exchange
from tests.rig.taximeter import Taximeter
from tests.rig.upstream import Upstream


@dataclass(slots=True)
class Way:
    """A base URL to give a client, and what is known behind it."""

    base: str
    """Without a path, without a slash at the end."""
    upstream: Upstream
    meter: Taximeter | None = None
    """None on the direct way."""
    began_ns: int = 0
    """When the test began: earlier calls in the ledger are other tests'."""

    @property
    def exchanges(self) -> list[Exchange]:
        """What the upstream has seen since the test began."""
        return self.upstream.log

    def booked(self) -> list[dict[str, Any]]:
        """Give the ledger's rows of this test: one for each call the upstream saw, in order.

        On the direct way there is no ledger and nothing to check: no rows.
        """
        if self.meter is None:
            return []
        return self.meter.booked(len(self.exchanges), since_ns=self.began_ns)

    def check_books(self, **facts: Any) -> None:
        """Check the ledger's row of every call against what the upstream stated.

        `facts` are further columns that every row must have.
        """
        for exchange, row in zip(self.exchanges, self.booked(), strict=self.meter is not None):
            figures = exchange.figures
            assert figures is not None
            seen = {name: row[name] for name in facts}
            assert seen == facts
            assert row["outcome"] == ("completed" if row["status"] < 400 else "upstream_error")
            if not exchange.billed:
                continue
            assert row["usage_source"] == "reported"
            assert row["input_tokens"] == figures.input
            if row["operation"] != "embeddings":
                assert row["output_tokens"] == figures.output
            for column, value in (
                ("cached_tokens", figures.cached),
                ("cache_write_tokens", figures.cache_write),
                ("reasoning_tokens", figures.reasoning),
            ):
                # Not every API states every part; what is stated is booked.
                assert row[column] in (None, value), column
            if row["response_id"] is not None:
                assert exchange.id in row["response_id"]
