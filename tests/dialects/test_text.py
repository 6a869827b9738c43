"""The text of calls, for counting tokens."""

from __future__ import annotations

import msgspec
import pytest

from taximeter.dialects import Countable, dialect_for
from tests.dialects.transcript import (
    CHAT,
    GEMINI,
    JSON,
    LINES,
    MESSAGES,
    OLLAMA,
    RESPONSES,
    SSE,
    chunk,
    sse,
)


def text(
    name: str,
    path: str,
    request: object = None,
    answer: object = None,
    answer_type: str = JSON,
) -> Countable:
    """Give the text of a call."""
    dialect = dialect_for(name, path)

    def data(value: object) -> bytes | None:
        return value if value is None or isinstance(value, bytes) else msgspec.json.encode(value)

    operation = dialect.operation("POST", path)
    return dialect.countable(operation, data(request), answer_type, data(answer))


def test_a_chat_is_counted_message_by_message() -> None:
    """Three tokens a message, three for the answer, one for a name, 85 for an image."""
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    request = {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "name": "ann",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "c",
                        "type": "function",
                        "function": {"name": "f", "arguments": '{"a":1}'},
                    }
                ],
            },
        ],
        "tools": [tool],
    }
    found = text("openai", CHAT, request)
    assert found.input_parts == [
        "system",
        "Be brief.",
        "user",
        "What is this?",
        "ann",
        "assistant",
        "f",
        '{"a":1}',
        msgspec.json.encode(tool).decode(),
    ]
    assert found.input_overhead_tokens == 3 * 3 + 3 + 1 + 85
    assert found.output_parts == []


def test_deltas_of_a_chat_are_joined() -> None:
    """What belongs together is one text: content, reasoning, each tool call, each choice."""
    stream = sse(
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning_content": "Let me "}),
        chunk({"reasoning_content": "see."}),
        chunk({"content": "Hel"}),
        chunk({"content": "lo"}),
        chunk({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"a'}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '":1}'}}]}),
        {"choices": [{"index": 1, "delta": {"content": "Second"}}]},
        "[DONE]",
    )
    found = text("openai", CHAT, None, stream, SSE)
    assert found.output_parts == ["Let me see.", "Hello", "f", '{"a":1}', "Second"]


@pytest.mark.parametrize("cut", range(1, 60))
def test_a_stream_cut_anywhere_gives_what_came(cut: int) -> None:
    """Of a truncated stream the text that came is counted, also from its last, broken event."""
    stream = sse(chunk({"content": "Hello"}), chunk({"content": ' wor"ld\n'}))
    found = text("openai", CHAT, None, stream[: len(stream) - cut], SSE)
    assert "".join(found.output_parts).startswith("Hello")
    assert 'Hello wor"ld\n'.startswith("".join(found.output_parts))


def test_a_plain_answer_is_counted() -> None:
    """The text of a plain answer, with its tool calls."""
    message = {
        "content": "Hi",
        "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}],
    }
    found = text("openai", CHAT, None, {"choices": [{"index": 0, "message": message}]})
    assert found.output_parts == ["Hi", "f", "{}"]


def test_a_plain_answer_cut_short_is_counted() -> None:
    """A broken JSON answer is searched for its texts; half an escape is left out."""
    body = (
        b'{"id":"x","choices":[{"index":0,"message":{"role":"assistant","content":"Hel\\u00e9 \\u00'
    )
    assert text("openai", CHAT, None, body).output_parts == ["Hel\u00e9 "]


def test_a_request_kept_in_part_is_not_counted_for_the_whole() -> None:
    """Of a request that was cut off nothing is counted: it goes by its size."""
    body = b'{"model":"m","messages":[{"role":"user","content":"Hello"},{"content":[{"text":"wor'
    for name, path in (("openai", CHAT), ("anthropic", MESSAGES), ("gemini", GEMINI)):
        found = text(name, path, body)
        assert (found.input_parts, found.input_overhead_tokens) == ([], 0)


def test_a_response_is_counted() -> None:
    """Instructions, items, tools; and the deltas of the answer."""
    request = {
        "instructions": "Be brief.",
        "input": [
            {
                "role": "user",
                "content": [{"type": "input_text", "text": "Hi"}, {"type": "input_image"}],
            },
            {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c"},
            {"type": "function_call_output", "call_id": "c", "output": "42"},
        ],
        "tools": [{"type": "web_search"}],
    }
    delta = {"item_id": "m", "output_index": 0, "content_index": 0}
    stream = sse(
        {"type": "response.output_text.delta", "delta": "Hel", **delta},
        {"type": "response.output_text.delta", "delta": "lo", **delta},
        {"type": "response.completed", "response": {"output": [{"content": [{"text": "Hello"}]}]}},
        event_names=True,
    )
    found = text("openai", RESPONSES, request, stream, SSE)
    assert found.input_parts == [
        "Be brief.",
        "user",
        "Hi",
        "{}",
        "f",
        "42",
        '{"type":"web_search"}',
    ]
    assert found.input_overhead_tokens == 3 * 4 + 3 + 85
    assert found.output_parts == ["Hello"]
    plain = {"output": [{"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}]}
    assert text("openai", RESPONSES, {"input": "Hello"}, plain).output_parts == ["Hi"]
    assert text("openai", RESPONSES, {"input": "Hello"}).input_parts == ["Hello"]


def test_token_ids_count_as_tokens() -> None:
    """Embeddings and completions may be given token ids: each is one token."""
    path = "/v1/embeddings"
    assert text("openai", path, {"input": ["a", "b"]}).input_parts == ["a", "b"]
    assert text("openai", path, {"input": [1, 2, 3]}).input_overhead_tokens == 3
    assert text("openai", path, {"input": [[1, 2], [3]]}).input_overhead_tokens == 3
    found = text("openai", "/v1/completions", {"prompt": "a"}, {"choices": [{"text": "b"}]})
    assert (found.input_parts, found.output_parts) == (["a"], ["b"])


def test_a_message_of_anthropic_is_counted() -> None:
    """System, messages, tools and results; thinking, text and tool input of the answer."""
    request = {
        "system": [{"type": "text", "text": "Be brief."}],
        "messages": [
            {"role": "user", "content": "Hi"},
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "name": "f", "input": {"a": 1}}],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "content": [{"type": "text", "text": "42"}]},
                    {"type": "image", "source": {"type": "base64", "data": "AAAA"}},
                ],
            },
        ],
    }
    stream = sse(
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "thinking", "thinking": ""},
        },
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "thinking_delta", "thinking": "Hm"},
        },
        {
            "type": "content_block_start",
            "index": 1,
            "content_block": {"type": "tool_use", "name": "f", "input": {}},
        },
        {
            "type": "content_block_delta",
            "index": 1,
            "delta": {"type": "input_json_delta", "partial_json": '{"a'},
        },
        {
            "type": "content_block_delta",
            "index": 1,
            "delta": {"type": "input_json_delta", "partial_json": '":1}'},
        },
        event_names=True,
    )
    found = text("anthropic", MESSAGES, request, stream, SSE)
    assert found.input_parts == [
        "Be brief.",
        "user",
        "Hi",
        "assistant",
        "f",
        '{"a":1}',
        "user",
        "42",
    ]
    assert found.input_overhead_tokens == 3 * 4 + 3 + 85
    assert found.output_parts == ["Hm", "f", '{"a":1}']
    plain = {
        "content": [
            {"type": "text", "text": "Hi"},
            {"type": "tool_use", "name": "f", "input": {"a": 1}},
        ]
    }
    assert text("anthropic", MESSAGES, None, plain).output_parts == ["Hi", "f", '{"a":1}']


def test_contents_of_gemini_are_counted() -> None:
    """System instruction, contents with images; texts and thoughts of the answer apart."""
    request = {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {
                "role": "user",
                "parts": [
                    {"text": "Hi"},
                    {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
                ],
            }
        ],
    }
    chunks = [
        {"candidates": [{"index": 0, "content": {"parts": [{"text": "Hm", "thought": True}]}}]},
        {"candidates": [{"index": 0, "content": {"parts": [{"text": "Hel"}]}}]},
        {"candidates": [{"index": 0, "content": {"parts": [{"text": "lo"}]}}]},
    ]
    for answer, media in ((sse(*chunks), SSE), (msgspec.json.encode(chunks), JSON)):
        found = text("gemini", GEMINI, request, answer, media)
        assert found.input_parts == ["Be brief.", "Hi"]
        assert found.input_overhead_tokens == 3 * 2 + 3 + 85
        assert found.output_parts == ["Hm", "Hello"]
    embed = "/v1beta/models/e:embedContent"
    assert text("gemini", embed, {"content": {"parts": [{"text": "a"}]}}).input_parts == ["a"]


def test_chats_of_ollama_are_counted() -> None:
    """Messages with images; lines of the answer."""
    request = {"messages": [{"role": "user", "content": "Hi", "images": ["AAAA"]}]}
    lines = b'{"message":{"content":"Hel"}}\n{"message":{"content":"lo"}}\n{"message":{"conte'
    found = text("ollama", OLLAMA, request, lines, LINES)
    assert found.input_parts == ["user", "Hi"]
    assert found.input_overhead_tokens == 3 + 3 + 85
    assert found.output_parts == ["Hello"]
    generated = text("ollama", "/api/generate", {"prompt": "a", "system": "s"}, {"response": "b"})
    assert (generated.input_parts, generated.output_parts) == (["s", "a"], ["b"])
    assert text("ollama", "/api/embed", {"input": ["a", "b"]}).input_parts == ["a", "b"]


@pytest.mark.parametrize("name", ["openai", "anthropic", "gemini", "ollama"])
@pytest.mark.parametrize(
    "body", [b"", b"{", b"null", b"[1]", b"\xff", b'{"messages":7,"input":{},"contents":[0]}']
)
def test_nothing_readable_has_no_text(name: str, body: bytes) -> None:
    """H4: no body makes counting raise."""
    for media in (JSON, SSE, LINES, "audio/mpeg"):
        found = text(name, "/x", body, body, media)
        assert found.input_parts == []
        assert found.output_parts == []
