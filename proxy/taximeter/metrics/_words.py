"""Closed sets of words: what an error, an attempt, an ending is called in a label.

What upstreams and clients write is never a label as it stands. A word that is on a list here, or a
status, is taken; all else is `other`.
"""

from __future__ import annotations

from typing import Final

from taximeter.call import Attempt, Closed, Outcome
from taximeter.metrics._names import OTHER

CLIENT: Final = "client"
UPSTREAM: Final = "upstream"
OURS: Final = "ours"

OUR_ERRORS: Final = {
    "malformed_request": CLIENT,
    "bad_target": CLIENT,
    "path_leaves_base": CLIENT,
    "unknown_upstream": CLIENT,
    "no_default_upstream": CLIENT,
    "method_refused": CLIENT,
    "version_refused": CLIENT,
    "expectation_refused": CLIENT,
    "head_too_large": CLIENT,
    "body_timeout": CLIENT,
    "input_tokens_exceeded": CLIENT,
    "input_tokens_unknown": CLIENT,
    "output_tokens_exceeded": CLIENT,
    "output_tokens_unlimited": CLIENT,
    "budget_exceeded": CLIENT,
    "price_unknown": CLIENT,
    "limit_too_small": CLIENT,
    "limit_exceeded": CLIENT,
    "queue_full": OURS,
    "queue_deadline_unreachable": OURS,
    "queue_timeout": OURS,
    "breaker_open": UPSTREAM,
    "overloaded": OURS,
    "idempotency_key_in_use": CLIENT,
    "idempotency_key_reused": CLIENT,
    "invalid_key": CLIENT,
    "key_not_allowed": CLIENT,
    "model_unclear": CLIENT,
    "key_misplaced": CLIENT,
    "upstream_key_missing": OURS,
    "client_write_timeout": CLIENT,
    "upstream_unreachable": UPSTREAM,
    "upstream_connect_timeout": UPSTREAM,
    "upstream_tls_failed": UPSTREAM,
    "upstream_first_byte_timeout": UPSTREAM,
    "upstream_send_timeout": UPSTREAM,
    "upstream_disconnected": UPSTREAM,
    "upstream_malformed": UPSTREAM,
    "upstream_idle_timeout": UPSTREAM,
    "upstream_not_streaming": UPSTREAM,
    "upstream_truncated": UPSTREAM,
    "connections_exhausted": OURS,
    "drain_ended": OURS,
    "draining": OURS,
    "internal_error": OURS,
    "journal_unwritable": OURS,
    "journal_damaged": OURS,
    "worker_died": OURS,
}
"""Our own codes, and whose doing each is: those of the relay's table, which a test compares, and
those under which the recorder books what a dead worker left."""

THROTTLES: Final = frozenset(
    {
        "input_tokens_exceeded",
        "input_tokens_unknown",
        "output_tokens_exceeded",
        "output_tokens_unlimited",
        "budget_exceeded",
        "price_unknown",
        "limit_too_small",
        "limit_exceeded",
    }
)
"""Refusals by what stands over the caller: its tier, its limits, its budgets."""

ADMISSION_REFUSALS: Final = THROTTLES | {
    "queue_full",
    "queue_deadline_unreachable",
    "queue_timeout",
    "breaker_open",
    "overloaded",
}
"""Refusals of admission's."""

ROOMLESS: Final = ("breaker_open", "queue_deadline_unreachable", "queue_full", "queue_timeout")
"""Refusals that page: series that begin at 0, so that their first step is seen."""

UPSTREAM_ERRORS: Final = {
    # OpenAI and those who speak its language.
    "context_length_exceeded": CLIENT,
    "content_filter": CLIENT,
    "content_policy_violation": CLIENT,
    "invalid_api_key": CLIENT,
    "invalid_request_error": CLIENT,
    "model_not_found": CLIENT,
    "authentication_error": CLIENT,
    "permission_error": CLIENT,
    "not_found_error": CLIENT,
    "request_too_large": CLIENT,
    "billing_error": CLIENT,
    "billing_hard_limit_reached": CLIENT,
    "insufficient_quota": CLIENT,
    "rate_limit_exceeded": UPSTREAM,
    "rate_limit_error": UPSTREAM,
    "overloaded_error": UPSTREAM,
    "server_error": UPSTREAM,
    "api_error": UPSTREAM,
    "timeout_error": UPSTREAM,
    # Google.
    "INVALID_ARGUMENT": CLIENT,
    "FAILED_PRECONDITION": CLIENT,
    "NOT_FOUND": CLIENT,
    "PERMISSION_DENIED": CLIENT,
    "UNAUTHENTICATED": CLIENT,
    "RESOURCE_EXHAUSTED": UPSTREAM,
    "INTERNAL": UPSTREAM,
    "UNAVAILABLE": UPSTREAM,
    "DEADLINE_EXCEEDED": UPSTREAM,
}

_OUTCOME_FAULTS: Final = {
    Outcome.UPSTREAM_ERROR: UPSTREAM,
    Outcome.TRUNCATED: UPSTREAM,
    Outcome.CANCELLED: CLIENT,
    Outcome.ABANDONED: CLIENT,
    Outcome.REJECTED: CLIENT,
    Outcome.INTERRUPTED: OURS,
}
_UPSTREAM_STATUSES: Final = frozenset({408, 409, 425, 429})
"""Client errors by number that are the upstream's by meaning: come again later."""

FINISHES: Final = {
    "stop": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "completed": "stop",
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_context_window_exceeded": "length",
    "incomplete": "length",
    "tool_calls": "tool",
    "tool_use": "tool",
    "function_call": "tool",
    "pause_turn": "tool",
    "content_filter": "filter",
    "refusal": "filter",
    "safety": "filter",
    "recitation": "filter",
    "blocklist": "filter",
    "prohibited_content": "filter",
    "spii": "filter",
    "image_safety": "filter",
    "failed": "error",
    "error": "error",
    "malformed_function_call": "error",
    "cancelled": "cancelled",
}
"""Why an answer stopped, in the words of several families, lower case."""

_UNPRICED: Final = {
    "no usage": "no_usage",
    "no model": "no_model",
    "no such model": "no_such_model",
    "no provider": "no_provider",
    "no rates listed": "no_rates",
}

GEN_AI_PROVIDERS: Final = {
    "azure": "azure.ai.openai",
    "aws": "aws.bedrock",
    "google": "gcp.gemini",
    "google-vertex": "gcp.vertex_ai",
    "mistral": "mistral_ai",
    "x-ai": "x_ai",
    "moonshotai": "moonshot_ai",
}
"""The conventions' names of providers, where they differ from those of the price table."""


def error_of(closed: Closed) -> tuple[str, str]:
    """Give a call's error and whose doing it is; two empty words for one that completed."""
    outcome = closed.outcome
    if outcome is Outcome.COMPLETED:
        return "", ""
    code = closed.error
    if code is not None:
        fault = OUR_ERRORS.get(code)
        if fault is None and outcome is not Outcome.REJECTED:
            fault = UPSTREAM_ERRORS.get(code)
        if fault is not None:
            return code, fault
    fault = _OUTCOME_FAULTS[outcome]
    status = closed.status
    if outcome is Outcome.UPSTREAM_ERROR and status is not None and 400 <= status <= 599:
        if status < 500 and status not in _UPSTREAM_STATUSES:
            fault = CLIENT
        return str(status), fault
    return (str(outcome) if code is None else OTHER), fault


def result_of(attempt: Attempt) -> str:
    """Give what came of an attempt."""
    if attempt.error is not None:
        return attempt.error if attempt.error in OUR_ERRORS else OTHER
    status = attempt.status
    if status is None:
        return "unfinished"
    if status < 400:
        return "answered"
    if status == 429:
        return "rate_limited"
    return "client_error" if status < 500 else "server_error"


def unpriced_reason(price: str | None) -> str:
    """Give why a call has no price, from the words that stand in for its name."""
    reason = (price or "").removeprefix("unpriced: ").partition(" (")[0]
    if reason.endswith(" unknown"):
        return "figure_unknown"
    return _UNPRICED.get(reason, OTHER)
