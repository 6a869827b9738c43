"""What a call reserves, and what may stand in its way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Short:
    """A limit that does not let a call pass now."""

    key: str
    name: str
    own: bool
    """It is the caller's own: others may go on."""
    wait_ns: int | None
    """Until it would let it pass, as things are; None when that takes another call's end."""
    never: bool = False
    """The call alone is more than it ever lets through."""


class Need:
    """What a call reserves of its limits. A call's ticket is one."""

    marks: Sequence[int] = ()
    """Where each rate's reservation ends (`_rate`); empty until limits are taken."""

    def __init__(self, input_tokens: int, tokens: int) -> None:
        self.input_tokens = input_tokens
        self.tokens = tokens
        """Input and expected output."""
