"""What the processes say: one line an event on standard error, for people or for programs."""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
import re
import sys
import threading
import time
from types import TracebackType
from typing import Any

log = logging.getLogger("taximeter.serve")

_PLAIN = re.compile(r"[^\s=\"\\]+")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _Json(logging.Formatter):
    """One JSON object a line; fields given as `extra` beside the message."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        line |= {k: v for k, v in vars(record).items() if k not in _STANDARD}
        if record.exc_info:
            line["exception"] = _where(record)
        return json.dumps(line, default=str)


class _Console(logging.Formatter):
    """A line for people. Control characters of what strangers wrote cannot reach the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        words = "".join(c if c.isprintable() else "?" for c in record.getMessage())
        fields = "".join(
            f" {k}={_shown(v)}"
            for k, v in vars(record).items()
            if k not in _STANDARD and v is not None
        )
        where = f" [{_where(record)}]" if record.exc_info else ""
        return (
            f"{_utc(record.created)} {record.levelname.lower():7} "
            f"{record.processName}: {words}{fields}{where}"
        )


def _shown(value: object) -> str:
    """Give a field's value so that it ends where it ends: quoted if it is not one plain word."""
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    return text if _PLAIN.fullmatch(text) and text.isprintable() else json.dumps(text)


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
