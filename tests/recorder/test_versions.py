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

from taximeter.call import Closed, Counted, Opened, Outcome
from taximeter.journal import JournalWriter
from taximeter.recorder._follow import decoded
from taximeter.records import decode_record
from tests.recorder.make import World

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
