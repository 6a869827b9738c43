"""How a command says that it could not do what was asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

FAILED = 1
MISUSED = 2


class CommandError(Exception):
    """The command ends with this sentence and this exit code, and without a traceback."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@contextmanager
def translated() -> Iterator[None]:
    """Turn the errors of the ledger into a command's."""
    from taximeter.ledger import LedgerError

    try:
        yield
    except LedgerError as error:
        raise CommandError(str(error)) from None
