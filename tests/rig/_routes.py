"""Which endpoint a request is for, and what is answered there.

Paths are told by their end, so that an upstream whose URL carries a path of its own
(`/openai/v1`, `/openai/deployments/NAME`) answers as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.rig import _anthropic, _gemini, _ollama, _openai, _openai_more
from tests.rig._talk import Answer, Ask, Maker, compact, plain

ErrorMaker = Callable[[int, str, str], bytes]

ROUTES: tuple[tuple[str, str, Maker], ...] = (
    ("POST", r"/v1/messages", _anthropic.messages),
    ("POST", r"/v1/messages/count_tokens", _anthropic.count_tokens),
    ("POST", r"/models/[^/]+:generateContent", _gemini.generate),
    ("POST", r"/models/[^/]+:streamGenerateContent", _gemini.stream),
    ("POST", r"/models/[^/]+:(embedContent|batchEmbedContents)", _gemini.embed),
    ("POST", r"/models/[^/]+:countTokens", _gemini.count_tokens),
    ("POST", r"/api/(chat|generate)", _ollama.generate),
    ("POST", r"/api/embed", _ollama.embed),
    ("POST", r"/chat/completions", _openai.chat),
    ("POST", r"/completions", _openai.completions),
    ("POST", r"/responses/input_tokens", _openai.input_tokens),
    ("POST", r"/responses", _openai.responses),
    ("GET", r"/responses/[^/]+", _openai.fetch_response),
    ("POST", r"/embeddings", _openai_more.embeddings),
    ("POST", r"/moderations", _openai_more.moderations),
    ("POST", r"/images/(generations|edits)", _openai_more.images),
    ("POST", r"/audio/transcriptions", _openai_more.transcriptions),
    ("POST", r"/audio/speech", _openai_more.speech),
    ("POST", r"/files", _openai_more.upload_file),
    ("GET", r"/files/[^/]+(/content)?", _openai_more.file),
    ("GET", r"/models(/[^/]+)?", _openai_more.models),
    ("POST", r"/batches", _openai_more.batches),
    ("GET", r"/batches/[^/]+", _openai_more.batches),
)
_compiled = [(method, re.compile(f".*{path}"), maker) for method, path, maker in ROUTES]

FILLER_BYTES = 65_536


def family_error(path: str) -> ErrorMaker:
    """Tell how errors look on this path."""
    if "/v1/messages" in path:
        return _anthropic.error
    if "/v1beta/" in path and "/openai/" not in path:
        return _gemini.error
    if "/api/" in path:
        return _ollama.error
    return _openai.error


def answer(ask: Ask) -> Answer:
    """Answer a request by its script, else by its endpoint."""
    script = ask.script
    made = _scripted(ask) or _by_endpoint(ask)
    if script.status != 200 and made.status == 200:
        made.status = script.status
    if script.content_type is not None:
        made.content_type = script.content_type
    if script.error_after_events is not None:
        made.events[script.error_after_events :] = [_stream_error(ask, made)]
    if not any(name == "x-request-id" for name, _ in script.headers):
        made.headers.append(("x-request-id", f"req_{ask.id}"))
    made.headers.extend(script.headers)
    return made


def _scripted(ask: Ask) -> Answer | None:
    script = ask.script
    if script.events is not None:
        events = [event.encode() for event in script.events]
        return Answer(events=events, content_type="text/event-stream", streams=True)
    if script.body is not None:
        return Answer(events=[script.body.encode()], billed=False)
    if script.body_bytes is not None:
        piece = bytes(range(256)) * (FILLER_BYTES // 256)
        whole, rest = divmod(script.body_bytes, FILLER_BYTES)
        events = [piece] * whole + ([piece[:rest]] if rest else [])
        return Answer(events=events, content_type="application/octet-stream", billed=False)
    if script.status >= 400:
        body = family_error(ask.path)(script.status, "scripted", "This error was asked for.")
        return Answer(events=[body], billed=False)
    if script.status in (204, 304):
        return Answer(events=[], billed=False)
    return None


def _by_endpoint(ask: Ask) -> Answer:
    method = "GET" if ask.method == "HEAD" else ask.method
    for known, path, maker in _compiled:
        if known == method and path.fullmatch(ask.path):
            return maker(ask)
    echo = {"method": ask.method, "path": ask.path, "bytes": len(ask.body)}
    return plain(echo, billed=False)


def _stream_error(ask: Ask, made: Answer) -> bytes:
    body = family_error(ask.path)(529, "scripted", "This error was asked for.")
    if not made.content_type.startswith("text/event-stream"):
        return body + b"\n"
    if "/v1/messages" in ask.path:
        return b"event: error\ndata: " + body + b"\n\n"
    return b"data: " + body + b"\n\n"


def unknown_script(reason: str) -> Answer:
    """Answer a request whose script cannot be read: loudly, for a test is wrong."""
    return Answer(events=[compact({"rig": reason})], status=599, billed=False)
