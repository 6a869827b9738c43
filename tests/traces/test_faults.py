"""D9: a collector that is down, slow, full or mad costs a bounded spool, and nobody's time."""

from __future__ import annotations

import logging
import socket
import time

import grpc
import pytest

from taximeter.trace_ids import trace_id_of
from taximeter.traces import _exporter as exporter
from tests.support.ports import free_port
from tests.traces.collector import Answer, GrpcCollector, HttpCollector
from tests.traces.make import settings, streamed, tell, tracer
from tests.traces.sending import book, left_over, settled, wait_until

pytestmark = pytest.mark.usefixtures("data_dir", "no_thread_is_left")


# == what comes back ==============================================================================


def test_a_collector_that_comes_up_late_gets_what_waited() -> None:
    """D9: calls booked while it was down are exported, if it is there before their time is over."""
    port = free_port()
    sink = tracer(f"http://127.0.0.1:{port}")
    book(sink, 1, 3)
    wait_until(lambda: sink.stats.failed)
    with HttpCollector(port) as collector:
        collector.wait_for(3)
        sink.close()
    assert settled(sink.stats) == (3, {})


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_collector_is_asked_again(http: HttpCollector, status: int) -> None:
    """OTLP's retryable answers are tried again, and the calls arrive once."""
    http.say(Answer(status=status), Answer(status=status))
    sink = tracer(http.url)
    book(sink, 1, 2)
    http.wait_for(2)
    sink.close()
    assert settled(sink.stats) == (2, {})
    assert (sink.stats.failed, len(http.requests), len(http.calls)) == (2, 3, 2)


@pytest.mark.parametrize(
    "code",
    [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.ABORTED],
)
def test_a_busy_collector_is_asked_again_over_grpc(
    over_grpc: GrpcCollector, code: grpc.StatusCode
) -> None:
    """The same over gRPC, by its codes."""
    over_grpc.say(Answer(code=code))
    sink = tracer(over_grpc.url, protocol="grpc")
    book(sink, 1, 2)
    over_grpc.wait_for(2)
    sink.close()
    assert settled(sink.stats) == (2, {})
    assert sink.stats.failed == 1


def test_retry_after_is_obeyed(http: HttpCollector) -> None:
    """A collector that names a time is left alone for so long."""
    http.say(Answer(status=429, headers={"Retry-After": "1"}))
    sink = tracer(http.url)
    book(sink, 1, 1)
    http.wait_for(2, "requests")
    sink.close()
    first, second = http.requests
    assert 1.0 <= second.at - first.at < 2.0


def test_a_collector_that_asks_for_no_wait_gets_one(http: HttpCollector) -> None:
    """D9: `Retry-After: 0` for ever is no retry storm, and no reason to give up."""
    http.default = Answer(status=503, headers={"Retry-After": "0"})
    sink = tracer(http.url)
    book(sink, 1, 1)
    http.wait_for(1, "requests")
    time.sleep(1)
    assert 2 <= len(http.requests) <= 6
    assert left_over(sink) == 1


def test_retry_after_beyond_the_timeout_holds(http: HttpCollector) -> None:
    """What waits is kept for as long as the collector asks to be left alone."""
    http.say(Answer(status=503, headers={"Retry-After": "2"}))
    sink = tracer(http.url, timeout_seconds=1)
    book(sink, 1, 1)
    http.wait_for(1, "requests")
    book(sink, 2, 2)
    http.wait_for(2)
    sink.close()
    first, second, *_ = http.requests
    assert second.at - first.at >= 2.0
    assert settled(sink.stats) == (2, {})


@pytest.mark.parametrize(
    "fault",
    [Answer(cut=True), Answer(status=200, headers={"Content-Length": "999"}, cut=True)],
    ids=["head", "body"],
)
def test_a_cut_answer_is_tried_again(http: HttpCollector, fault: Answer) -> None:
    """Nobody knows whether they were kept: the same spans are sent again, with the same ids."""
    http.say(fault)
    sink = tracer(http.url)
    book(sink, 1, 1)
    http.wait_for(1)
    sink.close()
    first, second = http.requests
    assert first.body == second.body
    assert settled(sink.stats) == (1, {})


def test_a_collector_that_closes_idle_connections_is_no_fault(http: HttpCollector) -> None:
    """An export after a pause works as the first did."""
    http.default = Answer(headers={"Connection": "close"})
    sink = tracer(http.url)
    for number in (1, 2, 3):
        book(sink, number, number)
        http.wait_for(number)
    sink.close()
    assert settled(sink.stats) == (3, {})


# == what is kept =================================================================================


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_collector_that_stays_down_loses_nothing(
    protocol: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """D9: tries get rarer, calls wait for the next start, and no library speaks."""
    sink = tracer(f"http://127.0.0.1:{free_port()}", protocol=protocol, timeout_seconds=0.5)
    book(sink, 1, 5)
    wait_until(lambda: sink.stats.failed >= 2)
    time.sleep(0.5)
    assert sink.stats.failed <= 6, "a retry storm"
    assert left_over(sink) == 5
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_collector_that_hangs_holds_nobody(protocol: str) -> None:
    """D9: a try ends at its deadline, whether or not there is an answer."""
    with HttpCollector() if protocol == "http" else GrpcCollector() as collector:
        collector.default = Answer(hang_seconds=30)
        sink = tracer(collector.url, protocol=protocol, timeout_seconds=0.3)
        book(sink, 1, 1)
        wait_until(lambda: sink.stats.failed, 2)
        collector.default = Answer()
        collector.wait_for(1)
        sink.close()
        assert settled(sink.stats) == (1, {})


def test_a_collector_that_drips_holds_nobody(http: HttpCollector) -> None:
    """D9: the deadline is of the whole try, however busily the answer's bytes come."""
    http.default = Answer(drip_seconds=0.1)
    sink = tracer(http.url, timeout_seconds=0.6)
    book(sink, 1, 1)
    wait_until(lambda: sink.stats.failed, 2)
    http.default = Answer()
    sink.close()


def test_a_recorder_that_catches_up_drops_nothing(http: HttpCollector) -> None:
    """Twenty thousand calls, booked as fast as can be, all arrive at default settings."""
    sink = tracer(http.url, stage_spans=False)
    for start in range(1, 20_001, 500):
        tell(sink, [streamed(number) for number in range(start, start + 500)])
    wait_until(lambda: sink.stats.exported == 20_000, 50)
    sink.close()
    assert settled(sink.stats) == (20_000, {})


# == what is dropped, and counted =================================================================


@pytest.mark.parametrize("status", [400, 401, 404, 413, 500, 301])
def test_what_is_refused_is_not_sent_again(http: HttpCollector, status: int) -> None:
    """D9: an answer that would be the same the next time drops the batch, once, counted."""
    http.default = Answer(status=status, headers={"Location": http.url + "/elsewhere"})
    sink = tracer(http.url)
    tell(sink, [streamed(number) for number in (1, 2, 3)])
    sink.close()
    assert settled(sink.stats) == (0, {"refused": 3})
    assert [request.path for request in http.requests] == ["/v1/traces"]


def test_any_success_is_one(http: HttpCollector) -> None:
    """A collector that says 202 has taken the calls."""
    http.say(Answer(status=202))
    sink = tracer(http.url)
    book(sink, 1, 1)
    sink.close()
    assert settled(sink.stats) == (1, {})


def test_what_is_refused_over_grpc_is_not_sent_again(over_grpc: GrpcCollector) -> None:
    """The same over gRPC."""
    over_grpc.default = Answer(code=grpc.StatusCode.INVALID_ARGUMENT)
    sink = tracer(over_grpc.url, protocol="grpc")
    book(sink, 1, 1)
    sink.close()
    assert settled(sink.stats) == (0, {"refused": 1})
    assert len(over_grpc.requests) == 1


def test_a_full_spool_drops_the_oldest(http: HttpCollector) -> None:
    """D9: the disk is bounded; the newest calls are kept, and the count is exact."""
    http.say(Answer(hang_seconds=2))
    sink = tracer(http.url, spool_bytes_max=1 << 20, batch_calls_max=5)
    book(sink, 1, 5)
    http.wait_for(1, "requests")
    for start in range(6, 4_006, 100):
        tell(sink, [streamed(number) for number in range(start, start + 100)])
    dropped = sink.stats.dropped["spool_full"]
    assert dropped > 1_000
    assert sink.stats.spool_bytes <= sink.stats.spool_bytes_max == 1 << 20
    assert sink.stats.queued == 4_005 - dropped
    sink.reload(settings(http.url, spool_bytes_max=1 << 20, batch_calls_max=1000))
    wait_until(lambda: sink.stats.exported == 4_005 - dropped)
    sink.close()
    assert settled(sink.stats) == (4_005 - dropped, {"spool_full": dropped})
    numbers = {int.from_bytes(span.trace_id, "big") & 0xFFFF for span in http.calls}
    assert numbers == {*range(1, 6), *range(6 + dropped, 4_006)}


def test_booking_does_not_wait_for_a_mute_collector() -> None:
    """D9: what the recorder does for a trace is to write some hundred bytes to a file."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        sink = tracer(f"http://127.0.0.1:{mute.getsockname()[1]}", timeout_seconds=60)
        entries = [streamed(number) for number in range(10_000)]
        began = time.monotonic()
        for entry in entries:
            tell(sink, [entry])
        assert time.monotonic() - began < 30
        sink.close()
    assert sink.stats.queued == 10_000


def test_a_fault_of_ours_is_counted_too(
    http: HttpCollector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """L5: a bug in the exporter's thread is told once, and its calls wait for a better version."""

    def broken(*arguments: object) -> bytes:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(exporter, "request_of", broken)
        sink = tracer(http.url)
        book(sink, 1, 1)
        wait_until(lambda: "a fault of ours" in caplog.text)
    book(sink, 2, 5)
    assert caplog.text.count("a fault of ours") == 1
    assert left_over(sink) == 5


def test_a_call_that_is_no_trace_stops_no_other(
    http: HttpCollector, caplog: pytest.LogCaptureFixture
) -> None:
    """A damaged record is dropped alone, and counted."""
    sink = tracer(http.url)
    bad = streamed(2, begun={"trace_id": "no hex" * 5 + "xx", "trace_flags": 1})
    worse = streamed(3, begun={"model": "\udc80"})
    tell(sink, [streamed(1), bad, worse, streamed(4)])
    sink.close()
    assert settled(sink.stats) == (2, {"not_encodable": 2})
    assert len(http.calls) == 2
    assert caplog.text.count("a call cannot be") == 1
    assert "no hex" not in caplog.text


def test_a_request_stays_below_what_collectors_take(
    http: HttpCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of many bytes goes in several requests, and a call too large for any is dropped."""
    monkeypatch.setattr(exporter, "BODY_BYTES_MAX", 8_000)
    sink = tracer(http.url)
    tags = {f"tag{number}": "x" * 250 for number in range(32)}
    large = streamed(99, begun={"tags": tags})
    tell(sink, [*(streamed(number) for number in range(1, 11)), large])
    sink.close()
    assert settled(sink.stats) == (10, {"too_large": 1})
    assert len(http.requests) > 2
    assert all(len(request.body) < 8_200 for request in http.requests)


@pytest.mark.parametrize("poisoned", [[3], [1], [4, 7], [10]])
def test_a_call_that_the_collector_fails_at_holds_up_no_other(
    http: HttpCollector, monkeypatch: pytest.MonkeyPatch, poisoned: list[int]
) -> None:
    """Whatever the collector keeps saying to one call, all others arrive, and it is counted."""
    monkeypatch.setattr(exporter, "BACKOFF_SECONDS_MAX", 0.001)
    monkeypatch.setattr(exporter, "TRIES", 2)
    poison = [trace_id_of(streamed(number).call_id) for number in poisoned]
    http.fails = lambda body: any(bytes.fromhex(each) in body for each in poison)
    sink = tracer(http.url, batch_calls_max=10)
    tell(sink, [streamed(number) for number in range(1, 11)])
    wait_until(lambda: sink.stats.exported == 10 - len(poisoned))
    tell(sink, [streamed(number) for number in range(11, 31)])
    wait_until(lambda: sink.stats.exported == 30 - len(poisoned))
    wait_until(lambda: sink.stats.dropped["not_taken"] == len(poisoned))
    sink.close()
    assert settled(sink.stats) == (30 - len(poisoned), {"not_taken": len(poisoned)})


def test_a_collector_that_takes_nothing_is_no_call_s_fault(
    http: HttpCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often they are tried, calls wait while no other call is taken either."""
    monkeypatch.setattr(exporter, "BACKOFF_SECONDS_MAX", 0.001)
    monkeypatch.setattr(exporter, "TRIES", 2)
    http.fails = lambda body: True
    sink = tracer(http.url)
    book(sink, 1, 20)
    wait_until(lambda: sink.stats.failed > 150)
    assert (sink.stats.queued, sum(sink.stats.dropped.values())) == (20, 0)
    http.fails = lambda body: False
    wait_until(lambda: sink.stats.exported == 20)
    sink.close()
    assert settled(sink.stats) == (20, {})


def test_spans_that_were_not_kept_are_counted(http: HttpCollector) -> None:
    """A partial success says how many spans the collector did not keep."""
    http.say(Answer(rejected=3))
    sink = tracer(http.url)
    book(sink, 1, 1)
    sink.close()
    assert settled(sink.stats) == (1, {})
    assert (sink.stats.exported_spans, sink.stats.rejected_spans) == (len(http.spans) - 3, 3)


# == what is said of it ===========================================================================


def test_complaints_are_few_and_say_nothing_of_the_collectors_words(
    http: HttpCollector, caplog: pytest.LogCaptureFixture
) -> None:
    """One line says that traces are dropped, one that they are taken again."""
    caplog.set_level(logging.DEBUG)
    http.say(*[Answer(status=400)] * 5)
    sink = tracer(http.url, batch_calls_max=1)
    book(sink, 1, 6)
    http.wait_for(1)
    sink.close()
    said = [record.getMessage() for record in caplog.records if record.name != "asyncio"]
    assert len(said) == 2
    assert "refused: 400" in said[0]
    assert said[1] == "The collector takes traces again."
    assert "secret" not in caplog.text
