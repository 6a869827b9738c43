"""The file of a scenario: who calls how often, and what serves them.

It is read as the configuration is: YAML, every key known, every problem with its line and a hint.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from taximeter import admission
from taximeter.admission import simulation
from taximeter.settings import Section, person_name

USERS_MAX = 10_000
CALLS_MAX = 500_000
"""Of a run. They take a minute or two, and more would say nothing new."""
PICO_PER_TOKEN_OF_USD_PER_MILLION = 1_000_000


def _number(value: object) -> object:
    # Pydantic takes `true` for 1; a person who wrote it meant something else.
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


Whole = Annotated[int, BeforeValidator(_number), Field(ge=0, le=1_000_000_000)]
Positive = Annotated[int, BeforeValidator(_number), Field(ge=1, le=1_000_000)]
Number = Annotated[float, BeforeValidator(_number), Field(ge=0, le=1_000_000, allow_inf_nan=False)]
Above = Annotated[float, BeforeValidator(_number), Field(gt=0, le=1_000_000, allow_inf_nan=False)]
Rate = Annotated[float, BeforeValidator(_number), Field(ge=1e-6, le=1_000_000)]
"""Its inverse is a time that can be counted in nanoseconds."""
Spread = Annotated[float, BeforeValidator(_number), Field(ge=0, le=10)]
"""Of a time; an exponent, so that 10 is a factor of millions already."""
Share = Annotated[float, BeforeValidator(_number), Field(ge=0, le=1, allow_inf_nan=False)]
Usd = Annotated[Decimal, BeforeValidator(_number), Field(ge=0, le=1_000_000, decimal_places=6)]
Name = Annotated[str, Field(min_length=1, max_length=100)]


class Group(Section):
    """Users who are alike. One alone has the group's name; of several, each a number, too."""

    count: Annotated[int, BeforeValidator(_number), Field(ge=1, le=USERS_MAX)] = 1
    calls_per_second: Rate
    """Of each user."""
    input_tokens: Whole = 500
    output_tokens: Positive = 300
    output_spread: Number = 0.5
    output_tokens_max: Positive | None = 1000
    patience_seconds: Above | None = None
    from_second: Number = 0.0
    until_second: Above | None = None
    evenly: bool = False
    model: Name = "model"
    team: str = ""
    tier: str | None = None


class Prices(Section):
    """What tokens cost; without it, spend is unknown."""

    input_usd_per_million: Usd
    output_usd_per_million: Usd


class Outage(Section):
    """A time in which the server fails a share of its calls."""

    from_second: Number
    until_second: Above
    status: Annotated[int, Field(ge=400, le=599)] | Literal["refused"] = 503
    share: Share = 1.0
    retry_after_seconds: Number | None = None


class Server(Section):
    """The model server."""

    capacity: Positive = 16
    capacity_later: Positive | None = None
    capacity_changes_at: Number = float(1_000_000)
    first_byte_seconds: Above = 0.3
    first_byte_spread: Spread = 0.3
    tokens_per_second: Rate = 100.0
    full: Literal["queue", "refuse"] = "queue"
    requests_per_minute: Positive | None = None
    outages: tuple[Outage, ...] = Field((), max_length=100)


class ScenarioFile(Section):
    """The whole file."""

    seconds: Annotated[float, BeforeValidator(_number), Field(gt=0, le=86_400)] = 60.0
    settle_seconds: Number = 0.0
    seed: Whole = 1
    upstream: Name = "openai"
    users: dict[Name, Group] = Field(min_length=1, max_length=1000)
    server: Server = Server()
    prices: Prices | None = None

    @model_validator(mode="after")
    def _check(self) -> ScenarioFile:
        if self.settle_seconds >= self.seconds:
            raise ValueError("settle_seconds must be below seconds")
        count = sum(group.count for group in self.users.values())
        if count > USERS_MAX:
            raise ValueError(f"has {count:,} users, and {USERS_MAX:,} is the most")
        calls = sum(
            group.count * group.calls_per_second * self._lasts(group)
            for group in self.users.values()
        )
        if calls > CALLS_MAX:
            raise ValueError(
                f"comes to some {calls:,.0f} calls, and {CALLS_MAX:,} is the most: "
                "take fewer seconds"
            )
        names = [name for group in self.members().values() for name in group]
        if len(set(names)) < len(names):
            raise ValueError("gives two users the same name: rename a group")
        for name in names:
            person_name(name)
        return self

    def _lasts(self, group: Group) -> float:
        until = self.seconds if group.until_second is None else group.until_second
        return max(0.0, min(until, self.seconds) - group.from_second)

    def members(self) -> dict[str, list[str]]:
        """Give the users of each group."""
        return {
            name: [name]
            if group.count == 1
            else [f"{name}-{number + 1}" for number in range(group.count)]
            for name, group in self.users.items()
        }

    def scenario(self, policy: admission.Policy) -> simulation.Scenario:
        """Give the scenario, under a policy."""
        members = self.members()
        prices = self.prices
        return simulation.Scenario(
            loads=tuple(
                self._load(user, group)
                for name, group in self.users.items()
                for user in members[name]
            ),
            policy=policy,
            server=self._server(),
            seconds=self.seconds,
            settle_seconds=self.settle_seconds,
            seed=self.seed,
            upstream=self.upstream,
            input_pico=None if prices is None else _pico(prices.input_usd_per_million),
            output_pico=None if prices is None else _pico(prices.output_usd_per_million),
            calls_max=2 * CALLS_MAX,
        )

    def _load(self, user: str, group: Group) -> simulation.Load:
        return simulation.Load(
            user=user,
            calls_per_second=group.calls_per_second,
            input_tokens=group.input_tokens,
            output_tokens=group.output_tokens,
            output_spread=group.output_spread,
            output_tokens_max=group.output_tokens_max,
            patience_seconds=group.patience_seconds,
            from_second=group.from_second,
            until_second=self.seconds if group.until_second is None else group.until_second,
            evenly=group.evenly,
            model=group.model,
            team=group.team,
        )

    def _server(self) -> simulation.Server:
        said = self.server
        return simulation.Server(
            capacity=said.capacity,
            capacity_later=said.capacity_later,
            capacity_changes_at=said.capacity_changes_at,
            first_byte_seconds=said.first_byte_seconds,
            first_byte_spread=said.first_byte_spread,
            tokens_per_second=said.tokens_per_second,
            full=said.full,
            requests_per_minute=said.requests_per_minute,
            outages=tuple(
                simulation.Outage(
                    from_second=each.from_second,
                    until_second=each.until_second,
                    status=None if each.status == "refused" else each.status,
                    share=each.share,
                    retry_after_seconds=each.retry_after_seconds,
                )
                for each in said.outages
            ),
        )


def _pico(usd_per_million: Decimal) -> int:
    return int(usd_per_million * PICO_PER_TOKEN_OF_USD_PER_MILLION)
