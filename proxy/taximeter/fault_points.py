"""The moments at which a process had better not die, and by which it is tested that it may.

A fault point is a place in this package and a side of it: before it is called, or after it has
returned. Nothing stands at these places: in production the table below is all there is, and no
call takes a step more for it. `arm` puts something there, in a process of a test's own: a death, a
wait, an error. So the names cost nothing, and code that is moved is missed (a test looks for every
place, and has a process die at each).

What is promised where a process dies at one of them is in docs/guarantees.md, D1, D2 and D5; where
a bug raises there, L5.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple


class Side(StrEnum):
    """Which side of a place."""

    BEFORE = "before"
    AFTER = "after"


class Room(StrEnum):
    """Which process comes by there."""

    RELAY = "relay"
    RECORDER = "recorder"


class FaultPoint(NamedTuple):
    """One moment in one kind of process."""

    name: str
    room: Room
    place: str
    """`module:attribute` or `module:class.attribute`."""
    side: Side

    def __str__(self) -> str:
        return f"{self.room}.{self.name}.{self.side}"


def _both(name: str, room: Room, place: str) -> tuple[FaultPoint, FaultPoint]:
    return (
        FaultPoint(name, room, place, Side.BEFORE),
        FaultPoint(name, room, place, Side.AFTER),
    )


FAULT_POINTS: tuple[FaultPoint, ...] = (
    # A relay: the journal's beginning, one call from its open record to its end, and the disk.
    *_both("journal.begin", Room.RELAY, "taximeter.journal._writer:JournalWriter.begin"),
    *_both("journal.segment", Room.RELAY, "taximeter.journal._disk:RealDisk.create"),
    *_both("journal.write", Room.RELAY, "taximeter.journal._disk:RealDisk.write"),
    *_both("journal.sync", Room.RELAY, "taximeter.journal._disk:RealDisk.synchronise"),
    *_both("record", Room.RELAY, "taximeter.relay._bookkeeper:Bookkeeper.write"),
    *_both("request", Room.RELAY, "taximeter.relay._leg:Leg.send"),
    *_both("settle", Room.RELAY, "taximeter.relay._course:Course._settle"),
    *_both("last_byte", Room.RELAY, "taximeter.relay._delivery:Delivery.end"),
    *_both("finish", Room.RELAY, "taximeter.relay._course:Course._finish"),
    # A recorder: its lead, one commit with what goes in with it, and the deletions behind it.
    *_both("migrate", Room.RECORDER, "taximeter.ledger._ledger:Ledger.migrate"),
    *_both("lead", Room.RECORDER, "taximeter.ledger._ledger:Ledger.take_lead"),
    *_both("load", Room.RECORDER, "taximeter.ledger._ledger:Ledger.load"),
    *_both("note", Room.RECORDER, "taximeter.recorder._sinks:Sinks.note"),
    *_both("commit", Room.RECORDER, "taximeter.ledger._ledger:Ledger.commit"),
    *_both("booked", Room.RECORDER, "taximeter.recorder._sinks:Sinks.booked"),
    *_both("segments", Room.RECORDER, "taximeter.recorder._reclaim:discard_segments"),
    *_both("journal", Room.RECORDER, "taximeter.recorder._reclaim:discard_journal"),
    *_both("step", Room.RECORDER, "taximeter.recorder._recorder:Recorder.step"),
)


def arm(point: FaultPoint, act: Callable[[], object]) -> Callable[[], None]:
    """Have `act` called whenever this process comes by a point; give what takes it away again.

    Raises:
        AttributeError, ImportError: if there is no such place any more.
    """
    module, _, path = point.place.partition(":")
    *owners, name = path.split(".")
    owner: Any = functools.reduce(getattr, owners, importlib.import_module(module))
    found = inspect.getattr_static(owner, name)
    real = found.__func__ if isinstance(found, staticmethod | classmethod) else found

    @functools.wraps(real)
    def armed(*arguments: Any, **more: Any) -> Any:
        if point.side is Side.BEFORE:
            act()
        answer = real(*arguments, **more)
        if point.side is Side.AFTER:
            act()
        return answer

    wrapped = type(found)(armed) if isinstance(found, staticmethod | classmethod) else armed
    setattr(owner, name, wrapped)
    return lambda: setattr(owner, name, found)
