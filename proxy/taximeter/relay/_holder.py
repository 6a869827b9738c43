"""What a virtual key makes of a request's head: who calls, and with whose key. Pure.

A virtual key ends here. Whatever a request brings as a credential is taken out of it, in every
place where one may stand, and the upstream's own key takes its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from taximeter.dialects import models_named
from taximeter.keys import Holder, KeyStore, VirtualKey, holds_key
from taximeter.keys import Refused as NotValid
from taximeter.relay._errors import Refused
from taximeter.relay._heads import RequestHead
from taximeter.relay._identity import Speaker

if TYPE_CHECKING:
    from taximeter.relay._intake import Intake
    from taximeter.relay._upstream import Upstream
    from taximeter.settings import Settings

CREDENTIAL_FIELDS = frozenset(
    (b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key", b"proxy-authorization")
)
_SUBPROTOCOLS = b"sec-websocket-protocol"
_KEY_SUBPROTOCOL = b"openai-insecure-api-key."

_SECRET_NAME = re.compile(
    rb"auth|cookie|credential|jwt|key$|passw|secret|signature|token|^sig$", re.IGNORECASE
)
_NO_SECRETS = frozenset(
    (
        b"idempotency-key",
        b"pagetoken",  # Gemini's lists
        b"page_token",
        b"sec-websocket-key",  # no upgrade without it
    )
)
"""Names of fields and parameters, in lower case, that only look like a secret's."""


def holder_of(
    credential: bytes | None, keys: KeyStore | None, upstream: Upstream, wall_ns: int
) -> VirtualKey | None:
    """Give the virtual key that a request came with; None if it came with none.

    Raises:
        Refused: if it is a virtual key that is not valid, or not for this upstream.
    """
    if keys is None:
        return None
    verdict = keys.judge(credential, wall_ns)
    if isinstance(verdict, NotValid):
        # The same answer for every reason: a guess must not learn how near it was.
        raise Refused("invalid_key", should_retry=False)
    if not isinstance(verdict, Holder):
        return None
    if not verdict.key.allows_upstream(upstream.name):
        raise Refused("key_not_allowed", "upstream", should_retry=False)
    if upstream.api_key is None:
        raise Refused("upstream_key_missing", upstream.name)
    return verdict.key


def wrong_with(
    holder: VirtualKey, intake: Intake, body: bytes | None, wall_ns: int, settings: Settings
) -> Refused | None:
    """Say why a key may not have what a call asks for; None if it may.

    `body` is None for one of which not all is here.
    """
    if holder.is_expired(wall_ns):
        return Refused("invalid_key", should_retry=False)
    if holder.models and not intake.route.operation.free:
        refused = _wrong_model(holder, intake, body)
        if refused is not None:
            return refused
    if holder.tier and not settings.has_tier(holder.tier):
        # A tier that has gone from the settings must not become no limits at all.
        return Refused("key_not_allowed", "configuration: its tier is gone")
    return None


def _wrong_model(holder: VirtualKey, intake: Intake, body: bytes | None) -> Refused | None:
    """Hold a key to its models, in every place where a request may name one."""
    route = intake.route
    named = None
    if body is not None and not intake.is_coded:
        named = models_named(route.operation, route.path, route.query, intake.content_type, body)
    if named is None:
        return Refused("model_unclear", should_retry=False)
    if all(holder.allows(intake.upstream.name, model) for model in named or (None,)):
        return None
    return Refused("key_not_allowed", "model", should_retry=False)


def may_borrow(keys: KeyStore | None) -> bool:
    """Tell whether a request without a credential may go with the upstream's own key."""
    return keys is None or not keys.in_use


def refuse_misplaced(keys: KeyStore | None, head: RequestHead, target: bytes) -> None:
    """Refuse what still holds a virtual key, where they are in use, and so must not go upstream.

    Raises:
        Refused: if a key's form stands in a field's value, or in the target, decoded once.
    """
    if may_borrow(keys):
        return
    if holds_key(unquote_to_bytes(target)) or any(holds_key(value) for _, value in head.passed):
        raise Refused("key_misplaced", should_retry=False)


def without_credentials(head: RequestHead) -> None:
    """Take every credential out of what goes upstream."""
    passed = []
    for name, value in head.passed:
        lower = name.lower()
        if lower in CREDENTIAL_FIELDS:
            continue
        if lower == _SUBPROTOCOLS:
            kept = [
                token.strip()
                for token in value.split(b",")
                if not token.strip().startswith(_KEY_SUBPROTOCOL)
            ]
            if not kept:
                continue
            value = b", ".join(kept)
        passed.append((name, value))
    head.passed = passed


def names_secret(name: bytes) -> bool:
    """Tell whether a field or parameter may be a credential, by its name, in whatever case."""
    return _SECRET_NAME.search(name) is not None and name.lower() not in _NO_SECRETS


def without_secrets(head: RequestHead) -> None:
    """Take out whatever may be a credential, known to the relay or not: it goes to a stranger."""
    without_credentials(head)
    head.passed = [field for field in head.passed if not names_secret(field[0])]


def secrets_in(head: RequestHead, target: bytes) -> list[bytes]:
    """Give all that may be a credential in what goes upstream, each behind its name."""
    found = [b"%b:%b" % (name.lower(), value) for name, value in head.passed if names_secret(name)]
    for part in target.partition(b"?")[2].split(b"&"):
        if names_secret(unquote_to_bytes(part.split(b"=")[0])):
            found.append(part)
    return sorted(found)


def without_key(target: bytes) -> bytes:
    """Take the parameter `key` out of a target's query; every other byte stays."""
    return _without_parameters(target, lambda name: name == b"key")


def without_secret_parameters(target: bytes) -> bytes:
    """Take what may be a credential out of a target's query; every other byte stays."""
    return _without_parameters(target, names_secret)


def _without_parameters(target: bytes, is_meant: Callable[[bytes], bool]) -> bytes:
    path, mark, query = target.partition(b"?")
    if not mark:
        return target
    # A name may be percent-encoded, and is the same name then.
    kept = [
        part for part in query.split(b"&") if not is_meant(unquote_to_bytes(part.split(b"=")[0]))
    ]
    return path + (mark + b"&".join(kept) if kept else b"")


def booked_on(key: VirtualKey, speaker: Speaker) -> tuple[Speaker, bool]:
    """Give whom a key's calls are booked on, and whether the user is only claimed."""
    said = speaker.identity
    claimed = None if said.user_source == "key" else said.user
    whom = key.whom(claimed, said.team)
    source = "key" if not whom.user_is_claimed else said.user_source
    user = whom.user if whom.user is not None else f"key-{key.id}"
    identity = said._replace(user=user, user_source=source, team=whom.team, key_hash=f"tm-{key.id}")
    takes_body_user = key.user is None and claimed is None
    return Speaker(identity, takes_body_user=takes_body_user), key.user is None
