"""The figures of an answer: derived from the request, so that a test can know them beforehand.

The digest is taken over the request's meaning, not its bytes: `stream` and `stream_options`
are left out, so that a call streamed, plain, or with usage asked for on its behalf comes to
the same figures. A body that is not JSON counts by its bytes.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec

from tests.rig._script import Script

WORDS = (
    "The",
    " meter",
    " runs",
    " on",
    " é",
    " 你好",
    " 🚕",
    ' "quoted"',
    " back\\slash",
    "\n",
    " line\u2028separator",
    " fare",
    " of",
    " the",
    " night",
    ".",
)
"""What answers are made of: plain words, and all that has broken parsers of streams."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of one answer. Totals contain their parts, as in `taximeter.call.Usage`."""

    input: int
    cached: int
    cache_write: int
    output: int
    reasoning: int
    words: tuple[str, ...]
    """The visible answer; `output` is their number and `reasoning` together."""

    @property
    def text(self) -> str:
        """The visible answer whole."""
        return "".join(self.words)

    @property
    def total(self) -> int:
        return self.input + self.output


def meaning(body: bytes) -> bytes:
    """Give what of a body the figures are derived from."""
    try:
        said: Any = json.loads(body)
    except ValueError:
        return body
    if not isinstance(said, dict):
        return body
    kept = {key: value for key, value in said.items() if key not in ("stream", "stream_options")}
    return json.dumps(kept, sort_keys=True, separators=(",", ":")).encode()


def expected(body: bytes | dict[str, Any], script: Script | None = None) -> Figures:
    """Tell the figures an upstream will state for a request with this body.

    Args:
        body: the request's body as sent, or what it is the JSON of.
        script: the script it will be answered by; only `tokens` matters.
    """
    raw = json.dumps(body).encode() if isinstance(body, dict) else body
    digest = hashlib.sha256(meaning(raw)).digest()
    tokens = script.tokens if script is not None else None
    count = 4 + digest[0] % 12 if tokens is None else tokens
    reasoning = digest[1] % 7
    input_tokens = 40 + digest[2]
    cached = digest[3] % 20
    return Figures(
        input=input_tokens,
        cached=cached,
        cache_write=digest[4] % 20,
        output=count + reasoning,
        reasoning=reasoning,
        words=tuple(WORDS[(digest[place % 32] + place) % len(WORDS)] for place in range(count)),
    )
