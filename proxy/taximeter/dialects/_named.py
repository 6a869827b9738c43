"""Which models a request names, for whoever must be certain of it.

To book a call it is enough to read what it most likely says. To hold a key to its models is
another thing: the upstream must not read another model than the one that was allowed. So every
place that names one is looked at, and where two readers might differ the answer is None:

- A path names it (Azure's deployments, Vertex AI, Gemini) and the body does, too: both count.
- A body that is no JSON to the letter, or names `model` twice or in another spelling (see
  `_members`), or is a form with more than one field of that name: None.
- A query counts where its endpoint goes by it, which is that of realtime calls, and nowhere else.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

import msgspec

from taximeter.dialects._contract import Operation
from taximeter.dialects._members import Members, Unclear
from taximeter.dialects._paths import is_ambiguous
from taximeter.dialects._requests import multipart_fields

NAMES_MAX: Final = 1024
"""How often a form may say `name`, for a look at each takes time. Sound hardly ever does."""

_IN_PATH: Final = re.compile(
    r"(?:^|/)(?:deployments|engines|models?|tunedModels|endpoints(?!/openapi/))"
    r"/([^/]+?)(?::[a-z]+/?$|/|$)",
    re.IGNORECASE,
)
"""A verb may follow behind a colon. Vertex AI's `endpoints/openapi` is its OpenAI side, where the
body names the model."""
_IN_QUERY: Final = re.compile(r"(?:^|&)(?:model|deployment)=([^&]*)", re.IGNORECASE)
_BY_QUERY: Final = re.compile(r"(?:^|/)(?:realtime|live/sessions)(?:/|$)")
_FORMS: Final = frozenset({"images", "transcriptions", "translations", "videos", "other"})
"""Endpoints that take forms."""
_FIELD: Final = re.compile(rb"name(?<!filename)\s*=\s*[\"']?model\b")
_ODD_FIELD: Final = re.compile(rb"name(?<!filename)(?:\*|\s*=\s*[\"']?[^\"'\r\n;]{0,64}[\\%])")
"""A name that is coded, and so may be any."""
_text_decoder: Final = msgspec.json.Decoder(str)
_list_decoder: Final = msgspec.json.Decoder(list[msgspec.Raw])
_FAULTS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def models_named(
    operation: Operation, path: str, query: str, content_type: str, body: bytes
) -> frozenset[str] | None:
    """Give every model that a request names; None if it cannot be told for certain.

    Args:
        operation: what its method and path say.
        path: below the upstream's base, raw.
        query: raw.
        content_type: of the body.
        body: all of it, uncompressed.
    """
    if is_ambiguous(path):
        return None
    named = set(_IN_PATH.findall(unquote(path)))
    if not body:
        if _BY_QUERY.search(path):
            named |= {unquote(model) for model in _IN_QUERY.findall(query)}
        return frozenset(named)
    try:
        if operation.api in _FORMS and content_type.lower().startswith("multipart/"):
            said = _of_form(content_type, body)
        else:
            said = _of_json(body)
    except Unclear:
        return None
    if operation.api == "batches":
        said = []  # it is the calls of the batch that name theirs
    if named:  # Google writes a model with its place: models/NAME
        said = [model.rpartition("models/")[2] for model in said]
    return frozenset(named.union(said))


def _of_json(body: bytes) -> list[str]:
    members = Members(body)
    said = []
    if members.spelling("model") is not None:
        said.append(members.value("model") or b"")
    if members.spelling("models") is not None:  # OpenRouter's, to be tried one after the other
        try:
            said += map(bytes, _list_decoder.decode(members.value("models") or b""))
        except _FAULTS:
            raise Unclear from None
    return [_text(value) for value in said]


def _text(value: bytes) -> str:
    try:
        return _text_decoder.decode(value)
    except _FAULTS:
        raise Unclear from None


def _of_form(content_type: str, body: bytes) -> list[str]:
    lower = body.lower()  # quicker by far, in a long one, than to look for either case
    if lower.count(b"name") > NAMES_MAX or _ODD_FIELD.search(lower) is not None:
        raise Unclear
    fields = len(_FIELD.findall(lower))
    if not fields:
        return []
    model = multipart_fields(content_type, body).get("model")
    if fields > 1 or model is None:
        raise Unclear
    return [model]
