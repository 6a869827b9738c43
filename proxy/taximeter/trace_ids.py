"""Trace and span ids that follow from a call's id.

The relay names a call's trace before anything is exported, and the recorder may export a call
again after a crash: since nobody draws a number, they always mean the same span.
"""

from __future__ import annotations

from hashlib import blake2b

__all__ = ["attempt_part", "is_taken", "span_id_of", "threshold_of", "trace_id_of"]

RANDOM_BITS = 56
"""W3C trace context, level 2: the rightmost seven bytes of a trace id are the random ones."""


def trace_id_of(call_id: str) -> str:
    """Give the trace id of a call whose client sent none: its 128 bits are the call id's own.

    The low half of a UUIDv7 is random but for two bits, which is what samplers look at.
    """
    return call_id.replace("-", "")


def span_id_of(call_id: str, part: str = "") -> str:
    """Give the id of a call's own span, or of a part of it such as `attempt 1`: 16 digits.

    Never all zeros, which would be no id.
    """
    digits = blake2b(f"{call_id}/{part}".encode(), digest_size=8).hexdigest()
    return digits if digits.strip("0") else "0000000000000001"


def attempt_part(number: int) -> str:
    """Give the part of a call that an attempt is, as `span_id_of` takes it."""
    return f"attempt {number}"


def threshold_of(ratio: float) -> int:
    """Give the number from which on a trace id is taken, for a share between 0 and 1."""
    return round((1 - ratio) * (1 << RANDOM_BITS))


def is_taken(trace_id: str, threshold: int) -> bool:
    """Tell whether a trace id, 32 hex digits, is at or above a threshold."""
    return int(trace_id[-RANDOM_BITS // 4 :], 16) >= threshold
