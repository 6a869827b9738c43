"""The words every room speaks: call, attempt, stage, outcome, usage.

A *call* is one accepted client request. It makes zero or more *attempts* upstream, passes
through *stages* in a fixed order, and ends in exactly one *outcome*. The legal ways through
are the literal table `TRANSITIONS` below; the relay obeys it and the tests walk it.

Two records of a call are written to the journal (`taximeter.journal`): `Opened`, before its
first byte goes upstream, and `Closed`, before its last byte goes to the client. `Closed`
carries its `Opened` whole, so either of them alone can be booked. A third, `Counted`, follows
a `Closed` whose tokens had to be counted off the relay's path. How they are written stands in
`taximeter.records`.

This module does no I/O and imports nothing of ours. Every structure here holds facts and
numbers only: no prompt, no answer, no credential has a field to stand in.
"""

from __future__ import annotations

import random
import time
from enum import StrEnum

import msgspec

__all__ = [
    "FIGURE_MAX",
    "PICO_PER_USD",
    "TRANSITIONS",
    "Attempt",
    "CallIds",
    "Closed",
    "Counted",
    "Fact",
    "Gaps",
    "Opened",
    "Outcome",
    "Phase",
    "Stage",
    "Usage",
    "UsageSource",
    "Word",
    "believed",
    "is_legal",
    "usd_text",
]

PICO_PER_USD = 1_000_000_000_000
"""Money is an integer of pico-dollars (1e-12 USD): exact for every rate in use, see docs."""


def usd_text(pico: int) -> str:
    """Give pico-dollars as dollars in plain digits: no exponent, no trailing zeros."""
    whole, rest = divmod(abs(pico), PICO_PER_USD)
    digits = f"{rest:012d}".rstrip("0")
    return f"{'-' if pico < 0 else ''}{whole}{'.' if digits else ''}{digits}"


class Word(StrEnum):
    """A word of a closed set.

    Hashed as the string it is: Enum's own hash is a Python function, and these are keys of
    dictionaries on the path of every call.
    """

    __hash__ = str.__hash__


class Outcome(Word):
    """How a call ended. Exactly one for every accepted call."""

    COMPLETED = "completed"
    UPSTREAM_ERROR = "upstream_error"
    """An error answer of the upstream was passed on whole, or the upstream could not be reached."""
    TRUNCATED = "truncated"
    """The upstream broke off after the first byte had been passed on."""
    CANCELLED = "cancelled"
    """The client left after the first byte had been passed on."""
    ABANDONED = "abandoned"
    """The client left before the first byte."""
    REJECTED = "rejected"
    """Refused by us: bad input, unknown upstream; later budgets, limits and queues."""
    INTERRUPTED = "interrupted"
    """We died, or were drained, while the call was under way."""


class Stage(Word):
    """Where the time of a call went, in the order in which it goes by."""

    RECEIVE = "receive"
    QUEUE = "queue"
    CONNECT = "connect"
    FIRST_BYTE = "first_byte"
    FIRST_TOKEN = "first_token"
    STREAM = "stream"
    SETTLE = "settle"


class Phase(Word):
    """Where a call under way stands. `ended` is the only phase nothing leads out of."""

    RECEIVING = "receiving"
    ADMITTING = "admitting"
    ATTEMPTING = "attempting"
    RELAYING = "relaying"
    ENDED = "ended"


TRANSITIONS: dict[Phase, dict[Phase, frozenset[Outcome]]] = {
    Phase.RECEIVING: {
        Phase.ADMITTING: frozenset(),
        Phase.ENDED: frozenset({Outcome.ABANDONED, Outcome.REJECTED, Outcome.INTERRUPTED}),
    },
    Phase.ADMITTING: {
        Phase.ATTEMPTING: frozenset(),
        Phase.RELAYING: frozenset(),  # an answer that was given before, given again
        Phase.ENDED: frozenset({Outcome.ABANDONED, Outcome.REJECTED, Outcome.INTERRUPTED}),
    },
    Phase.ATTEMPTING: {
        Phase.ATTEMPTING: frozenset(),  # another attempt
        Phase.RELAYING: frozenset(),
        Phase.ENDED: frozenset({Outcome.ABANDONED, Outcome.UPSTREAM_ERROR, Outcome.INTERRUPTED}),
    },
    Phase.RELAYING: {
        Phase.ENDED: frozenset(
            {
                Outcome.COMPLETED,
                Outcome.UPSTREAM_ERROR,
                Outcome.TRUNCATED,
                Outcome.CANCELLED,
                Outcome.INTERRUPTED,
            }
        ),
    },
    Phase.ENDED: {},
}
"""From each phase: the phases that may follow, and for `ended` the outcomes it may end in."""


def is_legal(before: Phase, after: Phase, outcome: Outcome | None = None) -> bool:
    """Tell whether a call may go from `before` to `after` (ending in `outcome`, if it ends)."""
    allowed = TRANSITIONS[before].get(after)
    if allowed is None:
        return False
    return outcome in allowed if after is Phase.ENDED else outcome is None


class UsageSource(Word):
    """Where a call's token figures come from."""

    REPORTED = "reported"
    """Stated by the upstream for the whole answer."""
    PARTIAL = "partial"
    """Stated by the upstream so far; then the stream broke off."""
    ESTIMATED = "estimated"
    """Counted by us, by tiktoken or by a stated rule."""
    ABSENT = "absent"
    """Nobody knows."""


class Usage(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What one generation used. None is unknown; zero is a value and is never replaced.

    Totals contain their parts: `input_tokens` all input with cached and cache-write tokens,
    `output_tokens` all output with reasoning. Every other figure is a subset of one of them,
    or a measure of its own where a price is not by the token.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_5m_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    reasoning_tokens: int | None = None
    input_audio_tokens: int | None = None
    input_image_tokens: int | None = None
    input_video_tokens: int | None = None
    cached_audio_tokens: int | None = None
    output_audio_tokens: int | None = None
    output_image_tokens: int | None = None
    output_video_tokens: int | None = None
    audio_milliseconds: int | None = None
    """Length of audio transcribed, where that is what is priced."""
    input_characters: int | None = None
    """Characters spoken, where that is what is priced (speech)."""
    images: int | None = None
    web_searches: int | None = None
    cost_pico: int | None = None
    """Cost the provider itself stated for this generation, in pico-dollars. It wins."""


FIGURE_MAX = 1 << 40
"""Largest count that is believed: a trillion tokens in one call is no figure but a fault. The bound
keeps the ledger's sums within 63 bits, whatever upstreams say."""

_COUNTS = tuple(name for name in Usage.__struct_fields__ if name != "cost_pico")


def believed(usage: Usage) -> Usage:
    """Give a usage without the counts that can be none: below 0, or beyond `FIGURE_MAX`.

    The total that such a count belongs to is not believed either, or a cost would be made of what
    is left: that of the output for a part of the output, else that of the input.
    """
    odd = [
        name
        for name in _COUNTS
        if (count := getattr(usage, name)) is not None and not 0 <= count <= FIGURE_MAX
    ]
    if not odd:
        return usage
    unknown: dict[str, None] = {}
    for name in odd:
        of_output = name.startswith(("output_", "reasoning_"))
        unknown[name] = unknown["output_tokens" if of_output else "input_tokens"] = None
    return msgspec.structs.replace(usage, **unknown)


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One try upstream. Times are nanoseconds after the call's start; None is 'not reached'."""

    number: int
    """1 for the first."""
    upstream: str
    started_ns: int
    connected_ns: int | None = None
    sent_ns: int | None = None
    first_byte_ns: int | None = None
    ended_ns: int | None = None
    reused: bool = False
    """The connection came from the pool."""
    status: int | None = None
    error: str | None = None
    """A word of the closed set in `taximeter.relay` errors; None when an answer was had."""


class Gaps(msgspec.Struct, omit_defaults=True):
    """Gaps between the arrivals of tokens after the first, in nanoseconds.

    `buckets` counts gaps up to each edge of `Gaps.EDGES_NS`, and in its last place those
    above all edges (not cumulative).
    """

    count: int = 0
    sum_ns: int = 0
    max_ns: int = 0
    buckets: list[int] = []

    EDGES_NS = tuple(
        milliseconds * 1_000_000
        for milliseconds in (5, 10, 25, 50, 75, 100, 150, 200, 300, 500, 1000, 2500)
    )
    """OpenTelemetry's edges of time per output token, with 5 ms in front."""


class Fact(Word):
    """Things noted about a call beside its figures: a closed set, safe as labels."""

    USAGE_ASKED = "usage_asked"
    """`stream_options.include_usage` was set on the client's behalf."""
    USAGE_REFUSED = "usage_refused"
    """The upstream refused that option."""
    OVER_BUDGET = "over_budget"
    """A soft budget was used up, and the call went on."""
    OPENED_EARLY = "opened_early"
    """The client was given 200 while its call still waited. What came of it, `status` tells: an
    error stood in the stream."""
    OUTPUT_CLAMPED = "output_clamped"
    """The request's longest output was brought down to what its tier allows."""
    USAGE_CLAMPED = "usage_clamped"
    """The stated usage contradicted itself and was clamped, or had a count beyond belief, which was
    dropped."""
    COUNT_PENDING = "count_pending"
    """A `Counted` record follows."""
    COUNT_PARTIAL = "count_partial"
    """Not all of the text was kept for counting; the rest was taken in proportion."""
    DEFERRED = "deferred"
    """The answer was not finished (background run, batch): its usage is seen by a later fetch."""
    FETCHED = "fetched"
    """The call fetched an answer made by an earlier call; billed only if that was not."""
    FREE = "free"
    """The endpoint is one its provider does not charge for."""
    BATCH = "batch"
    """Batch prices apply."""
    FELL_BACK = "fell_back"
    """Answered by another upstream than the one it was for: see its attempts."""
    REPLAYED = "replayed"
    """The answer is that of an earlier call with the same `Idempotency-Key`, given once more: see
    `retry_of`. Nothing went upstream."""
    DRAINED = "drained"
    """The client left and the answer was read to its end on its behalf."""
    TAP_OVERFLOW = "tap_overflow"
    """The answer outgrew what the tap keeps; relayed untouched, usage looked for in its tail."""
    TAP_FAILED = "tap_failed"
    """The tap met a fault of its own; the bytes went on without it."""


class Opened(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag="o"):
    """What is known of a call before its first byte goes upstream."""

    call_id: str
    """UUIDv7, made once at acceptance."""
    started_at_ns: int
    """Wall clock at acceptance, nanoseconds since the epoch."""
    upstream: str | None = None
    meant_for: str | None = None
    """The upstream that it was for, where it went to another one."""
    dialect: str | None = None
    provider: str | None = None
    """genai-prices' provider id."""
    method: str = ""
    path: str = ""
    """Path below the upstream's base, without its query, at most 256 characters."""
    operation: str = "other"
    """A word of `taximeter.dialects`' closed set (`chat`, `embeddings`, ...)."""
    model: str | None = None
    """As asked for, at most 128 characters."""
    service_tier: str | None = None
    """As asked for."""
    stream: bool = False
    user: str | None = None
    team: str | None = None
    session: str | None = None
    tags: dict[str, str] = {}
    user_source: str | None = None
    """What named the user: `header`, `baggage`, `body`, `key`."""
    key_hash: str | None = None
    """Keyed hash of the credential, never the credential."""
    trace_id: str | None = None
    parent_span_id: str | None = None
    trace_flags: int = 0
    trace_state: str | None = None
    """The client's `tracestate` as it came, at most 512 characters."""
    client_request_id: str | None = None
    client_retry: int | None = None
    """The client's own count of retries (`x-stainless-retry-count`)."""
    retry_of: str | None = None
    """The earlier call that the client makes again with this one, where that is known."""


class Closed(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag="c"):
    """How a call ended: all that a ledger row, its metrics and its spans are made from."""

    opened: Opened
    outcome: Outcome
    status: int | None = None
    """HTTP status the client was given; None when it was given none."""
    stages: dict[Stage, int] = {}
    """Nanoseconds by stage; a stage never reached has no entry."""
    attempts: list[Attempt] = []
    response_id: str | None = None
    response_model: str | None = None
    service_tier: str | None = None
    """As answered; the one priced."""
    price_variant: dict[str, str] = {}
    """Further context of prices, such as {"speed": "fast"}; at most 4 entries."""
    finish_reason: str | None = None
    usage: Usage | None = None
    usage_source: UsageSource = UsageSource.ABSENT
    raw_usage: str | None = None
    """The upstream's usage object as JSON: numbers and short words only, <= 4,096 characters."""
    gaps: Gaps | None = None
    events: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    """Body bytes received from the client and from the upstream, as coded on the wire."""
    text_bytes_in: int | None = None
    text_bytes_out: int | None = None
    """Sizes for the stated rule of last resort, set only where tokens must be counted."""
    error: str | None = None
    """Code on failure: the upstream's own, shortened, or one of ours."""
    facts: list[Fact] = []


class Counted(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag="n"):
    """Tokens counted after a call had closed. At most one follows a `Closed`."""

    call_id: str
    input_tokens: int | None = None
    output_tokens: int | None = None
    rule: str = ""
    """How they were counted, such as `o200k_base` or `bytes/4`."""


class CallIds:
    """Makes UUIDv7 ids that never go backwards, also when the wall clock does.

    RFC 9562, section 6.2, method 3: the time counts on by one unit where the clock has not
    moved forward. One instance a process; not shared between threads.
    """

    def __init__(self) -> None:
        self._last = 0

    def make(self, now_ns: int | None = None) -> str:
        """Make an id for a call accepted at `now_ns` (wall clock, nanoseconds)."""
        # 48 bits of milliseconds, then 12 bits of the fraction of a millisecond.
        stamp = (time.time_ns() if now_ns is None else now_ns) * 4096 // 1_000_000
        if stamp <= self._last:
            stamp = self._last + 1
        self._last = stamp
        # Cut from two numbers as text, which is quicker than to format five. A one above the
        # stamp's 60 bits keeps its zeros in front: both have 16 digits, after "0x".
        time_hex = hex(0x1000_0000_0000_0000 | stamp)
        tail = hex(0x8000_0000_0000_0000 | random.getrandbits(62))
        # Version 7 stands above the low 12 bits of the stamp, variant 10 above the random tail.
        return f"{time_hex[3:11]}-{time_hex[11:15]}-7{time_hex[15:]}-{tail[2:6]}-{tail[6:]}"
