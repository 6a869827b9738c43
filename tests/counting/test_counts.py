"""Counting texts and calls: sums, slices, bounds, and what is unknown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taximeter.counting import (
    CountJob,
    TextCount,
    Vocabulary,
    count_call,
    count_text,
    tokens_from_bytes,
)
from taximeter.counting._text import SLICE_CHARS_MAX, slices
from taximeter.dialects import Countable, Operation
from taximeter.dialects._openai import OpenAi

if TYPE_CHECKING:
    import tiktoken

CHAT = Operation(name="chat", api="chat_completions")


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vocabulary]:
    """Give a vocabulary of its own, and leave the environment as it was."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", "")
        yield Vocabulary(tmp_path_factory.mktemp("vocabulary"))


@pytest.fixture(scope="module")
def encoding(vocabulary: Vocabulary) -> tiktoken.Encoding:
    """Give o200k."""
    return vocabulary.encoding_for("gpt-4o")[0]


WALLS = {
    "one letter": "A" * 200_000,
    "spaces": " " * 200_000,
    "line ends": "\n " * 100_000,
    "no spaces": "日本語の文字列です。" * 20_000,
    "punctuation": "!?" * 100_000,
    "marks": "\u0301" * 200_000,
}


@pytest.mark.parametrize("name", WALLS)
def test_slices_of_a_wall_count_almost_as_the_whole(encoding: tiktoken.Encoding, name: str) -> None:
    """Where there is no place to cut, a cut makes at most eight tokens of difference."""
    text = WALLS[name]
    cuts = len(text) // SLICE_CHARS_MAX
    difference = count_text([text], encoding).tokens - len(encoding.encode_ordinary(text))
    assert 0 <= difference <= 8 * cuts


def test_slices_of_prose_count_exactly_as_the_whole(encoding: tiktoken.Encoding) -> None:
    """Cut between words, slices add up to the whole."""
    text = "The quick brown fox, it's 12345 jumping.\n\n  over the lazy dog!\t" * 4_000
    assert len(text) > 3 * SLICE_CHARS_MAX
    assert count_text([text], encoding) == (len(encoding.encode_ordinary(text)), True)


@given(st.lists(st.sampled_from(["word", " ", "  ", "\n", "7", "—", "é", "."]), max_size=60))
def test_slices_lose_nothing(pieces: list[str]) -> None:
    """Put together, the slices are the text, none is empty or too long."""
    text = "".join(pieces) * 4_000
    cut = list(slices(text))
    assert "".join(cut) == text
    assert all(len(one) <= SLICE_CHARS_MAX for one in cut)
    assert all(cut) or text == ""


def test_text_that_spells_a_special_token_is_text(encoding: tiktoken.Encoding) -> None:
    """What a user writes is never taken for a control token."""
    assert count_text(["<|endoftext|>"], encoding).tokens > 1


def test_lone_surrogates_are_counted(encoding: tiktoken.Encoding) -> None:
    """JSON can spell half a character; it counts as something."""
    assert count_text(["\ud83d"], encoding).tokens >= 1


def test_no_text_is_no_tokens(encoding: tiktoken.Encoding) -> None:
    """Nothing counts zero."""
    assert count_text([], encoding) == count_text([""], encoding) == TextCount(0, True)


def test_text_beyond_the_bound_is_taken_in_proportion(encoding: tiktoken.Encoding) -> None:
    """Ten times the bound counts ten times as much, and is flagged."""
    part = "one two three four " * 100
    whole = count_text([part], encoding)
    assert whole.whole
    assert count_text([part] * 10, encoding, chars_max=len(part)) == (whole.tokens * 10, False)


@pytest.mark.parametrize(("size", "tokens"), [(0, 0), (1, 1), (4, 1), (5, 2), (4_000, 1_000)])
def test_rule_of_last_resort(size: int, tokens: int) -> None:
    """A quarter of the bytes, rounded up; nothing is nothing."""
    assert tokens_from_bytes(size) == tokens


class Scripted(OpenAi):
    """A dialect that finds what it is told to find."""

    def __init__(self, found: Countable) -> None:
        self.found = found

    def countable(self, *_: object) -> Countable:
        return self.found


def job(**facts: Any) -> CountJob:
    """Make a job of a chat."""
    return CountJob(
        dialect="openai", path="/v1/chat/completions", operation=CHAT, model="gpt-4o", **facts
    )


def test_call_is_its_texts_and_its_framing(vocabulary: Vocabulary) -> None:
    """Input is every text and the overhead; output is the texts alone."""
    found = Countable(
        input_parts=["system", "You are helpful.", "user", "Hello!"],
        input_overhead_tokens=9,
        output_parts=["Hello", " there!"],
    )
    counted = count_call(job(request=b"{}", answer=b"{}"), Scripted(found), vocabulary)
    assert (counted.input_tokens, counted.output_tokens) == (1 + 4 + 1 + 2 + 9, 1 + 2)
    assert (counted.rule, counted.partial) == ("o200k_base", False)


def test_stream_kept_in_part_is_scaled_to_the_whole(vocabulary: Vocabulary) -> None:
    """Of a stream of which a quarter was kept, the output is four times what was counted."""
    found = Countable(input_overhead_tokens=3, output_parts=["one two three"])
    facts = {"request": b"{}", "answer": b"x" * 100, "answer_bytes_total": 400}
    counted = count_call(job(**facts), Scripted(found), vocabulary)
    assert counted.output_tokens == 12
    assert (counted.partial, counted.rule) == (True, "o200k_base (partial)")


def test_what_was_not_kept_goes_by_its_size(vocabulary: Vocabulary) -> None:
    """Input and output are each counted where there is text, else estimated, and both said."""
    found = Countable(output_parts=["one two three"])
    counted = count_call(
        job(request=None, text_bytes_in=40, answer=b"{}"), Scripted(found), vocabulary
    )
    assert (counted.input_tokens, counted.output_tokens) == (10, 3)
    assert counted.rule == "bytes/4, o200k_base"


def test_what_nobody_knows_is_unknown(vocabulary: Vocabulary) -> None:
    """No text and no size: None, not 0. An answer that says nothing: 0."""
    counted = count_call(job(), Scripted(Countable()), vocabulary)
    assert (counted.input_tokens, counted.output_tokens) == (None, None)
    counted = count_call(job(answer=b""), Scripted(Countable()), vocabulary)
    assert (counted.input_tokens, counted.output_tokens) == (None, 0)


def test_vocabulary_is_the_model_s(vocabulary: Vocabulary, tmp_path: Path) -> None:
    """The same call counts differently for a model with another vocabulary, and says so."""
    found = Countable(input_parts=["お誕生日おめでとう"])
    ask = CountJob(dialect="openai", path="/", operation=CHAT, model="gpt-4", request=b"{}")
    counted = count_call(ask, Scripted(found), vocabulary)
    assert (counted.input_tokens, counted.rule) == (9, "cl100k_base")
