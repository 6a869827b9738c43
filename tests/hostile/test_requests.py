"""H1, H5, H7: raw bytes of clients against an upstream that keeps every byte it is sent."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile._passed import PASSED, TURNED_AWAY
from tests.hostile._refused import GET, INNER, REFUSED
from tests.hostile._rig import AFTER_A_KNOWN_ONE, Rig, echo

PACES = ("whole", "bytewise", *AFTER_A_KNOWN_ONE)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One relay for all of them: what one leaves behind, the next one meets."""
    with Rig(tmp_path_factory.mktemp("hostile")) as made:
        yield made


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("pace", PACES)
def test_what_could_be_read_in_two_ways_reaches_no_upstream(rig: Rig, name: str, pace: str) -> None:
    """H1: it is answered with one refusal, the connection ends, and nothing of it went on."""
    talk = rig.talk(REFUSED[name], pace)
    assert talk.ended
    assert talk.heard.left == b""
    assert talk.own == []
    answers = talk.heard.whole
    if pace in AFTER_A_KNOWN_ONE:
        known, *answers = answers
        assert known.start[0] == b"200"
    if pace == "behind" and not answers:
        # Behind a call under way, what is no request at all ends the connection without a word.
        return
    (refusal,) = answers
    assert int(refusal.start[0]) in (400, 405, 417, 431, 505)
    assert refusal.values(b"connection") == [b"close"]
    assert len(refusal.values(b"x-taximeter-error")) == 1
    # The head of a request whose body breaks later may have gone on; its end may not.
    assert all(b"smuggled" not in part for part in talk.broken)


FRAMING = (b"host", b"content-length", b"transfer-encoding")


@pytest.mark.parametrize(("fields", "status"), [(256, 200), (257, 431)])
def test_so_many_fields_and_no_more(rig: Rig, fields: int, status: int) -> None:
    """H4: the largest number of fields passes, one more does not, however short they are."""
    talk = rig.talk(GET + b"X: y\r\n" * (fields - 1) + b"\r\n")
    assert talk.statuses[0] == status
    assert len(talk.own) == (status == 200)


@pytest.mark.parametrize("name", PASSED)
@pytest.mark.parametrize("pace", PACES)
def test_what_is_odd_and_plain_goes_upstream_once_framed_by_us(
    rig: Rig, name: str, pace: str
) -> None:
    """H1: exactly one well-formed request arrives, with every byte that is to go on and no other;
    then the next one does.
    """
    case = PASSED[name]
    talk = rig.talk(case.said, pace, to_head=case.method == b"HEAD")
    assert talk.ended
    assert talk.heard.left == b""
    assert set(talk.statuses) == {200}
    assert len(talk.statuses) == 1 + case.follows + (pace in AFTER_A_KNOWN_ONE)
    assert len(talk.requests) == len(talk.rows) == len(talk.statuses)
    (sent,) = talk.own
    assert sent.start == (case.method, case.target, b"1")
    assert sent.body == case.body
    assert tuple(each for each in sent.fields if each[0].lower() not in FRAMING) == case.fields
    assert sent.values(b"host") == [rig.bench.worker.snapshot.upstreams["openai"].host]
    answer = talk.heard.whole[pace in AFTER_A_KNOWN_ONE]
    assert answer.body == (b"" if case.method == b"HEAD" else echo(sent))


@pytest.mark.parametrize("name", TURNED_AWAY)
@pytest.mark.parametrize("pace", PACES)
def test_what_goes_nowhere_is_turned_away_and_the_next_request_served(
    rig: Rig, name: str, pace: str
) -> None:
    """H5: a target that names no configured upstream is refused; the request's end is no doubt."""
    talk = rig.talk(TURNED_AWAY[name], pace)
    assert talk.ended
    assert talk.heard.left == b""
    assert talk.own == []
    assert talk.statuses[pace in AFTER_A_KNOWN_ONE :] in ([400, 200], [404, 200])


@pytest.mark.parametrize("behind", [b"", INNER, b"\x81\x05hello", b"\0" * 100])
@pytest.mark.parametrize("pace", PACES)
def test_what_follows_an_upgrade_that_is_refused_goes_nowhere(
    rig: Rig, behind: bytes, pace: str
) -> None:
    """H1: an upstream that does not upgrade gets the request alone; what its client has said in
    the other protocol is neither sent on nor taken for a request.
    """
    said = (
        b"GET /v1/realtime HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n"
        b"Upgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: a\r\n\r\n"
    )
    talk = rig.talk(said + behind, pace)
    assert talk.ended
    assert talk.statuses == [200] * (1 + (pace in AFTER_A_KNOWN_ONE))
    (sent,) = talk.own
    assert sent.values(b"connection") == [b"Upgrade"]
    assert sent.values(b"upgrade") == [b"WebSocket"]
    assert talk.broken == []
    assert len(talk.requests) == len(talk.statuses)
