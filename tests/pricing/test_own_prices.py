"""Prices of one's own: what they cover, which one holds, what is refused."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taximeter.call import Usage
from taximeter.pricing import OwnPrice, PriceBook

DAY_NS = 86_400 * 10**9
ONE = Usage(input_tokens=1, output_tokens=0)


def day(text: str) -> int:
    """Give a day's first nanosecond."""
    return (datetime.date.fromisoformat(text) - datetime.date(1970, 1, 1)).days * DAY_NS


def own(model: str, usd: int, *, since: str | None = None, provider: str = "local") -> OwnPrice:
    """Make a price for input alone."""
    return OwnPrice.from_rates(
        provider=provider,
        model=model,
        valid_from=datetime.date.fromisoformat(since) if since else None,
        input_usd_per_million=Decimal(usd),
    )


def name(book: PriceBook, model: str, at_ns: int, provider: str = "local") -> str:
    """Name the price that holds for a model at a time."""
    return book.price(ONE, provider=provider, model=model, at_ns=at_ns).name


def test_first_pattern_that_fits_wins() -> None:
    """Of several patterns the first of the settings is taken."""
    book = PriceBook([own("fake-mini", 1), own("fake-*", 2), own("*", 3)])
    assert [name(book, model, 0) for model in ("fake-mini", "fake-max", "other")] == [
        "own fake-mini",
        "own fake-*",
        "own *",
    ]


def test_latest_entry_that_holds_at_the_start_wins() -> None:
    """A price's history is dated: the call's first day, in UTC, decides."""
    book = PriceBook(
        [
            own("fake-*", 2, since="2026-06-01"),
            own("fake-*", 1),
            own("fake-*", 3, since="2026-12-01"),
        ]
    )
    days = ("2026-05-31", "2026-06-01", "2026-11-30", "2026-12-01")
    assert [name(book, "fake-1", day(text)) for text in days] == [
        "own fake-*",
        "own fake-* from 2026-06-01",
        "own fake-* from 2026-06-01",
        "own fake-* from 2026-12-01",
    ]
    assert name(book, "fake-1", day("2026-06-01") - 1) == "own fake-*"


def test_pattern_that_does_not_hold_yet_gives_way() -> None:
    """Before its first day a pattern is not there, and the next that fits is taken."""
    book = PriceBook([own("fake-1", 2, since="2026-06-01"), own("fake-*", 1)])
    assert name(book, "fake-1", day("2026-05-31")) == "own fake-*"
    assert name(book, "fake-1", day("2026-06-01")) == "own fake-1 from 2026-06-01"
    alone = PriceBook([own("fake-1", 2, since="2026-06-01")])
    assert name(alone, "fake-1", day("2026-05-31")) == "unpriced: no such model"


def test_provider_must_be_the_one_named_or_all() -> None:
    """A price holds for its provider; `*` holds for all, for a call without one too."""
    book = PriceBook([own("m", 1), own("m", 2, provider="*")])
    cost = [
        book.price(ONE, provider=provider, model="m", at_ns=0).cost_pico
        for provider in ("local", "other", None)
    ]
    assert cost == [1_000_000, 2_000_000, 2_000_000]


def test_pattern_is_case_sensitive() -> None:
    """A model's name is matched as it is written."""
    assert name(PriceBook([own("Fake-*", 1)]), "fake-1", 0) == "unpriced: no such model"


def test_every_kind_of_rate() -> None:
    """Each rate is charged for its figure, and a part never with its whole."""
    price = OwnPrice.from_rates(
        provider="local",
        model="m",
        input_usd_per_million=Decimal("1"),
        output_usd_per_million=Decimal("10"),
        cached_usd_per_million=Decimal("0.1"),
        cache_write_usd_per_million=Decimal("1.25"),
        cache_write_1h_usd_per_million=Decimal("2"),
        reasoning_usd_per_million=Decimal("20"),
        input_audio_usd_per_million=Decimal("30"),
        output_audio_usd_per_million=Decimal("40"),
        input_image_usd_per_million=Decimal("50"),
        output_image_usd_per_million=Decimal("60"),
        usd_per_request=Decimal("0.01"),
        usd_per_thousand_web_searches=Decimal("10"),
    )
    usage = Usage(
        input_tokens=100,
        cached_tokens=10,
        cached_audio_tokens=4,
        cache_write_tokens=20,
        cache_write_1h_tokens=5,
        input_audio_tokens=14,
        input_image_tokens=3,
        output_tokens=50,
        reasoning_tokens=20,
        output_audio_tokens=7,
        output_image_tokens=2,
        web_searches=2,
    )
    expected_usd_per_million = (
        (100 - 20 - 14 - (10 - 4) - 3) * Decimal("1")
        + (10 - 4) * Decimal("0.1")
        + (20 - 5) * Decimal("1.25")
        + 5 * Decimal("2")
        + 14 * Decimal("30")  # cached audio has no rate of its own: it costs what audio costs
        + 3 * Decimal("50")
        + (50 - 20 - 7 - 2) * Decimal("10")
        + 20 * Decimal("20")
        + 7 * Decimal("40")
        + 2 * Decimal("60")
    )
    found = PriceBook([price]).price(usage, provider="local", model="m", at_ns=0)
    assert found.cost_pico == expected_usd_per_million * 10**6 + 10**10 + 2 * 10**10
    assert found.assumed == ()


def test_rates_that_are_not_by_the_token() -> None:
    """Images, minutes and characters are charged where they are priced, and needed there."""
    price = OwnPrice.from_rates(
        provider="local",
        model="m",
        usd_per_image=Decimal("0.04"),
        usd_per_audio_minute=Decimal("0.006"),
        usd_per_million_characters=Decimal("15"),
    )
    book = PriceBook([price])
    usage = Usage(images=2, audio_milliseconds=1_500, input_characters=10)
    found = book.price(usage, provider="local", model="m", at_ns=0)
    assert found.cost_pico == 80_000_000_000 + 150_000_000 + 150_000_000
    unknown = book.price(Usage(images=2), provider="local", model="m", at_ns=0)
    assert (unknown.cost_pico, unknown.name) == (None, "unpriced: audio_milliseconds unknown")


def test_cached_tokens_without_a_rate_cost_what_input_costs() -> None:
    """What is not given falls back to the whole, never to nothing."""
    usage = Usage(input_tokens=10, cached_tokens=10, cache_write_1h_tokens=0, output_tokens=0)
    found = PriceBook([own("m", 1)]).price(usage, provider="local", model="m", at_ns=0)
    assert found.cost_pico == 10_000_000


def test_model_that_is_free_by_ones_own_word_costs_nothing() -> None:
    """A rate of zero is a price, also for figures nobody knows."""
    found = PriceBook([own("m", 0)]).price(Usage(), provider="local", model="m", at_ns=0)
    assert found.cost_pico == 0


@pytest.mark.parametrize(
    "rates",
    [
        {},
        {"input_usd_per_million": None},
        {"input_usd_per_million": Decimal(-1)},
        {"input_usd_per_million": Decimal("NaN")},
        {"input_usd_per_million": Decimal("Infinity")},
        {"input_usd_per_millon": Decimal(1)},
        {"cached_usd_per_million": Decimal(1)},
        {"input_usd_per_million": Decimal(1), "reasoning_usd_per_million": Decimal(1)},
    ],
)
def test_senseless_rates_are_refused(rates: dict[str, Any]) -> None:
    """No rate, a negative, endless or misspelt one, a part without its whole: refused."""
    with pytest.raises(ValueError):
        OwnPrice.from_rates(provider="local", model="m", **rates)


def test_float_is_refused() -> None:
    """Money is never a float."""
    with pytest.raises(TypeError, match="not float"):
        OwnPrice.from_rates(provider="local", model="m", input_usd_per_million=0.1)  # type: ignore[arg-type]


@given(
    usd=st.decimals(min_value=0, max_value=10**4, places=8, allow_nan=False),
    parts=st.lists(st.integers(0, 10**7), min_size=3, max_size=3),
)
def test_cost_is_exact_for_every_rate(usd: Decimal, parts: list[int]) -> None:
    """Input, cached and output tokens cost the sum of their products, rounded half up once."""
    fresh, cached, output = parts
    price = OwnPrice.from_rates(
        provider="local",
        model="m",
        input_usd_per_million=usd,
        cached_usd_per_million=usd / 10,
        output_usd_per_million=usd * 3,
    )
    usage = Usage(input_tokens=fresh + cached, cached_tokens=cached, output_tokens=output)
    found = PriceBook([price]).price(usage, provider="local", model="m", at_ns=0)
    scaled = int(usd * 10**8)  # a hundredth of a pico-dollar for one token
    total = fresh * scaled * 10 + cached * scaled + output * scaled * 30  # in thousandths
    assert found.cost_pico == (2 * total + 1000) // 2000
