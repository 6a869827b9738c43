"""Bounds on what all calls of a worker may keep in memory together."""

from __future__ import annotations


class ByteBudget:
    """A number of bytes that calls take from and give back to."""

    __slots__ = ("bytes_max", "bytes_taken", "refused")

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.bytes_taken = 0
        self.refused = 0
        """How often there was not enough left."""

    def try_take(self, count: int) -> bool:
        """Take `count` bytes if that many are left."""
        taken = self.bytes_taken + count
        if taken > self.bytes_max:
            self.refused += 1
            return False
        self.bytes_taken = taken
        return True

    def take(self, count: int) -> None:
        """Take `count` bytes that are there already, bound or no bound."""
        self.bytes_taken += count

    def give_back(self, count: int) -> None:
        """Give bytes back."""
        self.bytes_taken -= count
