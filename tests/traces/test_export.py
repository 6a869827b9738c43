"""Booked calls reach a real receiver of OTLP, over HTTP and over gRPC."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from taximeter.recorder import Recorder
from tests.recorder.conftest import empty_ledger, world
from tests.recorder.make import World, book, whole
from tests.traces.collector import Collector, GrpcCollector, HttpCollector, attributes_of
from tests.traces.make import streamed, tell, tracer

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
