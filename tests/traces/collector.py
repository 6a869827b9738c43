"""A collector for OTLP traces, over HTTP and over gRPC, that does as it is told.

    with HttpCollector() as collector:
        collector.say(Answer(status=429, headers={"Retry-After": "1"}))
        ...
        collector.wait_for(9)

It reads with the messages of opentelemetry-proto, and keeps every byte it was sent.
"""

from __future__ import annotations

import gzip
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

WAIT_SECONDS_MAX = 10.0
POLL_SECONDS = 0.005


@dataclass
class Answer:
    """What the collector does with one request."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    rejected: int = 0
    """Spans that it says it did not keep."""
    hang_seconds: float = 0.0
    """Answer only after so long."""
    drip_seconds: float = 0.0
    """Between two bytes of the answer."""
    cut: bool = False
    """Reset the connection in the middle of the answer."""
    code: grpc.StatusCode | None = None
    """Over gRPC: fail with it."""


class Certificates(NamedTuple):
    """Files of a certificate for 127.0.0.1, its key, and who has signed it."""

    authority: Path
    certificate: Path
    key: Path


@dataclass
class Request:
    """What it was sent."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float
    taken: bool

    @property
    def message(self) -> ExportTraceServiceRequest:
        message: ExportTraceServiceRequest = ExportTraceServiceRequest.FromString(self.body)
        return message


class Collector:
    """What both kinds share: what was said, what was heard."""

    protocol: str
    port: int
    _scheme: str
    """The setting that speaks to it."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.default = Answer()
        self.fails: Callable[[bytes], bool] = lambda body: False
        """Tells of a request's body whether the answer is 503."""
        self.ended = threading.Event()
        self._answers: list[Answer] = []
        self._lock = threading.Lock()

    def say(self, *answers: Answer) -> None:
        """Answer the next requests so; those after them by default."""
        self._answers += answers

    def take(self, path: str, headers: dict[str, str], body: bytes) -> Answer:
        with self._lock:
            answer = self._answers.pop(0) if self._answers else self.default
            if self.fails(body):
                answer = Answer(status=503)
            taken = answer.status == 200 and not answer.cut and answer.code is None
            self.requests.append(Request(path, headers, body, time.monotonic(), taken))
        return answer

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{self._scheme}://127.0.0.1:{self.port}"

    @property
    def spans(self) -> list[Span]:
        """All spans of requests that were taken, in the order in which they came."""
        return [
            span
            for request in self.requests
            if request.taken
            for group in request.message.resource_spans
            for scoped in group.scope_spans
            for span in scoped.spans
        ]

    @property
    def calls(self) -> list[Span]:
        """The spans of calls among them."""
        return [span for span in self.spans if span.kind == Span.SPAN_KIND_SERVER]

    def wait_for(self, count: int, what: str = "calls", seconds: float = WAIT_SECONDS_MAX) -> Any:
        """Wait until there are so many `calls`, `spans` or `requests`; give them."""
        deadline = time.monotonic() + seconds
        while len(found := getattr(self, what)) < count and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        assert len(found) >= count, f"{len(found)} {what}, not {count}"
        return found


def attributes_of(span: Any) -> dict[str, Any]:
    """Give a span's, an event's or a resource's attributes as plain values."""
    return {each.key: _plain(each.value) for each in span.attributes}


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(each) for each in value.array_value.values]
    return getattr(value, kind)


class HttpCollector(Collector):
    """Speaks OTLP/HTTP."""

    protocol = "http"

    def __init__(self, port: int = 0, tls: Certificates | None = None) -> None:
        super().__init__()
        collector = self
        self._scheme = "http" if tls is None else "https"

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                if headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                answer = collector.take(self.path, headers, body)
                collector.ended.wait(answer.hang_seconds)
                self._answer(answer)

            def _answer(self, answer: Answer) -> None:
                said = ExportTraceServiceResponse()
                said.partial_success.rejected_spans = answer.rejected
                body = said.SerializeToString() if answer.status == 200 else b"secret: no"
                fields = {"Content-Length": str(len(body)), **answer.headers}
                head = f"HTTP/1.1 {answer.status} Said\r\n" + "".join(
                    f"{name}: {value}\r\n" for name, value in fields.items()
                )
                whole = head.encode() + b"\r\n" + body
                if answer.cut:
                    self.wfile.write(whole[: len(whole) // 2])
                    linger = struct.pack("ii", 1, 0)
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                if not answer.drip_seconds:
                    self.wfile.write(whole)
                    return
                for byte in whole:
                    self.wfile.write(bytes((byte,)))
                    if collector.ended.wait(answer.drip_seconds):
                        return

            def handle(self) -> None:
                try:
                    super().handle()
                except OSError:
                    pass  # the client has left

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            speaks = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tls.authority)
            speaks.load_cert_chain(tls.certificate, tls.key)
            speaks.verify_mode = ssl.CERT_REQUIRED
            self._server.socket = speaks.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> HttpCollector:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.ended.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class GrpcCollector(Collector):
    """Speaks OTLP/gRPC."""

    protocol = "grpc"

    def __init__(self, tls: Certificates | None = None) -> None:
        super().__init__()
        self._scheme = "http" if tls is None else "https"
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
        method = grpc.unary_unary_rpc_method_handler(self._export)
        handler = grpc.method_handlers_generic_handler(
            "opentelemetry.proto.collector.trace.v1.TraceService", {"Export": method}
        )
        self._server.add_generic_rpc_handlers((handler,))
        if tls is None:
            self.port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            pair = (tls.key.read_bytes(), tls.certificate.read_bytes())
            credentials = grpc.ssl_server_credentials(
                [pair], tls.authority.read_bytes(), require_client_auth=True
            )
            self.port = self._server.add_secure_port("127.0.0.1:0", credentials)

    def _export(self, body: bytes, context: Any) -> bytes:
        answer = self.take("", dict(context.invocation_metadata()), body)
        self.ended.wait(answer.hang_seconds)
        if answer.code is not None:
            context.abort(answer.code, "secret: no")
        said = ExportTraceServiceResponse()
        said.partial_success.rejected_spans = answer.rejected
        encoded: bytes = said.SerializeToString()
        return encoded

    def __enter__(self) -> GrpcCollector:
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.ended.set()
        self._server.stop(None).wait()
