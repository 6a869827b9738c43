"""What running processes tell of themselves, as text: for the supervisor's `/metrics`. Pure."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence

import taximeter
from taximeter.live import ChildState, ConfigState, Headroom, RelayState
from taximeter.metrics import _running as families
from taximeter.metrics._draw_admission import draw_admission
from taximeter.metrics._exposition import Picture
from taximeter.metrics._family import SECOND
from taximeter.metrics._names import shown

HEADROOMS_MAX = 1_000
"""Rate limits shown. Relays bound what they tell, too; beyond this the oldest are left out."""


def expose_live(
    relays: Sequence[RelayState],
    processes: Mapping[str, ChildState],
    openmetrics: bool,
    config: ConfigState | None = None,
) -> bytes:
    """Give what relays and the supervisor know, without OpenMetrics' closing line.

    Args:
        relays: the newest state of each relay that runs.
        processes: all processes by name, those that are down included.
        openmetrics: the format; else Prometheus' text format 0.0.4.
        config: what became of the configuration.
    """
    picture = Picture()
    for relay in relays:
        _draw_relay(picture, relay)
    _draw_headroom(picture, [each for relay in relays for each in relay.headroom])
    picture.set(families.BUILD, 1, taximeter.__version__, platform.python_version())
    if config is not None:
        picture.set(families.CONFIG_GOOD, int(config.is_good))
        picture.set(families.CONFIG_TIME, config.taken_at_seconds)
    for name, child in processes.items():
        picture.set(families.UP, int(child.up), name)
        picture.set(families.RESTARTS, child.restarts, name)
        state = child.process
        if state is not None:
            picture.set(families.CPU, state.cpu_seconds, name)
            picture.set(families.RESIDENT, state.resident_bytes, name)
            picture.set(families.OPEN_FDS, state.open_files, name)
            picture.set(families.MAX_FDS, state.open_files_max, name)
            picture.set(families.STARTED, state.started_at_seconds, name)
    return picture.text(as_openmetrics=openmetrics)


def _draw_relay(picture: Picture, relay: RelayState) -> None:
    process = f"relay-{relay.worker}"
    for upstream, calls in relay.in_flight.items():
        picture.set(families.IN_FLIGHT, calls, process, upstream)
    for upstream, seconds in relay.oldest_seconds.items():
        picture.set(families.IN_FLIGHT_OLDEST, seconds, process, upstream)
    for outcome, calls in relay.outcomes.items():
        picture.set(families.RELAYED, calls, process, outcome)
    for family, value in (
        (families.CONNECTIONS, relay.connections),
        (families.UNPARSED, relay.unparsed),
        (families.REFUSED_CONNECTIONS, relay.refused_connections),
        (families.FAULTS, relay.faults),
        (families.RECORDS, relay.records),
        (families.RECORDS_REFUSED, relay.records_refused),
        (families.HAS_JOURNAL, int(relay.has_journal)),
        (families.STATES_DROPPED, relay.states_dropped),
    ):
        picture.set(family, value, process)
    picture.set(families.COUNTS_UNDONE, relay.counts_refused, process, "refused")
    picture.set(families.COUNTS_UNDONE, relay.counts_late, process, "late")
    picture.set(families.COUNTS_UNDONE, relay.counts_failed, process, "failed")
    picture.set(families.HELD_BYTES, relay.body_bytes, process, "request")
    picture.set(families.HELD_BYTES, relay.tap_bytes, process, "tap")
    picture.set(families.HELD_BYTES, relay.replay_bytes, process, "replay")
    for event, count in relay.replays.items():
        picture.set(families.REPLAYS, count, process, event)
    for upstream, pool in relay.pools.items():
        picture.set(families.POOL, pool.in_use, process, upstream, "in_use")
        picture.set(families.POOL, pool.idle, process, upstream, "idle")
        picture.set(families.POOL_WAITING, pool.waiting, process, upstream)
    draw_admission(picture, process, relay.admission)
    lag = relay.loop_lag
    if len(lag.buckets) == len(families.LOOP_LAG.edges) + 1:
        bins = {**picture.bins.get(families.LOOP_LAG, {})}
        bins[(process,)] = [*lag.buckets, round(lag.sum_seconds * SECOND)]
        picture.bins[families.LOOP_LAG] = bins


def _draw_headroom(picture: Picture, told: Sequence[Headroom]) -> None:
    """Of what several relays were told of one limit, the newest word holds."""
    newest = {
        (each.upstream, shown(each.model), each.resource): each
        for each in sorted(told, key=lambda each: each.at_seconds)[-HEADROOMS_MAX:]
    }
    for labels, each in newest.items():
        picture.set(families.RATE_LIMIT, each.limit, *labels)
        picture.set(families.RATE_REMAINING, each.remaining, *labels)
        picture.set(families.RATE_TOLD, each.at_seconds, *labels)
