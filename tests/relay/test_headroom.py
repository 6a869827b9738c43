"""What upstreams say is left of their limits, read from the fields of their answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taximeter.relay._headroom import LOOK_NS, PLACES_MAX, RESOURCES, HeadroomBook, read_headroom

Told = dict[str, tuple[int | None, int | None]]

CASES: dict[str, tuple[list[tuple[bytes, bytes]], Told]] = {
    "openai": (
        [
            (b"Content-Type", b"application/json"),
            (b"x-ratelimit-limit-requests", b"500"),
            (b"X-RateLimit-Remaining-Requests", b"499"),
            (b"x-ratelimit-remaining-tokens", b"149984"),
            (b"x-ratelimit-limit-tokens", b"150000"),
            (b"x-ratelimit-reset-tokens", b"6m0s"),
            (b"x-ratelimit-remaining-project-tokens", b"7"),
        ],
        {"requests": (500, 499), "tokens": (150000, 149984)},
    ),
    "anthropic": (
        [
            (b"anthropic-ratelimit-requests-limit", b"50"),
            (b"anthropic-ratelimit-requests-remaining", b"0"),
            (b"anthropic-ratelimit-requests-reset", b"2026-01-27T12:00:00Z"),
            (b"anthropic-ratelimit-input-tokens-limit", b"40000"),
            (b"anthropic-ratelimit-input-tokens-remaining", b"39000"),
            (b"anthropic-ratelimit-output-tokens-remaining", b"8000"),
        ],
        {"requests": (50, 0), "input_tokens": (40000, 39000), "output_tokens": (None, 8000)},
    ),
    "draft": (
        [
            (b"RateLimit-Policy", b'"minute";q=500;w=60, "daily";q=1000000;w=86400;qu="requests"'),
            (b"RateLimit", b'"minute";r=120;t=18, "daily";r=999'),
        ],
        {"requests": (500, 120)},
    ),
    "draft, a policy of another unit": (
        [
            (b"RateLimit-Policy", b'"bytes";q=10;qu="content-bytes";pk=:YQ==:, "tokens";q=9'),
            (b"RateLimit", b'"bytes";r=1, "tokens";r=3'),
        ],
        {"tokens": (9, 3)},
    ),
    "draft, without a policy": ([(b"RateLimit", b'"default";r=5;t=1')], {"requests": (None, 5)}),
    "a limit without a rest tells nothing": ([(b"x-ratelimit-limit-requests", b"500")], {}),
    "a figure below nought is none": ([(b"x-ratelimit-remaining-requests", b"-1")], {}),
    "a limit of nought is none": (
        [(b"x-ratelimit-limit-requests", b"0"), (b"x-ratelimit-remaining-requests", b"0")],
        {},
    ),
    "words for figures": (
        [
            (b"x-ratelimit-remaining-tokens", b"many"),
            (b"x-ratelimit-remaining-requests", b"9" * 40),
            (b"RateLimit", b"limit=10, remaining=5"),
        ],
        {},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_family_of_fields_is_read(case: str) -> None:
    """What is told is read, and what is no figure is not."""
    fields, told = CASES[case]
    assert read_headroom(fields) == told


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [b"RateLimit", b"ratelimit-policy", b"x-ratelimit-remaining-tokens", b"x"]
            ),
            st.binary(max_size=300) | st.text('"; =rqt,0123456789', max_size=300).map(str.encode),
        ),
        max_size=6,
    )
)
def test_no_field_makes_it_fail(fields: list[tuple[bytes, bytes]]) -> None:
    """H2: whatever an upstream writes, nothing is raised and only known words come out."""
    told = read_headroom(fields)
    assert set(told) <= set(RESOURCES)


def fields(rest: int) -> list[tuple[bytes, bytes]]:
    """Give an answer's fields that tell so many requests left."""
    return [(b"x-ratelimit-remaining-requests", b"%d" % rest)]


def test_it_is_looked_at_now_and_then() -> None:
    """A further answer within a tenth of a second is not looked at, and one after it is."""
    book = HeadroomBook()
    book.hear("openai", "m", fields(9), 0)
    book.hear("openai", "m", fields(8), LOOK_NS - 1)
    book.hear("openai", "other", fields(5), LOOK_NS - 1)
    assert [each.remaining for each in book.known(LOOK_NS, 100.0)] == [9, 5]
    book.hear("openai", "m", fields(7), LOOK_NS)
    first, second = book.known(LOOK_NS + 500_000_000, 100.0)
    assert (first.model, first.remaining, first.at_seconds) == ("other", 5, 99.499_999_999)
    assert (second.model, second.remaining, second.at_seconds) == ("m", 7, 99.5)


def test_an_answer_that_tells_nothing_takes_nothing_back() -> None:
    """Some answers of an upstream (errors, other endpoints) bring no figures: the last stay."""
    book = HeadroomBook()
    book.hear("openai", "m", fields(9), 0)
    book.hear("openai", "m", [], LOOK_NS)
    assert [each.remaining for each in book.known(LOOK_NS, 100.0)] == [9]


def test_models_are_strangers_words_and_bounded() -> None:
    """H8: ten thousand models take no more than the places there are; the newest stay."""
    book = HeadroomBook()
    for number in range(10_000):
        book.hear("openai", f"{number:06d}" * 100, fields(number), number)
    known = book.known(0, 0.0)
    assert len(known) == PLACES_MAX
    assert known[-1].remaining == 9_999
    assert max(len(each.model) for each in known) <= 128
