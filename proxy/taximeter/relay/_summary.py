"""What a call came to, told to its client (request header `x-taximeter-summary: 1`). Pure.

A plain answer carries it in header fields: so it is held, up to `HELD_BYTES_MAX`, until its
figures are known. A stream ends with it, in a comment behind its last event: one line of JSON whose
members are named as in `taximeter calls --format jsonl`. Where a comment could do harm (native
Gemini, lines of JSON, media), and in an answer that is too long to be held, nothing is told.

The figures are those of the close record, which is written before they are told, and the cost is
the one that the ledger will have. What is not known is not told as 0: tokens are left out (null),
and a cost is `unknown` (null), also where the recorder has yet to count the tokens.
"""

from __future__ import annotations

import msgspec

from taximeter.call import Closed, Fact, usd_text

ASKED = b"x-taximeter-summary"
HELD_BYTES_MAX = 1024 * 1024
"""Longest plain answer that is held for it."""

_FIELDS = {
    "input_tokens": "x-taximeter-input-tokens",
    "output_tokens": "x-taximeter-output-tokens",
    "cached_tokens": "x-taximeter-cached-tokens",
    "reasoning_tokens": "x-taximeter-reasoning-tokens",
}


_TOLD_LATER = frozenset({Fact.COUNT_PENDING, Fact.DEFERRED, Fact.FETCHED})
"""What leaves a call's cost to the recorder: to count its tokens, to see who bears it."""


def is_cost_known(record: Closed) -> bool:
    """Tell whether the ledger will book what the record's usage comes to, and nothing else."""
    return record.usage is not None and _TOLD_LATER.isdisjoint(record.facts)


def summary_fields(record: Closed, pico: int | None) -> bytes:
    """Give the lines of the header fields of a plain answer; `pico` is the cost, if known."""
    lines = [f"x-taximeter-usage-source: {record.usage_source}"]
    for name, tokens in _figures(record).items():
        if tokens is not None:
            lines.append(f"{_FIELDS[name]}: {tokens}")
    cost = "unknown" if pico is None else usd_text(pico)
    lines.append(f"x-taximeter-cost-usd: {cost}")
    return "".join(f"{line}\r\n" for line in lines).encode("ascii")


def summary_comment(record: Closed, pico: int | None) -> bytes:
    """Give the comment that ends a stream of events; `pico` is the cost, if known."""
    told = {
        "id": record.opened.call_id,
        "outcome": record.outcome,
        **_figures(record),
        "usage_source": record.usage_source,
        "cost_usd": None if pico is None else usd_text(pico),
    }
    return b": taximeter %b\n" % msgspec.json.encode(told)


def _figures(record: Closed) -> dict[str, int | None]:
    usage = record.usage
    return {name: None if usage is None else getattr(usage, name) for name in _FIELDS}
