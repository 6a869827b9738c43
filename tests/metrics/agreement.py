"""Compares a meter with a ledger, by additions of this module's own."""

from __future__ import annotations

from collections import Counter

from taximeter.call import Usage
from taximeter.ledger import Ledger
from taximeter.metrics import FAMILIES, Family, Meter
from taximeter.metrics import _booked as families
from taximeter.metrics._families import OPEN_LABELS

Figures = dict[Family, dict[tuple[str, ...], int]]


def from_ledger(ledger: Ledger) -> Figures:
    """Add up all rows by the labels of the metrics that must agree; whole pico-dollars."""
    found: dict[Family, Counter[tuple[str, ...]]] = {
        family: Counter() for family in FAMILIES if family.source == "ledger"
    }
    for call in ledger.calls():
        model = (call.upstream or "", call.provider or "", call.model or "")
        how = (*model, call.operation, call.outcome)
        user, team = call.user or "", call.team or ""
        usage = call.usage or Usage()
        found[families.CALLS][how] += 1
        found[families.USER_CALLS][user, call.outcome] += 1
        found[families.TEAM_CALLS][team, call.outcome] += 1
        found[families.USAGE][*how, call.usage_source] += 1
        found[families.COST][how] += call.cost_pico or 0
        found[families.USER_COST][user,] += call.cost_pico or 0
        found[families.TEAM_COST][team,] += call.cost_pico or 0
        for kind in ("input", "output", "cached", "cache_write", "reasoning"):
            tokens = getattr(usage, f"{kind}_tokens") or 0
            found[families.TOKENS][*model, kind] += tokens
            found[families.USER_TOKENS][user, kind] += tokens
            found[families.TEAM_TOKENS][team, kind] += tokens
    return {family: {k: v for k, v in each.items() if v} for family, each in found.items()}


def from_meter(meter: Meter) -> Figures:
    """Give what the meter shows of them, less what it says that it is ahead by."""
    series = meter._series
    return {
        family: {
            labels: net
            for labels, value in series.values.get(family, {}).items()
            if (net := value - series.debts.get(family, {}).get(labels, 0))
        }
        for family in FAMILIES
        if family.source == "ledger"
    }


def assert_agrees(meter: Meter, ledger: Ledger) -> None:
    """Check `sum(ledger) == /metrics`, series by series."""
    assert from_meter(meter) == from_ledger(ledger)


def assert_totals_agree(meter: Meter, ledger: Ledger) -> None:
    """Check the totals by closed labels, whatever names were folded together."""

    def by_last_label(figures: Figures) -> dict[tuple[str, str], int]:
        totals: Counter[tuple[str, str]] = Counter()
        for family, series in figures.items():
            for labels, amount in series.items():
                last = labels[-1] if family.labels[-1] not in OPEN_LABELS else ""
                totals[family.name, last] += amount
        return {key: amount for key, amount in totals.items() if amount}

    assert by_last_label(from_meter(meter)) == by_last_label(from_ledger(ledger))


class NeverDown:
    """Checks from one look to the next that no counter of a meter has gone down."""

    def __init__(self) -> None:
        self._before: dict[tuple[Family, tuple[str, ...]], int] = {}

    def look(self, meter: Meter) -> None:
        now = {
            (family, labels): value
            for family, each in meter._series.values.items()
            for labels, value in each.items()
        }
        fallen = [key for key, value in self._before.items() if now.get(key, 0) < value]
        assert fallen == []
        self._before = now
