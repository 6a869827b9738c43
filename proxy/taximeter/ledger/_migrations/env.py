"""What Alembic runs to migrate: on the connection, and in the transaction, it is handed."""

from __future__ import annotations

from typing import Any

from alembic import context

from taximeter.ledger._schema import metadata


def _tell(ctx: object, step: Any, heads: object, run_args: object) -> None:
    progress = context.config.attributes.get("progress")
    if progress is not None:
        progress(step.up_revision_id)


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # Alembic takes SQLite for an engine that cannot roll back tables. It can.
    transactional_ddl=True,
    on_version_apply=_tell,
)
with context.begin_transaction():
    context.run_migrations()
