"""Whose price is taken, what a price is named, and what is unknown."""

from __future__ import annotations

import datetime
import json
import socket
import sys
import threading
from decimal import Decimal

import genai_prices
import pytest
from genai_prices.data_snapshot import get_snapshot

from taximeter.call import Usage
from taximeter.pricing import OwnPrice, Price, PriceBook, catalogue_models, newest_price_ns
from taximeter.pricing._catalogue import _ALIASES
from tests.rig.effort import effort

CHAT = Usage(input_tokens=1_200, cached_tokens=1_024, output_tokens=80)


def at(text: str) -> int:
    """Give a time in UTC as nanoseconds since the epoch."""
    moment = datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC)
    return int(moment.timestamp()) * 10**9


NOW = at("2026-11-22T12:00")


@pytest.fixture(scope="module")
def book() -> PriceBook:
    """Give a book with the built-in table alone."""
    return PriceBook()


def cost(
    book: PriceBook,
    usage: Usage,
    model: str,
    *,
    provider: str = "openai",
    at_ns: int = NOW,
    service_tier: str | None = None,
) -> int | None:
    """Give what a usage costs."""
    price = book.price(
        usage, provider=provider, model=model, at_ns=at_ns, service_tier=service_tier
    )
    return price.cost_pico


def test_tier_of_the_answer_chooses_the_price_and_is_named(book: PriceBook) -> None:
    """A flex answer costs flex prices, and its price says so."""
    price = book.price(
        CHAT, provider="openai", model="gpt-5.4-mini-2026-03-17", at_ns=NOW, service_tier="flex"
    )
    # 176 x $0.375 + 1,024 x $0.0375 + 80 x $2.25, per million
    assert price.cost_pico == 176 * 375_000 + 1_024 * 37_500 + 80 * 2_250_000
    assert price.name.startswith("genai-prices ")
    assert price.name.endswith(" openai/gpt-5.4-mini flex")
    assert json.loads(price.rates)["cache_read_mtok"] == "0.0375"
    assert price.assumed == ()


@pytest.mark.parametrize("tier", [None, "default", "auto", "standard", "on_demand", "DEFAULT"])
def test_words_for_the_standard_tier_are_the_standard_price(
    book: PriceBook, tier: str | None
) -> None:
    """However a provider words it, standard is not flagged."""
    price = book.price(CHAT, provider="openai", model="gpt-5.4-mini", at_ns=NOW, service_tier=tier)
    assert price.cost_pico == 568_800_000
    assert price.name.endswith("openai/gpt-5.4-mini")


@pytest.mark.parametrize(
    ("provider", "model", "tier"),
    [
        ("openai", "gpt-5.4-mini", "scale"),
        ("azure", "gpt-4o", "flex"),
        ("groq", "llama-3.3-70b-versatile", "performance"),
    ],
)
def test_tier_without_a_price_of_its_own_is_flagged(
    book: PriceBook, provider: str, model: str, tier: str
) -> None:
    """The standard price is taken for a tier the table lacks, never in silence."""
    price = book.price(CHAT, provider=provider, model=model, at_ns=NOW, service_tier=tier)
    standard = book.price(CHAT, provider=provider, model=model, at_ns=NOW)
    assert price.cost_pico == standard.cost_pico is not None
    assert price.name == standard.name
    assert price.assumed == ("service_tier_not_matched",)


def test_flag_of_one_tier_does_not_stick_to_the_next(book: PriceBook) -> None:
    """Prices kept for one context are not given for another."""
    flagged = ("service_tier_not_matched",)
    for _ in range(2):
        prices = [
            book.price(CHAT, provider="openai", model="gpt-5.4-mini", at_ns=NOW, service_tier=tier)
            for tier in ("scale", "default", None, "flex", "priority")
        ]
        assert [price.name.rpartition("openai/gpt-5.4-mini")[2] for price in prices] == [
            *("", "", "", " flex", " priority")
        ]
        assert [price.assumed for price in prices] == [flagged, (), (), (), ()]


def test_tier_before_its_prices_existed_is_flagged(book: PriceBook) -> None:
    """A flex call of a day on which the table has no flex price says so."""
    price = book.price(
        CHAT,
        provider="openai",
        model="gpt-5.4-mini",
        at_ns=at("2026-10-01T00:00"),
        service_tier="flex",
    )
    assert price.assumed == ("service_tier_not_matched",)


def test_batch_is_half_also_when_the_answer_says_default(book: PriceBook) -> None:
    """Batch results report the tier `default` and cost batch prices."""
    price = book.price(
        CHAT, provider="openai", model="gpt-5.4-mini", at_ns=NOW, service_tier="default", batch=True
    )
    assert price.cost_pico == 284_400_000
    assert price.name.endswith(" batch")


def test_anthropic_names_batch_as_a_tier(book: PriceBook) -> None:
    """Anthropic's tier `batch` is the batch price."""
    usage = Usage(input_tokens=1_000, output_tokens=1_000)
    model = "claude-opus-4-5"
    whole = cost(book, usage, model, provider="anthropic", service_tier="standard")
    half = cost(book, usage, model, provider="anthropic", service_tier="batch")
    assert whole is not None
    assert half is not None
    assert half * 2 == whole


def test_long_context_is_a_cliff(book: PriceBook) -> None:
    """At 272,000 input tokens the base rates hold; one more and all tokens cost the next."""
    below = cost(book, Usage(input_tokens=272_000, output_tokens=0), "gpt-5.4")
    above = cost(book, Usage(input_tokens=272_001, output_tokens=0), "gpt-5.4")
    assert below == 272_000 * 2_500_000
    assert above == 272_001 * 5_000_000


def test_cache_writes_cost_by_their_time_to_live(book: PriceBook) -> None:
    """One-hour writes have their own rate, five-minute writes the rate of writes."""
    usage = Usage(
        input_tokens=1_000,
        cache_write_tokens=700,
        cache_write_5m_tokens=400,
        cache_write_1h_tokens=300,
        output_tokens=0,
    )
    expected = 300 * 5_000_000 + 400 * 6_250_000 + 300 * 10_000_000
    assert cost(book, usage, "claude-opus-4-5", provider="anthropic") == expected
    split_only = Usage(
        input_tokens=1_000,
        cache_write_5m_tokens=400,
        cache_write_1h_tokens=300,
        output_tokens=0,
    )
    assert cost(book, split_only, "claude-opus-4-5", provider="anthropic") == expected


def test_whisper_is_priced_by_the_second(book: PriceBook) -> None:
    """9.3 seconds at $0.006 a minute, exactly."""
    assert cost(book, Usage(audio_milliseconds=9_300), "whisper-1") == 930_000_000


def test_a_price_no_whole_number_of_pico_is_rounded_once(book: PriceBook) -> None:
    """Groq charges at least ten seconds, at $0.111 an hour: 308,333,333.3 pico-dollars."""
    usage = Usage(audio_milliseconds=1)
    assert cost(book, usage, "whisper-large-v3", provider="groq") == 308_333_333
    assert cost(book, Usage(audio_milliseconds=0), "whisper-large-v3", provider="groq") == 0


def test_call_before_a_price_change_costs_the_old_price(book: PriceBook) -> None:
    """The call's start decides, to the day."""
    usage = Usage(input_tokens=1_000_000, output_tokens=0)
    old = cost(book, usage, "o3", at_ns=at("2025-06-09T23:59:59"))
    new = cost(book, usage, "o3", at_ns=at("2025-06-10T00:00"))
    assert (old, new) == (10 * 10**12, 2 * 10**12)


def test_price_by_the_hour_of_the_day(book: PriceBook) -> None:
    """DeepSeek's prices follow the clock, also between two calls of the same day."""
    usage = Usage(input_tokens=1_000_000, output_tokens=0)

    def at_hour(hour: str) -> int | None:
        return cost(
            book,
            usage,
            "deepseek-v4-pro",
            provider="deepseek",
            at_ns=at(f"2026-11-20T{hour}"),
        )

    assert at_hour("01:00") == 1_320_000_000_000
    assert at_hour("00:59:59") == at_hour("04:00") != at_hour("03:59:59")
    assert at_hour("01:00") == at_hour("03:59:59") == at_hour("06:00")


def test_embeddings_have_no_output_to_know(book: PriceBook) -> None:
    """No output tokens are needed where output has no price."""
    assert cost(book, Usage(input_tokens=10), "text-embedding-3-small") == 200_000


@pytest.mark.parametrize(
    ("usage", "name"),
    [
        (None, "unpriced: no usage"),
        (Usage(input_tokens=10), "unpriced: output_tokens unknown"),
        (Usage(output_tokens=10), "unpriced: input_tokens unknown"),
        (Usage(), "unpriced: input_tokens unknown"),
    ],
)
def test_what_is_not_known_has_no_cost(book: PriceBook, usage: Usage | None, name: str) -> None:
    """A cost that would silently be too low is None, with the reason."""
    price = book.price(usage, provider="openai", model="gpt-4o", at_ns=NOW)
    assert (price.cost_pico, price.name) == (None, name)


@pytest.mark.parametrize(
    ("provider", "model", "name"),
    [
        ("openai", "no-such-model", "unpriced: no such model"),
        ("openai", "gpt-4o-2099-01-01", "unpriced: no such model"),
        ("openai", "gpt-4o" + "x" * 200, "unpriced: no such model"),
        ("ollama", "llama3.2", "unpriced: no such model"),
        ("vllm", "gpt-4o", "unpriced: no such model"),
        ("vllm-openai", "gpt-4o", "unpriced: no such model"),
        ("litellm", "my-gateway/gpt-4o", "unpriced: no such model"),
        (None, "gpt-4o", "unpriced: no provider"),
        ("openai", None, "unpriced: no model"),
        ("openai", "", "unpriced: no model"),
        ("google", "gemma-3-27b-it", "unpriced: no rates listed"),
    ],
)
def test_model_without_a_price_has_no_cost(
    book: PriceBook, provider: str | None, model: str | None, name: str
) -> None:
    """Unknown is None, never 0, and the reason is of a closed set: no name goes into it."""
    for _ in range(2):
        price = book.price(CHAT, provider=provider, model=model, at_ns=NOW)
        assert (price.cost_pico, price.name) == (None, name)


def test_zero_tokens_cost_zero(book: PriceBook) -> None:
    """Zero is a value."""
    assert cost(book, Usage(input_tokens=0, output_tokens=0), "gpt-4o") == 0


def test_cached_audio_not_stated_is_assumed_zero_and_flagged(book: PriceBook) -> None:
    """Cached and audio tokens without their overlap still have a cost."""
    usage = Usage(
        input_tokens=1_000,
        cached_tokens=100,
        input_audio_tokens=200,
        output_tokens=50,
        output_audio_tokens=20,
    )
    price = book.price(usage, provider="openai", model="gpt-realtime", at_ns=NOW)
    assert price.cost_pico is not None
    assert price.assumed == ("cached_audio_tokens=0",)
    stated = Usage(
        input_tokens=1_000,
        cached_tokens=100,
        input_audio_tokens=200,
        cached_audio_tokens=0,
        output_tokens=50,
        output_audio_tokens=20,
    )
    assert book.price(stated, provider="openai", model="gpt-realtime", at_ns=NOW) == Price(
        price.cost_pico, price.name, price.rates
    )


def test_cached_images_that_nobody_states_are_flagged(book: PriceBook) -> None:
    """So is an overlap for which there is no word."""
    usage = Usage(input_tokens=1_000, cached_tokens=100, input_image_tokens=200, output_tokens=50)
    price = book.price(usage, provider="openai", model="gpt-realtime", at_ns=NOW)
    assert price.cost_pico is not None
    assert price.assumed == ("cache_image_read_tokens=0",)


def test_parts_larger_than_their_whole_are_charged_and_flagged(book: PriceBook) -> None:
    """A contradiction costs what its parts cost, and never raises."""
    usage = Usage(input_tokens=10, cached_tokens=100, output_tokens=0)
    price = book.price(usage, provider="openai", model="gpt-4o", at_ns=NOW)
    assert price.cost_pico == 100 * 1_250_000
    assert price.assumed == ("clamped",)


def test_searches_without_a_price_are_flagged(book: PriceBook) -> None:
    """A call with web searches that the table cannot price says that they are not in its cost."""
    usage = Usage(input_tokens=10, output_tokens=0, web_searches=2)
    price = book.price(usage, provider="openai", model="gpt-3.5-turbo", at_ns=NOW)
    assert price.assumed == ("web_searches=0",)


def test_stated_cost_wins_over_everything(book: PriceBook) -> None:
    """What the provider says it charged is the cost, for models nobody knows too; 0 also."""
    for stated in (0, 123_456):
        usage = Usage(cost_pico=stated)
        price = book.price(usage, provider="openrouter", model="new/model", at_ns=NOW, free=True)
        assert price == Price(stated, "provider")


@pytest.mark.parametrize("stated", [-1, 2**63])
def test_impossible_stated_cost_is_ignored_and_flagged(book: PriceBook, stated: int) -> None:
    """A stated cost below zero, or beyond what a ledger can hold, is not taken."""
    usage = Usage(input_tokens=1, output_tokens=0, cost_pico=stated)
    price = book.price(usage, provider="openai", model="gpt-4o", at_ns=NOW)
    assert price.cost_pico == 2_500_000
    assert price.assumed == ("stated_cost_ignored",)


def test_implausible_usage_has_no_cost(book: PriceBook) -> None:
    """A cost beyond what a ledger can hold is unknown, not an error."""
    usage = Usage(input_tokens=10**18, output_tokens=0)
    price = book.price(usage, provider="openai", model="gpt-4o", at_ns=NOW)
    assert (price.cost_pico, price.name) == (None, "unpriced: plausible figures unknown")


def test_free_endpoint_costs_nothing(book: PriceBook) -> None:
    """What a provider does not charge for costs 0, with or without usage."""
    assert book.price(None, provider=None, model=None, at_ns=NOW, free=True) == Price(0, "free")


def test_own_price_wins_over_the_table_and_takes_no_tier(book: PriceBook) -> None:
    """A price of one's own is the price, whatever the tier."""
    own = OwnPrice.from_rates(
        provider="openai",
        model="gpt-*",
        input_usd_per_million=Decimal("1"),
        output_usd_per_million=Decimal("2"),
    )
    price = PriceBook([own]).price(
        CHAT, provider="openai", model="gpt-4o", at_ns=NOW, service_tier="flex"
    )
    assert price.cost_pico == 1_200 * 1_000_000 + 80 * 2_000_000
    assert price.name == "own gpt-*"


def test_deployment_is_priced_as_the_model_it_serves() -> None:
    """A deployment's name is mapped to its model; a price of its own name still wins."""
    own = OwnPrice.from_rates(provider="azure", model="dear", input_usd_per_million=Decimal(9))
    book = PriceBook([own], models={"prod-eu": "gpt-4o", "dear": "gpt-4o"})
    usage = Usage(input_tokens=1, output_tokens=0)
    assert cost(book, usage, "prod-eu", provider="azure") == 2_500_000
    assert cost(book, usage, "dear", provider="azure") == 9_000_000


@pytest.mark.parametrize(("alias", "provider"), sorted(_ALIASES.items()))
def test_other_names_of_a_provider_are_known(book: PriceBook, alias: str, provider: str) -> None:
    """A provider may be called by the names it goes by, in any case."""
    models = {"google": "gemini-2.5-flash", "azure": "gpt-4o", "x-ai": "grok-4"}
    model = models.get(provider)
    if model is None:
        model = next(m for p in get_snapshot().providers if p.id == provider for m in p.models).id
    direct = book.price(CHAT, provider=provider, model=model, at_ns=NOW)
    assert direct.cost_pico is not None
    assert book.price(CHAT, provider=alias.upper(), model=model, at_ns=NOW) == direct


def test_litellm_names_are_priced_as_the_provider_they_name(book: PriceBook) -> None:
    """`anthropic/...` behind LiteLLM costs what Anthropic charges, without the prefix too."""
    direct = book.price(CHAT, provider="anthropic", model="claude-opus-4-5", at_ns=NOW)
    assert direct.cost_pico is not None
    for model in ("anthropic/claude-opus-4-5", "claude-opus-4-5"):
        assert book.price(CHAT, provider="litellm", model=model, at_ns=NOW) == direct


def test_invented_names_fill_no_memory() -> None:
    """However many names clients invent, the cache stays at its bound and prices stay right."""
    book = PriceBook(cache_entries_max=8)
    expected = cost(book, CHAT, "gpt-4o")
    for number in range(50):
        assert cost(book, CHAT, f"gpt-4o-{number}") is None
        assert cost(book, CHAT, "gpt-4o", service_tier=f"tier-{number}") == expected
    assert len(book._entries) == 8
    assert all(len(entry.cards) < 8 for entry in book._entries.values())


def test_the_table_tells_its_names_and_how_new_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are its own; its newest price is one that holds by now, and asking loads nothing."""
    assert "gpt-4o" in catalogue_models()
    assert "gpt-4o-invented" not in catalogue_models()
    newest = newest_price_ns(NOW)
    assert newest is not None
    assert at("2026-01-01T00:00") < newest <= NOW
    assert newest_price_ns(newest) == newest
    earlier = newest_price_ns(newest - 1)
    assert earlier is not None
    assert earlier < newest
    assert newest_price_ns(0) is None
    monkeypatch.delitem(sys.modules, "taximeter.pricing._catalogue")
    assert newest_price_ns(NOW) is None


def test_pricing_opens_no_connection_and_starts_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is the one that is installed: nothing is fetched, nothing runs on."""

    def refuse(*_: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    threads = threading.active_count()
    assert cost(PriceBook(), CHAT, "gpt-4o") is not None
    assert threading.active_count() == threads


def test_price_from_the_cache_takes_microseconds(book: PriceBook) -> None:
    """A call of a known model is priced in a fraction of what the library takes to look it up."""
    cost(book, CHAT, "gpt-4o")
    usage = genai_prices.Usage(input_tokens=1, output_tokens=1)

    def again() -> None:
        for _ in range(100):
            cost(book, CHAT, "gpt-4o")

    def by_the_library() -> None:
        for _ in range(100):
            genai_prices.calc_price(usage, "gpt-4o", provider_id="openai")

    assert min(effort(again) for _ in range(3)) < effort(by_the_library) / 3
