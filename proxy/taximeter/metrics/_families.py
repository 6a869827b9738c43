"""The one table of metrics: everything exposed, documented and kept is made from it.

A family that is not here cannot be exposed, and `docs/metrics.md` is written from here. Names are
those of the OpenTelemetry GenAI conventions (v1.41, as Prometheus writes them) where these have a
word for what is measured, with their labels and their edges; everything else is `taximeter_...`.

Inside, every figure is an integer: nanoseconds, tokens, bytes, pico-dollars. `scale` says how many
of them make one of the unit that is exposed, so a sum loses nothing on its way to the one division
at the end.
"""

from __future__ import annotations

from typing import Final

from taximeter.call import Gaps
from taximeter.live import Lag
from taximeter.metrics._family import SECOND, USD, Family, Kind, Source

OPEN_LABELS: Final = {
    "user": "user",
    "team": "team",
    "model": "model",
    "gen_ai_request_model": "model",
    "gen_ai_response_model": "model",
}
"""Labels whose values come from strangers, and whose places they take. All others are of closed
sets, or are words of the configuration."""


def _ns(*seconds: float) -> tuple[int, ...]:
    return tuple(round(each * SECOND) for each in seconds)


_GEN_AI_SECONDS = _ns(
    *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
    # The conventions end here; clients wait for ten minutes.
    *(163.84, 327.68, 655.36),
)
_GEN_AI_TOKENS = tuple(4**power for power in range(14))
_STAGE_SECONDS = _ns(
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.5),
    *(1, 2, 5, 10, 30, 60, 120, 300, 600),
)
_FIRST_TOKEN_SECONDS = _ns(
    *(0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 2.5, 5, 10, 20, 30, 60, 120)
)
_OUTPUT_TOKEN_SECONDS = _ns(
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5)
)
_OVERHEAD_SECONDS = _ns(
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

FAMILIES: Final[list[Family]] = []
"""Every family, in the order in which it is exposed and documented."""


def _family(
    kind: Kind,
    source: Source,
    name: str,
    help_text: str,
    *labels: str,
    edges: tuple[int, ...] = (),
    scale: int = 1,
) -> Family:
    family = Family(name, kind, source, help_text, labels, edges, scale)
    FAMILIES.append(family)
    return family


def _counter(source: Source, name: str, text: str, *labels: str, scale: int = 1) -> Family:
    return _family(Kind.COUNTER, source, name, text, *labels, scale=scale)


def _gauge(source: Source, name: str, text: str, *labels: str, scale: int = 1) -> Family:
    return _family(Kind.GAUGE, source, name, text, *labels, scale=scale)


def _seconds(name: str, text: str, edges: tuple[int, ...], *labels: str) -> Family:
    return _family(Kind.HISTOGRAM, Source.CALLS, name, text, *labels, edges=edges, scale=SECOND)


# Calls, tokens and money: equal to the ledger's sums ---------------------------------------------

CALLS = _counter(
    Source.LEDGER,
    "taximeter_calls",
    "Calls by how they ended.",
    *_MODEL,
    "operation",
    "outcome",
)
TOKENS = _counter(
    Source.LEDGER,
    "taximeter_tokens",
    "Tokens by type: `input` and `output` are totals; `cached` and `cache_write` are parts of "
    "`input`, `reasoning` is a part of `output`.",
    *_MODEL,
    "type",
)
COST = _counter(
    Source.LEDGER,
    "taximeter_cost_usd",
    "Known cost in US dollars, by how the calls ended: what is not `completed` is the cost of "
    "failures. Calls without a known cost are in `taximeter_unpriced_calls_total`.",
    *_MODEL,
    "operation",
    "outcome",
    scale=USD,
)
USAGE = _counter(
    Source.LEDGER,
    "taximeter_usage",
    "Calls by where their token figures come from: `reported`, `partial`, `estimated`, `absent`.",
    *_MODEL,
    "operation",
    "outcome",
    "source",
)
USER_CALLS = _counter(Source.LEDGER, "taximeter_user_calls", "Calls by user.", "user", "outcome")
USER_TOKENS = _counter(
    Source.LEDGER, "taximeter_user_tokens", "Tokens by user and type.", "user", "type"
)
USER_COST = _counter(
    Source.LEDGER,
    "taximeter_user_cost_usd",
    "Known cost in US dollars by user.",
    "user",
    scale=USD,
)
TEAM_CALLS = _counter(Source.LEDGER, "taximeter_team_calls", "Calls by team.", "team", "outcome")
TEAM_TOKENS = _counter(
    Source.LEDGER, "taximeter_team_tokens", "Tokens by team and type.", "team", "type"
)
TEAM_COST = _counter(
    Source.LEDGER,
    "taximeter_team_cost_usd",
    "Known cost in US dollars by team.",
    "team",
    scale=USD,
)

# Time and size, call by call ---------------------------------------------------------------------

DURATION = _seconds(
    "gen_ai_client_operation_duration_seconds",
    "Time from a call's acceptance to its end, of calls that were sent upstream.",
    _GEN_AI_SECONDS,
    *_GEN_AI,
    "error_type",
)
FIRST_CHUNK = _seconds(
    "gen_ai_client_operation_time_to_first_chunk_seconds",
    "Time from a stream's acceptance to its first chunk that carries a token.",
    _GEN_AI_SECONDS,
    *_GEN_AI,
)
TOKEN_USAGE = _family(
    Kind.HISTOGRAM,
    Source.CALLS,
    "gen_ai_client_token_usage",
    "Tokens of a call, all input and all output. Fetches of an answer made earlier are left out.",
    *_GEN_AI,
    "gen_ai_token_type",
    edges=_GEN_AI_TOKENS,
)
FIRST_TOKEN = _seconds(
    "taximeter_time_to_first_token_seconds",
    "Time from a stream's acceptance to its first token.",
    _FIRST_TOKEN_SECONDS,
    *_MODEL,
)
OUTPUT_TOKEN = _seconds(
    "taximeter_time_per_output_token_seconds",
    "Time from a stream's first token to its end, divided by its output tokens after the first.",
    _OUTPUT_TOKEN_SECONDS,
    *_MODEL,
)
INTER_TOKEN = _seconds(
    "taximeter_inter_token_seconds",
    "Gaps between the arrivals of a stream's tokens.",
    Gaps.EDGES_NS,
    *_MODEL,
)
STAGE = _seconds(
    "taximeter_stage_seconds",
    "Time of a call by stage. A stage that a call never reached is not counted.",
    _STAGE_SECONDS,
    "upstream",
    "stage",
)
OVERHEAD = _seconds(
    "taximeter_overhead_seconds",
    "Time of a call spent in the stages `receive` and `settle`: what the proxy adds, and what the "
    "client takes to send its body.",
    _OVERHEAD_SECONDS,
    "upstream",
)
BUDGETED = _counter(
    Source.CALLS,
    "taximeter_stage_budgeted",
    "Calls held against the latency budget, by its stage.",
    "upstream",
    "stage",
)
OVER_BUDGET = _counter(
    Source.CALLS,
    "taximeter_stage_over_budget",
    "Calls that took longer than the latency budget allows, by its stage.",
    "upstream",
    "stage",
)
BUDGET_SECONDS = _gauge(
    Source.RECORDER,
    "taximeter_stage_budget_seconds",
    "The latency budget: `network` is the stages receive and connect, `queue` and `settle` are "
    "those stages, `first_token` is first_byte and first_token, `output_token` is the time per "
    "output token.",
    "stage",
)
CALL_COST = _family(
    Kind.HISTOGRAM,
    Source.CALLS,
    "taximeter_call_cost_usd",
    "Cost of a call in US dollars, of those whose cost is known and not 0.",
    *_MODEL,
    edges=_CALL_COST,
    scale=USD,
)

# What went wrong, or other than usual ------------------------------------------------------------

ERRORS = _counter(
    Source.CALLS,
    "taximeter_call_errors",
    "Calls that did not complete, by a word for why and by whose doing: `client`, `upstream`, "
    "`ours`.",
    *_MODEL,
    "error_type",
    "fault",
)
STREAMS = _counter(
    Source.CALLS,
    "taximeter_streams",
    "Calls that asked for a stream, by how they ended.",
    *_MODEL,
    "outcome",
)
FINISHES = _counter(
    Source.CALLS,
    "taximeter_finishes",
    "Answers by why they stopped.",
    *_MODEL,
    "reason",
)
UNPRICED = _counter(
    Source.CALLS,
    "taximeter_unpriced_calls",
    "Calls whose cost was not known when they were booked, by reason. Answers still to be fetched "
    "are not among them.",
    *_MODEL,
    "reason",
)
ATTEMPTS = _counter(
    Source.CALLS,
    "taximeter_attempts",
    "Tries upstream, by what came of them.",
    "upstream",
    "result",
)
UPSTREAM_CONNECTIONS = _counter(
    Source.CALLS,
    "taximeter_attempt_connections",
    "Tries upstream that had a connection, `new` or `reused`.",
    "upstream",
    "kind",
)
RETRIES = _counter(
    Source.CALLS,
    "taximeter_retries",
    "Tries upstream after a call's first, by what came of the one before.",
    "upstream",
    "reason",
)
CLIENT_RETRIES = _counter(
    Source.CALLS,
    "taximeter_client_retries",
    "Calls that were a client's own retry, by its word (`x-stainless-retry-count`).",
    "upstream",
)
FACTS = _counter(Source.CALLS, "taximeter_call_facts", "Things noted about calls, by word.", "fact")
BODY_BYTES = _counter(
    Source.CALLS,
    "taximeter_body_bytes",
    "Bytes of bodies, `request` as received from clients and `response` as received from "
    "upstreams.",
    "upstream",
    "direction",
)
OVERFLOW = _counter(
    Source.CALLS,
    "taximeter_label_overflow",
    "Calls counted under `other` for want of a place, by the label; `label_set` counts series "
    "folded at `metrics.label_sets_max`, once a commit.",
    "label",
)
AHEAD = _gauge(
    Source.RECORDER,
    "taximeter_ledger_ahead",
    "How far a counter stands above the ledger, in its own unit, because figures went over from "
    "one call to another and a counter never goes down.",
    "counter",
)

# The recorder and the ledger ---------------------------------------------------------------------

BOOKED = _counter(Source.RECORDER, "taximeter_ledger_booked", "Calls put into the ledger.")
REPEATED = _counter(
    Source.RECORDER,
    "taximeter_ledger_repeated",
    "Calls read again that the ledger had: each was left as it was.",
)
REJECTED = _counter(
    Source.RECORDER, "taximeter_ledger_rejected", "Calls set aside in the table `rejects`."
)
COMMITS = _counter(Source.RECORDER, "taximeter_ledger_commits", "Transactions of the recorder.")
COMMIT_RETRIES = _counter(
    Source.RECORDER,
    "taximeter_ledger_retries",
    "Times that the ledger was not available and is tried again; the journal keeps the calls.",
)
LOST = _counter(
    Source.RECORDER,
    "taximeter_journal_lost_calls",
    "Calls that a full or failing disk kept out of the journal, told when a journal ends.",
)
MISSING = _counter(
    Source.RECORDER, "taximeter_journal_missing_records", "Records that damage took."
)
DAMAGED_BYTES = _counter(
    Source.RECORDER, "taximeter_journal_damaged_bytes", "Bytes of the journal that are damaged."
)
UNREADABLE = _counter(
    Source.RECORDER,
    "taximeter_journal_unreadable_records",
    "Whole records that have no meaning to this version.",
)
UNREADABLE_SEGMENTS = _counter(
    Source.RECORDER, "taximeter_journal_unreadable_segments", "Segments that cannot be opened."
)
REFUSED_JOURNALS = _counter(
    Source.RECORDER,
    "taximeter_journal_refused",
    "Journals left alone, because a newer version has written them.",
)
LAG = _gauge(
    Source.RECORDER,
    "taximeter_ledger_lag_seconds",
    "Age of the oldest record that is not in the ledger; 0 if there is none.",
)
JOURNAL_BYTES = _gauge(
    Source.RECORDER, "taximeter_journal_bytes", "Size of all journals on this disk."
)
JOURNAL_BYTES_MAX = _gauge(
    Source.RECORDER, "taximeter_journal_bytes_max", "Size that the journals may have."
)
SINK_FAILURES = _counter(
    Source.RECORDER,
    "taximeter_sink_failures",
    "Faults of ours in what hears of booked calls; the calls are in the ledger all the same.",
    "sink",
)
NOTES_REFUSED = _counter(
    Source.RECORDER,
    "taximeter_metrics_notes_refused",
    "Kept counters that could not be taken up at the start, so that they begin at 0.",
)
EXPORTED = _counter(
    Source.RECORDER, "taximeter_exporter_exported", "Calls handed to a collector.", "exporter"
)
EXPORT_DROPPED = _counter(
    Source.RECORDER,
    "taximeter_exporter_dropped",
    "Calls that no collector will get, by reason.",
    "exporter",
    "reason",
)
EXPORT_FAILED = _counter(
    Source.RECORDER, "taximeter_exporter_failed", "Exports that did not go through.", "exporter"
)
EXPORT_UNSAMPLED = _counter(
    Source.RECORDER,
    "taximeter_exporter_unsampled",
    "Calls that were not to be exported.",
    "exporter",
)
EXPORT_SPANS_REJECTED = _counter(
    Source.RECORDER,
    "taximeter_exporter_rejected_spans",
    "Spans of exported calls that the collector said it did not keep.",
    "exporter",
)
EXPORT_QUEUED = _gauge(
    Source.RECORDER, "taximeter_exporter_queued", "Calls that wait to be exported.", "exporter"
)
EXPORT_QUEUE_MAX = _gauge(
    Source.RECORDER, "taximeter_exporter_queue_max", "Calls that may wait to be exported."
)
PRICE_TABLE = _family(
    Kind.INFO,
    Source.RECORDER,
    "taximeter_price_table",
    "The price table that is built in.",
    "version",
)
PRICE_TIME = _gauge(
    Source.RECORDER,
    "taximeter_price_table_timestamp_seconds",
    "When the newest price of the built-in table began to hold, seconds since the epoch. Not shown "
    "while no call has needed the table.",
)

# The relays, once a second -----------------------------------------------------------------------

IN_FLIGHT = _gauge(
    Source.RELAY,
    "taximeter_in_flight",
    "Calls under way; the upstream is empty where it is not known yet.",
    "process",
    "upstream",
)
CONNECTIONS = _gauge(
    Source.RELAY, "taximeter_client_connections", "Connections of clients.", "process"
)
RELAYED = _counter(
    Source.RELAY,
    "taximeter_relay_ended_calls",
    "Calls that ended, before any of them is booked.",
    "process",
    "outcome",
)
UNPARSED = _counter(
    Source.RELAY,
    "taximeter_unparsed_requests",
    "Requests refused before they were calls: what came was no HTTP.",
    "process",
)
REFUSED_CONNECTIONS = _counter(
    Source.RELAY, "taximeter_refused_connections", "Connections of clients refused.", "process"
)
FAULTS = _counter(
    Source.RELAY, "taximeter_faults", "Faults of ours that a call met in the relay.", "process"
)
RECORDS = _counter(
    Source.RELAY, "taximeter_journal_records", "Records written to the journal.", "process"
)
RECORDS_REFUSED = _counter(
    Source.RELAY,
    "taximeter_journal_records_refused",
    "Records that the journal could not take.",
    "process",
)
HAS_JOURNAL = _gauge(
    Source.RELAY,
    "taximeter_journal_ready",
    "1 if there is a journal to write to, 0 while the disk has no room to begin one.",
    "process",
)
COUNTS_UNDONE = _counter(
    Source.RELAY,
    "taximeter_counts_undone",
    "Texts whose tokens were not counted exactly, by reason: `refused`, `late`, `failed`.",
    "process",
    "reason",
)
HELD_BYTES = _gauge(
    Source.RELAY,
    "taximeter_held_bytes",
    "Memory held for bodies: `request` for requests, `tap` for what is kept of answers.",
    "process",
    "kind",
)
STATES_DROPPED = _counter(
    Source.RELAY,
    "taximeter_relay_states_dropped",
    "Seconds whose figures the supervisor was too slow to take.",
    "process",
)
LOOP_LAG = _family(
    Kind.HISTOGRAM,
    Source.RELAY,
    "taximeter_event_loop_lag_seconds",
    "How late the relay's event loop came to what was due.",
    "process",
    edges=_ns(*Lag.EDGES_SECONDS),
    scale=SECOND,
)
POOL = _gauge(
    Source.RELAY,
    "taximeter_pool_connections",
    "Connections to upstreams, `in_use` and `idle`.",
    "process",
    "upstream",
    "state",
)
POOL_WAITING = _gauge(
    Source.RELAY,
    "taximeter_pool_waiting",
    "Calls that wait for a connection.",
    "process",
    "upstream",
)
RATE_LIMIT = _gauge(
    Source.RELAY,
    "taximeter_ratelimit_limit",
    "An upstream's own rate limit, as its last answer told it.",
    "upstream",
    "model",
    "resource",
)
RATE_REMAINING = _gauge(
    Source.RELAY,
    "taximeter_ratelimit_remaining",
    "What is left of an upstream's own rate limit, as its last answer told it.",
    "upstream",
    "model",
    "resource",
)
RATE_TOLD = _gauge(
    Source.RELAY,
    "taximeter_ratelimit_told_timestamp_seconds",
    "When that answer came, seconds since the epoch.",
    "upstream",
    "model",
    "resource",
)

# The processes -----------------------------------------------------------------------------------

BUILD = _family(Kind.INFO, Source.SUPERVISOR, "taximeter_build", "What runs.", "version", "python")
UP = _gauge(
    Source.SUPERVISOR,
    "taximeter_process_up",
    "1 if a process runs, does its work and answers; else 0.",
    "process",
)
RESTARTS = _counter(
    Source.SUPERVISOR,
    "taximeter_process_restarts",
    "Times that a process had to be started again.",
    "process",
)
CPU = _counter(
    Source.SUPERVISOR,
    "process_cpu_seconds",
    "User and system CPU time of a process.",
    "process",
)
RESIDENT = _gauge(
    Source.SUPERVISOR, "process_resident_memory_bytes", "Resident memory of a process.", "process"
)
OPEN_FDS = _gauge(
    Source.SUPERVISOR, "process_open_fds", "Open file descriptors of a process.", "process"
)
MAX_FDS = _gauge(
    Source.SUPERVISOR, "process_max_fds", "File descriptors that a process may open.", "process"
)
STARTED = _gauge(
    Source.SUPERVISOR,
    "process_start_time_seconds",
    "When a process started, seconds since the epoch.",
    "process",
)

BY_NAME: Final = {family.name: family for family in FAMILIES}
