"""What is kept for clients that ask again: bounds, windows, and whose it is. All of it pure."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from taximeter.relay._answer import read_head
from taximeter.relay._kept_answers import (
    ENTRY_BYTES,
    IN_USE,
    REUSED,
    Claim,
    KeptAnswer,
    KeptAnswers,
    Taken,
)
from taximeter.relay._seen_calls import CALLS_MAX, SECONDS_MAX, SeenCalls, digest_of, sample
from taximeter.settings import Replay

SECOND_NS = 10**9
HEAD = read_head(200, b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")


def book(**limits: object) -> KeptAnswers:
    """Make one that is on."""
    return KeptAnswers(Replay.model_validate({"enabled": True, **limits}))


def claim(kept: KeptAnswers, key: str, now_ns: int = 0, request: str = "r") -> Claim:
    """Have a key given to a call of its name."""
    found = kept.claim(key.encode(), request.encode(), f"call {key}", now_ns)
    assert isinstance(found, Claim)
    return found


def answer(of: Claim, body: bytes) -> KeptAnswer:
    """Make the answer that a call has come to."""
    return KeptAnswer(of.call_id, of.request, HEAD, b"", True, body, b"")


def keep(kept: KeptAnswers, key: str, body: bytes = b"{}", now_ns: int = 0) -> bool:
    """Have a call come to an answer that is to be kept."""
    of = claim(kept, key, now_ns)
    fits = kept.take_room(of, len(body))
    if fits:
        kept.keep(of, answer(of, body), now_ns)
    else:
        kept.release(of)
    return fits


def test_an_answer_is_kept_for_its_time_and_no_longer() -> None:
    """From the call's end on; then the key is as good as new."""
    kept = book(window_seconds=10)
    keep(kept, "a", now_ns=5 * SECOND_NS)
    found = kept.claim(b"a", b"r", "later", 15 * SECOND_NS - 1)
    assert isinstance(found, KeptAnswer)
    assert found.call_id == "call a"
    assert isinstance(kept.claim(b"a", b"r", "too late", 15 * SECOND_NS), Claim)
    assert kept.bytes_taken == 0
    assert kept.events == {"kept": 1, "replayed": 1, "expired": 1}


def test_a_shorter_window_holds_for_what_is_kept_already() -> None:
    """A reload that shortens it lets nothing be given later than it says, old or new."""
    kept = book(window_seconds=3600)
    keep(kept, "old")
    kept.apply(Replay(enabled=True, window_seconds=60))
    keep(kept, "new", now_ns=10 * SECOND_NS)
    assert isinstance(kept.claim(b"new", b"r", "in time", 70 * SECOND_NS - 1), KeptAnswer)
    assert isinstance(kept.claim(b"old", b"r", "too late", 70 * SECOND_NS - 1), Claim)
    assert isinstance(kept.claim(b"new", b"r", "too late", 70 * SECOND_NS), Claim)


def test_at_a_bound_the_oldest_goes() -> None:
    """By number, and by bytes of all together; each is counted."""
    kept = book(answers_max=2)
    for key in "abc":
        assert keep(kept, key)
    assert isinstance(kept.claim(b"a", b"r", "x", 0), Claim)
    assert isinstance(kept.claim(b"b", b"r", "x", 0), KeptAnswer)
    assert kept.events["evicted"] == 1

    kept = book(bytes_max=3 * (ENTRY_BYTES + 1000), answer_bytes_max=2000)
    for key in "abcd":
        assert keep(kept, key, b"x" * 1000)
    assert kept.bytes_taken <= 3 * (ENTRY_BYTES + 1000)
    assert kept.events["evicted"] >= 1
    assert isinstance(kept.claim(b"d", b"r", "x", 0), KeptAnswer)


def test_calls_under_way_are_bounded_too() -> None:
    """Room is taken as an answer comes; who finds none goes without, and harms nobody."""
    kept = book(answers_max=2, bytes_max=1000, answer_bytes_max=800)
    first, second = claim(kept, "a"), claim(kept, "b")
    assert kept.claim(b"c", b"r", "x", 0) is None
    assert kept.take_room(first, 700)
    assert not kept.take_room(second, 700)
    assert not kept.take_room(first, 200)
    assert kept.bytes_taken == 0
    assert kept.events == {"no_room": 2, "too_long": 1}


def test_a_key_is_one_call_s_and_one_request_s() -> None:
    """Another request is told so first: it would not be answered by waiting."""
    kept = book()
    of = claim(kept, "a")
    assert kept.claim(b"a", b"r", "x", 0) == Taken(IN_USE, "call a")
    assert kept.claim(b"a", b"another", "x", 0) == Taken(REUSED, "call a")
    kept.keep(of, answer(of, b"{}"), 0)
    assert kept.claim(b"a", b"another", "x", 0) == Taken(REUSED, "call a")


def test_off_is_off_at_once() -> None:
    """A reload that turns it off, or makes it smaller, lets go of what is too much."""
    kept = book()
    for key in "abc":
        keep(kept, key)
    under_way = claim(kept, "d")
    kept.take_room(under_way, 10)
    kept.apply(Replay(enabled=True, answers_max=1))
    assert kept.events["evicted"] == 2
    kept.apply(Replay())
    kept.keep(under_way, answer(under_way, b"x" * 10), 0)
    assert not kept.is_on
    assert kept.bytes_taken == 0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["begin", "bytes", "keep", "fail", "wait"]),
            st.integers(0, 5),
            st.integers(0, 3000),
        ),
        max_size=60,
    )
)
def test_its_bytes_add_up_whatever_happens(steps: list[tuple[str, int, int]]) -> None:
    """Room taken is what is kept and what is under way, within the bound; at the end it is none."""
    kept = book(answers_max=4, bytes_max=9000, answer_bytes_max=4000, window_seconds=10)
    now_ns = 0
    going: dict[int, tuple[Claim, bytes, bool]] = {}
    for verb, number, count in steps:
        name = b"%d" % number
        if verb == "wait":
            now_ns += count * 10**7
        elif verb == "begin" and number not in going:
            found = kept.claim(name, b"r", "c", now_ns)
            if isinstance(found, Claim):
                going[number] = (found, b"", True)
        elif verb == "bytes" and number in going:
            of, body, is_kept = going[number]
            if is_kept:
                fits = kept.take_room(of, count)
                going[number] = (of, body + b"x" * count, fits)
        elif verb in ("keep", "fail") and number in going:
            of, body, is_kept = going.pop(number)
            if verb == "keep" and is_kept:
                kept.keep(of, answer(of, body), now_ns)
            else:
                kept.release(of)
        held = sum(of.taken_bytes for of, _, _ in going.values())
        assert kept.bytes_taken == held + sum(each.size for each in kept._kept.values())
        assert kept.bytes_taken <= 9000
        assert len(kept._kept) <= 4
    for of, _, _ in going.values():
        kept.release(of)
    kept.tick(now_ns + 11 * SECOND_NS)
    assert kept.bytes_taken == 0


def test_calls_are_remembered_for_a_while_and_in_a_bounded_number() -> None:
    """The oldest is forgotten first; what is too long ago links nothing."""
    seen = SeenCalls()
    for number in range(CALLS_MAX + 10):
        seen.note(b"%d" % number, f"call {number}", number)
    assert len(seen) == CALLS_MAX
    assert seen.find(b"9", CALLS_MAX) is None
    assert seen.find(b"10", CALLS_MAX) == "call 10"
    assert seen.find(b"10", SECONDS_MAX * SECOND_NS + 11) is None
    seen.tick(CALLS_MAX + 10 + SECONDS_MAX * SECOND_NS)
    assert len(seen) == 0


def test_a_digest_tells_where_one_part_ends() -> None:
    """Two requests that only add up to the same bytes are two."""
    assert digest_of(b"ab", b"c") != digest_of(b"a", b"bc")
    assert digest_of(b"ab", b"") != digest_of(b"ab")


def test_a_sample_is_bounded_and_tells_lengths_apart() -> None:
    """Long bodies that begin and end alike differ by their length."""
    ends = b"a" * 40_000, b"b" * 40_000
    short, long = b"".join(ends), b"-".join(ends)
    assert len(sample(long)) < 70_000
    assert sample(short) != sample(long)
    assert sample(b"short") == b"short"
