"""Whatever an upstream or a client sends: no exception, no time lost, no text let through."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taximeter.dialects import AnswerFacts, StreamReader, dialect_for
from tests.dialects.test_anthropic import FULL
from tests.dialects.test_gemini_ollama import CHUNKS, gemini_sse, line
from tests.dialects.test_openai_streams import chat, responses
from tests.dialects.transcript import (
    CHAT,
    GEMINI,
    JSON,
    LINES,
    MESSAGES,
    OLLAMA,
    RESPONSES,
    SSE,
    run,
    sse,
)
from tests.rig.effort import effort

PLACES = [
    ("openai", CHAT, SSE),
    ("openai", RESPONSES, SSE),
    ("anthropic", MESSAGES, SSE),
    ("gemini", GEMINI, SSE),
    ("gemini", GEMINI, JSON),
    ("ollama", OLLAMA, LINES),
]
SAMPLES = [
    sse(*chat(asked=True), "[DONE]"),
    responses(),
    FULL,
    gemini_sse(*CHUNKS[:3]),
    msgspec.json.encode(CHUNKS[:3]),
    line("Hi"),
]


def reader(place: int, drop: bool = False) -> StreamReader:
    """Make a reader of one of `PLACES`."""
    name, path, content_type = PLACES[place]
    dialect = dialect_for(name, path)
    made = dialect.stream_reader(dialect.operation("POST", path), "x-ai", content_type, drop)
    assert made is not None
    return made


def check(facts: AnswerFacts) -> None:
    """Check that every fact is of its type and within its bounds."""
    for text in (facts.response_id, facts.response_model):
        assert text is None or (text.isprintable() and 0 < len(text) <= 128)
    for word in (facts.service_tier, facts.finish_reason, facts.error):
        assert word is None or (word.isascii() and 0 < len(word) <= 64)
    assert facts.raw_usage is None or len(facts.raw_usage) <= 4096
    if facts.usage is not None:
        for field in facts.usage.__struct_fields__:
            value = getattr(facts.usage, field)
            assert value is None or (type(value) is int and 0 <= value < 2**63)
    assert len(facts.price_variant) <= 4


mutations = st.tuples(
    st.integers(0, len(SAMPLES) - 1),
    st.lists(st.tuples(st.integers(0, 5000), st.binary(max_size=6), st.integers(0, 9)), max_size=6),
)


@given(st.integers(0, len(PLACES) - 1), mutations, st.integers(1, 300), st.booleans())
def test_broken_streams_are_survived(
    place: int, mutation: tuple[int, list[tuple[int, bytes, int]]], size: int, drop: bool
) -> None:
    """C3: a stream with bytes put in and taken out is read to its end, however it is cut."""
    sample, edits = mutation
    stream = SAMPLES[sample]
    for where, put, taken in edits:
        where %= len(stream) + 1
        stream = stream[:where] + put + stream[where + taken :]
    reads = [stream[start : start + size] for start in range(0, len(stream), size)]
    whole = run(reader(place, drop), [stream])
    cut = run(reader(place, drop), reads)
    assert cut == whole
    check(whole.answer)
    if not drop:
        assert whole.released == stream


@given(st.integers(0, len(PLACES) - 1), st.lists(st.binary(max_size=40), max_size=20))
def test_noise_is_survived(place: int, reads: list[bytes]) -> None:
    """C3: any bytes at all are passed on, and make no reader raise."""
    seen = run(reader(place), reads)
    assert seen.released == b"".join(reads)
    check(seen.answer)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                "id model usage choices error response status service_tier code type delta "
                "message index content prompt_tokens completion_tokens total_tokens cost "
                "input_tokens output_tokens prompt_tokens_details cached_tokens usageMetadata "
                "candidates finishReason parts promptTokenCount stop_reason done eval_count "
                "x_groq tool_usage iterations".split()
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=25,
)


@given(JSON_VALUES, st.integers(0, len(PLACES) - 1), st.sampled_from([200, 400, 500]))
def test_any_json_in_any_field_is_survived(value: object, place: int, status: int) -> None:
    """H4: known names with values of any type, in answers, events and requests."""
    name, path, content_type = PLACES[place]
    dialect = dialect_for(name, path)
    operation = dialect.operation("POST", path)
    body = msgspec.json.encode(value)
    check(dialect.read_answer(operation, "x-ai", status, JSON, body, None))
    check(dialect.read_answer(operation, None, status, JSON, body[:20], body[-60:]))
    check(run(reader(place), [sse(body), body + b"\n"]).answer)
    dialect.read_request(operation, path, "", JSON, body, True)
    dialect.read_request(operation, path, "model=x", JSON, body[:-1], False)
    dialect.ask_usage(body)
    dialect.refuses_usage(status, body)
    dialect.countable(operation, body, content_type, sse(body) + body)
    dialect.countable(operation, body[:-1], JSON, body[:-1])


@given(st.text(max_size=60), st.text(max_size=8), st.integers(0, len(PLACES) - 1))
def test_any_path_is_an_operation(path: str, method: str, place: int) -> None:
    """No path and no method makes a table raise."""
    dialect = dialect_for(PLACES[place][0], path)
    assert dialect.operation(method, path).name
    dialect.read_request(dialect.operation(method, path), path, path, path, b"{}", True)


@pytest.mark.parametrize(
    "piece",
    [
        b"[",
        b'{"a":',
        b'"usage"',
        b'{"usage":{',
        b'"usage":{"a":"',
        b"\\ud800",
        b'"',
        b"\\",
        b",",
        b'{"content":"',
        b"--x\r\n\r\n",
        b"\r",
        b":\n",
        b"data:\n",
        b"data: {\n\n",
        b"{}\n",
        b'{"messages":[',
        b'"stream_options":{',
    ],
    ids=lambda piece: piece.decode().encode("unicode_escape").decode(),
)
def test_no_body_takes_long(piece: bytes) -> None:
    """H4: a body made to hurt costs no more than a second a megabyte in any place."""
    body = piece * (200_000 // len(piece))

    def read() -> None:
        for number, (name, path, content_type) in enumerate(PLACES):
            dialect = dialect_for(name, path)
            operation = dialect.operation("POST", path)
            for prefix in (b"", b"{", b"data: {"):
                data = prefix + body
                dialect.read_answer(operation, None, 200, JSON, data[:65_536], data[-65_536:])
                dialect.read_request(operation, path, "", JSON, data, False)
                dialect.ask_usage(data)
                dialect.refuses_usage(400, data)
                run(reader(number, drop=True), [data[:100_000], data[100_000:]])
            dialect.read_answer(operation, None, 200, JSON, b"{" + body, None)
            content_type = "multipart/form-data; boundary=x"
            dialect.read_request(operation, path, "", content_type, body, True)
            dialect.countable(operation, body, JSON, b'{"content":"' + body)

    # Six places, some fifty bodies of 200 kB: ten megabytes in all.
    assert effort(read) < 5_000
