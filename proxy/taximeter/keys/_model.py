"""A virtual key: whose it is, and what it may do. Pure.

The rule that everything here serves: **what a client says of itself names whom to book, and
never widens what its key may do.** So `VirtualKey` alone decides what is allowed, and from
what the client says only the gaps are filled: `whom` takes a user from a header where the key
has none, never instead of the key's own. The tier comes from the key, or from the settings of
the key's own user, never from a user that was merely claimed. The key's own budget always
applies, whoever is booked.

A key is stored as it is here, so a field that comes in later is a new format of the file (see
`_document`): a reader that does not know a restriction must not pass over it.
"""

from __future__ import annotations

import fnmatch
from typing import Annotated, Literal, NamedTuple

import msgspec

NAME_CHARACTERS_MAX = 128
NOTE_CHARACTERS_MAX = 200
PATTERNS_MAX = 64
MODEL_CHARACTERS_MAX = 256
"""A longer name of a model fits no pattern. It comes from the client."""

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_CHARACTERS_MAX)]
Pattern = Annotated[
    str, msgspec.Meta(pattern=r"^[0-9A-Za-z._:/@+*?-]+\Z", max_length=NAME_CHARACTERS_MAX)
]
Patterns = Annotated[tuple[Pattern, ...], msgspec.Meta(max_length=PATTERNS_MAX)]
Amount = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Nanoseconds = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
KeyId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-z]{10}\Z")]
Digest = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Per = Literal["hour", "day", "month"]


class KeyBudget(
    msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True
):
    """What a key may spend in each calendar window (UTC): pico-dollars or tokens."""

    pico: Amount | None = None
    tokens: Amount | None = None
    per: Per = "day"

    def __post_init__(self) -> None:
        if (self.pico is None) == (self.tokens is None):
            raise ValueError("give either pico or tokens")


class Terms(
    msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True
):
    """What is laid down about a key when it is made. None, and no pattern, is no restriction."""

    user: Name | None = None
    """Who its calls are booked on; None leaves that to what the client says."""
    team: Name | None = None
    tier: Name | None = None
    """None: the tier of its user by the settings, else the default one."""
    expires_ns: Nanoseconds | None = None
    """Since the epoch. From then on it is not valid."""
    budget: KeyBudget | None = None
    """Its own, and always hard. Others that stand over the user or team apply as well."""
    upstreams: Patterns = ()
    """Names, or patterns with `*` and `?`."""
    models: Patterns = ()
    note: Annotated[str, msgspec.Meta(max_length=NOTE_CHARACTERS_MAX)] = ""


class VirtualKey(Terms, frozen=True, kw_only=True):
    """A key as it is kept: everything but the key."""

    id: KeyId
    """Public: it stands in lists, in the ledger, and at the beginning of the key itself."""
    digest: Digest
    created_ns: Nanoseconds
    revoked_ns: Nanoseconds | None = None

    def __repr__(self) -> str:
        return f"VirtualKey({self.id})"

    def is_expired(self, wall_ns: int) -> bool:
        """Tell whether its time is over."""
        return self.expires_ns is not None and wall_ns >= self.expires_ns

    def state(self, wall_ns: int) -> Literal["valid", "expired", "revoked"]:
        """Say in a word whether it can be used."""
        if self.revoked_ns is not None:
            return "revoked"
        return "expired" if self.is_expired(wall_ns) else "valid"

    def allows_upstream(self, upstream: str) -> bool:
        """Tell whether it may be used for this upstream, with some model or other."""
        return _fits(upstream, self.upstreams)

    def allows(self, upstream: str, model: str | None) -> bool:
        """Tell whether it may be used for this upstream and this model.

        A model of None is one that could not be made out. A key that is restricted to models
        is not good for it: what cannot be checked is not allowed.
        """
        return _fits(upstream, self.upstreams) and _fits(model, self.models)

    def whom(self, claimed_user: str | None = None, claimed_team: str | None = None) -> Whom:
        """Say whom to book, from the key and from what the client says of itself."""
        return Whom(
            user=claimed_user if self.user is None else self.user,
            user_is_claimed=self.user is None and claimed_user is not None,
            team=claimed_team if self.team is None else self.team,
            team_is_claimed=self.team is None and claimed_team is not None,
        )


class Whom(NamedTuple):
    """Whom a call is booked on. What is only claimed may narrow what is allowed, never widen it."""

    user: str | None
    user_is_claimed: bool
    team: str | None
    team_is_claimed: bool


def _fits(name: str | None, patterns: tuple[str, ...]) -> bool:
    if not patterns:
        return True
    if name is None or len(name) > MODEL_CHARACTERS_MAX:
        return False
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
