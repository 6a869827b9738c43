"""One request's head as it was parsed, and what is wrong with it. Pure.

llhttp (`httptools`) parses, strictly: a length beside chunks, two lengths, bare line feeds,
folded or spaced fields, control characters and unknown methods are refused by it. What it
leaves open is decided here: the version, the `Host`, the transfer coding, the size.
"""

from __future__ import annotations

from taximeter.relay._errors import Refused

FIELDS_MAX = 256
"""Header fields of a request."""
LENGTH_DIGITS_MAX = 64
"""Digits of a body's length, with the noughts in front, of which llhttp takes any number."""


class Message:
    """A request's head. Does not change once it is parsed."""

    __slots__ = (
        "fields",
        "framing",
        "http10",
        "keep_alive",
        "method",
        "refusal",
        "target",
        "upgrade",
    )

    def __init__(
        self,
        method: bytes,
        target: bytes,
        fields: list[tuple[bytes, bytes]],
        *,
        version: str,
        keep_alive: bool,
        upgrade: bool,
        head_bytes: int,
        head_bytes_max: int,
    ) -> None:
        self.method = method
        self.target = target
        self.fields = fields
        self.http10 = version == "1.0"
        self.upgrade = upgrade
        self.framing = framing_of(fields) if upgrade else b""
        """The header line that says how its body ends, if it asks for an upgrade, too."""
        self.refusal = self._wrong(version, head_bytes, head_bytes_max)
        """What is wrong with it."""
        # Where a refused request ends, and another begins, is not for us to guess.
        self.keep_alive = keep_alive and self.refusal is None

    @property
    def wants_websocket(self) -> bool:
        """Whether it asks for the one upgrade that is passed on, and for no other beside it."""
        if not self.upgrade or self.method != b"GET":
            return False
        asked = [value for name, value in self.fields if name.lower() == b"upgrade"]
        return len(asked) == 1 and asked[0].strip().lower() == b"websocket"

    def _wrong(self, version: str, head_bytes: int, head_bytes_max: int) -> Refused | None:
        if version not in ("1.1", "1.0"):
            return Refused("version_refused")
        if head_bytes > head_bytes_max or len(self.fields) > FIELDS_MAX:
            return Refused("head_too_large", str(head_bytes_max))
        if self.method in (b"CONNECT", b"TRACE"):
            return Refused("method_refused")
        hosts = codings = 0
        for name, value in self.fields:
            size = len(name)
            if size == 4 and name.lower() == b"host":
                hosts += 1
            elif size == 17 and name.lower() == b"transfer-encoding":
                codings += 1
                if value.lower() != b"chunked" or self.http10 or codings > 1:
                    return Refused("malformed_request", "the transfer coding is not chunked")
            elif (
                size == 14 and len(value) > LENGTH_DIGITS_MAX and name.lower() == b"content-length"
            ):
                return Refused("malformed_request", "a length of too many digits")
        if self.framing and self.wants_websocket:
            return Refused("malformed_request", "an upgrade with a body")
        if hosts > 1 or (hosts == 0 and not self.http10):
            return Refused("malformed_request", "there must be one Host")
        return None


def framing_of(fields: list[tuple[bytes, bytes]]) -> bytes:
    """Give the header line that says how a request's body ends; b"" if it has none."""
    for name, value in fields:
        lowered = name.lower()
        if lowered == b"transfer-encoding" or (lowered == b"content-length" and value.strip(b"0 ")):
            return name + b": " + value
    return b""
