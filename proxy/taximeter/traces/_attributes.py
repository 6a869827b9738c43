"""What stands on the span of a call and on that of an attempt. Pure.

What is not known is left out, and zero is told. Texts of strangers (models, users, tags) are cut
to `TEXT_CHARACTERS_MAX`.
"""

from __future__ import annotations

from collections.abc import Mapping

from taximeter.call import PICO_PER_USD, Attempt, Closed, Fact, usd_text
from taximeter.ledger import Entry
from taximeter.traces import _names as names
from taximeter.traces._span import Attributes, Server, Value
from taximeter.traces._timeline import Timeline

TEXT_CHARACTERS_MAX = 256
TAGS_MAX = 32


def call_attributes(
    entry: Entry, servers: Mapping[str, Server], method: str, times: Timeline
) -> Attributes:
    """Give the attributes of the call's own span."""
    closed = entry.closed
    opened = closed.opened
    found: dict[str, Value | None] = {
        names.METHOD: method,
        names.URL_PATH: opened.path or None,
        names.STATUS_CODE: closed.status,
        names.REQUEST_SIZE: closed.request_bytes,
        names.ERROR_TYPE: error_type(closed),
        names.USER_ID: opened.user,
        names.SESSION_ID: opened.session,
        names.CALL_ID: opened.call_id,
        names.OUTCOME: str(closed.outcome),
        names.UPSTREAM: opened.upstream,
        names.MEANT_FOR: opened.meant_for,
        names.TEAM: opened.team,
        names.USER_SOURCE: opened.user_source,
        names.USAGE_SOURCE: str(entry.usage_source),
        names.COUNT_RULE: entry.count_rule,
        names.PRICE: entry.price,
        names.ATTEMPTS: len(closed.attempts),
        names.RETRY_OF: opened.retry_of,
        names.FACTS: [str(fact) for fact in closed.facts] or None,
    }
    if times.first_token_ns is not None:
        found[names.TIME_TO_FIRST_TOKEN] = times.first_token_ns / 1e9
    if closed.events:
        found[names.EVENTS] = closed.events
    for name, text in list(opened.tags.items())[:TAGS_MAX]:
        found[names.TAG_PREFIX + name[:TEXT_CHARACTERS_MAX]] = text
    if opened.operation != names.NO_OPERATION:
        server = servers.get(opened.upstream or "")
        found |= _inference(closed, server.host if server is not None else "")
    if Fact.FETCHED not in closed.facts:
        # What a fetch brings was used by the call that made the answer. The conventions want no
        # usage on it, and its cost would be there twice wherever that call could be priced.
        found |= _usage(entry)
    return given(found)


def attempt_attributes(
    attempt: Attempt, closed: Closed, servers: Mapping[str, Server], method: str
) -> Attributes:
    """Give the attributes of an attempt's span."""
    server = servers.get(attempt.upstream)
    status = attempt.status
    answered = attempt is closed.attempts[-1] and attempt.first_byte_ns is not None
    return given(
        {
            names.METHOD: method,
            names.SERVER_ADDRESS: server.host if server is not None else None,
            names.SERVER_PORT: server.port if server is not None else None,
            names.STATUS_CODE: status,
            names.RESPONSE_SIZE: closed.response_bytes if answered else None,
            names.RESEND_COUNT: attempt.number - 1 if attempt.number > 1 else None,
            names.ERROR_TYPE: attempt_error(attempt),
            names.UPSTREAM: attempt.upstream or None,
            names.ATTEMPT: attempt.number,
            names.CONNECTION_REUSED: attempt.reused,
        }
    )


def attempt_error(attempt: Attempt) -> str | None:
    """Say in one word what an attempt failed by; None if it did not."""
    status = attempt.status
    if attempt.error is None and status is not None and status >= 400:
        return str(status)
    return attempt.error


def error_type(closed: Closed) -> str | None:
    """Say in one word what a call failed by; None if it did not."""
    if closed.error is None and not names.FAILED[closed.outcome]:
        return None
    if closed.error:
        return closed.error
    if closed.status is not None and closed.status >= 400:
        return str(closed.status)
    return str(closed.outcome)


def given(values: Mapping[str, Value | None]) -> Attributes:
    """Leave out what is not known, and cut texts."""
    return {
        name: value[:TEXT_CHARACTERS_MAX] if isinstance(value, str) else value
        for name, value in values.items()
        if value is not None
    }


def _inference(closed: Closed, host: str) -> Mapping[str, Value | None]:
    opened = closed.opened
    finish = closed.finish_reason
    found: dict[str, Value | None] = {
        names.OPERATION_NAME: names.operation_word(opened.operation),
        names.PROVIDER_NAME: names.provider_word(opened.provider or "", host) or None,
        names.REQUEST_MODEL: opened.model,
        names.REQUEST_STREAM: opened.stream,
        names.RESPONSE_ID: closed.response_id,
        names.RESPONSE_MODEL: closed.response_model,
        names.FINISH_REASONS: [finish[:TEXT_CHARACTERS_MAX]] if finish else None,
    }
    if opened.dialect == "openai":
        found[names.OPENAI_API_TYPE] = _openai_api(opened.path)
        found[names.OPENAI_REQUEST_TIER] = opened.service_tier
        found[names.OPENAI_RESPONSE_TIER] = closed.service_tier
    return found


def _openai_api(path: str) -> str | None:
    if path.endswith("/chat/completions"):
        return "chat_completions"
    return "responses" if path.endswith("/responses") else None


def _usage(entry: Entry) -> Mapping[str, Value | None]:
    found: dict[str, Value | None] = {}
    usage, cost = entry.usage, entry.cost_pico
    if usage is not None:
        found[names.INPUT_TOKENS] = usage.input_tokens
        found[names.OUTPUT_TOKENS] = usage.output_tokens
        found[names.CACHE_READ_TOKENS] = usage.cached_tokens
        found[names.CACHE_WRITE_TOKENS] = usage.cache_write_tokens
        found[names.REASONING_TOKENS] = usage.reasoning_tokens
    if cost is not None:
        found[names.COST_AMOUNT] = cost / PICO_PER_USD
        found[names.COST_CURRENCY] = "USD"
        found[names.COST_SOURCE] = "provider" if entry.price == "provider" else "local"
        found[names.COST_USD] = usd_text(cost)
    return found
