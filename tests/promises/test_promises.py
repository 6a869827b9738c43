"""The list of promises, the documents and the tests say the same."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest

from tests.promises._registry import (
    PROMISES,
    ROOT,
    cited,
    docstrings,
    lines,
    named_in,
)


def test_every_promise_is_named_by_a_test() -> None:
    """A promise that no test's docstring names is one that nothing holds us to."""
    named = frozenset[str]().union(*map(named_in, docstrings().values()))
    assert PROMISES - named == frozenset()


def test_no_test_names_a_promise_that_there_is_none_of() -> None:
    """An id that was mistyped, or taken off the list, does not stay in a docstring."""
    unknown = {
        test: strange
        for test, docstring in docstrings().items()
        if (strange := named_in(docstring) - PROMISES)
    }
    assert unknown == {}


def test_every_promise_has_one_line_in_the_documents() -> None:
    """None is missing, none stands twice, none is made up."""
    count = Counter(line.promise for line in lines())
    assert frozenset(count) == PROMISES
    assert [promise for promise, times in count.items() if times > 1] == []


@pytest.mark.parametrize("promise", sorted(PROMISES))
def test_a_promise_s_line_names_tests_that_name_the_promise(promise: str) -> None:
    """The way from a line of the documents to its tests can be gone back again."""
    (line,) = [each for each in lines() if each.promise == promise]
    assert line.tests, f"{line.page} names no test of {promise}"
    for test in line.tests:
        assert test in docstrings(), f"{line.page} names {test}, which is not there"
        assert promise in named_in(docstrings()[test]), f"{test} does not name {promise}"


def test_what_the_documents_name_is_collected(request: pytest.FixtureRequest) -> None:
    """A test that is there and never runs (a marker, a name, an import) shows nothing."""
    missing = cited() - {item.nodeid.partition("[")[0] for item in request.session.items}
    if missing:  # not all tests are being run: ask pytest about the others
        missing -= _collected(sorted({test.partition("::")[0] for test in missing}))
    assert missing == frozenset()


def _collected(files: list[str]) -> frozenset[str]:
    asked = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", *files],
        cwd=ROOT, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert asked.returncode == 0, asked.stdout[-2000:] + asked.stderr[-2000:]
    return frozenset(line.partition("[")[0] for line in asked.stdout.splitlines() if "::" in line)
