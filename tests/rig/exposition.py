"""What `/metrics` says, as samples to look up."""

from __future__ import annotations

import urllib.request

from prometheus_client.parser import text_string_to_metric_families


class Exposition:
    """One scrape."""

    def __init__(self, text: str) -> None:
        self._found: dict[str, list[tuple[dict[str, str], float]]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._found.setdefault(sample.name, []).append((sample.labels, sample.value))

    @classmethod
    def of(cls, console_url: str) -> Exposition:
        """Scrape a console."""
        with urllib.request.urlopen(f"{console_url}/metrics", timeout=10) as answer:
            return cls(answer.read().decode())

    def samples(self, name: str) -> list[tuple[dict[str, str], float]]:
        """Give a name's samples, each with its labels."""
        return self._found.get(name, [])

    def total(self, name: str, **labels: str) -> float | None:
        """Sum the samples of a name that have these labels; None if there are none."""
        found = [value for own, value in self.samples(name) if labels.items() <= own.items()]
        return sum(found) if found else None

    @property
    def series(self) -> int:
        """How many samples there are in all."""
        return sum(map(len, self._found.values()))
