"""Who makes a call: user, team, session, tags, and the fingerprint of the credential. Pure.

First found wins for the user: `x-taximeter-user`; W3C `baggage`; the header names of the
settings; what the body says; else the credential's fingerprint. Everything here is said by the
client of itself: it names whom to book, and is never more than that. It is untrusted text, so
each value is cut to `NAME_CHARACTERS_MAX` printable characters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote

from taximeter.keys import MARK
from taximeter.relay._heads import RequestHead

NAME_CHARACTERS_MAX = 128
TAGS_MAX = 16
BAGGAGE_BYTES_MAX = 8192
"""As far as the W3C recommendation lets senders rely on."""


class IdentityHeaders(NamedTuple):
    """Header names (lower case) of the user's choosing, in the order they are looked at."""

    user: Sequence[bytes] = ()
    team: Sequence[bytes] = ()
    session: Sequence[bytes] = ()

    @property
    def all(self) -> frozenset[bytes]:
        """Every name."""
        return frozenset((*self.user, *self.team, *self.session))


class Identity(NamedTuple):
    """Whom a call is booked on."""

    user: str | None
    user_source: str | None
    team: str | None
    session: str | None
    tags: dict[str, str]
    key_hash: str | None


def clean(value: str | None) -> str | None:
    """Give a name as it may be stored: printable, at most 128 characters, None if empty."""
    if not value:
        return None
    if not value.isprintable():
        value = "".join(character for character in value if character.isprintable())
    return value.strip()[:NAME_CHARACTERS_MAX] or None


class Speaker:
    """Whom a request's head names: what a body may say is still to be put in."""

    __slots__ = ("_takes_body_user", "identity")

    def __init__(self, identity: Identity, *, takes_body_user: bool) -> None:
        self.identity = identity
        """Whom the head names, or the credential's fingerprint."""
        self._takes_body_user = takes_body_user

    def user_of_body(self, body_user: str | None) -> str | None:
        """Give the user whom the body names; None if it names none, or the head's goes first.

        What a dialect reads (`RequestFacts`) is printable and bounded already.
        """
        return (body_user.strip() or None) if body_user and self._takes_body_user else None


def identify(head: RequestHead, query: str, names: IdentityHeaders, hash_key: bytes) -> Speaker:
    """Tell whom a request's head names."""
    noted = head.noted
    key_hash = fingerprint(credential_of(head, query), hash_key)
    baggage = parse_baggage(noted[b"baggage"]) if b"baggage" in noted else {}
    source = "header"
    user = _field(head, b"x-taximeter-user")
    if user is None and baggage:
        user, source = clean(baggage.get("user.id") or baggage.get("enduser.id")), "baggage"
    if user is None and names.user:
        user, source = _named(head, names.user), "header"
    takes_body_user = user is None
    if user is None:
        user, source = _field(head, b"openai-safety-identifier"), "header"
    if user is None and key_hash is not None:
        user, source = f"key-{key_hash}", "key"
    team = _field(head, b"x-taximeter-team")
    session = _field(head, b"x-taximeter-session")
    if baggage:
        team = team or clean(baggage.get("team"))
        session = session or clean(baggage.get("session.id"))
    if team is None and names.team:
        team = _named(head, names.team)
    if session is None and names.session:
        session = _named(head, names.session)
    tags = parse_tags(head.text(b"x-taximeter-tags")) if b"x-taximeter-tags" in noted else {}
    identity = Identity(user, source if user is not None else None, team, session, tags, key_hash)
    return Speaker(identity, takes_body_user=takes_body_user)


def _field(head: RequestHead, name: bytes) -> str | None:
    value = head.noted.get(name)
    return None if value is None else clean(value.decode("utf-8", "replace"))


def _named(head: RequestHead, names: Sequence[bytes]) -> str | None:
    for name in names:
        value = _field(head, name)
        if value:
            return value
    return None


def credential_of(head: RequestHead, query: str) -> bytes | None:
    """Give the credential a request carries, wherever its family puts it.

    Of several it is a virtual key, if there is one: what came beside it must not hide it.
    """
    found = _credentials(head, query)
    if len(found) > 1:
        for credential in found:
            if credential.startswith(MARK):
                return credential
    return found[0] if found else None


def _credentials(head: RequestHead, query: str) -> list[bytes]:
    """Give all credentials of a request, the one that servers heed first in front."""
    found = []
    for wanted in (b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key"):
        if wanted not in head.noted:
            continue
        for name, value in head.passed:
            if name.lower() == wanted and value:
                scheme, _, token = value.replace(b"\t", b" ").partition(b" ")
                found.append(token.strip() if scheme.lower() == b"bearer" else value)
    if "=" in query:
        found += [
            value.encode()
            for name_, value in parse_qsl(query[:BAGGAGE_BYTES_MAX])
            if name_ == "key"
        ]
    if b"sec-websocket-protocol" in head.noted:
        for name, value in head.passed:
            if name.lower() == b"sec-websocket-protocol":
                found += [
                    token.strip().removeprefix(b"openai-insecure-api-key.")
                    for token in value.split(b",")
                    if token.strip().startswith(b"openai-insecure-api-key.")
                ]
    return found


def fingerprint(credential: bytes | None, hash_key: bytes) -> str | None:
    """Give the keyed hash by which a credential is known, never the credential."""
    if not credential:
        return None
    return hashlib.blake2b(credential, key=hash_key, digest_size=8).hexdigest()


def parse_baggage(value: bytes) -> dict[str, str]:
    """Read a W3C `baggage` header: name to value, properties left out."""
    found: dict[str, str] = {}
    for member in value[:BAGGAGE_BYTES_MAX].decode("latin-1").split(",")[:64]:
        name, separator, rest = member.partition("=")
        if separator:
            found.setdefault(name.strip(), unquote(rest.partition(";")[0].strip()))
    return found


def parse_tags(value: str) -> dict[str, str]:
    """Read `x-taximeter-tags: a=b,c=d`; a name alone is a tag whose value is `true`."""
    tags: dict[str, str] = {}
    for member in value.split(","):
        name, separator, rest = member.partition("=")
        key = clean(name.strip())
        if key is not None and len(tags) < TAGS_MAX:
            tags[key] = clean(rest) or "" if separator else "true"
    return tags
