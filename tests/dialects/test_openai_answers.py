"""Plain answers of the OpenAI family, whole and by their ends."""

from __future__ import annotations

import msgspec
import pytest

from taximeter.call import Usage
from taximeter.dialects import AnswerFacts, dialect_for
from tests.dialects.transcript import CHAT, JSON, RESPONSES

COMPLETION = {
    "id": "chatcmpl-A1",
    "object": "chat.completion",
    "model": "gpt-5.4-mini-2026-03-17",
    "choices": [{"index": 0, "message": {"content": "Hi."}, "finish_reason": "stop"}],
    "usage": {
        "prompt_tokens": 1200,
        "completion_tokens": 80,
        "total_tokens": 1280,
        "prompt_tokens_details": {"cached_tokens": 1024},
        "completion_tokens_details": {"reasoning_tokens": 64},
    },
    "service_tier": "default",
}


def read(
    body: object,
    path: str = CHAT,
    *,
    status: int = 200,
    provider: str | None = None,
    method: str = "POST",
    ends: int = 0,
) -> AnswerFacts:
    """Read a plain answer, by its first and last `ends` bytes if that is set."""
    dialect = dialect_for("openai", path)
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    operation = dialect.operation(method, path)
    head, tail = (data[:ends], data[-ends:]) if ends else (data, None)
    return dialect.read_answer(operation, provider, status, JSON, head, tail)


def usage(**members: object) -> Usage:
    """Read the usage object of a chat."""
    found = read({**COMPLETION, "usage": members}).usage
    assert found is not None
    return found


def test_a_completion_is_read() -> None:
    """Who answered, why it stopped, and what it used."""
    facts = read(COMPLETION)
    assert facts.usage == Usage(
        input_tokens=1200, output_tokens=80, cached_tokens=1024, reasoning_tokens=64
    )
    assert facts.response_id == "chatcmpl-A1"
    assert facts.response_model == "gpt-5.4-mini-2026-03-17"
    assert facts.finish_reason == "stop"
    assert facts.service_tier == "default"
    assert facts.final
    assert facts.error is None
    assert not facts.clamped


@pytest.mark.parametrize("before", [b"\n\n\n", b"\xef\xbb\xbf", b" \r\n\t"])
def test_blank_lines_and_a_mark_before_the_json_are_skipped(before: bytes) -> None:
    """DeepSeek keeps a queued call alive with blank lines before the answer."""
    assert read(before + msgspec.json.encode(COMPLETION)).usage is not None


@pytest.mark.parametrize(
    "content",
    [
        b'"\\ud83d"',
        b'"\\ud83d and \\ude00"',
        b'"\xff\xfe"',
        b'"a\x00b\nc"',
        b"NaN",
        b"-Infinity",
        b"1e999999999999999999999",
        b"9" * 5000,
    ],
)
def test_what_strict_json_forbids_does_not_hide_the_usage(content: bytes) -> None:
    """H4: lone surrogates, bad UTF-8, control bytes, NaN and huge numbers are survived."""
    body = msgspec.json.encode(COMPLETION).replace(b'"Hi."', content)
    facts = read(body)
    assert facts.usage is not None
    assert facts.usage.input_tokens == 1200
    assert facts.response_model == "gpt-5.4-mini-2026-03-17"


def test_deeply_nested_json_does_not_hide_the_usage() -> None:
    """H4: an answer nested too deeply to be read is looked through for its usage."""
    deep = b"[" * 100_000 + b"]" * 100_000
    body = msgspec.json.encode(COMPLETION).replace(b'"Hi."', deep)
    facts = read(body)
    assert facts.usage is not None
    assert facts.usage.output_tokens == 80


def test_a_field_of_another_type_does_not_lose_the_others() -> None:
    """An id that is a number, choices that are none: the usage is read all the same."""
    facts = read({**COMPLETION, "id": 7, "choices": "none", "model": ["x"], "service_tier": {}})
    assert facts.usage is not None
    assert facts.response_id is None
    assert facts.response_model is None
    assert facts.service_tier is None


def test_names_are_bounded_and_printable() -> None:
    """H8: what goes into labels has no control characters and a bounded length."""
    facts = read({**COMPLETION, "model": "gpt\x1b[31m\n" + "x" * 500, "service_tier": "a b"})
    assert facts.response_model is not None
    assert facts.response_model.startswith("gpt[31mxxx")
    assert len(facts.response_model) == 128
    assert facts.service_tier is None


# Figures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-1, 1.5, "12", True, None, [1], {}, 2**53 + 1, 10**30])
def test_what_is_no_count_is_unknown(value: object) -> None:
    """Missing is not 0, and a negative, a fraction, a text or a giant is no number."""
    found = read({**COMPLETION, "usage": {"prompt_tokens": value, "completion_tokens": 3}}).usage
    assert found == Usage(output_tokens=3)


def test_zero_is_a_value() -> None:
    """A stated 0 stays 0."""
    assert usage(prompt_tokens=0, completion_tokens=0) == Usage(input_tokens=0, output_tokens=0)


def test_nonsense_is_cut_and_flagged() -> None:
    """More cached than input, more reasoning than output: cut to the whole, and told."""
    facts = read(
        {
            **COMPLETION,
            "usage": {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 99, "cache_write_tokens": 3},
                "completion_tokens_details": {"reasoning_tokens": 6},
            },
        }
    )
    assert facts.usage == Usage(
        input_tokens=10,
        output_tokens=5,
        cached_tokens=10,
        cache_write_tokens=0,
        reasoning_tokens=5,
    )
    assert facts.clamped


@pytest.mark.parametrize(
    ("stated", "left"),
    [
        ({"prompt_tokens": 2**40, "completion_tokens": 5}, (2**40, 5)),
        ({"prompt_tokens": 2**40 + 1, "completion_tokens": 5}, (None, 5)),
        ({"prompt_tokens": 7, "completion_tokens": 2**53}, (7, None)),
        ({"prompt_tokens": 7, "completion_tokens": 5, "num_search_queries": 2**41}, (None, 5)),
    ],
)
def test_a_count_beyond_belief_is_dropped_and_flagged(
    stated: dict[str, int], left: tuple[int | None, int | None]
) -> None:
    """What no call can use is unknown, with the total it belongs to; what was said is kept."""
    facts = read({**COMPLETION, "usage": stated})
    assert facts.usage == Usage(input_tokens=left[0], output_tokens=left[1])
    assert facts.clamped == (left != (2**40, 5))
    assert facts.final
    assert msgspec.json.decode(facts.raw_usage or "") == stated


def test_deepseeks_hits_and_misses() -> None:
    """DeepSeek's cache hits are cached tokens; hits and misses are the prompt."""
    assert usage(
        prompt_cache_hit_tokens=30, prompt_cache_miss_tokens=12, completion_tokens=1
    ) == Usage(input_tokens=42, output_tokens=1, cached_tokens=30)


@pytest.mark.parametrize(
    ("provider", "total", "output"),
    [
        ("x-ai", None, 25),
        ("x-ai", 35, 25),
        ("x-ai", 15, 5),
        ("openai", None, 5),
        ("google", 35, 25),
        (None, 15, 5),
        ("perplexity", 15, 25),
    ],
)
def test_whether_reasoning_is_inside_the_output(
    provider: str | None, total: int | None, output: int
) -> None:
    """The stated total tells whether reasoning was left out; else the provider's habit does."""
    stated: dict[str, object] = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "completion_tokens_details": {"reasoning_tokens": 20},
    }
    if total is not None:
        stated["total_tokens"] = total
    facts = read({**COMPLETION, "usage": stated}, provider=provider)
    assert facts.usage is not None
    assert facts.usage.output_tokens == output


def test_the_responses_api_of_xai_is_inclusive() -> None:
    """There output holds the reasoning, whoever answers."""
    stated = {
        "input_tokens": 10,
        "output_tokens": 25,
        "output_tokens_details": {"reasoning_tokens": 20},
    }
    facts = read({"id": "r", "status": "completed", "usage": stated}, RESPONSES, provider="x-ai")
    assert facts.usage == Usage(input_tokens=10, output_tokens=25, reasoning_tokens=20)


@pytest.mark.parametrize(
    ("token", "pico"),
    [
        (b"0.000123", 123_000_000),
        (b"1.23e-4", 123_000_000),
        (b"0", 0),
        (b"0.0", 0),
        (b"3", 3_000_000_000_000),
        (b"0.1", 100_000_000_000),
        (b"1e-13", 0),
        (b"1.5e-12", 2),
        (b"1e400", None),
        (b"1e-999999999", 0),
        (b"1e99999999999999999999", None),
        (b"-1", None),
        (b'"0.1"', None),
        (b"true", None),
    ],
)
def test_a_stated_cost_is_exact(token: bytes, pico: int | None) -> None:
    """Money is made from the number's own digits, never from a float."""
    body = msgspec.json.encode({**COMPLETION, "usage": {"prompt_tokens": 1, "cost": 0}})
    found = read(body.replace(b'"cost":0', b'"cost":' + token)).usage
    assert found == Usage(input_tokens=1, cost_pico=pico)


def test_perplexitys_cost_is_an_object() -> None:
    """Its total is the cost; its searches are searches."""
    body = msgspec.json.encode(
        {
            **COMPLETION,
            "usage": {"prompt_tokens": 1, "num_search_queries": 2, "cost": {"total_cost": 0}},
        }
    ).replace(b'"total_cost":0', b'"total_cost":0.006')
    assert read(body).usage == Usage(input_tokens=1, web_searches=2, cost_pico=6_000_000_000)


def test_with_a_key_of_ones_own_the_providers_bill_is_added() -> None:
    """OpenRouter's fee and the bill of the provider behind it are both paid."""
    body = msgspec.json.encode(
        {
            **COMPLETION,
            "usage": {
                "prompt_tokens": 1,
                "is_byok": True,
                "cost": 1,
                "cost_details": {"upstream_inference_cost": 2},
            },
        }
    )
    found = read(body).usage
    assert found is not None
    assert found.cost_pico == 3 * 10**12


def test_raw_usage_lets_no_text_pass() -> None:
    """H9, H10: prompts, escapes and names that are no names have no way into the raw usage."""
    facts = read(
        {
            **COMPLETION,
            "usage": {
                "prompt_tokens": 1,
                "note": "the user asked about",
                "long": "x" * 33,
                "tier": "flex",
                "ansi": "\x1b[31m",
                "a key with words": 1,
                "k\n": 1,
                "words": ["the", "secret"],
                "deep": {"deeper": {"text": "tell me all", "n": 1.5}},
                "list": [{"modality": "TEXT", "n": 1}],
                "huge": 10**40,
                "flag": True,
                "none": None,
            },
        }
    )
    assert facts.raw_usage is not None
    assert msgspec.json.decode(facts.raw_usage) == {
        "prompt_tokens": 1,
        "tier": "flex",
        "words": [],
        "deep": {"deeper": {"n": 1.5}},
        "list": [{"modality": "TEXT", "n": 1}],
        "flag": True,
        "none": None,
    }


@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize(
    "figure", ["1e999999999", "1e-999999999", "0e999999999", "9e9999999999999"]
)
def test_a_figure_of_any_exponent_is_read(sign: str, figure: str) -> None:
    """C3: however large or small a figure is, nothing raises, and the others are read."""
    usage = f'"prompt_tokens":3,"completion_tokens":2,"cost":{sign}{figure}'
    facts = read(f'{{"usage":{{{usage}}}}}'.encode(), provider="openrouter")
    assert facts.usage is not None
    assert (facts.usage.input_tokens, facts.usage.output_tokens) == (3, 2)
    assert facts.usage.cost_pico in (None, 0)
    assert facts.raw_usage is not None


def test_raw_usage_is_bounded() -> None:
    """A usage object of more than 4,096 characters is not kept; its figures are."""
    facts = read({**COMPLETION, "usage": {f"k{n}": n for n in range(900)} | {"prompt_tokens": 5}})
    assert facts.raw_usage is None
    assert facts.usage == Usage(input_tokens=5)


# Other endpoints ------------------------------------------------------------------------------


def test_embeddings_have_input_alone() -> None:
    """An embedding's output is not stated, and stays unknown."""
    body = {
        "object": "list",
        "data": [],
        "model": "e",
        "usage": {"prompt_tokens": 8, "total_tokens": 8},
    }
    assert read(body, "/v1/embeddings").usage == Usage(input_tokens=8)


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_a_background_run_is_deferred(status: str) -> None:
    """A response that is not finished will be fetched; it has used nothing we know of."""
    facts = read({"id": "resp_1", "status": status, "usage": None, "background": True}, RESPONSES)
    assert facts.deferred
    assert facts.usage is None
    assert not facts.final
    assert facts.response_id == "resp_1"


def test_a_fetched_response_has_the_usage_again() -> None:
    """Fetching is told by the operation; the facts are the same."""
    path = "/v1/responses/resp_1"
    body = {"id": "resp_1", "status": "completed", "usage": {"input_tokens": 1, "output_tokens": 2}}
    facts = read(body, path, method="GET")
    assert dialect_for("openai", path).operation("GET", path).fetch
    assert facts.usage == Usage(input_tokens=1, output_tokens=2)
    assert facts.final


def test_a_failed_response_gives_its_error() -> None:
    """A response that failed under status 200 has an error and may have usage."""
    body = {
        "id": "resp_1",
        "status": "failed",
        "error": {"code": "server_error", "message": "secret"},
        "usage": {"input_tokens": 9},
    }
    facts = read(body, RESPONSES)
    assert facts.error == "server_error"
    assert facts.usage == Usage(input_tokens=9)


@pytest.mark.parametrize(
    ("status", "deferred", "final"),
    [("validating", True, False), ("in_progress", True, False), ("completed", False, True)],
)
def test_a_batch_counts_when_it_has_ended(status: str, deferred: bool, final: bool) -> None:
    """A batch's usage grows while it runs; it is the last word when the batch has ended."""
    body = {
        "id": "batch_1",
        "object": "batch",
        "status": status,
        "model": "m",
        "usage": {"input_tokens": 5},
    }
    facts = read(body, "/v1/batches/batch_1", method="GET")
    assert (facts.deferred, facts.final) == (deferred, final)


def test_a_video_is_deferred_until_it_is_made() -> None:
    """A video is asked for first and fetched later."""
    assert read({"id": "video_1", "status": "queued"}, "/v1/videos").deferred
    assert not read({"id": "video_1", "status": "completed"}, "/v1/videos").deferred


def test_audio_by_its_length() -> None:
    """A transcription priced by the second gives milliseconds."""
    body = b'{"text":"Hi","usage":{"type":"duration","seconds":9.3}}'
    assert read(body, "/v1/audio/transcriptions").usage == Usage(audio_milliseconds=9300)


def test_cached_audio_is_told() -> None:
    """Realtime's shape of details: cached tokens split by kind."""
    body = {
        "usage": {
            "input_tokens": 100,
            "output_tokens": 50,
            "input_token_details": {
                "audio_tokens": 60,
                "cached_tokens": 20,
                "cached_tokens_details": {"audio_tokens": 15},
            },
            "output_token_details": {"audio_tokens": 40},
        }
    }
    assert read(body, "/v1/realtime").usage == Usage(
        input_tokens=100,
        output_tokens=50,
        cached_tokens=20,
        input_audio_tokens=60,
        cached_audio_tokens=15,
        output_audio_tokens=40,
    )


def test_an_image_of_30_mb_is_read_by_its_ends() -> None:
    """H4: usage is found at the end of a huge body, or at its beginning, without decoding it."""
    image_usage = {"input_tokens": 50, "output_tokens": 4160}
    picture = [{"b64_json": "A" * 3_000_000}]
    for body in (
        {"created": 1, "data": picture, "usage": image_usage},
        {"created": 1, "usage": image_usage, "data": picture},
    ):
        facts = read(body, "/v1/images/generations", ends=65_536)
        assert facts.usage == Usage(input_tokens=50, output_tokens=4160)
        assert facts.final


def test_by_its_ends_the_names_are_the_outermost() -> None:
    """A model named inside a message is not the answer's model."""
    body = {
        "nested": {"model": "inner", "usage": {"prompt_tokens": 1}},
        "id": "chatcmpl-9",
        "model": "outer",
        "choices": [{"message": {"content": 'say "usage": {"prompt_tokens": 7}' * 1000}}],
        "usage": {"prompt_tokens": 2},
        "service_tier": "flex",
    }
    facts = read(body, ends=2000)
    assert facts.response_model == "outer"
    assert facts.usage == Usage(input_tokens=2)
    assert facts.service_tier == "flex"


# Errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (
            {"error": {"message": "m", "type": "t", "code": "context_length_exceeded"}},
            "context_length_exceeded",
        ),
        (
            {"error": {"message": "m", "type": "invalid_request_error", "code": None}},
            "invalid_request_error",
        ),
        ({"error": {"message": "m", "type": "BadRequestError", "code": 400}}, "400"),
        ({"object": "error", "message": "m", "type": "NotFoundError", "code": 404}, "404"),
        ({"error": "a text that must not pass"}, "unknown"),
        ({"error": {"code": "a text that must not pass"}}, "unknown"),
        ({"error": {"code": "x" * 65, "type": "fine"}}, "fine"),
        ({"detail": [{"loc": ["body"]}]}, "unknown"),
        (b"<html>502 Bad Gateway</html>", None),
        (b"", None),
        (b'{"error": {"code": "cut off', None),
    ],
)
def test_an_error_is_told_by_a_word(body: object, code: str | None) -> None:
    """H8: the code, else the type, of 64 plain characters; never a text of the upstream's."""
    assert read(body, status=400).error == code
