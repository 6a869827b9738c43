"""Which names have series of their own: users, teams, models.

These come from strangers, and a series lives in Prometheus for as long as its retention is. So a
kind of name has a number of *places*. A name that has a place keeps it, for its counters must not
move; a name that has none is counted as `other`, in full, and everybody is in the ledger.

Who gets a place:

- The first half of the places goes to whoever comes: most installations have fewer users than
  places, and there everyone is shown from the first call on.
- The other half waits for those who matter. Of what is counted under `other`, a name must have at
  least one part in as many as there are places, and that after at least `EVIDENCE_CALLS` calls.
  Ten thousand users of the same size get none of them; the one who spends a tenth of it all gets
  one whenever he comes. Weight is pico-dollars, and one for the call itself, so where nothing costs
  anything the busiest come first.

The weights are kept in a bounded sketch (Misra-Gries, merged batch by batch): what it says of a
name is never more than the truth, and less by at most the whole divided by its entries. Every
`AGE_CALLS` calls all weights are halved, so that a newcomer is measured against these days. The
sketch itself is not kept over a restart; the places are, for they are the names of kept series.

A model must, besides, be known: an upstream has answered with success under the name, or the
configuration or the price table has it as it stands. A name that only ever failed is nobody's.

A name is shown as it is if it is printable and not long. Otherwise what cannot be shown is left
out, and a digest of the whole follows, so that two names stay two. `other` is the word for the
rest, so a name that is `other`, or that with underscores behind it, gets one underscore more:
`other_` is the user `other`. Nobody's calls have the empty name.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Final, NamedTuple

OTHER: Final = "other"
NAME_CHARACTERS_MAX: Final = 64
"""A label's value; long enough for an e-mail address, a UUID or any model's name."""
EVIDENCE_CALLS: Final = 100
AGE_CALLS: Final = 10_000
SKETCH_ENTRIES_PER_PLACE: Final = 4
_DIGEST_HEX: Final = 12


def shown(name: str) -> str:
    """Give a name as it stands in a label."""
    if len(name) <= NAME_CHARACTERS_MAX and name.isprintable():
        if name.startswith(OTHER) and not name[len(OTHER) :].strip("_"):
            return f"{name}_"
        return name
    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_HEX // 2)
    kept = "".join(filter(str.isprintable, name[:NAME_CHARACTERS_MAX]))
    return f"{kept[: NAME_CHARACTERS_MAX - _DIGEST_HEX - 1]}#{digest.hexdigest()}"


class Names:
    """The names of one kind that have a place."""

    def __init__(self, places_max: int) -> None:
        self.places_max = places_max
        self.placed: set[str] = set()
        """As shown. Names kept from before are in it, however many there may be by now."""
        self._weights: dict[str, int] = {}
        self._weight = 0
        self._calls = 0

    def is_open(self, taken: int) -> bool:
        """Tell whether whoever comes gets a place, with `taken` more being given away."""
        return len(self.placed) + taken < self.places_max - self.places_max // 2

    def take(self, arrivals: Arrivals) -> None:
        """Make what a batch has done to the names true, once it is committed."""
        self.placed |= arrivals.placed
        if arrivals.overflow_calls:
            self._weigh(arrivals.weights, arrivals.overflow_calls)

    def _weigh(self, weights: Mapping[str, int], calls: int) -> None:
        places_free = self.places_max - len(self.placed)
        if places_free <= 0:
            self._weights.clear()
            return
        merged = self._weights
        for name, weight in weights.items():
            merged[name] = merged.get(name, 0) + weight
            self._weight += weight
        self._calls += calls
        self._bound()
        if self._calls >= EVIDENCE_CALLS:
            # Compared as whole numbers: weight / all >= 1 / places.
            heavy = [
                name
                for name, weight in self._weights.items()
                if weight * self.places_max >= self._weight
            ]
            heavy.sort(key=lambda name: (-self._weights[name], name))
            for name in heavy[:places_free]:
                self.placed.add(name)
                self._weight -= self._weights.pop(name)
        if self._calls >= AGE_CALLS:
            self._weights = {
                name: half for name, each in self._weights.items() if (half := each // 2)
            }
            self._weight //= 2
            self._calls //= 2

    def _bound(self) -> None:
        """Bring the sketch back to its size, taking the same from every entry."""
        entries_max = SKETCH_ENTRIES_PER_PLACE * self.places_max
        if len(self._weights) > entries_max:
            cut = sorted(self._weights.values(), reverse=True)[entries_max]
            self._weights = {
                name: weight - cut for name, weight in self._weights.items() if weight > cut
            }


class Arrivals:
    """What one batch does to the names of a kind; nothing of it is true before the commit."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self.placed: set[str] = set()
        self.weights: dict[str, int] = {}
        self.overflow_calls = 0
        self._labels: dict[str, str] = {"": ""}
        self._unplaced: set[str] = set()

    def arrive(self, name: str) -> str:
        """Give the label of a name that may have a place if there is one."""
        label = self._labels.get(name)
        if label is None or label is OTHER:
            label = shown(name)
            if label not in self._names.placed and label not in self.placed:
                if self._names.is_open(len(self.placed)):
                    self.placed.add(label)
                else:
                    label = OTHER
                    self._unplaced.add(name)
            self._labels[name] = label
        return label

    def is_unplaced(self, name: str) -> bool:
        """Tell whether a name came that may have a place, and found none."""
        return name in self._unplaced

    def label(self, name: str) -> str:
        """Give the label of a name that gets no place by this."""
        label = self._labels.get(name)
        if label is None:
            label = shown(name)
            if label not in self._names.placed and label not in self.placed:
                label = OTHER
            self._labels[name] = label
        return label

    def overflow(self, name: str, calls: int, cost_pico: int) -> None:
        """Note what a name would have had to itself, had it a place."""
        label = shown(name)
        self.weights[label] = self.weights.get(label, 0) + max(cost_pico, 0) + calls
        self.overflow_calls += calls


class Arriving(NamedTuple):
    """The names of a batch, by kind."""

    users: Arrivals
    teams: Arrivals
    models: Arrivals
