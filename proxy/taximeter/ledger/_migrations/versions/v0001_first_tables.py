"""The first tables.

Like every migration this stands for itself: it says what was made then, whatever the tables
have become since.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

CALL_ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
TEXT = sa.Text()
BIG = sa.BigInteger()


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "attempts",
        sa.Column("call_id", CALL_ID, nullable=False),
        sa.Column("number", BIG, autoincrement=False, nullable=False),
        sa.Column("upstream", TEXT, nullable=False),
        sa.Column("started_ns", BIG, nullable=False),
        sa.Column("connected_ns", BIG),
        sa.Column("sent_ns", BIG),
        sa.Column("first_byte_ns", BIG),
        sa.Column("ended_ns", BIG),
        sa.Column("reused", sa.Boolean(), nullable=False),
        sa.Column("status", BIG),
        sa.Column("error", TEXT),
        sa.PrimaryKeyConstraint("call_id", "number"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "calls",
        sa.Column("id", CALL_ID, nullable=False),
        sa.Column("started_at_ns", BIG, nullable=False),
        sa.Column("user_name", TEXT),
        sa.Column("team", TEXT),
        sa.Column("session", TEXT),
        sa.Column("tags", JSON),
        sa.Column("user_source", TEXT),
        sa.Column("key_hash", TEXT),
        sa.Column("upstream", TEXT),
        sa.Column("provider", TEXT),
        sa.Column("dialect", TEXT),
        sa.Column("method", TEXT, nullable=False),
        sa.Column("path", TEXT, nullable=False),
        sa.Column("operation", TEXT, nullable=False),
        sa.Column("model", TEXT),
        sa.Column("response_model", TEXT),
        sa.Column("service_tier", TEXT),
        sa.Column("stream", sa.Boolean(), nullable=False),
        sa.Column("status", BIG),
        sa.Column("outcome", TEXT, nullable=False),
        sa.Column("error", TEXT),
        sa.Column("finish_reason", TEXT),
        sa.Column("response_id", TEXT),
        sa.Column("input_tokens", BIG),
        sa.Column("output_tokens", BIG),
        sa.Column("cached_tokens", BIG),
        sa.Column("cache_write_tokens", BIG),
        sa.Column("reasoning_tokens", BIG),
        sa.Column("usage_more", JSON),
        sa.Column("usage_source", TEXT, nullable=False),
        sa.Column("count_rule", TEXT),
        sa.Column("raw_usage", TEXT),
        sa.Column("cost_pico", BIG),
        sa.Column("price", TEXT),
        sa.Column("price_rates", TEXT),
        sa.Column("price_variant", JSON),
        sa.Column("booked_on", CALL_ID),
        sa.Column("fetched", sa.Boolean(), nullable=False),
        sa.Column("attempt_count", BIG, nullable=False),
        sa.Column("stage_receive_ns", BIG),
        sa.Column("stage_queue_ns", BIG),
        sa.Column("stage_connect_ns", BIG),
        sa.Column("stage_first_byte_ns", BIG),
        sa.Column("stage_first_token_ns", BIG),
        sa.Column("stage_stream_ns", BIG),
        sa.Column("stage_settle_ns", BIG),
        sa.Column("duration_ns", BIG),
        sa.Column("time_to_first_token_ns", BIG),
        sa.Column("gaps", JSON),
        sa.Column("events", BIG, nullable=False),
        sa.Column("request_bytes", BIG, nullable=False),
        sa.Column("response_bytes", BIG, nullable=False),
        sa.Column("facts", JSON),
        sa.Column("trace_id", TEXT),
        sa.Column("parent_span_id", TEXT),
        sa.Column("client_request_id", TEXT),
        sa.Column("client_retry", BIG),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "calls_by_fetched_response",
        "calls",
        ["response_id"],
        sqlite_where=sa.text("fetched"),
        postgresql_where=sa.text("fetched"),
    )
    op.create_index("calls_by_model", "calls", ["model", "started_at_ns", "id"])
    op.create_index(
        "calls_by_response",
        "calls",
        ["response_id", "id"],
        sqlite_where=sa.text("response_id IS NOT NULL"),
        postgresql_where=sa.text("response_id IS NOT NULL"),
    )
    op.create_index(
        "calls_by_session",
        "calls",
        ["session", "started_at_ns", "id"],
        sqlite_where=sa.text("session IS NOT NULL"),
        postgresql_where=sa.text("session IS NOT NULL"),
    )
    op.create_index("calls_by_time", "calls", ["started_at_ns", "id"])
    op.create_index("calls_by_user", "calls", ["user_name", "started_at_ns", "id"])
    op.create_table(
        "hourly",
        sa.Column("hour", BIG, autoincrement=False, nullable=False),
        sa.Column("digest", sa.LargeBinary(length=16), nullable=False),
        sa.Column("user_name", TEXT, nullable=False),
        sa.Column("team", TEXT, nullable=False),
        sa.Column("upstream", TEXT, nullable=False),
        sa.Column("provider", TEXT, nullable=False),
        sa.Column("model", TEXT, nullable=False),
        sa.Column("operation", TEXT, nullable=False),
        sa.Column("outcome", TEXT, nullable=False),
        sa.Column("calls", BIG, nullable=False),
        sa.Column("attempts", BIG, nullable=False),
        sa.Column("input_tokens", BIG, nullable=False),
        sa.Column("output_tokens", BIG, nullable=False),
        sa.Column("cached_tokens", BIG, nullable=False),
        sa.Column("reasoning_tokens", BIG, nullable=False),
        sa.Column("cost_micro_usd", BIG, nullable=False),
        sa.Column("cost_rest_pico", BIG, nullable=False),
        sa.Column("unpriced", BIG, nullable=False),
        sa.Column("estimated", BIG, nullable=False),
        sa.Column("partial", BIG, nullable=False),
        sa.Column("absent", BIG, nullable=False),
        sa.Column("duration_us", BIG, nullable=False),
        sa.Column("duration_count", BIG, nullable=False),
        sa.Column("first_token_us", BIG, nullable=False),
        sa.Column("first_token_count", BIG, nullable=False),
        sa.PrimaryKeyConstraint("hour", "digest"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "leases",
        sa.Column("scope", TEXT, nullable=False),
        sa.Column("number", BIG, nullable=False),
        sa.Column("owner", TEXT, nullable=False),
        sa.Column("taken_at_ns", BIG, nullable=False),
        sa.PrimaryKeyConstraint("scope"),
    )
    op.create_table(
        "notes",
        sa.Column("scope", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "name"),
    )
    op.create_table(
        "parked",
        sa.Column("call_id", CALL_ID, nullable=False),
        sa.Column("scope", TEXT, nullable=False),
        sa.Column("journal", TEXT, nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("call_id"),
    )
    op.create_table(
        "positions",
        sa.Column("journal", TEXT, nullable=False),
        sa.Column("scope", TEXT, nullable=False),
        sa.Column("segment", BIG, nullable=False),
        sa.Column("byte_offset", BIG, nullable=False),
        sa.PrimaryKeyConstraint("journal"),
    )
    op.create_table(
        "rejects",
        sa.Column("call_id", TEXT, nullable=False),
        sa.Column("rejected_at_ns", BIG, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("record", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("call_id"),
    )
    # The lease nobody holds: its row must be there to be locked.
    op.execute("INSERT INTO leases (scope, number, owner, taken_at_ns) VALUES ('', 0, '', 0)")
