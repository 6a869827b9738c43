"""Rows that no table can hold are set aside; whatever strangers write, theirs goes in."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from taximeter.call import Attempt, Usage
from taximeter.ledger import (
    Entry,
    Ledger,
    Parked,
    Position,
)
from taximeter.records import decode_record, encode_record
from tests.ledger.make import (
    assert_sums_agree,
    commit,
    entry,
    execute,
    rows,
)


def _too_many_tokens() -> Entry:
    return entry(usage=Usage(input_tokens=2**41))


def _too_dear() -> Entry:
    return entry(cost_pico=2**63)


def _negative() -> Entry:
    return entry(usage=Usage(output_tokens=-1))


def _no_id() -> Entry:
    return entry(id="not-a-call-id")


@pytest.mark.parametrize("make", [_too_many_tokens, _too_dear, _negative, _no_id])
def test_a_row_no_table_can_hold_is_set_aside(ledger: Ledger, make: Any) -> None:
    """D8: a poison row goes to the rejects with its record, and the rest go on."""
    bad = make()
    good = [entry() for _ in range(4)]
    committed = commit(ledger, *good[:2], bad, *good[2:])
    assert committed.inserted == {each.call_id for each in good}
    assert set(committed.rejected) == {bad.call_id}
    (reject,) = rows(ledger, "rejects")
    assert reject["call_id"] == bad.call_id
    assert reject["reason"] == committed.rejected[bad.call_id]
    assert decode_record(bytes(reject["record"])) == bad.closed
    assert_sums_agree(ledger)
    commit(ledger, bad)
    assert len(rows(ledger, "rejects")) == 1


def test_a_row_the_database_refuses_is_found_by_halving(ledger: Ledger) -> None:
    """D8: the one row the database will not take is set aside, with a fault nobody foresaw."""
    if ledger.place.startswith("sqlite"):
        execute(
            ledger,
            "CREATE TRIGGER refuse BEFORE INSERT ON calls WHEN NEW.user_name = 'eve' "
            "BEGIN SELECT RAISE(ABORT, 'no'); END",
        )
    else:
        execute(ledger, "ALTER TABLE calls ADD CONSTRAINT refuse CHECK (user_name <> 'eve')")
    entries = [entry(user="eve" if number in (3, 17) else "ann") for number in range(25)]
    committed = commit(ledger, *entries, positions={"j": Position(1, 1)})
    assert set(committed.rejected) == {entries[3].call_id, entries[17].call_id}
    assert len(rows(ledger, "calls")) == len(rows(ledger, "attempts")) == 23
    assert ledger.load().positions == {"j": Position(1, 1)}
    assert_sums_agree(ledger)


def test_a_parked_call_without_a_proper_id_is_set_aside(ledger: Ledger) -> None:
    """D8: nor can an opening record whose id is none stop the others."""
    bad = Parked("x\0'; --", "j", encode_record(entry().closed.opened))
    committed = commit(ledger, entry(), park=[bad], unpark=["also bad"])
    assert len(committed.inserted) == 1
    assert ledger.load().parked == {}
    (reject,) = rows(ledger, "rejects")
    assert (reject["call_id"], reject["reason"]) == ("x'; --", "bad_call_id")


HOSTILE = [
    "'; DROP TABLE calls; --",
    '"quoted" \\ back',
    "nul\0inside",
    "😀" * 128,
    "%s %(x)s :name ? $1 {}",
    "line\nbreak\r\x1b[31m\x7f",
    "\udc80 lone surrogate \ud800",
    "\u202eright to left\u0000\uffff",
    "x" * 5000,
    " ",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_whatever_strangers_write_the_row_goes_in(ledger: Ledger, text: str) -> None:
    """Text of any kind is stored as it is, less NUL, lone surrogates and excessive length."""
    hostile = entry(
        user=text,
        team=text,
        session=text,
        tags={text: text},
        upstream=text,
        model=text,
        response_id=text,
        finish_reason=text,
        error=text,
        raw_usage=text,
        price_variant={text: text},
        response_model=text,
        price=text,
        attempts=[Attempt(number=1, upstream=text, started_ns=1, error=text)],
    )
    committed = commit(ledger, hostile)
    assert committed.rejected == {}
    call = ledger.call(hostile.call_id)
    assert call is not None
    if len(text) < 256 and "\0" not in text and "\udc80" not in text:
        assert call.user == call.team == call.model == text
        assert call.tags == {text: text}
    assert call.user is not None
    assert [each.id for each in ledger.calls()] == [hostile.call_id]
    (row,) = ledger.report(["user", "model", "session"])
    assert row.key["user"] == call.user
    assert_sums_agree(ledger)


def test_long_names_that_differ_stay_apart(ledger: Ledger) -> None:
    """A name that is cut ends in a digest of the whole."""
    commit(ledger, entry(user="x" * 400 + "a"), entry(user="x" * 400 + "b"))
    assert len(ledger.report(["user"])) == 2
    assert all(len(row.key["user"] or "") == 256 for row in ledger.report(["user"]))


def test_a_clients_absurd_retry_count_does_not_cost_the_row(ledger: Ledger) -> None:
    """A figure only the client vouches for is dropped if it cannot be stored."""
    booked = entry()
    opened = msgspec.structs.replace(booked.closed.opened, client_retry=2**63)
    booked = msgspec.structs.replace(
        booked, closed=msgspec.structs.replace(booked.closed, opened=opened)
    )
    commit(ledger, booked)
    call = ledger.call(booked.call_id)
    assert call is not None
    assert call.client_retry is None
