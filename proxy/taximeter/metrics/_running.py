"""The families of what runs: the recorder and its ledger, the relays, the processes."""

from __future__ import annotations

from typing import Final

from taximeter.live import Lag
from taximeter.metrics._family import Kind, Source
from taximeter.metrics._table import Table, nanoseconds

TABLE: Final = Table()

# The recorder and the ledger ---------------------------------------------------------------------

BOOKED = TABLE.counter(Source.RECORDER, "taximeter_ledger_booked", "Calls put into the ledger.")
REPEATED = TABLE.counter(
    Source.RECORDER,
    "taximeter_ledger_repeated",
    "Calls read again that the ledger had: each was left as it was.",
)
REJECTED = TABLE.counter(
    Source.RECORDER, "taximeter_ledger_rejected", "Calls set aside in the table `rejects`."
)
COMMITS = TABLE.counter(
    Source.RECORDER, "taximeter_ledger_commits", "Transactions of the recorder."
)
COMMIT_RETRIES = TABLE.counter(
    Source.RECORDER,
    "taximeter_ledger_retries",
    "Times that the ledger was not available and is tried again; the journal keeps the calls.",
)
LOST = TABLE.counter(
    Source.RECORDER,
    "taximeter_journal_lost_calls",
    "Calls that a full or failing disk kept out of the journal, told when a journal ends.",
)
MISSING = TABLE.counter(
    Source.RECORDER, "taximeter_journal_missing_records", "Records that damage took."
)
DAMAGED_BYTES = TABLE.counter(
    Source.RECORDER, "taximeter_journal_damaged_bytes", "Bytes of the journal that are damaged."
)
UNREADABLE = TABLE.counter(
    Source.RECORDER,
    "taximeter_journal_unreadable_records",
    "Whole records that have no meaning to this version.",
)
UNREADABLE_SEGMENTS = TABLE.counter(
    Source.RECORDER, "taximeter_journal_unreadable_segments", "Segments that cannot be opened."
)
REFUSED_JOURNALS = TABLE.counter(
    Source.RECORDER,
    "taximeter_journal_refused",
    "Journals left alone, because a newer version has written them.",
)
LAG = TABLE.gauge(
    Source.RECORDER,
    "taximeter_ledger_lag_seconds",
    "Age of the oldest record that is not in the ledger; 0 if there is none.",
)
JOURNAL_BYTES = TABLE.gauge(
    Source.RECORDER, "taximeter_journal_bytes", "Size of all journals on this disk."
)
JOURNAL_BYTES_MAX = TABLE.gauge(
    Source.RECORDER, "taximeter_journal_bytes_max", "Size that the journals may have."
)
SINK_FAILURES = TABLE.counter(
    Source.RECORDER,
    "taximeter_sink_failures",
    "Faults of ours in what hears of booked calls; the calls are in the ledger all the same.",
    "sink",
)
NOTES_REFUSED = TABLE.counter(
    Source.RECORDER,
    "taximeter_metrics_notes_refused",
    "Kept counters that could not be taken up at the start, so that they begin at 0.",
)
EXPORTED = TABLE.counter(
    Source.RECORDER, "taximeter_exporter_exported", "Calls handed to a collector.", "exporter"
)
EXPORT_DROPPED = TABLE.counter(
    Source.RECORDER,
    "taximeter_exporter_dropped",
    "Calls that no collector will get, by reason.",
    "exporter",
    "reason",
)
EXPORT_FAILED = TABLE.counter(
    Source.RECORDER, "taximeter_exporter_failed", "Exports that did not go through.", "exporter"
)
EXPORT_UNSAMPLED = TABLE.counter(
    Source.RECORDER,
    "taximeter_exporter_unsampled",
    "Calls that were not to be exported.",
    "exporter",
)
EXPORT_SPANS_REJECTED = TABLE.counter(
    Source.RECORDER,
    "taximeter_exporter_rejected_spans",
    "Spans of exported calls that the collector said it did not keep.",
    "exporter",
)
EXPORT_QUEUED = TABLE.gauge(
    Source.RECORDER, "taximeter_exporter_queued", "Calls that wait to be exported.", "exporter"
)
EXPORT_SPOOL_BYTES = TABLE.gauge(
    Source.RECORDER,
    "taximeter_exporter_spool_bytes",
    "Size of the files in which calls wait to be exported, with some that already were.",
    "exporter",
)
EXPORT_SPOOL_BYTES_MAX = TABLE.gauge(
    Source.RECORDER,
    "taximeter_exporter_spool_bytes_max",
    "Size that these files may have; beyond it the oldest calls are dropped.",
    "exporter",
)
PRICE_TABLE = TABLE.family(
    Kind.INFO,
    Source.RECORDER,
    "taximeter_price_table",
    "The price table that is built in.",
    "version",
)
PRICE_TIME = TABLE.gauge(
    Source.RECORDER,
    "taximeter_price_table_timestamp_seconds",
    "When the newest price of the built-in table began to hold, seconds since the epoch. Not shown "
    "while no call has needed the table.",
)

# The relays, once a second -----------------------------------------------------------------------

IN_FLIGHT = TABLE.gauge(
    Source.RELAY,
    "taximeter_in_flight",
    "Calls under way; the upstream is empty where it is not known yet.",
    "process",
    "upstream",
)
IN_FLIGHT_OLDEST = TABLE.gauge(
    Source.RELAY,
    "taximeter_in_flight_oldest_seconds",
    "Age of the oldest call under way.",
    "process",
    "upstream",
)
CONNECTIONS = TABLE.gauge(
    Source.RELAY, "taximeter_client_connections", "Connections of clients.", "process"
)
RELAYED = TABLE.counter(
    Source.RELAY,
    "taximeter_relay_ended_calls",
    "Calls that ended, before any of them is booked.",
    "process",
    "outcome",
)
UNPARSED = TABLE.counter(
    Source.RELAY,
    "taximeter_unparsed_requests",
    "Requests refused before they were calls: what came was no HTTP.",
    "process",
)
REFUSED_CONNECTIONS = TABLE.counter(
    Source.RELAY, "taximeter_refused_connections", "Connections of clients refused.", "process"
)
FAULTS = TABLE.counter(
    Source.RELAY, "taximeter_faults", "Faults of ours that a call met in the relay.", "process"
)
RECORDS = TABLE.counter(
    Source.RELAY, "taximeter_journal_records", "Records written to the journal.", "process"
)
RECORDS_REFUSED = TABLE.counter(
    Source.RELAY,
    "taximeter_journal_records_refused",
    "Records that the journal could not take.",
    "process",
)
HAS_JOURNAL = TABLE.gauge(
    Source.RELAY,
    "taximeter_journal_ready",
    "1 if there is a journal to write to, 0 while the disk has no room to begin one.",
    "process",
)
COUNTS_UNDONE = TABLE.counter(
    Source.RELAY,
    "taximeter_counts_undone",
    "Texts whose tokens were not counted exactly, by reason: `refused`, `late`, `failed`.",
    "process",
    "reason",
)
HELD_BYTES = TABLE.gauge(
    Source.RELAY,
    "taximeter_held_bytes",
    "Memory held for bodies: `request` for requests, `tap` for what is kept of answers to be read, "
    "`replay` for answers kept for clients that ask again.",
    "process",
    "kind",
)
REPLAYS = TABLE.counter(
    Source.RELAY,
    "taximeter_replays",
    "What came of calls with an `Idempotency-Key`, where answers are kept: `replayed`; refused, as "
    "the key was `in_use` or `reused` with another request; an answer `kept`, or not, being "
    "`too_long` or for want of room (`no_room`); and of kept ones, those let go when their time "
    "was over (`expired`) or to make room (`evicted`).",
    "process",
    "event",
)
STATES_DROPPED = TABLE.counter(
    Source.RELAY,
    "taximeter_relay_states_dropped",
    "Seconds whose figures the supervisor was too slow to take.",
    "process",
)
LOOP_LAG = TABLE.seconds(
    Source.RELAY,
    "taximeter_event_loop_lag_seconds",
    "How late the relay's event loop came to what was due.",
    nanoseconds(*Lag.EDGES_SECONDS),
    "process",
)
POOL = TABLE.gauge(
    Source.RELAY,
    "taximeter_pool_connections",
    "Connections to upstreams, `in_use` and `idle`.",
    "process",
    "upstream",
    "state",
)
POOL_WAITING = TABLE.gauge(
    Source.RELAY,
    "taximeter_pool_waiting",
    "Calls that wait for a connection.",
    "process",
    "upstream",
)
RATE_LIMIT = TABLE.gauge(
    Source.RELAY,
    "taximeter_ratelimit_limit",
    "An upstream's own rate limit, as its last answer told it.",
    "upstream",
    "model",
    "resource",
)
RATE_REMAINING = TABLE.gauge(
    Source.RELAY,
    "taximeter_ratelimit_remaining",
    "What is left of an upstream's own rate limit, as its last answer told it.",
    "upstream",
    "model",
    "resource",
)
RATE_TOLD = TABLE.gauge(
    Source.RELAY,
    "taximeter_ratelimit_told_timestamp_seconds",
    "When that answer came, seconds since the epoch.",
    "upstream",
    "model",
    "resource",
)

# The processes -----------------------------------------------------------------------------------

BUILD = TABLE.family(
    Kind.INFO, Source.SUPERVISOR, "taximeter_build", "What runs.", "version", "python"
)
CONFIG_GOOD = TABLE.gauge(
    Source.SUPERVISOR,
    "taximeter_config_last_reload_successful",
    "1 if the configuration was taken when it was last to be read; 0 if the one before still "
    "holds because the file cannot be.",
)
CONFIG_TIME = TABLE.gauge(
    Source.SUPERVISOR,
    "taximeter_config_last_reload_success_timestamp_seconds",
    "When the configuration in effect was taken, seconds since the epoch.",
)
UP = TABLE.gauge(
    Source.SUPERVISOR,
    "taximeter_process_up",
    "1 if a process runs, does its work and answers; else 0.",
    "process",
)
RESTARTS = TABLE.counter(
    Source.SUPERVISOR,
    "taximeter_process_restarts",
    "Times that a process had to be started again.",
    "process",
)
CPU = TABLE.counter(
    Source.SUPERVISOR,
    "process_cpu_seconds",
    "User and system CPU time of a process.",
    "process",
)
RESIDENT = TABLE.gauge(
    Source.SUPERVISOR, "process_resident_memory_bytes", "Resident memory of a process.", "process"
)
OPEN_FDS = TABLE.gauge(
    Source.SUPERVISOR, "process_open_fds", "Open file descriptors of a process.", "process"
)
MAX_FDS = TABLE.gauge(
    Source.SUPERVISOR, "process_max_fds", "File descriptors that a process may open.", "process"
)
STARTED = TABLE.gauge(
    Source.SUPERVISOR,
    "process_start_time_seconds",
    "When a process started, seconds since the epoch.",
    "process",
)
