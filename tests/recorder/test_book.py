"""What is booked of a call: usage, whose word it is, and what it cost."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from taximeter.call import Closed, Counted, Fact, Outcome, Usage, UsageSource
from taximeter.recorder import Bookkeeping, Ready
from taximeter.recorder._follow import JOURNAL_DAMAGED, WORKER_DIED, interrupted
from taximeter.settings import Settings
from tests.recorder.make import PRICES, attempt, call_id, closed, counted, opened, pending

MICRO = 1_000_000
"""Pico-dollars of a micro-dollar: the price of one input token of `fake-1`."""


def settings(**more: Any) -> Settings:
    """Give settings with the price of `fake-1`."""
    return Settings.model_validate({"prices": PRICES, "data_dir": Path("/nowhere"), **more})


def entry_of(end: Closed, count: Counted | None = None, **more: Any) -> Any:
    """Give what is booked of a call under some settings."""
    return Bookkeeping(settings(**more)).entry_of(Ready(end, count))


def usage(inputs: int | None, outputs: int | None, **more: Any) -> Usage:
    """Give a usage."""
    return Usage(input_tokens=inputs, output_tokens=outputs, **more)


REPORTED, PARTIAL = UsageSource.REPORTED, UsageSource.PARTIAL
ESTIMATED, ABSENT = UsageSource.ESTIMATED, UsageSource.ABSENT


@pytest.mark.parametrize(
    ("known", "source", "facts", "count", "expected"),
    [
        (usage(5, 2), REPORTED, [], None, (5, 2, REPORTED, None)),
        (usage(0, 0), REPORTED, [], None, (0, 0, REPORTED, None)),
        (usage(5, 2), REPORTED, [], counted(1), (5, 2, REPORTED, None)),
        (None, ABSENT, [Fact.COUNT_PENDING], counted(1), (7, 3, ESTIMATED, "o200k_base")),
        (None, ABSENT, [Fact.COUNT_PENDING], None, (10, 1, ESTIMATED, "bytes/4")),
        (usage(9, 1), PARTIAL, [Fact.COUNT_PENDING], counted(1), (9, 3, ESTIMATED, "o200k_base")),
        (usage(9, 50), PARTIAL, [Fact.COUNT_PENDING], counted(1), (9, 50, PARTIAL, None)),
        (usage(0, None), PARTIAL, [Fact.COUNT_PENDING], None, (0, 1, ESTIMATED, "bytes/4")),
        (usage(9, 1), PARTIAL, [Fact.COUNT_PENDING], None, (9, 1, PARTIAL, None)),
        (None, ABSENT, [], None, (None, None, ABSENT, None)),
    ],
    ids=[
        "reported",
        "reported nought",
        "reported, and counted in vain",
        "counted",
        "count never came",
        "partial, more was delivered",
        "partial, less was delivered",
        "partial, nought in, count never came",
        "partial, count never came and says no more",
        "nobody knows",
    ],
)
def test_whose_word_is_taken(
    known: Usage | None,
    source: UsageSource,
    facts: list[Fact],
    count: Counted | None,
    expected: tuple[int | None, int | None, UsageSource, str | None],
) -> None:
    """What was reported stands; a count fills what is missing, and says by which rule."""
    end = closed(
        1, usage=known, usage_source=source, facts=facts, text_bytes_in=40, text_bytes_out=4
    )
    entry = entry_of(end, count)
    found = entry.usage or Usage()
    assert (
        found.input_tokens,
        found.output_tokens,
        entry.usage_source,
        entry.count_rule,
    ) == expected


def test_other_figures_survive_a_count() -> None:
    """A count changes the two totals and nothing else that was reported."""
    known = usage(9, 1, cached_tokens=4, reasoning_tokens=0)
    entry = entry_of(
        closed(1, usage=known, usage_source=PARTIAL, facts=[Fact.COUNT_PENDING]), counted(1)
    )
    assert entry.usage == usage(9, 3, cached_tokens=4, reasoning_tokens=0)


@pytest.mark.parametrize(
    ("stated", "left"),
    [
        (usage(2**40 + 1, 5), usage(None, 5)),
        (usage(3, 2**53), usage(3, None)),
        (usage(3, -1), usage(3, None)),
        (usage(3, 5, cached_tokens=2**41), usage(None, 5)),
        (usage(3, 5, reasoning_tokens=2**41), usage(3, None)),
        (usage(3, 5, images=2**60), usage(None, 5)),
    ],
)
def test_a_count_beyond_belief_is_unknown_and_so_is_the_cost(stated: Usage, left: Usage) -> None:
    """C10: an older relay's record of such a count is booked: figure and cost NULL, and marked."""
    entry = entry_of(closed(1, usage=stated, raw_usage="{}"))
    assert (entry.usage, entry.usage_source) == (left, REPORTED)
    assert entry.cost_pico is None
    assert entry.closed.facts == [Fact.USAGE_CLAMPED]
    assert entry.closed.raw_usage == "{}"
    assert entry_of(closed(1, usage=stated, facts=[Fact.USAGE_CLAMPED])).closed.facts == [
        Fact.USAGE_CLAMPED
    ]


NO_USAGE: dict[str, Any] = {"usage": None, "usage_source": ABSENT}


@pytest.mark.parametrize(
    ("end", "cost", "price"),
    [
        (closed(3), 5 * MICRO, "own"),
        (closed(3, usage=usage(0, 0)), 0, "own"),
        (closed(3, usage=usage(3, 1, cost_pico=42)), 42, "provider"),
        (
            closed(3, outcome=Outcome.REJECTED, status=429, attempts=[], **NO_USAGE),
            *(0, "not sent"),
        ),
        (closed(3, outcome=Outcome.ABANDONED, status=None, attempts=[], **NO_USAGE), 0, "not sent"),
        (
            closed(
                3,
                outcome=Outcome.UPSTREAM_ERROR,
                status=502,
                attempts=[attempt(sent_ns=None, status=None, error="connect")],
                **NO_USAGE,
            ),
            *(0, "not sent"),
        ),
        (
            closed(
                3,
                outcome=Outcome.UPSTREAM_ERROR,
                status=500,
                attempts=[attempt(status=500)],
                **NO_USAGE,
            ),
            *(0, "error answer"),
        ),
        (
            closed(
                3,
                outcome=Outcome.UPSTREAM_ERROR,
                status=504,
                attempts=[attempt(status=None, error="first_byte")],
                **NO_USAGE,
            ),
            *(None, "unpriced"),
        ),
        (closed(3, outcome=Outcome.ABANDONED, status=None, **NO_USAGE), None, "unpriced"),
        (
            closed(
                3,
                begun=opened(3, retry_of=call_id(1)),
                facts=[Fact.REPLAYED],
                attempts=[],
                **NO_USAGE,
            ),
            *(0, f"replay of {call_id(1)}"),
        ),
        (closed(3, facts=[Fact.DEFERRED], **NO_USAGE), None, "deferred"),
        (closed(3, facts=[Fact.FREE], **NO_USAGE), 0, "free"),
        (closed(3, **NO_USAGE), None, "unpriced"),
        (closed(3, begun=opened(3, model="never-heard-of")), None, "unpriced"),
        (closed(3, begun=opened(3, model=None)), None, "unpriced"),
        (interrupted(opened(3), WORKER_DIED), None, "unpriced"),
        (interrupted(opened(3), JOURNAL_DAMAGED), None, "unpriced"),
        (
            closed(
                3,
                outcome=Outcome.INTERRUPTED,
                status=503,
                error="draining",
                attempts=[],
                **NO_USAGE,
            ),
            *(0, "not sent"),
        ),
        (
            closed(
                3,
                outcome=Outcome.UPSTREAM_ERROR,
                status=400,
                attempts=[attempt(status=400)],
                usage=usage(3, 0),
            ),
            *(3 * MICRO, "own"),
        ),
    ],
    ids=[
        "priced",
        "reported nought",
        "stated by the provider",
        "rejected",
        "left in the queue",
        "no connection",
        "error answer",
        "sent, and no answer came",
        "client left before the first byte",
        "given again",
        "not finished",
        "free",
        "no usage",
        "unknown model",
        "no model",
        "worker died",
        "journal damaged",
        "drained while it waited",
        "an error that tells its usage",
    ],
)
def test_what_a_call_costs(end: Closed, cost: int | None, price: str) -> None:
    """C10: what was not sent, or answered by an error, costs 0; what nobody knows costs NULL."""
    entry = entry_of(end)
    assert entry.cost_pico == cost
    assert entry.price.startswith(price)
    of_no_list = price.startswith(("not sent", "error answer", "replay of"))
    assert (entry.price_rates is None) == (cost is None or of_no_list)


@pytest.mark.parametrize("stated", [None, Usage(), usage(0, 0), usage(5, None)])
def test_a_price_per_request_needs_no_usage(stated: Usage | None) -> None:
    """What a completed call costs is known where its price asks for no figure."""
    flat = {"provider": "*", "model": "fake-1", "usd_per_request": "0.01"}
    entry = entry_of(closed(1, usage=stated), prices=[flat])
    assert (entry.cost_pico, entry.price) == (10_000 * MICRO, "own fake-1")
    both = entry_of(closed(1, usage=None), prices=[{**PRICES[0], "usd_per_request": "0.01"}])
    assert (both.cost_pico, both.price) == (None, "unpriced: no usage")


@pytest.mark.parametrize(
    "end",
    [
        interrupted(opened(1), WORKER_DIED),
        closed(1, outcome=Outcome.ABANDONED, status=None, usage=None),
        closed(1, outcome=Outcome.TRUNCATED, usage=None),
        closed(1, facts=[Fact.DEFERRED], usage=None),
    ],
)
def test_a_price_per_request_is_of_what_was_answered(end: Closed) -> None:
    """A call that was not answered whole, or not yet, has no cost for want of a usage."""
    flat = {"provider": "*", "model": "fake-1", "usd_per_request": "0.01"}
    assert entry_of(end, prices=[flat]).cost_pico is None


def test_the_answering_model_is_priced() -> None:
    """The price is of the model that answered, not of the one asked for."""
    assert entry_of(closed(3, response_model="never-heard-of")).cost_pico is None
    end = closed(3, begun=opened(3, model="alias"), response_model="fake-1")
    assert entry_of(end).cost_pico == 5 * MICRO


@pytest.mark.parametrize(
    ("upstream", "provider"),
    [
        ({"url": "https://api.groq.com/openai"}, "groq"),
        ({"url": "https://api.groq.com/openai", "provider": "mine"}, "mine"),
        ({"url": "http://127.0.0.1:9", "dialect": "anthropic"}, "anthropic"),
        ({"url": "http://127.0.0.1:9", "dialect": "gemini"}, "google"),
        ({"url": "http://127.0.0.1:9"}, "openai"),
    ],
)
def test_whose_prices_apply(upstream: dict[str, str], provider: str) -> None:
    """The settings say; else the upstream's URL does; else its dialect."""
    entry = entry_of(closed(1, begun=opened(1, upstream="it")), upstreams={"it": upstream})
    assert entry.closed.opened.provider == provider


def test_an_upstream_that_is_gone_from_the_settings_keeps_its_provider() -> None:
    """A journal may be older than the configuration: what the record says stands."""
    end = closed(1, begun=opened(1, upstream="gone", provider="openai", model="gpt-4o-mini"))
    entry = entry_of(end)
    assert entry.closed.opened.provider == "openai"
    assert entry.cost_pico is not None


def test_a_deployment_s_name_is_priced_as_its_model() -> None:
    """Where an upstream's models are renamed, the settings' map says what they are."""
    upstreams = {"azure": {"url": "https://x.openai.azure.com", "models": {"prod": "fake-1"}}}
    end = closed(3, begun=opened(3, upstream="azure", model="prod"))
    assert entry_of(end, upstreams=upstreams).cost_pico == 5 * MICRO
    assert entry_of(end).cost_pico is None


def test_a_price_of_a_deployment_s_own_name_comes_first() -> None:
    """One's own price for the name in use holds; then the first that fits it or its model."""
    models = {"dear": "gpt-4o", "plain": "gpt-4o", "my-1": "gpt-4.1", "listed": "gpt-4.1"}
    upstreams = {"azure": {"url": "https://x.openai.azure.com", "models": models}}

    def costs(*own: tuple[str, str]) -> list[int | None]:
        prices = [
            {"provider": "azure", "model": model, "input_usd_per_million": usd}
            for model, usd in own
        ]
        books = Bookkeeping(settings(upstreams=upstreams, prices=prices))
        ends = [
            closed(1, begun=opened(1, upstream="azure", model=model), usage=usage(1, 0))
            for model in models
        ]
        return [books.entry_of(Ready(end)).cost_pico for end in ends]

    list_4o, list_41 = 2_500_000, 2 * MICRO
    assert costs() == [list_4o, list_4o, list_41, list_41]
    own = ("gpt-4o", "5"), ("dear", "7"), ("my-*", "3")
    assert costs(*own) == [7 * MICRO, 5 * MICRO, 3 * MICRO, list_41]
    assert costs(*own, ("*", "9")) == [7 * MICRO, 5 * MICRO, 3 * MICRO, 9 * MICRO]


def test_own_prices_hold_from_their_day() -> None:
    """A price of one's own applies to calls of its days, whenever they are booked."""
    old, new = ({**PRICES[0], "input_usd_per_million": Decimal(n)} for n in (1, 3))
    books = settings(prices=[{**new, "valid_from": "2026-09-22"}, old])
    day = 86_400 * 10**9
    for moved, cost in ((-2, 3 * MICRO + 2 * MICRO), (2, 9 * MICRO + 2 * MICRO)):
        end = closed(3, begun=opened(3, started_at_ns=1_790_035_200_000_000_000 + moved * day))
        assert Bookkeeping(books).entry_of(Ready(end)).cost_pico == cost


def test_a_count_by_size_needs_no_more_than_sizes() -> None:
    """The rule of last resort: a quarter of the bytes, rounded up; a size not noted is unknown."""
    entry = entry_of(pending(1, text_bytes_in=41, text_bytes_out=None))
    assert entry.usage == usage(11, None)
    assert entry.closed.opened.call_id == call_id(1)
