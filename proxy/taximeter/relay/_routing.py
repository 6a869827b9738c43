"""Which upstream a request goes to, and under which path there. Pure.

`/{upstream}/...` goes to the upstream of that name; anything else by its path's family, to the
default upstream of that family. Hosts come from the settings alone: nothing of a request ever
becomes part of one. The target is passed on byte for byte.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, Protocol, TypeVar

from taximeter.dialects import Dialect, Operation, dialect_for, family_of
from taximeter.relay._errors import Refused

CACHED_MAX = 512
"""Targets whose routes are remembered; then they are all forgotten."""
CACHED_CHARACTERS_MAX = 128


class Destination(Protocol):
    """What a route needs to know of an upstream."""

    @property
    def dialect(self) -> str:
        """The dialect it is configured with."""

    def target_of(self, target: str) -> bytes:
        """Give the request target below its base."""


U = TypeVar("U", bound=Destination)

_FAMILY_ROOTS = frozenset(
    "v1 v1beta v1alpha api chat completions embeddings responses models moderations images audio "
    "files uploads batches videos decisions realtime live vector_stores conversations containers "
    "fine_tuning assistants threads messages evals skills".split()
)
"""First segments that are an API's own, so never an upstream's name: `/chat/completions` is what
a client sends whose base URL was given without `/v1`."""


class Route(NamedTuple, Generic[U]):
    """Where a request goes."""

    upstream: U
    target: str
    """Raw path and query below the upstream's base."""
    path: str
    query: str
    dialect: Dialect
    operation: Operation
    raw_target: bytes
    """Request target as the upstream gets it: what came, byte for byte, below its base."""


class Routes(Generic[U]):
    """The routing table of one settings snapshot."""

    def __init__(self, named: dict[str, U], defaults: dict[str, U]) -> None:
        self._named = named
        self._defaults = defaults
        self._known: dict[tuple[str, str], Route[U]] = {}

    def find(self, method: str, target: str) -> Route[U]:
        """Give the route of a request's method and raw target.

        Raises:
            Refused: `bad_target`, `unknown_upstream` or `no_default_upstream`.
        """
        known = self._known.get((method, target))
        if known is not None:
            return known
        route = self._find(method, target)
        # Few targets make nearly all calls. A query is never kept: a key may stand in it.
        if len(target) <= CACHED_CHARACTERS_MAX and "?" not in target:
            if len(self._known) >= CACHED_MAX:
                self._known.clear()
            self._known[method, target] = route
        return route

    def _find(self, method: str, target: str) -> Route[U]:
        target = _origin_form(target)
        end = target.find("/", 1)
        first = target[1:end] if end > 0 else target[1:].partition("?")[0]
        upstream = self._named.get(first)
        if upstream is not None and end > 0:
            target = target[end:]
        elif upstream is not None:
            target = "/" + target[1 + len(first) :]
        else:
            if first not in _FAMILY_ROOTS:
                raise Refused("unknown_upstream", _shown(first))
            family = family_of(target.partition("?")[0])
            upstream = self._defaults.get(family)
            if upstream is None:
                raise Refused("no_default_upstream", family)
        path, _, query = target.partition("?")
        dialect = dialect_for(upstream.dialect, path)
        operation = dialect.operation(method, path)
        raw = upstream.target_of(target)
        return Route(upstream, target, path, query, dialect, operation, raw)


def _origin_form(target: str) -> str:
    if target.startswith("/"):
        return target.partition("#")[0]
    for scheme in ("http://", "https://"):
        if target[: len(scheme)].lower() == scheme:
            # RFC 9112, 3.2.2: a server must take the absolute form; its host is ignored.
            slash = target.find("/", len(scheme))
            return target[slash:].partition("#")[0] if slash >= 0 else "/"
    raise Refused("bad_target")


def _shown(name: str) -> str:
    """Give a name from a request as it may be shown in an answer."""
    kept = "".join(c for c in name[:40] if c.isascii() and (c.isalnum() or c in "-_."))
    return f"'{kept}'"
