"""The recorder's process: the recorder, what hears of its calls, and what it tells of itself."""

from __future__ import annotations

import logging
from queue import SimpleQueue

from taximeter.journal import journals_bytes, root_of
from taximeter.metrics import Meter, RecorderFacts
from taximeter.recorder import AccessLog, Recorder
from taximeter.serve._logging import CallLines
from taximeter.settings import Settings
from taximeter.traces import Tracer

log = logging.getLogger("taximeter.serve")


class Recording:
    """Books calls until told to stop. `metrics`, `reload` and `stop` may come from any thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._meter = Meter(settings)
        self._tracer = Tracer(settings)
        access = AccessLog(settings, CallLines(settings.log.format).write)
        self._recorder = Recorder(settings, sinks=(self._meter, self._tracer, access))
        self._reloaded: SimpleQueue[Settings] = SimpleQueue()
        self._recorder.before_pass = self._take_reloaded
        self._meter.watch(self._facts)

    def run(self) -> None:
        """Book until told to stop, then what is left."""
        self._recorder.run()

    def stop(self) -> None:
        """Have `run` come to its end."""
        self._recorder.stop()

    def reload(self, settings: Settings) -> None:
        """Have a new configuration taken before the next pass; the newest wins."""
        self._reloaded.put(settings)

    def _take_reloaded(self) -> None:
        while not self._reloaded.empty():
            self._settings = self._reloaded.get()
            if self._reloaded.empty():
                self._recorder.reload(self._settings)

    def metrics(self, openmetrics: bool) -> bytes:
        """Give the text of what is known here; none if that fails: who asks has to be answered.

        Nothing is known before the ledger has given back the counters of earlier lives: shown
        from nought, they would seem to have been reset.
        """
        if not self._recorder.begun:
            return b""
        try:
            return self._meter.expose(openmetrics)
        except Exception:
            log.exception("The recorder's metrics could not be made; booking goes on.")
            return b""

    def _facts(self) -> RecorderFacts:
        recorder, journal = self._recorder, self._settings.journal
        return RecorderFacts(
            counts=recorder.stats,
            sink_failures=dict(recorder.sinks.failures),
            ledger_lag_seconds=recorder.lag_seconds(),
            journal_bytes=journals_bytes(root_of(self._settings.data_dir)),
            journal_bytes_max=journal.bytes_max,
            exporters={"otlp": self._tracer.stats},
        )
