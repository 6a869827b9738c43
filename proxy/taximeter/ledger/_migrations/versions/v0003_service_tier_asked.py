"""The service tier asked for, apart from the one answered, which alone is priced."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. It is NULL in the rows there are, so neither engine rewrites the table.

    In those rows `service_tier` may be the one asked for: nothing in them tells the two apart.
    """
    op.add_column("calls", sa.Column("service_tier_asked", sa.Text))
