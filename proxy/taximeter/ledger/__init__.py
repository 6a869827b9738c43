"""The ledger: who called what, what it used, what it cost, where the time went. In SQL.

`Ledger` is opened by URL, on SQLite (the embedded default) or PostgreSQL. The recorder
writes to it in batches (`Batch`, `Entry`), each one transaction that also moves the journals'
positions, so every call is booked exactly once. Everyone else reads: calls (`CallFilter`,
`CallView`) and reports (`ReportRow`). The tables are described in docs/ledger.md.
"""

from taximeter.ledger._commit import ENTRIES_MAX, Batch, Committed, Note
from taximeter.ledger._errors import LeaseLost, LedgerError, LedgerSchemaError, LedgerUnavailable
from taximeter.ledger._keyed import KeyedSums
from taximeter.ledger._ledger import Ledger
from taximeter.ledger._migrate import SchemaState
from taximeter.ledger._queries import CallFilter
from taximeter.ledger._report import DIMENSIONS, ERRORS, ReportRow
from taximeter.ledger._rollup import SumKey, Sums
from taximeter.ledger._rows import Entry
from taximeter.ledger._state import Parked, Position, RecorderState
from taximeter.ledger._upkeep import Repriced, RepriceSummary
from taximeter.ledger._views import CallView, usd, utc_text

__all__ = [
    "DIMENSIONS",
    "ENTRIES_MAX",
    "ERRORS",
    "Batch",
    "CallFilter",
    "CallView",
    "Committed",
    "Entry",
    "KeyedSums",
    "LeaseLost",
    "Ledger",
    "LedgerError",
    "LedgerSchemaError",
    "LedgerUnavailable",
    "Note",
    "Parked",
    "Position",
    "RecorderState",
    "ReportRow",
    "RepriceSummary",
    "Repriced",
    "SchemaState",
    "SumKey",
    "Sums",
    "usd",
    "utc_text",
]
