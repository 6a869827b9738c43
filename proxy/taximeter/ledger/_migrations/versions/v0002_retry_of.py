"""Which earlier call a client made again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

CALL_ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")


def upgrade() -> None:
    """Add the column. It is NULL in the rows there are, so neither engine rewrites the table."""
    op.add_column("calls", sa.Column("retry_of", CALL_ID))
