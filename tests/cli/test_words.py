"""Figures for reading, and times as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taximeter.cli import _words
from taximeter.cli._errors import CommandError
from taximeter.cli._options import moment_ns

DAY = 86_400 * 10**9


@pytest.mark.parametrize(
    ("pico", "text"),
    [
        (None, "unknown"),
        (0, "$0.000000"),
        (1, "<$0.000001"),
        (1_000_000, "$0.000001"),
        (1_234_567_890_123_456, "$1,234.567890"),
    ],
)
def test_money(pico: int | None, text: str) -> None:
    """To a millionth; less than that but not nothing is said to be so."""
    assert _words.money(pico) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"), (0.0, "0 us"), (0.000_25, "250 us"), (0.25, "250 ms"), (2.5, "2.50 s"),
        (1234.5, "1,234 s"),
    ],
)  # fmt: skip
def test_seconds(value: float | None, text: str) -> None:
    """Three figures that matter; never reached is a dash."""
    assert _words.seconds(value) == text


@given(st.text())
def test_no_text_reaches_the_terminal_as_a_command(text: str) -> None:
    """Whatever a name is made of, what is shown can be printed, on one line."""
    shown = _words.plain(text)
    assert shown.isprintable()
    assert shown


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        (None, None),
        ("90s", 10 * DAY - 90 * 10**9),
        ("1h", 10 * DAY - 3600 * 10**9),
        ("2d", 8 * DAY),
        ("1w", 3 * DAY),
        ("52w", 0),
        ("1970-01-02", DAY),
        ("1970-01-02T01:00", DAY + 3600 * 10**9),
        ("1970-01-02T01:00:00.5Z", DAY + 3600 * 10**9 + 500_000_000),
        ("1970-01-02T01:00+01:00", DAY),
    ],
)
def test_a_time_is_so_long_ago_or_a_date(text: str | None, ns: int | None) -> None:
    """Spans count back from now; dates are UTC unless they say otherwise."""
    assert moment_ns(text, "--since", now_ns=10 * DAY) == ns


@given(st.text(max_size=20))
def test_any_time_is_read_or_refused(text: str) -> None:
    """No text makes anything but a time or an error of the command."""
    try:
        moment = moment_ns(text, "--since", now_ns=10 * DAY)
    except CommandError as error:
        moment = error.exit_code - 2
    assert moment is not None
    assert moment >= 0
