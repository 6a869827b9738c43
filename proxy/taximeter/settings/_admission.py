"""What may go to an upstream, and how: limits, the queue, retries, the breaker.

None is "no such limit". Zero is a limit: nothing passes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from taximeter.settings._kinds import MEBI, Bytes, Count, Seconds, Section, number

PATTERN_CHARACTERS_MAX = 128
_PATTERN = re.compile(r"[0-9A-Za-z._:/@+*?-]+")

Limit = Annotated[int, BeforeValidator(number), Field(ge=0, le=1_000_000_000_000)]
Ratio = Annotated[float, BeforeValidator(number), Field(ge=0, le=1, allow_inf_nan=False)]
ShareAboveZero = Annotated[float, BeforeValidator(number), Field(gt=0, le=1, allow_inf_nan=False)]


def _pattern(text: str) -> str:
    if len(text) > PATTERN_CHARACTERS_MAX or not _PATTERN.fullmatch(text):
        raise ValueError(
            "must be a model, or a pattern with * and ?, of letters, digits and . _ : / @ + -"
        )
    return text


class Rates(Section):
    """How much may pass. Each that is set must hold; 0 lets nothing through."""

    concurrency: Limit | None = Field(
        None, description="Calls under way at once, each until its last byte."
    )
    requests_per_minute: Limit | None = Field(None, description="Calls begun in a minute.")
    tokens_per_minute: Limit | None = Field(
        None,
        description=(
            "Tokens in a minute, input and output together: estimated when a call begins, put "
            "right when it has ended."
        ),
    )


BURST_SECONDS = 60
"""A whole minute's worth at once: how the limits of the APIs themselves are stated."""


class Limits(Rates):
    """How much may go to one upstream."""

    burst_seconds: Seconds = Field(
        BURST_SECONDS,
        le=3600,
        description="How many seconds' worth of a rate may be used at once, after a pause.",
    )
    heed_upstream: bool = Field(
        True,
        description=(
            "Hold calls back while the upstream's own answers (`Retry-After`, `x-ratelimit-*`) say "
            "that its limits are reached."
        ),
    )
    adaptive: bool = Field(
        True,
        description=(
            "Where no `concurrency` is set, find how many calls at once the upstream can take, "
            "from its latency and its refusals. Off, there may be any number."
        ),
    )
    adaptive_concurrency_first: Count = Field(
        20, description="Calls at once to begin with, before anything has been found out."
    )
    adaptive_concurrency_min: Count = Field(1, description="Fewest that it may come down to.")
    adaptive_concurrency_max: Count = Field(10_000, description="Most that it may go up to.")
    models: dict[Annotated[str, AfterValidator(_pattern)], Rates] = Field(
        {},
        max_length=256,
        description=(
            "Limits of single models, by name or by a pattern such as `gpt-*`; they hold beside "
            "those of the upstream. A model comes under the first pattern that fits, and all "
            "models of a pattern share its limits."
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Limits:
        least, most = self.adaptive_concurrency_min, self.adaptive_concurrency_max
        if not least <= self.adaptive_concurrency_first <= most:
            raise ValueError(
                "adaptive_concurrency_first must lie between adaptive_concurrency_min and "
                "adaptive_concurrency_max"
            )
        return self


class Queue(Section):
    """Where calls wait that cannot go at once, each user's in turn."""

    size: Annotated[int, BeforeValidator(number), Field(ge=0, le=1_000_000)] = Field(
        1000, description="Calls that may wait; 0 for none, which refuses at once."
    )
    wait_seconds_max: Seconds = Field(
        30,
        le=3600,
        description="Longest wait; a call that would have to wait for longer is refused at once.",
    )
    early_open_seconds: Seconds | None = Field(
        None,
        description=(
            "A stream that has waited for so long is answered 200 and gets comments, so that its "
            "client does not give up; a refusal after that is an error event. Not given, never."
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Queue:
        if self.early_open_seconds is not None and self.early_open_seconds >= self.wait_seconds_max:
            raise ValueError("early_open_seconds must be below wait_seconds_max")
        return self


class Retry(Section):
    """Attempts of our own, made only while nothing has reached the client."""

    attempts_max: Annotated[int, BeforeValidator(number), Field(ge=1, le=10)] = Field(
        3, description="Attempts of a call, the first included; 1 for no retries."
    )
    budget_ratio: Ratio = Field(
        0.2, description="Most retries for each call, of an upstream and of a user alike."
    )
    budget_floor_per_minute: Annotated[int, BeforeValidator(number), Field(ge=0, le=100_000)] = (
        Field(10, description="Retries a minute that there may be however few the calls.")
    )
    backoff_seconds_first: Seconds = Field(
        0.5, le=60, description="Longest wait before the second attempt; it doubles from there."
    )
    backoff_seconds_max: Seconds = Field(
        8, le=300, description="Longest wait before an attempt that the upstream asked no wait for."
    )
    retry_after_seconds_max: Seconds = Field(
        20,
        le=3600,
        description=(
            "Longest wait that an upstream may ask for; when it asks for more, its answer is "
            "passed on."
        ),
    )
    body_bytes_max: Bytes = Field(
        16 * MEBI,
        description=(
            "Largest request body that is kept for another attempt. Bodies above "
            "`relay.body_buffer_bytes_max` stream through and are never kept."
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Retry:
        if self.backoff_seconds_max < self.backoff_seconds_first:
            raise ValueError("backoff_seconds_max must be at least backoff_seconds_first")
        return self


class Breaker(Section):
    """When an upstream, or one model of it, is left alone for a while."""

    enabled: bool = Field(True, description="Off, calls go however many fail.")
    failure_ratio: ShareAboveZero = Field(
        0.5, description="Share of failed attempts from which it opens. A 4xx is no failure."
    )
    window_seconds: Seconds = Field(30, le=3600, description="Time that the share is taken over.")
    calls_min: Annotated[int, BeforeValidator(number), Field(ge=1, le=100_000)] = Field(
        10, description="With fewer attempts in the window it does not open."
    )
    open_seconds: Seconds = Field(
        10, le=3600, description="Time without a call, until one goes to see how things stand."
    )
    open_seconds_max: Seconds = Field(
        60, le=3600, description="Longest such time: each try that fails doubles it."
    )
    probes: Annotated[int, BeforeValidator(number), Field(ge=1, le=100)] = Field(
        2, description="Tries in a row, one at a time, that must succeed before it closes."
    )

    @model_validator(mode="after")
    def _check(self) -> Breaker:
        if self.open_seconds_max < self.open_seconds:
            raise ValueError("open_seconds_max must be at least open_seconds")
        return self


FALLBACKS_MAX = 8


def wrong_fallbacks(
    upstreams: Mapping[str, tuple[str, Sequence[str]]],
) -> Iterator[tuple[str, int, str]]:
    """Find fallbacks that cannot be.

    Args:
        upstreams: by name, the dialect and the names it falls back to, in order.

    Yields:
        The upstream, the place in its list, and what is wrong there. The way round a circle is
        told once, at the upstream of the circle that is named first.
    """
    for name, (dialect, fallbacks) in upstreams.items():
        for place, other in enumerate(fallbacks):
            if other == name:
                yield name, place, "is the upstream itself"
            elif other not in upstreams:
                yield name, place, "there is no upstream of this name"
            elif upstreams[other][0] != dialect:
                yield name, place, f"speaks another dialect than {dialect}"
            elif other in fallbacks[:place]:
                yield name, place, "is there twice"
    told: set[str] = set()
    for name, (_, fallbacks) in upstreams.items():
        for place, other in enumerate(fallbacks):
            reached = _reached_from(other, upstreams)
            if other != name and name in reached and name not in told:
                told |= {
                    name,
                    *(each for each in reached if name in _reached_from(each, upstreams)),
                }
                yield name, place, "leads back here: fallbacks must not go round in a circle"


def _reached_from(name: str, upstreams: Mapping[str, tuple[str, Sequence[str]]]) -> set[str]:
    """Give all upstreams that a call can come to from one, by fallback."""
    reached: set[str] = set()
    ahead = [name]
    while ahead:
        here = ahead.pop()
        for other in upstreams[here][1] if here in upstreams else ():
            if other not in reached:
                reached.add(other)
                ahead.append(other)
    return reached
