"""Who may see what of the console.

There are two roles. *Anyone* may ask whether Taximeter lives and takes calls: orchestrators and
load balancers bring no token. An *operator* sees the rest, and proves it with a bearer token. On
loopback, where only this machine's own users come, no token need be configured; then everyone
who comes is an operator, but for web pages: a browser can be led to any address by a name that
changes where it points to, so the host that a request names must be this machine.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from enum import StrEnum

from aiohttp import web

_LOCAL_NAME = re.compile(
    r"(?:localhost|(?:[a-z0-9-]+\.)*localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?", re.I
)
_BEARER = re.compile(r"bearer +([\x21-\x7e]+)", re.I)


class Role(StrEnum):
    """Who may use a route."""

    ANYONE = "anyone"
    OPERATOR = "operator"


class Access:
    """Tells a request's role."""

    def __init__(self, token: str | None) -> None:
        """Make it; without a token, the listener must be on loopback."""
        # Digests are of one length: comparing them tells nothing of the token's.
        self._digest = _digest(token) if token is not None else None

    def role_of(self, *, authorization: str | None, host: str | None) -> Role:
        """Tell whose request it is, from its `Authorization` and `Host`."""
        if self._digest is None:
            local = host is None or _LOCAL_NAME.fullmatch(host) is not None
            return Role.OPERATOR if local else Role.ANYONE
        match = _BEARER.fullmatch(authorization.strip()) if authorization is not None else None
        given = _digest(match[1] if match is not None else "")
        return Role.OPERATOR if hmac.compare_digest(given, self._digest) else Role.ANYONE

    def refusal(self) -> web.Response:
        """Answer a stranger: alike for every request that is not an operator's."""
        if self._digest is None:
            words = "Taximeter's console answers to this machine's own names alone.\n"
            return web.Response(status=403, text=words)
        words = "Taximeter's console wants a bearer token.\n"
        headers = {"WWW-Authenticate": 'Bearer realm="taximeter"'}
        return web.Response(status=401, text=words, headers=headers)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
