"""The budgets that are most used: bounded, and found a part at a time."""

from __future__ import annotations

from taximeter.admission import Book, Budget, Hold, Policy, PurseWatch, Request, Tier, resolve
from taximeter.admission._budget import Account

WALL = 1_800_000_000 * 1_000_000_000
TIER = Tier(budgets=(Budget(tokens=1000),))


def book_of(spent: dict[str, int]) -> Book:
    """Make a book in which users have spent so much of a thousand tokens each."""
    return fill(Book(), spent)


class CountingBook(Book):
    """One that counts how often it is asked for an account."""

    asked = 0

    def account(self, key: str) -> Account | None:
        self.asked += 1
        return super().account(key)


def fill(book: Book, spent: dict[str, int]) -> Book:
    """Let users have spent so much."""
    policy = Policy(tiers={"default": TIER})
    for user, tokens in spent.items():
        plan = resolve(policy, Request(upstream="up", user=user, input_tokens=1))
        hold = book.reserve(plan.purses, tokens, None, 0, WALL)
        assert isinstance(hold, Hold)
        book.settle(hold, tokens, None)
    return book


def seen(watch: PurseWatch, book: Book) -> list[tuple[str, int]]:
    """Give whose budgets are shown, and what was spent."""
    return [(used.purse.holder, used.spent) for used in watch.look(book, 0, WALL)]


def test_with_few_budgets_all_are_shown_the_most_used_first() -> None:
    """Fewer than the bound: everybody is there at the first look."""
    assert seen(PurseWatch(), book_of({"a": 1, "b": 900, "c": 30})) == [
        ("b", 900), ("c", 30), ("a", 1),
    ]  # fmt: skip


def test_no_budgets_are_none() -> None:
    """Nobody has one."""
    assert seen(PurseWatch(), Book()) == []


def test_the_most_used_are_found_wherever_they_stand() -> None:
    """H8: of many, so many are shown; a few looks find the ones with the most used."""
    spent = {f"u{number}": number for number in range(500)}
    watch, book = PurseWatch(shown_max=3, part=100), book_of(spent)
    assert [len(seen(watch, book)) for _ in range(6)] == [3] * 6
    assert seen(watch, book) == [("u499", 499), ("u498", 498), ("u497", 497)]


def test_one_look_costs_a_part_whatever_their_number() -> None:
    """A look asks for as many budgets as it shows and a part of the rest, and no more."""
    book = CountingBook()
    fill(book, {f"u{number}": 1 for number in range(1000)})
    watch = PurseWatch(shown_max=5, part=50)
    for _ in range(3):
        watch.look(book, 0, WALL)
    assert book.asked <= 3 * 55


def test_a_window_that_is_over_begins_at_nothing() -> None:
    """What was spent yesterday is not what is used today."""
    book, watch = book_of({"a": 900}), PurseWatch()
    watch.look(book, 0, WALL)
    day = 86400 * 1_000_000_000
    assert [used.spent for used in watch.look(book, day, WALL + day)] == [0]


def test_what_is_heard_from_elsewhere_is_shown_and_bounded() -> None:
    """H8: a sum told by another store takes the place of the one before; so many are kept."""
    policy = Policy(tiers={"default": TIER})
    book, watch = Book(accounts_max=2), PurseWatch()
    for number, user in enumerate(("a", "b", "c", "a")):
        (purse,) = resolve(policy, Request(upstream="up", user=user, input_tokens=1)).purses
        start_ns = book.standing(purse, 0, WALL).start_ns
        window = book.hear(purse, start_ns, 100 + number)
        window.spent += 5
    assert seen(watch, book) == [("a", 108), ("b", 106)]
    assert book.overflowed == 1
