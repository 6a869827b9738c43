"""The meter: hears of booked calls, keeps their series with the ledger, shows them as text.

The recorder's thread calls `restore`, `note`, `booked` and `reload`; `expose` may be called from
any other at any time. One lock stands between: it is held to make a staged batch true and to copy
dictionaries, never while text is made or the ledger waited for.

What `note` has staged becomes true with `booked`, and with nothing else. A commit that failed
leaves it to be replaced; a `restore` drops it, for what it read is later: after a commit whose
answer was lost the ledger already has it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from taximeter.call import Fact
from taximeter.metrics import _booked, _running
from taximeter.metrics._exposition import Picture
from taximeter.metrics._facts import RecorderFacts, draw
from taximeter.metrics._families import FAMILIES
from taximeter.metrics._family import SECOND, Source
from taximeter.metrics._names import Arrivals, Arriving, Names
from taximeter.metrics._series import Series, Staged
from taximeter.metrics._tally import BUDGET_STAGES, DECISIONS, Rules, Tally
from taximeter.metrics._words import ROOMLESS
from taximeter.pricing import catalogue_models, newest_price_ns
from taximeter.settings import Settings

if TYPE_CHECKING:
    from taximeter.ledger import Committed, Entry

log = logging.getLogger("taximeter.metrics")

_PORTS = {"http": "80", "https": "443"}


class Meter:
    """A sink of the recorder that counts; see `taximeter.recorder.Sink`."""

    name = "metrics"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._rules = _rules(settings)
        self._lock = threading.Lock()
        self._series = Series(settings.metrics.label_sets_max)
        self._users = Names(settings.metrics.users_max)
        self._teams = Names(settings.metrics.teams_max)
        self._models = Names(settings.metrics.models_max)
        self._staged: tuple[Staged, Arriving] | None = None
        self._notes_refused = 0
        self._price_table = f"genai-prices {version('genai-prices')}"
        self._watched: Callable[[], RecorderFacts] = RecorderFacts
        self._begin_at_zero()

    def watch(self, facts: Callable[[], RecorderFacts]) -> None:
        """Show the recorder's own facts, too; `facts` is called by whoever calls `expose`."""
        self._watched = facts

    # -- the recorder's thread ----------------------------------------------------------------

    def restore(self, notes: Mapping[str, bytes]) -> None:
        """Take up what `note` gave in commits before; what has no meaning here is told."""
        series = Series(self._settings.metrics.label_sets_max)
        refused = series.restore(notes)
        if refused:
            log.warning(
                "%d kept counters have no meaning to this version; they begin at 0.", refused
            )
        with self._lock:
            series.exemplars = self._series.exemplars
            self._series = series
            self._staged = None
            self._notes_refused = refused
            for kind, names in self._by_kind().items():
                names.placed = series.names(kind)
            self._begin_at_zero()

    def note(self, entries: Sequence[Entry], committed: Committed) -> Mapping[str, bytes]:
        """Give the series that a commit changes, as they are after it."""
        self._staged = None
        arriving = Arriving(*(Arrivals(names) for names in self._by_kind().values()))
        deltas = Tally(self._rules, arriving).add(entries, committed)
        staged = self._series.stage(deltas)
        kept = self._series.notes(staged)
        self._staged = (staged, arriving)
        return kept

    def booked(self, entries: Sequence[Entry], committed: Committed) -> None:
        """Make what was last noted true."""
        if self._staged is None:
            return
        staged, arriving = self._staged
        self._staged = None
        with self._lock:
            self._series.apply(staged)
        for names, arrivals in zip(self._by_kind().values(), arriving, strict=True):
            names.take(arrivals)

    def reload(self, settings: Settings) -> None:
        """Take new bounds and budgets. Names and series that are there stay."""
        with self._lock:
            self._settings = settings
            self._rules = _rules(settings)
            self._series.label_sets_max = settings.metrics.label_sets_max
            self._users.places_max = settings.metrics.users_max
            self._teams.places_max = settings.metrics.teams_max
            self._models.places_max = settings.metrics.models_max
            self._begin_at_zero()

    def close(self) -> None:
        """Nothing is left to do: all of it is in the ledger."""

    # -- any thread ---------------------------------------------------------------------------

    def expose(self, openmetrics: bool) -> bytes:
        """Give what booked calls and the recorder tell, without OpenMetrics' closing line."""
        picture = Picture()
        with self._lock:
            series = self._series
            picture.values.update({family: {**each} for family, each in series.values.items()})
            picture.bins.update({family: {**each} for family, each in series.bins.items()})
            picture.exemplars.update(
                {family: {**each} for family, each in series.exemplars.items()}
            )
            ahead = {
                family: sum(series.debts.get(family, {}).values())
                for family in FAMILIES
                if family.source is Source.LEDGER
            }
            rules, refused = self._rules, self._notes_refused
        for family, debt in ahead.items():
            picture.set(_booked.AHEAD, debt / family.scale, family.exposed)
        for stage, nanoseconds in zip(BUDGET_STAGES, rules.budget_ns, strict=True):
            picture.set(_booked.BUDGET_SECONDS, nanoseconds / SECOND, stage)
        picture.set(_running.PRICE_TABLE, 1, self._price_table)
        newest_ns = newest_price_ns(time.time_ns())
        picture.set(_running.PRICE_TIME, None if newest_ns is None else newest_ns / SECOND)
        picture.set(_running.NOTES_REFUSED, refused)
        draw(picture, self._watched())
        return picture.text(as_openmetrics=openmetrics)

    # -----------------------------------------------------------------------------------------

    def _by_kind(self) -> dict[str, Names]:
        return {"user": self._users, "team": self._teams, "model": self._models}

    def _begin_at_zero(self) -> None:
        """Begin what is known beforehand at 0: the first step of a counter is seen only so."""
        zero = self._series.zero
        zero(_booked.OVERFLOW, *((kind,) for kind in (*self._by_kind(), "label_set")))
        zero(_booked.FACTS, *((str(fact),) for fact in Fact))
        held = [(name, stage) for name in self._settings.upstreams for stage in BUDGET_STAGES]
        zero(_booked.BUDGETED, *held)
        zero(_booked.OVER_BUDGET, *held)
        for name, upstream in self._settings.upstreams.items():
            zero(_booked.ADMISSIONS, *((name, each) for each in DECISIONS))
            zero(_booked.REFUSED, *((name, reason) for reason in ROOMLESS))
            zero(
                _booked.FALLBACKS,
                *((name, to, each) for to in upstream.fallback for each in ("answered", "failed")),
            )


def _rules(settings: Settings) -> Rules:
    budget = settings.latency_budget
    return Rules(
        servers={name: _server(each.url) for name, each in settings.upstreams.items()},
        budget_ns=tuple(
            round(seconds * SECOND)
            for seconds in (
                budget.network_seconds,
                budget.queue_seconds,
                budget.first_token_seconds,
                budget.output_token_seconds,
                budget.settle_seconds,
            )
        ),
        is_known=_is_known(settings),
    )


def _server(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.hostname or "", str(parts.port or _PORTS.get(parts.scheme, ""))


def _is_known(settings: Settings) -> Callable[[str], bool]:
    """Give what tells models known by name: by the configuration, else by the price table."""
    configured = {price.model for price in settings.prices}
    for upstream in settings.upstreams.values():
        configured |= {*upstream.models, *upstream.models.values()}
    # The table is loaded, once, by the first failed call of a model that nothing else knows: half a
    # second, where pricing has not needed it before.
    return lambda model: model in configured or model in catalogue_models()
