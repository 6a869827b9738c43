"""Makes records as the relay would, journals that hold them, and recorders that book them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from taximeter.call import Attempt, Closed, Counted, Fact, Opened, Outcome, Usage, UsageSource
from taximeter.journal import JournalWriter, root_of
from taximeter.ledger import CallView, Ledger
from taximeter.recorder import Recorder
from taximeter.records import Record, encode_record
from taximeter.settings import Settings

T0 = 1_790_000_000_000_000_000
"""A moment in 2026, nanoseconds since the epoch."""

PRICES = [
    {
        "provider": "*",
        "model": "fake-1",
        "input_usd_per_million": "1",
        "output_usd_per_million": "2",
    }
]


def call_id(number: int) -> str:
    """Give the id of a call by its number."""
    return f"019f0000-0000-7000-8000-{number:012x}"


def opened(number: int, **more: Any) -> Opened:
    """Make the beginning of a call."""
    values = {
        "call_id": call_id(number),
        "started_at_ns": T0 + number,
        "upstream": "openai",
        "dialect": "openai",
        "method": "POST",
        "path": "/v1/chat/completions",
        "operation": "chat",
        "model": "fake-1",
        "user": f"u{number % 3}",
    }
    return Opened(**{**values, **more})


def attempt(**more: Any) -> Attempt:
    """Make an attempt that was answered."""
    values = {"number": 1, "upstream": "openai", "started_ns": 1, "sent_ns": 2, "status": 200}
    return Attempt(**{**values, **more})


def closed(number: int, *, begun: Opened | None = None, **more: Any) -> Closed:
    """Make the end of a call; by default as many tokens in as its number says, one out."""
    values = {
        "opened": begun or opened(number),
        "outcome": Outcome.COMPLETED,
        "status": 200,
        "attempts": [attempt()],
        "usage": Usage(input_tokens=number, output_tokens=1),
        "usage_source": UsageSource.REPORTED,
    }
    return Closed(**{**values, **more})


def pending(number: int, **more: Any) -> Closed:
    """Make the end of a call whose tokens are still being counted."""
    values = {
        "usage": None,
        "usage_source": UsageSource.ABSENT,
        "facts": [Fact.COUNT_PENDING],
        "text_bytes_in": 40,
        "text_bytes_out": 4,
    }
    return closed(number, **{**values, **more})


def counted(number: int) -> Counted:
    """Make the count that follows `pending`."""
    return Counted(call_id=call_id(number), input_tokens=7, output_tokens=3, rule="o200k_base")


class World:
    """A data folder with journals and a ledger, and recorders that come and go."""

    def __init__(self, data_dir: Path, ledger_url: str | None = None) -> None:
        self.data_dir = data_dir
        self.root = root_of(data_dir)
        self.now = 1000.0
        self.settings = self.configure(ledger_url)
        self.ledger = Ledger.open(self.settings.ledger_url)

    def configure(self, ledger_url: str | None = None, **more: Any) -> Settings:
        values: dict[str, Any] = {
            "data_dir": self.data_dir,
            "prices": PRICES,
            "recorder": {"poll_milliseconds": 5, "park_seconds": 30, "count_wait_seconds": 30},
            **more,
        }
        if ledger_url is not None:
            values["ledger"] = ledger_url
        return Settings.model_validate(values)

    def writer(self, records: Iterable[Record] = (), **options: Any) -> JournalWriter:
        """Begin a journal and write records into it; the writer lives on."""
        writer = JournalWriter.begin(self.root, 0, **options)
        write(writer, *records)
        return writer

    def journal(self, *records: Record, **options: Any) -> Path:
        """Make the journal of a worker that is gone."""
        writer = self.writer(records, **options)
        writer.close()
        return writer.directory

    def recorder(self) -> Recorder:
        """Make a recorder that has begun."""
        recorder = Recorder(self.settings, clock=lambda: self.now)
        recorder.begin()
        return recorder

    def record(self) -> Recorder:
        """Have a recorder come, book what there is, and go."""
        recorder = self.recorder()
        book(recorder)
        recorder.close()
        return recorder

    def calls(self) -> dict[str, CallView]:
        found = list(self.ledger.calls())
        assert len({view.id for view in found}) == len(found)
        return {view.id: view for view in found}

    def numbers(self, outcome: Outcome | None = None) -> list[int]:
        """Give the numbers of the calls in the ledger, those with an outcome if one is given."""
        return sorted(
            int(view.id[-12:], 16)
            for view in self.calls().values()
            if outcome is None or view.outcome == outcome
        )

    def assert_sums(self) -> None:
        """Check that the hourly sums are those of the rows: nothing was booked twice."""
        views = self.calls().values()
        known = [view.cost_pico for view in views if view.cost_pico is not None]
        rows = self.ledger.report()
        assert len(rows) <= 1
        assert sum(row.calls for row in rows) == len(views)
        assert sum(row.cost_pico for row in rows) == sum(known)


def write(writer: JournalWriter, *records: Record) -> None:
    """Append records."""
    for record in records:
        writer.append(encode_record(record))


def book(recorder: Recorder, passes_max: int = 1000) -> None:
    """Make passes until there is nothing to do."""
    for _ in range(passes_max):
        if not recorder.step().busy:
            return
    raise AssertionError("the recorder goes on and on")


def whole(numbers: Sequence[int]) -> list[Record]:
    """Give beginnings and ends of calls."""
    records: list[Record] = []
    for number in numbers:
        records += [opened(number), closed(number)]
    return records
