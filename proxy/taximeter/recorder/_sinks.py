"""What hears of calls once they are booked: metrics, traces, the access log.

The ledger is the truth, and a sink follows it. A sink that counts must agree with the ledger
whatever is killed, so what it has counted is kept in the very transaction that books the calls:
`note` is asked within it, and `booked` told after it. A sink that passes calls on needs no note:
what may be lost with the process (a line of a log) is done in `booked`, and what may not (a trace)
is written down in `note`, in a place of the sink's own, and passed on from there.

A commit can come about and its answer be lost. The try after it finds its calls repeated, and
notes none of them; then the notes are read back with `restore`, and `booked` tells of those calls.

A sink never fails a commit and never blocks: what it raises is counted and said once a kind, and
the calls stay booked.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from taximeter.ledger import Committed, Entry
from taximeter.settings import Settings

log = logging.getLogger("taximeter.recorder")


class Sink(Protocol):
    """Something that hears of booked calls. Used by the recorder's thread alone."""

    name: str

    def restore(self, notes: Mapping[str, bytes]) -> None:
        """Take up what `note` gave in commits before, all of it; `{}` at the very first start."""

    def note(self, entries: Sequence[Entry], committed: Committed) -> Mapping[str, bytes]:
        """Give what of this sink's memory a commit changes, by name, to be kept with it.

        The commit may still fail and be tried again, with the same calls or without those that turn
        out to be booked: what is counted here counts with `booked`.

        Args:
            entries: the calls that are new in the ledger.
            committed: what else the commit does.
        """

    def booked(self, entries: Sequence[Entry], committed: Committed) -> None:
        """Hear that what was last noted is committed.

        Args:
            entries: the calls that are new in the ledger, each told once in a recorder's life;
                also those that an earlier try brought there, whose answer was lost.
            committed: what else the commit did; where an answer was lost, the last try's sums.
        """

    def reload(self, settings: Settings) -> None:
        """Take a new configuration."""

    def close(self) -> None:
        """Finish within a few seconds."""


class Sinks:
    """All sinks as one, each with its failures kept to itself."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = tuple(sinks)
        self.failures: dict[str, int] = {sink.name: 0 for sink in sinks}
        """Exceptions by sink: each is a bug of ours, and none stops the recorder."""
        self._told: set[tuple[str, type[Exception]]] = set()

    def restore(self, notes: Mapping[str, bytes]) -> None:
        """See `Sink.restore`."""
        for sink in self._sinks:
            with self._guard(sink):
                sink.restore(notes)

    def note(self, entries: Sequence[Entry], committed: Committed) -> dict[str, bytes]:
        """See `Sink.note`."""
        kept: dict[str, bytes] = {}
        for sink in self._sinks:
            with self._guard(sink):
                kept.update(sink.note(entries, committed))
        return kept

    def booked(self, entries: Sequence[Entry], committed: Committed) -> None:
        """See `Sink.booked`."""
        for sink in self._sinks:
            with self._guard(sink):
                sink.booked(entries, committed)

    def reload(self, settings: Settings) -> None:
        """See `Sink.reload`."""
        for sink in self._sinks:
            with self._guard(sink):
                sink.reload(settings)

    def close(self) -> None:
        """See `Sink.close`."""
        for sink in self._sinks:
            with self._guard(sink):
                sink.close()

    @contextmanager
    def _guard(self, sink: Sink) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.failures[sink.name] += 1
            kind = (sink.name, type(error))
            if kind not in self._told:
                self._told.add(kind)
                log.exception("The %s failed at booked calls; the ledger has them.", sink.name)
