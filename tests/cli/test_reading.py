"""`calls`, `call` and `report`: what they show, and what they never do."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from decimal import Decimal

import pytest

from taximeter.call import Attempt, Outcome, Stage, Usage, UsageSource
from taximeter.ledger import Entry
from tests.cli.conftest import Run
from tests.ledger.make import HOUR, T0, call_id, entry

Book = Callable[..., None]


def three() -> tuple[Entry, ...]:
    """Three calls: one priced, one free, one whose cost nobody knows."""
    return (
        entry(user="ann", cost_pico=1_234_567_000_000, at_ns=T0),
        entry(user="bob", cost_pico=0, at_ns=T0 + 1),
        entry(
            user="eve",
            cost_pico=None,
            price="unpriced: no such model",
            source=UsageSource.ABSENT,
            outcome=Outcome.TRUNCATED,
            at_ns=T0 + 2,
        ),
    )


def test_calls_are_listed_newest_first_and_unknown_is_not_zero(run: Run, book: Book) -> None:
    """A cost of nothing and a cost nobody knows are different words."""
    book(*three())
    result = run("calls")
    assert result.code == 0
    head, eve, bob, ann = result.out.splitlines()
    assert (
        head.split() == "started (UTC) user model outcome in out cost first token total id".split()
    )
    assert "eve" in eve
    assert "truncated" in eve
    assert "unknown" in eve
    assert "$0.000000" in bob
    assert "$1.234567" in ann


def test_the_ids_of_a_table_are_whole(run: Run, book: Book) -> None:
    """Off a terminal no cell is cut: an id can be copied out of a file."""
    ids = [call_id(T0 + place) for place in range(3)]
    book(*(entry(id=one, user="u" * 100) for one in ids))
    out = run("calls").out
    assert all(one in out for one in ids)


def test_json_lines_hold_exact_costs_or_null(run: Run, book: Book) -> None:
    """Each line is an object; a cost is a decimal string, or null where it is unknown."""
    book(*three())
    views = [json.loads(line) for line in run("calls", "--format", "jsonl").out.splitlines()]
    assert [view["cost_usd"] for view in views] == [None, "0", "1.234567"]
    assert [view["user"] for view in views] == ["eve", "bob", "ann"]
    assert views[2]["started_at"].endswith("Z")


def test_csv_has_stated_columns_and_no_formulas(run: Run, book: Book) -> None:
    """A name from outside cannot become a formula in somebody's spreadsheet."""
    book(entry(user="=HYPERLINK(1)", session='a"b,c\nd'))
    (row,) = csv.DictReader(io.StringIO(run("calls", "-f", "csv").out))
    assert row["user"] == "'=HYPERLINK(1)"
    assert row["session"] == 'a"b,c\nd'
    assert row["cost_usd"] == "0.000001234567"
    assert row["stream"] == "false"


def test_a_report_as_csv_has_no_formulas(run: Run, book: Book) -> None:
    """A name from outside cannot become a formula in somebody's spreadsheet by way of a sum."""
    book(entry(user="=HYPERLINK(1)", model="+cmd|' /C calc'!A0"))
    (row,) = csv.DictReader(io.StringIO(run("report", "--by", "user,model", "-f", "csv").out))
    assert row["user"] == "'=HYPERLINK(1)"
    assert row["model"] == "'+cmd|' /C calc'!A0"
    assert row["calls"] == "1"
    assert row["cost_usd"] == "0.000001234567"


def test_a_name_from_outside_cannot_speak_to_the_terminal(run: Run, book: Book) -> None:
    """Escape sequences, line ends and markup in names are shown, not obeyed."""
    book(entry(user="\x1b[2Jgone\r\n[red]x[/red]\x9b"))
    (seen,) = run("calls", "-f", "jsonl").out.splitlines()
    one = json.loads(seen)["id"]
    for result in (run("calls"), run("report"), run("call", one)):
        assert result.code == 0
        assert "?[2Jgone??[red]x[/red]?" in result.out
        assert "\x1b" not in result.out


def test_calls_can_be_chosen(run: Run, book: Book) -> None:
    """Every filter holds, and they hold together."""
    book(*three(), entry(user="ann", model="other", team="t", session="s", at_ns=T0 + HOUR))

    def users(*words: str) -> list[str]:
        lines = run("calls", "-f", "jsonl", *words).out.splitlines()
        return [json.loads(line)["user"] for line in lines]

    assert users("--user", "ann") == ["ann", "ann"]
    assert users("--user", "ann", "--model", "other") == ["ann"]
    assert users("--team", "t", "--session", "s", "--upstream", "openai") == ["ann"]
    assert users("--outcome", "truncated") == ["eve"]
    assert users("--unpriced") == ["eve"]
    assert users("--limit", "2") == ["ann", "eve"]
    assert users("--since", "2100-01-01") == []
    assert len(users("--until", "2100-01-01T00:00+02:00")) == 4


def test_a_table_says_that_there_are_more(run: Run, book: Book) -> None:
    """What is left out of a table is said, on standard error."""
    book(*three())
    result = run("calls", "--limit", "2")
    assert len(result.out.splitlines()) == 3
    assert result.err == "The newest 2; see --limit.\n"
    assert run("calls", "--limit", "3").err == ""


def test_an_empty_ledger_is_no_error(run: Run, ledger: object) -> None:
    """No calls is an answer: empty output, exit code 0."""
    assert run("calls").code == 0
    assert run("calls").out == ""
    assert run("calls", "-f", "jsonl").out == ""
    assert run("report", "-f", "json").out == "[]\n"
    assert run("report").out == ""


def test_a_call_is_shown_with_its_stages_as_a_waterfall(run: Run, book: Book) -> None:
    """Stages stand one after the other on one scale, and attempts where they lay in time."""
    one = call_id()
    ms = 1_000_000
    book(
        entry(
            id=one,
            stages={Stage.RECEIVE: 10 * ms, Stage.FIRST_BYTE: 390 * ms, Stage.STREAM: 600 * ms},
            attempts=[
                Attempt(number=1, upstream="openai", started_ns=0, ended_ns=ms, error="reset"),
                Attempt(number=2, upstream="openai", started_ns=9 * ms, status=200),
            ],
            usage=Usage(input_tokens=1200, output_tokens=80, cached_tokens=1024),
        )
    )
    out = run("call", one).out
    assert "1,200 in, 80 out, 1,024 of the input cached (reported)" in out
    lines = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    receive, first_byte, stream = (lines[name] for name in ("receive", "first_byte", "stream"))
    assert receive.count("█") == 1
    assert 17 <= first_byte.count("█") <= 20
    assert 27 <= stream.count("█") <= 30
    assert stream.index("█") > first_byte.index("█") + 15
    assert "attempt 1" in out
    assert "reset" in out


def test_a_call_as_json_has_what_others_build_on(run: Run, book: Book) -> None:
    """The stated keys are there, whatever else is."""
    one = call_id()
    book(entry(id=one))
    view = json.loads(run("call", one.upper(), "--format", "json").out)
    stated = (
        "id, started_at, user, team, session, tags, upstream, operation, model, response_model, "
        "stream, status, outcome, input_tokens, output_tokens, cached_tokens, reasoning_tokens, "
        "usage_source, cost_usd, price, attempts, stages, trace_id, error"
    )
    assert set(stated.split(", ")) <= set(view)


@pytest.mark.parametrize("word", ["nonsense", "019ab3c4-7d10-7e21-8f3a-5b6c7d8e9fa0", "%", "'"])
def test_a_call_that_is_not_there_is_said_to_be_so(run: Run, ledger: object, word: str) -> None:
    """An unknown id fails with one sentence."""
    result = run("call", word)
    assert result.code == 1
    assert result.err.startswith("taximeter: the ledger has no such call")


def test_a_report_adds_up_exactly(run: Run, book: Book) -> None:
    """Sums are exact, the dearest comes first, and what has no price is counted apart."""
    book(*three(), *(entry(user="ann", cost_pico=1) for _ in range(3)))
    rows = json.loads(run("report", "--by", "user", "--format", "json").out)
    assert [row["user"] for row in rows] == ["ann", "bob", "eve"]
    assert rows[0]["cost_usd"] == "1.234567000003"
    assert rows[0]["calls"] == 4
    assert rows[2]["unpriced"] == 1
    table = csv.DictReader(io.StringIO(run("report", "-f", "csv", "--by", "user,outcome").out))
    total = sum((Decimal(row["cost_usd"]) for row in table), Decimal(0))
    assert total == Decimal("1.234567000003")


def test_a_report_as_a_table_has_a_total(run: Run, book: Book) -> None:
    """The last line adds the others up."""
    book(*three())
    lines = run("report").out.splitlines()
    assert lines[0].split()[0] == "user"
    assert lines[-1].split()[:2] == ["total", "3"]
    assert "$1.234567" in lines[-1]


def test_a_report_of_some_calls_only(run: Run, book: Book) -> None:
    """`--where` holds values fixed, and may be said more than once."""
    book(*three(), entry(user="ann", model="other"))
    only = ("--where", "user=ann", "--where", "model=other")
    rows = json.loads(run("report", "--by", "model", *only, "-f", "json").out)
    assert [(row["model"], row["calls"]) for row in rows] == [("other", 1)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("report", "--by", "colour"), "cannot report by 'colour'"),
        (("report", "--where", "ann"), "--where: give NAME=VALUE"),
        (("calls", "--since", "yesterday"), "--since: give a time"),
        (("calls", "--until", "99"), "--until: give a time"),
        (("calls", "--since", "9999-12-31"), "--since: give a date before the year 2262"),
        (("ledger", "prune", "--older-than", "2262-04-12"), "--older-than: give a date before"),
        (("calls", "--user", "\udcff"), "--user: give a name in UTF-8"),
        (("calls", "--team", "\udcff"), "--team: give a name in UTF-8"),
        (("calls", "--session", "\udcff"), "--session: give a name in UTF-8"),
        (("calls", "--model", "\udcff"), "--model: give a name in UTF-8"),
        (("calls", "--upstream", "\udcff"), "--upstream: give a name in UTF-8"),
        (("call", "\udcff"), "ID: give a name in UTF-8"),
        (("report", "--by", "tag:\udcff"), "--by: give a name in UTF-8"),
        (("report", "--where", "user=\udcff"), "--where: give a name in UTF-8"),
        (("ledger", "reprice", "--model", "\udcff"), "--model: give a name in UTF-8"),
        (("calls", "--outcome", "lost"), "--outcome: one of completed"),
        (("calls", "--format", "xml"), "Invalid value"),
        (("calls", "--limit", "0"), "Invalid value"),
        (("calls", "--limit", "9" * 23), "Invalid value"),
        (("calls", "--colour"), "No such option"),
        (("colour",), "No such command"),
        (("ledger", "prune"), "Missing option"),
    ],
)
def test_a_word_that_is_not_understood_ends_with_2(
    run: Run, ledger: object, words: tuple[str, ...], said: str
) -> None:
    """Misuse is exit code 2, in a sentence and without a traceback."""
    result = run(*words)
    assert result.code == 2
    assert said in result.err
    assert "Traceback" not in result.err
    assert result.out == ""


@pytest.mark.parametrize(
    "words", [("calls",), ("report",), ("call", call_id()), ("calls", "-f", "csv")]
)
def test_without_a_ledger_it_is_said_what_to_do(run: Run, words: tuple[str, ...]) -> None:
    """A ledger that is not there fails with what makes one, and is not made by looking."""
    result = run(*words)
    assert result.code == 1
    assert "There is no ledger" in result.err
    assert "taximeter serve" in result.err
    assert "Traceback" not in result.err
