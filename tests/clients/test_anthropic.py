"""The official Anthropic client, unchanged, finds what it expects."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import pytest

from tests.clients._ways import Way
from tests.rig import Figures, Script

MODEL = "claude-opus-5-5"
MESSAGES = [{"role": "user", "content": "How far to the harbour?"}]


@pytest.fixture
def client(way: Way) -> Iterator[anthropic.Anthropic]:
    """A client as an application has it: only its base URL is ours."""
    with anthropic.Anthropic(base_url=way.base, api_key="sk-ant-rig", max_retries=0) as made:
        yield made


def figures(way: Way) -> Figures:
    """What the upstream said in its newest answer."""
    found = way.exchanges[-1].figures
    assert found is not None
    return found


def test_messages(way: Way, client: anthropic.Anthropic) -> None:
    """A message arrives whole, with its usage; the ledger's input has the cached tokens in."""
    answer = client.messages.create(
        model=MODEL, max_tokens=100, messages=MESSAGES, metadata={"user_id": "ann"}
    )
    said = figures(way)
    assert answer.content[0].text == said.text
    assert answer.usage.input_tokens == said.input - said.cached - said.cache_write
    assert answer.usage.output_tokens == said.output
    way.check_books(operation="chat", user_name="ann", model=MODEL, cached_tokens=said.cached)


def test_messages_stream(way: Way, client: anthropic.Anthropic) -> None:
    """A streamed message arrives word by word, and its last usage is the message's."""
    with client.messages.stream(model=MODEL, max_tokens=100, messages=MESSAGES) as stream:
        words = list(stream.text_stream)
        final = stream.get_final_message()
    assert words == list(figures(way).words)
    assert final.usage.output_tokens == figures(way).output
    assert final.stop_reason == "end_turn"
    way.check_books(operation="chat", stream=1)


def test_count_tokens(way: Way, client: anthropic.Anthropic) -> None:
    """Counting tokens passes, and is no usage."""
    counted = client.messages.count_tokens(model=MODEL, messages=MESSAGES)
    assert counted.input_tokens == figures(way).input
    for row in way.booked():
        assert row["cost_pico"] in (None, 0)
        assert row["output_tokens"] is None


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, anthropic.BadRequestError),
        (429, anthropic.RateLimitError),
        (529, anthropic.InternalServerError),
    ],
)
def test_errors_become_the_clients_exceptions(
    way: Way, client: anthropic.Anthropic, status: int, kind: type[anthropic.APIStatusError]
) -> None:
    """Each error status raises the client's own exception."""
    way.upstream.default = Script(status=status, headers=[("x-should-retry", "false")])
    with pytest.raises(kind) as caught:
        client.messages.create(model=MODEL, max_tokens=100, messages=MESSAGES)
    assert caught.value.status_code == status
    way.check_books(status=status)


def test_an_error_inside_a_stream_is_raised(way: Way, client: anthropic.Anthropic) -> None:
    """An error event after the stream has begun raises."""
    way.upstream.default = Script(error_after_events=4)
    stream = client.messages.create(model=MODEL, max_tokens=100, messages=MESSAGES, stream=True)
    with pytest.raises(anthropic.APIStatusError):
        list(stream)


def test_the_clients_own_headers_arrive(way: Way, client: anthropic.Anthropic) -> None:
    """The key and the versions the client sends reach the upstream as they are."""
    client.beta.messages.create(
        model=MODEL, max_tokens=100, messages=MESSAGES, betas=["compaction-2026-01-12"]
    )
    seen = way.exchanges[-1]
    assert "sk-ant-rig" in f"{seen.header('authorization')} {seen.header('x-api-key')}"
    assert seen.header("anthropic-version")
    assert seen.header("anthropic-beta") == "compaction-2026-01-12"
    way.check_books()
