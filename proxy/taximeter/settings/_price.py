"""Prices of one's own, as stated in the configuration: US dollars, exact decimals."""

from __future__ import annotations

import datetime
from decimal import Decimal

from pydantic import Field, model_validator

from taximeter.settings._kinds import Section, Usd


class OwnPrice(Section):
    """A price of your own. It wins over the built-in table; the first that fits is taken."""

    provider: str = Field(
        min_length=1, max_length=64, description="Provider as named by upstreams; `*` for all."
    )
    model: str = Field(
        min_length=1, max_length=128, description="Model, or a pattern of models such as `fake-*`."
    )
    valid_from: datetime.date | None = Field(
        None, description="First day (UTC) on which it holds; not given, it always does."
    )
    input_usd_per_million: Usd | None = Field(None, description="Input tokens.")
    output_usd_per_million: Usd | None = Field(None, description="Output tokens.")
    cached_usd_per_million: Usd | None = Field(None, description="Input tokens read from a cache.")
    cache_write_usd_per_million: Usd | None = Field(
        None, description="Input tokens written to a cache."
    )
    cache_write_1h_usd_per_million: Usd | None = Field(
        None, description="Input tokens written to a cache for an hour."
    )
    reasoning_usd_per_million: Usd | None = Field(None, description="Output tokens of reasoning.")
    input_audio_usd_per_million: Usd | None = Field(None, description="Input tokens of audio.")
    cached_audio_usd_per_million: Usd | None = Field(None, description="Cached tokens of audio.")
    output_audio_usd_per_million: Usd | None = Field(None, description="Output tokens of audio.")
    input_image_usd_per_million: Usd | None = Field(None, description="Input tokens of images.")
    output_image_usd_per_million: Usd | None = Field(None, description="Output tokens of images.")
    usd_per_request: Usd | None = Field(None, description="Each answered call.")
    usd_per_image: Usd | None = Field(None, description="Each image made.")
    usd_per_audio_minute: Usd | None = Field(None, description="Audio transcribed.")
    usd_per_million_characters: Usd | None = Field(None, description="Characters spoken.")
    usd_per_thousand_web_searches: Usd | None = Field(None, description="Web searches made.")

    def rates(self) -> dict[str, Decimal]:
        """Give the rates that are stated, by the names of their fields."""
        return {
            name: value
            for name in type(self).model_fields
            if name.startswith("usd_") or "_usd_" in name
            if (value := getattr(self, name)) is not None
        }

    @model_validator(mode="after")
    def _check(self) -> OwnPrice:
        given = self.rates()
        if not given:
            raise ValueError("states no rate; for a model that is free, state 0")
        for name in given:
            if name in ("input_usd_per_million", "output_usd_per_million"):
                continue
            if name.endswith("_usd_per_million"):
                outward = name.startswith(("output_", "reasoning_"))
                whole = "output_usd_per_million" if outward else "input_usd_per_million"
                if whole not in given:
                    raise ValueError(f"{name} needs {whole} beside it")
        return self
