"""The official OpenAI client, unchanged, finds what it expects."""

from __future__ import annotations

import asyncio
import io
import json
import os
from collections.abc import Iterator

import httpx2
import openai
import pytest

from taximeter.call import usd_text
from tests.clients._ways import Way
from tests.rig import Figures, Script, write_script

MODEL = "gpt-5.4-mini"
TOOL = {
    "type": "function",
    "function": {"name": "fare", "parameters": {"type": "object", "properties": {}}},
}


@pytest.fixture
def client(way: Way) -> Iterator[openai.OpenAI]:
    """A client as an application has it: only its base URL is ours."""
    with openai.OpenAI(base_url=f"{way.base}/v1", api_key="sk-rig", max_retries=0) as made:
        yield made


def ask(text: str = "How far to the harbour?") -> list[dict[str, str]]:
    """Messages of one user's turn."""
    return [{"role": "user", "content": text}]


def figures(way: Way) -> Figures:
    """What the upstream said in its newest answer."""
    found = way.exchanges[-1].figures
    assert found is not None
    return found


def test_chat(way: Way, client: openai.OpenAI) -> None:
    """A chat completion arrives whole, with its usage."""
    answer = client.chat.completions.create(model=MODEL, messages=ask(), user="ann")
    assert answer.choices[0].message.content == figures(way).text
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == figures(way).input
    assert answer.usage.completion_tokens == figures(way).output
    way.check_books(operation="chat", stream=0, user_name="ann", model=MODEL)


def test_a_summary_that_is_asked_for(way: Way, client: openai.OpenAI) -> None:
    """The head of an answer tells what the ledger has; a stream's comment is in nobody's way."""
    asks = {"x-taximeter-summary": "1"}
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=ask(), extra_headers=asks
    )
    assert raw.parse().choices[0].message.content == figures(way).text
    for row in way.booked():
        assert raw.headers["x-taximeter-input-tokens"] == str(row["input_tokens"])
        assert raw.headers["x-taximeter-output-tokens"] == str(row["output_tokens"])
        # Prices are read when they are first asked for.
        cost = raw.headers["x-taximeter-cost-usd"]
        assert cost in ("unknown", usd_text(row["cost_pico"]))
    stream = client.chat.completions.create(
        model=MODEL, messages=ask(), stream=True, extra_headers=asks
    )
    words = [choice.delta.content or "" for chunk in stream for choice in chunk.choices]
    assert "".join(words) == figures(way).text


@pytest.mark.parametrize("asks_usage", [False, True])
def test_chat_stream(way: Way, client: openai.OpenAI, asks_usage: bool) -> None:
    """A streamed chat arrives word by word, with a usage event if and only if it was asked for."""
    options = {"stream_options": {"include_usage": True}} if asks_usage else {}
    stream = client.chat.completions.create(model=MODEL, messages=ask(), stream=True, **options)
    chunks = list(stream)
    words = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(words) == figures(way).text
    usages = [chunk.usage for chunk in chunks if chunk.usage is not None]
    assert [usage.completion_tokens for usage in usages] == [figures(way).output] * asks_usage
    assert all(chunk.choices for chunk in chunks[:-1])
    assert bool(chunks[-1].choices) is not asks_usage
    way.check_books(operation="chat", stream=1)


def test_chat_stream_ends_early(way: Way, client: openai.OpenAI) -> None:
    """A client that leaves a stream is seen to leave by the upstream."""
    script = {"x-rig": write_script(Script(tokens=200, delta_seconds=0.02))}
    with client.chat.completions.create(
        model=MODEL, messages=ask(), stream=True, extra_headers=script
    ) as stream:
        next(iter(stream))
    way.upstream.wait_until(lambda: way.exchanges[-1].client_left_at is not None)
    for row in way.booked():
        assert row["outcome"] == "cancelled"


@pytest.mark.parametrize("stream", [False, True])
def test_tools(way: Way, client: openai.OpenAI, stream: bool) -> None:
    """A tool's arguments arrive whole, also piece by piece."""
    if stream:
        with client.chat.completions.stream(model=MODEL, messages=ask(), tools=[TOOL]) as events:
            message = events.get_final_completion().choices[0].message
    else:
        made = client.chat.completions.create(model=MODEL, messages=ask(), tools=[TOOL])
        message = made.choices[0].message
    assert message.tool_calls
    arguments = message.tool_calls[0].function.arguments
    assert json.loads(arguments) == {"text": figures(way).text}
    way.check_books()


def test_responses(way: Way, client: openai.OpenAI) -> None:
    """A response arrives whole, with its usage."""
    answer = client.responses.create(model=MODEL, input="How far?")
    assert answer.output_text == figures(way).text
    assert answer.usage is not None
    assert answer.usage.output_tokens == figures(way).output
    way.check_books(operation="chat")


def test_responses_stream(way: Way, client: openai.OpenAI) -> None:
    """A streamed response arrives event by event, numbered, to its terminal event."""
    events = list(client.responses.create(model=MODEL, input="How far?", stream=True))
    words = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(words) == figures(way).text
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].type == "response.completed"
    assert events[-1].response.usage is not None
    way.check_books(operation="chat", stream=1)


def test_background_response_is_billed_once(way: Way, client: openai.OpenAI) -> None:
    """A background run is polled to its end; however often it is fetched, it is billed once."""
    run = client.responses.create(model=MODEL, input="How far?", background=True)
    while (found := client.responses.retrieve(run.id)).status != "completed":
        assert found.usage is None
    client.responses.retrieve(run.id)
    rows = way.booked()
    assert sum(row["input_tokens"] or 0 for row in rows if row["booked_on"] is None) == (
        (found.usage.input_tokens if found.usage else 0) if rows else 0
    )


def test_legacy_completions(way: Way, client: openai.OpenAI) -> None:
    """A legacy completion, plain and streamed, says the same."""
    plain = client.completions.create(model=MODEL, prompt="How far?")
    stream = client.completions.create(
        model=MODEL, prompt="How far?", stream=True, stream_options={"include_usage": True}
    )
    words = [choice.text for chunk in stream for choice in chunk.choices]
    assert plain.choices[0].text == "".join(words) == figures(way).text
    way.check_books(operation="text_completion")


def test_embeddings(way: Way, client: openai.OpenAI) -> None:
    """Embeddings, which the client asks for as base64, come back as its numbers."""
    answer = client.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
    assert b'"base64"' in way.exchanges[-1].body
    assert [len(row.embedding) for row in answer.data] == [8, 8]
    assert answer.usage.prompt_tokens == figures(way).input
    way.check_books(operation="embeddings")


def test_moderations(way: Way, client: openai.OpenAI) -> None:
    """A moderation, which costs nothing, passes."""
    assert not client.moderations.create(input="x").results[0].flagged
    way.check_books()


def test_images(way: Way, client: openai.OpenAI) -> None:
    """An image arrives with its usage, plain and streamed."""
    answer = client.images.generate(model="gpt-image-2", prompt="a taxi")
    assert answer.data
    assert answer.data[0].b64_json
    stream = client.images.generate(model="gpt-image-2", prompt="a taxi", stream=True)
    kinds = [event.type for event in stream]
    assert kinds == ["image_generation.partial_image", "image_generation.completed"]
    way.check_books()


def test_transcription(way: Way, client: openai.OpenAI) -> None:
    """A recording goes up as a form, and its text comes back."""
    recording = io.BytesIO(os.urandom(50_000))
    recording.name = "ride.wav"
    answer = client.audio.transcriptions.create(model="gpt-4o-transcribe", file=recording)
    assert answer.text == figures(way).text
    way.check_books(model="gpt-4o-transcribe")


def test_speech(way: Way, client: openai.OpenAI) -> None:
    """Speech comes as bytes, byte for byte."""
    with client.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts", voice="alloy", input="All aboard."
    ) as answer:
        sound = b"".join(answer.iter_bytes())
    assert len(sound) == way.exchanges[-1].body_sent == 8 * 1024
    way.check_books()


def test_files(way: Way, client: openai.OpenAI) -> None:
    """A file of megabytes goes up and comes down byte for byte."""
    content = os.urandom(3_000_000)
    sent = client.files.create(file=("batch.jsonl", content), purpose="batch")
    assert sent.bytes == len(content)
    assert client.files.content(sent.id).read() == content
    way.check_books()


def test_models(way: Way, client: openai.OpenAI) -> None:
    """The list of models passes."""
    assert next(iter(client.models.list())).id == MODEL
    way.check_books()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (404, openai.NotFoundError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ],
)
def test_errors_become_the_clients_exceptions(
    way: Way, client: openai.OpenAI, status: int, kind: type[openai.APIStatusError]
) -> None:
    """Each error status raises the client's own exception, with the upstream's words and id."""
    way.upstream.default = Script(status=status, headers=[("x-should-retry", "false")])
    with pytest.raises(kind) as caught:
        client.chat.completions.create(model=MODEL, messages=ask())
    assert caught.value.code == "scripted"
    assert caught.value.request_id == f"req_{way.exchanges[-1].id}"
    way.check_books(status=status)


def test_an_error_inside_a_stream_is_raised(way: Way, client: openai.OpenAI) -> None:
    """An error event after the stream has begun raises, and what came before is kept."""
    way.upstream.default = Script(error_after_events=3)
    stream = client.chat.completions.create(model=MODEL, messages=ask(), stream=True)
    assert [next(stream).object for _ in range(3)] == ["chat.completion.chunk"] * 3
    with pytest.raises(openai.APIError):
        next(stream)


def test_a_stream_cut_short_is_an_error(way: Way, client: openai.OpenAI) -> None:
    """A stream whose upstream breaks off never looks whole to the client."""
    way.upstream.default = Script(cut_after_events=3, cut="rst", delta_seconds=0.01)
    stream = client.chat.completions.create(model=MODEL, messages=ask(), stream=True)
    with pytest.raises((openai.APIError, httpx2.TransportError)):
        list(stream)
    for row in way.booked():
        assert row["outcome"] == "truncated"


def test_raw_response_has_the_upstreams_headers(way: Way, client: openai.OpenAI) -> None:
    """The upstream's own headers reach the client, repeated ones one by one."""
    way.upstream.default = Script(
        headers=[("x-ratelimit-reset-tokens", "6m0s"), ("set-cookie", "a=1"), ("set-cookie", "b=2")]
    )
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=ask())
    assert raw.headers["x-request-id"] == f"req_{way.exchanges[-1].id}"
    assert raw.headers["x-ratelimit-reset-tokens"] == "6m0s"
    assert raw.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert raw.parse().choices
    assert ("x-taximeter-call-id" in raw.headers) is (way.meter is not None)


async def test_async_client(way: Way) -> None:
    """The asynchronous client, ten calls at once over kept connections, gets ten own answers."""
    async with openai.AsyncOpenAI(
        base_url=f"{way.base}/v1", api_key="sk-rig", max_retries=0
    ) as client:

        async def call(number: int) -> str | None:
            answer = await client.chat.completions.create(
                model=MODEL, messages=ask(f"To house {number}?")
            )
            return answer.choices[0].message.content

        said = await asyncio.gather(*(call(number) for number in range(10)))
    texts = [exchange.figures.text for exchange in way.exchanges if exchange.figures]
    assert sorted(map(str, said)) == sorted(texts)
    if way.meter is not None:
        assert {row["outcome"] for row in way.booked()} == {"completed"}
