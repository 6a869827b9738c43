"""The reference part of docs/ledger.md, written from the tables themselves."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, LargeBinary, Table

from taximeter.ledger._schema import CallId, Json, metadata

_BEGIN = "<!-- What follows is made by `make docs` from the tables themselves. Do not edit. -->"

_ORDER = ("calls", "attempts", "hourly", "rejects", "positions", "parked", "notes", "leases")


def with_tables(page: str) -> str:
    """Give the page with its reference part made anew; what stands before it stays."""
    said = page.partition(_BEGIN)[0]
    tables = "\n".join(_section(metadata.tables[name]) for name in _ORDER)
    return f"{said}{_BEGIN}\n\n{tables}"


def _section(table: Table) -> str:
    lines = [f"### `{table.name}`", "", table.info["doc"], ""]
    lines += ["| column | type | what it holds |", "| --- | --- | --- |"]
    for column in table.columns:
        doc = (column.doc or "").replace("|", "\\|")
        lines.append(f"| `{column.name}` | {_kind(column)} | {doc} |")
    indexes = sorted(table.indexes, key=lambda each: each.name or "")
    if indexes:
        lines.append("")
    for index in indexes:
        columns = ", ".join(f"`{column.name}`" for column in index.columns)
        where = index.dialect_options["sqlite"].get("where")
        only = "" if where is None else f", only where `{where}`"
        lines.append(f"- index `{index.name}` on {columns}{only}")
    return "\n".join([*lines, ""])


def _kind(column: Column[object]) -> str:
    if column.type is CallId:
        kind = "uuid"
    elif column.type is Json:
        kind = "JSON"
    elif isinstance(column.type, BigInteger):
        kind = "bigint"
    elif isinstance(column.type, Boolean):
        kind = "boolean"
    elif isinstance(column.type, LargeBinary):
        kind = "bytes"
    else:
        kind = "text"
    marks = ", key" if column.primary_key else "" if column.nullable else ", not null"
    return kind + marks
