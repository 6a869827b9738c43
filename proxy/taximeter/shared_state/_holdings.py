"""What calls of this worker hold, as Redis is to believe it. Pure.

Slots and reservations are stated anew and in full by each round of beats, so that a step which was
done twice, or not at all, is put right. What is stated must therefore be true at its place in the
order of steps: counts change when a step is done, not when it is asked for.

A step that nobody knows the end of puts its keys in *doubt*: it may come through long after it was
given up, so its keys are stated for a while though nothing of them is held.
"""

from __future__ import annotations

from taximeter.admission import Admitted, Hold, Plan
from taximeter.admission._window import window_of
from taximeter.shared_state._steps import (
    AMOUNT_MAX,
    SLOTS,
    Ask,
    Settle,
    Step,
    beats,
    window_key,
)

DOUBTED_BEATS = 30
"""A minute: longer than a network keeps what is under way."""
DOUBTED_KEYS_MAX = 20_000
_SECOND_NS = 1_000_000_000


class Holdings:
    """Slots in use and amounts reserved, by key."""

    def __init__(self) -> None:
        self.in_use: dict[str, int] = {}
        """Slots that calls of this worker have."""
        self._reserved: dict[str, int] = {}
        """What calls of this worker have reserved, by window of a purse."""
        self._untold: set[str] = set()
        """Keys of which calls took something that Redis, though it is there, was not told of."""
        self._doubted: dict[str, int] = {}
        """Keys in doubt, and how many rounds are still to state them."""

    def took_slots(self, plan: Plan) -> None:
        """A call has its limits' leave."""
        for slot in plan.slots:
            self.in_use[slot.key] = self.in_use.get(slot.key, 0) + 1

    def reserved(self, hold: Hold) -> None:
        """A call has a reservation."""
        for purse, window, amount in hold.parts:
            key = window_key(purse, window.start_ns // _SECOND_NS)
            self._reserved[key] = self._reserved.get(key, 0) + min(amount, AMOUNT_MAX)

    def took_untold(self, plan: Plan, admitted: Admitted) -> None:
        """A call has this without Redis having been asked: it is to be told before all else."""
        if admitted.taken:
            self._untold.update(slot.key for slot in plan.slots)
        for purse, window, _ in admitted.hold.parts:
            self._untold.add(window_key(purse, window.start_ns // _SECOND_NS))

    @property
    def has_untold(self) -> bool:
        """Whether there is something to tell before the next beat."""
        return bool(self._untold)

    def untold(self) -> list[Step]:
        """State the keys that calls took untold. No step may be on its way."""
        slots = {key: self.in_use.get(key, 0) for key in self._untold if key.startswith(SLOTS)}
        windows = {key: self._reserved.get(key, 0) for key in self._untold if key not in slots}
        self._untold.clear()
        return list(beats(slots, windows))

    def gave_back(self, step: Settle) -> None:
        """What a call held is held no longer."""
        for key in step.slots:
            _take_off(self.in_use, key, 1)
        for key, reserved, _ in step.windows:
            _take_off(self._reserved, key, reserved)

    def doubt(self, step: Step) -> None:
        """Note whose counts may differ there from ours, now that a step's end is not known."""
        keys: list[str] = []
        if isinstance(step, Ask):
            if step.passing:
                keys += [slot.key for slot in step.plan.slots]
            if step.is_admit:
                for purse in step.plan.purses:
                    start_ns, _ = window_of(purse.per, step.wall_ns)
                    keys.append(window_key(purse, start_ns // _SECOND_NS))
        elif isinstance(step, Settle):
            keys += step.slots
            keys += [key for key, reserved, _ in step.windows if reserved]
        for key in keys:
            if key in self._doubted or len(self._doubted) < DOUBTED_KEYS_MAX:
                self._doubted[key] = DOUBTED_BEATS

    def beats(self) -> list[Step]:
        """State what is held, and of what is in doubt that nothing is."""
        self._untold.clear()
        slots, windows = dict(self.in_use), dict(self._reserved)
        for key, left in tuple(self._doubted.items()):
            (slots if key.startswith(SLOTS) else windows).setdefault(key, 0)
            if left > 1:
                self._doubted[key] = left - 1
            else:
                del self._doubted[key]
        return list(beats(slots, windows))


def _take_off(counts: dict[str, int], key: str, amount: int) -> None:
    left = counts.get(key, 0) - amount
    if left > 0:
        counts[key] = left
    else:
        counts.pop(key, None)
