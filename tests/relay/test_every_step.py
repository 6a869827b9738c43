"""C8: a call is ended at each of its steps, by either side, and nothing of it is left.

A call has no coroutine to be cancelled: it is driven by plain calls, and what it does to the world
is to write: a record, bytes upstream, bytes to its client. So it is broken at its first write, its
second, its third, until it has no more.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.relay.bench import EVENTS, Bench, Line, bench
from tests.relay.test_books import DELTA, DONE, chunk
from tests.relay.test_order import Wire, request
from tests.rig.tally import Tally

STEPS_MAX = 60
TIERS = {"default": {"concurrency": 1, "budget": {"usd": 100}}}


class Breaking(Wire):
    """Breaks a connection at the n-th write."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 0
        self.who = ""
        self.made: Bench | None = None
        super().__init__(monkeypatch)
        self.notes = _Counted(self)


class _Counted(list[tuple[str, bytes]]):
    """A list that tells of what is put in."""

    def __init__(self, wire: Breaking) -> None:
        super().__init__()
        self._wire = wire

    def append(self, note: tuple[str, bytes]) -> None:
        super().append(note)
        self._wire.left -= 1
        if self._wire.left == 0:
            self._break()

    def __iadd__(self, notes: list[tuple[str, bytes]]) -> _Counted:  # type: ignore[misc, override]
        for note in notes:
            self.append(note)
        return self

    def _break(self) -> None:
        made = self._wire.made
        assert made is not None
        if self._wire.who == "client":
            for side in tuple(made.worker.clients):
                assert side.transport is not None
                side.transport.abort()
        else:
            for line in made.lines:
                line.writer.transport.abort()


@pytest.mark.parametrize("who", ["client", "upstream"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
@pytest.mark.parametrize("gone", ["cancel", "drain"])
async def test_a_call_may_be_broken_at_every_write(
    who: str,
    stream: bool,
    gone: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tally: Tally,
) -> None:
    """C8, C4: at the n-th write, for every n there is: the call is closed once, its slot and what
    it reserved are free, no buffer is held, and the next call goes.
    """
    wire = Breaking(monkeypatch)

    async def answer(line: Line) -> None:
        while True:
            _, body = await line.request()
            if b"true" not in body:
                await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{")
                await line.say(b"}")
                continue
            for part in (EVENTS, *[chunk(DELTA)] * 3, chunk(DONE), b"0\r\n\r\n"):
                await line.say(part)
                await asyncio.sleep(0.001)

    setting = {"client_gone": gone, "retry": {"attempts_max": 2}, "breaker": {"enabled": False}}
    async with bench(tmp_path, answer, upstream=setting, tiers=TIERS) as made:
        wire.watch(made)
        wire.made, wire.who = made, who
        steps = 0
        while steps < STEPS_MAX:
            steps += 1
            wire.left = steps
            client = await made.client()
            await client.say(request("/v1/chat/completions", stream=stream))
            before = len(made.closed)
            await made.until(lambda n=before: len(made.closed) > n or not made.worker.clients, 8)  # type: ignore[misc]
            await asyncio.sleep(0.005)
            client.leave()
            await made.until(lambda: not made.worker.exchanges)
            if wire.left > 0:
                break  # it came to its end before its n-th write: there are no more
            wire.left = 0
            gates = made.worker.admission.admission.gates().values()
            assert all(gate.in_flight == 0 for gate in gates), f"broken at {steps}"
            assert made.worker.tap_budget.bytes_taken == 0
        assert 4 < steps < STEPS_MAX
        store = made.worker.admission.admission.store
        reserved = [each.reserved for each in store.book.snapshot() if each.reserved]  # type: ignore[attr-defined]
        assert reserved == []
        tally.add("calls broken at a step", steps - 1)
