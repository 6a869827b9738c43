"""What an upstream says is left of its own rate limits. Pure.

Three families of fields tell it. All are read from answers that pass by anyway, and passed on
as they came.

| fields | whose |
| --- | --- |
| `x-ratelimit-{limit,remaining}-{requests,tokens}` | OpenAI and many others |
| `anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining}` | Anthropic |
| `RateLimit: "name";r=REST` and `RateLimit-Policy: "name";q=QUOTA` | the IETF's draft |

A figure below nought, or a limit that is nought, stands for "unknown" on some endpoints, and is
no figure. A policy of the draft's may have any name: one that is none of our resources counts
as `requests` (the draft's default unit) if its policy names no other unit, and of several the
one with the least left is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeVar

from taximeter.live import Headroom

RESOURCES = ("requests", "tokens", "input_tokens", "output_tokens")
LOOK_NS = 100_000_000
"""At one upstream and model, a further answer is looked at after so long at the earliest."""
PLACES_MAX = 64
"""Pairs of upstream and model whose headroom is kept; the one longest not heard of goes."""
MODEL_CHARACTERS_MAX = 128

Fields = Iterable[tuple[bytes, bytes]]
_Pair = tuple[int | None, int | None]
"""Limit and what remains of it."""

_Kept = TypeVar("_Kept")

_X = re.compile(rb"x-ratelimit-(limit|remaining)-(requests|tokens)")
_ANTHROPIC = re.compile(
    rb"anthropic-ratelimit-(requests|tokens|input-tokens|output-tokens)-(limit|remaining)"
)
_ITEM = re.compile(
    r'\s*"([^"\\]{1,64})"((?:\s*;\s*[a-z*][a-z0-9_.*-]*(?:=(?:"[^"\\]*"|[^;,"]*))?)*)'
)
_PARAMETER = re.compile(r';\s*([a-z]+)=("[^"\\]*"|[^;,"\s]*)')
_VALUE_BYTES_MAX = 1024


def read_headroom(fields: Fields) -> dict[str, _Pair]:
    """Give limit and rest by resource, from an answer's fields; empty if they tell nothing."""
    found: dict[str, list[int | None]] = {}
    draft: dict[bytes, bytes] = {}
    for raw, value in fields:
        # Most fields of an answer are none of these: the cheap question comes first.
        name = raw.lower()
        if b"ratelimit" not in name or len(value) > _VALUE_BYTES_MAX:
            continue
        if name in (b"ratelimit", b"ratelimit-policy"):
            draft[name] = (draft[name] + b"," + value if name in draft else value)[
                :_VALUE_BYTES_MAX
            ]
        elif match := _X.fullmatch(name):
            _put(found, match[2], match[1], value)
        elif match := _ANTHROPIC.fullmatch(name):
            _put(found, match[1], match[2], value)
    told: dict[str, _Pair] = {
        resource: (limit, remaining) for resource, (limit, remaining) in found.items()
    }
    if draft and not told:
        told = _draft(draft.get(b"ratelimit", b""), draft.get(b"ratelimit-policy", b""))
    return {name: pair for name, pair in told.items() if pair[1] is not None and pair[0] != 0}


def _put(found: dict[str, list[int | None]], resource: bytes, what: bytes, value: bytes) -> None:
    pair = found.setdefault(resource.decode().replace("-", "_"), [None, None])
    pair[what == b"remaining"] = _figure(value)


def _figure(value: bytes | str) -> int | None:
    text = value.strip()
    return int(text) if text.isdigit() and text.isascii() and len(text) <= 18 else None


def _draft(rests: bytes, policies: bytes) -> dict[str, _Pair]:
    quotas = dict(_items(policies))
    told: dict[str, _Pair] = {}
    for name, said in _items(rests):
        policy = quotas.get(name, {})
        resource = name.lower().replace("-", "_")
        if resource not in RESOURCES:
            if policy.get("qu", "requests") != "requests":
                continue
            resource = "requests"
        remaining = _figure(said.get("r", ""))
        before = told.get(resource)
        if remaining is None or (before is not None and (before[1] or 0) <= remaining):
            continue
        told[resource] = (_figure(policy.get("q", "")), remaining)
    return told


def _items(value: bytes) -> list[tuple[str, dict[str, str]]]:
    """Read a list of structured fields' strings with parameters; what is none is left out."""
    return [
        (item[1], {name: said.strip('"') for name, said in _PARAMETER.findall(item[2])})
        for item in _ITEM.finditer(value.decode("latin-1"))
    ]


class HeadroomBook:
    """What each upstream last said, by the model that was asked for."""

    def __init__(self) -> None:
        self._due_ns: dict[tuple[str, str], int] = {}
        """From when on an answer is looked at again."""
        self._said: dict[tuple[str, str], tuple[int, dict[str, _Pair]]] = {}

    def is_due(self, upstream: str, model: str | None, now_ns: int) -> bool:
        """Tell whether an answer's fields are to be looked at again."""
        return now_ns >= self._due_ns.get((upstream, model or ""), 0)

    def hear(self, upstream: str, model: str | None, fields: Fields, now_ns: int) -> bool:
        """Take note of an answer's fields, unless the last look was just before: then False.

        Args:
            upstream: whose answer it is.
            model: as asked for.
            fields: the answer's.
            now_ns: monotonic.
        """
        if not self.is_due(upstream, model, now_ns):
            return False
        key = (upstream, model or "")
        _keep(self._due_ns, key, now_ns + LOOK_NS)
        told = read_headroom(fields)
        if told:
            _keep(self._said, key, (now_ns, told))
        return True

    def known(self, now_ns: int, at_seconds: float) -> list[Headroom]:
        """Give all that is known.

        Args:
            now_ns: monotonic, the clock of `hear`.
            at_seconds: the same moment, since the epoch.
        """
        return [
            Headroom(
                upstream=upstream,
                model=model[:MODEL_CHARACTERS_MAX],
                resource=resource,
                limit=limit,
                remaining=remaining,
                at_seconds=at_seconds - (now_ns - said_ns) / 1e9,
            )
            for (upstream, model), (said_ns, told) in self._said.items()
            for resource, (limit, remaining) in told.items()
            if remaining is not None
        ]


def _keep(places: dict[tuple[str, str], _Kept], key: tuple[str, str], value: _Kept) -> None:
    """Put a value last; at the bound the first goes, which was not heard of for longest."""
    places.pop(key, None)
    if len(places) >= PLACES_MAX:
        del places[next(iter(places))]
    places[key] = value
