"""What a client and the ledger see when the upstream, the client or Taximeter itself fails.

Plain sockets, no client library: what counts here is the bytes.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from typing import Any

import pytest

from tests.clients._bench import CHAT, STREAM, Bench
from tests.rig import Script


@pytest.mark.parametrize("cut", ["fin", "rst"])
def test_a_stream_cut_between_events_says_so_and_never_ends(bench: Bench, cut: Any) -> None:
    """C2: the client keeps what came, gets one error event, and no end of the stream."""
    bench.upstream.queue(Script(cut_after_events=4, cut=cut, delta_seconds=0.02))
    with pytest.raises(http.client.IncompleteRead) as caught:
        bench.fetch(STREAM)
    *events, last, end = caught.value.partial.split(b"\n\n")
    assert end == b""
    assert len(events) == 4
    error = json.loads(last.removeprefix(b"data: "))["error"]
    assert error["partial"] is True
    row = bench.row()
    assert error["call_id"] == row["id"]
    assert row["outcome"] == "truncated"
    assert row["usage_source"] == "estimated"


@pytest.mark.parametrize("cut", ["fin", "rst"])
def test_a_stream_cut_inside_an_event_gets_no_word_of_ours(bench: Bench, cut: Any) -> None:
    """C2: half an event is not completed, by us least of all."""
    bench.upstream.queue(Script(cut_after_bytes=600, cut=cut, split=100, split_seconds=0.005))
    with pytest.raises(http.client.IncompleteRead) as caught:
        bench.fetch(STREAM)
    assert len(caught.value.partial) <= 600
    assert b"error" not in caught.value.partial
    assert bench.row()["outcome"] == "truncated"


@pytest.mark.parametrize("framing", ["close", "length"])
def test_a_body_ended_by_reset_is_not_whole(bench: Bench, framing: Any) -> None:
    """C2: a body that ends by RST is broken, also where the end of the connection is its end."""
    script = Script(framing=framing, cut_after_bytes=100, cut="rst", split=50, split_seconds=0.01)
    bench.upstream.queue(script)
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        bench.fetch(CHAT)
    assert bench.row()["outcome"] == "truncated"


def test_a_body_shorter_than_stated_is_not_whole(bench: Bench) -> None:
    """C2: fewer bytes than the stated length are a broken answer."""
    bench.upstream.queue(Script(length_delta=10))
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        bench.fetch(CHAT)
    assert bench.row()["outcome"] == "truncated"


def test_bytes_beyond_the_stated_length_reach_nobody(bench: Bench) -> None:
    """H2: what follows a sized body is neither this client's nor the next one's."""
    bench.upstream.queue(Script(body='{"a":1}XX', length_delta=-2))
    assert bench.fetch(CHAT) == (200, b'{"a":1}')
    status, body = bench.fetch(CHAT)
    assert status == 200
    assert b"chat.completion" in body
    assert len({exchange.connection for exchange in bench.upstream.log}) == 2


@pytest.mark.parametrize("cut", ["fin", "rst"])
def test_an_upstream_that_hangs_up_before_its_answer_is_a_502(bench: Bench, cut: Any) -> None:
    """C2: no answer becomes an error in the family's own shape."""
    bench.upstream.default = Script(cut_before_head=True, cut=cut)
    status, body = bench.fetch(CHAT)
    assert status == 502
    assert json.loads(body)["error"]["code"]
    assert bench.row()["outcome"] == "upstream_error"


@pytest.mark.parametrize(
    "raw",
    [
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello!",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        "HTTP/1.1 200 OK\r\n" + "X: y\r\n" * 50_000,
    ],
    ids=[
        "no http",
        "two lengths",
        "signed length",
        "list of lengths",
        "length and chunks",
        "bare CR",
        "NUL",
        "no chunk size",
        "endless head",
    ],
)
def test_malformed_answers_never_pass(bench: Bench, raw: str) -> None:
    """H2: an answer that can be read in two ways reaches the client in neither."""
    bench.upstream.queue(Script(raw=raw))
    try:
        status, body = bench.fetch(CHAT)
    except (http.client.IncompleteRead, ConnectionResetError):
        return  # its head was good; what followed was not
    assert status == 502
    assert b"hello" not in body


def test_a_few_interim_answers_pass_and_a_flood_does_not(bench: Bench) -> None:
    """C7: early hints do no harm, thousands of them are refused."""
    bench.upstream.queue(Script(interim_count=3))
    with bench.send(CHAT) as connection, connection.makefile("rb") as answer:
        heads = [line for line in answer if line.startswith(b"HTTP/1.1 ")]
    assert [int(head.split()[1]) for head in heads] == [103, 103, 103, 200]
    bench.upstream.queue(Script(interim_count=5_000, interim_bytes=2_000))
    with bench.send(CHAT) as connection, connection.makefile("rb") as answer:
        last = [line for line in answer if line.startswith(b"HTTP/1.1 ")][-1]
    assert last.split()[1] == b"502"


def test_bytes_on_an_idle_connection_answer_nobody(bench: Bench) -> None:
    """What an upstream says unasked is not the next caller's answer."""
    stray = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad"
    bench.upstream.queue(Script(idle_bytes=stray, idle_seconds=0.05))
    for _ in range(2):
        status, body = bench.fetch(CHAT)
        assert status == 200
        assert b"chat.completion" in body
        time.sleep(0.15)


def test_a_kept_connection_that_was_closed_is_not_used_again(bench: Bench) -> None:
    """An upstream may close a kept connection at any time; the next call does not notice."""
    for _ in range(3):
        bench.upstream.queue(Script(idle_close=True))
        assert bench.fetch(CHAT)[0] == 200
        time.sleep(0.05)


def test_an_upstream_that_refuses_the_option_is_remembered(own: Bench) -> None:
    """`stream_options` refused: the stream comes all the same, and is not asked for again."""
    own.upstream.default = Script(refuse_stream_options=True)
    plain = {**CHAT, "stream": True}
    for _ in range(2):
        status, body = own.fetch(plain)
        assert status == 200
        assert body.endswith(b"data: [DONE]\n\n")
    asked = [b"stream_options" in exchange.body for exchange in own.upstream.log]
    assert asked == [True, False, False]
    first, second = own.rows(2)
    assert [first["attempt_count"], second["attempt_count"]] == [2, 1]
    assert {first["usage_source"], second["usage_source"]} == {"estimated"}


def test_a_client_that_leaves_before_the_answer_frees_the_upstream(bench: Bench) -> None:
    """C4: the upstream is let go at once, the call is booked as abandoned."""
    bench.upstream.queue(Script(first_byte_seconds=30))
    connection = bench.send(CHAT)
    bench.upstream.wait_until(lambda: bool(bench.upstream.log))
    connection.close()
    bench.upstream.wait_until(lambda: bench.upstream.last.client_left_at is not None, 2)
    assert bench.row()["outcome"] == "abandoned"


def test_a_client_that_leaves_mid_stream_frees_the_upstream(bench: Bench) -> None:
    """C4: also while the upstream is silent; the call is booked as cancelled."""
    bench.upstream.queue(Script(stall_after_events=3))
    connection = bench.send(STREAM)
    assert connection.recv(10)
    time.sleep(0.1)
    connection.close()
    bench.upstream.wait_until(lambda: bench.upstream.last.client_left_at is not None, 2)
    assert bench.row()["outcome"] == "cancelled"


def test_an_idle_stream_is_pinged(own: Bench) -> None:
    """A silent stream gets a comment with one line end, between two events, and stays whole."""
    own.upstream.queue(Script(stall_after_events=3, stall_seconds=2.5))
    status, body = own.fetch(STREAM)
    assert status == 200
    assert b"\n\n: ping\ndata: " in body
    pings = body.count(b": ping\n")
    assert 1 <= pings <= 3
    assert len(body) - pings * len(b": ping\n") == own.upstream.last.body_sent
    assert own.row()["outcome"] == "completed"


def test_a_kill_loses_no_call(own: Bench) -> None:
    """D1: killed mid-stream, every call is booked once: those answered, and those under way."""
    finished = [own.fetch(CHAT)[0] for _ in range(5)]
    own.upstream.default = Script(stall_after_events=3)
    under_way = [own.send(STREAM) for _ in range(5)]
    for connection in under_way:
        assert connection.recv(10)
    own.meter.kill()
    for connection in under_way:
        connection.close()
    own.meter.start()
    rows = own.rows(10)
    assert finished == [200] * 5
    assert sorted(row["outcome"] for row in rows) == ["completed"] * 5 + ["interrupted"] * 5
    assert len({row["id"] for row in rows}) == 10


def test_a_drain_lets_streams_finish(own: Bench) -> None:
    """L1: told to stop, it lets a stream end, books it, and exits with 0."""
    own.upstream.queue(Script(tokens=20, delta_seconds=0.05))
    got: list[tuple[int, bytes]] = []
    reader = threading.Thread(target=lambda: got.append(own.fetch(STREAM)))
    reader.start()
    own.upstream.wait_until(lambda: bool(own.upstream.log and own.upstream.last.events_sent > 2))
    assert own.meter.stop() == 0
    reader.join(5)
    assert got[0][1].endswith(b"data: [DONE]\n\n")
    assert own.row()["outcome"] == "completed"


def test_secrets_and_content_are_written_nowhere(own: Bench) -> None:
    """H9, H10: a key, a query, a prompt and an answer leave no trace in anything written."""
    canaries = [f"canary-{number}-5f2c" for number in range(5)]
    key, query, prompt, cookie, answer = canaries
    scripts = (
        Script(body=json.dumps({"choices": [{"message": {"content": answer}}]})),
        Script(status=500, body=json.dumps({"error": {"message": answer, "code": answer + " !"}})),
        Script(cut_after_events=3),
        Script(raw=f"HTTP/1.1 200 {answer}\r\nContent-Length: {answer}\r\n\r\n"),
        Script(cut_before_head=True),
    )
    for script in scripts:
        own.upstream.queue(script)
        connection = http.client.HTTPConnection("127.0.0.1", own.meter.port, timeout=10)
        with contextlib.closing(connection):
            said = {**STREAM, "messages": [{"role": "user", "content": prompt}]}
            headers = {"authorization": f"Bearer {key}", "cookie": cookie, "x-api-key": key}
            connection.request(
                "POST", f"/v1/chat/completions?key={query}", json.dumps(said), headers
            )
            with contextlib.suppress(http.client.HTTPException, ConnectionResetError):
                connection.getresponse().read()
    own.rows(len(scripts))
    assert own.meter.stop() == 0
    written = [path for path in own.meter.folder.rglob("*") if path.is_file()]
    assert len(written) > 3
    for path in written:
        content = path.read_bytes()
        for canary in canaries:
            assert canary.encode() not in content, f"{canary} in {path.name}"
