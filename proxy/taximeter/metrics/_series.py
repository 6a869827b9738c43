"""Series and their values: what changes is staged, kept, and only then true.

A commit may fail and be tried again, so a batch is first *staged*: its differences are laid over
the present values, and what comes out is both what the ledger is given to keep and what becomes
true with `apply`. Values are never changed in place; a reader in another thread who has copied the
dictionaries has a picture of one moment.

A counter never goes down. Where a difference is negative (see `taximeter.ledger`: a fetch hands its
figures to the call that made the answer, perhaps in another series) it is carried as *debt* and
worked off by what comes later. So for every series, at all times: value - debt = the ledger's.

A family has at most `label_sets_max` series with names in them. Beyond that, names become `other`;
and should the closed labels alone make as many again, everything goes into one series that is
`other` throughout. So no family passes 2 * label_sets_max + 1, and none loses a call.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from taximeter.metrics._booked import OVERFLOW
from taximeter.metrics._families import BY_NAME, OPEN_LABELS
from taximeter.metrics._family import Family, Kind
from taximeter.metrics._names import OTHER

Labels = tuple[str, ...]
Bins = tuple[int, ...]
"""A histogram: calls in each bucket (not cumulative), those above all edges, and the sum."""

NOTE_PREFIX = "metrics/"
_VERSION = 1
"""Goes up when the labels of a family change their order or meaning, or a figure its unit."""


class Exemplar(NamedTuple):
    """One call, as an example of a bucket."""

    trace_id: str
    call_id: str
    value: int
    at_seconds: float


class Deltas:
    """What a batch adds."""

    def __init__(self) -> None:
        self.counts: dict[Family, dict[Labels, int]] = {}
        self.bins: dict[Family, dict[Labels, list[int]]] = {}
        self.exemplars: dict[Family, dict[Labels, dict[int, Exemplar]]] = {}

    def counter(self, family: Family) -> dict[Labels, int]:
        """Give a family's differences, to be added to."""
        return self.counts.setdefault(family, {})

    def histogram(self, family: Family, labels: Labels) -> list[int]:
        """Give a series' bins, to be added to."""
        series = self.bins.setdefault(family, {})
        bins = series.get(labels)
        if bins is None:
            bins = series[labels] = [0] * (len(family.edges) + 2)
        return bins


class Staged:
    """New values of the series that a batch changes."""

    def __init__(self) -> None:
        self.values: dict[Family, dict[Labels, int]] = {}
        self.debts: dict[Family, dict[Labels, int]] = {}
        self.bins: dict[Family, dict[Labels, Bins]] = {}
        self.exemplars: dict[Family, dict[Labels, dict[int, Exemplar]]] = {}
        self.folded = 0
        """Series that found no room of their own."""


class Note(msgspec.Struct, frozen=True, array_like=True):
    """One series as it is kept."""

    version: int
    family: str
    labels: Labels
    value: int = 0
    debt: int = 0
    edges: tuple[int, ...] = ()
    """Edges that the bins were counted by: with others they mean nothing."""
    bins: Bins = ()


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Note)


class Series:
    """All kept series. Not safe between threads; `snapshot` is, under the owner's lock."""

    def __init__(self, label_sets_max: int) -> None:
        self.label_sets_max = label_sets_max
        self.values: dict[Family, dict[Labels, int]] = {}
        self.debts: dict[Family, dict[Labels, int]] = {}
        self.bins: dict[Family, dict[Labels, Bins]] = {}
        self.exemplars: dict[Family, dict[Labels, dict[int, Exemplar]]] = {}
        self._note_names: dict[tuple[Family, Labels], str] = {}

    def zero(self, family: Family, *label_sets: Labels) -> None:
        """Begin counters at 0, so that their first step is seen."""
        values = self.values.setdefault(family, {})
        for labels in label_sets:
            values.setdefault(labels, 0)

    # -- a batch ------------------------------------------------------------------------------

    def stage(self, deltas: Deltas) -> Staged:
        """Lay a batch's differences over the present values; nothing changes."""
        staged = Staged()
        for family, counts in deltas.counts.items():
            self._stage_counts(family, counts, staged)
        for family, bins in deltas.bins.items():
            self._stage_bins(family, bins, deltas.exemplars.get(family, {}), staged)
        if staged.folded:
            self._stage_counts(OVERFLOW, {("label_set",): staged.folded}, staged)
        return staged

    def _stage_counts(self, family: Family, counts: dict[Labels, int], staged: Staged) -> None:
        values, debts = self.values.get(family, {}), self.debts.get(family, {})
        new = staged.values.setdefault(family, {})
        owed = staged.debts.setdefault(family, {})
        for asked, delta in counts.items():
            if not delta:
                continue
            labels = self._place(family, asked, values, new, staged)
            value = new.get(labels)
            if value is None:
                value, debt = values.get(labels, 0), debts.get(labels, 0)
            else:
                debt = owed.get(labels, 0)
            net = delta - debt
            new[labels] = value + net if net > 0 else value
            if debt or net < 0:
                owed[labels] = -net if net < 0 else 0

    def _stage_bins(
        self,
        family: Family,
        bins: dict[Labels, list[int]],
        exemplars: dict[Labels, dict[int, Exemplar]],
        staged: Staged,
    ) -> None:
        present = self.bins.get(family, {})
        new = staged.bins.setdefault(family, {})
        for asked, added in bins.items():
            labels = self._place(family, asked, present, new, staged)
            before = new.get(labels) or present.get(labels)
            new[labels] = (
                tuple(added)
                if before is None
                else tuple([one + other for one, other in zip(before, added, strict=True)])
            )
            if asked in exemplars:
                staged.exemplars.setdefault(family, {}).setdefault(labels, {}).update(
                    exemplars[asked]
                )

    def _place(
        self,
        family: Family,
        labels: Labels,
        present: Mapping[Labels, object],
        new: Mapping[Labels, object],
        staged: Staged,
    ) -> Labels:
        """Give the series that a set of labels is counted in."""
        if labels in present or labels in new:
            return labels
        # New ones of this batch are counted twice at worst: the bound is kept, not reached.
        held = len(present) + len(new)
        if held < self.label_sets_max:
            return labels
        closed = folded(family, labels)
        if closed != labels:
            staged.folded += 1
        if closed in present or closed in new or held < 2 * self.label_sets_max:
            return closed
        return (OTHER,) * len(labels)

    def notes(self, staged: Staged) -> dict[str, bytes]:
        """Give the changed series as they are to be kept, by name."""
        kept: dict[str, bytes] = {}
        for family, values in staged.values.items():
            debts = staged.debts.get(family, {})
            for labels, value in values.items():
                note = Note(_VERSION, family.name, labels, value, debts.get(labels, 0))
                kept[self._note_name(family, labels)] = _encode(note)
        for family, bins in staged.bins.items():
            for labels, counted in bins.items():
                note = Note(_VERSION, family.name, labels, edges=family.edges, bins=counted)
                kept[self._note_name(family, labels)] = _encode(note)
        return kept

    def apply(self, staged: Staged) -> None:
        """Make a staged batch true."""
        for family, values in staged.values.items():
            self.values.setdefault(family, {}).update(values)
        for family, debts in staged.debts.items():
            if debts:
                self.debts.setdefault(family, {}).update(debts)
        for family, bins in staged.bins.items():
            self.bins.setdefault(family, {}).update(bins)
        for family, exemplars in staged.exemplars.items():
            mine = self.exemplars.setdefault(family, {})
            for labels, each in exemplars.items():
                mine[labels] = {**mine.get(labels, {}), **each}

    def _note_name(self, family: Family, labels: Labels) -> str:
        key = (family, labels)
        name = self._note_names.get(key)
        if name is None:
            # Labels hold no unprintable characters, see `_names.shown`.
            digest = blake2b("\0".join(labels).encode(), digest_size=12).hexdigest()
            name = self._note_names[key] = f"{NOTE_PREFIX}{family.name}/{digest}"
        return name

    # -- what was kept ------------------------------------------------------------------------

    def restore(self, notes: Mapping[str, bytes]) -> int:
        """Take up what was kept; give how many notes had no meaning to this version."""
        refused = 0
        for name, data in notes.items():
            if name.startswith(NOTE_PREFIX) and not self._restore(data):
                refused += 1
        return refused

    def _restore(self, data: bytes) -> bool:
        try:
            note = _decoder.decode(data)
        except msgspec.MsgspecError:
            return False
        family = BY_NAME.get(note.family)
        if family is None or note.version != _VERSION or len(note.labels) != len(family.labels):
            return False
        if family.kind is Kind.COUNTER:
            if note.bins or note.value < 0 or note.debt < 0:
                return False
            self.values.setdefault(family, {})[note.labels] = note.value
            if note.debt:
                self.debts.setdefault(family, {})[note.labels] = note.debt
            return True
        if note.edges != family.edges or len(note.bins) != len(family.edges) + 2:
            return False
        self.bins.setdefault(family, {})[note.labels] = note.bins
        return True

    def names(self, kind: str) -> set[str]:
        """Give the names of a kind that series are kept for."""
        found: set[str] = set()
        families: dict[Family, Mapping[Labels, object]] = {**self.values, **self.bins}
        for family, series in families.items():
            for place, label in enumerate(family.labels):
                if OPEN_LABELS.get(label) == kind:
                    found.update(labels[place] for labels in series)
        return found - {"", OTHER}


def folded(family: Family, labels: Labels) -> Labels:
    """Give a set of labels with its names as `other`; no name stays none."""
    return tuple(
        [
            OTHER if value and label in OPEN_LABELS else value
            for label, value in zip(family.labels, labels, strict=True)
        ]
    )


def add(counts: dict[Labels, int], labels: Labels, count: int) -> None:
    """Add to a family's differences; nothing is no series."""
    if count:
        counts[labels] = counts.get(labels, 0) + count
