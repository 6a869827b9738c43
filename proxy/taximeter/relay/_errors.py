"""Everything that can go wrong with a call on our side of it, and whose fault it is.

One table, `PROBLEMS`, is the closed set of codes a client may meet from us: the status, the
words, and what to do. A code is a program's handle (`error.code` in the dialect's shape) and
the `error` of the row.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """Whose fault it was."""

    CLIENT = "client"
    UPSTREAM = "upstream"
    OURS = "ours"


@dataclass(frozen=True, slots=True)
class Problem:
    """One way to fail: `message` is for the person who reads it, and says what to do."""

    status: int
    fault: Fault
    message: str
    retry_after_seconds: int | None = None


PROBLEMS: dict[str, Problem] = {
    # The client's.
    "malformed_request": Problem(400, Fault.CLIENT, "The request is not valid HTTP/1.1: {detail}."),
    "bad_target": Problem(
        400, Fault.CLIENT, "The request target must be a path such as /v1/chat/completions."
    ),
    "path_leaves_base": Problem(
        400,
        Fault.CLIENT,
        "The path has a segment '.' or '..' (or %2e, which means the same): it might lead out of "
        "the upstream's part of its server. Send the path that is meant, without such segments.",
    ),
    "unknown_upstream": Problem(
        404,
        Fault.CLIENT,
        "No upstream is named {detail}. Use /v1/..., or /<upstream>/... with a configured name.",
    ),
    "no_default_upstream": Problem(
        404, Fault.CLIENT, "No upstream of the {detail} family is configured for this path."
    ),
    "method_refused": Problem(405, Fault.CLIENT, "CONNECT and TRACE are not relayed."),
    "version_refused": Problem(505, Fault.CLIENT, "Use HTTP/1.1 or HTTP/1.0."),
    "expectation_refused": Problem(
        417, Fault.CLIENT, "The only expectation understood here is 100-continue."
    ),
    "head_too_large": Problem(
        431,
        Fault.CLIENT,
        "The request's line and header fields are longer than {detail} bytes "
        "(relay.head_bytes_max).",
    ),
    "body_timeout": Problem(
        408, Fault.CLIENT, "The request's body stopped coming (relay.body_idle_seconds_max)."
    ),
    # Limits, budgets and the queue (`taximeter.admission`).
    "input_tokens_exceeded": Problem(
        400, Fault.CLIENT, "The request's input is longer than its tier allows (input_tokens_max)."
    ),
    "input_tokens_unknown": Problem(
        400,
        Fault.CLIENT,
        "The request's input is bounded (input_tokens_max), and it is coded. Send it uncompressed.",
    ),
    "output_tokens_exceeded": Problem(
        400,
        Fault.CLIENT,
        "The request asks for more output than its tier allows (output_tokens_max).",
    ),
    "output_tokens_unlimited": Problem(
        400,
        Fault.CLIENT,
        "The request's output must be limited, and it cannot be told where. "
        "State the limit in the request.",
    ),
    "budget_exceeded": Problem(402, Fault.CLIENT, "The budget is spent: {detail}."),
    "price_unknown": Problem(
        402, Fault.CLIENT, "The model has no known price, and the budget {detail} wants one."
    ),
    "limit_too_small": Problem(
        429, Fault.CLIENT, "The call alone is more than a limit lets through: {detail}."
    ),
    "limit_exceeded": Problem(429, Fault.CLIENT, "A limit is reached: {detail}.", 1),
    "queue_full": Problem(503, Fault.OURS, "Too many calls wait already (queue.size).", 1),
    "queue_deadline_unreachable": Problem(
        503, Fault.OURS, "The call would wait for longer than it may (queue.wait_seconds_max).", 1
    ),
    "queue_timeout": Problem(
        503, Fault.OURS, "The call waited for as long as it may (queue.wait_seconds_max).", 1
    ),
    "breaker_open": Problem(
        503, Fault.UPSTREAM, "The upstream has failed too often and is left alone for now.", 1
    ),
    "overloaded": Problem(503, Fault.OURS, "Taximeter is short of {detail}.", 1),
    # Calls made again (`replay`).
    "idempotency_key_in_use": Problem(
        409, Fault.CLIENT, "A call with this Idempotency-Key is still under way.", 1
    ),
    "idempotency_key_reused": Problem(
        422, Fault.CLIENT, "This Idempotency-Key was used with another request."
    ),
    # Virtual keys.
    "invalid_key": Problem(401, Fault.CLIENT, "The key is not valid."),
    "key_not_allowed": Problem(403, Fault.CLIENT, "The key is not good for this {detail}."),
    "model_unclear": Problem(
        400,
        Fault.CLIENT,
        "The key is good for some models only, and which one the request is for cannot be told "
        'for certain. Name it once, as "model", in plain JSON (or in a form, where the endpoint '
        "takes one), not compressed and not longer than relay.body_buffer_bytes_max.",
    ),
    "key_misplaced": Problem(
        400,
        Fault.CLIENT,
        "A virtual key stands where none is looked for, and would go upstream. "
        "Send it as a key of the API is sent, and nowhere else.",
    ),
    "upstream_key_missing": Problem(
        503,
        Fault.OURS,
        "The upstream {detail} has no key of its own to serve virtual keys with (api_key_env).",
    ),
    # The upstream's.
    "upstream_unreachable": Problem(
        502, Fault.UPSTREAM, "The upstream {detail} cannot be reached: no connection was made."
    ),
    "upstream_connect_timeout": Problem(
        504, Fault.UPSTREAM, "The upstream {detail} took too long to accept a connection."
    ),
    "upstream_tls_failed": Problem(
        502, Fault.UPSTREAM, "The upstream {detail} offered no TLS certificate that can be trusted."
    ),
    "upstream_first_byte_timeout": Problem(
        504, Fault.UPSTREAM, "The upstream {detail} did not begin to answer in time."
    ),
    "upstream_send_timeout": Problem(
        504, Fault.UPSTREAM, "The upstream {detail} stopped taking the request."
    ),
    "upstream_disconnected": Problem(
        502, Fault.UPSTREAM, "The upstream {detail} closed the connection before it answered."
    ),
    "upstream_malformed": Problem(
        502, Fault.UPSTREAM, "The upstream {detail} did not answer in valid HTTP/1.1."
    ),
    "upstream_idle_timeout": Problem(
        504, Fault.UPSTREAM, "The upstream {detail} stopped sending in the middle of its answer."
    ),
    "upstream_not_streaming": Problem(
        502,
        Fault.UPSTREAM,
        "The upstream {detail} answered a stream, which had been opened while it waited, with what "
        "is no plain stream of events.",
    ),
    "upstream_truncated": Problem(
        502, Fault.UPSTREAM, "The upstream {detail} broke off in the middle of its answer."
    ),
    "drain_ended": Problem(
        504,
        Fault.OURS,
        "The client of the upstream {detail} had left, and its answer was read on for long enough.",
    ),
    # Ours.
    "connections_exhausted": Problem(
        503,
        Fault.OURS,
        "All connections to the upstream {detail} are in use (connections_max).",
        retry_after_seconds=1,
    ),
    "draining": Problem(503, Fault.OURS, "Taximeter is shutting down.", retry_after_seconds=5),
    "journal_unwritable": Problem(
        503,
        Fault.OURS,
        "The call cannot be recorded, and journal.when_full is fail_closed.",
        retry_after_seconds=5,
    ),
    "client_write_timeout": Problem(
        0, Fault.CLIENT, "The client stopped reading (relay.write_idle_seconds_max)."
    ),
    "internal_error": Problem(500, Fault.OURS, "Taximeter met an error of its own."),
}


class Refused(Exception):
    """A call that ends here with an answer of our own. `code` is a key of `PROBLEMS`."""

    def __init__(
        self,
        code: str,
        detail: str = "",
        *,
        retry_after_ns: int | None = None,
        should_retry: bool | None = None,
    ) -> None:
        """Say what is wrong.

        Args:
            code: a key of `PROBLEMS`.
            detail: what its message is about.
            retry_after_ns: when a later try may do better, if that is known.
            should_retry: what the client's library is told to do; None leaves it to the status.
        """
        super().__init__(code)
        self.code = code
        self.problem = PROBLEMS[code]
        self.message = self.problem.message.format(detail=detail)
        self.should_retry = should_retry
        seconds = self.problem.retry_after_seconds
        self.retry_after_ms = None if seconds is None else seconds * 1000
        if retry_after_ns is not None and should_retry is not False:
            self.retry_after_ms = -(-retry_after_ns // 1_000_000)
