"""The built-in table is read exactly as its own library reads it, to the pico-dollar.

genai-prices' `calc_price` is the reference: every provider, every model, several shapes of
usage, both sides of every date and hour at which a price changes, every context.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal, localcontext

import genai_prices
import pytest
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import (
    ModelInfo,
    ModelPrice,
    PriceCalculation,
    Provider,
    StartDateConstraint,
    TimeOfDateConstraint,
)
from hypothesis import given
from hypothesis import strategies as st

from taximeter.call import Usage
from taximeter.pricing import PriceBook

TEXT = Usage(input_tokens=1_234, output_tokens=567)
SHAPES = {
    "text": TEXT,
    "nothing": Usage(input_tokens=0, output_tokens=0),
    "at the cliff": Usage(input_tokens=272_000, output_tokens=1),
    "beyond the cliff": Usage(
        input_tokens=300_001,
        cached_tokens=1_024,
        cache_write_tokens=500,
        cache_write_5m_tokens=300,
        cache_write_1h_tokens=200,
        output_tokens=83,
        reasoning_tokens=31,
    ),
    "many kinds": Usage(
        input_tokens=2_001,
        cached_tokens=701,
        input_audio_tokens=403,
        cached_audio_tokens=101,
        input_image_tokens=301,
        input_video_tokens=11,
        output_tokens=907,
        output_audio_tokens=203,
        output_image_tokens=107,
        output_video_tokens=13,
    ),
    "not by the token": Usage(
        input_tokens=11,
        output_tokens=5,
        audio_milliseconds=7_345,
        input_characters=321,
        web_searches=3,
    ),
}
CONTEXTS: list[dict[str, str]] = [
    {"service_tier": "default"},
    {"service_tier": "flex"},
    {"service_tier": "priority"},
    {"service_tier": "fast"},
    {"processing": "batch"},
    {"service_tier": "default", "processing": "batch"},
    {"service_tier": "flex", "processing": "batch"},
    {"speed": "fast"},
    {"search_type": "fast"},
    {"route": "mistral/eu"},
]
NOW = datetime.datetime(2026, 11, 22, 12, 0, tzinfo=datetime.UTC)
MICROSECOND = datetime.timedelta(microseconds=1)


def theirs(usage: Usage) -> genai_prices.Usage:
    """The same usage in their words, with every figure that they would else have to guess."""
    seconds = Decimal(usage.audio_milliseconds or 0) / 1000
    return genai_prices.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cached_tokens or 0,
        cache_write_tokens=usage.cache_write_tokens or 0,
        cache_write_5m_tokens=usage.cache_write_5m_tokens or 0,
        cache_write_1h_tokens=usage.cache_write_1h_tokens or 0,
        output_reasoning_tokens=usage.reasoning_tokens or 0,
        input_audio_tokens=usage.input_audio_tokens or 0,
        input_image_tokens=usage.input_image_tokens or 0,
        input_video_tokens=usage.input_video_tokens or 0,
        cache_audio_read_tokens=usage.cached_audio_tokens or 0,
        cache_image_read_tokens=0,
        output_audio_tokens=usage.output_audio_tokens or 0,
        output_image_tokens=usage.output_image_tokens or 0,
        output_video_tokens=usage.output_video_tokens or 0,
        audio_seconds=seconds,
        input_audio_seconds=seconds,
        input_characters=usage.input_characters or 0,
        web_searches=usage.web_searches or 0,
    )


def in_pico(price: PriceCalculation) -> int:
    """Their total in whole pico-dollars, rounded half up."""
    with localcontext(prec=60):
        return int((price.total_price * 10**12).quantize(Decimal(1), ROUND_HALF_UP))


def edges(model: ModelInfo) -> Iterator[datetime.datetime]:
    """Every moment at which a price of the model changes, and the moment before it."""
    constraints = [variant.constraint for variant in model.price_variants or ()]
    if not isinstance(model.prices, ModelPrice):
        constraints += [conditional.constraint for conditional in model.prices]
    for constraint in constraints:
        if isinstance(constraint, StartDateConstraint):
            day = constraint.start_date
            edge = datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.UTC)
            yield from (edge - MICROSECOND, edge)
        elif isinstance(constraint, TimeOfDateConstraint):
            for time in (constraint.start_time, constraint.end_time):
                edge = datetime.datetime.combine(datetime.date(2026, 8, 1), time)
                yield from (edge - MICROSECOND, edge)


def words(clause: object) -> Iterator[str]:
    """Every text that a rule of matching names."""
    for value in vars(clause).values():
        if isinstance(value, str):
            yield value
        else:
            for inner in value:
                yield from words(inner)


def name_of(provider: Provider, model: ModelInfo) -> str:
    """Give a name that finds a model: its id, for most."""
    for name in (model.id, *words(model.match)):
        if provider.find_model(name) is model:
            return name
    raise LookupError(f"no name finds {provider.id}/{model.id}")


def nanoseconds(at: datetime.datetime) -> int:
    """Give a time as exact nanoseconds since the epoch."""
    return int((at - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) / MICROSECOND) * 1000


def differences(book: PriceBook, provider: Provider, model: ModelInfo) -> Iterator[str]:
    """Name each case in which the book and the library do not agree on a model."""
    name = name_of(provider, model)
    cases: list[tuple[str, datetime.datetime, dict[str, str]]]
    cases = [(shape, NOW, {}) for shape in SHAPES]
    moments = {NOW, *edges(model)}
    cases += [("beyond the cliff", at, {}) for at in moments]
    if model.price_variants:
        cases += [("beyond the cliff", at, context) for at in moments for context in CONTEXTS]
    for shape, at, context in cases:
        usage = SHAPES[shape]
        expected = genai_prices.calc_price(
            theirs(usage),
            name,
            provider_id=provider.id,
            genai_request_timestamp=at,
            price_context=context,
        )
        price = book.price(
            usage,
            provider=provider.id,
            model=name,
            at_ns=nanoseconds(at),
            service_tier=context.get("service_tier"),
            batch="processing" in context,
            variant={
                key: context[key] for key in ("speed", "search_type", "route") if key in context
            },
        )
        if price.cost_pico != in_pico(expected) and not is_unknown(price.name, usage, expected):
            yield f"{provider.id}/{model.id} {shape} {at} {context}: {price}, {expected}"


def is_unknown(name: str, usage: Usage, expected: PriceCalculation) -> bool:
    """Tell whether the book rightly has no price where the library silently says less."""
    stated = {key for key, value in vars(expected.model_price).items() if value is not None}
    if name == "unpriced: no rates listed":
        return not stated and not expected.model.id.endswith(":free")
    if any(key.endswith(("input_mtok", "output_mtok")) for key in stated):
        return False
    unstated = {
        "unpriced: audio_milliseconds unknown": (usage.audio_milliseconds, "audio_hours"),
        "unpriced: input_characters unknown": (usage.input_characters, "input_mchars"),
        "unpriced: input_document_pages unknown": (None, "input_document_kpages"),
        "unpriced: input_annotated_document_pages unknown": (
            None,
            "input_annotated_document_kpages",
        ),
        "unpriced: input_text_messages unknown": (None, "input_text_messages_kcount"),
    }
    if name not in unstated:
        return False
    figure, key = unstated[name]
    return figure is None and key in stated


@pytest.mark.parametrize("provider", get_snapshot().providers, ids=lambda provider: provider.id)
def test_every_price_of_a_provider_equals_the_library_s(provider: Provider) -> None:
    """Whatever the model, the shape, the date and the tier: the same cost, to the pico-dollar."""
    book = PriceBook()
    found = [line for model in provider.models for line in differences(book, provider, model)]
    assert found == []


BOOK = PriceBook()
counts = st.integers(0, 400_000)


@given(
    model=st.sampled_from(["gpt-realtime", "gpt-5.4", "gpt-4o", "o4-mini-deep-research"]),
    parts=st.lists(counts, min_size=7, max_size=7),
)
def test_every_split_of_tokens_costs_the_same_as_in_the_library(
    model: str, parts: list[int]
) -> None:
    """However input and output fall into kinds, to the pico-dollar."""
    text, audio, cached, cached_audio, image, output, output_audio = parts
    usage = Usage(
        input_tokens=text + audio + cached + cached_audio + image,
        cached_tokens=cached + cached_audio,
        input_audio_tokens=audio + cached_audio,
        cached_audio_tokens=cached_audio,
        input_image_tokens=image,
        output_tokens=output + output_audio,
        output_audio_tokens=output_audio,
    )
    expected = genai_prices.calc_price(
        theirs(usage), model, provider_id="openai", genai_request_timestamp=NOW
    )
    price = BOOK.price(usage, provider="openai", model=model, at_ns=nanoseconds(NOW))
    assert price.cost_pico == in_pico(expected)


@given(
    model=st.sampled_from(["gpt-realtime", "gpt-5.4", "whisper-1", "text-embedding-3-small"]),
    figures=st.dictionaries(
        st.sampled_from(Usage.__struct_fields__), st.integers(-(2**64), 2**64), max_size=8
    ),
)
def test_no_usage_breaks_the_book(model: str, figures: dict[str, int]) -> None:
    """Whatever an upstream states, there is a price or a reason, and never less than nothing."""
    price = BOOK.price(Usage(**figures), provider="openai", model=model, at_ns=nanoseconds(NOW))
    assert price.cost_pico is None or 0 <= price.cost_pico < 2**63
    assert price.name.startswith("unpriced: ") == (price.cost_pico is None)
