"""The official clients, unchanged, and what only Taximeter says: a stream opened while it waits, an
answer given once more.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import anthropic
import openai
import pytest

from tests.clients._bench import CHAT, Bench
from tests.rig import Script, write_script
from tests.rig.taximeter import Taximeter
from tests.rig.upstream import Upstream

MESSAGES = [{"role": "user", "content": "How far to the harbour?"}]
HELD_SECONDS = 1.2
HELD = {"x-rig": write_script(Script(first_byte_seconds=HELD_SECONDS))}
EARLY = {
    "limits": {"concurrency": 1},
    "queue": {"early_open_seconds": 0.2, "wait_seconds_max": 10},
    "retry": {"attempts_max": 1},
}


@pytest.fixture(scope="module")
def narrow(running: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Taximeter]:
    """A Taximeter with a place for one call at each upstream, which opens streams that wait."""
    names = ("openai", "anthropic")
    upstreams = {name: {"url": running.url, "dialect": name, **EARLY} for name in names}
    folder = tmp_path_factory.mktemp("narrow")
    with Taximeter(folder, upstreams, replay={"enabled": True}) as meter:
        yield meter


@pytest.fixture
def busy(running: Upstream, narrow: Taximeter) -> Bench:
    """That Taximeter and its upstream, which has seen nothing yet."""
    running.reset()
    running.default = Script()
    return Bench(running, narrow)


@contextlib.contextmanager
def held(busy: Bench, path: str) -> Iterator[None]:
    """Hold an upstream's only place for a while."""
    base = busy.meter.url

    def hold() -> None:
        if path == "openai":
            with openai.OpenAI(base_url=f"{base}/v1", api_key="sk-rig", max_retries=0) as client:
                client.chat.completions.create(
                    model="gpt-5.4-mini", messages=MESSAGES, extra_headers=HELD
                )
        else:
            with anthropic.Anthropic(base_url=base, api_key="sk-rig", max_retries=0) as client:
                client.messages.create(
                    model="claude-opus-5-5", max_tokens=9, messages=MESSAGES, extra_headers=HELD
                )

    holder = threading.Thread(target=hold)
    holder.start()
    busy.upstream.wait_until(lambda: len(busy.upstream.log) == 1)
    try:
        yield
    finally:
        holder.join()


def test_openai_reads_a_stream_that_was_opened_early(busy: Bench) -> None:
    """Chunk by chunk as ever, over a comment in front; the head says that it was opened."""
    with openai.OpenAI(base_url=f"{busy.meter.url}/v1", api_key="k", max_retries=0) as client:
        with held(busy, "openai"):
            raw = client.chat.completions.with_raw_response.create(
                model="gpt-5.4-mini", messages=MESSAGES, stream=True
            )
            assert raw.headers["x-taximeter-opened-early"] == "true"
            chunks = list(raw.parse())
        words = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
        figures = busy.upstream.log[-1].figures
        assert figures is not None
        assert "".join(words) == figures.text
        row = busy.rows(2)[-1]
        assert (row["outcome"], row["status"]) == ("completed", 200)
        assert row["output_tokens"] == figures.output


def test_anthropic_reads_a_stream_that_was_opened_early(busy: Bench) -> None:
    """Word by word as ever, over a comment in front."""
    with anthropic.Anthropic(base_url=busy.meter.url, api_key="k", max_retries=0) as client:
        with (
            held(busy, "anthropic"),
            client.messages.stream(
                model="claude-opus-5-5", max_tokens=99, messages=MESSAGES
            ) as stream,
        ):
            assert stream.response.headers["x-taximeter-opened-early"] == "true"
            words = list(stream.text_stream)
        figures = busy.upstream.log[-1].figures
        assert figures is not None
        assert words == list(figures.words)
        assert busy.rows(2)[-1]["outcome"] == "completed"


FAILS = {"x-rig": write_script(Script(status=400))}


def test_openai_raises_what_an_opened_stream_says(busy: Bench) -> None:
    """The upstream's own error, raised by the package; the row has the upstream's status."""
    with openai.OpenAI(base_url=f"{busy.meter.url}/v1", api_key="k", max_retries=0) as client:
        with held(busy, "openai"):
            stream = client.chat.completions.create(
                model="gpt-5.4-mini", messages=MESSAGES, stream=True, extra_headers=FAILS
            )
            with pytest.raises(openai.APIError) as raised:
                list(stream)
        assert raised.value.body
        row = busy.rows(2)[-1]
        assert (row["outcome"], row["status"]) == ("upstream_error", 400)


def test_anthropic_raises_what_an_opened_stream_says(busy: Bench) -> None:
    """The upstream's own error, raised by the package; the row has the upstream's status."""
    with anthropic.Anthropic(base_url=busy.meter.url, api_key="k", max_retries=0) as client:
        with held(busy, "anthropic"):
            stream = client.messages.create(
                model="claude-opus-5-5",
                max_tokens=99,
                messages=MESSAGES,
                stream=True,
                extra_headers=FAILS,
            )
            with pytest.raises(anthropic.APIError, match="error"):
                list(stream)
        row = busy.rows(2)[-1]
        assert (row["outcome"], row["status"]) == ("upstream_error", 400)


def test_a_key_of_the_application_s_is_paid_once(busy: Bench) -> None:
    """The same answer object, one call upstream, one cost; the second row names the first."""
    with openai.OpenAI(base_url=f"{busy.meter.url}/v1", api_key="k", max_retries=0) as client:
        fields = {"Idempotency-Key": "order-17"}
        raw = [
            client.chat.completions.with_raw_response.create(**CHAT, extra_headers=fields)
            for _ in range(2)
        ]
        assert raw[0].content == raw[1].content
        assert "idempotent-replayed" not in raw[0].headers
        assert raw[1].headers["idempotent-replayed"] == "true"
        assert len(busy.upstream.log) == 1
        first, again = busy.rows(2)
        assert again["cost_pico"] == 0
        assert again["price"] == f"replay of {first['id']}"
        assert again["booked_on"] == again["retry_of"] == first["id"]
        assert again["attempt_count"] == 0


def test_the_package_s_own_retries_are_linked(busy: Bench) -> None:
    """What it tries again by itself names the call before, in a chain."""
    script = {"x-rig": write_script(Script(status=500))}
    with (
        openai.OpenAI(base_url=f"{busy.meter.url}/v1", api_key="k", max_retries=2) as client,
        pytest.raises(openai.APIStatusError),
    ):
        client.chat.completions.create(**CHAT, extra_headers=script)
    rows = busy.rows(3)
    assert [row["client_retry"] for row in rows] == [0, 1, 2]
    assert [row["retry_of"] for row in rows] == [None, rows[0]["id"], rows[1]["id"]]
