"""Which family a path speaks.

Many upstreams speak more than one: Gemini and Ollama have an OpenAI-compatible side, and
Anthropic's Messages API is spoken at many places. What a path says for certain wins over the
upstream's configured dialect. Paths come with or without a version prefix, since an upstream's
base may carry it, and with prefixes of any kind before it.
"""

from __future__ import annotations

import re
from typing import Final

from taximeter.dialects._anthropic import Anthropic
from taximeter.dialects._contract import Dialect
from taximeter.dialects._gemini import Gemini
from taximeter.dialects._ollama import Ollama
from taximeter.dialects._openai import OpenAi

_FAMILIES: Final[dict[str, Dialect]] = {
    family.name: family for family in (OpenAi(), Anthropic(), Gemini(), Ollama())
}

_MESSAGES: Final = re.compile(
    r"(?:^/?|/v\d+[^/]*/)messages(?:/|$)|publishers/anthropic/models/[^/]+:(?:streamR|r)awPredict$"
)
_GENERATE: Final = re.compile(
    r"/(?:models|tunedModels)/[^/:]+:(?:generateContent|streamGenerateContent|countTokens"
    r"|embedContent|batchEmbedContents)$"
)
_OPENAI_SIDE: Final = re.compile(r"(?:^|/)(?:openai|openapi|chat/completions|responses)(?:/|$)")
_OLLAMA_NATIVE: Final = re.compile(r"(?:^|/)api/(?:chat|generate|embed)/?$")
_VERSION_ONE: Final = re.compile(r"(?:^|/)v1/")
_ENDPOINT_OF_OPENAI: Final = re.compile(
    r"^/?(?:completions|models|images/.*|audio/.*|embeddings)/?$"
)

_DEFAULT_MESSAGES: Final = re.compile(r"^/?v1/messages(?:/|$)")
_DEFAULT_GEMINI: Final = re.compile(r"^/?v1beta/")
_DEFAULT_OLLAMA: Final = re.compile(
    r"^/?api/(?:chat|generate|embed|embeddings|tags|show|ps|version|pull|push|create|copy|delete"
    r"|blobs/.*)/?$"
)


def family_of(path: str) -> str:
    """Give the family whose default upstream serves a path that names none."""
    if _DEFAULT_MESSAGES.match(path):
        return "anthropic"
    if _DEFAULT_GEMINI.match(path):
        return "gemini"
    if _DEFAULT_OLLAMA.match(path):
        return "ollama"
    return "openai"


def dialect_for(name: str, path: str) -> Dialect:
    """Give the dialect that a request to an upstream speaks.

    Args:
        name: the upstream's configured dialect: openai, anthropic, gemini or ollama.
        path: below the upstream's base, without its query.

    Raises:
        KeyError: if there is no dialect of that name.
    """
    configured = _FAMILIES[name]
    return _FAMILIES.get(_spoken(name, path), configured)


def _spoken(name: str, path: str) -> str:
    if _MESSAGES.search(path):
        return "anthropic"
    if _GENERATE.search(path):
        return "gemini"
    if name == "openai":
        return "ollama" if _OLLAMA_NATIVE.search(path) else "openai"
    if _OPENAI_SIDE.search(path):
        return "openai"
    if name == "ollama" and (_VERSION_ONE.search(path) or _ENDPOINT_OF_OPENAI.match(path)):
        # Without any prefix `/embeddings` may be either's; with `/api/` it is Ollama's own.
        return "openai"
    return name
