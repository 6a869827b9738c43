"""The names that spans speak in, and from our words to theirs: literal tables.

The GenAI conventions of OpenTelemetry have no stable release, and the packages that carry their
names move them between releases. So each name stands here once, as its own constant, after
v1.41 of the conventions; where these have no word, `taximeter.` stands in front. The names for
cost are those of the proposal that the conventions' authors are discussing; there is no agreed
one. `docs/traces.md` has each of these, and a test sees to that.
"""

from __future__ import annotations

from typing import Final

from taximeter.call import Outcome

# -- on the call's span alone, so that who sums usage over spans counts a call once --------------

OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS: Final = "gen_ai.usage.cache_write.input_tokens"
REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
COST_AMOUNT: Final = "gen_ai.usage.cost.amount"
COST_CURRENCY: Final = "gen_ai.usage.cost.currency"
COST_SOURCE: Final = "gen_ai.usage.cost.source"
OPENAI_API_TYPE: Final = "openai.api.type"
OPENAI_REQUEST_TIER: Final = "openai.request.service_tier"
OPENAI_RESPONSE_TIER: Final = "openai.response.service_tier"
USER_ID: Final = "user.id"
SESSION_ID: Final = "session.id"
URL_PATH: Final = "url.path"
REQUEST_SIZE: Final = "http.request.body.size"

CALL_ID: Final = "taximeter.call_id"
OUTCOME: Final = "taximeter.outcome"
TEAM: Final = "taximeter.team"
TAG_PREFIX: Final = "taximeter.tag."
USER_SOURCE: Final = "taximeter.user_source"
USAGE_SOURCE: Final = "taximeter.usage_source"
COUNT_RULE: Final = "taximeter.count_rule"
COST_USD: Final = "taximeter.cost_usd"
PRICE: Final = "taximeter.price"
TIME_TO_FIRST_TOKEN: Final = "taximeter.time_to_first_token"
EVENTS: Final = "taximeter.stream.events"
FACTS: Final = "taximeter.facts"
ATTEMPTS: Final = "taximeter.attempts"
RETRY_OF: Final = "taximeter.retry_of"

# -- on calls and attempts -----------------------------------------------------------------------

METHOD: Final = "http.request.method"
STATUS_CODE: Final = "http.response.status_code"
ERROR_TYPE: Final = "error.type"
UPSTREAM: Final = "taximeter.upstream"
MEANT_FOR: Final = "taximeter.meant_for"

# -- on attempts ---------------------------------------------------------------------------------

RESEND_COUNT: Final = "http.request.resend_count"
RESPONSE_SIZE: Final = "http.response.body.size"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
ATTEMPT: Final = "taximeter.attempt"
CONNECTION_REUSED: Final = "taximeter.connection.reused"

# -- on stages -----------------------------------------------------------------------------------

STAGE: Final = "taximeter.stage"

# -- events of the call's span -------------------------------------------------------------------

FIRST_TOKEN: Final = "taximeter.first_token"
RETRY: Final = "taximeter.retry"
FALLBACK: Final = "taximeter.fallback"
BREAKER_OPEN: Final = "taximeter.breaker_open"
CANCELLED: Final = "taximeter.cancelled"
TRUNCATED: Final = "taximeter.truncated"

# -- from our words to theirs --------------------------------------------------------------------

NO_OPERATION: Final = "other"
"""Requests that ask no model for anything (lists, files, the unknown): plain HTTP spans."""

OPERATIONS: Final = {
    "chat": "chat",
    "embeddings": "embeddings",
    "fetch_response": "fetch_response",
    "generate_content": "generate_content",
    "text_completion": "text_completion",
}
"""Operations that the conventions have a word for. Ours stands for itself where they have none,
which they allow: `moderation`, `speech`, `transcription`, `batch`, ..."""

PROVIDERS: Final = {
    "aws": "aws.bedrock",
    "azure": "azure.ai.openai",
    "google": "gcp.gemini",
    "google-vertex": "gcp.vertex_ai",
    "mistral": "mistral_ai",
    "moonshotai": "moonshot_ai",
    "x-ai": "x_ai",
}
"""Providers (genai-prices' ids) that the conventions call by another name. The others have the
same name in both, or none in the conventions, and stand for themselves."""

VERTEX_HOST: Final = "aiplatform.googleapis.com"
VERTEX: Final = "gcp.vertex_ai"
"""What `google` is called if its host is that one, or its name ends in that one's."""

METHODS: Final = frozenset("GET POST PUT PATCH DELETE HEAD OPTIONS".split())
OTHER_METHOD: Final = "_OTHER"
"""What the HTTP conventions call a method that is none of the known."""

FAILED: Final = {
    Outcome.COMPLETED: False,
    Outcome.UPSTREAM_ERROR: True,
    Outcome.TRUNCATED: True,
    Outcome.REJECTED: True,
    Outcome.INTERRUPTED: True,
    Outcome.CANCELLED: False,
    Outcome.ABANDONED: False,
}
"""Whether an outcome by itself makes a call's span one in error. A client that leaves does what it
pleases, and nobody has failed it; gRPC's conventions see its cancelled calls the same way."""


def operation_word(operation: str) -> str:
    """Give the conventions' word for one of our operations."""
    return OPERATIONS.get(operation, operation)


def provider_word(provider: str, host: str = "") -> str:
    """Give the conventions' word for a provider, whose upstream is at `host`."""
    if provider == "google" and host.endswith(VERTEX_HOST):
        return VERTEX
    return PROVIDERS.get(provider, provider)
