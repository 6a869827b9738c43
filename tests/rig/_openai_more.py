"""OpenAI's other endpoints: embeddings, moderations, images, audio, files, models, batches."""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import Any

from tests.rig._openai import error
from tests.rig._talk import CREATED, Answer, Ask, data, plain, sse

VECTOR_LENGTH = 8
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABh6FO1AAAAABJRU5ErkJggg=="
)


def embeddings(ask: Ask) -> Answer:
    """`POST /embeddings`, as numbers or as base64 of little-endian floats."""
    given = ask.said.get("input", "")
    texts = given if isinstance(given, list) and not _is_tokens(given) else [given]
    rows: list[dict[str, Any]] = []
    for place, text in enumerate(texts):
        digest = hashlib.sha256(repr(text).encode()).digest()
        numbers = [byte / 256 for byte in digest[:VECTOR_LENGTH]]
        packed = base64.b64encode(struct.pack(f"<{VECTOR_LENGTH}f", *numbers)).decode()
        shown = packed if ask.said.get("encoding_format") == "base64" else numbers
        rows.append({"object": "embedding", "index": place, "embedding": shown})
    usage = {"prompt_tokens": ask.figures.input, "total_tokens": ask.figures.input}
    return plain({"object": "list", "data": rows, "model": ask.model, "usage": usage})


def _is_tokens(given: list[Any]) -> bool:
    return bool(given) and isinstance(given[0], int)


def moderations(ask: Ask) -> Answer:
    """`POST /moderations`, which costs nothing."""
    result = {"flagged": False, "categories": {}, "category_scores": {}}
    said = {"id": f"modr-{ask.id}", "model": "omni-moderation-latest", "results": [result]}
    return plain(said, billed=False)


def images(ask: Ask) -> Answer:
    """`POST /images/generations` and `/images/edits`."""
    figures = ask.figures
    usage = {
        "input_tokens": figures.input,
        "input_tokens_details": {"text_tokens": figures.input, "image_tokens": 0},
        "output_tokens": figures.output,
        "output_tokens_details": {"image_tokens": figures.output, "text_tokens": 0},
        "total_tokens": figures.total,
    }
    pixel = base64.b64encode(PIXEL).decode()
    if ask.streams:
        kind = "image_edit" if ask.path.endswith("/edits") else "image_generation"
        frame = {"created_at": CREATED, "b64_json": pixel, "size": "1024x1024", "quality": "low"}
        frame |= {"background": "auto", "output_format": "png"}
        partial = {"type": f"{kind}.partial_image", "partial_image_index": 0, **frame}
        whole = {"type": f"{kind}.completed", "usage": usage, **frame}
        lines = [b"event: " + str(event["type"]).encode() + b"\n" for event in (partial, whole)]
        return sse([lines[0] + data(partial), lines[1] + data(whole)])
    count = int(ask.said.get("n") or 1)
    said = {"created": CREATED, "data": [{"b64_json": pixel}] * count, "usage": usage}
    return plain(said)


def transcriptions(ask: Ask) -> Answer:
    """`POST /audio/transcriptions`, a form with a file."""
    form = parse_form(ask)
    figures = ask.figures
    if form.get("response_format", b"json") == b"text":
        text = figures.text.encode() + b"\n"
        return Answer(events=[text], content_type="text/plain; charset=utf-8", billed=False)
    usage: dict[str, Any] = {
        "type": "tokens",
        "input_tokens": figures.input,
        "input_token_details": {"text_tokens": 0, "audio_tokens": figures.input},
        "output_tokens": figures.output,
        "total_tokens": figures.total,
    }
    if form.get("model") == b"whisper-1":
        usage = {"type": "duration", "seconds": 9.3}
    if form.get("stream") == b"true":
        events = [data({"type": "transcript.text.delta", "delta": word}) for word in figures.words]
        done = {"type": "transcript.text.done", "text": figures.text, "usage": usage}
        return sse([*events, data(done)])
    return plain({"text": figures.text, "usage": usage})


def speech(ask: Ask) -> Answer:
    """`POST /audio/speech`, bytes that are no text, in pieces."""
    seed = hashlib.sha256(ask.figures.text.encode()).digest()
    pieces = [hashlib.sha256(seed + bytes([place])).digest() * 32 for place in range(8)]
    return Answer(events=pieces, content_type="audio/mpeg", streams=True, billed=False)


def upload_file(ask: Ask) -> Answer:
    """`POST /files`: kept, to be fetched again."""
    form = parse_form(ask)
    content = form.get("file", b"")
    name = f"file-{ask.id}"
    ask.kept[name] = content
    return plain(_file(name, content), billed=False)


def _file(name: str, content: bytes) -> dict[str, Any]:
    return {
        "id": name,
        "object": "file",
        "bytes": len(content),
        "created_at": CREATED,
        "filename": "upload.jsonl",
        "purpose": "batch",
        "status": "processed",
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def file(ask: Ask) -> Answer:
    """`GET /files/{id}` and `GET /files/{id}/content`."""
    parts = ask.path.rstrip("/").split("/")
    wants_content = parts[-1] == "content"
    name = parts[-2] if wants_content else parts[-1]
    content = ask.kept.get(name)
    if not isinstance(content, bytes):
        return Answer(events=[error(404, "not_found", "No such file.")], status=404, billed=False)
    if not wants_content:
        return plain(_file(name, content), billed=False)
    step = 65_536
    pieces = [content[at : at + step] for at in range(0, len(content), step)] or [b""]
    return Answer(events=pieces, content_type="application/octet-stream", billed=False)


def models(ask: Ask) -> Answer:
    """`GET /models` and `GET /models/{id}`."""
    rows = [
        {"id": name, "object": "model", "created": CREATED, "owned_by": "rig"}
        for name in ("gpt-5.4-mini", "text-embedding-3-small")
    ]
    tail = ask.path.rpartition("/models")[2].strip("/")
    if tail:
        return plain({**rows[0], "id": tail}, billed=False)
    return plain({"object": "list", "data": rows}, billed=False)


def batches(ask: Ask) -> Answer:
    """`POST /batches`, and `GET /batches/{id}`, finished at the first look."""
    name = f"batch_{ask.id}" if ask.method == "POST" else ask.path.rpartition("/")[2]
    said: dict[str, Any] = {
        "id": name,
        "object": "batch",
        "endpoint": "/v1/chat/completions",
        "input_file_id": "file-1",
        "completion_window": "24h",
        "created_at": CREATED,
        "status": "validating" if ask.method == "POST" else "completed",
        "model": "gpt-5.4-mini-2026-03-17",
    }
    if ask.method == "POST":
        ask.kept[name] = ask.figures
        return plain(said, billed=False)
    figures = ask.kept.get(name, ask.figures)
    said["usage"] = {
        "input_tokens": figures.input,
        "input_tokens_details": {"cached_tokens": figures.cached},
        "output_tokens": figures.output,
        "output_tokens_details": {"reasoning_tokens": figures.reasoning},
        "total_tokens": figures.total,
    }
    return plain(said)


def parse_form(ask: Ask) -> dict[str, bytes]:
    """Read a multipart form's fields, of repeated names the last."""
    kind = ask.headers.get("content-type", "")
    mark = kind.partition("boundary=")[2].strip('"').encode()
    fields: dict[str, bytes] = {}
    if not mark:
        return fields
    for part in (b"\r\n" + ask.body).split(b"\r\n--" + mark)[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        name = head.partition(b'name="')[2].partition(b'"')[0]
        fields[name.decode("utf-8", "replace")] = content
    return fields
