"""The kinds of values that settings have, each with its bounds."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from taximeter.settings import _values

MEBI = 1024 * 1024
GIBI = 1024 * MEBI


def number(value: object) -> object:
    # Pydantic takes `true` for 1; a person who wrote it meant something else.
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


Count = Annotated[int, BeforeValidator(number), Field(ge=1, le=1_000_000)]
Bytes = Annotated[int, BeforeValidator(number), Field(ge=0, le=1024 * GIBI)]
Seconds = Annotated[float, BeforeValidator(number), Field(gt=0, le=86_400, allow_inf_nan=False)]
Milliseconds = Annotated[int, BeforeValidator(number), Field(ge=1, le=60_000)]
Usd = Annotated[
    Decimal,
    BeforeValidator(number),
    Field(ge=0, le=1_000_000, allow_inf_nan=False, max_digits=24, decimal_places=12),
]
HeaderNames = Annotated[
    tuple[Annotated[str, AfterValidator(_values.header_name)], ...], Field(max_length=16)
]


class Section(BaseModel):
    """What all parts of the configuration share: frozen, and no key they do not know."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True
    )
