"""What the proxy's own rooms can be told: log, identity, relay, journal, recorder."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from taximeter.settings._kinds import (
    GIBI,
    MEBI,
    Bytes,
    Count,
    HeaderNames,
    Milliseconds,
    Seconds,
    Section,
    number,
)


class Log(Section):
    """What the processes say about themselves, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least important messages that are written."
    )
    format: Literal["console", "json"] = Field(
        "console", description="`console` for people, `json` for one object a line."
    )
    access: bool = Field(
        True, description="A line for each call, written by the recorder once it is booked."
    )


class Identity(Section):
    """Headers that say who calls, beside `x-taximeter-user` and its siblings, which win."""

    user_headers: HeaderNames = Field((), description="Headers that name the user.")
    team_headers: HeaderNames = Field((), description="Headers that name the team.")
    session_headers: HeaderNames = Field((), description="Headers that name the session.")


class Relay(Section):
    """Bounds of the data plane. Each holds for one worker, or for one call where it says so."""

    head_bytes_max: Bytes = Field(
        65_536, ge=1024, le=MEBI, description="Largest head of a request or an answer."
    )
    body_buffer_bytes_max: Bytes = Field(
        16 * MEBI,
        description="Largest request body that is read before it goes on; above, it streams.",
    )
    body_buffers_bytes_max: Bytes = Field(
        256 * MEBI,
        description="Most memory of a worker for request bodies; beyond it, bodies stream.",
    )
    tap_bytes_max: Bytes = Field(
        256 * 1024,
        ge=4096,
        description="Most of an answer that is kept, for one call, to read its usage or count it.",
    )
    taps_bytes_max: Bytes = Field(
        64 * MEBI, description="Most memory of a worker for what is kept of answers."
    )
    head_seconds_max: Seconds = Field(15, description="To receive a request's head.")
    body_idle_seconds_max: Seconds = Field(
        60,
        description="Without a byte in the middle of a request's body; and, with a second more for "
        "each 500 bytes, for a body that is waited for.",
    )
    write_idle_seconds_max: Seconds = Field(
        60, description="Without the client taking a byte of its answer."
    )
    keepalive_seconds: Seconds = Field(
        75, description="That an idle connection of a client is kept open."
    )
    ping_seconds: Annotated[
        float, BeforeValidator(number), Field(ge=0, le=3600, allow_inf_nan=False)
    ] = Field(15, description="Idle time after which a stream gets a comment; 0 for never.")
    drain_seconds_max: Seconds = Field(
        600, description="That calls under way may go on after SIGTERM."
    )
    connections_max: Count = Field(16_384, description="Connections of clients at a time.")

    @model_validator(mode="after")
    def _check(self) -> Relay:
        if self.body_buffers_bytes_max < self.body_buffer_bytes_max:
            raise ValueError("body_buffers_bytes_max must be at least body_buffer_bytes_max")
        if self.taps_bytes_max < self.tap_bytes_max:
            raise ValueError("taps_bytes_max must be at least tap_bytes_max")
        return self


class Replay(Section):
    """Answers kept for clients that ask again with the same `Idempotency-Key`.

    They are content: kept in a worker's memory, written nowhere, and each worker has its own.
    """

    enabled: bool = Field(
        False,
        description=(
            "Keep whole answers of status 2xx to calls with an `Idempotency-Key`, in memory, and "
            "give them again instead of asking the upstream twice."
        ),
    )
    window_seconds: Seconds = Field(600, description="That an answer is kept, from its end on.")
    answers_max: Count = Field(
        10_000, description="Answers that a worker keeps; at the bound the oldest goes."
    )
    answer_bytes_max: Bytes = Field(
        MEBI, description="Longest answer that is kept; a longer one is passed on and not kept."
    )
    bytes_max: Bytes = Field(
        64 * MEBI,
        description="Most memory of a worker for kept answers; at the bound the oldest goes.",
    )

    @model_validator(mode="after")
    def _check(self) -> Replay:
        if self.bytes_max < self.answer_bytes_max:
            raise ValueError("bytes_max must be at least answer_bytes_max")
        return self


class Journal(Section):
    """The local record of every call, which the ledger is made from."""

    sync: Literal["none", "interval", "always"] = Field(
        "interval",
        description=(
            "When records are forced to the disk: never by us, every so often, or before the "
            "call goes on. All three outlive the process; what outlives the machine differs."
        ),
    )
    sync_milliseconds: Milliseconds = Field(200, description="How often, with `interval`.")
    segment_bytes: Bytes = Field(
        16 * MEBI, ge=64 * 1024, le=GIBI, description="Size of one file of the journal."
    )
    bytes_max: Bytes = Field(
        GIBI,
        ge=MEBI,
        description="Most that all journals together may take when the recorder falls behind.",
    )
    when_full: Literal["fail_open", "fail_closed"] = Field(
        "fail_open",
        description=(
            "When a record cannot be written: `fail_open` relays on and counts the loss, "
            "`fail_closed` answers 503."
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Journal:
        if self.bytes_max < 2 * self.segment_bytes:
            raise ValueError("bytes_max must be at least twice segment_bytes")
        return self


class Recorder(Section):
    """The process that makes ledger rows of the journal."""

    batch_rows_max: Annotated[int, BeforeValidator(number), Field(ge=1, le=10_000)] = Field(
        500, description="Most rows of one transaction."
    )
    poll_milliseconds: Milliseconds = Field(
        100, description="Between two looks at a journal that had nothing new."
    )
    park_seconds: Seconds = Field(
        30, description="After which a call still under way is kept in the ledger's waiting room."
    )
    count_wait_seconds: Seconds = Field(
        30, description="That a call waits for its counted tokens before it is booked without."
    )
