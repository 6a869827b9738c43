"""The families of booked calls: what they add up to, how long they took, what went wrong."""

from __future__ import annotations

from typing import Final

from taximeter.call import Gaps
from taximeter.metrics._family import USD, Kind, Source
from taximeter.metrics._table import Table, nanoseconds

TABLE: Final = Table()

_GEN_AI_SECONDS = nanoseconds(
    *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
    # The conventions end here; clients wait for ten minutes.
    *(163.84, 327.68, 655.36),
)
_GEN_AI_TOKENS = tuple(4**power for power in range(14))
_STAGE_SECONDS = nanoseconds(
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.5),
    *(1, 2, 5, 10, 30, 60, 120, 300, 600),
)
_FIRST_TOKEN_SECONDS = nanoseconds(
    *(0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 2.5, 5, 10, 20, 30, 60, 120)
)
_OUTPUT_TOKEN_SECONDS = nanoseconds(
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5)
)
_OVERHEAD_SECONDS = nanoseconds(
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)
)
_CALL_COST = tuple(
    round(usd * 1_000_000) * (USD // 1_000_000)
    for usd in (0.00001, 0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5)
)

_MODEL = ("upstream", "provider", "model")
_GEN_AI = (
    "gen_ai_operation_name",
    "gen_ai_provider_name",
    "gen_ai_request_model",
    "gen_ai_response_model",
    "server_address",
    "server_port",
)

# Calls, tokens and money: equal to the ledger's sums ---------------------------------------------

CALLS = TABLE.counter(
    Source.LEDGER,
    "taximeter_calls",
    "Calls by how they ended.",
    *_MODEL,
    "operation",
    "outcome",
)
TOKENS = TABLE.counter(
    Source.LEDGER,
    "taximeter_tokens",
    "Tokens by type: `input` and `output` are totals; `cached` and `cache_write` are parts of "
    "`input`, `reasoning` is a part of `output`.",
    *_MODEL,
    "type",
)
COST = TABLE.counter(
    Source.LEDGER,
    "taximeter_cost_usd",
    "Known cost in US dollars, by how the calls ended: what is not `completed` is the cost of "
    "failures. Calls without a known cost are in `taximeter_unpriced_calls_total`.",
    *_MODEL,
    "operation",
    "outcome",
    scale=USD,
)
USAGE = TABLE.counter(
    Source.LEDGER,
    "taximeter_usage",
    "Calls by where their token figures come from: `reported`, `partial`, `estimated`, `absent`.",
    *_MODEL,
    "operation",
    "outcome",
    "source",
)
USER_CALLS = TABLE.counter(
    Source.LEDGER, "taximeter_user_calls", "Calls by user.", "user", "outcome"
)
USER_TOKENS = TABLE.counter(
    Source.LEDGER, "taximeter_user_tokens", "Tokens by user and type.", "user", "type"
)
USER_COST = TABLE.counter(
    Source.LEDGER,
    "taximeter_user_cost_usd",
    "Known cost in US dollars by user.",
    "user",
    scale=USD,
)
TEAM_CALLS = TABLE.counter(
    Source.LEDGER, "taximeter_team_calls", "Calls by team.", "team", "outcome"
)
TEAM_TOKENS = TABLE.counter(
    Source.LEDGER, "taximeter_team_tokens", "Tokens by team and type.", "team", "type"
)
TEAM_COST = TABLE.counter(
    Source.LEDGER,
    "taximeter_team_cost_usd",
    "Known cost in US dollars by team.",
    "team",
    scale=USD,
)

# Time and size, call by call ---------------------------------------------------------------------

DURATION = TABLE.seconds(
    Source.CALLS,
    "gen_ai_client_operation_duration_seconds",
    "Time from a call's acceptance to its end, of calls that were sent upstream.",
    _GEN_AI_SECONDS,
    *_GEN_AI,
    "error_type",
)
FIRST_CHUNK = TABLE.seconds(
    Source.CALLS,
    "gen_ai_client_operation_time_to_first_chunk_seconds",
    "Time from a stream's acceptance to its first chunk that carries a token.",
    _GEN_AI_SECONDS,
    *_GEN_AI,
)
TOKEN_USAGE = TABLE.family(
    Kind.HISTOGRAM,
    Source.CALLS,
    "gen_ai_client_token_usage",
    "Tokens of a call, all input and all output. Fetches of an answer made earlier are left out.",
    *_GEN_AI,
    "gen_ai_token_type",
    edges=_GEN_AI_TOKENS,
)
FIRST_TOKEN = TABLE.seconds(
    Source.CALLS,
    "taximeter_time_to_first_token_seconds",
    "Time from a stream's acceptance to its first token.",
    _FIRST_TOKEN_SECONDS,
    *_MODEL,
)
OUTPUT_TOKEN = TABLE.seconds(
    Source.CALLS,
    "taximeter_time_per_output_token_seconds",
    "Time from a stream's first token to its end, divided by its output tokens after the first.",
    _OUTPUT_TOKEN_SECONDS,
    *_MODEL,
)
INTER_TOKEN = TABLE.seconds(
    Source.CALLS,
    "taximeter_inter_token_seconds",
    "Gaps between the arrivals of a stream's tokens.",
    Gaps.EDGES_NS,
    *_MODEL,
)
STAGE = TABLE.seconds(
    Source.CALLS,
    "taximeter_stage_seconds",
    "Time of a call by stage. A stage that a call never reached is not counted.",
    _STAGE_SECONDS,
    "upstream",
    "stage",
)
OVERHEAD = TABLE.seconds(
    Source.CALLS,
    "taximeter_overhead_seconds",
    "Time of a call spent in the stages `receive` and `settle`: what the proxy adds, and what the "
    "client takes to send its body.",
    _OVERHEAD_SECONDS,
    "upstream",
)
BUDGETED = TABLE.counter(
    Source.CALLS,
    "taximeter_stage_budgeted",
    "Calls held against the latency budget, by its stage.",
    "upstream",
    "stage",
)
OVER_BUDGET = TABLE.counter(
    Source.CALLS,
    "taximeter_stage_over_budget",
    "Calls that took longer than the latency budget allows, by its stage.",
    "upstream",
    "stage",
)
BUDGET_SECONDS = TABLE.gauge(
    Source.RECORDER,
    "taximeter_stage_budget_seconds",
    "The latency budget: `network` is the stages receive and connect, `queue` and `settle` are "
    "those stages, `first_token` is first_byte and first_token, `output_token` is the time per "
    "output token.",
    "stage",
)
CALL_COST = TABLE.family(
    Kind.HISTOGRAM,
    Source.CALLS,
    "taximeter_call_cost_usd",
    "Cost of a call in US dollars, of those whose cost is known and not 0.",
    *_MODEL,
    edges=_CALL_COST,
    scale=USD,
)

# What went wrong, or other than usual ------------------------------------------------------------

ERRORS = TABLE.counter(
    Source.CALLS,
    "taximeter_call_errors",
    "Calls that did not complete, by a word for why and by whose doing: `client`, `upstream`, "
    "`ours`.",
    *_MODEL,
    "error_type",
    "fault",
)
STREAMS = TABLE.counter(
    Source.CALLS,
    "taximeter_streams",
    "Calls that asked for a stream, by how they ended.",
    *_MODEL,
    "outcome",
)
FINISHES = TABLE.counter(
    Source.CALLS,
    "taximeter_finishes",
    "Answers by why they stopped.",
    *_MODEL,
    "reason",
)
UNPRICED = TABLE.counter(
    Source.CALLS,
    "taximeter_unpriced_calls",
    "Calls whose cost was not known when they were booked, by reason. Answers still to be fetched "
    "are not among them.",
    *_MODEL,
    "reason",
)
ADMISSIONS = TABLE.counter(
    Source.CALLS,
    "taximeter_admissions",
    "Calls by what admission decided: let go `at_once`, let go after a wait (`queued`), or "
    "`refused`.",
    "upstream",
    "decision",
)
REFUSED = TABLE.counter(
    Source.CALLS,
    "taximeter_rejected",
    "Calls that we refused, by reason: the code in the error.",
    "upstream",
    "reason",
)
THROTTLED = TABLE.counter(
    Source.CALLS,
    "taximeter_throttled",
    "Calls refused by a limit or a budget that stands over the caller, by its team and the reason.",
    "team",
    "reason",
)
FALLBACKS = TABLE.counter(
    Source.CALLS,
    "taximeter_fallbacks",
    "Calls that went to another upstream than the one they were for, by what that did: it "
    "`answered` or `failed`.",
    "from_upstream",
    "to_upstream",
    "result",
)
ATTEMPTS = TABLE.counter(
    Source.CALLS,
    "taximeter_attempts",
    "Tries upstream, by what came of them.",
    "upstream",
    "result",
)
UPSTREAM_CONNECTIONS = TABLE.counter(
    Source.CALLS,
    "taximeter_attempt_connections",
    "Tries upstream that had a connection, `new` or `reused`.",
    "upstream",
    "kind",
)
RETRIES = TABLE.counter(
    Source.CALLS,
    "taximeter_retries",
    "Tries at an upstream after a call's first there, by what came of the one before.",
    "upstream",
    "reason",
)
CLIENT_RETRIES = TABLE.counter(
    Source.CALLS,
    "taximeter_client_retries",
    "Calls that were a client's own retry, by its word (`x-stainless-retry-count`).",
    "upstream",
)
FACTS = TABLE.counter(
    Source.CALLS, "taximeter_call_facts", "Things noted about calls, by word.", "fact"
)
BODY_BYTES = TABLE.counter(
    Source.CALLS,
    "taximeter_body_bytes",
    "Bytes of bodies, `request` as received from clients and `response` as received from "
    "upstreams.",
    "upstream",
    "direction",
)
OVERFLOW = TABLE.counter(
    Source.CALLS,
    "taximeter_label_overflow",
    "Calls counted under `other` for want of a place, by the label; `label_set` counts series "
    "folded at `metrics.label_sets_max`, once a commit.",
    "label",
)
AHEAD = TABLE.gauge(
    Source.RECORDER,
    "taximeter_ledger_ahead",
    "How far a counter stands above the ledger, in its own unit, because figures went over from "
    "one call to another and a counter never goes down.",
    "counter",
)
