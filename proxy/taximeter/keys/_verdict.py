"""What is found out about the credential that a call carries."""

from __future__ import annotations

from dataclasses import dataclass

from taximeter.call import Word
from taximeter.keys._model import VirtualKey


class Reason(Word):
    """Why a virtual key is not valid. For our own counters and logs: a client is never told."""

    MALFORMED = "malformed"
    """Not the form of a key, or its checksum is wrong: mistyped, cut off."""
    UNKNOWN = "unknown"
    REVOKED = "revoked"
    EXPIRED = "expired"
    UNREADABLE = "unreadable"
    """The keys cannot be read at present, so none is valid."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A valid virtual key. Its call goes upstream with a key of ours, never with this one."""

    key: VirtualKey


@dataclass(frozen=True, slots=True)
class Stranger:
    """No virtual key: a credential of the client's own, which passes through, or none at all."""

    may_borrow: bool
    """Whether the call may go upstream with a key of ours where it brings none of its own. Once
    there are virtual keys, only they are good for that: else to send none would be the better
    key."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A virtual key that is not valid. The answer is 401, the same one for every reason."""

    reason: Reason
    key_id: str | None = None
    """Of a key that was valid once; for a log, never for the client."""


Verdict = Holder | Stranger | Refused
