"""Traces as a user has them: an application's own span, Taximeter's processes, a collector."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import baggage, context
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tests.rig import Script
from tests.rig.taximeter import Taximeter
from tests.rig.upstream import Upstream
from tests.support.ports import free_port
from tests.traces.collector import Answer, HttpCollector, attributes_of

PROPAGATOR = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
CHAT = {"model": "gpt-5.4-mini", "messages": [{"role": "user", "content": "prompt-canary"}]}
STREAM = {**CHAT, "stream": True}
COLLECTOR_SECRET = "collector-canary"


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    """The one scripted upstream of this module."""
    with Upstream() as started:
        yield started


@pytest.fixture(scope="module")
def collector() -> Iterator[HttpCollector]:
    """The one collector of this module."""
    with HttpCollector() as started:
        yield started


@pytest.fixture(scope="module")
def meter(
    upstream: Upstream, collector: HttpCollector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Taximeter]:
    """The one Taximeter of this module."""
    upstreams = {"openai": {"url": upstream.url, "dialect": "openai"}}
    otlp = {"endpoint": collector.url, "headers_env": "COLLECTOR_HEADERS"}
    meter = Taximeter(tmp_path_factory.mktemp("meter"), upstreams, otlp=otlp)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLLECTOR_HEADERS", f"authorization={COLLECTOR_SECRET}")
        meter.start()
    yield meter
    meter.stop()


@pytest.fixture(autouse=True)
def fresh(upstream: Upstream, collector: HttpCollector) -> None:
    """Nothing has been seen yet."""
    upstream.reset()
    upstream.default = Script()
    collector.requests.clear()
    collector.default = Answer()


def fetch(
    meter: Taximeter, said: dict[str, Any], headers: dict[str, str] | None = None, query: str = ""
) -> tuple[int, bytes]:
    """Make a call; give its status, and as much of its body as came."""
    connection = http.client.HTTPConnection("127.0.0.1", meter.port, timeout=10)
    with contextlib.closing(connection):
        path = "/v1/chat/completions" + query
        connection.request("POST", path, json.dumps(said), headers or {})
        answer = connection.getresponse()
        try:
            return answer.status, answer.read()
        except http.client.IncompleteRead as cut:
            return answer.status, cut.partial


def as_application(meter: Taximeter, said: dict[str, Any], *, sampled: bool = True) -> ReadableSpan:
    """Make a call as an instrumented application does; give the application's own span."""
    tracing = TracerProvider(sampler=ALWAYS_ON if sampled else ALWAYS_OFF, shutdown_on_exit=False)
    token = context.attach(baggage.set_baggage("user.id", "alice"))
    try:
        with tracing.get_tracer("app").start_as_current_span("answer a question") as span:
            headers: dict[str, str] = {"tracestate": "vendor=1"}
            PROPAGATOR.inject(headers)
            status, _ = fetch(meter, said, headers)
            assert status == 200
    finally:
        context.detach(token)
    return span  # type: ignore[return-value]


def test_our_spans_hang_below_the_applications(meter: Taximeter, collector: HttpCollector) -> None:
    """One trace: the application's span, our call in it, its attempt, their stages, each within."""
    began_ns = time.time_ns()
    own = as_application(meter, STREAM)
    (call,) = collector.wait_for(1)
    above = own.get_span_context()
    assert above is not None
    spans = collector.spans
    assert {span.trace_id.hex() for span in spans} == {f"{above.trace_id:032x}"}
    assert call.parent_span_id.hex() == f"{above.span_id:016x}"
    assert call.trace_state == "vendor=1"
    assert (call.name, call.flags) == ("chat gpt-5.4-mini", 0x300 | above.trace_flags)
    assert own.start_time is not None
    assert own.end_time is not None
    assert own.start_time <= call.start_time_unix_nano
    assert call.end_time_unix_nano <= own.end_time + 50_000_000  # settled after its last byte
    by_id = {span.span_id: span for span in spans}
    assert len(by_id) == len(spans)
    for span in spans:
        assert (len(span.trace_id), len(span.span_id)) == (16, 8)
        if span.span_id != call.span_id:
            parent = by_id[span.parent_span_id]
            assert parent.start_time_unix_nano <= span.start_time_unix_nano
            assert span.end_time_unix_nano <= parent.end_time_unix_nano
    said = attributes_of(call)
    assert (said["user.id"], said["taximeter.user_source"]) == ("alice", "baggage")
    meter.booked(1, since_ns=began_ns)


def test_spans_and_ledger_agree(meter: Taximeter, collector: HttpCollector) -> None:
    """Figures and stages of a trace are those of the call's row, to the token and nanosecond."""
    began_ns = time.time_ns()
    fetch(meter, STREAM, {"x-taximeter-user": "bob", "x-taximeter-tags": "env=test"})
    (row,) = meter.booked(1, since_ns=began_ns)
    (call,) = collector.wait_for(1)
    said = attributes_of(call)
    assert said["taximeter.call_id"] == row["id"]
    assert call.trace_id.hex() == row["id"].replace("-", "")
    assert call.start_time_unix_nano == row["started_at_ns"]
    assert said["gen_ai.usage.input_tokens"] == row["input_tokens"]
    assert said["gen_ai.usage.output_tokens"] == row["output_tokens"]
    assert round(said["gen_ai.usage.cost.amount"] * 10**12) == row["cost_pico"]
    assert said["taximeter.tag.env"] == "test"
    stages = {
        attributes_of(span)["taximeter.stage"]: span.end_time_unix_nano - span.start_time_unix_nano
        for span in collector.spans
        if "taximeter.stage" in attributes_of(span)
    }
    names = "receive queue connect first_byte first_token stream settle".split()
    booked = {name: row[f"stage_{name}_ns"] for name in names if row[f"stage_{name}_ns"]}
    assert stages == booked


def test_spans_are_what_the_upstream_and_the_client_saw(
    meter: Taximeter, upstream: Upstream, collector: HttpCollector
) -> None:
    """A span lies within the client's clock around the upstream's; its tokens are both's."""
    upstream.queue(Script(first_byte_seconds=0.3))
    began_ns = time.time_ns()
    _, body = fetch(meter, CHAT)
    ended_ns = time.time_ns()
    (call,) = collector.wait_for(1)
    usage = json.loads(body)["usage"]
    said, served = attributes_of(call), upstream.last
    assert served.figures is not None
    told = (said["gen_ai.usage.input_tokens"], said["gen_ai.usage.output_tokens"])
    assert told == (usage["prompt_tokens"], usage["completion_tokens"])
    assert told == (served.figures.input, served.figures.output)
    assert said["gen_ai.response.id"] == json.loads(body)["id"]
    by_name = {
        attributes_of(span).get("taximeter.stage", span.name): span for span in collector.spans
    }
    attempt = by_name["POST openai"]
    assert began_ns <= call.start_time_unix_nano <= attempt.start_time_unix_nano
    assert attempt.end_time_unix_nano <= call.end_time_unix_nano <= ended_ns + 50_000_000
    waited = by_name["first_byte"]
    waited_ns = waited.end_time_unix_nano - waited.start_time_unix_nano
    assert 300_000_000 <= waited_ns <= ended_ns - began_ns
    (asked,) = upstream.log
    assert len([span for span in collector.spans if span.kind == span.SPAN_KIND_CLIENT]) == 1
    assert attributes_of(attempt)["http.response.status_code"] == asked.status


def test_an_application_that_does_not_trace_is_not_traced(
    meter: Taximeter, collector: HttpCollector
) -> None:
    """A client's decision against its trace is kept, unless the call fails."""
    began_ns = time.time_ns()
    as_application(meter, CHAT, sampled=False)
    fetch(meter, CHAT)
    meter.booked(2, since_ns=began_ns)
    (call,) = collector.wait_for(1)
    assert not call.parent_span_id


def test_a_broken_stream_is_a_span_in_error(
    meter: Taximeter, upstream: Upstream, collector: HttpCollector
) -> None:
    """A truncated call says so, by status, error type and event."""
    upstream.queue(Script(cut_after_events=3, cut="rst"))
    fetch(meter, STREAM)
    (call,) = collector.wait_for(1)
    said = attributes_of(call)
    assert said["taximeter.outcome"] == "truncated"
    assert said["error.type"] == "upstream_truncated"
    assert call.status.code == call.status.STATUS_CODE_ERROR
    assert call.events[-1].name == "taximeter.truncated"


def test_no_secret_and_no_content_is_exported(
    meter: Taximeter, upstream: Upstream, collector: HttpCollector
) -> None:
    """H9, H10: no byte that is exported is of a credential, a prompt, an answer or a message."""
    canary = "canary-5f1e"
    headers = {
        "Authorization": f"Bearer sk-{canary}",
        "x-api-key": canary,
        "Cookie": f"session={canary}",
        "x-other": canary,
    }
    said = {**CHAT, "messages": [{"role": "user", "content": canary}], "metadata": {"a": canary}}
    answers = [
        Script(),
        Script(status=400, body=json.dumps({"error": {"message": canary, "code": "bad"}})),
        Script(cut_after_events=2),
        Script(headers=[("x-secret", canary)]),
    ]
    for number, script in enumerate(answers):
        upstream.queue(script)
        fetch(meter, {**said, "stream": number % 2 == 0}, headers, query=f"?key={canary}")
    collector.wait_for(len(answers))
    exported = b"".join(
        request.body + json.dumps(request.headers).encode() for request in collector.requests
    )
    assert canary.encode() not in exported
    assert b"prompt-canary" not in exported
    assert canary not in meter.log_text()


def test_the_collectors_headers_reach_it_and_nobody_else(
    meter: Taximeter, collector: HttpCollector
) -> None:
    """H9: the recorder sends them; no file of ours holds them."""
    fetch(meter, CHAT)
    collector.wait_for(1)
    assert collector.requests[0].headers["authorization"] == COLLECTOR_SECRET
    kept = b"".join(path.read_bytes() for path in meter.folder.rglob("*") if path.is_file())
    assert b"COLLECTOR_HEADERS" in kept  # the configuration
    assert COLLECTOR_SECRET.encode() not in kept


def test_a_dead_collector_costs_calls_and_ledger_nothing(
    upstream: Upstream, tmp_path: Path
) -> None:
    """D9: with nobody at the endpoint calls are relayed and booked, and it ends in time."""
    upstreams = {"openai": {"url": upstream.url, "dialect": "openai"}}
    meter = Taximeter(tmp_path, upstreams, otlp={"endpoint": "http://127.0.0.1:9"})
    meter.start()
    try:
        assert [fetch(meter, CHAT)[0] for _ in range(20)] == [200] * 20
        meter.booked(20)
    finally:
        began = time.monotonic()
        code = meter.stop()
    assert code == 0
    assert time.monotonic() - began < 8


def test_a_killed_recorder_loses_no_trace(upstream: Upstream, tmp_path: Path) -> None:
    """Traces arrive at least once: the collector is down, everything is killed, it comes up.

    H9: what waits meanwhile is on disk, for its owner alone, and holds no prompt and no credential.
    """
    canary = "canary-7c2d"
    headers = {"Authorization": f"Bearer sk-{canary}", "x-api-key": canary}
    upstreams = {"openai": {"url": upstream.url, "dialect": "openai"}}
    port = free_port()
    meter = Taximeter(tmp_path, upstreams, otlp={"endpoint": f"http://127.0.0.1:{port}"})
    meter.start()
    try:
        for number in range(1, 31):
            said = {**CHAT, "messages": [{"role": "user", "content": canary}]}
            fetch(meter, said, headers, query=f"?key={canary}")
            if number % 10 == 0:
                meter.booked(number)
                if number == 20:
                    meter.kill()
                    meter.start()
                elif (pid := meter.children().get("recorder")) is not None:
                    os.kill(pid, signal.SIGKILL)
        files = [*(tmp_path / "traces").iterdir()]
        assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
        assert canary.encode() not in b"".join(path.read_bytes() for path in files)
        wanted = {row["id"] for row in meter.booked(30)}
        assert len(wanted) == 30
        with HttpCollector(port) as late:
            deadline = time.monotonic() + 20
            while {attributes_of(span)["taximeter.call_id"] for span in late.calls} != wanted:
                assert time.monotonic() < deadline, meter.log_text()
                time.sleep(0.05)
            assert meter.stop() == 0
            assert len(late.calls) == 30
        assert [path.name for path in (tmp_path / "traces").iterdir()] == ["acknowledged"]
    finally:
        meter.stop()


def test_headers_are_checked_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`check` and `serve` say which variable is missing, and `check` shows where traces go."""
    meter = Taximeter(tmp_path, {}, otlp={"endpoint": "http://c:4318", "headers_env": "OUR_KEYS"})
    with pytest.raises(subprocess.CalledProcessError) as refused:
        meter.run("check")
    assert refused.value.returncode == 2
    assert "OUR_KEYS: otlp.headers_env: is not set" in refused.value.stderr
    with pytest.raises(RuntimeError, match=r"OUR_KEYS: otlp\.headers_env: is not set"):
        meter.start()
    monkeypatch.setenv("OUR_KEYS", "authorization=s3cret")
    shown = meter.run("check")
    assert "endpoint: http://c:4318" in shown
    assert "s3cret" not in shown


OFF = """
import sys
from taximeter.settings import Settings
from taximeter.traces import Tracer
from tests.traces.make import NOTHING, streamed

tracer = Tracer(Settings())
tracer.booked([streamed()], NOTHING)
tracer.reload(Settings())
tracer.close()
costly = ("opentelemetry", "grpc", "google.protobuf", "aiohttp")
print([name for name in costly if name in sys.modules])
"""


def test_traces_that_are_off_import_nothing() -> None:
    """Without an endpoint neither OpenTelemetry nor a transport is loaded."""
    said = subprocess.run(
        [sys.executable, "-c", OFF], capture_output=True, text=True, check=True, timeout=30
    )
    assert said.stdout.strip() == "[]"
