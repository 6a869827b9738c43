"""Answers kept for clients that ask again with the same `Idempotency-Key`. Pure.

A key stands for one request of one holder of a credential. While its call is under way nobody else
gets the key; once the call has come to a whole answer of status 2xx, that answer is given to its
holder who asks for the same again within the window. What ended in any other way frees the key, and
the next call with it goes upstream like any other: a failure is not kept.

Answers are content. They are here, in this process' memory, and nowhere else: on no disk, in no
journal, not in Redis (which may write to a disk). So each worker keeps its own.

What bounds it: answers and calls under way, by number; an answer, by bytes; all of them together,
by bytes; each, by time. At a bound the oldest goes, and an answer that is too long is not kept.
Each of these is counted.
"""

from __future__ import annotations

from collections import Counter as Tally
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from taximeter.relay._answer import Head
    from taximeter.settings import Replay

ENTRY_BYTES = 1024
"""What an answer takes beside its head's lines and its body, about."""


class KeptAnswer(msgspec.Struct):
    """A whole answer, as it went to the client the first time."""

    call_id: str
    """The call that it was the answer of."""
    request: bytes
    """Digest of the request that it answers."""
    head: Head
    told: bytes
    """Fields of ours that it carried beside the usual ones; whole lines."""
    sized: bool
    """Whether its body went with a stated length."""
    body: bytes
    trailers: bytes
    kept_ns: int = 0
    """Since when it is kept."""

    @property
    def size(self) -> int:
        """Bytes that it counts for."""
        return (
            ENTRY_BYTES
            + len(self.head.lines)
            + len(self.told)
            + len(self.body)
            + len(self.trailers)
        )


class Claim(msgspec.Struct):
    """A key that a call under way has to itself."""

    key: bytes
    request: bytes
    call_id: str
    taken_bytes: int = 0
    """Room taken so far for its answer."""


class Taken(msgspec.Struct):
    """A key that cannot be had."""

    code: str
    """A key of `PROBLEMS`."""
    call_id: str
    """The call that has it."""


IN_USE = "idempotency_key_in_use"
REUSED = "idempotency_key_reused"


class KeptAnswers:
    """The answers that one worker keeps."""

    def __init__(self, limits: Replay) -> None:
        self._limits = limits
        self._kept: dict[bytes, KeptAnswer] = {}
        """By key, in the order in which their calls ended."""
        self._claims: dict[bytes, Claim] = {}
        self.bytes_taken = 0
        self.events: Tally[str] = Tally()
        """What has happened since the start, by word: see `EVENTS`."""

    EVENTS = (
        "replayed",
        "in_use",
        "reused",
        "kept",
        "too_long",
        "no_room",
        "evicted",
        "expired",
    )

    @property
    def is_on(self) -> bool:
        """Whether answers are kept at all."""
        return self._limits.enabled

    @property
    def claimed(self) -> int:
        """Keys that calls under way have to themselves."""
        return len(self._claims)

    def apply(self, limits: Replay) -> None:
        """Go by other bounds from now on."""
        self._limits = limits
        most = limits.answers_max if limits.enabled else 0
        while self._kept and (len(self._kept) > most or self.bytes_taken > limits.bytes_max):
            self._evict()

    def claim(self, key: bytes, request: bytes, call_id: str, now_ns: int) -> Found:
        """Give the answer that there is for a key, or the key to this call.

        None if there is no room for another call with a key: it goes without.
        """
        self.tick(now_ns)
        before = self._kept.get(key) or self._claims.get(key)
        if before is not None:
            if before.request != request:
                self.events["reused"] += 1
                return Taken(REUSED, before.call_id)
            if isinstance(before, Claim):
                self.events["in_use"] += 1
                return Taken(IN_USE, before.call_id)
            self.events["replayed"] += 1
            return before
        if len(self._claims) >= self._limits.answers_max:
            self.events["no_room"] += 1
            return None
        claim = self._claims[key] = Claim(key, request, call_id)
        return claim

    def take_room(self, claim: Claim, count: int) -> bool:
        """Take room for more of an answer; False if it is not to be kept, and has no room then."""
        limits = self._limits
        if claim.taken_bytes + count > limits.answer_bytes_max:
            self._no_longer(claim, "too_long")
            return False
        while self.bytes_taken + count > limits.bytes_max and self._kept:
            self._evict()
        if self.bytes_taken + count > limits.bytes_max:
            self._no_longer(claim, "no_room")
            return False
        claim.taken_bytes += count
        self.bytes_taken += count
        return True

    def _no_longer(self, claim: Claim, event: str) -> None:
        self.events[event] += 1
        self.bytes_taken -= claim.taken_bytes
        claim.taken_bytes = 0

    def keep(self, claim: Claim, answer: KeptAnswer, now_ns: int) -> None:
        """Keep an answer from now on; its key is free of its call."""
        self.release(claim)
        limits = self._limits
        while self._kept and (
            len(self._kept) >= limits.answers_max
            or self.bytes_taken + answer.size > limits.bytes_max
        ):
            self._evict()
        if not limits.enabled or self.bytes_taken + answer.size > limits.bytes_max:
            self.events["no_room"] += 1
            return
        answer.kept_ns = now_ns
        self._kept[claim.key] = answer
        self.bytes_taken += answer.size
        self.events["kept"] += 1

    def release(self, claim: Claim) -> None:
        """Free a key whose call has ended."""
        if self._claims.pop(claim.key, None) is not None:
            self.bytes_taken -= claim.taken_bytes
            claim.taken_bytes = 0

    def tick(self, now_ns: int) -> None:
        """Let go of answers whose window is over, by the window that holds now."""
        window_ns = int(self._limits.window_seconds * 1e9)
        while self._kept:
            key = next(iter(self._kept))
            if self._kept[key].kept_ns + window_ns > now_ns:
                return
            self.bytes_taken -= self._kept.pop(key).size
            self.events["expired"] += 1

    def _evict(self) -> None:
        key = next(iter(self._kept))
        self.bytes_taken -= self._kept.pop(key).size
        self.events["evicted"] += 1


Found = Claim | KeptAnswer | Taken | None
