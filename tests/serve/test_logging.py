"""What a process says of itself: its lines, and what can never be in them."""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import pytest

from taximeter.ledger import Committed
from taximeter.recorder import AccessLog
from taximeter.serve._logging import CallLines, set_up, tell_unhandled_of_loop
from taximeter.settings import Settings
from tests.ledger.make import entry

NONE = Committed(frozenset(), frozenset(), {})
SECRET = "sk-canary-1234567890"


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """What was written to standard error; afterwards the log is as it was."""
    root, own = logging.getLogger(), logging.getLogger("taximeter")
    before = (root.handlers[:], root.level, own.level)
    hooks = (sys.excepthook, threading.excepthook)
    process = multiprocessing.current_process()
    name = process.name
    yield lambda: capsys.readouterr().err
    root.handlers[:], root.level, level = before
    own.setLevel(level)
    sys.excepthook, threading.excepthook = hooks
    process.name = name


def test_a_line_for_people_ends_where_it_ends(said: Callable[[], str]) -> None:
    """H8: no name makes a second line, moves the cursor, or looks like another field."""
    set_up("relay-0", "debug", "console")
    log = logging.getLogger("taximeter.test")
    hostile = 'a b=c\n2026 error \x1b[31m\x9b0m\u202e"\\'
    log.info("Something.", extra={"user": hostile, "team": None, "model": "gpt-5", "stream": True})
    (line,) = said().splitlines()
    assert line.isprintable()
    assert line.endswith(f" relay-0: Something. user={json.dumps(hostile)} model=gpt-5 stream=true")


def test_a_line_for_programs_is_one_object(said: Callable[[], str]) -> None:
    """H8: as JSON, too, each message is a line, of ASCII, with what it was given."""
    set_up("relay-0", "debug", "json")
    hostile = "a\nb\x9b0m\u202e"
    logging.getLogger("taximeter.test").info("Something.", extra={"user": hostile})
    text = said()
    assert text.count("\n") == 1
    assert text.isascii()
    found = json.loads(text)
    assert (found["message"], found["user"], found["level"]) == ("Something.", hostile, "info")


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_words_of_an_exception_are_written(said: Callable[[], str], form: str) -> None:
    """H9: of an exception its type and place are told, never its words: they may quote a client.

    That holds for the log's own calls, and for the end of a process, a thread or a callback.
    """
    set_up("relay-0", "debug", form)

    def fail() -> None:
        raise ValueError(f"cannot read {SECRET}")

    try:
        fail()
    except ValueError as error:
        logging.getLogger("taximeter.test").exception("It failed.")
        sys.excepthook(type(error), error, error.__traceback__)
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()

    async def lose_a_task() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(tell_unhandled_of_loop)
        loop.call_soon(fail)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(lose_a_task())
    text = said()
    assert text.count("ValueError at tests.serve.test_logging:") == 4
    assert SECRET not in text


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_call_is_a_line(said: Callable[[], str], form: str) -> None:
    """A booked call is a line that tells who, what, how long and how much."""
    set_up("recorder", "info", form)
    access = AccessLog(Settings(), CallLines(form).write)
    access.booked([entry(user="ann b", team=None), entry(user="bob\x1b[0m")], NONE)
    access.close()
    first, second = said().splitlines()
    if form == "console":
        assert 'user="ann b"' in first
        assert "\x1b" not in second
        assert " recorder: call outcome=completed status=200 " in first
        assert "team" not in first
    else:
        found = json.loads(first)
        assert found["logger"] == "taximeter.access"
        assert found["message"] == "call"
        assert (found["user"], found["team"], found["cost_usd"]) == (
            "ann b",
            None,
            "0.000001234567",
        )
        assert json.loads(second)["user"] == "bob\x1b[0m"


def test_lines_can_be_turned_off() -> None:
    """Neither `log.access: false` nor a level above info leaves a line."""
    written: list[object] = []
    for log in ({"access": False}, {"level": "warning"}):
        access = AccessLog(Settings.model_validate({"log": log}), written.extend)
        access.booked([entry()], NONE)
        access.close()
    assert written == []


def test_a_log_that_nobody_reads_holds_up_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Booking goes on while a line cannot be written; what is too much is dropped and counted."""
    go_on = threading.Event()
    written: list[object] = []

    def write(calls: Iterable[Mapping[str, object]]) -> None:
        go_on.wait(10)
        written.extend(calls)

    access = AccessLog(Settings(), write, waiting_calls_max=50)
    access.booked([entry()], NONE)
    time.sleep(0.1)  # the thread has taken the first
    started = time.monotonic()
    for _ in range(10):
        access.booked([entry() for _ in range(10)], NONE)
    assert time.monotonic() - started < 5
    assert access.dropped == 50
    go_on.set()
    access.close()
    assert len(written) == 51
    assert "50 calls got no line" in caplog.text
