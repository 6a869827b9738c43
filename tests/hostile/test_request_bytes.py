"""H1: every byte in every place of a request, and requests with bytes put in and taken out.

The promise is a comparison. Two strict readers say what requests a client's bytes are; what the
relay sends on must be what at least one of them read, in that order, or nothing.
"""

from __future__ import annotations

import string
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hostile._passed import PASSED
from tests.hostile._refused import CHUNKS, GET, INNER, POST, REFUSED
from tests.hostile._rig import LAST, Rig, Talk
from tests.hostile._strict import Message, readings_of
from tests.rig.length import pick

TOKEN = (string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~").encode()
VISIBLE = bytes(range(0x21, 0x7F))
TEXT = b"\t " + VISIBLE + bytes(range(0x80, 0x100))
EVERY = [bytes((value,)) for value in range(256)]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One relay for all of them."""
    with Rig(tmp_path_factory.mktemp("hostile")) as made:
        yield made


def is_refused(talk: Talk) -> bool:
    """Tell whether nothing went on, and the client was told and its connection ended."""
    return talk.ended and not talk.requests and len(talk.statuses) == 1 and talk.statuses[0] >= 400


def test_a_field_s_value_takes_text_alone(rig: Rig) -> None:
    """H1: text goes on to the byte, in whatever alphabet; a control byte goes nowhere."""
    for byte in EVERY:
        talk = rig.talk(GET + b"X: a" + byte + b"b\r\n\r\n")
        if byte in TEXT:
            assert talk.own[0].values(b"x") == [b"a" + byte + b"b"], byte
        else:
            assert is_refused(talk), byte


def test_a_field_s_name_is_a_token(rig: Rig) -> None:
    """H1: a name of any other byte goes nowhere."""
    for byte in EVERY:
        talk = rig.talk(GET + b"X-" + byte + b"Y: a\r\n\r\n")
        if byte in TOKEN:
            assert talk.own[0].fields[1] == (b"X-" + byte + b"Y", b"a"), byte
        elif byte == b":":
            assert talk.own[0].fields[1] == (b"X-", b"Y: a")
        else:
            assert is_refused(talk), byte


def test_a_target_goes_on_as_it_came(rig: Rig) -> None:
    """H1, H5: what a target is made of is not ours to change; a control byte goes nowhere."""
    for byte in EVERY:
        talk = rig.talk(b"GET /v1/a" + byte + b"b HTTP/1.1\r\nHost: a\r\n\r\n")
        if byte == b"#":
            assert talk.own[0].start[1] == b"/v1/a"
        elif byte in VISIBLE:
            assert talk.own[0].start[1] == b"/v1/a" + byte + b"b", byte
        else:
            assert is_refused(talk), byte


def test_a_method_is_a_known_one(rig: Rig) -> None:
    """H1: no byte may stand in a method's name, before it or behind it."""
    for byte in EVERY:
        lines = [byte + b"GET", b"GET" + byte]
        if byte in CONTROLS:
            lines.append(b"G" + byte + b"ET")
        for line in lines:
            talk = rig.talk(line + b" /v1/echo HTTP/1.1\r\nHost: a\r\n\r\n")
            if talk.own:
                # Two spaces, and empty lines first, have one meaning.
                assert line in (b"GET ", b"\nGET", b"\rGET")
                assert talk.own[0].start == (b"GET", b"/v1/echo", b"1")
            else:
                assert is_refused(talk), line


FRAMES = {
    "length beside chunks": (
        b"Content-Length: %d\r\n" % (len(INNER) + 5) + b"{}\r\n0\r\n\r\n" + INNER,
        b"Transfer-Encoding: chunked",
    ),
    "two lengths": (b"Content-Length: 43\r\n{}\r\n0\r\n\r\n" + INNER, b"Content-Length: 5"),
    "a length": (b"{}\r\nhello" + INNER, b"Content-Length: 5"),
    "chunks": (b"{}\r\n5\r\nhello\r\n0\r\n\r\n" + INNER, b"Transfer-Encoding: chunked"),
}
CONTROLS = [bytes((value,)) for value in (*range(0x21), 0x7F, 0x85, 0xA0, 0xAD, 0xFF)]


def same(sent: Message, read: Message) -> bool:
    """Tell whether two readers mean the same request. A fragment is the client's own."""
    target = read.start[1].partition(b"#")[0]
    return sent.start[:2] == (read.start[0], target) and sent.body == read.body


def are_of(sent: list[Message], reading: list[Message]) -> bool:
    """Tell whether all that was sent on was read, in that order; some may have been turned away."""
    left = iter(reading)
    return all(any(same(each, read) for read in left) for each in sent)


def check(said: bytes, talk: Talk) -> None:
    """Hold what was sent on to what was said."""
    readings = readings_of(said + LAST)
    assert any(are_of(talk.requests, reading) for reading in readings), (
        f"{said!r} became {talk.requests}, and is {readings}"
    )
    answered = talk.statuses.count(200)
    assert answered <= len(talk.requests)
    assert len([status for status in talk.statuses if status >= 400]) <= 1 or talk.ended
    assert talk.heard.left == b""


@pytest.mark.parametrize("frame", FRAMES)
def test_no_odd_byte_hides_what_frames_a_body(rig: Rig, frame: str) -> None:
    """H1: thirty-seven odd bytes in nine places of the field by which a body is framed."""
    around, field = FRAMES[frame]
    name, value = field.split(b": ")
    for odd in CONTROLS:
        lines = (
            odd + field,
            name[:8] + odd + name[8:] + b": " + value,
            name + odd + b": " + value,
            name + b":" + odd + value,
            name + b": " + value[:1] + odd + value[1:],
            field + odd,
            field + b"\r" + odd,
            b"X: y" + odd + field,
            b"X: y\r\n" + odd + field,
        )
        for line in lines:
            said = POST + around.replace(b"{}", line + b"\r\n", 1)
            check(said, rig.talk(said))


SAMPLES = [*REFUSED.values(), *(case.said for case in PASSED.values())]
# What an answer to HEAD ends with is known to who asked; targets with a host are read otherwise.
SAMPLES = [
    said for said in SAMPLES if len(said) < 1000 and b"://" not in said and b"HEAD " not in said
]
PLAIN = [case.said for case in PASSED.values() if case.said in SAMPLES]
WORDS = [
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b",", b";", b"0", b"5", b"\r\n\r\n",
    b"0\r\n\r\n", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", CHUNKS[:-2], b"chunked",
    b"Connection: close\r\n", b"Connection: Upgrade\r\nUpgrade: h2c\r\n", b"Host: a\r\n",
    b"Expect: 100-continue\r\n", b" HTTP/1.1", INNER, b"x" * 70,
]  # fmt: skip
edits = st.lists(
    st.tuples(
        st.integers(0, 999),
        st.sampled_from(WORDS) | st.binary(max_size=3),
        st.integers(0, 20),
    ),
    max_size=4,
)


def edited(said: bytes, changes: list[tuple[int, bytes, int]]) -> bytes:
    """Put bytes in and take some out."""
    for where, put, taken in changes:
        where %= len(said) + 1
        said = said[:where] + put + said[where + taken :]
    return said


@settings(
    max_examples=pick(150, 5000),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.sampled_from(SAMPLES) | st.sampled_from(PLAIN),
    st.just(b"") | st.sampled_from(PLAIN),
    edits,
    st.sampled_from(["whole", "bytewise"]),
)
def test_what_is_sent_on_is_what_was_said(
    rig: Rig, sample: bytes, behind: bytes, changes: list[tuple[int, bytes, int]], pace: str
) -> None:
    """H1: of requests with bytes put in and taken out, no other requests are made."""
    said = edited(sample + behind, changes)
    check(said, rig.talk(said, pace))
