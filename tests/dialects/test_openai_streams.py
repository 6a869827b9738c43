"""Streams of the OpenAI family, of OpenAI and of those who speak its API a little differently."""

from __future__ import annotations

import msgspec
import pytest

from taximeter.call import Usage
from taximeter.dialects import dialect_for
from tests.dialects.transcript import CHAT, RESPONSES, chunk, read_stream, reader_of, run, sse

USAGE = {
    "prompt_tokens": 1200,
    "completion_tokens": 80,
    "total_tokens": 1280,
    "prompt_tokens_details": {"cached_tokens": 1024, "cache_write_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 64, "audio_tokens": 0},
}
FIGURES = Usage(
    input_tokens=1200,
    output_tokens=80,
    cached_tokens=1024,
    cache_write_tokens=0,
    reasoning_tokens=64,
    input_audio_tokens=0,
    output_audio_tokens=0,
)
ROLE = {"role": "assistant", "content": "", "refusal": None}


def chat(*, asked: bool, **more: object) -> list[object]:
    """Write the events of a chat, with or without usage asked for."""
    extra: dict[str, object] = {"usage": None, **more} if asked else dict(more)
    events = [
        chunk(ROLE, service_tier="default", **extra),
        chunk({"content": "Hi"}, **extra),
        chunk({"content": " there"}, **extra),
        chunk({}, "stop", **extra),
    ]
    return [*events, chunk(None, **{**extra, "usage": USAGE})] if asked else events


def test_a_chat_that_asked_reports_its_usage() -> None:
    """The chunk with empty choices holds the whole usage, and `[DONE]` ends the stream."""
    seen = read_stream("openai", CHAT, sse(*chat(asked=True), "[DONE]"))
    assert seen.answer.usage == FIGURES
    assert seen.answer.final
    assert seen.answer.response_id == "chatcmpl-A1"
    assert seen.answer.response_model == "gpt-5.4-mini-2026-03-17"
    assert seen.answer.service_tier == "default"
    assert seen.answer.finish_reason == "stop"
    assert msgspec.json.decode(seen.answer.raw_usage or "") == USAGE
    assert (seen.events, seen.token_seen, seen.ended) == (5, True, True)


def test_a_chat_that_did_not_ask_has_no_usage() -> None:
    """Missing is not 0: without the usage chunk every figure is unknown."""
    seen = read_stream("openai", CHAT, sse(*chat(asked=False), "[DONE]"))
    assert seen.answer.usage is None
    assert not seen.answer.final
    assert seen.answer.raw_usage is None
    assert seen.ended


def test_the_extra_chunk_is_taken_out_and_nothing_else() -> None:
    """With usage asked on the client's behalf, only the extra chunk does not reach it."""
    events = chat(asked=True)
    stream = b": processing\n\n" + sse(*events, "[DONE]")
    seen = read_stream("openai", CHAT, stream, drop=True)
    assert seen.released == b": processing\n\n" + sse(*events[:-1], "[DONE]")
    assert seen.answer.usage == FIGURES
    assert seen.events == 5


def test_a_role_is_not_a_token() -> None:
    """The first chunk of a chat, with a role and no content, is not the first token."""
    reader = reader_of("openai", CHAT)
    reader.feed(sse(chunk(ROLE)))
    assert not reader.token_seen
    reader.feed(sse(chunk({"content": "Hi"})))
    assert reader.token_seen


@pytest.mark.parametrize(
    ("delta", "token"),
    [
        ({"content": "x"}, True),
        ({"refusal": "no"}, True),
        ({"reasoning_content": "hm"}, True),
        ({"reasoning": "hm"}, True),
        ({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]}, True),
        ({"function_call": {"name": "f"}}, True),
        ({"audio": {"data": "UklGRg=="}}, True),
        ({"audio": {"expires_at": 1}}, False),
        ({"content": None}, False),
        ({}, False),
    ],
)
def test_what_is_a_token(delta: dict[str, object], token: bool) -> None:
    """Content, refusals, tool calls, audio and reasoning are tokens; their absence is not."""
    assert read_stream("openai", CHAT, sse(chunk(delta))).token_seen is token


def test_the_end_is_told_in_the_feed_that_completes_the_marker() -> None:
    """`ended` is set in the very feed whose bytes complete `[DONE]`."""
    reader = reader_of("openai", CHAT)
    for read in (sse(*chat(asked=False)), b"data: [DO", b"NE]\n"):
        reader.feed(read)
        assert not reader.ended
    reader.feed(b"\n")
    assert reader.ended


def test_a_usage_chunk_cut_off_before_its_blank_line_is_read() -> None:
    """The usage is taken although the client will not see the event."""
    stream = sse(*chat(asked=True))[:-1]
    seen = read_stream("openai", CHAT, stream)
    assert seen.answer.usage == FIGURES
    assert not seen.ended


def test_azures_first_chunk_names_no_model_and_is_kept() -> None:
    """A chunk with empty choices but no usage is not the extra one, and names nothing."""
    first = {"id": "", "object": "", "model": "", "choices": [], "prompt_filter_results": []}
    offsets = {"choices": [{"index": 0, "finish_reason": None, "content_filter_offsets": {}}]}
    events = [first, *chat(asked=True)[:-1], offsets]
    stream = sse(*events, chat(asked=True)[-1], "[DONE]")
    seen = read_stream("openai", CHAT, stream, drop=True)
    assert seen.released == sse(*events, "[DONE]")
    assert seen.answer.response_model == "gpt-5.4-mini-2026-03-17"
    assert seen.answer.response_id == "chatcmpl-A1"


def test_groqs_usage_counts_once() -> None:
    """Usage in `x_groq` and again in an extra chunk replaces, and is not added."""
    groq = {"id": "req_1", "usage": {**USAGE, "queue_time": 0.5}}
    alone = sse(chunk({"content": "x"}), chunk({}, "stop", x_groq=groq), "[DONE]")
    assert read_stream("openai", CHAT, alone).answer.usage == FIGURES
    twice = sse(
        chunk({"content": "x"}),
        chunk({}, "stop", x_groq=groq),
        chunk(None, usage=USAGE, x_groq={"id": "req_1", "usage": USAGE}),
        "[DONE]",
    )
    seen = read_stream("openai", CHAT, twice, drop=True)
    assert seen.answer.usage == FIGURES
    assert seen.answer.final
    assert seen.released == sse(chunk({"content": "x"}), chunk({}, "stop", x_groq=groq), "[DONE]")


def test_continuous_usage_is_the_last_one() -> None:
    """Usage on every chunk is cumulative: the last one counts, and no chunk is taken out."""
    events = [
        chunk({"content": "x"}, usage={"prompt_tokens": 9, "completion_tokens": number})
        for number in range(1, 6)
    ]
    seen = read_stream("openai", CHAT, sse(*events), drop=True)
    assert seen.answer.usage == Usage(input_tokens=9, output_tokens=5)
    assert not seen.answer.final, "a figure on the way is not the last word"
    assert seen.released == sse(*events)
    ended = sse(*events, chunk({}, "length", usage={"prompt_tokens": 9, "completion_tokens": 6}))
    seen = read_stream("openai", CHAT, ended)
    assert seen.answer.usage == Usage(input_tokens=9, output_tokens=6)
    assert seen.answer.final


def test_mistrals_usage_on_the_last_content_chunk() -> None:
    """Usage beside a finish reason is the last word, and its chunk is not taken out."""
    last = chunk({"content": ""}, "stop", usage={**USAGE, "prompt_audio_seconds": 3})
    stream = sse(chunk({"content": "x"}), last, "[DONE]")
    seen = read_stream("openai", CHAT, stream, drop=True)
    assert seen.released == stream
    assert seen.answer.final
    assert seen.answer.usage is not None
    assert seen.answer.usage.audio_milliseconds == 3000


def test_xais_reasoning_is_added() -> None:
    """xAI's chat counts reasoning beside the completion, and a total proves it."""
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "completion_tokens_details": {"reasoning_tokens": 20},
    }
    stream = sse(chunk({"content": "x"}), chunk(None, usage=usage), chunk({}, "stop"), "[DONE]")
    seen = read_stream("openai", CHAT, stream, provider="x-ai")
    assert seen.answer.usage is not None
    assert seen.answer.usage.output_tokens == 25
    assert seen.answer.final


def test_openrouters_cost_is_exact() -> None:
    """A stated cost is taken to the pico-dollar from its own digits; comments are no events."""
    usage = msgspec.json.encode({**USAGE, "cost": 0}).replace(
        b'"cost":0', b'"cost":0.0001234567891'
    )
    comment = b": OPENROUTER PROCESSING\n\n"
    extra = msgspec.json.encode(chunk(None, usage=None)).replace(
        b'"usage":null', b'"usage":' + usage
    )
    stream = comment * 3 + sse(chunk({"content": "x"})) + comment + sse(extra, "[DONE]")
    seen = read_stream("openai", CHAT, stream, provider="openrouter")
    assert seen.answer.usage is not None
    assert seen.answer.usage.cost_pico == 123_456_789
    assert seen.events == 2


def test_an_error_chunk_after_200_is_an_error() -> None:
    """An error inside a stream gives its code and ends it; tokens seen before still cost."""
    error = {"error": {"code": 502, "message": "provider fell over", "metadata": {}}}
    failed = chunk({"content": ""}, "error", **error)
    seen = read_stream("openai", CHAT, sse(chunk({"content": "x"}), failed))
    assert seen.answer.error == "502"
    assert seen.ended
    bare = {"error": {"message": "m", "type": "server_error", "param": None, "code": None}}
    seen = read_stream("openai", CHAT, sse(chunk({"content": "x"}), bare))
    assert seen.answer.error == "server_error"
    assert seen.ended


def test_spaced_json_is_read_like_compact_json() -> None:
    """Servers that write a space after each colon are read the same."""
    stream = sse(*chat(asked=True), "[DONE]").replace(b'":', b'": ').replace(b',"', b', "')
    assert read_stream("openai", CHAT, stream, drop=True).answer.usage == FIGURES


def test_legacy_completions_stream() -> None:
    """A legacy completion's chunks have text in their choices."""
    text = {"id": "cmpl-1", "object": "text_completion", "model": "m", "choices": [{"text": "Hi"}]}
    last = {**text, "choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 2}}
    seen = read_stream("openai", "/v1/completions", sse(text, last, "[DONE]"), drop=True)
    assert seen.token_seen
    assert seen.answer.usage == Usage(input_tokens=4, output_tokens=2)
    assert seen.released == sse(text, "[DONE]")


# Responses ------------------------------------------------------------------------------------

RESPONSE_USAGE = {
    "input_tokens": 1200,
    "input_tokens_details": {"cached_tokens": 1024, "cache_write_tokens": 0},
    "output_tokens": 80,
    "output_tokens_details": {"reasoning_tokens": 64},
    "total_tokens": 1280,
}


def response(status: str, usage: object = None, **more: object) -> dict[str, object]:
    """Write a response object."""
    return {
        "id": "resp_1",
        "object": "response",
        "status": status,
        "model": "gpt-5.4-2026",
        "usage": usage,
        **more,
    }


def responses(*ends: dict[str, object], **more: object) -> bytes:
    """Write a stream of the Responses API that ends in `ends`."""
    delta = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "logprobs": []}
    return sse(
        {"type": "response.created", "response": response("in_progress", **more)},
        {"type": "response.output_item.added", "output_index": 0, "item": {"type": "message"}},
        {"type": "response.output_text.delta", "delta": "Hi", **delta},
        {"type": "response.output_text.delta", "delta": " there", **delta},
        *ends,
        event_names=True,
    )


def test_a_response_reports_in_its_terminal_event() -> None:
    """`response.completed` carries usage, tier and end; there is no `[DONE]`."""
    done = response(
        "completed",
        RESPONSE_USAGE,
        service_tier="flex",
        tool_usage={"web_search": {"num_requests": 2}},
    )
    seen = read_stream(
        "openai", RESPONSES, responses({"type": "response.completed", "response": done})
    )
    assert seen.answer.usage == Usage(
        input_tokens=1200,
        output_tokens=80,
        cached_tokens=1024,
        cache_write_tokens=0,
        reasoning_tokens=64,
        web_searches=2,
    )
    assert seen.answer.response_id == "resp_1"
    assert seen.answer.service_tier == "flex"
    assert seen.answer.finish_reason == "completed"
    assert seen.answer.final
    assert seen.ended
    assert seen.token_seen
    assert seen.events == 5


def test_a_response_cut_short_still_costs() -> None:
    """`response.incomplete` and `response.failed` end a stream, with a reason or an error."""
    cut = response("incomplete", RESPONSE_USAGE, incomplete_details={"reason": "max_output_tokens"})
    seen = read_stream(
        "openai", RESPONSES, responses({"type": "response.incomplete", "response": cut})
    )
    assert seen.answer.finish_reason == "max_output_tokens"
    assert seen.answer.usage is not None
    failed = response("failed", None, error={"code": "server_error", "message": "m"})
    seen = read_stream(
        "openai", RESPONSES, responses({"type": "response.failed", "response": failed})
    )
    assert seen.answer.error == "server_error"
    assert seen.answer.usage is None
    assert seen.ended


def test_an_error_event_of_responses_is_the_end() -> None:
    """The typed error event gives its code, wherever it stands."""
    flat = {"type": "error", "code": "rate_limit_exceeded", "message": "m", "param": None}
    assert read_stream("openai", RESPONSES, responses(flat)).answer.error == "rate_limit_exceeded"
    nested = {"type": "error", "error": {"type": "invalid_request_error", "code": None}}
    seen = read_stream("openai", RESPONSES, responses(nested))
    assert seen.answer.error == "invalid_request_error"
    assert seen.ended


def test_a_background_stream_that_breaks_off_is_deferred() -> None:
    """A background run goes on without its stream: its usage will be fetched."""
    seen = read_stream("openai", RESPONSES, responses(background=True))
    assert seen.answer.deferred
    done = {
        "type": "response.completed",
        "response": response("completed", RESPONSE_USAGE, background=True),
    }
    assert not read_stream("openai", RESPONSES, responses(done, background=True)).answer.deferred
    assert not read_stream("openai", RESPONSES, responses()).answer.deferred


def test_responses_without_event_lines_and_with_done_are_read() -> None:
    """Compatible servers leave out `event:` and send `[DONE]`: both are accepted."""
    done = {"type": "response.completed", "response": response("completed", RESPONSE_USAGE)}
    named = responses(done)
    bare = b"\n".join(line for line in named.split(b"\n") if not line.startswith(b"event:"))
    seen = read_stream("openai", RESPONSES, bare + b"data: [DONE]\n\n")
    assert seen.answer.final
    assert seen.token_seen
    assert seen.events == 5


def test_a_terminal_event_of_megabytes_gives_its_usage() -> None:
    """H4: usage is found at the end of an event too large to be kept."""
    done = response("completed", output=[{"text": "x" * (3 << 20)}])
    del done["usage"]  # the last member, behind the text
    done["usage"] = RESPONSE_USAGE
    stream = responses({"type": "response.completed", "response": done})
    reads = [stream[place : place + 65_536] for place in range(0, len(stream), 65_536)]
    seen = run(reader_of("openai", RESPONSES), reads)
    assert seen.answer.usage is not None
    assert seen.answer.usage.input_tokens == 1200
    assert seen.answer.final
    assert seen.ended


# Images, audio --------------------------------------------------------------------------------


def test_an_image_stream_reports_on_completed() -> None:
    """The completed image carries the usage, text and image tokens apart."""
    usage = {
        "input_tokens": 50,
        "input_tokens_details": {"text_tokens": 20, "image_tokens": 30},
        "output_tokens": 4160,
        "total_tokens": 4210,
    }
    stream = sse(
        {"type": "image_generation.partial_image", "b64_json": "AAAA", "partial_image_index": 0},
        {"type": "image_generation.completed", "b64_json": "AAAA", "usage": usage},
        event_names=True,
    )
    seen = read_stream("openai", "/v1/images/generations", stream)
    assert seen.answer.usage == Usage(input_tokens=50, output_tokens=4160, input_image_tokens=30)
    assert seen.token_seen
    assert seen.ended


def test_a_second_image_may_follow_the_first() -> None:
    """A stream of images ends with its bytes, not with the first image."""
    reader = reader_of("openai", "/v1/images/generations")
    done = {"type": "image_generation.completed", "usage": {"input_tokens": 1, "output_tokens": 2}}
    reader.feed(sse(done))
    assert not reader.ended
    reader.feed(sse({**done, "usage": {"input_tokens": 1, "output_tokens": 4}}))
    reader.finish()
    assert reader.ended
    assert reader.answer.usage == Usage(input_tokens=1, output_tokens=4)


def test_a_transcription_stream_reports_on_done() -> None:
    """A transcription's details are singular, and its last event has the usage."""
    usage = {
        "type": "tokens",
        "input_tokens": 14,
        "input_token_details": {"text_tokens": 0, "audio_tokens": 14},
        "output_tokens": 45,
        "total_tokens": 59,
    }
    stream = sse(
        {"type": "transcript.text.delta", "delta": "Hi"},
        {"type": "transcript.text.done", "text": "Hi", "usage": usage},
    )
    seen = read_stream("openai", "/v1/audio/transcriptions", stream)
    assert seen.answer.usage == Usage(input_tokens=14, output_tokens=45, input_audio_tokens=14)
    assert seen.token_seen
    assert seen.ended


def test_a_speech_stream_reports_on_done() -> None:
    """Speech as events has usage in `speech.audio.done`."""
    stream = sse(
        {"type": "speech.audio.delta", "audio": "AAAA"},
        {"type": "speech.audio.done", "usage": {"input_tokens": 3, "output_tokens": 9}},
    )
    seen = read_stream("openai", "/v1/audio/speech", stream)
    assert seen.answer.usage == Usage(input_tokens=3, output_tokens=9)
    assert seen.ended


@pytest.mark.parametrize("media", ["audio/mpeg", "application/json", "text/plain", ""])
def test_only_event_streams_are_streams(media: str) -> None:
    """The parser is chosen by the answer's content type, not by what was asked."""
    dialect = dialect_for("openai", CHAT)
    operation = dialect.operation("POST", CHAT)
    assert dialect.stream_reader(operation, None, media, False) is None


PADDED = (
    '{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":'
    '[{"index":0,"delta":{"content":"%s"},"logprobs":null,"finish_reason":null}],"usage":null,'
    '"obfuscation":"%s"}'
)


def padded(content: str, padding: str) -> bytes:
    """Give a chunk as OpenAI sends it: with random text to hide how long its token is."""
    return b"data: " + (PADDED % (content, padding)).encode() + b"\n\n"


@pytest.mark.parametrize(
    ("said", "dull"),
    [
        (padded(" world", "Xy12"), True),
        (padded("", ""), True),
        (padded("a", 'x","usage":{"prompt_tokens":1,"total_tokens":1},"y":"z'), False),
        (padded('a"},"finish_reason":"stop","x":{"y":"b', "x"), False),
        (padded("a", "x")[:-1] + b"data: 1\n\n", False),
        (padded("a", "x") + padded("b", "y"), False),
        (padded("a", "")[: -len(b'"}\n\n')], False),
        (padded("a", "x")[:-1], False),
        (padded("a\nb", "x"), False),
        (padded("a", "x\ry"), False),
        (padded("a\\n", "x"), True),
        (padded("a", "x").replace(b"null", b"NULL", 1), True),
        (padded("a", "x").replace(b"[{", b"[\r{"), False),
    ],
)
def test_padding_does_not_hide_what_a_chunk_says(said: bytes, dull: bool) -> None:
    """A chunk that differs from the last in text and padding alone is passed on unread."""
    reader = reader_of("openai", CHAT)
    for text in ("Hello", "there"):
        reader.feed(padded(text, "abc"))
    assert reader.is_steady
    assert reader.is_dull(padded(" once", "more"))
    assert reader.is_dull(said) is dull
