"""What is wrong with a configuration, for the person who must put it right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PROBLEMS_SHOWN_MAX = 20


@dataclass(frozen=True)
class Problem:
    """One thing wrong. No field ever holds a value that was given: it may be a secret."""

    source: str
    """Where it was said: `taximeter.yaml:12`, `TAXIMETER_WORKERS`, `--listen`."""
    key: str
    """Dotted path of the setting, or empty if the source as a whole is meant."""
    message: str
    hint: str = ""

    def __str__(self) -> str:
        text = ": ".join(part for part in (self.source, self.key, self.message) if part)
        return f"{text}\n    hint: {self.hint}" if self.hint else text


class Contradiction(ValueError):
    """Settings that make no sense together: the path of each, and what is wrong there."""

    def __init__(self, found: Sequence[tuple[tuple[str | int, ...], str]]) -> None:
        self.found = tuple(found)
        super().__init__("; ".join(message for _, message in self.found))


class SettingsError(Exception):
    """The configuration cannot be used: the fault of whoever wrote it, and of nobody else."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        shown = [str(problem) for problem in self.problems[:PROBLEMS_SHOWN_MAX]]
        if len(self.problems) > PROBLEMS_SHOWN_MAX:
            shown.append(f"... and {len(self.problems) - PROBLEMS_SHOWN_MAX} more")
        super().__init__("\n".join(shown))
