"""The generic cell rate algorithm (GCRA), with refunds that cannot be used twice.

A rate is kept as one number, the *theoretical arrival time* (TAT): the moment at which its
bucket will be full again. An idle bucket's lies in the past. A cost moves it on by
`cost * period / limit`; a call conforms when the TAT, so moved, is no further ahead of now than
the time that the whole burst takes. This is the token bucket, with its level told as a time:
nothing has to be refilled, the wait is exact, and a bucket that is full again is the same as one
that was never there, so it can be forgotten.

What a language model's call costs is known at its end. So a cost is reserved first, and settled
later: a refund moves the TAT back, a debt moves it on without asking. A refund is not simply what
was not used. A reservation is a stretch of the time line that lies ahead, and by the time it is
settled some of it has gone by: the bucket has been refilled in its place, and that part was
given back already. Giving it back again would let through more than the limit:

    reserve 100   ----[==========]---------            the bucket is full again here
                                          ^ now: reserve 100, then refund the first 100?

Only the part of the stretch that still lies ahead of now is refunded. The stretch ends where the
TAT was after the reservation, less what has been refunded since (others' refunds move it, too;
those behind it do not, but to count them errs on the limit's side). Each bucket keeps the sum of
its refunds for that, and each reservation one *mark*: its end plus that sum. So the TAT is
never before what it would be had the true costs been known at the start; the tests run such an
oracle beside it.

Charges and refunds are rounded down to whole nanoseconds. A rate is therefore passed by at most
one nanosecond's worth a charge, which at a million tokens a minute is 1/60,000 of a token.
"""

from __future__ import annotations

from collections.abc import Sequence

from taximeter.admission._need import Need, Short
from taximeter.admission._plan import Rate


class Rates:
    """The rates in use, by key."""

    __slots__ = ("_cells", "_forgotten_ns")

    def __init__(self) -> None:
        # Of each: its TAT, and the sum of its refunds, in nanoseconds.
        self._cells: dict[str, list[int]] = {}
        self._forgotten_ns = 0
        """The largest sum of refunds among buckets forgotten: a new one goes on from there, so
        that no old mark is read as a stretch that lies ahead."""

    def __len__(self) -> int:
        return len(self._cells)

    def take(self, rates: Sequence[Rate], need: Need, now_ns: int) -> Short | None:
        """Reserve a call's cost with every rate, or with none."""
        cells = self._cells
        if not rates:
            return None
        marks: list[int] = []
        tokens = need.tokens
        for rate in rates:
            burst = rate.burst
            if rate.of_tokens:
                cost = tokens
                if cost > burst and need.input_tokens <= burst:
                    # The output is a guess or a cap, mostly not reached: it may owe the rest.
                    cost = burst
            else:
                cost = 1
            if cost > burst or not burst:
                self._put_back(rates[: len(marks)], need)
                return Short(rate.key, rate.name, rate.own, None, never=True)
            cell = cells.get(rate.key)
            if cell is None:
                cell = cells[rate.key] = [now_ns, self._forgotten_ns]
                tat = now_ns
            else:
                tat = cell[0]
                if tat < now_ns:
                    tat = now_ns
            tat += cost * rate.period_ns // rate.limit if cost != 1 else rate.one_ns
            wait_ns = tat - rate.tolerance_ns - now_ns
            if wait_ns > 0:
                self._put_back(rates[: len(marks)], need)
                return Short(rate.key, rate.name, rate.own, wait_ns)
            cell[0] = tat
            marks.append(tat + cell[1])
        need.marks = marks
        return None

    def _put_back(self, rates: Sequence[Rate], need: Need) -> None:
        """Undo what has been taken of these rates just now."""
        for rate in rates:
            cost = min(need.tokens, rate.burst) if rate.of_tokens else 1
            self._cells[rate.key][0] -= cost * rate.period_ns // rate.limit

    def settle(
        self, rates: Sequence[Rate], need: Need, tokens: int | None, requests: int, now_ns: int
    ) -> None:
        """Correct a reservation by the true cost: so many tokens (None leaves them as reserved),
        and one request or none.
        """
        for rate, mark in zip(rates, need.marks, strict=True):
            if not rate.of_tokens:
                if requests:
                    continue
                unused = 1
            elif tokens is None:
                continue
            else:
                cost = need.tokens
                unused = (cost if cost < rate.burst else rate.burst) - tokens
                if not unused:
                    continue
            cell = self._cells.get(rate.key)
            if unused < 0:
                self._owe(rate.key, cell, -unused * rate.period_ns // rate.limit, now_ns)
            elif cell is not None and (ahead := mark - cell[1] - now_ns) > 0:
                refund = unused * rate.period_ns // rate.limit
                if refund > ahead:
                    refund = ahead
                cell[0] -= refund
                cell[1] += refund
                if cell[0] <= now_ns:
                    self._forget(rate.key)
        need.marks = ()

    def charge(self, rates: Sequence[Rate], now_ns: int) -> None:
        """Count one more request as a debt."""
        for rate in rates:
            if not rate.of_tokens and rate.limit:
                cell = self._cells.get(rate.key)
                self._owe(rate.key, cell, rate.one_ns, now_ns)

    def _owe(self, key: str, cell: list[int] | None, debt_ns: int, now_ns: int) -> None:
        if cell is None:
            self._cells[key] = [now_ns + debt_ns, self._forgotten_ns]
        else:
            cell[0] = max(cell[0], now_ns) + debt_ns

    def _forget(self, key: str) -> None:
        refunds_ns = self._cells.pop(key)[1]
        if refunds_ns > self._forgotten_ns:
            self._forgotten_ns = refunds_ns

    def tat_ns(self, key: str) -> int:
        """Give the theoretical arrival time of a rate; 0 for one that is full."""
        cell = self._cells.get(key)
        return 0 if cell is None else cell[0]

    def left(self, rate: Rate, now_ns: int) -> float:
        """Give what is left in a bucket; negative in debt. For showing, not for deciding."""
        ahead = max(0, self.tat_ns(rate.key) - now_ns)
        return (rate.tolerance_ns - ahead) * rate.limit / rate.period_ns

    def sweep(self, now_ns: int) -> int:
        """Forget the buckets that are full again; give how many that were."""
        full = [key for key, cell in self._cells.items() if cell[0] <= now_ns]
        for key in full:
            self._forget(key)
        return len(full)
