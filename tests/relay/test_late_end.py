"""Streams whose end marker has come, and whose framing never does."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from pathlib import Path

import pytest

from tests.rig import Script, write_script
from tests.rig.taximeter import Taximeter
from tests.rig.upstream import Upstream

ASK = {"model": "fake-large", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
ENDINGS = {
    "it closes before the length it stated": Script(length_delta=7, framing="length", close=True),
    "it goes silent before the length it stated": Script(length_delta=7, framing="length"),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_stream_past_its_end_marker_still_ends(ending: str, tmp_path: Path) -> None:
    """C2, C4: the client is not left waiting: it gets all that came, and then the end."""
    with Upstream() as upstream:
        openai = {"url": upstream.url, "dialect": "openai", "timeouts": {"idle_seconds": 1}}
        with Taximeter(tmp_path, {"openai": openai}) as meter:
            connection = http.client.HTTPConnection("127.0.0.1", meter.port, timeout=8)
            heard = b""
            with contextlib.closing(connection):
                headers = {"x-rig": write_script(ENDINGS[ending])}
                started = time.monotonic()
                connection.request("POST", "/v1/chat/completions", json.dumps(ASK), headers)
                answer = connection.getresponse()
                try:
                    heard = answer.read()
                except http.client.IncompleteRead as error:
                    heard = error.partial
            assert time.monotonic() - started < 5
            assert heard.endswith(b"data: [DONE]\n\n")
            (row,) = meter.booked(1)
            assert row["outcome"] == "completed"
