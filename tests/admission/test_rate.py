"""GCRA against a token bucket in exact fractions, and refunds against an oracle."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from taximeter.admission._need import Need
from taximeter.admission._plan import Rate
from taximeter.admission._rate import Rates

MINUTE_NS = 60 * 10**9


def make_rate(limit: int, burst_seconds: float = 60.0) -> Rate:
    """Give a rate of tokens a minute."""
    return Rate.make("k", "test.tokens", limit, burst_seconds, own=True, of_tokens=True)


class Bucket:
    """A token bucket in fractions: the plainest thing that is right."""

    def __init__(self, rate: Rate) -> None:
        self.most = Fraction(rate.burst)
        self.per_ns = Fraction(rate.limit, rate.period_ns)
        self.level = self.most
        self.at_ns = 0

    def advance(self, now_ns: int) -> None:
        self.level = min(self.most, self.level + (now_ns - self.at_ns) * self.per_ns)
        self.at_ns = now_ns

    def has(self, cost: int, now_ns: int) -> bool:
        self.advance(now_ns)
        return self.level >= cost


@given(
    # Limits that divide the period: every charge is a whole number of nanoseconds.
    st.sampled_from([1, 6, 20, 500, 60_000, 200_000, 10**6]),
    st.sampled_from([1.0, 6.0, 60.0]),
    st.lists(st.tuples(st.integers(0, 40 * 10**9), st.integers(0, 2000)), min_size=1, max_size=80),
)
def test_it_decides_as_a_token_bucket_does(
    limit: int, burst_seconds: float, arrivals: list[tuple[int, int]]
) -> None:
    """Same calls let through, and the wait it tells is exact to the nanosecond."""
    rate = make_rate(limit, burst_seconds)
    rates, bucket, now_ns = Rates(), Bucket(rate), 0
    for gap_ns, cost in arrivals:
        now_ns += gap_ns
        short = rates.take([rate], Need(cost, cost), now_ns)
        if cost > rate.burst:
            assert short is not None
            assert short.never
            continue
        assert (short is None) == bucket.has(cost, now_ns)
        if short is None:
            bucket.level -= cost
        else:
            assert short.wait_ns is not None
            assert rates.take([rate], Need(cost, cost), now_ns + short.wait_ns - 1) is not None
            missing = (cost - bucket.level) / bucket.per_ns
            assert short.wait_ns - 1 < missing <= short.wait_ns


_CALLS = st.lists(
    st.tuples(
        st.integers(0, 30 * 10**9),  # gap before it comes
        st.integers(1, 100),  # reserved
        st.integers(0, 100),  # true cost, at most what is reserved
        st.integers(0, 90 * 10**9),  # how long it takes
    ),
    min_size=1,
    max_size=60,
)


@given(st.sampled_from([50, 100, 600]), _CALLS)
def test_a_refund_never_lets_through_more_than_knowing_the_cost_beforehand(
    limit: int, calls: list[tuple[int, int, int, int]]
) -> None:
    """The bucket is at no time fuller than one that was charged the true costs at first; so the
    true tokens of any stretch of time are within burst + rate x time.
    """
    rate = make_rate(limit)
    rates, oracle = Rates(), Bucket(rate)
    ends: list[tuple[int, int, Need, int]] = []
    events: list[tuple[int, int]] = []
    now_ns = 0

    def settle_until(time_ns: int) -> None:
        for end in sorted(each for each in ends if each[0] <= time_ns):
            ends.remove(end)
            rates.settle([rate], end[2], end[3], 1, end[0])
            oracle.advance(end[0])
            # A nanosecond of rounding for each charge.
            assert rates.left(rate, end[0]) <= oracle.level + Fraction(len(calls), 10**6)

    for number, (gap_ns, reserved, true, takes_ns) in enumerate(calls):
        now_ns += gap_ns
        settle_until(now_ns)
        true = min(true, reserved)
        need = Need(reserved, reserved)
        if rates.take([rate], need, now_ns) is None:
            assert oracle.has(true, now_ns)
            oracle.level -= true
            events.append((now_ns, true))
            ends.append((now_ns + takes_ns, number, need, true))
    settle_until(now_ns + 200 * 10**9)
    for first in range(len(events)):
        total = 0
        for at_ns, cost in events[first:]:
            total += cost
            most = rate.burst + Fraction(limit * (at_ns - events[first][0]), MINUTE_NS)
            assert total <= most + Fraction(1, 1000)


def test_a_reservation_that_time_has_refilled_is_not_refunded_again() -> None:
    """Reserve all, wait until the bucket is full, reserve all again: settling the first is void."""
    rate = make_rate(100)
    rates = Rates()
    first, second = Need(100, 100), Need(100, 100)
    assert rates.take([rate], first, 0) is None
    assert rates.take([rate], second, MINUTE_NS) is None
    rates.settle([rate], first, 0, 1, MINUTE_NS + 1)
    assert rates.take([rate], Need(10, 10), MINUTE_NS + 1) is not None


def test_a_reservation_half_gone_by_is_refunded_by_the_other_half() -> None:
    """What time has refilled of it is not given back with the rest."""
    rate = make_rate(100)
    rates = Rates()
    first, second = Need(50, 50), Need(50, 50)
    assert rates.take([rate], first, 0) is None
    half_ns = 15 * 10**9
    assert rates.take([rate], second, half_ns) is None
    rates.settle([rate], first, 0, 1, half_ns)
    assert rates.left(rate, half_ns) == 50


def test_a_refund_before_it_in_the_line_moves_a_reservation() -> None:
    """Two reservations, the first refunded: the second now ends earlier, and time refills it."""
    rate = make_rate(100)
    rates = Rates()
    first, second = Need(50, 50), Need(50, 50)
    assert rates.take([rate], first, 0) is None
    assert rates.take([rate], second, 0) is None
    rates.settle([rate], first, 0, 1, 0)
    full_ns = 30 * 10**9
    assert rates.take([rate], Need(100, 100), full_ns) is None
    rates.settle([rate], second, 0, 1, full_ns)
    assert rates.left(rate, full_ns) == 0


def test_all_rates_or_none() -> None:
    """A call that one rate refuses has taken nothing of the others."""
    wide = make_rate(100)
    narrow = Rate.make("n", "test.requests", 1, 60.0, own=True, of_tokens=False)
    rates = Rates()
    assert rates.take([wide, narrow], Need(10, 10), 0) is None
    need = Need(10, 10)
    short = rates.take([wide, narrow], need, 0)
    assert short is not None
    assert short.key == "n"
    assert not need.marks
    assert rates.left(wide, 0) == 90


def test_what_was_not_used_is_there_at_once() -> None:
    """A refund in time is whole."""
    rate = make_rate(100)
    rates = Rates()
    need = Need(10, 100)
    assert rates.take([rate], need, 0) is None
    assert rates.take([rate], Need(90, 90), 0) is not None
    rates.settle([rate], need, 10, 1, 0)
    assert rates.take([rate], Need(90, 90), 0) is None


def test_an_overrun_is_owed() -> None:
    """Tokens beyond the reservation are taken from what comes in later."""
    rate = make_rate(60)
    rates = Rates()
    need = Need(10, 10)
    assert rates.take([rate], need, 0) is None
    rates.settle([rate], need, 120, 1, 0)
    assert rates.left(rate, 0) == -60
    short = rates.take([rate], Need(1, 1), 0)
    assert short is not None
    assert short.wait_ns == 61 * 10**9


def test_an_output_cap_beyond_the_burst_reserves_the_burst() -> None:
    """Input beyond the burst never fits; a cap on the output may."""
    rate = make_rate(100)
    rates = Rates()
    short = rates.take([rate], Need(101, 101), 0)
    assert short is not None
    assert short.never
    need = Need(50, 5000)
    assert rates.take([rate], need, 0) is None
    rates.settle([rate], need, 60, 1, 0)
    assert rates.left(rate, 0) == 40


def test_a_bucket_that_is_full_takes_no_memory() -> None:
    """Settled to nothing it is forgotten at once; run full, at the next sweep."""
    rate = make_rate(100)
    rates = Rates()
    need = Need(50, 50)
    assert rates.take([rate], need, 0) is None
    rates.settle([rate], need, 0, 1, 0)
    assert len(rates) == 0
    assert rates.take([rate], Need(50, 50), 0) is None
    assert rates.sweep(29 * 10**9) == 0
    assert rates.sweep(30 * 10**9) == 1
    assert len(rates) == 0


def test_a_limit_of_zero_lets_nothing_through() -> None:
    """Zero is a limit."""
    short = Rates().take([make_rate(0)], Need(0, 1), 0)
    assert short is not None
    assert short.never
