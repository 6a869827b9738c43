"""Records of other versions: what has been written once is read for ever, and what is new passes.

Each of `formats/records-*.json` is made of one version's own bytes. It is never edited: a format
that changes gets a file of its own beside it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from taximeter.call import Closed, Counted, Fact, Opened, Outcome, Stage, Usage
from taximeter.journal import JournalWriter
from taximeter.recorder import Bookkeeping
from taximeter.recorder._follow import decoded
from taximeter.records import decode_record, encode_record
from tests.ledger.make import execute, rows
from tests.recorder.make import World, book, call_id, closed, opened, whole, write

FORMATS = sorted((Path(__file__).parent / "formats").glob("records-*.json"))


def lines(path: Path) -> list[dict[str, Any]]:
    """Give a file's records: their bytes, and what they say."""
    return list(json.loads(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", FORMATS, ids=lambda path: path.stem)
def test_a_record_that_was_written_once_says_the_same_for_ever(path: Path) -> None:
    """L3, D11: the bytes of every version's records are read as what they were written as."""
    kinds = set()
    for line in lines(path):
        record = decode_record(bytes.fromhex(line["record"]))
        assert msgspec.to_builtins(record) == line["says"]
        kinds.add(type(record))
    assert kinds == {Opened, Closed, Counted}


@pytest.mark.parametrize("path", FORMATS, ids=lambda path: path.stem)
def test_a_journal_of_an_older_version_is_booked(path: Path, world: World) -> None:
    """L3: a relay of before leaves its journal to a recorder of now, which books each call once."""
    writer = JournalWriter.begin(world.root, 0)
    for line in lines(path):
        writer.append(bytes.fromhex(line["record"]))
    writer.close()
    world.record()
    closed = [line["says"] for line in lines(path) if "outcome" in line["says"]]
    views = world.calls()
    assert len(views) == len(closed)
    for said in closed:
        view = views[said["opened"]["call_id"]]
        assert (view.outcome, view.status) == (said["outcome"], said.get("status"))
    assert sum(view.outcome == Outcome.COMPLETED for view in views.values()) == 1


def test_fields_of_a_later_version_are_passed_over() -> None:
    """L3, D11: going back a version loses what only the newer one knows, and no call."""
    kinds = set()
    for line in (line for path in FORMATS for line in lines(path)):
        fields = msgspec.msgpack.decode(bytes.fromhex(line["record"]))
        if isinstance(fields, list):
            fields += [{"deep": [1, 2]}, None]
        else:
            fields |= {"a_field_of_tomorrow": {"deep": [1, 2]}, "another": None}
        record = decode_record(msgspec.msgpack.encode(fields))
        assert msgspec.to_builtins(record) == line["says"]
        kinds.add(type(fields))
    assert kinds == {dict, list}


def test_an_end_in_few_words_is_no_record_without_its_beginning() -> None:
    """D11: an `Answered` with rubbish where its `Opened` stands, or cut short, is told as none."""
    (line,) = (one for one in lines(FORMATS[1]) if one["record"].startswith("dc"))
    tag, _, *rest = msgspec.msgpack.decode(bytes.fromhex(line["record"]))
    beginnings: list[object] = [None, 7, [], {}, b"\x81", {"type": "o"}, {"type": "c"}]
    for rubbish in beginnings:
        assert decoded(msgspec.msgpack.encode([tag, rubbish, *rest])) is None
        assert decoded(msgspec.msgpack.encode([tag])) is None
    assert decoded(b"\xdc") is decoded(b"\xdc\x00\x10\xa1a\xc1") is None


def newer(record: Closed, **change: object) -> bytes:
    """Give a record with words of tomorrow in it."""
    return msgspec.msgpack.encode(msgspec.msgpack.decode(encode_record(record)) | change)


def test_a_record_with_a_new_fact_or_stage_is_booked_without_it(world: World) -> None:
    """L3: a word that only a newer relay knows costs neither the record nor what else it says."""
    writer = world.writer([opened(1)])
    writer.append(newer(closed(1), facts=["brand_new", "free"]))
    writer.append(newer(closed(2), stages={"brand_new": 5, "queue": 7}))
    writer.close()
    recorder = world.record()
    assert (recorder.stats.unreadable_records, recorder.stats.rejected) == (0, 0)
    first, second = (world.calls()[call_id(number)] for number in (1, 2))
    assert (first.outcome, first.facts) == (Outcome.COMPLETED, (str(Fact.FREE),))
    assert (second.outcome, second.stages) == (Outcome.COMPLETED, {Stage.QUEUE: 7})


def test_a_record_that_cannot_be_read_is_set_aside(world: World) -> None:
    """L3: what has no meaning here is kept as it is, once, and its call is not called a death."""
    strange = newer(closed(1), outcome="brand_new"), newer(closed(2), usage_source="new"), b"\xc1"
    writer = world.writer([opened(1), opened(9)])
    for record in strange:
        writer.append(record)
    recorder = world.recorder()
    book(recorder)
    assert {bytes(row["record"]) for row in rows(world.ledger, "rejects")} == set(strange)
    recorder.close()
    write(writer, *whole([3]))
    writer.close()
    recorder = world.record()
    assert len(rows(world.ledger, "rejects")) == recorder.stats.rejected == 3
    assert {row["reason"] for row in rows(world.ledger, "rejects")} == {"unreadable_record"}
    assert world.numbers(Outcome.COMPLETED) == [3]
    assert [world.calls()[call_id(number)].error for number in (1, 9)] == ["journal_damaged"] * 2


def test_a_row_with_a_figure_of_a_newer_program_is_read(world: World) -> None:
    """L3: a figure without a name here is passed over, by lists and by pricing again."""
    world.journal(*whole([1]))
    world.record()
    more = '{"images": 3, "video_seconds": 3}'
    execute(world.ledger, "UPDATE calls SET usage_more = :more", more=more)
    (view,) = world.ledger.calls()
    assert view.usage == Usage(input_tokens=1, output_tokens=1, images=3)
    assert world.ledger.reprice(Bookkeeping(world.settings).price_again).changed == 0
