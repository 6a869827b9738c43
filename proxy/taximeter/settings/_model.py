"""The settings as a whole. Every field states its meaning and its unit: the docs are made of it.

A field's description is the paragraph that `docs/configuration.md` prints. Fields are checked
here for their own sense; where a value came from is the business of `_load`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    SecretStr,
    field_validator,
    model_validator,
)

from taximeter.settings import _values
from taximeter.settings._admission import wrong_fallbacks
from taximeter.settings._errors import Contradiction, Problem, SettingsError
from taximeter.settings._kinds import Section, number
from taximeter.settings._price import OwnPrice
from taximeter.settings._rooms import Identity, Journal, Log, Recorder, Relay, Replay
from taximeter.settings._signals import LatencyBudget, Metrics, Otlp
from taximeter.settings._tiers import (
    DEFAULT_TIER,
    NAMES_MAX,
    PersonName,
    Redis,
    State,
    Team,
    Tier,
    TierName,
    User,
    wrong_tiers,
)
from taximeter.settings._upstream import Dialect, Upstream, upstream_name, with_defaults

CONSOLE_TOKEN_CHARACTERS_MIN = 16
_TOKEN = re.compile(r"[!-~]+")


def _secret_url(value: object) -> SecretStr:
    if isinstance(value, SecretStr):
        return value
    return SecretStr(_values.ledger_url(value))


Listener = Annotated[
    _values.Address, BeforeValidator(_values.address), PlainSerializer(str, return_type=str)
]


class Settings(Section):
    """The whole configuration."""

    listen: Listener = Field(
        _values.Address("127.0.0.1", 8400), description="Where the proxy listens, as host:port."
    )
    console: Listener = Field(
        _values.Address("127.0.0.1", 8401),
        description="Where health, metrics and the console listen, as host:port.",
    )
    console_token_env: Annotated[str, AfterValidator(_values.variable_name)] | None = Field(
        None,
        description=(
            "Name of the environment variable that holds the console's bearer token, of at least "
            "16 characters. Needed where the console does not listen on loopback; given, it is "
            "asked for there, too. Health and readiness are told to anyone, as a yes or a no."
        ),
    )
    workers: Annotated[int, BeforeValidator(number), Field(ge=1, le=64)] = Field(
        1, description="Processes that relay. One serves hundreds of streams."
    )
    data_dir: Path = Field(
        Path("~/.local/share/taximeter"),
        description="Folder of the journal and the embedded ledger; made with mode 0700.",
    )
    ledger: (
        Annotated[
            SecretStr,
            BeforeValidator(_secret_url),
            PlainSerializer(
                lambda url: _values.without_password(url.get_secret_value()), return_type=str
            ),
        ]
        | None
    ) = Field(
        None,
        description=(
            "Database of the ledger: `sqlite:////path/to/ledger.db` or "
            "`postgresql://user@host/database`. Not given, `ledger.db` in `data_dir`."
        ),
    )
    state: State = Field(
        "memory",
        description=(
            "Where limits and budgets keep their counts: `memory`, for one machine, or "
            "`redis://[user:password@]host[:port][/database]` (`rediss://` for TLS)."
        ),
    )
    redis: Redis = Field(Redis(), description="How counts are shared.")
    log: Log = Field(Log(), description="What the processes say about themselves.")
    upstreams: dict[Annotated[str, AfterValidator(upstream_name)], Upstream] = Field(
        {},
        max_length=256,
        description=(
            "The APIs that calls are passed on to, by name: `/NAME/...` goes to the upstream of "
            "that name, and what is named as its family takes the paths without a name. Not "
            "configured, there are `openai`, `anthropic`, `gemini` and `ollama` (on this "
            "machine); a family with an upstream of your own loses the built-in one."
        ),
    )
    tiers: dict[TierName, Tier] = Field(
        {},
        max_length=256,
        description=(
            "What users may do, by the name of their tier. Users without one are in "
            "`default_tier`; a tier `default` that is not configured has no limits."
        ),
    )
    default_tier: str = Field(DEFAULT_TIER, description="Tier of users that are not in `users`.")
    users: dict[PersonName, User] = Field(
        {}, max_length=NAMES_MAX, description="Users known by name: their tier, and exceptions."
    )
    teams: dict[PersonName, Team] = Field(
        {}, max_length=NAMES_MAX, description="Teams known by name."
    )
    identity: Identity = Field(Identity(), description="Headers that say who calls.")
    relay: Relay = Field(Relay(), description="Bounds of the data plane.")
    replay: Replay = Field(
        Replay(), description="Answers kept for clients that ask again with the same key."
    )
    journal: Journal = Field(Journal(), description="The local record of every call.")
    recorder: Recorder = Field(Recorder(), description="The process that fills the ledger.")
    metrics: Metrics = Field(Metrics(), description="How much `/metrics` tells apart.")
    latency_budget: LatencyBudget = Field(
        LatencyBudget(), description="Time that a call's stages should take."
    )
    otlp: Otlp = Field(Otlp(), description="Where traces go, and which.")
    prices: tuple[OwnPrice, ...] = Field(
        (), max_length=10_000, description="Prices of your own; they win over the built-in table."
    )

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        if "?" in str(value):
            raise ValueError("must not have a question mark in it: the ledger's URL ends there")
        # Workers and commands may run in other folders.
        return value.expanduser().absolute()

    @field_validator("upstreams", mode="before")
    @classmethod
    def _add_defaults(cls, value: object) -> object:
        if value is None:
            value = {}
        return with_defaults(value) if isinstance(value, Mapping) else value

    @model_validator(mode="after")
    def _check(self) -> Settings:
        if self.listen == self.console and self.listen.port != 0:
            raise ValueError("listen and console must differ")
        if self.console_token_env is None and not self.console.is_loopback:
            raise ValueError(
                "console listens off loopback, so it needs a token: name the environment "
                "variable that holds one as console_token_env"
            )
        fallbacks = {name: (each.dialect, each.fallback) for name, each in self.upstreams.items()}
        wrong = [
            *(
                (("upstreams", name, "fallback", place), message)
                for name, place, message in wrong_fallbacks(fallbacks)
            ),
            *wrong_tiers(self.tiers, self.users, self.default_tier),
        ]
        if wrong:
            raise Contradiction(wrong)
        return self

    def has_tier(self, name: str) -> bool:
        """Tell whether there is a tier of this name; `default` is there unconfigured, too."""
        return name in self.tiers or name == DEFAULT_TIER

    def tier_of(self, user: str | None) -> Tier:
        """Give what holds for a user: the tier, with the exceptions made for this user."""
        known = self.users.get(user) if user is not None else None
        name = known.tier if known and known.tier is not None else self.default_tier
        tier = self.tiers.get(name) or Tier()
        return known.within(tier) if known else tier

    @property
    def state_url(self) -> str | None:
        """The URL of Redis, if counts are shared. It may carry a password: never show it."""
        return None if isinstance(self.state, str) else self.state.get_secret_value()

    def read_console_token(self) -> str | None:
        """Read the console's token from the environment. It is kept nowhere: never show it.

        Raises:
            SettingsError: if one is named and there is none, or none to speak of.
        """
        name = self.console_token_env
        if name is None:
            return None
        token = os.environ.get(name, "")
        if len(token) < CONSOLE_TOKEN_CHARACTERS_MIN or not _TOKEN.fullmatch(token):
            raise SettingsError(
                [
                    Problem(
                        f"the environment's {name}",
                        "console_token_env",
                        f"must be at least {CONSOLE_TOKEN_CHARACTERS_MIN} printable ASCII "
                        "characters without spaces",
                        "make a token with: openssl rand -hex 32",
                    )
                ]
            )
        return token

    @property
    def ledger_url(self) -> str:
        """The ledger's URL as SQLAlchemy takes it. It may carry a password: never show it."""
        if self.ledger is not None:
            return self.ledger.get_secret_value()
        return f"sqlite:///{self.data_dir / 'ledger.db'}"

    def upstream_for_family(self, family: Dialect) -> str | None:
        """Give the name of the upstream that takes a family's calls, if there is one.

        That is the one named as the family, else the first of that dialect, in the order of
        the configuration.
        """
        if family in self.upstreams:
            return family
        for name, upstream in self.upstreams.items():
            if upstream.dialect == family:
                return name
        return None

    def dump(self) -> str:
        """Give the configuration in effect as YAML. No secret is in it."""
        plain: dict[str, Any] = self.model_dump(mode="json", exclude_none=True)
        return yaml.safe_dump(plain, sort_keys=False, default_flow_style=False, allow_unicode=True)
