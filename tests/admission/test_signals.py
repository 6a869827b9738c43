"""What upstreams' headers say, in the forms that are seen and in forms made to hurt."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taximeter.admission._signals import Told, duration_ns, retry_after_ns, should_retry, told

SECOND_NS = 10**9
DAY_NS = 86_400 * SECOND_NS
NOW = int(datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC).timestamp()) * SECOND_NS


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1),
        ("12ms", 0.012),
        ("17.958s", 17.958),
        ("6m0s", 360),
        ("1h0m5s", 3605),
        ("2m59.56s", 179.56),
        ("1m12ms", 60.012),
        ("1d", 86_400),
        ("30", 30),
        ("0", 0),
        ("99999h", 86_400),
        ("", None),
        ("s", None),
        ("-1s", None),
        ("1s ", None),
        ("1x", None),
        ("1s2", None),
        ("nan", None),
        ("1e9", None),
        ("\u0661s", None),
    ],
)
def test_durations_are_read_as_go_writes_them(text: str, seconds: float | None) -> None:
    """Hours to milliseconds, a bare number as seconds, at most a day."""
    expected = None if seconds is None else pytest.approx(seconds * SECOND_NS, abs=2)
    assert duration_ns(text) == expected


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "18"}, 18),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "18"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "18"}, 18),
        ({"retry-after": "Sun, 22 Nov 2026 12:00:30 GMT"}, 30),
        ({"retry-after": "Sunday, 22-Nov-26 12:00:30 GMT"}, 30),
        ({"retry-after": "Sun Nov 22 12:00:30 2026"}, 30),
        ({"retry-after": "2026-11-22T12:00:30Z"}, 30),
        ({"retry-after": "Sun, 22 Nov 2026 11:00:00 GMT"}, 0),
        ({"retry-after": "Sun, 22 Nov 9999 12:00:30 GMT"}, 86_400),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1" * 65}, None),
        ({"retry-after": "Nonsense, 99 Foo 2026"}, None),
    ],
)
def test_the_wait_asked_for_is_read(headers: dict[str, str], seconds: float | None) -> None:
    """Milliseconds win over seconds, dates are of HTTP or RFC 3339, nonsense says nothing."""
    expected = None if seconds is None else int(seconds * SECOND_NS)
    assert retry_after_ns(headers, NOW) == expected


def test_the_upstreams_own_word_on_retrying() -> None:
    """True, false, or none."""
    assert should_retry({"x-should-retry": "true"}) is True
    assert should_retry({"x-should-retry": " False"}) is False
    assert should_retry({"x-should-retry": "maybe"}) is None
    assert should_retry({}) is None


def test_what_is_left_is_read_of_each_family() -> None:
    """OpenAI's and Anthropic's; one that is not told in full is left out."""
    openai = {
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": "100",
        "x-ratelimit-reset-requests": "48s",
        "x-ratelimit-limit-tokens": "200000",
        "x-ratelimit-remaining-tokens": "50000",
        "x-ratelimit-reset-tokens": "45s",
        "x-ratelimit-remaining-project-tokens": "7",
    }
    assert told(openai, NOW) == [
        Told(False, 500, 100, 48 * SECOND_NS),
        Told(True, 200_000, 50_000, 45 * SECOND_NS),
    ]
    assert told(openai | {"x-ratelimit-remaining-tokens": "100001"}, NOW) == [
        Told(False, 500, 100, 48 * SECOND_NS)
    ]
    anthropic = {
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "0",
        "anthropic-ratelimit-requests-reset": "2026-11-22T12:00:07Z",
    }
    assert told(anthropic, NOW) == [Told(False, 50, 0, 7 * SECOND_NS)]
    assert told({}, NOW) == []


_NAMES = [
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "anthropic-ratelimit-tokens-limit",
    "anthropic-ratelimit-tokens-remaining",
    "anthropic-ratelimit-tokens-reset",
]
_VALUES = st.one_of(
    st.text(max_size=80),
    st.integers(-(10**20), 10**20).map(str),
    st.floats().map(str),
    st.datetimes().map(lambda moment: moment.isoformat()),
    st.datetimes().map(lambda moment: moment.strftime("%a, %d %b %Y %H:%M:%S GMT")),
    st.from_regex(r"[A-Za-z]{3}, [0-9]{1,2} [A-Za-z]{3} [0-9]{1,5} [0-9:]{0,9}.{0,5}"),
)


@given(st.dictionaries(st.sampled_from(_NAMES), _VALUES))
def test_no_header_can_do_harm(headers: dict[str, str]) -> None:
    """Whatever an upstream sends: nothing is raised, and no wait is below 0 or above a day."""
    wait_ns = retry_after_ns(headers, NOW)
    assert wait_ns is None or 0 <= wait_ns <= DAY_NS
    should_retry(headers)
    for limit in told(headers, NOW):
        assert 0 <= limit.reset_ns <= DAY_NS
        assert limit.limit >= 0
        assert limit.remaining >= 0
