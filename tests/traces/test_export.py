"""Booked calls reach a real receiver of OTLP, over HTTP and over gRPC."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from taximeter.ledger import Batch, Committed, Ledger, LedgerUnavailable
from taximeter.recorder import Recorder
from taximeter.traces import Tracer, TraceStats
from tests.recorder.conftest import empty_ledger, world
from tests.recorder.faults import Died, dying
from tests.recorder.make import World, book, whole
from tests.traces.collector import Collector, GrpcCollector, HttpCollector, attributes_of
from tests.traces.make import settings, streamed, tell, tracer

__all__ = ["empty_ledger", "world"]

pytestmark = pytest.mark.usefixtures("data_dir")


@pytest.fixture(params=["http", "grpc"])
def collector(request: pytest.FixtureRequest) -> Iterator[Collector]:
    """A collector of each kind."""
    with HttpCollector() if request.param == "http" else GrpcCollector() as started:
        yield started


def test_a_booked_call_is_exported(world: World, collector: Collector) -> None:
    """Every call that the recorder books arrives at the collector as spans."""
    sink = tracer(collector.url, protocol=collector.protocol)
    world.journal(*whole([1, 2, 3]))
    recorder = Recorder(world.settings, sinks=[sink], clock=lambda: world.now)
    recorder.begin()
    book(recorder)
    recorder.close()
    sink.close()
    named = {attributes_of(span)["taximeter.call_id"] for span in collector.calls}
    assert named == world.calls().keys()
    assert (sink.stats.exported, sink.stats.queued) == (3, 0)
    assert sink.stats.exported_spans == len(collector.spans)
    assert recorder.sinks.failures == {"traces": 0}


@pytest.mark.parametrize("nth", [1, 2, 4])
@pytest.mark.parametrize(
    ("where", "name", "when"),
    [
        (Ledger, "commit", "before"),
        (Ledger, "commit", "after"),
        (Tracer, "note", "before"),
        (Tracer, "note", "after"),
        (Tracer, "booked", "before"),
        (Tracer, "booked", "after"),
    ],
)
def test_a_recorder_may_die_anywhere(
    where: Any, name: str, when: str, nth: int, world: World
) -> None:
    """Traces arrive at least once: killed around a commit, the next recorder's collector has all.

    The first recorder's collector is down, so that nothing of it has been taken anywhere else.
    """
    world.journal(*whole(range(1, 40)), segment_bytes=2048)
    world.settings = world.configure(recorder={"batch_rows_max": 5})
    with dying(where, name, when, nth):
        recorder = Recorder(world.settings, sinks=[Tracer(settings("http://127.0.0.1:9"))])
        recorder.begin()
        with pytest.raises(Died):
            book(recorder)
        recorder.close()
    with HttpCollector() as collector:
        sink = Tracer(settings(collector.url))
        recorder = Recorder(world.settings, sinks=[sink])
        recorder.begin()
        book(recorder)
        recorder.close()
        named = [attributes_of(span)["taximeter.call_id"] for span in collector.calls]
    assert set(named) == world.calls().keys()
    assert len(world.calls()) == 39
    assert len(named) <= 39 + 10, "more than one commit was repeated"
    assert sink.stats.dropped == TraceStats().dropped
    repeats = {span.span_id: span.SerializeToString() for span in collector.calls}
    assert all(span.SerializeToString() == repeats[span.span_id] for span in collector.calls)


@pytest.mark.parametrize("lost", [True, False])
def test_a_ledger_that_is_away_for_long_fills_no_spool(
    lost: bool, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that is tried a hundred times writes its calls down once, and exports them once."""
    world.journal(*whole(range(1, 11)))
    real, tries = Ledger.commit, [0]

    def refusing(ledger: Ledger, batch: Batch, note: Any) -> Committed:
        tries[0] += 1
        if tries[0] > 100:
            return real(ledger, batch, note)
        if lost:
            real(ledger, batch, note)
        else:
            note(Committed(frozenset(each.call_id for each in batch.entries), frozenset(), {}))
        raise LedgerUnavailable("gone", "wait")

    monkeypatch.setattr("taximeter.recorder._commits.RETRY_SECONDS_MAX", 0.0)
    monkeypatch.setattr("taximeter.recorder._commits.RETRY_SECONDS_FIRST", 0.0)
    monkeypatch.setattr(Ledger, "commit", refusing)
    with HttpCollector() as collector:
        sink = Tracer(settings(collector.url))
        recorder = Recorder(world.settings, sinks=[sink])
        recorder.begin()
        book(recorder)
        recorder.close()
        named = [attributes_of(span)["taximeter.call_id"] for span in collector.calls]
    assert tries[0] > 100
    assert sorted(named) == sorted(world.calls())
    assert (sink.stats.exported, sink.stats.queued) == (10, 0)


def test_the_resource_says_who_speaks(collector: Collector) -> None:
    """The service's name and version, and what the settings add, stand on the resource."""
    sink = tracer(
        collector.url,
        protocol=collector.protocol,
        service_name="meter",
        resource={"deployment.environment": "test"},
    )
    tell(sink, [streamed()])
    sink.close()
    (group,) = collector.requests[0].message.resource_spans
    said = attributes_of(group.resource)
    assert said["service.name"] == "meter"
    assert said["deployment.environment"] == "test"
    assert said["service.version"]
    (scoped,) = group.scope_spans
    assert scoped.scope.name == "taximeter"
