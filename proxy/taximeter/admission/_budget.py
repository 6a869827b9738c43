"""Budgets: what may still be spent, kept so that nobody spends it twice.

A call reserves its worst case when it arrives: if that, with what is spent and what others have
reserved, is more than a hard budget has, it is refused. At the call's end the reservation goes
back, whole, and what it truly cost is booked in its place - into the window the call began in,
as the ledger has it.

So a budget is overspent by no more than its *reservation error*: the sum, over calls, of what
each came to beyond its own worst case. That is zero for a call that says how much output
it wants, is priced, and whose input was not underestimated; a call that leaves its output open
has reserved a guess. Amounts booked are never cut to fit.

A holder's account keeps the windows it has used, newest last, at most `WINDOWS_KEPT`: a clock
that was ahead and is put right finds the old figures. Accounts are bounded in number; names
beyond the bound share one account for each kind of purse, under its limit, and are counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from taximeter.admission._model import Per
from taximeter.admission._plan import Purse, key_of
from taximeter.admission._window import SteadyWall, Windows, window_of

WINDOWS_KEPT = 3
"""This window, the one before (for long calls), and one that a wrong clock may have opened."""
ACCOUNTS_MAX = 100_000
"""About 60 MB when all are in use; more users in a month belong in a shared store."""


@dataclass(slots=True)
class Window:
    """One window of one account, in pico-dollars or tokens."""

    start_ns: int
    spent: int = 0
    reserved: int = 0
    carried: int = 0
    """Part of `spent`: what was so before this book began."""
    holds: int = 0
    """Calls under way with a reservation in it, be that of nothing: they will be booked here."""

    def hold(self, amount: int) -> None:
        """Reserve a call's worst case."""
        self.reserved += amount
        self.holds += 1

    def settle(self, reserved: int, spent: int) -> None:
        """Give a call's reservation back, and book what it spent."""
        self.reserved -= reserved
        self.spent += spent
        self.holds -= 1


@dataclass(slots=True)
class Account:
    """What one purse has used, by window, newest last."""

    per: Per
    windows: list[Window]
    purse: Purse | None = None
    """As it was met last; None while no call has come since the account was loaded."""
    refused: int = 0
    """Calls that it had no room for."""


@dataclass(frozen=True, slots=True)
class Over:
    """A hard budget that has too little left."""

    purse: Purse
    resets_ns: int
    """Time until its next window."""
    unpriced: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """What an account has used of one window. `key` is its purse's."""

    key: str
    per: Per
    start_ns: int
    spent: int
    reserved: int


class Hold:
    """A reservation in some windows. It is given back once; after that it holds nothing."""

    __slots__ = ("parts", "soft_over")

    def __init__(
        self, parts: list[tuple[Purse, Window, int]], soft_over: tuple[str, ...] = ()
    ) -> None:
        self.parts = parts
        self.soft_over = soft_over


NOTHING = Hold([])


class Book:
    """All accounts."""

    def __init__(self, accounts_max: int = ACCOUNTS_MAX) -> None:
        self._accounts: dict[str, Account] = {}
        self._accounts_max = accounts_max
        self._wall = SteadyWall()
        self._windows = Windows()
        self.overflowed = 0
        """How often a name beyond the bound was counted with others like it."""

    def __len__(self) -> int:
        return len(self._accounts)

    def reserve(
        self, purses: Iterable[Purse], tokens: int, pico: int | None, now_ns: int, wall_ns: int
    ) -> Hold | Over:
        """Reserve a call's worst case in all of its purses, or in none."""
        wall_ns = self._wall.believe(wall_ns, now_ns)
        parts: list[tuple[Purse, Window, int]] = []
        soft_over: tuple[str, ...] = ()
        accounts = self._accounts
        for purse in purses:
            start_ns, end_ns = self._windows.around(purse.per, wall_ns)
            account = accounts.get(purse.key)
            # Nearly always the window that was used last.
            if account is not None and account.windows[-1].start_ns == start_ns:
                window = account.windows[-1]
            else:
                window = self._window(purse.key, purse.name, purse.per, start_ns)
                account = accounts.get(purse.key)
            if account is not None and account.purse is not purse:
                account.purse = purse
            if purse.of_tokens:
                amount = tokens
            elif pico is not None:
                amount = pico
            elif purse.refuse_unpriced:
                self.refused(purse)
                return Over(purse, end_ns - wall_ns, unpriced=True)
            else:
                amount = 0
            used = window.spent + window.reserved
            # A budget that is all used up lets nothing more in, free or unpriced alike.
            if used + amount > purse.limit or used >= purse.limit:
                if purse.hard:
                    self.refused(purse)
                    return Over(purse, end_ns - wall_ns)
                soft_over = (*soft_over, purse.name)
            parts.append((purse, window, amount))
        for _, window, amount in parts:
            window.hold(amount)
        return Hold(parts, soft_over)

    def put_by(self, hold: Hold) -> None:
        """Look at budgets as if a reservation were not there, until `put_back`."""
        for _, window, amount in hold.parts:
            window.reserved -= amount

    def put_back(self, hold: Hold) -> None:
        """Count a reservation again."""
        for _, window, amount in hold.parts:
            window.reserved += amount

    def settle(self, hold: Hold, tokens: int | None, pico: int | None) -> None:
        """Give a reservation back and book what was spent; None books what was reserved."""
        parts, hold.parts = hold.parts, []
        for purse, window, amount in parts:
            true = tokens if purse.of_tokens else pico
            window.settle(amount, amount if true is None else true)

    def hear(self, purse: Purse, start_ns: int, spent: int) -> Window:
        """Take in what a purse has spent in all, where that is kept elsewhere.

        Gives the window, for what is reserved and spent from here on. Beyond the bound that is one
        which nobody looks at: here nothing is decided by it.
        """
        if purse.key not in self._accounts and len(self._accounts) >= self._accounts_max:
            self.overflowed += 1
            return Window(start_ns, spent)
        window = self._window(purse.key, purse.name, purse.per, start_ns)
        window.spent = spent
        self._accounts[purse.key].purse = purse
        return window

    def refused(self, purse: Purse) -> None:
        """Count a call that a purse had no room for."""
        account = self._accounts.get(purse.key)
        if account is not None:
            account.refused += 1

    def _window(self, key: str, name: str, per: Per, start_ns: int) -> Window:
        account = self._accounts.get(key)
        if account is None:
            if len(self._accounts) >= self._accounts_max:
                self.overflowed += 1
                key = key_of("purse", "others", name)
                account = self._accounts.get(key)
            if account is None:
                account = self._accounts[key] = Account(per, [])
        windows = account.windows
        for window in reversed(windows):
            if window.start_ns == start_ns:
                return window
        window = Window(start_ns)
        windows.append(window)
        if len(windows) > WINDOWS_KEPT:
            # The oldest goes. A call still reserving in it settles into a window no one asks.
            windows.sort(key=lambda each: each.start_ns)
            oldest = 0 if windows[0] is not window else 1
            del windows[oldest]
        return window

    def load(self, key: str, name: str, per: Per, wall_ns: int, spent: int) -> None:
        """Set what a purse had spent, in the window around `wall_ns`, before this book began.

        It replaces what was loaded before. What was booked here since stays on top of it.
        """
        window = self._window(key, name, per, window_of(per, wall_ns)[0])
        window.spent += spent - window.carried
        window.carried = spent

    def snapshot(self) -> list[Standing]:
        """Give every account's windows."""
        return [
            Standing(key, account.per, window.start_ns, window.spent, window.reserved)
            for key, account in self._accounts.items()
            for window in account.windows
        ]

    def standing(self, purse: Purse, now_ns: int, wall_ns: int) -> Standing:
        """Give what a purse has used of its present window."""
        start_ns, _ = self._windows.around(purse.per, self._wall.believe(wall_ns, now_ns))
        account = self._accounts.get(purse.key)
        for window in account.windows if account is not None else ():
            if window.start_ns == start_ns:
                return Standing(purse.key, purse.per, start_ns, window.spent, window.reserved)
        return Standing(purse.key, purse.per, start_ns, 0, 0)

    def keys(self) -> list[str]:
        """Give the keys of all accounts."""
        return list(self._accounts)

    def account(self, key: str) -> Account | None:
        """Give an account, for looking at."""
        return self._accounts.get(key)

    def ends_ns(self, per: Per, now_ns: int, wall_ns: int) -> int:
        """Give the time until the present window of that length is over."""
        wall_ns = self._wall.believe(wall_ns, now_ns)
        return self._windows.around(per, wall_ns)[1] - wall_ns

    def sweep(self, now_ns: int, wall_ns: int) -> int:
        """Forget accounts that hold nothing by now; give how many that were.

        Such are those with nobody's call under way whose every window is over, or has nothing
        spent in it: names of calls that came to nothing must not fill the table for a month.
        """
        wall_ns = self._wall.believe(wall_ns, now_ns)
        gone = []
        for key, account in self._accounts.items():
            start_ns, _ = self._windows.around(account.per, wall_ns)
            if all(
                not each.holds and (each.start_ns < start_ns or not (each.spent or each.carried))
                for each in account.windows
            ):
                gone.append(key)
        for key in gone:
            del self._accounts[key]
        return len(gone)
