"""OTLP over gRPC: one channel, whole requests that are encoded already.

gRPC's own retries, its proxies of the environment and its log are left out of it: the exporter has
one deadline and one place where it tries again.
"""

from __future__ import annotations

import threading
from urllib.parse import urlsplit

import grpc

from taximeter import __version__
from taximeter.traces._transport import ANSWER_BYTES_MAX, Reply, Target, Verdict

METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
PORT = 4317
BUSY = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.DATA_LOSS,
    }
)
"""OTLP's retryable answers. `RESOURCE_EXHAUSTED` is one only with a word on when to come back; a
call that fails so for ever while others are taken is found out, so that word is not asked for."""
UNREACHABLE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})


class GrpcTransport:
    """A way to a collector that speaks OTLP/gRPC.

    Raises:
        OSError: if a file of certificates cannot be read.
    """

    def __init__(self, target: Target) -> None:
        parts = urlsplit(target.url)
        self._metadata = tuple(target.headers.items())
        address = parts.netloc if parts.port is not None else f"{parts.netloc}:{PORT}"
        options = (
            ("grpc.enable_retries", 0),
            ("grpc.enable_http_proxy", 0),
            ("grpc.max_receive_message_length", ANSWER_BYTES_MAX),
            ("grpc.primary_user_agent", f"taximeter/{__version__}"),
            # After a failure it would wait for up to two minutes, and our tries fail at once.
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2_000),
        )
        compression = grpc.Compression.Gzip if target.gzip else grpc.Compression.NoCompression
        if parts.scheme == "https":
            files = (target.ca_file, target.key_file, target.certificate_file)
            trusted, key, certificate = [path.read_bytes() if path else None for path in files]
            credentials = grpc.ssl_channel_credentials(trusted, key, certificate)
            self._channel = grpc.secure_channel(address, credentials, options, compression)
        else:
            self._channel = grpc.insecure_channel(address, options, compression)
        self._call = self._channel.unary_unary(METHOD)
        self._lock = threading.Lock()
        self._under_way: grpc.Future | None = None
        self._aborted = False

    def export(self, body: bytes, seconds_max: float) -> Reply:
        """See `Transport.export`."""
        with self._lock:
            if self._aborted:
                return Reply(Verdict.UNREACHABLE, "given up")
            future = self._call.future(body, timeout=seconds_max, metadata=self._metadata)
            self._under_way = future
        try:
            return Reply(Verdict.TAKEN, body=future.result())
        except grpc.FutureCancelledError:
            return Reply(Verdict.UNREACHABLE, "given up")
        except grpc.RpcError as error:
            return _reply(error)
        finally:
            self._under_way = None

    def abort(self) -> None:
        """See `Transport.abort`."""
        with self._lock:
            self._aborted = True
            under_way = self._under_way
        if under_way is not None:
            under_way.cancel()

    def close(self) -> None:
        """See `Transport.close`."""
        self._channel.close()


def _reply(error: grpc.RpcError) -> Reply:
    code = error.code()
    if code in UNREACHABLE:
        return Reply(Verdict.UNREACHABLE, code.name)
    return Reply(Verdict.BUSY if code in BUSY else Verdict.REFUSED, code.name)
