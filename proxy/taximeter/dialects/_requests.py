"""What a request's body says, for the families whose bodies are JSON objects.

A body that is only there in part (it outgrew the cap and streams through) is read as far as its
outermost members go. A multipart body (audio, images) is read for its short fields only; its
files are never looked at.

Nearly every body is read the short way: its fields are decoded straight into the types they
should have. At the first that is of another type the patient way is taken, which loses no field
over another's fault. Both give the same facts.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec

from taximeter.dialects import _json, _scan
from taximeter.dialects._contract import Operation, RequestFacts
from taximeter.dialects._output import most
from taximeter.dialects._usage import COUNT_MAX, count

PARTS_MAX: Final = 64
"""Most parts of a multipart body that are looked at."""

_FIELD_BYTES_MAX: Final = 1024
_FIELDS: Final = frozenset({"model", "stream", "user", "n", "safety_identifier", "service_tier"})
_PART_NAME: Final = re.compile(rb'name="?([A-Za-z_]{1,32})"?', re.IGNORECASE)
_BOUNDARY: Final = re.compile(r'boundary="?([^";,]{1,200})"?', re.IGNORECASE)


class _Request(msgspec.Struct):
    model: msgspec.Raw = _json.ABSENT
    stream: msgspec.Raw = _json.ABSENT
    stream_options: msgspec.Raw = _json.ABSENT
    service_tier: msgspec.Raw = _json.ABSENT
    safety_identifier: msgspec.Raw = _json.ABSENT
    user: msgspec.Raw = _json.ABSENT
    metadata: msgspec.Raw = _json.ABSENT
    input: msgspec.Raw = _json.ABSENT
    max_completion_tokens: msgspec.Raw = _json.ABSENT
    max_tokens: msgspec.Raw = _json.ABSENT
    max_output_tokens: msgspec.Raw = _json.ABSENT
    max_tokens_to_sample: msgspec.Raw = _json.ABSENT
    n_predict: msgspec.Raw = _json.ABSENT
    num_predict: msgspec.Raw = _json.ABSENT
    n: msgspec.Raw = _json.ABSENT
    best_of: msgspec.Raw = _json.ABSENT
    prompt: msgspec.Raw = _json.ABSENT


class _Options(msgspec.Struct):
    include_usage: bool | None = None


_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=_json.NAME_CHARACTERS_MAX)]
_Limit = Annotated[int, msgspec.Meta(ge=1, le=COUNT_MAX)]


class _Usual(msgspec.Struct):
    """The same fields, of the types that nearly every request gives them."""

    model: _Name | None = None
    stream: bool | None = None
    stream_options: _Options | None = None
    service_tier: str | None = None
    safety_identifier: _Name | None = None
    user: _Name | None = None
    metadata: msgspec.Raw = _json.ABSENT
    max_completion_tokens: _Limit | None = None
    max_tokens: _Limit | None = None
    max_output_tokens: _Limit | None = None
    n: _Limit | None = None
    # Rare, and a limit to some servers: who says so is read the patient way.
    max_tokens_to_sample: None = None
    n_predict: None = None
    num_predict: None = None


_decoder: Final = msgspec.json.Decoder(_Request)
_decode_usual: Final = msgspec.json.Decoder(_Usual).decode
_FAULTS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_RARE: Final = frozenset({"speech", "images", "completions", "batches"})
"""Endpoints of whose calls there is more to say."""
_ASKED_FOR_USAGE: Final = frozenset({"chat_completions", "completions"})
_OUTPUT_TOKENS_MAX: Final = {
    "chat_completions": ("max_completion_tokens", "max_tokens"),
    "completions": ("max_tokens", "max_tokens_to_sample"),
    "responses": ("max_output_tokens",),
    "messages": ("max_tokens",),
}
"""The fields that limit an endpoint's output."""
_LIMITS: Final = (
    "max_completion_tokens",
    "max_tokens",
    "max_output_tokens",
    "max_tokens_to_sample",
    "n_predict",
    "num_predict",
)
"""The fields that limit output on any server: which of several it reads is its own affair."""
_N: Final = frozenset({"chat_completions", "completions"})
"""Endpoints that may be asked for several answers at once."""


def read_json_request(operation: Operation, body: bytes, whole: bool) -> RequestFacts:
    """Read a JSON body of the openai, anthropic or ollama family."""
    api = operation.api
    if not whole or api in _RARE:
        return read_patiently(operation, body, whole)
    try:
        request = _decode_usual(body)
    except _FAULTS:
        return read_patiently(operation, body, whole)
    model, user = request.model, request.safety_identifier or request.user
    if not (model is None or model.isprintable()) or not (user is None or user.isprintable()):
        return read_patiently(operation, body, whole)
    if user is None and request.metadata:
        user = _json.name(_json.mapping(_json.tree(request.metadata)).get("user_id"))
    completion, tokens, written = (
        request.max_completion_tokens,
        request.max_tokens,
        request.max_output_tokens,
    )
    if (completion and tokens) or (written and (completion or tokens)):
        return read_patiently(operation, body, whole)
    output, answers = None, 1
    if api == "chat_completions":
        output, answers = completion or tokens, request.n or 1
    elif api == "messages":
        output = tokens
    elif api == "responses":
        output = written
    options, tier = request.stream_options, request.service_tier
    stream = request.stream is True
    asks = options is not None and options.include_usage is True
    return RequestFacts(
        model=model,
        stream=stream,
        service_tier=None if tier is None else _json.word(tier),
        user=user,
        asks_usage=asks,
        can_ask_usage=stream and not asks and api in _ASKED_FOR_USAGE,
        output_tokens_max=output,
        answers=answers,
    )


def read_patiently(operation: Operation, body: bytes, whole: bool) -> RequestFacts:
    """Read any body: one of which not all is there, or whose fields are not of the usual types."""
    request = _json.read(_decoder, body) if whole else None
    if request is None:
        found = _scan.members(body)
        known = [key for key in _Request.__struct_fields__ if key in found]
        request = _Request(**{key: msgspec.Raw(found[key]) for key in known})
    stream = _json.is_true(request.stream)
    options = _json.mapping(_json.tree(request.stream_options))
    asks = options.get("include_usage") is True
    user = _json.name(request.safety_identifier) or _json.name(request.user)
    if user is None and request.metadata:
        user = _json.name(_json.mapping(_json.tree(request.metadata)).get("user_id"))
    may_ask = stream and not asks and operation.api in _ASKED_FOR_USAGE
    speech = _json.tree(request.input) if operation.api == "speech" else None
    answers = _answers(operation, request)
    return RequestFacts(
        model=_json.name(request.model),
        stream=stream,
        service_tier=_json.word(request.service_tier),
        user=user,
        asks_usage=asks,
        can_ask_usage=may_ask and whole,
        batch=operation.api == "batches",
        input_characters=len(speech) if isinstance(speech, str) else None,
        images=_images(operation, _json.tree(request.n)),
        output_tokens_max=None if answers is None else _output_tokens_max(operation, request),
        answers=answers or 1,
    )


def read_multipart_request(operation: Operation, content_type: str, body: bytes) -> RequestFacts:
    """Read the short fields of a multipart body, whole or its beginning."""
    fields = multipart_fields(content_type, body)
    number = fields.get("n", "")
    return RequestFacts(
        model=_json.name(fields.get("model")),
        stream=fields.get("stream", "").lower() == "true",
        service_tier=_json.word(fields.get("service_tier")),
        user=_json.name(fields.get("safety_identifier")) or _json.name(fields.get("user")),
        images=_images(operation, int(number) if re.fullmatch("[0-9]{1,4}", number) else None),
    )


def multipart_fields(content_type: str, body: bytes) -> dict[str, str]:
    """Give the short text fields of a multipart body that are of use here, by name."""
    boundary = _BOUNDARY.search(content_type)
    fields: dict[str, str] = {}
    if boundary is None:
        return fields
    delimiter = b"--" + boundary[1].encode("utf-8", "replace")
    position = body.find(delimiter)
    for _ in range(PARTS_MAX):
        if position < 0:
            break
        start = position + len(delimiter)
        blank = body.find(b"\r\n\r\n", start, start + _FIELD_BYTES_MAX)
        position = body.find(delimiter, start)
        if blank < 0 or position < 0 or not blank < position <= blank + _FIELD_BYTES_MAX:
            continue
        head = body[start:blank]
        name = _PART_NAME.search(head)
        key = name[1].decode() if name else ""
        if key in _FIELDS and b"filename" not in head:
            fields[key] = body[blank + 4 : position].rstrip(b"\r\n").decode("utf-8", "replace")
    return fields


def _images(operation: Operation, number: object) -> int | None:
    """Give how many images are asked for: one where a request does not say."""
    if operation.api != "images":
        return None
    return 1 if number is None else count(number)


def _output_tokens_max(operation: Operation, request: _Request) -> int | None:
    own = _OUTPUT_TOKENS_MAX.get(operation.api, ())
    others = (getattr(request, field) for field in _LIMITS if field not in own)
    return most((getattr(request, field) for field in own), others)


def _answers(operation: Operation, request: _Request) -> int | None:
    """Give how many answers are asked for: of completions, `n` or `best_of` for each prompt.

    None if that cannot be read: then nobody knows how much output is asked for.
    """
    if operation.api not in _N:
        return 1
    of_prompts = operation.api == "completions"
    fields = (request.n, request.best_of) if of_prompts else (request.n,)
    each = most(fields) if any(map(_json.is_set, fields)) else 1
    if each is None or not of_prompts:
        return each
    prompt = bytes(request.prompt)
    prompts = _json.sequence(_json.tree(prompt)) if prompt.startswith(b"[") else []
    if not prompts or isinstance(prompts[0], int):  # one prompt, as its text or its tokens
        return each
    return each * len(prompts)
