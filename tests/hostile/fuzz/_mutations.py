"""Inputs made from others without a guide: where atheris has no wheel, it is this or nothing."""

from __future__ import annotations

import random

_WORDS = [
    b"\r\n", b"\n\n", b"\r", b"\0", b"data: ", b"[DONE]", b'"usage":', b"{", b"}", b"[", b'"',
    b"null", b"-1", b"NaN", b"1e999", b"\\ud800", b"\xff", b"\xef\xbb\xbf", b":", b",",
    b"\xf7TxM", b"Content-Length: ", b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n",
]  # fmt: skip


def mutated(sample: bytes, others: list[bytes], chance: random.Random, bytes_max: int) -> bytes:
    """Give `sample` with one to eight changes."""
    data = bytearray(sample)
    for _ in range(chance.randint(1, 8)):
        at = chance.randint(0, len(data))
        match chance.randrange(6):
            case 0:
                data[at:at] = chance.choice(_WORDS)
            case 1:
                del data[at : at + chance.randint(1, 16)]
            case 2 if data:
                data[at % len(data)] ^= 1 << chance.randrange(8)
            case 3:
                data[at:at] = chance.randbytes(chance.randint(1, 8))
            case 4:
                start = chance.randint(0, len(data))
                data[at:at] = data[start : start + chance.randint(1, 64)]
            case _:
                other = chance.choice(others)
                start = chance.randint(0, len(other))
                data[at:] = other[start:]
    return bytes(data[:bytes_max])
