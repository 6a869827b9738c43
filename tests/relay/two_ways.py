"""Plays one scene twice, with all shorter ways on and off, and tells what was seen of it.

What may differ between two runs of the same scene is blanked: times, and ids. All else must be
equal: the bytes, either way; the records, and where they stand among the bytes; what is counted,
and that nothing is held.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from taximeter.admission._straight import StraightWay
from taximeter.call import Closed, Counted
from taximeter.records import Record, decode_record
from taximeter.relay import _headroom, _plain_call
from taximeter.relay._exchange import Exchange
from taximeter.relay._intake import Intake
from taximeter.relay._plain_call import PlainCall
from taximeter.relay._usual_head import UsualStreamHead
from taximeter.trace_ids import trace_id_of
from tests.relay.bench import Bench, Client, Line, bench
from tests.relay.test_order import Wire

CHAT = "/v1/chat/completions"
QUICK = {"retry": {"backoff_seconds_first": 0.01, "backoff_seconds_max": 0.02}}
SAID = {"id": "x", "model": "m", "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
_UUID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DURATION = re.compile(rb"dur=[0-9]+\.[0-9]{3}")
_WAIT = re.compile(rb"Retry-After: [0-9]+\r\nretry-after-ms: [0-9]+")
_KEY_USER = re.compile(r"key-[0-9a-z]{10,16}")
_OWN_TRACE = re.compile(rb"(traceparent: 00-)[0-9a-f]{32}-[0-9a-f]{16}")
_PORT = re.compile(rb"127\.0\.0\.1:[0-9]+")


def ask(text: str = "hi", *fields: str, path: str = CHAT, **said: Any) -> bytes:
    """Give a request whose head is the same each time, but for its length."""
    body = json.dumps({"model": "m", "input": text, **said}).encode()
    return ask_bytes(body, *fields, path=path)


def ask_bytes(body: bytes, *fields: str, path: str = CHAT) -> bytes:
    """Give a request with a body as it is."""
    lines = "".join(f"{field}\r\n" for field in fields)
    return (
        f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{lines}"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def good(said: object = None, *fields: str, status: str = "200 OK") -> bytes:
    """Give an upstream's answer."""
    body = json.dumps(SAID if said is None else said).encode()
    return good_bytes(body, *fields, status=status)


def good_bytes(body: bytes, *fields: str, status: str = "200 OK") -> bytes:
    """Give an upstream's answer with a body as it is."""
    lines = "".join(f"{field}\r\n" for field in fields)
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{lines}"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


class Cue:
    """What an upstream does beside speaking."""

    def __init__(self, name: str) -> None:
        self.name = name


HANG_UP = Cue("ends its connection in order")
RESET = Cue("drops its connection")
PAUSE = Cue("is silent until the client's script lets it go on")
Part = bytes | Cue


class Upstream:
    """Answers one request after the other by its script, on whatever connection; then well."""

    def __init__(self, *answers: Sequence[Part]) -> None:
        self._answers = list(answers)
        self.asked = 0
        self.go_on = asyncio.Event()

    async def __call__(self, line: Line) -> None:
        at_once(line.writer)
        while True:
            await line.request()
            self.asked += 1
            parts = self._answers.pop(0) if self._answers else (good(),)
            for place, part in enumerate(parts):
                if part is RESET:
                    line.writer.transport.abort()
                    return
                if part is HANG_UP:
                    line.writer.write_eof()
                    await line.take()
                    return
                if part is PAUSE:
                    await self.go_on.wait()
                    self.go_on.clear()
                else:
                    assert isinstance(part, bytes)
                    if place:
                        await asyncio.sleep(0.004)  # so that each is read alone
                    await line.say(part)


def at_once(writer: asyncio.StreamWriter) -> None:
    """Have what is written go out at once: to come in a read of its own."""
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


Play = Callable[["Stage"], Awaitable[None]]


@dataclass
class Stage:
    """What a scene's script has in its hands."""

    made: Bench
    upstream: Upstream
    clients: list[Client] = field(default_factory=list)

    async def client(self) -> Client:
        """Connect a client."""
        made = await self.made.client()
        at_once(made.writer)
        self.clients.append(made)
        return made

    async def asked(self, count: int) -> None:
        """Wait until the upstream has had so many requests."""
        await self.made.until(lambda: self.upstream.asked >= count)

    async def closed(self, count: int) -> None:
        """Wait until so many calls are closed and over."""
        await self.made.until(
            lambda: len(self.made.closed) >= count and not self.made.worker.exchanges
        )


def in_turn(*requests: bytes) -> Play:
    """Give a script: one request after the other on one connection, each after the last answer."""

    async def play(stage: Stage) -> None:
        client = await stage.client()
        for request in requests:
            await client.say(request)
            while (await client.answer())[0] < 200:
                pass

    return play


def until_the_end(*requests: bytes) -> Play:
    """Give a script like `in_turn`, whose last request's answer ends with its connection."""

    async def play(stage: Stage) -> None:
        client = await stage.client()
        for request in requests[:-1]:
            await client.say(request)
            await client.answer()
        await client.say(requests[-1])
        await client.rest()

    return play


@dataclass
class Scene:
    """What happens, and what is expected of the plain way in it."""

    answers: Sequence[Sequence[Part]] = ()
    play: Play = field(default_factory=lambda: in_turn(ask(), ask(), ask()))
    plain: int = 0
    """Calls that end as plain ones."""
    begun: int | None = None
    """Calls that go upstream as plain ones; None is as many as end so."""
    upstream: dict[str, Any] = field(default_factory=dict)
    rooms: dict[str, Any] = field(default_factory=dict)
    calls: int | None = None
    """Calls that are on record; None is not looked at."""
    prepare: Callable[[Path], None] = lambda folder: None
    rest_seconds: float = 0.0
    """For how long a plain call keeps an answer whose rest is to come. While it does, the client
    has nothing of it; the usual way passes on what there is. So then what a client had of an answer
    before its close record was written is put behind that."""


@dataclass
class Seen:
    """What was seen of a scene. Two of the same scene are equal, but for the last two."""

    wire: list[tuple[str, object]]
    """Records and bytes as they were written, those of one kind in a row put together."""
    counted: list[object]
    outcomes: dict[str, int]
    admission: object
    pool: tuple[int, int]
    """Connections in use, and those that wait."""
    sides: list[object]
    """How the clients' connections stand that are still good."""
    begun: int
    ended: int


async def watch(
    scene: Scene, folder: Path, monkeypatch: pytest.MonkeyPatch, *, plainly: bool
) -> Seen:
    """Play a scene; at its end hold the worker to it that nothing is left of any call."""
    await asyncio.to_thread(_prepare, scene, folder)
    upstream = Upstream(*scene.answers)
    counts = {"begun": 0, "ended": 0}
    with monkeypatch.context() as patches:
        wire = Wire(patches)
        begin, end, make = PlainCall.begin, PlainCall._end, Intake.__init__

        def counted_begin(call: PlainCall, body: bytes) -> bool:
            is_begun = begin(call, body)
            counts["begun"] += is_begun
            return is_begun

        def counted_end(call: PlainCall, *rest: Any) -> None:
            counts["ended"] += 1
            end(call, *rest)

        def make_unplain(intake: Intake, *rest: Any) -> None:
            make(intake, *rest)
            intake.is_plain = False

        if not plainly:
            # Nor does it go any other shorter way that a test like this is to hold it against.
            patches.setattr(Intake, "__init__", make_unplain)
            patches.setattr(StraightWay, "enter", lambda *_: None)
            patches.setattr(StraightWay, "hear", lambda *_: False)
            patches.setattr(StraightWay, "end", lambda *_: False)
            patches.setattr(UsualStreamHead, "read", lambda *_: None)
        # On a slow machine, too, a second look falls into no scene.
        patches.setattr(_headroom, "LOOK_NS", 60 * 10**9)
        patches.setattr(_plain_call, "REST_SECONDS_MAX", scene.rest_seconds)
        patches.setattr(PlainCall, "begin", counted_begin)
        patches.setattr(PlainCall, "_end", counted_end)
        setting = {**QUICK, **scene.upstream}
        async with bench(folder, upstream, upstream=setting, **scene.rooms) as made:
            wire.watch(made)
            stage = Stage(made, upstream)
            await scene.play(stage)
            await made.until(lambda: not made.worker.exchanges)
            held, sides = connections(made), sides_of(made)
            await made.at_rest()
            await made.until(lambda: not pending(made.records))
            outcomes = {str(word): count for word, count in made.worker.outcomes.items()}
            ids = [record.call_id for record in made.opened]
            ids += [one.opened.call_id for one in made.closed if one.opened.call_id not in ids]
            if scene.calls is not None:
                assert len(made.closed) == scene.calls
            assert outcomes == tally(made.closed)
            return Seen(
                wire=told(wire.notes, ids),
                counted=sorted(
                    (blanked(one, ids) for one in made.records if isinstance(one, Counted)), key=str
                ),
                outcomes=outcomes,
                admission=admission_of(made),
                pool=held,
                sides=sides,
                begun=counts["begun"],
                ended=counts["ended"],
            )


def _prepare(scene: Scene, folder: Path) -> None:
    folder.mkdir()
    scene.prepare(folder)


async def same_both_ways(scene: Scene, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Play a scene both ways, and hold one against the other; give the plain one."""
    usual = await watch(scene, folder / "usual", monkeypatch, plainly=False)
    plain = await watch(scene, folder / "plain", monkeypatch, plainly=True)
    if scene.rest_seconds:
        plain.wire, usual.wire = behind_records(plain.wire), behind_records(usual.wire)
    for here, there in zip(plain.wire, usual.wire, strict=False):
        assert here == there, f"plain:\n{here}\nusual:\n{there}"
    assert len(plain.wire) == len(usual.wire)
    assert plain.counted == usual.counted
    assert plain.outcomes == usual.outcomes
    assert plain.admission == usual.admission, f"plain: {plain.admission} usual: {usual.admission}"
    assert plain.pool == usual.pool
    assert plain.sides == usual.sides
    assert usual.begun == usual.ended == 0
    begun = scene.plain if scene.begun is None else scene.begun
    found = (plain.begun, plain.ended)
    assert found == (begun, scene.plain), f"{found} calls began and ended as plain ones"
    return plain


# -- what is looked at ------------------------------------------------------------------------


def pending(records: Sequence[Record]) -> bool:
    """Tell whether a call is still to be counted."""
    counted = {record.call_id for record in records if isinstance(record, Counted)}
    return any(
        "count_pending" in record.facts and record.opened.call_id not in counted
        for record in records
        if isinstance(record, Closed)
    )


def tally(records: Sequence[Closed]) -> dict[str, int]:
    """Count the outcomes of records."""
    found: dict[str, int] = {}
    for record in records:
        found[str(record.outcome)] = found.get(str(record.outcome), 0) + 1
    return found


def connections(made: Bench) -> tuple[int, int]:
    """Give the upstream's connections: in use, and idle."""
    upstream = made.worker.snapshot.upstreams["openai"]
    return upstream.connections_in_use, upstream.connections_idle


def sides_of(made: Bench) -> list[object]:
    """Give how the clients' connections stand that go on, as far as a next call hangs on it."""
    return [
        (
            side.idle_since is None,
            side.head_since is None,
            side._full_since is None,
            side._exchange,
            side._receiver,
            side._message,
            side._body_left,
            side._body_paused,
            side._reading_paused,
            len(side._waiting),
        )
        for side in made.worker.clients
        if not side._stopped
    ]


def admission_of(made: Bench) -> object:
    """Give all counts of admission, but those that hang on the time."""
    admission = made.worker.admission.admission
    store, routes = admission.store, admission._routes
    assert store._in_use == {}, "a slot is held"  # type: ignore[attr-defined]
    now = time.monotonic_ns()
    rates = [  # by the second: rates of the scenes are so slow that a run is none
        (key, max(0, -(-(cell[0] - now) // 10**9)))
        for key, cell in sorted(store.rates._cells.items())  # type: ignore[attr-defined]
    ]
    doors = []
    for key, route in sorted(routes.routes.items()):
        door, gate = route.door, route.door.gate
        assert (door.in_flight, gate.in_flight, gate.awaiting, gate.away) == (0, 0, 0, 0)
        breaker = route.breaker
        state = None if breaker is None else (breaker.state, breaker.period, breaker._calls)
        doors.append((key, route.guess.tokens, state))
    pools = [
        (name, pool.queue.waiting, pool.held, dict(pool.retries_refused))
        for name, pool in admission.pools().items()
    ]
    purses = [msgspec.to_builtins(each.reserved) for each in store.book.snapshot()]  # type: ignore[attr-defined]
    credentials = re.compile(r"[0-9a-f]{16,}")
    return credentials.sub(
        "*", str((admission.counters, doors, pools, rates, sorted(map(str, purses))))
    )


def told(notes: Sequence[tuple[str, bytes]], ids: list[str]) -> list[tuple[str, object]]:
    """Give what was written, blanked; counts are left out, for they come when they come."""
    found: list[tuple[str, object]] = []
    for kind, data in notes:
        if kind == "safe":
            continue
        if kind == "record":
            record = decode_record(data)
            if not isinstance(record, Counted):
                found.append((kind, blanked(record, ids)))
        elif found and found[-1][0] == kind:
            found[-1] = (kind, bytes(found[-1][1]) + data)  # type: ignore[call-overload]
        else:
            found.append((kind, data))
    return [(kind, blank_bytes(data) if isinstance(data, bytes) else data) for kind, data in found]


def behind_records(wire: Sequence[tuple[str, object]]) -> list[tuple[str, object]]:
    """Put what a client had of an answer before its close record behind it."""
    found: list[tuple[str, object]] = []
    for kind, said in wire:
        if found and kind == "record" and found[-1][0] == "client":
            found.insert(-1, (kind, said))
        elif found and found[-1][0] == kind == "client":
            found[-1] = (kind, found[-1][1] + said)  # type: ignore[operator]
        else:
            found.append((kind, said))
    return found


def blank_bytes(data: bytes) -> bytes:
    """Take out of bytes what is another in each run."""
    data = _PORT.sub(b"ADDRESS", _DURATION.sub(b"dur=*", _UUID.sub(b"ID", data)))
    return _OWN_TRACE.sub(rb"\1TRACE", _WAIT.sub(b"Retry-After: *", data))


def blanked(record: Record, ids: list[str]) -> object:
    """Take out of a record what is another in each run: times, and ids."""
    said = msgspec.to_builtins(record)
    opened = said.get("opened", said) if not isinstance(record, Counted) else {}
    call_id = opened.get("call_id")
    if call_id is not None and opened.get("trace_id") == trace_id_of(call_id):
        opened["trace_id"] = "of the call"
    return _blank(said, ids)


def _blank(value: Any, ids: list[str], name: str = "") -> Any:
    if isinstance(value, dict):
        if name == "stages":
            return sorted(value)
        if name == "gaps":
            return value["count"]
        return {key: _blank(one, ids, key) for key, one in value.items()}
    if isinstance(value, list):
        return [_blank(one, ids) for one in value]
    if name.endswith("_ns") and value is not None:
        return "a time"
    if name == "key_hash" or (name == "user" and _KEY_USER.fullmatch(value)):
        return "a key"
    return f"call {ids.index(value)}" if value in ids else value


def exchanges_of(made: Bench) -> list[Exchange | PlainCall]:
    """Give the calls under way."""
    return list(made.worker.exchanges)
