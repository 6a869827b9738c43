"""What requests say, what they ask for, and asking for usage on their behalf."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taximeter.dialects import RequestFacts, dialect_for, family_of
from taximeter.dialects._requests import read_json_request, read_patiently
from tests.dialects.transcript import CHAT, GEMINI, JSON, MESSAGES, OLLAMA


def read(
    name: str,
    path: str,
    body: object,
    *,
    content_type: str = JSON,
    whole: bool = True,
    query: str = "",
) -> RequestFacts:
    """Read a request's body."""
    dialect = dialect_for(name, path)
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    operation = dialect.operation("POST", path)
    return dialect.read_request(operation, path, query, content_type, data, whole)


def test_a_chat_says_model_tier_and_user() -> None:
    """The fields of a chat, and that its stream carries usage only if asked."""
    body = {"model": "gpt-5.4", "stream": True, "service_tier": "flex", "user": "u", "messages": []}
    assert read("openai", CHAT, body) == RequestFacts(
        model="gpt-5.4", stream=True, service_tier="flex", user="u", can_ask_usage=True
    )


@pytest.mark.parametrize(
    ("body", "asks", "can"),
    [
        ({"stream": True, "stream_options": {"include_usage": True}}, True, False),
        ({"stream": True, "stream_options": {"include_usage": False}}, False, True),
        ({"stream": True, "stream_options": None}, False, True),
        ({"stream": False}, False, False),
        ({"stream": "true"}, False, False),
        ({}, False, False),
    ],
)
def test_whether_usage_is_asked_for(body: dict[str, object], asks: bool, can: bool) -> None:
    """Usage can be asked for on a stream whose client has not asked."""
    facts = read("openai", CHAT, body)
    assert (facts.asks_usage, facts.can_ask_usage) == (asks, can)


def test_other_streams_need_no_asking() -> None:
    """The Responses API and other families always tell."""
    assert not read("openai", "/v1/responses", {"stream": True}).can_ask_usage
    assert not read("anthropic", MESSAGES, {"stream": True}).can_ask_usage
    assert read("openai", "/v1/completions", {"stream": True}).can_ask_usage


@pytest.mark.parametrize(
    ("body", "user"),
    [
        ({"safety_identifier": "s", "user": "u", "metadata": {"user_id": "m"}}, "s"),
        ({"user": "u", "metadata": {"user_id": "m"}}, "u"),
        ({"metadata": {"user_id": "m"}}, "m"),
        ({"user": 7, "metadata": "none"}, None),
        ({"user": "a\nb\x1b[0m" + "c" * 300}, "ab[0m" + "c" * 123),
        ({"user": "\n"}, None),
    ],
)
def test_who_the_user_is(body: dict[str, object], user: str | None) -> None:
    """`safety_identifier`, else `user`, else `metadata.user_id`; printable, of 128 characters."""
    assert read("openai", CHAT, body).user == user


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b"\x1f\x8b\x08\x00", b'"x"', b"{}"])
def test_a_body_that_is_none_says_nothing(body: bytes) -> None:
    """H4: no body makes a reader raise, and what cannot be read is None."""
    for name, path in (("openai", CHAT), ("anthropic", MESSAGES)):
        assert read(name, path, body) == RequestFacts()


def test_a_body_read_in_part_says_what_came() -> None:
    """The outermost members of a beginning are read, nested ones are not."""
    body = b'{"tools":[{"model":"inner"}],"model":"outer","stream":true,"user":"u","messages":[{"co'
    facts = read("openai", CHAT, body, whole=False)
    assert (facts.model, facts.stream, facts.user) == ("outer", True, "u")
    assert not facts.can_ask_usage, "a body that is not whole cannot be edited"
    assert read("openai", CHAT, b'{"model":"cut o', whole=False).model is None


def multipart(*fields: tuple[str, bytes], boundary: bytes = b"x-42") -> bytes:
    """Write a multipart body; a field named `file` is a file."""
    parts = b""
    for name, value in fields:
        file = b'; filename="a.mp3"' if name == "file" else b""
        head = b'Content-Disposition: form-data; name="' + name.encode() + b'"' + file
        parts += b"--" + boundary + b"\r\n" + head + b"\r\n\r\n" + value + b"\r\n"
    return parts + b"--" + boundary + b"--\r\n"


def test_a_multipart_body_says_model_and_stream() -> None:
    """Short fields are found before and behind a file; the file is not looked at."""
    evil = b'\r\n\r\nname="model"\r\n\r\nfake' + b"\x00\xff" * 100_000
    body = multipart(("stream", b"true"), ("file", evil), ("model", b"gpt-4o-transcribe"))
    path = "/v1/audio/transcriptions"
    facts = read("openai", path, body, content_type='multipart/form-data; boundary="x-42"')
    assert (facts.model, facts.stream) == ("gpt-4o-transcribe", True)
    part = body[: len(body) // 2]
    facts = read(
        "openai", path, part, content_type="multipart/form-data; boundary=x-42", whole=False
    )
    assert (facts.model, facts.stream) == (None, True)
    assert read("openai", path, body, content_type="multipart/form-data") == RequestFacts()


def test_what_is_priced_by_the_piece_is_counted() -> None:
    """Images asked for, and characters to be spoken."""
    images = "/v1/images/generations"
    assert read("openai", images, {"model": "gpt-image-2", "n": 3}).images == 3
    assert read("openai", images, {"model": "gpt-image-2"}).images == 1
    assert read("openai", images, {"n": -3}).images is None
    edits = multipart(("n", b"2"), ("file", b"x"))
    content_type = "multipart/form-data; boundary=x-42"
    assert read("openai", "/v1/images/edits", edits, content_type=content_type).images == 2
    speech = {"model": "tts-1", "input": "Grüße 你"}
    assert read("openai", "/v1/audio/speech", speech).input_characters == 7
    assert read("openai", CHAT, {"model": "m", "n": 2}).images is None


def test_a_batch_has_batch_prices() -> None:
    """Creating a batch says so."""
    assert read("openai", "/v1/batches", {"input_file_id": "f"}).batch
    assert read("anthropic", "/v1/messages/batches", {"requests": []}).batch


def test_models_in_paths_and_queries() -> None:
    """Azure names a deployment, Gemini a model, in the path; realtime in the query."""
    azure = "/openai/deployments/my-gpt/chat/completions"
    assert read("openai", azure, {"messages": []}).model == "my-gpt"
    assert read("openai", azure, {"model": "gpt-5"}).model == "gpt-5"
    assert read("openai", "/v1/realtime", b"", query="model=gpt-realtime").model == "gpt-realtime"
    facts = read("gemini", GEMINI, {"contents": [], "serviceTier": "flex"})
    assert (facts.model, facts.stream, facts.service_tier) == ("gemini-3-flash", True, "flex")
    plain = "/v1beta/models/gemini-3-flash:generateContent"
    assert not read("gemini", plain, {"contents": []}).stream
    asked = read("gemini", "/v1beta/interactions", {"model": "gemini-3-pro", "stream": True})
    assert (asked.model, asked.stream) == ("gemini-3-pro", True)


@pytest.mark.parametrize(
    ("body", "stream"), [({}, True), ({"stream": True}, True), ({"stream": False}, False)]
)
def test_ollama_streams_unless_told_not_to(body: dict[str, object], stream: bool) -> None:
    """Ollama's own API streams by default; embeddings do not."""
    assert read("ollama", OLLAMA, {"model": "llama3.2", **body}).stream is stream
    assert not read("ollama", "/api/embed", {"model": "e"}).stream


# Asking for usage -----------------------------------------------------------------------------

ASKED = b'"stream_options":{"include_usage":true}'


@pytest.mark.parametrize(
    ("body", "edited"),
    [
        (b'{"model":"m","stream":true}', b"{" + ASKED + b',"model":"m","stream":true}'),
        (b' \n{ "stream":true}\n', b" \n{" + ASKED + b', "stream":true}\n'),
        (b"{}", b"{" + ASKED + b"}"),
        (b'{"stream_options":null,"a":1}', b"{" + ASKED + b',"a":1}'),
        (b'{"stream_options": {} }', b'{"stream_options": {"include_usage":true} }'),
        (
            b'{"a":1,"stream_options":{"include_obfuscation":false}}',
            b'{"a":1,"stream_options":{"include_usage":true,"include_obfuscation":false}}',
        ),
        (
            b'{"stream_options" : { "include_usage" : false , "x":1}}',
            b'{"stream_options" : { "include_usage" : true , "x":1}}',
        ),
        (b'{"stream_options":{"include_usage":null}}', b"{" + ASKED + b"}"),
        (
            b'{"tools":[{"stream_options":{"include_usage":false}}]}',
            b"{" + ASKED + b',"tools":[{"stream_options":{"include_usage":false}}]}',
        ),
        (
            b'{"messages":[{"content":"\\"stream_options\\": {}"}]}',
            b"{" + ASKED + b',"messages":[{"content":"\\"stream_options\\": {}"}]}',
        ),
        (b'{"stream_options":{"include_usage":true}}', None),
        (b'{"stream_options":"yes"}', None),
        (b'{"stream_options":{},"stream_options":{}}', None),
        (
            b'{"a":{"stream_options":{}},"stream_options":{}}',
            b'{"a":{"stream_options":{}},"stream_options":{"include_usage":true}}',
        ),
        (b'{"stream_options":{},"STREAM_OPTIONS":{}}', None),
        (
            b'{"stream\\u005foptions": {"x":1}}',
            b'{"stream\\u005foptions": {"include_usage":true,"x":1}}',
        ),
        (
            b'{"a":{"stream_options":{"include_usage":false}},'
            b'"stream_options":{"include_usage":true}}',
            None,
        ),
        (b'{"stream":true', None),
        (b"[]", None),
        (b"", None),
        (b"\xef\xbb\xbf{}", None),
        (b"\x1f\x8b", None),
    ],
)
def test_asking_for_usage_changes_one_thing(body: bytes, edited: bytes | None) -> None:
    """The option is spliced in; every other byte stays, and what is unclear is left alone."""
    assert dialect_for("openai", CHAT).ask_usage(body) == edited


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.text() | st.just("stream_options"), inner)
        ),
        max_leaves=12,
    ),
    st.sampled_from([0, 2]),
)
def test_an_edited_body_means_the_same_with_usage_asked(value: object, indent: int) -> None:
    """Whatever the body, an edit adds the option and changes nothing else it means."""
    body = msgspec.json.format(msgspec.json.encode({"stream": True, "x": value}), indent=indent)
    edited = dialect_for("openai", CHAT).ask_usage(body)
    assert edited is not None
    meant = msgspec.json.decode(edited)
    assert meant.pop("stream_options") == {"include_usage": True}
    assert meant == msgspec.json.decode(body)


@pytest.mark.parametrize(
    ("status", "body", "refused"),
    [
        (400, b'{"error":{"message":"Unrecognized request argument: stream_options"}}', True),
        (422, b'{"detail":[{"type":"extra_forbidden","loc":["body","stream_options"]}]}', True),
        (400, b'{"message":"include_usage is not supported"}', True),
        (400, b'{"error":{"message":"extra fields not permitted: stream options"}}', True),
        (400, b'{"error":{"message":"context length exceeded"}}', False),
        (422, b'{"detail":"extra fields not permitted: temperature"}', False),
        (400, b'{"errors":{"stream_options":["unknown field"]}}', True),
        (400, b'stream_options: no such option {"input":', True),
        (
            422,
            b'{"detail":[{"loc":["body","messages"],"msg":"Field required","input":'
            b'{"stream":true,"stream_options":{"include_usage":true}}}]}',
            False,
        ),
        (
            422,
            b'{"detail":[{"msg":"Extra inputs are not permitted","loc":["body","top_p"]}],'
            b'"body":{"stream":true,"stream_options":{"include_usage":true}}}',
            False,
        ),
        (
            422,
            b'{"detail":[{"msg":"Extra inputs are not permitted","loc":["body","stream_options"],'
            b'"input":{"include_usage":true}}]}',
            True,
        ),
        (500, b'{"error":{"message":"stream_options"}}', False),
        (400, b"", False),
    ],
)
def test_a_refusal_of_the_option_is_recognised(status: int, body: bytes, refused: bool) -> None:
    """Only a 400 or 422 that speaks of the option, so that an upstream is not misremembered."""
    assert dialect_for("openai", CHAT).refuses_usage(status, body) is refused
    assert not dialect_for("anthropic", MESSAGES).refuses_usage(status, body)


# Paths ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "family"),
    [
        ("/v1/chat/completions", "openai"),
        ("/v1/messages", "anthropic"),
        ("/v1/messages/count_tokens", "anthropic"),
        ("/v1/messagesx", "openai"),
        ("/v1/threads/t/messages", "openai"),
        ("/v1beta/models/g:generateContent", "gemini"),
        ("/v1beta/openai/chat/completions", "gemini"),
        ("/api/chat", "ollama"),
        ("/api/generate", "ollama"),
        ("/api/tags", "ollama"),
        ("/api/blobs/sha256:1", "ollama"),
        ("/api/chat/completions", "openai"),
        ("/anything", "openai"),
        ("/", "openai"),
    ],
)
def test_the_family_of_a_path_without_an_upstream(path: str, family: str) -> None:
    """The default routing rule, path by path."""
    assert family_of(path) == family


@pytest.mark.parametrize(
    ("name", "path", "spoken"),
    [
        ("openai", "/v1/chat/completions", "openai"),
        ("openai", "/chat/completions", "openai"),
        ("openai", "/api/v1/chat/completions", "openai"),
        ("openai", "/v1/messages", "anthropic"),
        ("openai", "/messages", "anthropic"),
        ("openai", "/api/v1/messages", "anthropic"),
        ("openai", "/v1/threads/t/messages", "openai"),
        ("openai", "/v1/chat/completions/c/messages", "openai"),
        ("openai", "/v1beta/models/g:generateContent", "gemini"),
        ("openai", "/api/chat", "ollama"),
        ("openai", "/api/chat/completions", "openai"),
        ("gemini", "/v1beta/openai/chat/completions", "openai"),
        ("gemini", "/v1beta/openai/models", "openai"),
        ("gemini", "/v1beta/models/g:streamGenerateContent", "gemini"),
        ("gemini", "/v1/projects/p/locations/l/endpoints/openapi/chat/completions", "openai"),
        ("gemini", "/v1beta/interactions", "gemini"),
        ("ollama", "/v1/chat/completions", "openai"),
        ("ollama", "/v1/embeddings", "openai"),
        ("ollama", "/v1/messages", "anthropic"),
        ("ollama", "/api/chat", "ollama"),
        ("ollama", "/api/embeddings", "ollama"),
        ("ollama", "/chat/completions", "openai"),
        ("ollama", "/chat", "ollama"),
        ("anthropic", "/v1/messages/batches", "anthropic"),
        ("anthropic", "/v1/models", "anthropic"),
        ("anthropic", "/v1/chat/completions", "openai"),
    ],
)
def test_what_a_path_says_for_certain_wins(name: str, path: str, spoken: str) -> None:
    """An upstream may speak several families: the path tells which."""
    assert dialect_for(name, path).name == spoken


def test_an_unknown_dialect_is_refused() -> None:
    """A name that is none is an error of the caller."""
    with pytest.raises(KeyError):
        dialect_for("klingon", "/v1/chat/completions")


@pytest.mark.parametrize("prefix", ["", "/v1", "/api/v1", "/openai/v1", "/openai/deployments/d"])
@pytest.mark.parametrize(
    ("method", "path", "name", "api", "flags"),
    [
        ("POST", "/chat/completions", "chat", "chat_completions", ""),
        ("POST", "/chat/completions/", "chat", "chat_completions", ""),
        ("GET", "/chat/completions/c1", "fetch_response", "chat_completions", "fetch"),
        ("DELETE", "/chat/completions/c1", "other", "chat_completions", "free"),
        ("POST", "/responses", "chat", "responses", ""),
        ("GET", "/responses/resp_1", "fetch_response", "responses", "fetch"),
        ("POST", "/responses/resp_1/cancel", "fetch_response", "responses", "fetch"),
        ("DELETE", "/responses/resp_1", "other", "responses", "free"),
        ("GET", "/responses/resp_1/input_items", "other", "responses", "free"),
        ("POST", "/responses/compact", "compaction", "responses", ""),
        ("POST", "/responses/input_tokens", "count_tokens", "count_tokens", "free"),
        ("POST", "/completions", "text_completion", "completions", ""),
        ("POST", "/embeddings", "embeddings", "embeddings", ""),
        ("POST", "/moderations", "moderation", "moderations", "free"),
        ("POST", "/images/generations", "generate_content", "images", ""),
        ("POST", "/images/edits", "generate_content", "images", ""),
        ("POST", "/audio/transcriptions", "transcription", "transcriptions", ""),
        ("POST", "/audio/translations", "translation", "translations", ""),
        ("POST", "/audio/speech", "speech", "speech", ""),
        ("POST", "/videos", "generate_content", "videos", ""),
        ("GET", "/videos/v1", "fetch_response", "videos", "fetch"),
        ("GET", "/videos/v1/content", "other", "videos", "free"),
        ("POST", "/batches", "batch", "batches", ""),
        ("GET", "/batches/b1", "fetch_response", "batches", "fetch"),
        ("GET", "/batches", "other", "batches", "free"),
        ("POST", "/files", "other", "files", "free"),
        ("GET", "/files/f1/content", "other", "files", "free"),
        ("GET", "/models", "other", "models", "free"),
        ("GET", "/models/gpt-5", "other", "models", "free"),
        ("GET", "/realtime", "chat", "realtime", ""),
        ("POST", "/whatever", "other", "other", ""),
        ("OPTIONS", "/whatever", "other", "other", "free"),
    ],
)
def test_operations_of_the_openai_family(
    prefix: str, method: str, path: str, name: str, api: str, flags: str
) -> None:
    """Each endpoint is known by the end of its path, whatever stands before it."""
    found = dialect_for("openai", prefix + path).operation(method, prefix + path)
    assert (found.name, found.api) == (name, api)
    assert (found.free, found.fetch) == (flags == "free", flags == "fetch")


@pytest.mark.parametrize(
    ("family", "method", "path", "name", "api", "flags"),
    [
        ("anthropic", "POST", "/v1/messages", "chat", "messages", ""),
        ("anthropic", "POST", "/messages", "chat", "messages", ""),
        ("anthropic", "POST", "/v1/messages/count_tokens", "count_tokens", "count_tokens", "free"),
        ("anthropic", "POST", "/v1/messages/batches", "batch", "batches", ""),
        ("anthropic", "GET", "/v1/messages/batches/b", "fetch_response", "batches", "fetch"),
        ("anthropic", "GET", "/v1/models", "other", "models", "free"),
        (
            "gemini",
            "POST",
            "/v1beta/models/g:generateContent",
            "generate_content",
            "generate_content",
            "",
        ),
        ("gemini", "POST", GEMINI, "generate_content", "generate_content", "stream"),
        ("gemini", "POST", "/v1beta/models/e:embedContent", "embeddings", "embed_content", ""),
        (
            "gemini",
            "POST",
            "/v1beta/models/e:batchEmbedContents",
            "embeddings",
            "embed_content",
            "",
        ),
        ("gemini", "POST", "/v1beta/models/g:countTokens", "count_tokens", "count_tokens", "free"),
        (
            "gemini",
            "POST",
            "/v1/projects/p/locations/l/publishers/google/models/g:generateContent",
            "generate_content",
            "generate_content",
            "",
        ),
        ("gemini", "POST", "/v1beta/models/g:batchGenerateContent", "batch", "batches", ""),
        ("gemini", "POST", "/v1beta/models/v:predictLongRunning", "generate_content", "videos", ""),
        ("gemini", "GET", "/v1beta/models", "other", "models", "free"),
        ("gemini", "POST", "/v1beta/interactions", "generate_content", "generate_content", ""),
        ("ollama", "POST", "/api/chat", "chat", "ollama_chat", ""),
        ("ollama", "POST", "/api/generate", "text_completion", "ollama_generate", ""),
        ("ollama", "POST", "/api/embed", "embeddings", "ollama_embed", ""),
        ("ollama", "POST", "/api/embeddings", "embeddings", "ollama_embed", ""),
        ("ollama", "GET", "/api/tags", "other", "models", "free"),
    ],
)
def test_operations_of_the_other_families(
    family: str, method: str, path: str, name: str, api: str, flags: str
) -> None:
    """The same for Anthropic, Gemini and Ollama."""
    found = dialect_for(family, path).operation(method, path)
    assert (found.name, found.api) == (name, api)
    stated = {"free": found.free, "fetch": found.fetch, "stream": found.stream}
    assert [flag for flag, value in stated.items() if value] == ([flags] if flags else [])


@pytest.mark.parametrize(
    ("family", "method", "path"),
    [
        ("openai", "POST", "/v1/uploads"),
        ("openai", "POST", "/v1/uploads/u1/parts"),
        ("openai", "POST", "/v1/uploads/u1/complete"),
        ("openai", "DELETE", "/v1/files/f1"),
        ("openai", "GET", "/v1/models/meta-llama/Llama-3"),
        ("openai", "GET", "/v1/models/meta-llama%2FLlama-3"),
        ("anthropic", "POST", "/v1/files"),
        ("anthropic", "DELETE", "/v1/messages/batches/b1"),
        ("gemini", "POST", "/upload/v1beta/files"),
        ("gemini", "DELETE", "/v1beta/files/f1"),
        ("ollama", "POST", "/api/show"),
        ("ollama", "POST", "/api/pull"),
        ("ollama", "DELETE", "/api/delete"),
        ("ollama", "POST", "/api/blobs/sha256:29fd"),
        ("ollama", "HEAD", "/api/blobs/sha256:29fd"),
    ],
)
def test_what_is_free_is_known_by_its_method_and_shape(family: str, method: str, path: str) -> None:
    """What its provider gives for nothing counts as free."""
    assert dialect_for(family, path).operation(method, path).free


@pytest.mark.parametrize(
    ("family", "path"),
    [
        ("openai", "/v1/chat/completions/."),
        ("openai", "/v1/chat/completions//"),
        ("openai", "/v1/chat/completions/x"),
        ("openai", "/v1/chat/completions/x/.."),
        ("openai", "/v1/chat/completions/files"),
        ("openai", "/v1/chat/completions/%2e"),
        ("openai", "/v1/chat/completions/%252E%252e"),
        ("openai", "/v1/chat/completions/;a=b/..;a=b"),
        ("openai", "/v1/files/../chat/files"),
        ("openai", "/v1/files/..%2fchat/files"),
        ("openai", "/v1/files/..%5cchat\\files"),
        ("openai", "/v1/responses/x"),
        ("openai", "/v1/responses/."),
        ("openai", "/v1/files/f1"),
        ("openai", "/v1/videos/v1/x"),
        ("openai", "/v1/batches/b1"),
        ("openai", "/models/meta-llama/Llama-3"),
        ("openai", "/v2/models/llama/generate"),
        ("openai", "/v1/models/llama:predict"),
        ("openai", "/v1/models/llama:predict/files"),
        ("anthropic", "/v1/messages/."),
        ("anthropic", "/v1/messages/batches/x/../.."),
        ("gemini", "/v1beta/models/g:generateContent/."),
        ("gemini", "/v1beta/models/g:generateContent/files"),
        ("gemini", "/v1beta/files/../models/g:generateContent%20"),
        ("ollama", "/api/blobs/../chat"),
        ("ollama", "/api/blobs/x"),
        ("ollama", "/api/chat/."),
    ],
)
def test_a_suffix_or_a_detour_makes_no_call_free(family: str, path: str) -> None:
    """A POST that no row knows may make anything, and a path with detours may mean any other."""
    found = dialect_for(family, path).operation("POST", path)
    assert (found.name, found.api, found.free, found.fetch) == ("other", "other", False, False)


def test_a_secret_for_realtime_is_not_free() -> None:
    """It can be used for any model past every limit, so it is no call to let through unlooked."""
    path = "/v1/realtime/client_secrets"
    assert not dialect_for("openai", path).operation("POST", path).free


NUMBERS = st.none() | st.sampled_from([-1, 0, 1, 2, 100, 2**53, 2**53 + 1, 10**30, 1.0, True, "5"])
NAMES = st.none() | st.sampled_from(
    ["", "m", "a b", "a\nb", "\u0000", "é", "x" * 128, "x" * 129, 7]
)
SWITCHES = st.none() | st.booleans() | st.sampled_from(["true", 1, {}])
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "model": NAMES,
        "stream": SWITCHES,
        "stream_options": SWITCHES | st.fixed_dictionaries({"include_usage": SWITCHES}),
        "service_tier": NAMES,
        "safety_identifier": NAMES,
        "user": NAMES,
        "metadata": NAMES | st.fixed_dictionaries({"user_id": NAMES}),
        "max_completion_tokens": NUMBERS,
        "max_tokens": NUMBERS,
        "max_output_tokens": NUMBERS,
        "n": NUMBERS,
        "best_of": NUMBERS,
        "input": NAMES,
        "prompt": NAMES | st.lists(NAMES, max_size=3),
    },
)
OPERATIONS = [
    dialect_for(name, path).operation("POST", path)
    for name, path in [
        ("openai", CHAT),
        ("openai", "/v1/completions"),
        ("openai", "/v1/responses"),
        ("openai", "/v1/embeddings"),
        ("openai", "/v1/audio/speech"),
        ("openai", "/v1/images/generations"),
        ("openai", "/v1/batches"),
        ("openai", "/v1/none/of/these"),
        ("anthropic", MESSAGES),
        ("gemini", GEMINI),
        ("ollama", OLLAMA),
    ]
]


@settings(max_examples=300)
@given(REQUESTS)
def test_the_short_way_and_the_patient_one_say_the_same_of_a_request(said: object) -> None:
    """Whatever a body's fields are, on each endpoint both ways tell the same."""
    body = msgspec.json.encode(said)
    for operation in OPERATIONS:
        facts = read_json_request(operation, body, True)
        assert facts == read_patiently(operation, body, True)
        for text in (facts.model, facts.user, facts.service_tier):
            assert text is None or (text.isprintable() and 0 < len(text) <= 128)


@pytest.mark.parametrize(
    "value",
    [b"5.0", b"5e0", b"-0", b"0", b"05", b"5.", b"+5", b"0x5", b" 5 ", b"NaN", b'"5"', b"[5]"],
)
def test_a_number_written_in_any_way_is_the_same_limit_both_ways(value: bytes) -> None:
    """However a number is spelled, no way takes a limit that the other does not."""
    for name in (b"max_completion_tokens", b"max_tokens", b"max_output_tokens", b"n"):
        body = b'{"model":"m","%b":%b}' % (name, value)
        for operation in OPERATIONS:
            assert read_json_request(operation, body, True) == read_patiently(operation, body, True)


def test_a_request_cut_anywhere_is_the_same_both_ways() -> None:
    """Cut off at each of its bytes, or without one of them, a body is read the same."""
    said = {"model": "gpt", "user": "ä", "max_tokens": 7, "n": 2, "metadata": {"user_id": "u"}}
    body = msgspec.json.encode(said)
    for place in range(len(body) + 1):
        for cut in (body[:place], body[:place] + body[place + 1 :]):
            for operation in OPERATIONS:
                patient = read_patiently(operation, cut, True)
                assert read_json_request(operation, cut, True) == patient
