"""How much output requests ask for, and holding them to a limit."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taximeter.dialects import dialect_for
from tests.dialects.test_requests import read
from tests.dialects.transcript import CHAT, GEMINI, MESSAGES, OLLAMA, RESPONSES
from tests.rig.effort import effort

COMPLETIONS = "/v1/completions"
INTERACTIONS = "/v1beta/interactions"
GENERATE = "/api/generate"
FAMILIES = {
    CHAT: "openai",
    COMPLETIONS: "openai",
    RESPONSES: "openai",
    MESSAGES: "anthropic",
    "/v1/complete": "anthropic",
    GEMINI: "gemini",
    INTERACTIONS: "gemini",
    OLLAMA: "ollama",
    GENERATE: "ollama",
}


def limit(
    path: str, body: bytes, tokens_max: int = 100, *, name: str = "", method: str = "POST"
) -> bytes | None:
    """Hold a request to a limit."""
    dialect = dialect_for(name or FAMILIES[path], path)
    return dialect.limit_output(dialect.operation(method, path), body, tokens_max)


# What is asked for ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "tokens", "answers"),
    [
        (CHAT, {}, None, 1),
        (CHAT, {"max_tokens": 7}, 7, 1),
        (CHAT, {"max_completion_tokens": 9, "max_tokens": 7, "n": 3}, 9, 3),
        (CHAT, {"max_completion_tokens": None, "max_tokens": 7}, 7, 1),
        (CHAT, {"max_completion_tokens": 7, "max_tokens": 9}, 9, 1),
        (CHAT, {"max_completion_tokens": -1, "max_tokens": 7}, None, 1),
        (CHAT, {"max_completion_tokens": [9], "max_tokens": 7}, None, 1),
        (CHAT, {"max_completion_tokens": "9", "max_tokens": 7}, 9, 1),
        (CHAT, {"max_tokens": 7, "n_predict": 9}, 9, 1),
        (CHAT, {"max_tokens": 7, "n_predict": -1}, None, 1),
        (CHAT, {"max_tokens": 7, "n_predict": None}, 7, 1),
        (CHAT, {"max_tokens": 7, "num_predict": 9}, 9, 1),
        (CHAT, {"max_tokens": 7, "max_output_tokens": 9}, 9, 1),
        (CHAT, {"n_predict": 9}, None, 1),
        (CHAT, {"max_tokens": 7, "n": 100.0}, 7, 100),
        (CHAT, {"max_tokens": 7, "n": "100"}, 7, 100),
        (CHAT, {"max_tokens": 7, "n": "many"}, None, 1),
        (CHAT, {"max_output_tokens": 7, "max_tokens_to_sample": 7}, None, 1),
        (CHAT, {"tools": [{"max_tokens": 7}]}, None, 1),
        (CHAT, {"max_tokens": 7, "best_of": 4, "prompt": ["a", "b"]}, 7, 1),
        (COMPLETIONS, {"max_tokens": 7, "n": 2}, 7, 2),
        (COMPLETIONS, {"n": 2, "best_of": 4, "prompt": "a"}, None, 4),
        (COMPLETIONS, {"n": 2, "prompt": ["a", "b", "c"]}, None, 6),
        (COMPLETIONS, {"n": 2, "prompt": [1, 2, 3]}, None, 2),
        (COMPLETIONS, {"prompt": [[1, 2, 3], [4]]}, None, 2),
        (COMPLETIONS, {"prompt": []}, None, 1),
        (COMPLETIONS, {"max_completion_tokens": 7}, None, 1),
        (COMPLETIONS, {"max_tokens": 7, "n_predict": 9, "best_of": "4"}, 9, 4),
        (RESPONSES, {"max_output_tokens": 7, "n": 3}, 7, 1),
        (RESPONSES, {"max_tokens": 7}, None, 1),
        (RESPONSES, {"max_output_tokens": 7, "max_tokens": 9}, 9, 1),
        (MESSAGES, {"max_tokens": 7, "n": 3}, 7, 1),
        (MESSAGES, {"max_tokens": 7, "max_tokens_to_sample": 9}, 9, 1),
        ("/v1/complete", {"max_tokens_to_sample": 7}, 7, 1),
        (GEMINI, {"generationConfig": {"maxOutputTokens": 7, "candidateCount": 2}}, 7, 2),
        (GEMINI, {"generation_config": {"max_output_tokens": 7, "candidate_count": 2}}, 7, 2),
        (GEMINI, {"generationConfig": {"max_output_tokens": 7}}, 7, 1),
        (GEMINI, {"generationConfig": {"maxOutputTokens": 7, "max_output_tokens": 9}}, 9, 1),
        (GEMINI, {"generationConfig": {"maxOutputTokens": "7", "candidateCount": 2.0}}, 7, 2),
        (GEMINI, {"generationConfig": [], "max_tokens": 7}, None, 1),
        (INTERACTIONS, {"generation_config": {"max_output_tokens": 7}}, 7, 1),
        (OLLAMA, {"options": {"num_predict": 7}, "max_tokens": 9}, 7, 1),
        (GENERATE, {"options": {"num_predict": -1}}, None, 1),
        (GENERATE, {"options": {"num_predict": -2}, "prompt": ["a", "b"]}, None, 1),
        (OLLAMA, {"options": "none"}, None, 1),
    ],
)
def test_what_a_request_asks_for(
    path: str, body: dict[str, object], tokens: int | None, answers: int
) -> None:
    """The most tokens of one answer, by each family's own word, and how many answers.

    Which of several words a server reads is its own affair: the largest number counts, and none
    does if one of them cannot be read.
    """
    facts = read(FAMILIES[path], path, body)
    assert (facts.output_tokens_max, facts.answers) == (tokens, answers)


@pytest.mark.parametrize(
    "value",
    [
        b"0",
        b"-5",
        b"7.5",
        b"7e999999",
        b"7e-9",
        b'"7.5"',
        b'"-7"',
        b"true",
        b"null",
        b"[7]",
        b"9" * 40,
    ],
)
def test_what_is_no_number_of_tokens_is_none(value: bytes) -> None:
    """Missing is not 0: only a whole number from 1 on is a number of tokens, or of answers."""
    for path, body in (
        (CHAT, b'{"model":"m","max_tokens":%b,"n":%b}'),
        (COMPLETIONS, b'{"model":"m","max_tokens":%b,"best_of":%b}'),
        (RESPONSES, b'{"model":"m","max_output_tokens":%b,"n":%b}'),
        (MESSAGES, b'{"model":"m","max_tokens":%b,"n":%b}'),
        (GEMINI, b'{"model":"m","generationConfig":{"maxOutputTokens":%b,"candidateCount":%b}}'),
        (OLLAMA, b'{"model":"m","options":{"num_predict":%b,"n":%b}}'),
    ):
        facts = read(FAMILIES[path], path, body % (value, value))
        assert (facts.output_tokens_max, facts.answers) == (None, 1)
        assert facts.model is not None, "one field's fault loses no other"


@pytest.mark.parametrize("value", [b"7", b"7.0", b"0.7e1", b'"7"', b'" 7 "', b'"007"'])
def test_a_number_is_read_however_it_is_written(value: bytes) -> None:
    """What lenient servers take for a whole number is one here, too."""
    for path, body in (
        (CHAT, b'{"max_tokens":%b,"n":%b}'),
        (COMPLETIONS, b'{"max_tokens":%b,"best_of":%b}'),
        (GEMINI, b'{"generationConfig":{"maxOutputTokens":%b,"candidateCount":%b}}'),
    ):
        facts = read(FAMILIES[path], path, body % (value, value))
        assert (facts.output_tokens_max, facts.answers) == (7, 7)


_FIELDS = "max_tokens max_completion_tokens max_output_tokens n_predict n best_of".split()


@given(
    st.dictionaries(
        st.sampled_from(_FIELDS),
        st.integers(-3, 2**70) | st.none() | st.text(max_size=3) | st.booleans() | st.floats(0, 9),
    ),
    st.sampled_from([CHAT, COMPLETIONS, RESPONSES, MESSAGES]),
)
def test_both_ways_of_reading_agree(body: dict[str, object], path: str) -> None:
    """A body read as if it had come in part asks for the same as one read whole."""
    whole = read(FAMILIES[path], path, body)
    part = read(FAMILIES[path], path, body, whole=False)
    assert (whole.output_tokens_max, whole.answers) == (part.output_tokens_max, part.answers)


# Holding it to a limit ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "limited"),
    [
        # A limit where there is none.
        (CHAT, b' { "model": "m"}', b' {"max_completion_tokens":100, "model": "m"}'),
        (CHAT, b"{}", b'{"max_completion_tokens":100}'),
        (COMPLETIONS, b'{"a":1}', b'{"max_tokens":100,"a":1}'),
        (RESPONSES, b'{"a":1}', b'{"max_output_tokens":100,"a":1}'),
        (MESSAGES, b'{"a":1}', b'{"max_tokens":100,"a":1}'),
        ("/v1/complete", b'{"a":1}', b'{"max_tokens_to_sample":100,"a":1}'),
        (GEMINI, b'{"a":1}', b'{"generationConfig":{"maxOutputTokens":100},"a":1}'),
        (
            INTERACTIONS,
            b'{"input":1}',
            b'{"generation_config":{"max_output_tokens":100},"input":1}',
        ),
        (OLLAMA, b'{"a":1}', b'{"options":{"num_predict":100},"a":1}'),
        (GENERATE, b'{"a":1}', b'{"options":{"num_predict":100},"a":1}'),
        # A lower one in the place of a higher one.
        (CHAT, b'{"max_tokens": 101 ,"a":1}', b'{"max_tokens": 100 ,"a":1}'),
        (CHAT, b'{"max_completion_tokens":1000}', b'{"max_completion_tokens":100}'),
        (
            CHAT,
            b'{"max_tokens":5000,"n":2,"max_completion_tokens":200}',
            b'{"max_tokens":100,"n":2,"max_completion_tokens":100}',
        ),
        (
            CHAT,
            b'{"max_tokens":5000,"max_completion_tokens":20}',
            b'{"max_tokens":100,"max_completion_tokens":20}',
        ),
        (CHAT, b'{"max_tokens":5,"n_predict":5000}', b'{"max_tokens":5,"n_predict":100}'),
        (CHAT, b'{"n_predict":5}', b'{"max_completion_tokens":100,"n_predict":5}'),
        (CHAT, b'{"n_predict":-1}', b'{"max_completion_tokens":100,"n_predict":100}'),
        (RESPONSES, b'{"max_output_tokens":null}', b'{"max_output_tokens":100}'),
        (MESSAGES, b'{"max_tokens":101}', b'{"max_tokens":100}'),
        (
            GEMINI,
            b'{"generationConfig" : { "temperature" : 0.50 } }',
            b'{"generationConfig" : {"maxOutputTokens":100, "temperature" : 0.50 } }',
        ),
        (
            GEMINI,
            b'{"generation_config":{"maxOutputTokens":101}}',
            b'{"generation_config":{"maxOutputTokens":100}}',
        ),
        (
            GEMINI,
            b'{"generation_config":{}}',
            b'{"generation_config":{"max_output_tokens":100}}',
        ),
        (GEMINI, b'{"generationConfig":null}', b'{"generationConfig":{"maxOutputTokens":100}}'),
        (OLLAMA, b'{"options":{"num_predict":-1}}', b'{"options":{"num_predict":100}}'),
        (OLLAMA, b'{"options":{"num_predict":0}}', b'{"options":{"num_predict":100}}'),
        (
            OLLAMA,
            b'{"options":{"seed":1,"num_predict":-2 }}',
            b'{"options":{"seed":1,"num_predict":100 }}',
        ),
        # What is no limit, whatever a server makes of it.
        (CHAT, b'{"max_tokens":1e9}', b'{"max_tokens":100}'),
        (CHAT, b'{"max_tokens":100.5}', b'{"max_tokens":100}'),
        (CHAT, b'{"max_tokens":"5000"}', b'{"max_tokens":100}'),
        (CHAT, b'{"max_tokens":' + b"9" * 5000 + b"}", b'{"max_tokens":100}'),
        (CHAT, b'{"max_tokens":[{"max_tokens":5}]}', b'{"max_tokens":100}'),
        # The word in another place, and written in another way.
        (
            CHAT,
            b'{"tools":[{"max_tokens":5000}],"a":"max_tokens","\\"max_tokens\\":5":2}',
            b'{"max_completion_tokens":100,'
            b'"tools":[{"max_tokens":5000}],"a":"max_tokens","\\"max_tokens\\":5":2}',
        ),
        (CHAT, b'{"max\\u005ftokens":5000}', b'{"max\\u005ftokens":100}'),
        (
            GEMINI,
            b'{"contents":[{"generationConfig":{"maxOutputTokens":9}}],'
            b'"generationConfig":{"x":{"maxOutputTokens":9}}}',
            b'{"contents":[{"generationConfig":{"maxOutputTokens":9}}],'
            b'"generationConfig":{"maxOutputTokens":100,"x":{"maxOutputTokens":9}}}',
        ),
        # Bytes that are no text stay as they are.
        (CHAT, b'{"max_tokens":500,"a":"\xff"}', b'{"max_tokens":100,"a":"\xff"}'),
    ],
)
def test_a_limit_changes_one_thing(path: str, body: bytes, limited: bytes) -> None:
    """The family's own field is set, where it stands or in first place; all else stays."""
    assert limit(path, body) == limited
    assert limit(path, limited) is limited, "what is held already is given back itself"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, b'{"max_tokens":100}'),
        (CHAT, b'{ "max_completion_tokens" : 1 }'),
        (CHAT, b'{"max_completion_tokens":5,"max_tokens":6,"n_predict":7}'),
        (RESPONSES, b'{"max_output_tokens":100}'),
        (MESSAGES, b'{"max_tokens":99}'),
        (GEMINI, b'{"generationConfig":{"max_output_tokens":100}}'),
        (INTERACTIONS, b'{"generation_config":{"max_output_tokens":100}}'),
        (OLLAMA, b'{"options":{"num_predict":100}}'),
    ],
)
def test_who_asks_for_no_more_is_left_alone(path: str, body: bytes) -> None:
    """A limit above what is asked for raises nothing and changes nothing."""
    assert limit(path, body) is body


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, b""),
        (CHAT, b"[]"),
        (CHAT, b"null"),
        (CHAT, b'{"max_tokens":5'),
        (CHAT, b'{"max_tokens":5,}'),
        (CHAT, b'{"max_tokens":5} {"max_tokens":5000}'),
        (CHAT, b'\xef\xbb\xbf{"max_tokens":5}'),
        (CHAT, '{"max_tokens":5}'.encode("utf-16")),
        (CHAT, b'{"max_tokens":NaN}'),
        (CHAT, b"\x1f\x8b\x08"),
        (CHAT, b"max_tokens=5"),
        # A word that stands twice: first wins at some, last at others.
        (CHAT, b'{"max_tokens":5,"max_tokens":5000}'),
        (CHAT, b'{"max_tokens":5000,"max_tokens":5}'),
        (CHAT, b'{"max_tokens":5,"max_tokens":5}'),
        (CHAT, b'{"max_tokens":5,"max_tokens":55}'),
        (CHAT, b'{"max_tokens":55,"max_tokens":5}'),
        (CHAT, b'{"max_tokens":{},"max_tokens":5}'),
        (CHAT, b'{"max_tokens":"}","max_tokens":5}'),
        (CHAT, b'{"a":1,"max_tokens":5,"a":1}'),
        (CHAT, b'{"max_tokens":5,"a":1,"max\\u005ftokens":5000}'),
        (GEMINI, b'{"generationConfig":{},"generationConfig":{}}'),
        (GEMINI, b'{"generationConfig":{},"generation_config":{}}'),
        (GEMINI, b'{"generationConfig":{"maxOutputTokens":5,"max_output_tokens":5}}'),
        (OLLAMA, b'{"options":{"num_predict":5,"num_predict":5000}}'),
        # A word that only some take for the field.
        (CHAT, b'{"Max_Tokens":5000}'),
        (CHAT, b'{"maxTokens":5000}'),
        (CHAT, b'{"max_tokens":5,"MAX_TOKENS":5000}'),
        (CHAT, '{"max_to\u212aens":5000}'.encode()),
        (CHAT, '{"max_token\u017f":5000}'.encode()),
        (OLLAMA, b'{"Options":{"num_predict":5000}}'),
        (OLLAMA, b'{"options":{"num_predict":5},"OPTIONS":{"num_predict":5000}}'),
        # No object where one should be.
        (GEMINI, b'{"generationConfig":[]}'),
        (OLLAMA, b'{"options":"num_predict"}'),
        (CHAT, b"{" + b",".join(b'"k%d":1' % number for number in range(1025)) + b"}"),
        (CHAT, b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    ],
)
def test_what_is_unclear_is_not_limited(path: str, body: bytes) -> None:
    """A body that two readers may read in two ways is refused, not guessed at."""
    assert limit(path, body) is None


@pytest.mark.parametrize(
    ("name", "method", "path"),
    [
        ("openai", "POST", "/v1/embeddings"),
        ("openai", "POST", "/v1/moderations"),
        ("openai", "POST", "/v1/images/generations"),
        ("openai", "POST", "/v1/audio/transcriptions"),
        ("openai", "POST", "/v1/audio/speech"),
        ("openai", "POST", "/v1/videos"),
        ("openai", "POST", "/v1/files"),
        ("openai", "GET", "/v1/models"),
        ("openai", "GET", "/v1/responses/resp_1"),
        ("openai", "POST", "/v1/responses/resp_1/cancel"),
        ("openai", "POST", "/v1/responses/input_tokens"),
        ("anthropic", "POST", "/v1/messages/count_tokens"),
        ("gemini", "POST", "/v1beta/models/m:embedContent"),
        ("gemini", "POST", "/v1beta/models/m:countTokens"),
        ("ollama", "POST", "/api/embed"),
        ("ollama", "POST", "/api/pull"),
    ],
)
@pytest.mark.parametrize("body", [b"", b'{"max_tokens":5000}', b"\xff"])
def test_what_makes_no_text_is_not_touched(name: str, method: str, path: str, body: bytes) -> None:
    """A limit on output has nothing to say about embeddings, images, files and the like."""
    assert limit(path, body, name=name, method=method) is body


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("openai", "/v1/batches"),
        ("openai", "/v1/responses/compact"),
        ("openai", "/v1/realtime"),
        ("openai", "/v1/a/path/to/come"),
        ("anthropic", "/v1/messages/batches"),
        ("anthropic", "/v1/a/path/to/come"),
        ("gemini", "/v1beta/models/m:batchGenerateContent"),
        ("gemini", "/v1beta/a/path/to/come"),
        ("ollama", "/api/a/path/to/come"),
    ],
)
def test_text_that_no_field_limits_is_refused(name: str, path: str) -> None:
    """Where the body has no field for it, a limit is not passed over in silence."""
    assert limit(path, b'{"max_tokens":5}', name=name) is None


def test_an_unknown_path_that_is_sent_nothing_is_let_through() -> None:
    """Fetching what is not known asks for no text; a realtime session does, without a body."""
    assert limit("/v1/conversations/1", b"", name="openai", method="GET") == b""
    assert limit("/v1/realtime", b"", name="openai", method="GET") is None


FIELDS = (
    "max_tokens max_completion_tokens max_output_tokens max_tokens_to_sample n_predict "
    "generationConfig generation_config maxOutputTokens options num_predict stream_options "
    "include_usage input MaxTokens"
).split()

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 10**20) | st.floats(0, 9) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=12,
)
json_objects = st.dictionaries(
    st.sampled_from(FIELDS) | st.text(max_size=3), json_values, max_size=6
)
layouts = st.sampled_from(
    [
        {"separators": (",", ":")},
        {"indent": 2},
        {"ensure_ascii": False, "separators": (" ,\t", "\r\n: ")},
    ]
)

WHERE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    CHAT: ((), ("max_completion_tokens", "max_tokens", "n_predict")),
    COMPLETIONS: ((), ("max_tokens", "n_predict")),
    RESPONSES: ((), ("max_output_tokens",)),
    MESSAGES: ((), ("max_tokens",)),
    "/v1/complete": ((), ("max_tokens_to_sample",)),
    GEMINI: (
        ("generationConfig", "generation_config"),
        ("maxOutputTokens", "max_output_tokens"),
    ),
    OLLAMA: (("options",), ("num_predict",)),
}


def caps_of(path: str, body: dict[str, Any]) -> list[Any]:
    """Take the limits out of a body, and the object that held them, if nothing else is in it."""
    outer, fields = WHERE[path]
    caps = []
    for name in outer:
        inner = body.get(name)
        if isinstance(inner, dict):
            caps += [inner.pop(field) for field in fields if field in inner]
        if inner is None or inner == {}:
            body.pop(name, None)
    if not outer:
        caps += [body.pop(field) for field in fields if field in body]
    return caps


@given(json_objects, layouts, st.sampled_from(sorted(WHERE)), st.integers(1, 10**6))
def test_a_limited_body_means_the_same_but_for_its_limit(
    value: dict[str, Any], layout: dict[str, Any], path: str, tokens_max: int
) -> None:
    """Whatever the body: its limits hold afterwards, and it means nothing else than before."""
    body = json.dumps(value, **layout).encode("utf-8", "replace")
    limited = limit(path, body, tokens_max)
    if limited is None:
        return
    before, after = json.loads(body), json.loads(limited)
    asked, held = caps_of(path, before), caps_of(path, after)
    assert held
    assert all(type(cap) is int and 0 < cap <= tokens_max for cap in held)
    assert json.dumps(before) == json.dumps(after), "the order of the rest stays, too"
    for cap in asked:
        if type(cap) is int and 0 < cap <= tokens_max:
            assert cap in held, "a lower limit is not raised"
    assert limit(path, limited, tokens_max) is limited


@given(json_objects, layouts, st.integers(1, 10**6))
def test_a_limit_and_asking_for_usage_go_together(
    value: dict[str, Any], layout: dict[str, Any], tokens_max: int
) -> None:
    """Both edits on one body, in either order, come to the same meaning."""
    dialect = dialect_for("openai", CHAT)
    body = json.dumps(value, **layout).encode("utf-8", "replace")
    limited, asked = limit(CHAT, body, tokens_max), dialect.ask_usage(body)
    if limited is None or asked is None:
        return
    one, other = dialect.ask_usage(limited), limit(CHAT, asked, tokens_max)
    assert one is not None
    assert other is not None
    meant = json.loads(one)
    assert meant == json.loads(other)
    assert meant["stream_options"]["include_usage"] is True
    assert all(0 < cap <= tokens_max for cap in caps_of(CHAT, meant))


@given(json_objects, st.binary(max_size=3), st.integers(0, 200), st.sampled_from(sorted(WHERE)))
def test_a_broken_body_is_refused_or_limited(
    value: dict[str, Any], noise: bytes, position: int, path: str
) -> None:
    """H4: bytes put in anywhere make no edit raise, and no limit that a reader misses."""
    body = msgspec.json.encode(value)
    body = body[:position] + noise + body[position:]
    limited = limit(path, body)
    if limited is not None:
        held = caps_of(path, json.loads(limited.decode("utf-8", "replace")))
        assert held
        assert all(type(cap) is int and 0 < cap <= 100 for cap in held)


@pytest.mark.parametrize(
    "body",
    [
        b"{" + b",".join(b'"k%d":1' % number for number in range(60_000)) + b"}",
        b'{"max_tokens":' + b"9" * 800_000 + b"}",
        b'{"max_tokens":5,"a":"' + b'\\"' * 400_000 + b'"}',
        b'{"max_tokens":5,"a":[' + b"{}," * 250_000 + b"{}]}",
        b'{"' + b"k" * 800_000 + b'":1,"max_tokens":500}',
        b'{"max_tokens":5,' + b" " * 800_000 + b'"a":1}',
        b"{" * 400_000,
    ],
    ids=["names", "digits", "escapes", "objects", "name", "spaces", "depth"],
)
def test_no_limit_takes_long(body: bytes) -> None:
    """H4: a body made to hurt costs no more than a fraction of a second a megabyte."""

    def read() -> None:
        for path in (CHAT, GEMINI, OLLAMA):
            limit(path, body)
        dialect_for("openai", CHAT).ask_usage(body)

    assert effort(read) < 300
