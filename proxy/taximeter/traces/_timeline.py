"""When each part of a call began and ended, to the nanosecond, from what its record says. Pure.

A record has its attempts' times as offsets from the call's start, and its stages as lengths.
What a trace needs is begin and end of each, with every part inside of what it is a part of:

    call     |-----------------------------------------------------------|
    receive  |---|
    queue        |---|
    attempt 1         |-----|                    refused, tried again
    attempt 2                 |-------------------------------------|
      connect                 |--|
      first_byte                 |-------|
      first_token                        |----|
      stream                                  |---------------------|
    settle                                                          |----|

An attempt's own stages follow from its own times. `first_token` and `stream` belong to the attempt
that answered, and begin where its first byte came. Where an attempt ended before a stage did, the
stage ends with it: that is where the time went. A stage that took no time is left out.

A record of a call that died with its relay has no times. It is a moment, not a guess.
"""

from __future__ import annotations

from typing import NamedTuple

from taximeter.call import Attempt, Closed, Stage

OFFSET_NS_MAX = 2**62
"""Offsets beyond it (146 years) are cut to it, so that no sum leaves the 64 bits of a span."""


class Part(NamedTuple):
    """A stage's begin and end, in nanoseconds after the call's start."""

    stage: Stage
    begin_ns: int
    end_ns: int


class Try(NamedTuple):
    """An attempt's begin and end, and its stages within them."""

    attempt: Attempt
    begin_ns: int
    end_ns: int
    parts: list[Part]


class Timeline(NamedTuple):
    """A call laid out in time. All offsets lie within 0 and `end_ns`."""

    end_ns: int
    answer_end_ns: int
    """Where the answer's last byte came, or the call broke off: where settling began."""
    first_token_ns: int | None
    parts: list[Part]
    """Stages that are no part of an attempt."""
    tries: list[Try]


def timeline(closed: Closed) -> Timeline:
    """Lay a call out in time."""
    stages = closed.stages
    receive = _offset(stages.get(Stage.RECEIVE, 0))
    admitted = _offset(receive + stages.get(Stage.QUEUE, 0))
    attempts = list({attempt.number: attempt for attempt in closed.attempts}.values())
    last = attempts[-1] if attempts else None
    first_byte = last.first_byte_ns if last is not None else None
    first_token = None
    settling = admitted
    if last is not None and last.ended_ns is not None:
        settling = _offset(last.ended_ns)
    if first_byte is not None and Stage.STREAM in stages:
        since = first_byte
        if Stage.FIRST_TOKEN in stages:
            since = first_token = _offset(first_byte + stages[Stage.FIRST_TOKEN])
        settling = _offset(since + stages[Stage.STREAM])
    tries = [
        _try(attempt, first_token, settling if attempt is last else None) for attempt in attempts
    ]
    settled = _offset(settling + stages.get(Stage.SETTLE, 0))
    end = max([admitted, settled, *(each.end_ns for each in tries)])
    parts = [
        Part(Stage.RECEIVE, 0, receive),
        Part(Stage.QUEUE, receive, admitted),
        Part(Stage.SETTLE, settling, settled),
    ]
    return Timeline(end, settling, first_token, _long(parts), tries)


def _try(attempt: Attempt, first_token_ns: int | None, answer_end_ns: int | None) -> Try:
    """Lay an attempt out; `answer_end_ns` is given for the last one, which may have answered."""
    begin = _offset(attempt.started_ns)
    connected, first_byte = attempt.connected_ns, attempt.first_byte_ns
    known = (begin, connected, attempt.sent_ns, first_byte, attempt.ended_ns)
    end = max(_offset(each) for each in known if each is not None)
    parts = []
    if connected is None:
        parts.append(Part(Stage.CONNECT, begin, end))
    else:
        connected = _offset(connected, begin, end)
        parts.append(Part(Stage.CONNECT, begin, connected))
        if first_byte is None:
            parts.append(Part(Stage.FIRST_BYTE, connected, end))
        else:
            first_byte = _offset(first_byte, connected, end)
            parts.append(Part(Stage.FIRST_BYTE, connected, first_byte))
            if answer_end_ns is not None:
                streaming = first_byte
                if first_token_ns is not None:
                    streaming = _offset(first_token_ns, first_byte, end)
                    parts.append(Part(Stage.FIRST_TOKEN, first_byte, streaming))
                stop = _offset(answer_end_ns, streaming, end)
                parts.append(Part(Stage.STREAM, streaming, stop))
    return Try(attempt, begin, end, _long(parts))


def _offset(value: int, low: int = 0, high: int = OFFSET_NS_MAX) -> int:
    return max(low, min(value, high))


def _long(parts: list[Part]) -> list[Part]:
    return [part for part in parts if part.end_ns > part.begin_ns]
