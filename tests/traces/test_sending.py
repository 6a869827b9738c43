"""Sending goes as it is configured, on a reload too, and ends when it is closed."""

from __future__ import annotations

import threading
import time

import pytest

from taximeter.traces import _exporter as exporter
from tests.support.ports import free_port
from tests.traces.collector import Answer, GrpcCollector, HttpCollector
from tests.traces.make import TRACE, settings, streamed, tell, tracer
from tests.traces.sending import book, left_over, settled, wait_until

pytestmark = pytest.mark.usefixtures("data_dir", "no_thread_is_left")


def test_headers_and_compression_are_as_asked(
    http: HttpCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The collector gets the headers of the variable that is named, and gzip if it is to."""
    monkeypatch.setenv("COLLECTOR_HEADERS", "x-tenant=blue, Authorization=Bearer%20abc")
    sink = tracer(http.url, headers_env="COLLECTOR_HEADERS", compression="gzip")
    book(sink, 1, 1)
    sink.close()
    (request,) = http.requests
    assert request.headers["authorization"] == "Bearer abc"
    assert request.headers["x-tenant"] == "blue"
    assert request.headers["content-encoding"] == "gzip"
    assert request.headers["content-type"] == "application/x-protobuf"
    assert len(http.calls) == 1


def test_headers_over_grpc_are_metadata(
    over_grpc: GrpcCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same over gRPC."""
    monkeypatch.setenv("COLLECTOR_HEADERS", "X-Tenant=blue")
    sink = tracer(
        over_grpc.url, protocol="grpc", headers_env="COLLECTOR_HEADERS", compression="gzip"
    )
    book(sink, 1, 1)
    sink.close()
    assert over_grpc.requests[0].headers["x-tenant"] == "blue"
    assert len(over_grpc.calls) == 1


def test_proxies_of_the_environment_are_not_used(
    http: HttpCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traces go where the settings say, and nowhere else."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    sink = tracer(http.url)
    book(sink, 1, 1)
    sink.close()
    assert settled(sink.stats) == (1, {})


def test_a_reload_changes_where_calls_go(http: HttpCollector) -> None:
    """What waits goes to the new collector, also what the old one was being sent."""
    http.default = Answer(status=503)
    with HttpCollector() as other:
        sink = tracer(http.url)
        book(sink, 1, 2)
        http.wait_for(1, "requests")
        sink.reload(settings(other.url))
        other.wait_for(2)
        wait_until(lambda: sink.stats.exported == 2)  # else what goes twice is no fault
        sink.reload(settings(None))
        book(sink, 3, 3)
        sink.reload(settings(other.url))
        book(sink, 4, 4)
        other.wait_for(3)
        sink.close()
        assert len(other.calls) == 3
    assert settled(sink.stats) == (3, {})


def test_a_reload_that_changes_nothing_keeps_the_queue(http: HttpCollector) -> None:
    """H11: a hundred reloads make no hundred threads."""
    sink = tracer(http.url)
    for number in range(1, 101):
        sink.reload(settings(http.url, batch_calls_max=number))
        book(sink, number, number)
    assert len([each for each in threading.enumerate() if each.name == "traces"]) == 1
    sink.close()
    assert settled(sink.stats) == (100, {})


def test_settings_that_cannot_be_used_change_nothing(
    http: HttpCollector, caplog: pytest.LogCaptureFixture
) -> None:
    """A reload whose headers are not to be had is told, and the old collector is kept."""
    sink = tracer(http.url)
    sink.reload(settings(http.url, headers_env="NOT_SET_ANYWHERE"))
    book(sink, 1, 1)
    sink.close()
    assert "NOT_SET_ANYWHERE: otlp.headers_env: is not set" in caplog.text
    assert settled(sink.stats) == (1, {})


def test_calls_that_are_not_to_be_traced_are_counted(http: HttpCollector) -> None:
    """A client that decided against its trace is obeyed."""
    begun = {"trace_id": TRACE, "parent_span_id": "b7ad6b7169203331", "trace_flags": 0}
    sink = tracer(http.url)
    tell(sink, [streamed(1, begun=begun), streamed(2)])
    sink.close()
    assert (sink.stats.unsampled, settled(sink.stats)) == (1, (1, {}))


def test_closing_flushes(http: HttpCollector) -> None:
    """What is queued when the recorder ends goes out before it does."""
    sink = tracer(http.url, batch_calls_max=10)
    book(sink, 1, 100)
    sink.close()
    assert settled(sink.stats) == (100, {})
    assert len(http.calls) == 100


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_closing_ends_in_time(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collector that hangs does not keep the recorder from ending; what is left is kept."""
    monkeypatch.setattr(exporter, "CLOSE_SECONDS_MAX", 0.3)
    with HttpCollector() if protocol == "http" else GrpcCollector() as collector:
        collector.default = Answer(hang_seconds=30)
        sink = tracer(collector.url, protocol=protocol, batch_calls_max=1)
        book(sink, 1, 5)
        collector.wait_for(1, "requests")
        began = time.monotonic()
        sink.close()
        assert time.monotonic() - began < 10
    assert left_over(sink) == 5


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_closing_does_not_wait_for_the_dead(protocol: str) -> None:
    """With nobody at the endpoint the recorder ends at once, and all is kept."""
    sink = tracer(f"http://127.0.0.1:{free_port()}", protocol=protocol, batch_calls_max=10)
    book(sink, 1, 100)
    began = time.monotonic()
    sink.close()
    assert time.monotonic() - began < exporter.CLOSE_SECONDS_MAX
    assert left_over(sink) == 100


def test_closing_twice_is_closing() -> None:
    """A tracer that is closed stays so, and takes nothing."""
    sink = tracer("http://127.0.0.1:9", timeout_seconds=0.1)
    sink.close()
    sink.close()
    tell(sink, [streamed()])
    assert settled(sink.stats) == (0, {})
