"""The recorder's sink for traces: writes down which booked calls are to be traced.

A call goes into the spool in `note`, while the transaction that books it is open, and may go out
with `booked`. A recorder that is killed in between exports a call at its next start that the ledger
gets a moment later: from the same journal, under the same id.

With no endpoint configured there is no thread and no file, and nothing of OpenTelemetry, gRPC or
aiohttp is imported: a recorder without traces pays nothing for them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from taximeter import __version__
from taximeter.ledger import Committed, Entry
from taximeter.settings import Otlp, Settings, SettingsError
from taximeter.traces._complaints import Complaints
from taximeter.traces._sampling import Sampler
from taximeter.traces._span import Server
from taximeter.traces._spool import Spool
from taximeter.traces._stats import TraceStats
from taximeter.traces._transport import Target, Transport
from taximeter.traces._written import written

if TYPE_CHECKING:
    from taximeter.traces._exporter import Exporter, Way

log = logging.getLogger("taximeter.traces")

SPOOL_NAME = "traces"
"""The spool's folder below `data_dir`."""
SCHEME_PORTS = {"http": 80, "https": 443}


class Tracer:
    """Exports booked calls as spans: at least once each, or counted as dropped.

    A configuration that cannot be used (headers whose variable is not set, a file of certificates
    that cannot be read) is told in the log and changes nothing: calls are booked in any case.
    """

    name = "traces"

    def __init__(self, settings: Settings) -> None:
        self.stats = TraceStats()
        self._settings = settings
        self._begun = False
        self._otlp: Otlp | None = None
        """The configuration in use."""
        self._sampler: Sampler | None = None
        """None while traces are off."""
        self._spool: Spool | None = None
        self._exporter: Exporter | None = None
        self._complaints = Complaints()
        self._noted: dict[str, bool] = {}
        """Calls of the commit that is being tried, and whether they are to be traced."""

    def restore(self, notes: Mapping[str, bytes]) -> None:
        """Begin: the folder of journals is ours now, and so is the spool beside it."""
        if not self._begun:
            self._begun = True
            self._take(self._settings)

    def note(self, entries: Sequence[Entry], committed: Committed) -> Mapping[str, bytes]:
        """Write down the calls that are to be traced, once for all tries of a commit."""
        if self._sampler is None or self._spool is None:
            return {}
        calls = []
        for entry in entries:
            call_id = entry.call_id
            if call_id in self._noted:
                continue
            taken = self._noted[call_id] = self._sampler.takes(entry)
            if taken:
                try:
                    calls.append(written(entry))
                except (ValueError, OverflowError) as error:  # of a damaged record
                    self.stats.drop(1, "not_encodable")
                    self._complaints.say(f"a call cannot be written: {type(error).__name__}")
        if calls:
            self._spool.append(calls)
        return {}

    def booked(self, entries: Sequence[Entry], committed: Committed) -> None:
        """Let what was noted be exported."""
        if self._spool is None or self._exporter is None:
            return
        self.stats.unsampled += sum(not taken for taken in self._noted.values())
        self._noted.clear()
        self._spool.publish()
        self._exporter.wake()

    def reload(self, settings: Settings) -> None:
        """Take a new configuration. What waits goes where calls go from now on."""
        self._settings = settings
        if self._begun:
            self._take(settings)

    def close(self) -> None:
        """Export what waits, within a few seconds, and end. What is left is for the next start."""
        self._begun, self._sampler = False, None
        if self._exporter is not None:
            self._exporter.close()
            self._exporter = None
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    def _take(self, settings: Settings) -> None:
        otlp = settings.otlp
        if otlp == self._otlp:
            if self._exporter is not None:
                self._exporter.tell_servers(servers_of(settings))
            return
        try:
            way = _way(settings) if otlp.traces_url is not None else None
        except (SettingsError, ValueError, OSError) as error:
            log.error("The settings of otlp cannot be used: %s.", _words(error))
            return
        self._otlp = otlp
        self._sampler = Sampler(otlp) if way is not None else None
        if self._exporter is not None and self._spool is not None:
            self._spool.bound(otlp.spool_bytes_max)
            self._exporter.use(way)
        elif way is not None:
            self._begin(way, settings)

    def _begin(self, way: Way, settings: Settings) -> None:
        from taximeter.traces._exporter import Exporter

        self._spool = Spool(
            settings.data_dir / SPOOL_NAME,
            settings.otlp.spool_bytes_max,
            self.stats,
            complain=self._complaints.say,
        )
        self._exporter = Exporter(self._spool, way, self.stats, self._complaints)


def _way(settings: Settings) -> Way:
    from taximeter.traces._exporter import Shape, Way

    otlp = settings.otlp
    shape = Shape(servers_of(settings), otlp.stage_spans, resource_of(otlp))
    return Way(transport_for(otlp), shape, otlp.batch_calls_max, otlp.timeout_seconds)


def transport_for(otlp: Otlp) -> Transport:
    """Make the way to the collector that is configured.

    Raises:
        SettingsError: if the headers' variable is not set, or holds something else.
        OSError: if a file of certificates cannot be read.
    """
    target = Target(
        url=otlp.traces_url or "",
        headers=otlp.read_headers(),
        gzip=otlp.compression == "gzip",
        ca_file=otlp.ca_file,
        certificate_file=otlp.certificate_file,
        key_file=otlp.key_file,
    )
    if otlp.protocol == "grpc":
        from taximeter.traces._grpc import GrpcTransport

        return GrpcTransport(target)
    from taximeter.traces._http import HttpTransport

    return HttpTransport(target)


def resource_of(otlp: Otlp) -> dict[str, str]:
    """Give what all spans have in common."""
    own = {"service.name": otlp.service_name, "service.version": __version__}
    return {**own, **otlp.resource, "service.name": otlp.service_name}


def servers_of(settings: Settings) -> dict[str, Server]:
    """Give where upstreams are, by their names."""
    servers = {}
    for name, upstream in settings.upstreams.items():
        parts = urlsplit(upstream.url)
        port = parts.port if parts.port is not None else SCHEME_PORTS.get(parts.scheme, 0)
        servers[name] = Server(parts.hostname or "", port)
    return servers


def _words(error: Exception) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
