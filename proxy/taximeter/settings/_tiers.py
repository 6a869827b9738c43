"""Who may do how much: tiers, users, teams, their budgets; and where the counts are kept."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    SecretStr,
    model_validator,
)

from taximeter.settings import _values
from taximeter.settings._admission import BURST_SECONDS, Rates, ShareAboveZero
from taximeter.settings._kinds import Milliseconds, Seconds, Section, Usd, number

PICO_PER_USD = 1_000_000_000_000
DEFAULT_TIER = "default"
NAMES_MAX = 10_000

_NAME_CHARACTERS_MAX = 128
_TIER = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_PREFIX = re.compile(r"[0-9A-Za-z._:-]{1,64}")

Tokens = Annotated[int, BeforeValidator(number), Field(ge=0, le=1_000_000_000_000_000)]
Weight = Annotated[float, BeforeValidator(number), Field(ge=0.001, le=1000, allow_inf_nan=False)]
OutputTokens = Annotated[int, BeforeValidator(number), Field(ge=1, le=1_000_000_000)]
InputTokens = Annotated[int, BeforeValidator(number), Field(ge=0, le=1_000_000_000)]


class Budget(Section):
    """An amount for each calendar window (UTC): US dollars or tokens."""

    usd: Usd | None = Field(None, description="US dollars, exact. Either this or `tokens`.")
    tokens: Tokens | None = Field(None, description="Tokens, input and output together.")
    per: Literal["hour", "day", "month"] = Field(
        "day", description="Calendar window (UTC), at whose end it begins anew."
    )
    hard: bool = Field(
        True,
        description="Refuse (402) what would pass it. Off, such calls go and are only marked.",
    )
    unpriced: Literal["allow", "refuse"] = Field(
        "allow", description="What becomes of a call without a known price, if it is hard."
    )

    @model_validator(mode="after")
    def _check(self) -> Budget:
        if self.usd is None and self.tokens is None:
            raise ValueError("states no amount: give usd or tokens")
        if self.usd is not None and self.tokens is not None:
            raise ValueError("gives usd and tokens both; make two budgets of it")
        if self.tokens is not None and self.unpriced == "refuse":
            raise ValueError("refuses what has no price, and is a budget of tokens: give usd")
        if not self.hard and self.unpriced == "refuse":
            raise ValueError("refuses what has no price, and is not hard: one of them is a mistake")
        return self

    @property
    def pico(self) -> int | None:
        """The amount in pico-dollars; None for a budget of tokens."""
        return None if self.usd is None else int(self.usd * Decimal(PICO_PER_USD))


def _list_of(value: object) -> object:
    # One budget is the usual case, and is written without a list.
    return [value] if isinstance(value, dict | Budget) else value


def _distinct(budgets: tuple[Budget, ...]) -> tuple[Budget, ...]:
    kinds = [(budget.usd is None, budget.per) for budget in budgets]
    if len(set(kinds)) < len(kinds):
        raise ValueError("has two budgets of the same kind for the same window")
    return budgets


Budgets = Annotated[
    tuple[Budget, ...], BeforeValidator(_list_of), AfterValidator(_distinct), Field(max_length=6)
]


class Shared(Rates):
    """What all users of a tier may do together."""

    budget: Budgets = Field((), description="Budget, or list of budgets, of all of them together.")


class Tier(Rates):
    """What each user of a tier may do."""

    weight: Weight = Field(
        1, description="Share of a busy upstream that a user gets, beside users of other weights."
    )
    burst_seconds: Seconds = Field(
        BURST_SECONDS,
        le=3600,
        description="How many seconds' worth of a rate may be used at once, after a pause.",
    )
    input_tokens_max: InputTokens | None = Field(
        None, description="Longest input of a call; above, it is refused (400)."
    )
    output_tokens_max: OutputTokens | None = Field(
        None, description="Longest output that a call may ask for."
    )
    output_over: Literal["clamp", "refuse"] = Field(
        "clamp",
        description=(
            "What becomes of a call that asks for more output: `clamp` sends it with "
            "`output_tokens_max` instead, `refuse` answers 400."
        ),
    )
    budget: Budgets = Field(
        (), description="Budget, or list of budgets, of each user: at most one a window and kind."
    )
    shared: Shared = Field(Shared(), description="What all users of the tier may do together.")


class User(Rates):
    """A user known by name. What is not said here is as the tier has it."""

    tier: str | None = Field(None, description="Tier; not given, `default_tier`.")
    weight: Weight | None = Field(None, description="Instead of the tier's.")
    burst_seconds: Seconds | None = Field(None, le=3600, description="Instead of the tier's.")
    input_tokens_max: InputTokens | None = Field(None, description="Instead of the tier's.")
    output_tokens_max: OutputTokens | None = Field(None, description="Instead of the tier's.")
    output_over: Literal["clamp", "refuse"] | None = Field(
        None, description="Instead of the tier's."
    )
    budget: Budgets | None = Field(
        None, description="Instead of the tier's budgets, all of them; an empty list for none."
    )

    def within(self, tier: Tier) -> Tier:
        """Give what holds for this user: the tier, with what is said here in its place."""
        said = {
            name: value
            for name in type(self).model_fields
            if name != "tier" and (value := getattr(self, name)) is not None
        }
        return tier.model_copy(update=said)


class Team(Section):
    """A team known by name."""

    budget: Budgets = Field((), description="Budget, or list of budgets, of the whole team.")


def tier_name(name: str) -> str:
    if not _TIER.fullmatch(name):
        raise ValueError(
            "a tier's name is 1 to 32 of a-z, 0-9, _ and -, and begins with a letter or digit"
        )
    return name


def person_name(name: str) -> str:
    if not name.isprintable() or name != name.strip() or not 0 < len(name) <= _NAME_CHARACTERS_MAX:
        raise ValueError("a name is 1 to 128 printable characters, with no space at its ends")
    return name


TierName = Annotated[str, AfterValidator(tier_name)]
PersonName = Annotated[str, AfterValidator(person_name)]


def wrong_tiers(
    tiers: dict[str, Tier], users: dict[str, User], default_tier: str
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Find tiers that are named and not there: the key of each, and what is wrong with it."""
    known = {DEFAULT_TIER, *tiers}
    hint = f"there is no tier of this name; there are: {', '.join(sorted(known))}"
    if default_tier not in known:
        yield ("default_tier",), hint
    for name, user in users.items():
        if user.tier is not None and user.tier not in {*known, default_tier}:
            yield ("users", name, "tier"), hint


def _prefix(text: str) -> str:
    if not _PREFIX.fullmatch(text):
        raise ValueError("must be 1 to 64 letters, digits and . _ : -")
    return text


class Redis(Section):
    """How counts are shared, with `state: redis://...`. When Redis is slow or gone, calls go on."""

    deadline_milliseconds: Milliseconds = Field(
        50,
        le=5000,
        description="Longest that a call waits for Redis; then the limits of this process hold.",
    )
    local_share: ShareAboveZero | None = Field(
        None,
        description=(
            "Part of each limit and budget that one process goes by while Redis does not answer. "
            "Not given, one part of as many as there are `workers`; with several machines, give "
            "1 / (machines x workers)."
        ),
    )
    key_prefix: Annotated[str, AfterValidator(_prefix)] = Field(
        "taximeter", description="What every key in Redis begins with."
    )


def read_state(value: object) -> str | SecretStr:
    """Read where counts are kept: the word `memory`, or a URL that may carry a password."""
    if value == "memory" or isinstance(value, SecretStr):
        return value
    what = "`memory`, or a URL such as redis://127.0.0.1:6379/0"
    if not isinstance(value, str) or len(value) > 2048 or not value.strip().isascii():
        raise ValueError(f"must be {what}")
    text = value.strip()
    if not text.isprintable() or any(sign in text for sign in (" ", "\\", "?", "#")):
        raise ValueError(f"must be {what}, without a query")
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("redis", "rediss") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or not re.fullmatch(r"(/[0-9]{0,4})?", parts.path):
        raise ValueError(f"must be {what}")
    return SecretStr(text)


def shown_state(value: str | SecretStr) -> str:
    """Give where counts are kept as it may be shown."""
    if isinstance(value, SecretStr):
        return _values.without_password(value.get_secret_value())
    return value


State = Annotated[
    str | SecretStr,
    BeforeValidator(read_state),
    PlainSerializer(shown_state, return_type=str),
]
