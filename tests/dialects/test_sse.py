"""Server-sent events, cut in every way."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from taximeter.dialects._sse import (
    EVENT_BYTES_MAX,
    HELD_BYTES_MAX,
    SseReader,
    events_of,
    parse_event,
)
from tests.dialects.transcript import CHAT, chunk, reader_of, run, sse


class Recorder(SseReader):
    """Keeps the events it is given; takes those out whose data begins with `drop`."""

    __slots__ = ("large", "seen")

    def __init__(self, drops: bool = False) -> None:
        super().__init__(drops)
        self.seen: list[tuple[bytes, bytes]] = []
        self.large: list[tuple[bytes, bytes]] = []

    def is_dull(self, data: bytes) -> bool:
        return False

    def _read_event(self, event: bytes, data: bytes) -> bool:
        self.seen.append((event, data))
        return data.startswith(b"drop")

    def _read_large_event(self, head: bytes, tail: bytes) -> None:
        self.large.append((head, tail))


VECTORS = [
    ([b"data: 1\r", b"\n\r\ndata: 2\r\n\r\n"], [(b"", b"1"), (b"", b"2")]),
    ([b"data: 1\r\rdata: 2\r\r"], [(b"", b"1"), (b"", b"2")]),
    ([b"event: x\ndata: a\ndata: b\n\n"], [(b"x", b"a\nb")]),
    ([b"data: [DO", b"NE]\n\n"], [(b"", b"[DONE]")]),
    ([b'data:{"a":1}\n\n'], [(b"", b'{"a":1}')]),
    ([b"data: \xe4\xbd", b"\xa0\n\n"], [(b"", "你".encode())]),
    ([b": ping\n\n"], []),
    ([b": ping\n", b"data: 1\n\n"], [(b"", b"1")]),
    ([b"\xef\xbb\xbfdata: 1\n\n"], [(b"", b"1")]),
    ([b"\xef", b"\xbb", b"\xbfdata: 1\n\n"], [(b"", b"1")]),
    ([b"\n\r\n\rdata: 1\n\n"], [(b"", b"1")]),
    ([b"data: 1\n: mid\ndata: 2\n\n"], [(b"", b"1\n2")]),
    ([b"data\n\n"], [(b"", b"")]),
    ([b"data:  two\n\n"], [(b"", b" two")]),
    ([b"id: 7\nretry: 10\nevent: only\n\n"], []),
    ([b"data: a\xe2\x80\xa8b\xc2\x85c\n\n"], [(b"", b"a\xe2\x80\xa8b\xc2\x85c")]),
    ([b"data: 1\r\n\r", b"\ndata: 2\r\n\r\n"], [(b"", b"1"), (b"", b"2")]),
    ([b"data: 1\n\r\ndata: 2\r\n\n"], [(b"", b"1"), (b"", b"2")]),
    ([b"data: a\x00b\n\n"], [(b"", b"a\x00b")]),
]


@pytest.mark.parametrize(("reads", "expected"), VECTORS)
def test_events_are_read_however_they_are_cut(
    reads: list[bytes], expected: list[tuple[bytes, bytes]]
) -> None:
    """C3: line ends, marks, comments and cuts of every kind give the events of the standard."""
    stream = b"".join(reads)
    singles = [stream[place : place + 1] for place in range(len(stream))]
    for way in (reads, [stream], singles):
        reader = Recorder()
        seen = run(reader, way)
        assert reader.seen == expected
        assert seen.released == stream
        assert seen.at_boundary
        assert seen.events == len([1 for _, data in expected if data != b"[DONE]"])
    assert list(events_of(stream)) == expected


def test_bytes_after_an_event_do_not_change_it() -> None:
    """C3: an event is read the same with half of the next one behind it."""
    for reads, expected in VECTORS:
        reader = Recorder()
        seen = run(reader, [b"".join(reads), b"data: unfin"])
        assert reader.seen == [*expected, (b"", b"unfin")]
        assert not seen.at_boundary
        assert seen.events == len([1 for _, data in expected if data != b"[DONE]"])


def test_an_event_left_open_is_read_at_the_end_but_not_counted() -> None:
    """A usage chunk whose blank line never came is still read."""
    reader = Recorder()
    seen = run(reader, [b"data: 1\n\ndata: last\n"])
    assert reader.seen == [(b"", b"1"), (b"", b"last")]
    assert seen.events == 1


@pytest.mark.parametrize(
    ("reads", "boundary"),
    [
        ([], True),
        ([b"data: 1\n"], False),
        ([b"data: 1\n\n"], True),
        ([b"data: 1\n\nd"], False),
        ([b": note\n"], True),
        ([b": no"], False),
        ([b"data: 1\r\r"], True),
        ([b"data: 1\r\n\r"], False),
        ([b"data: 1\r\n\r", b"\n"], True),
        ([b"\xef\xbb"], False),
    ],
)
def test_a_boundary_is_where_an_event_of_ours_would_do_no_harm(
    reads: list[bytes], boundary: bool
) -> None:
    """`at_boundary` holds after a blank line, and not between the two halves of a CRLF."""
    reader = Recorder()
    for read in reads:
        reader.feed(read)
    assert reader.at_boundary is boundary


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_an_event_is_taken_out_from_its_first_field_to_its_blank_line(end: bytes) -> None:
    """The comment before an event stays, its fields and its blank line go, the rest is kept."""
    before = b"data: 1" + end + end + b": note" + end
    taken = b"event: u" + end + b"data: drop" + end + b": inside" + end + end
    after = b": later" + end + b"data: 2" + end + end
    stream = before + taken + after
    for size in (1, 2, 3, 5, 11, len(stream)):
        reads = [stream[place : place + size] for place in range(0, len(stream), size)]
        reader = Recorder(drops=True)
        assert run(reader, reads).released == before + after, size
        assert reader.seen == [(b"", b"1"), (b"u", b"drop"), (b"", b"2")]


def test_while_editing_only_the_open_event_is_held_back() -> None:
    """At most one event is held back; comments and blank lines go on at once."""
    reader = Recorder(drops=True)
    assert reader.feed(b"data: 1\n\ndata: 2") == b"data: 1\n\n"
    assert reader.at_boundary
    assert reader.feed(b"2\n") == b""
    assert reader.feed(b"\n: keep-alive\n") == b"data: 22\n\n: keep-alive\n"
    assert reader.feed(b"data: drop") == b""
    assert reader.feed(b"\n\ndata: 3\n\n") == b"data: 3\n\n"
    assert reader.feed(b"data: 4") == b""
    assert reader.finish() == b"data: 4"


def test_an_event_to_take_out_that_was_left_open_is_taken_out() -> None:
    """A usage chunk that no blank line closed does not reach the client either."""
    reader = Recorder(drops=True)
    assert run(reader, [b"data: 1\n\n", b"data: drop\n"]).released == b"data: 1\n\n"


def test_no_more_than_64_kib_is_held_back() -> None:
    """An event larger than what may be held back is released, and then stays."""
    reader = Recorder(drops=True)
    text = b"data: drop" + b"x" * (HELD_BYTES_MAX - 10)
    assert reader.feed(text) == b""
    assert reader.feed(b"y") == text + b"y"
    assert not reader.at_boundary
    assert reader.feed(b"z") == b"z"
    assert reader.feed(b"\n\ndata: drop\n\n") == b"\n\n"
    assert reader.at_boundary
    assert reader.events == 2
    assert reader.feed(b"data: a\n\n" + text + b"y") == b"data: a\n\n" + text + b"y"
    assert not reader.at_boundary


def test_an_event_too_large_to_keep_is_seen_by_its_ends() -> None:
    """Of an event beyond 1 MiB the beginning and the end are kept, and the relay goes on."""
    body = b'data: {"type":"big","data":"' + b"x" * (3 * EVENT_BYTES_MAX) + b'","usage":{}}\n\n'
    stream = b"data: 1\n\n" + body + b"data: 2\n\n"
    for size in (4096, 100_003):
        reader = Recorder()
        reads = [stream[place : place + size] for place in range(0, len(stream), size)]
        seen = run(reader, reads)
        assert seen.released == stream
        assert reader.seen == [(b"", b"1"), (b"", b"2")]
        assert seen.events == 3
        head, tail = reader.large[0]
        assert head.startswith(b'data: {"type":"big"')
        assert tail.rstrip().endswith(b'"usage":{}}')
        assert len(head) + len(tail) <= 256 << 10


def test_what_is_kept_is_bounded() -> None:
    """H4: a line of 50 MB costs no more memory than the limit and one read."""
    reader = Recorder(drops=True)
    most = 0
    piece = b"x" * 65_536
    reader.feed(b"data: ")
    for _ in range(800):
        reader.feed(piece)
        most = max(most, len(reader._carry) + len(reader._tail) + len(reader._head))
    assert most <= EVENT_BYTES_MAX + len(piece)


def test_time_is_linear_byte_by_byte() -> None:
    """C3: an event of a mebibyte that comes byte by byte takes twice what half of it takes."""

    def seconds(size: int) -> float:
        reader = Recorder(drops=True)
        started = time.process_time()
        reader.feed(b"data: ")
        for _ in range(size):
            reader.feed(b"x")
        reader.feed(b"\n\n")
        return time.process_time() - started

    half, whole = seconds(EVENT_BYTES_MAX // 8), seconds(EVENT_BYTES_MAX // 4)
    assert whole < 6 * half + 0.05


@given(
    st.lists(
        st.sampled_from([b"data: a", b"data: drop", b":c", b"\r", b"\n", b"e", b"\xef\xbb\xbf"])
    ),
    st.lists(st.integers(1, 9), min_size=1),
    st.booleans(),
)
def test_cuts_make_no_difference(parts: list[bytes], sizes: list[int], drops: bool) -> None:
    """C3: any bytes, cut anywhere, give the same events and the same released bytes."""
    stream = b"".join(parts)
    whole = Recorder(drops)
    expected = run(whole, [stream])
    cut = Recorder(drops)
    reads: list[bytes] = []
    place = number = 0
    while place < len(stream):
        size = sizes[number % len(sizes)]
        reads.append(stream[place : place + size])
        place += size
        number += 1
    assert run(cut, reads) == expected
    assert cut.seen == whole.seen
    if not drops:
        assert expected.released == stream


@given(st.lists(st.integers(0, 4), max_size=12), st.integers(1, 400))
def test_dull_reads_are_counted_like_others(kinds: list[int], size: int) -> None:
    """The short way taken by reads of no interest gives what the long way gives."""
    pool = [
        chunk({"content": "a"}, usage=None),
        chunk({"content": 'say "usage" and "error"'}, usage=None),
        chunk({"content": ""}, "stop", usage=None),
        chunk(None, usage={"prompt_tokens": 3, "completion_tokens": 2}),
        chunk({"content": "b"}, usage={"prompt_tokens": 3, "completion_tokens": 1}),
    ]
    events = [sse(pool[kind]) for kind in kinds]
    stream = b"".join(events)
    whole = run(reader_of("openai", CHAT, drop=True), [stream])
    single = run(reader_of("openai", CHAT, drop=True), events)
    pieces = [stream[place : place + size] for place in range(0, len(stream), size)]
    cut = run(reader_of("openai", CHAT, drop=True), pieces)
    assert whole == single == cut
    assert whole.events == len(kinds)


LINES = [b"data: a", b"data:b", b"data", b"data:", b"event: x", b"event:", b":c", b"id: 7", b" "]
ENDS = [b"\n", b"\n\n", b"\r", b"\r\n", b""]


@given(st.lists(st.sampled_from(LINES + ENDS)))
@example([b"event: x", b"\n", b"data:", b"\n\n"])
@example([b"event: x", b"\n", b"event: x", b"\n", b"data: a", b"\n\n"])
def test_a_usual_event_is_cut_out_as_any_other(parts: list[bytes]) -> None:
    """C3: the one search that cuts out a usual event, name and data, finds what the lines say."""
    stream = b"".join(parts)
    for text in (stream, stream.replace(b"\r", b"\n")):
        reader = Recorder()
        reader.feed(text)
        reader.finish()
        assert reader.seen == list(events_of(text))


def test_fields_of_an_event_are_told_apart() -> None:
    """A field without a colon is empty, one space is taken off, names are exact."""
    assert parse_event(b"data") == (b"", b"")
    assert parse_event(b"event: a\nevent: b\ndata:x") == (b"b", b"x")
    assert parse_event(b"Data: x\ndatax: y") == (b"", None)


FORMS = {
    "padded": (
        "openai",
        CHAT,
        b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}],"obfuscation":"%b"}\n\n',
    ),
    "bare": (
        "openai",
        CHAT,
        b'data: {"choices":[{"index":0,"delta":{"content":"%b%b"}}],"usage":null}\n\n',
    ),
    "typed": (
        "openai",
        "/v1/responses",
        b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta",'
        b'"delta":"%b%b"}\n\n',
    ),
    "blocks": (
        "anthropic",
        "/v1/messages",
        b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":'
        b'{"type":"text_delta","text":"%b%b"}}\n\n',
    ),
}
TELLING = (b'","usage":{', b'"finish_reason":"stop"', b'"obfuscation":"', b'"}\n\n', b"data:")
PIECES = (b"a", b" ", b'"', b"\n", b"\r", b"\\", b"}", b"{}", b"\xff", *TELLING)
TEXT = st.lists(st.sampled_from(PIECES), max_size=4).map(b"".join)


@pytest.mark.parametrize("kind", FORMS)
@given(text=TEXT, more=TEXT, cut=st.integers(0, 8))
def test_what_has_the_form_of_a_dull_event_is_dull(
    kind: str, text: bytes, more: bytes, cut: int
) -> None:
    """C3: a form is a shorter way to the same finding: whatever has it, a reader that has no
    form to go by finds dull too, and it is one whole event.
    """
    name, path, event = FORMS[kind]
    reader, other = reader_of(name, path), reader_of(name, path)
    for each in (reader, other):
        for said in (b"Hello", b" there"):
            each.feed(event % (said, b"x"))
        each.form = each.form if each is reader else None
    assert reader.form is not None
    assert reader.form.fits(event % (b" once", b"more"))
    said = event % (text, more)
    said = said[: len(said) - cut]
    if reader.form.fits(said):
        assert other.is_dull(said)
        assert len(list(events_of(said))) == 1
        assert said.endswith(b"\n\n")
