"""Calls that a client may make again, so that the one that follows can name it. Pure.

Two things tell that a call is made again: the client's own key (`Idempotency-Key`), and the count
of retries that the packages of OpenAI and Anthropic send (`x-stainless-retry-count`) with a request
that is otherwise as it was. For the latter, calls that came to no good are remembered by a digest
of what they asked: a package makes no other call again.
"""

from __future__ import annotations

from hashlib import blake2b

CALLS_MAX = 10_000
"""Calls remembered by a worker; at the bound the oldest is forgotten."""
SECONDS_MAX = 600
"""As long as the packages wait for an answer, unless told otherwise."""
SAMPLE_BYTES = 32 * 1024
"""How much of each end of a body is looked at. A digest here only ever links two calls."""

_DIGEST_BYTES = 16


class SeenCalls:
    """Which call was the last one of each digest."""

    def __init__(self) -> None:
        self._calls: dict[bytes, tuple[int, str]] = {}
        """In the order in which they were noted."""

    def __len__(self) -> int:
        """Give how many are remembered."""
        return len(self._calls)

    def note(self, digest: bytes, call_id: str, now_ns: int) -> None:
        """Remember a call."""
        self._calls.pop(digest, None)
        if len(self._calls) >= CALLS_MAX:
            del self._calls[next(iter(self._calls))]
        self._calls[digest] = (now_ns, call_id)

    def find(self, digest: bytes, now_ns: int) -> str | None:
        """Give the call before, if there was one lately."""
        found = self._calls.get(digest)
        if found is None or now_ns - found[0] > SECONDS_MAX * 1_000_000_000:
            return None
        return found[1]

    def tick(self, now_ns: int) -> None:
        """Forget what is too long ago."""
        while self._calls:
            digest = next(iter(self._calls))
            if now_ns - self._calls[digest][0] <= SECONDS_MAX * 1_000_000_000:
                return
            del self._calls[digest]


def digest_of(*parts: bytes) -> bytes:
    """Give a digest of parts: their bounds count, too."""
    made = blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        made.update(b"%d:" % len(part))
        made.update(part)
    return made.digest()


def sample(body: bytes) -> bytes:
    """Give enough of a body to know it again by: its length and both ends."""
    if len(body) <= 2 * SAMPLE_BYTES:
        return body
    return b"%d:" % len(body) + body[:SAMPLE_BYTES] + body[-SAMPLE_BYTES:]
