"""The tables, as metadata. Each column's `doc` is its line in docs/ledger.md.

Conventions, everywhere:

* Times are BIGINT nanoseconds since the epoch, UTC; durations are nanoseconds, or
  microseconds where they are summed. The unit is in the name.
* Money is BIGINT pico-dollars. A sum of them can pass 2**63 (nine million dollars), so sums
  are kept and taken in two parts, whole micro-dollars and the rest (see `_rollup`).
* NULL is unknown, 0 is nought. In the keys of `hourly` an unknown name is '' instead, for
  NULL is equal to nothing, itself included.
* Ids are UUIDv7 in their printed form: native `uuid` on PostgreSQL, 36 characters on SQLite,
  so that an id copied from a response's header finds its row on either.
* A user's column is `user_name`: in PostgreSQL a bare `user` is the database's own role, and
  a query that forgets the quotes would give wrong answers rather than fail.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Index,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects import postgresql

from taximeter.call import Stage

metadata = MetaData()

CallId = String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")
Json = JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def _text(name: str, doc: str, nullable: bool = True) -> Column[str]:
    return Column(name, Text, nullable=nullable, doc=doc)


def _big(name: str, doc: str, nullable: bool = True) -> Column[int]:
    return Column(name, BigInteger, nullable=nullable, doc=doc)


_STAGE_DOCS = {
    Stage.RECEIVE: "Request read, caller and target identified",
    Stage.QUEUE: "Waiting for limits and the fair queue",
    Stage.CONNECT: "Getting a connection, with attempts that failed",
    Stage.FIRST_BYTE: "Request sent, head of the answer awaited",
    Stage.FIRST_TOKEN: "From the head to the first token",
    Stage.STREAM: "From the first token (or the head) to the last byte",
    Stage.SETTLE: "Usage taken, call closed",
}

calls = Table(
    "calls",
    metadata,
    Column("id", CallId, primary_key=True, doc="The call's id, as in `x-taximeter-call-id`."),
    _big("started_at_ns", "When the call was accepted, ns since the epoch, UTC.", False),
    _text("user_name", "Who made the call; NULL if nobody said."),
    _text("team", "The user's team."),
    _text("session", "The session the call belongs to."),
    Column("tags", Json, doc="Tags as a JSON object of strings; NULL if there are none."),
    _text("user_source", "What named the user: `header`, `baggage`, `body`, `key`."),
    _text("key_hash", "Keyed hash of the credential, never the credential."),
    _text("upstream", "Name of the upstream in the configuration."),
    _text("provider", "Whose prices apply."),
    _text("dialect", "The API family: `openai`, `anthropic`, `gemini`, `ollama`."),
    _text("method", "HTTP method.", False),
    _text("path", "Path below the upstream's base, without its query.", False),
    _text("operation", "What was asked for: `chat`, `embeddings`, ...", False),
    _text("model", "Model as asked for; where the request names none, as answered."),
    _text("response_model", "Model as answered; the one that is priced."),
    _text("service_tier", "Service tier as answered; the one that is priced."),
    Column("stream", Boolean, nullable=False, doc="The client asked for a stream."),
    Column("status", BigInteger, doc="HTTP status the client was given; NULL if none was."),
    _text("outcome", "How the call ended; one word of a closed set.", False),
    _text("error", "Error code on failure: the upstream's own, or one of ours."),
    _text("finish_reason", "Why the model stopped, in the upstream's word."),
    _text("response_id", "The upstream's id of the generation."),
    _big("input_tokens", "All input tokens, cached ones included."),
    _big("output_tokens", "All output tokens, reasoning included."),
    _big("cached_tokens", "Input tokens read from a cache; part of `input_tokens`."),
    _big("cache_write_tokens", "Input tokens written to a cache; part of `input_tokens`."),
    _big("reasoning_tokens", "Hidden reasoning; part of `output_tokens`."),
    Column("usage_more", Json, doc="Rarer figures (audio, images, searches) as a JSON object."),
    _text("usage_source", "`reported`, `partial`, `estimated` or `absent`.", False),
    _text("count_rule", "How estimated tokens were counted."),
    _text("raw_usage", "The upstream's usage object as it came: numbers and enum words."),
    _big("cost_pico", "Cost in pico-dollars (1e-12 USD), exact; NULL if unknown."),
    _text("price", "The price the cost was made with, or why there is none."),
    _text("price_rates", "The rates of that price, as JSON."),
    Column("price_variant", Json, doc="Further context of the price, such as a speed."),
    Column("booked_on", CallId, doc="The call that bears this generation's cost, if another does."),
    Column(
        "fetched",
        Boolean,
        nullable=False,
        doc="The call fetched an answer that an earlier call had made.",
    ),
    Column("attempt_count", BigInteger, nullable=False, doc="Attempts made upstream; 0 if none."),
    *(
        _big(f"stage_{stage}_ns", f"{doc}, ns; NULL if not reached.")
        for stage, doc in _STAGE_DOCS.items()
    ),
    _big("duration_ns", "The whole call, ns: the sum of its stages; NULL if not known."),
    _big("time_to_first_token_ns", "From acceptance to the first token, ns; NULL if none came."),
    Column("gaps", Json, doc="Gaps between tokens: `count`, `sum_ns`, `max_ns`, `buckets`."),
    _big("events", "Events (SSE) or lines (NDJSON) of the stream.", False),
    _big("request_bytes", "Body bytes received from the client.", False),
    _big("response_bytes", "Body bytes received from the upstream.", False),
    Column("facts", Json, doc="Further facts, as a JSON list of words; NULL if there are none."),
    _text("trace_id", "W3C trace id, 32 hexadecimal digits."),
    _text("parent_span_id", "The caller's span, 16 hexadecimal digits."),
    _text("client_request_id", "The client's own id of the request."),
    Column("client_retry", BigInteger, doc="The client's own count of retries."),
    Column(
        "retry_of",
        CallId,
        doc="The earlier call that the client made again with this one; NULL if none is known.",
    ),
    _text("service_tier_asked", "Service tier as asked for; it has no say in the price."),
    Index("calls_by_time", "started_at_ns", "id"),
    Index("calls_by_user", "user_name", "started_at_ns", "id"),
    Index("calls_by_model", "model", "started_at_ns", "id"),
    info={"doc": "One row a call. The row is whole: nothing is kept elsewhere but its attempts."},
)
Index(
    "calls_by_session",
    calls.c.session,
    calls.c.started_at_ns,
    calls.c.id,
    sqlite_where=text("session IS NOT NULL"),
    postgresql_where=text("session IS NOT NULL"),
)
Index(
    "calls_by_response",
    calls.c.response_id,
    calls.c.id,
    sqlite_where=text("response_id IS NOT NULL"),
    postgresql_where=text("response_id IS NOT NULL"),
)
Index(
    "calls_by_fetched_response",
    calls.c.response_id,
    sqlite_where=text("fetched"),
    postgresql_where=text("fetched"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("call_id", CallId, primary_key=True, doc="The call."),
    Column(
        "number", BigInteger, primary_key=True, autoincrement=False, doc="1 for the first attempt."
    ),
    _text("upstream", "The upstream tried.", False),
    _big("started_ns", "Begin, ns after the call's start.", False),
    _big("connected_ns", "Connection had, ns after the call's start; NULL if not reached."),
    _big("sent_ns", "Request written, ns after the call's start."),
    _big("first_byte_ns", "Head of the answer begun, ns after the call's start."),
    _big("ended_ns", "End, ns after the call's start."),
    Column("reused", Boolean, nullable=False, doc="The connection came from the pool."),
    Column("status", BigInteger, doc="HTTP status the upstream gave; NULL if none."),
    _text("error", "What went wrong; NULL when an answer was had."),
    info={"doc": "One row an attempt: each try upstream that a call made."},
    sqlite_with_rowid=False,
)

hourly = Table(
    "hourly",
    metadata,
    Column(
        "hour",
        BigInteger,
        primary_key=True,
        autoincrement=False,
        doc="Start of the hour in which the calls were accepted, seconds since the epoch, UTC.",
    ),
    Column(
        "digest",
        LargeBinary(16),
        primary_key=True,
        doc="Digest of the names below: a key of bounded size.",
    ),
    *(
        _text(name, "As in `calls`; '' if unknown.", False)
        for name in (
            "user_name",
            "team",
            "upstream",
            "provider",
            "model",
            "operation",
            "outcome",
        )
    ),
    _big("calls", "Number of calls.", False),
    _big("attempts", "Attempts they made.", False),
    _big("input_tokens", "Sum of the known input tokens.", False),
    _big("output_tokens", "Sum of the known output tokens.", False),
    _big("cached_tokens", "Sum of the known cached tokens.", False),
    _big("reasoning_tokens", "Sum of the known reasoning tokens.", False),
    _big("cost_micro_usd", "Sum of the whole micro-dollars of the known costs.", False),
    _big(
        "cost_rest_pico",
        "Sum of what those leave over, pico-dollars: cost = micro * 1,000,000 + rest.",
        False,
    ),
    _big("unpriced", "Calls whose cost is unknown (NULL).", False),
    _big("estimated", "Calls whose tokens were counted by us.", False),
    _big("partial", "Calls whose usage is what was reported before the stream broke off.", False),
    _big("absent", "Calls whose usage nobody knows.", False),
    _big("duration_us", "Sum of the known durations, microseconds.", False),
    _big("duration_count", "Calls with a known duration.", False),
    _big("first_token_us", "Sum of the known times to the first token, microseconds.", False),
    _big("first_token_count", "Calls with a known time to the first token.", False),
    info={"doc": "Sums by the hour, always equal to what `calls` adds up to. Pruning keeps them."},
    sqlite_with_rowid=False,
)

positions = Table(
    "positions",
    metadata,
    Column("journal", Text, primary_key=True, doc="Name of the journal."),
    _text("scope", "The folder of journals it lies in.", False),
    _big("segment", "Number of the segment read.", False),
    _big("byte_offset", "Bytes of it that are booked.", False),
    info={"doc": "How far each journal is booked; committed together with the rows."},
)

parked = Table(
    "parked",
    metadata,
    Column("call_id", CallId, primary_key=True, doc="The call under way."),
    _text("scope", "The folder of journals that one lies in.", False),
    _text("journal", "The journal its opening was read from.", False),
    Column("record", LargeBinary, nullable=False, doc="Its opening record (no content)."),
    info={"doc": "Calls whose opening has been read and whose end has not."},
)

rejects = Table(
    "rejects",
    metadata,
    Column(
        "call_id",
        Text,
        primary_key=True,
        doc="The call's id, as the record gives it; `unreadable#` and a digest, if it gives none.",
    ),
    _big("rejected_at_ns", "When it was set aside, ns since the epoch, UTC.", False),
    _text("reason", "Code of the fault.", False),
    Column("record", LargeBinary, doc="The record (no content); NULL if it cannot be encoded."),
    info={"doc": "Records the database would not take, set aside so that the rest could go on."},
)

notes = Table(
    "notes",
    metadata,
    Column("scope", Text, primary_key=True, doc="The folder of journals the recorder reads."),
    Column("name", Text, primary_key=True, doc="Name of the note."),
    Column("value", LargeBinary, nullable=False, doc="The recorder's own state."),
    info={"doc": "State of the recorder that must agree with the rows, such as its counters."},
)

leases = Table(
    "leases",
    metadata,
    Column(
        "scope",
        Text,
        primary_key=True,
        doc="The folder of journals whose recorder this is; '' is there for the lock.",
    ),
    _big("number", "Number of the present lease; every commit carries it.", False),
    _text("owner", "Who took it.", False),
    _big("taken_at_ns", "When, ns since the epoch, UTC.", False),
    info={
        "doc": "Who may book which journals. The row of the scope '' is the lock under which all "
        "writing is done."
    },
)

CALL_COLUMNS: tuple[str, ...] = tuple(column.name for column in calls.columns)
"""The order in which `_rows` builds a row."""
ATTEMPT_COLUMNS: tuple[str, ...] = tuple(column.name for column in attempts.columns)
STAGE_COLUMNS: dict[Stage, str] = {stage: f"stage_{stage}_ns" for stage in _STAGE_DOCS}
assert tuple(STAGE_COLUMNS) == tuple(Stage), "columns of the stages stand in the stages' order"
