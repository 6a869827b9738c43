"""What can be wrong with keys as they are kept: a person must act, and is told how."""

from __future__ import annotations


class KeysError(Exception):
    """The keys cannot be read, or cannot be changed as asked. No message holds a key.

    `hint` says what the person who reads it can do; it is part of the message, too.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message}; {hint}" if hint else message)
        self.hint = hint


class TermsError(KeysError):
    """What is asked of a new key makes no sense: the fault of who asks. It repeats no value."""
