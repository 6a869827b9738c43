"""A scenario: who calls how often, and what serves them. Plain data; times in seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from taximeter.admission._model import Policy


@dataclass(frozen=True, slots=True)
class Load:
    """Calls of one user, arriving at random (Poisson) or evenly."""

    user: str
    calls_per_second: float
    input_tokens: int = 500
    output_tokens: int = 300
    """Mean of the output. It scatters by `output_spread` about that, never below 1."""
    output_spread: float = 0.5
    output_tokens_max: int | None = 1000
    """What the calls name as their most; the output is cut there."""
    patience_seconds: float | None = None
    """How long the client waits in our queue; None: as long as the queue lets it."""
    from_second: float = 0.0
    until_second: float = float("inf")
    evenly: bool = False
    model: str = "model"
    team: str = ""
    credential: str = ""


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which the server fails a share of its calls."""

    from_second: float
    until_second: float
    status: int | None = 503
    """None: the connection is refused."""
    share: float = 1.0
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Server:
    """A model server with so many places, each of which makes tokens at its own pace."""

    capacity: int = 16
    first_byte_seconds: float = 0.3
    first_byte_spread: float = 0.3
    """Of the log-normal scatter of the first byte's time."""
    tokens_per_second: float = 100.0
    """Of each place."""
    full: Literal["queue", "refuse"] = "queue"
    """What becomes of calls beyond the places: they wait in the server, or get 429."""
    requests_per_minute: int | None = None
    """A limit of the server's own, told in its headers; beyond it, 429 with `Retry-After`."""
    outages: tuple[Outage, ...] = ()
    capacity_later: int | None = None
    """Places from `capacity_changes_at` on."""
    capacity_changes_at: float = float("inf")


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run. What has not ended when it does is not reported as ended."""

    loads: tuple[Load, ...]
    policy: Policy = field(default_factory=Policy)
    server: Server = field(default_factory=Server)
    seconds: float = 60.0
    settle_seconds: float = 0.0
    """Time at the beginning of which users' reports leave out what happened."""
    seed: int = 1
    upstream: str = "sim"
    input_pico: int | None = 1_000_000
    output_pico: int | None = 4_000_000
    calls_max: int = 1_000_000
    """Calls after which no more arrive: the bound of a run."""
