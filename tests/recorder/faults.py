"""What may happen to a recorder at any moment: its process dies, its ledger goes away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from taximeter.ledger import Committed, Ledger, LedgerUnavailable


class Died(BaseException):
    """The process ended here."""


@contextmanager
def dying(where: Any, name: str, when: str, nth: int) -> Iterator[None]:
    """Raise `Died` "before" or "after" the `nth` call of what `where` has under `name`."""
    real: Callable[..., object] = getattr(where, name)
    left = [nth]

    def call(*arguments: Any, **more: Any) -> object:
        left[0] -= 1
        if left[0] == 0 and when == "before":
            raise Died
        answer = real(*arguments, **more)
        if left[0] == 0:
            raise Died
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(where, name, call)
        yield


@contextmanager
def flaky_commits(when: str) -> Iterator[None]:
    """Have every other commit fail, the first one first, and not be waited for.

    "before": it does not come about. "after": it does, and the answer is lost.
    """
    real = Ledger.commit
    calls = [0]

    def commit(ledger: Ledger, *arguments: Any) -> Committed:
        calls[0] += 1
        if calls[0] % 2 and when == "before":
            raise LedgerUnavailable("gone", "wait")
        done = real(ledger, *arguments)
        if calls[0] % 2:
            raise LedgerUnavailable("answer lost", "wait")
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("taximeter.recorder._commits.RETRY_SECONDS_FIRST", 0.0)
        patch.setattr(Ledger, "commit", commit)
        yield
