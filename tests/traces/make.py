"""Makes booked calls as the recorder would, with times as the relay notes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from taximeter.call import Attempt, Outcome, Stage, Usage, UsageSource
from taximeter.ledger import Committed, Entry
from taximeter.settings import Settings
from taximeter.traces import Tracer
from tests.recorder.make import closed, opened

US = 1_000
MS = 1_000_000
S = 1_000_000_000
NOTHING = Committed(frozenset(), frozenset(), {})
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
DATA_DIR = Path("/dev/null/nowhere")
"""Where the tracers of a test have their spools: its fixture `data_dir` says so."""


def attempt(number: int = 1, begin_ns: int = 301 * US, **more: Any) -> Attempt:
    """Make an attempt whose answer streamed for a second."""
    values = {
        "number": number,
        "upstream": "openai",
        "started_ns": begin_ns,
        "connected_ns": begin_ns + 2 * MS,
        "sent_ns": begin_ns + 3 * MS,
        "first_byte_ns": begin_ns + 102 * MS,
        "ended_ns": begin_ns + 1_122 * MS + 40 * US,
        "status": 200,
    }
    return Attempt(**{**values, **more})


def streamed(number: int = 1, *, begun: dict[str, Any] | None = None, **more: Any) -> Entry:
    """Make a call that streamed to its end; `more` are fields of `Closed` or of `Entry`."""
    ended = {
        "stages": {
            Stage.RECEIVE: 300 * US,
            Stage.QUEUE: 0,
            Stage.CONNECT: 2 * MS,
            Stage.FIRST_BYTE: 100 * MS,
            Stage.FIRST_TOKEN: 20 * MS,
            Stage.STREAM: S,
            Stage.SETTLE: 90 * US,
        },
        "attempts": [attempt()],
        "response_id": "chatcmpl-1",
        "response_model": "fake-1-2026",
        "finish_reason": "stop",
        "events": 99,
        "request_bytes": 400,
        "response_bytes": 4000,
    }
    booked: dict[str, Any] = {
        "usage": Usage(input_tokens=10, output_tokens=20, cached_tokens=4, reasoning_tokens=0),
        "usage_source": UsageSource.REPORTED,
        "cost_pico": 50_000_001,
        "price": "own: fake-1",
    }
    for name in list(more):
        if name in Entry.__struct_fields__:
            booked[name] = more.pop(name)
    values = {"provider": "openai", "stream": True, **(begun or {})}
    record = closed(number, begun=opened(number, **values), **{**ended, **more})
    return Entry(closed=record, **booked)


def rejected(number: int = 1, **more: Any) -> Entry:
    """Make a call that was refused by us."""
    more = {"outcome": Outcome.REJECTED, "status": 404, "error": "unknown_upstream", **more}
    stages = {Stage.SETTLE: 50 * US}
    return streamed(
        number, stages=stages, attempts=[], usage=None, cost_pico=0, price="not sent", **more
    )


def settings(url: str | None, **otlp: Any) -> Settings:
    """Make a configuration that sends traces to `url`."""
    upstreams = {"openai": {"url": "http://127.0.0.1:8765/v1", "dialect": "openai"}}
    return Settings.model_validate(
        {"data_dir": DATA_DIR, "upstreams": upstreams, "otlp": {"endpoint": url, **otlp}}
    )


def tracer(url: str | None, **otlp: Any) -> Tracer:
    """Make a tracer that sends to `url`, and has begun."""
    sink = Tracer(settings(url, **otlp))
    sink.restore({})
    return sink


def tell(sink: Tracer, entries: Sequence[Entry]) -> None:
    """Tell a tracer of a commit as the recorder does."""
    sink.note(entries, NOTHING)
    sink.booked(entries, NOTHING)
