"""What goes into admission and what comes out of it.

A `Request` is weighed once and gets a verdict: `Go` now, `Wait`, or `Refuse`. What happens to
those that wait comes out later as effects, from whichever method made it happen: a list of `Go`
and `Refuse`, each with its ticket, in the order in which they are to be carried out.

Times are integer nanoseconds: `now_ns` of a monotonic clock, `wall_ns` since the epoch. Money is
integer pico-dollars. Nothing here holds a prompt, an answer or a credential.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from taximeter.call import Word

if TYPE_CHECKING:
    from taximeter.admission._store import Held
    from taximeter.admission._ticket import Ticket

SECOND_NS = 1_000_000_000


class Reason(Word):
    """Why a call was refused: the code in the error, and a safe label."""

    INPUT_TOO_LONG = "input_tokens_exceeded"
    OUTPUT_TOO_LONG = "output_tokens_exceeded"
    BUDGET_EXCEEDED = "budget_exceeded"
    PRICE_UNKNOWN = "price_unknown"
    """A hard budget of money stands over a call that nobody can price."""
    NEVER_FITS = "limit_too_small"
    """One call alone is more than the limit lets through."""
    LIMIT_EXCEEDED = "limit_exceeded"
    """A limit of the caller's own would hold it up for longer than it can wait."""
    QUEUE_FULL = "queue_full"
    """It had waited the longest among the calls of whoever waits with the most."""
    DEADLINE_UNREACHABLE = "queue_deadline_unreachable"
    """It would have waited in vain, and was told at once."""
    WAITED_IN_VAIN = "queue_timeout"
    BREAKER_OPEN = "breaker_open"
    OVERLOADED = "overloaded"
    """This process is short of memory, descriptors or time."""


STATUS: dict[Reason, int] = {
    Reason.INPUT_TOO_LONG: 400,
    Reason.OUTPUT_TOO_LONG: 400,
    Reason.BUDGET_EXCEEDED: 402,
    Reason.PRICE_UNKNOWN: 402,
    Reason.NEVER_FITS: 429,
    Reason.LIMIT_EXCEEDED: 429,
    Reason.QUEUE_FULL: 503,
    Reason.DEADLINE_UNREACHABLE: 503,
    Reason.WAITED_IN_VAIN: 503,
    Reason.BREAKER_OPEN: 503,
    Reason.OVERLOADED: 503,
}
"""The HTTP status of each refusal."""

RETRIABLE = frozenset(reason for reason, status in STATUS.items() if status in (429, 503)) - {
    Reason.NEVER_FITS
}
"""Refusals after which a later try may do better. The others carry `x-should-retry: false`."""


@dataclass(slots=True, kw_only=True)
class Request:
    """What admission must know of a call."""

    upstream: str
    model: str = ""
    user: str = ""
    team: str = ""
    key: str = ""
    """Name of the key that has a budget of its own; never the key."""
    tier: str = ""
    """The tier that the caller's key lays down; empty where that is left to the user."""
    is_claimed: bool = False
    """The user is what the client says of itself, beside a key that names none: it is whom to
    book and whose turn it is, and brings no tier and no terms."""
    credential: str = ""
    """Which credential goes upstream: its keyed hash, empty where all calls share one. Upstreams
    count limits by it, so what one credential is told is not held against another."""
    input_tokens: int
    """Estimate of the input."""
    output_tokens_max: int | None = None
    """Most output the call asks for; None when it leaves that open."""
    input_pico: int | None = None
    """Price of an input token at its dearest, in pico-dollars; None when it has no price."""
    output_pico: int | None = None
    wait_ns_max: int | None = None
    """How long the client will wait, where it told; the queue's own bound stands beside it."""
    moving: Held | None = None
    """Of a call that goes from one upstream to another: what it holds already. That is not in its
    own way, and it does not wait. None for a call that has just come."""


@dataclass(slots=True, kw_only=True)
class Spent:
    """What a call came to. None is unknown, and what was reserved is then kept as spent."""

    tokens: int | None = None
    """Input and output together."""
    output_tokens: int | None = None
    pico: int | None = None
    sent: bool = True
    """Whether anything went upstream. If not, nothing was spent, and all is given back."""


@dataclass(slots=True)
class Go:
    """Let this call go upstream now."""

    ticket: Ticket
    waited_ns: int = 0
    output_tokens_max: int | None = None
    """Set where the request's own figure must be replaced (or added) before it is sent."""
    over_budget: tuple[str, ...] = ()
    """Soft budgets that the call may pass."""
    unpriced: bool = False
    """A budget of money stands over the call, and its price is not known."""


@dataclass(slots=True)
class Wait:
    """Keep this call; a later effect names its ticket."""

    ticket: Ticket
    wait_ns: int | None
    """Estimate of the wait; None when there is nothing to go by yet."""
    deadline_ns: int
    """Monotonic time at which it is given up."""
    pushed_out: Refuse | None = None
    """Another call that had to make room: refuse it."""


@dataclass(slots=True)
class Refuse:
    """Answer this call with an error of ours."""

    reason: Reason
    ticket: Ticket | None = None
    """None when the call never had to wait."""
    retry_after_ns: int | None = None
    by: str = ""
    """Name of the limit or budget, where one stands behind it."""
    waited_ns: int = 0

    @property
    def status(self) -> int:
        """HTTP status."""
        return STATUS[self.reason]

    @property
    def should_retry(self) -> bool:
        """Whether a later try may do better."""
        return self.reason in RETRIABLE


Verdict = Go | Wait | Refuse
Effect = Go | Refuse


@dataclass(frozen=True, slots=True)
class Place:
    """Where a waiting call stands."""

    position: int
    """1 for the one that goes next, as the queue stands now."""
    wait_ns: int | None
    deadline_ns: int


@dataclass(slots=True)
class Counters:
    """What admission has done since it was made. Counts of a closed set of words."""

    admitted: int = 0
    queued: int = 0
    settled: int = 0
    left: int = 0
    refused: dict[Reason, int] = field(default_factory=lambda: dict.fromkeys(Reason, 0))
    retried: int = 0
    retry_refused: int = 0
    held: int = 0
    """Times an upstream's 429 closed a door for a while."""
    overflowed: int = 0
    """Names that came when the table of their kind was full, and share one entry."""
