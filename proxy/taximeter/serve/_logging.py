"""What the processes say: one line an event on standard error, for people or for programs."""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
import os
import re
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from select import PIPE_BUF
from types import TracebackType
from typing import Any

import msgspec

log = logging.getLogger("taximeter.serve")

_PLAIN = re.compile(r"[^\s=\"\\]+")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _Json(logging.Formatter):
    """One JSON object a line; fields given as `extra` beside the message."""

    def format(self, record: logging.LogRecord) -> str:
        fields = _fields(record)
        if record.exc_info:
            fields["exception"] = _where(record)
        head = _json_head(record.created, record.levelname.lower(), record.name)
        return json.dumps({**head, "message": record.getMessage(), **fields}, default=str)


class _Console(logging.Formatter):
    """A line for people. Control characters of what strangers wrote cannot reach the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        words = "".join(c if c.isprintable() else "?" for c in record.getMessage())
        where = f" [{_where(record)}]" if record.exc_info else ""
        head = _console_head(record.created, record.levelname.lower())
        return f"{head}{words}{_shown_fields(_fields(record))}{where}"


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {k: v for k, v in vars(record).items() if k not in _STANDARD}


def _json_head(created: float, level: str, logger: str) -> dict[str, Any]:
    return {"time": _utc(created), "level": level, "logger": logger, "process": os.getpid()}


def _console_head(created: float, level: str) -> str:
    return f"{_utc(created)} {level:7} {multiprocessing.current_process().name}: "


def _shown_fields(fields: Mapping[str, object]) -> str:
    return "".join([f" {k}={_shown(v)}" for k, v in fields.items() if v is not None])


def _shown(value: object) -> str:
    """Give a field's value so that it ends where it ends: quoted if it is not one plain word."""
    if value.__class__ is not str:
        return str(value).lower() if isinstance(value, bool) else str(value)
    text = str(value)
    return text if _PLAIN.fullmatch(text) and text.isprintable() else json.dumps(text)


class CallLines:
    """Writes the lines of many calls at once, in the form of all others.

    The logging module takes several times as long for a line as booking allows for.
    """

    LOGGER = "taximeter.access"

    def __init__(self, form: str) -> None:
        self._form = form
        self._encoder = msgspec.json.Encoder()

    def write(self, calls: Iterable[Mapping[str, object]]) -> None:
        """Write a line for each call, given its fields.

        Raises:
            OSError: if standard error is gone.
        """
        now = time.time_ns() / 1e9
        if self._form == "json":
            head = {**_json_head(now, "info", self.LOGGER), "message": "call"}
            lines = [self._json({**head, **fields}) for fields in calls]
        else:
            start = f"{_console_head(now, 'info')}call"
            lines = [f"{start}{_shown_fields(fields)}\n" for fields in calls]
        for text in _by_pieces(lines):
            sys.stderr.write(text)
            sys.stderr.flush()

    def _json(self, line: dict[str, object]) -> str:
        encoded = self._encoder.encode(line)
        # Terminals obey some characters beyond ASCII, too: those are written as escapes.
        return f"{encoded.decode()}\n" if encoded.isascii() else f"{json.dumps(line)}\n"


def _by_pieces(lines: Iterable[str]) -> Iterator[str]:
    """Put lines together, as many as fit one write that no other process's can fall into."""
    piece, size = "", 0
    for line in lines:
        length = len(line.encode("utf-8", "backslashreplace"))
        if piece and size + length > PIPE_BUF:
            yield piece
            piece, size = "", 0
        piece += line
        size += length
    if piece:
        yield piece


def _where(record: logging.LogRecord) -> str:
    """Tell an exception's type and place, not its words: they may quote what a client sent."""
    exc_info = record.exc_info
    if not isinstance(exc_info, tuple) or exc_info[0] is None:
        return ""
    trace = exc_info[2]
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = ""
    if trace is not None:
        place = f" at {trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno}"
    return f"{exc_info[0].__name__}{place}"


def _utc(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"


def _tell_unhandled(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Say that an exception ends this process, by its type and place."""
    log.critical("A fault of ours ends this process.", exc_info=(kind, error, trace))


def _tell_unhandled_of_thread(arguments: threading.ExceptHookArgs) -> None:
    error = arguments.exc_value
    if error is not None:
        log.critical("A fault of ours ends a thread.", exc_info=error)


def tell_unhandled_of_loop(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say what an event loop met: without asyncio's description, which quotes the exception."""
    error = context.get("exception")
    log.error("A fault of ours was met by the event loop.", exc_info=error)


def set_up(process: str, level: str, form: str) -> None:
    """Send this process's log to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Console())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("taximeter").setLevel(level.upper())
    # Python's own words for what nobody caught quote the exception's, and those may quote anything.
    sys.excepthook = _tell_unhandled
    threading.excepthook = _tell_unhandled_of_thread
    multiprocessing.current_process().name = process
