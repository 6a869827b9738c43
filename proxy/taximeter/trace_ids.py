"""Trace and span ids that follow from a call's id.

The relay names a call's trace before anything is exported, and the recorder may export a call
again after a crash: since nobody draws a number, they always mean the same span.
"""

from __future__ import annotations

from hashlib import blake2b

__all__ = ["span_id_of", "trace_id_of"]


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
