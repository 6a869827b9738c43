"""The recorder's sink for traces: takes booked calls, and hands on those that are to be traced.

With no endpoint configured there is no thread and no queue, and nothing of OpenTelemetry, gRPC or
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
from taximeter.traces._sampling import Sampler
from taximeter.traces._span import Server
from taximeter.traces._stats import TraceStats
from taximeter.traces._transport import Target, Transport

if TYPE_CHECKING:
    from taximeter.traces._exporter import Exporter

log = logging.getLogger("taximeter.traces")

SCHEME_PORTS = {"http": 80, "https": 443}


class Tracer:
    """Exports booked calls as spans: at least once each, or counted as dropped.

    A configuration that cannot be used (headers whose variable is not set, a file of certificates
    that cannot be read) is told in the log and changes nothing: calls are booked in any case.
    """

    name = "traces"

    def __init__(self, settings: Settings) -> None:
        self.stats = TraceStats()
        self._otlp: Otlp | None = None
        self._sampler = Sampler(settings.otlp)
        self._exporter: Exporter | None = None
        self.reload(settings)

    def restore(self, notes: Mapping[str, bytes]) -> None:
        """See `Sink.restore`: there is nothing to take up."""

    def note(self, entries: Sequence[Entry], committed: Committed) -> Mapping[str, bytes]:
        """See `Sink.note`: there is nothing to keep."""
        return {}

    def booked(self, entries: Sequence[Entry], committed: Committed) -> None:
        """Queue the calls that are to be traced."""
        if self._exporter is None:
            return
        taken = [entry for entry in entries if self._sampler.takes(entry)]
        self.stats.unsampled += len(entries) - len(taken)
        if taken:
            self._exporter.offer(taken)

    def reload(self, settings: Settings) -> None:
        """Take a new configuration. What is queued still goes where it was to go."""
        otlp = settings.otlp
        if otlp != self._otlp:
            try:
                exporter = self._exporter_for(settings) if otlp.traces_url is not None else None
            except (SettingsError, ValueError, OSError) as error:
                log.error("The settings of otlp cannot be used: %s.", _words(error))
                return
            old, self._exporter, self._otlp = self._exporter, exporter, otlp
            self._sampler = Sampler(otlp)
            if old is not None:
                old.retire()
        elif self._exporter is not None:
            self._exporter.shape = self._exporter.shape._replace(servers=servers_of(settings))

    def close(self) -> None:
        """Export what is queued, within a few seconds, and end."""
        exporter, self._exporter = self._exporter, None
        if exporter is not None:
            exporter.close()

    def _exporter_for(self, settings: Settings) -> Exporter:
        from taximeter.traces._exporter import Bounds, Exporter, Shape

        otlp = settings.otlp
        return Exporter(
            transport_for(otlp),
            Shape(servers_of(settings), otlp.stage_spans, resource_of(otlp)),
            Bounds(otlp.queue_calls_max, otlp.batch_calls_max, otlp.timeout_seconds),
            self.stats,
        )


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
