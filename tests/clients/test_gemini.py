"""Google's official client, unchanged, finds what it expects."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest
from google import genai
from google.genai import errors, types

from tests.clients._ways import Way
from tests.rig import Figures, Script

MODEL = "gemini-3-flash"


@pytest.fixture
def client(way: Way) -> Iterator[genai.Client]:
    """A client as an application has it: only its base URL is ours."""
    made = genai.Client(api_key="rig", http_options=types.HttpOptions(base_url=way.base))
    yield made
    made.close()


def figures(way: Way) -> Figures:
    """What the upstream said in its newest answer."""
    found = way.exchanges[-1].figures
    assert found is not None
    return found


def test_generate_content(way: Way, client: genai.Client) -> None:
    """An answer arrives whole, with its usage; the ledger's output has the thoughts in."""
    answer = client.models.generate_content(model=MODEL, contents="How far?")
    assert answer.text == figures(way).text
    assert answer.usage_metadata.prompt_token_count == figures(way).input
    assert answer.usage_metadata.thoughts_token_count == figures(way).reasoning
    way.check_books(operation="generate_content", model=MODEL)


def test_generate_content_stream(way: Way, client: genai.Client) -> None:
    """A streamed answer arrives word by word, and its last usage is the answer's."""
    pieces = list(client.models.generate_content_stream(model=MODEL, contents="How far?"))
    assert "".join(piece.text or "" for piece in pieces) == figures(way).text
    assert pieces[-1].usage_metadata.total_token_count == figures(way).total
    way.check_books(operation="generate_content", stream=1, model=MODEL)


def test_count_tokens(way: Way, client: genai.Client) -> None:
    """Counting tokens passes, and is no usage."""
    counted = client.models.count_tokens(model=MODEL, contents="How far?")
    assert counted.total_tokens == figures(way).input
    for row in way.booked():
        assert row["output_tokens"] is None


def test_embed_content(way: Way, client: genai.Client) -> None:
    """An embedding passes."""
    answer = client.models.embed_content(model="gemini-embedding-001", contents="How far?")
    assert answer.embeddings
    way.check_books()


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, errors.ClientError), (429, errors.ClientError), (503, errors.ServerError)],
)
def test_errors_become_the_clients_exceptions(
    way: Way, client: genai.Client, status: int, kind: type[errors.APIError]
) -> None:
    """Each error status raises the client's own exception."""
    way.upstream.default = Script(status=status)
    with pytest.raises(kind) as caught:
        client.models.generate_content(model=MODEL, contents="How far?")
    assert caught.value.code == status
    way.check_books(status=status)


def test_compatible_endpoint(way: Way) -> None:
    """OpenAI's client against Gemini's compatible endpoint, by the upstream's name, streams."""
    prefix = "" if way.meter is None else "/gemini"
    base = f"{way.base}{prefix}/v1beta/openai/"
    with openai.OpenAI(base_url=base, api_key="rig", max_retries=0) as client:
        messages = [{"role": "user", "content": "How far?"}]
        stream = client.chat.completions.create(model=MODEL, messages=messages, stream=True)
        words = [choice.delta.content or "" for chunk in stream for choice in chunk.choices]
    assert "".join(words) == figures(way).text
    assert way.exchanges[-1].target == "/v1beta/openai/chat/completions"
    way.check_books(model=MODEL)
