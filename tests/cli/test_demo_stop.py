"""How a demo is told to end: by cancelling, once, wherever the signal finds it."""

from __future__ import annotations

import asyncio
import signal

import pytest

from taximeter.cli._demo._stop import SIGNALS, Stop

both = pytest.mark.parametrize("sign", SIGNALS)


@both
def test_a_signal_does_not_break_into_a_callback(sign: signal.Signals) -> None:
    """What another task was doing when the signal came is done to its end."""
    seen: list[str] = []

    def something_else() -> None:
        signal.raise_signal(sign)
        seen.append("went on")

    async def work() -> None:
        asyncio.get_running_loop().call_soon(something_else)
        try:
            await asyncio.sleep(30)
        finally:
            seen.append("ended")

    with Stop() as stop:
        asyncio.run(stop.or_done(work))
    assert seen == ["went on", "ended"]


@both
def test_a_second_signal_does_not_cut_the_cleaning_up(sign: signal.Signals) -> None:
    """Who presses Ctrl-C again and again gets the same end: all that was started is ended."""
    seen: list[str] = []

    async def work() -> None:
        try:
            signal.raise_signal(sign)
            await asyncio.sleep(30)
        finally:
            for number in SIGNALS:
                signal.raise_signal(number)
            await asyncio.sleep(0.01)
            seen.append("cleaned up")

    with Stop() as stop:
        asyncio.run(stop.or_done(work))
        signal.raise_signal(sign)
    assert seen == ["cleaned up"]


@both
def test_a_signal_before_the_work_spares_it(sign: signal.Signals) -> None:
    """A demo that is told to end before it began does not begin."""

    async def work() -> None:
        raise AssertionError("it began")

    with Stop() as stop:
        signal.raise_signal(sign)
        asyncio.run(stop.or_done(work))


def test_what_the_work_raises_comes_out() -> None:
    """An error of the demo's own is not taken for its end."""

    async def work() -> None:
        raise LookupError("no proxy")

    with Stop() as stop, pytest.raises(LookupError, match="no proxy"):
        asyncio.run(stop.or_done(work))


def test_signals_are_given_back() -> None:
    """Afterwards signals do what they did before, and an ignored one is ignored throughout."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Stop():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)
