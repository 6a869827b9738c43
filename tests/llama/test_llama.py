"""A real inference server, llama.cpp's own, answers; nothing about it is ours but the weights."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.llama._model import write_model
from tests.rig.taximeter import Taximeter

WAYS = ("direct", "through")


@dataclass(slots=True)
class Way:
    """A base URL to the server, and the ledger behind it if there is one."""

    base: str
    meter: Taximeter | None = None
    began_ns: int = 0

    def booked(self, count: int) -> list[dict[str, Any]]:
        """Give this test's rows in the ledger; none on the direct way."""
        if self.meter is None:
            return []
        return self.meter.booked(count, since_ns=self.began_ns)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server's base URL."""
    model = tmp_path_factory.mktemp("model") / "tiny.gguf"
    write_model(model)
    command = [sys.executable, "-m", "tests.llama._server", str(model)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


@pytest.fixture(scope="module")
def meter(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Taximeter]:
    """Taximeter in front of it."""
    upstreams = {"openai": {"url": server, "dialect": "openai"}}
    price = {
        "provider": "openai",
        "model": "tiny*",
        "input_usd_per_million": 1.0,
        "output_usd_per_million": 2.0,
    }
    with Taximeter(tmp_path_factory.mktemp("meter"), upstreams, prices=[price]) as started:
        yield started


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, server: str) -> Way:
    """A way to the server."""
    if request.param == "direct":
        return Way(server)
    meter: Taximeter = request.getfixturevalue("meter")
    return Way(meter.url, meter, time.time_ns())


def post(way: Way, path: str, said: dict[str, Any], user: str) -> bytes:
    """Post JSON in the name of a user; give the body."""
    headers = {"content-type": "application/json", "x-taximeter-user": user}
    request = urllib.request.Request(way.base + path, json.dumps(said).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        body: bytes = answer.read()
        return body


def chat(text: str, **more: Any) -> dict[str, Any]:
    """A chat completion's request."""
    return {"model": "tiny", "messages": [{"role": "user", "content": text}], "seed": 1, **more}


def usage_of(stream: bytes) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Give a stream's chunks, and the usage that one of them carries."""
    assert stream.endswith(b"data: [DONE]\n\n")
    events = stream.decode().split("\n\n")[:-2]
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    usages = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    assert len(usages) <= 1
    return chunks, usages[0] if usages else None


def check_row(row: dict[str, Any], usage: dict[str, Any], user: str) -> None:
    """Check a row against the usage the server stated for it."""
    assert row["outcome"] == "completed"
    assert row["user_name"] == user
    assert row["usage_source"] == "reported"
    assert row["input_tokens"] == usage["prompt_tokens"]
    assert row["output_tokens"] == usage["completion_tokens"]
    assert row["cached_tokens"] == usage["prompt_tokens_details"]["cached_tokens"]
    assert (
        row["cost_pico"] == usage["prompt_tokens"] * 10**6 + usage["completion_tokens"] * 2 * 10**6
    )


def test_plain_calls_of_two_users(way: Way) -> None:
    """Each user's plain call is answered and booked with the server's own figures."""
    usages = {}
    for user, count in (("ann", 5), ("bob", 9)):
        answer = json.loads(
            post(way, "/v1/chat/completions", chat(f"I am {user}.", max_tokens=count), user)
        )
        usages[user] = answer["usage"]
        assert answer["usage"]["completion_tokens"] == count
        assert answer["choices"][0]["message"]["content"].isascii()
    for row, (user, usage) in zip(way.booked(2), usages.items(), strict=way.meter is not None):
        check_row(row, usage, user)


def test_streams_of_two_users(way: Way) -> None:
    """Each user's stream arrives token by token and is booked with the server's own figures."""
    usages = {}
    for user, count in (("ann", 6), ("bob", 11)):
        asked = chat(
            f"Stream to {user}.",
            max_tokens=count,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks, usage = usage_of(post(way, "/v1/chat/completions", asked, user))
        assert usage is not None
        assert usage["completion_tokens"] == count
        assert sum(bool(c["delta"].get("content")) for x in chunks for c in x["choices"]) == count
        usages[user] = usage
    for row, (user, usage) in zip(way.booked(2), usages.items(), strict=way.meter is not None):
        check_row(row, usage, user)


def test_stream_that_does_not_ask_for_usage(way: Way) -> None:
    """A client that did not ask sees no usage, and yet the ledger has it."""
    stream = post(way, "/v1/chat/completions", chat("Go.", max_tokens=7, stream=True), "ann")
    chunks, usage = usage_of(stream)
    assert usage is None
    assert all(chunk["choices"] for chunk in chunks)
    for row in way.booked(1):
        assert (row["usage_source"], row["output_tokens"]) == ("reported", 7)


def test_the_same_seed_says_the_same(way: Way) -> None:
    """The model is the same each time: what is told of one run can be checked in the next."""
    asked = chat("Say it again.", max_tokens=12, temperature=0, cache_prompt=False)
    said = {
        json.loads(post(way, "/v1/chat/completions", asked, "ann"))["choices"][0]["message"][
            "content"
        ]
        for _ in range(2)
    }
    assert len(said) == 1
