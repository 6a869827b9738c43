"""H2, C2: raw bytes of an upstream: what the client hears, what is booked, what comes next."""

from __future__ import annotations

from collections.abc import Iterator

import h11
import pytest

from tests.hostile._answers import BAD, FORGED, GOOD
from tests.hostile._strict import answers_of
from tests.hostile._upstream import Heard, Upstream

OURS = (b"x-taximeter-call-id", b"server-timing")
FRAMING = (b"content-length", b"transfer-encoding", b"connection")


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    """One relay for all of them."""
    with Upstream(tmp_path_factory.mktemp("hostile")) as made:
        yield made


def cut(said: bytes, pace: str) -> list[bytes]:
    """Cut an upstream's bytes as they are to come.

    What it says behind an answer comes with it: what comes when the next request has gone out is
    the answer to that, as far as anybody can tell.
    """
    if pace == "whole":
        return [said]
    last = said.removesuffix(FORGED)
    last = last.removesuffix(b"x" * 100)
    places = range(len(last) - 1)
    return [*(said[place : place + 1] for place in places), said[len(last) - 1 :]]


def bodies_by_h11(said: bytes) -> list[bytes]:
    """Read whole answers to `ASK`, then `AFTER`, as h11 does."""
    found: list[bytes] = []
    connection = h11.Connection(h11.CLIENT)
    connection.receive_data(said)
    connection.receive_data(b"")
    for method in (b"POST", b"GET"):
        connection.send(h11.Request(method=method, target=b"/", headers=[(b"Host", b"a")]))
        connection.send(h11.EndOfMessage())
        body = b""
        try:
            while not isinstance(event := connection.next_event(), h11.EndOfMessage):
                if isinstance(event, h11.Data):
                    body += bytes(event.data)
                elif isinstance(event, h11.ConnectionClosed):
                    return found
        except h11.RemoteProtocolError:
            return found
        found.append(body)
        if connection.states[h11.SERVER] is not h11.DONE:
            return found
        connection.start_next_cycle()
    return found


def check_after(heard: Heard) -> None:
    """The next answer on that connection, if there is one, and on any other, is its own."""
    assert [answer.body for answer in heard.after.whole] == [b"served"]
    assert heard.after.left == b""
    assert [answer.body for answer in heard.answers.whole[1:]] in ([], [b"served"])
    assert bodies_by_h11(heard.said) == [answer.body for answer in heard.answers.whole]


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("pace", ["whole", "bytewise"])
def test_an_odd_answer_arrives_once_framed_by_us(upstream: Upstream, name: str, pace: str) -> None:
    """H2: one well-formed answer, with what is to go on and no other byte; then the next."""
    case = GOOD[name]
    lines = len(upstream.bench.lines)
    heard = upstream.ask(cut(case.said, pace), "fin" if case.ends else "open")
    if case.spent:
        assert len(upstream.bench.lines) > lines
    check_after(heard)
    answer = heard.answers.whole[0]
    assert int(answer.start[0]) == case.status
    assert answer.body == case.body
    known = (*FRAMING, *OURS)
    assert tuple(each for each in answer.fields if each[0].lower() not in known) == case.fields
    assert answer.values(b"x-taximeter-call-id") == [heard.rows[0].opened.call_id.encode()]
    assert len(answer.values(b"server-timing")) == 1
    assert tuple(int(each.start[0]) for each in heard.answers.interim) == case.interim
    assert all(
        b"x-taximeter" not in name for each in heard.answers.interim for name, _ in each.fields
    )
    assert len(heard.answers.whole) == 2
    assert heard.rows[0].outcome == ("completed" if case.status < 400 else "upstream_error")


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("ends", ["fin", "rst"])
def test_a_bad_answer_is_a_502_or_visibly_cut(upstream: Upstream, name: str, ends: str) -> None:
    """H2, C2: what could be read in two ways is read in none, and is booked as what it was."""
    heard = upstream.ask([BAD[name]], ends)
    check_after(heard)
    row = heard.rows[0]
    assert FORGED[-6:] not in heard.said
    if heard.answers.whole:
        answer = heard.answers.whole[0]
        assert int(answer.start[0]) == 502
        assert len(answer.values(b"x-taximeter-error")) == 1
        assert row.outcome == "upstream_error"
    else:
        assert heard.answers.left.startswith(b"HTTP/1.1 200 OK\r\n")
        assert not heard.answers.left.endswith(b"0\r\n\r\n")
        assert row.outcome == "truncated"
    assert row.usage is None
    assert row.usage_source != "reported"


HEAD = b"HEAD /v1/models HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("framing", [b"Content-Length: 5", b"Transfer-Encoding: chunked", b"X: y"])
@pytest.mark.parametrize("body", [b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", FORGED])
def test_no_body_of_an_answer_to_head_is_the_next_answer(
    upstream: Upstream, framing: bytes, body: bytes
) -> None:
    """H2: an answer to HEAD ends with its head, whatever is said behind it."""
    said = b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n" + body
    heard = upstream.ask([said], "open", HEAD)
    found = answers_of(heard.said, bodiless=0)
    assert [answer.body for answer in found.whole] == [b"", b"served"]
    assert found.left == b""
    assert [answer.body for answer in heard.after.whole] == [b"served"]
