"""Makes booked calls and the commits that booked them, and reads expositions back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample

from taximeter.call import Stage, Usage, UsageSource
from taximeter.ledger import Committed, Entry
from taximeter.ledger._rollup import Tally, summed_of_row
from taximeter.ledger._rows import call_row
from taximeter.metrics import Meter
from taximeter.settings import Settings
from tests.recorder.make import closed, opened

MILLISECOND = 1_000_000

STAGES = {
    Stage.RECEIVE: 1 * MILLISECOND,
    Stage.QUEUE: 0,
    Stage.CONNECT: 20 * MILLISECOND,
    Stage.FIRST_BYTE: 300 * MILLISECOND,
    Stage.FIRST_TOKEN: 4 * MILLISECOND,
    Stage.STREAM: 2_000 * MILLISECOND,
    Stage.SETTLE: 1 * MILLISECOND,
}


USAGE = Usage(input_tokens=100, output_tokens=21, cached_tokens=40)


def settings(**more: Any) -> Settings:
    """Make a configuration with one upstream of each family."""
    return Settings.model_validate(more)


def entry(
    number: int,
    *,
    user: str | None = "alice",
    team: str | None = "blue",
    model: str | None = "gpt-4o",
    stream: bool = False,
    cost_pico: int | None = 1_500_000,
    price: str | None = "own openai/gpt-4o",
    usage: Usage | None = USAGE,
    usage_source: UsageSource = UsageSource.REPORTED,
    begun: dict[str, Any] | None = None,
    **more: Any,
) -> Entry:
    """Make a booked call; it completed, and the upstream reported its usage."""
    beginning = opened(
        number,
        user=user,
        team=team,
        model=model,
        stream=stream,
        provider="openai",
        **(begun or {}),
    )
    end = {"stages": STAGES, "usage": usage, "usage_source": usage_source, **more}
    return Entry(
        closed=closed(number, begun=beginning, **end),
        usage=usage,
        usage_source=usage_source,
        cost_pico=cost_pico,
        price=price,
    )


def committed(entries: Iterable[Entry]) -> Committed:
    """Make what the ledger says of a commit of these, all of them new."""
    tally, ids = Tally(), []
    for each in entries:
        tally.count(summed_of_row(call_row(each)))
        ids.append(each.call_id)
    return Committed(frozenset(ids), frozenset(), {}, tally.sums(), tally.cache_writes())


def book(meter: Meter, *entries: Entry) -> dict[str, bytes]:
    """Have a meter hear of a commit, and give what it has kept of it."""
    done = committed(entries)
    kept = dict(meter.note(entries, done))
    meter.booked(entries, done)
    return kept


def samples(text: bytes, *, openmetrics: bool = False) -> list[Sample]:
    """Read an exposition back."""
    if openmetrics:
        whole = text.decode() + "# EOF\n"
        families = parse_openmetrics(whole)  # type: ignore[no-untyped-call]  # it has no types
    else:
        families = parse_text(text.decode())
    return [sample for family in families for sample in family.samples]


def values(meter: Meter, name: str, **labels: str) -> dict[tuple[str, ...], float]:
    """Give the series of a name that have these labels, by the values of the others."""
    return {
        tuple(value for label, value in sorted(sample.labels.items()) if label not in labels): (
            sample.value
        )
        for sample in samples(meter.expose(False))
        if sample.name == name and labels.items() <= sample.labels.items()
    }


def value(meter: Meter, name: str, **labels: str) -> float | None:
    """Give the value of the one series that has just these labels; None if there is none."""
    found = [
        sample.value
        for sample in samples(meter.expose(False))
        if sample.name == name and sample.labels == labels
    ]
    assert len(found) < 2, f"{name} twice"
    return found[0] if found else None


def total(meter: Meter, name: str, **labels: str) -> float:
    """Give the sum over the series of a name that have these labels."""
    return sum(values(meter, name, **labels).values())
