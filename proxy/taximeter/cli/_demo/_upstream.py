"""A simulated API: chat completions as OpenAI's, messages as Anthropic's, plain and streamed.

It takes its time, and now and then it refuses, fails or breaks off. It knows nothing of
Taximeter. Every answer comes from a seeded generator.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from taximeter.cli._demo._models import MODELS, Model

WORDS = (
    "the meter runs while the cab waits at the light and every street has its own fare so the "
    "driver keeps the book open writes down the time the distance and the name of the rider"
).split()

REFUSED, FAILED, CUT = 0.04, 0.03, 0.03
"""Shares of calls that get a 429, a 500, and half an answer."""

Json = dict[str, Any]


@dataclass(frozen=True)
class _Play:
    """What one call is going to get."""

    model: Model
    input_tokens: int
    words: list[str]
    wait_seconds: float
    cut_after: int | None
    """Words after which the connection is dropped."""

    @property
    def text(self) -> str:
        return " ".join(self.words)


class SimulatedApi:
    """The API's server. Use as an asynchronous context manager; then `port` is set."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._count = 0
        self.port = 0

    async def __aenter__(self) -> SimulatedApi:
        application = web.Application(client_max_size=1024 * 1024)
        application.router.add_post("/v1/chat/completions", self._chat)
        application.router.add_post("/v1/messages", self._messages)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        play = self._cast(body)
        if isinstance(play, int):
            word = "rate_limit_exceeded" if play == 429 else "server_error"
            error = {"message": "Simulated.", "type": word, "param": None, "code": word}
            return _refusal(play, {"error": error})
        answer_id = self._new_id("chatcmpl")
        usage = {
            "prompt_tokens": play.input_tokens,
            "completion_tokens": len(play.words),
            "total_tokens": play.input_tokens + len(play.words),
        }
        head: Json = {"id": answer_id, "created": 0, "model": play.model.name}
        if not body.get("stream"):
            await asyncio.sleep(play.wait_seconds + len(play.words) / play.model.tokens_per_second)
            message = {"role": "assistant", "content": play.text}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            whole = {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
            return web.json_response(whole)
        asked = bool((body.get("stream_options") or {}).get("include_usage"))

        def chunk(delta: Json, finish: str | None = None) -> bytes:
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            more: Json = {"usage": None} if asked else {}
            event = {**head, "object": "chat.completion.chunk", "choices": [choice], **more}
            return _sse(event)

        ending = [chunk({}, "stop")]
        if asked:
            last = {**head, "object": "chat.completion.chunk", "choices": [], "usage": usage}
            ending.append(_sse(last))
        return await self._stream(
            request,
            play,
            [chunk({"role": "assistant", "content": ""})],
            lambda word: chunk({"content": word}),
            [*ending, b"data: [DONE]\n\n"],
        )

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        play = self._cast(body)
        if isinstance(play, int):
            word = "rate_limit_error" if play == 429 else "api_error"
            error = {"type": word, "message": "Simulated."}
            return _refusal(play, {"type": "error", "error": error})
        message: Json = {
            "id": self._new_id("msg"),
            "type": "message",
            "role": "assistant",
            "model": play.model.name,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": play.input_tokens, "output_tokens": 1},
        }
        usage = {"input_tokens": play.input_tokens, "output_tokens": len(play.words)}
        if not body.get("stream"):
            await asyncio.sleep(play.wait_seconds + len(play.words) / play.model.tokens_per_second)
            content = [{"type": "text", "text": play.text}]
            whole = {**message, "content": content, "stop_reason": "end_turn", "usage": usage}
            return web.json_response(whole)

        def event(kind: str, **more: Any) -> bytes:
            return _sse({"type": kind, **more}, kind)

        block = {"type": "text", "text": ""}
        ended = {"stop_reason": "end_turn", "stop_sequence": None}
        return await self._stream(
            request,
            play,
            [
                event("message_start", message=message),
                event("content_block_start", index=0, content_block=block),
            ],
            lambda word: event(
                "content_block_delta", index=0, delta={"type": "text_delta", "text": word}
            ),
            [
                event("content_block_stop", index=0),
                event("message_delta", delta=ended, usage=usage),
                event("message_stop"),
            ],
        )

    def _cast(self, body: Json) -> _Play | int:
        """Decide what a call gets: an answer, or the status of a refusal."""
        chance = self._random.random()
        if chance < REFUSED:
            return 429
        if chance < REFUSED + FAILED:
            return 500
        model = MODELS.get(str(body.get("model")), MODELS["demo-small"])
        count = self._random.randint(8, 90)
        words = [self._random.choice(WORDS) for _ in range(count)]
        text = json.dumps(body.get("messages", ""))
        return _Play(
            model=model,
            input_tokens=max(1, len(text) // 4),
            words=words,
            wait_seconds=model.first_token_seconds * self._random.lognormvariate(0, 0.4),
            cut_after=count // 2 if self._random.random() < CUT else None,
        )

    async def _stream(
        self,
        request: web.Request,
        play: _Play,
        opening: list[bytes],
        delta: Callable[[str], bytes],
        ending: list[bytes],
    ) -> web.StreamResponse:
        await asyncio.sleep(play.wait_seconds)
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        try:
            await response.prepare(request)
            await response.write(b"".join(opening))
            for place, word in enumerate(play.words):
                if place == play.cut_after and request.transport is not None:
                    request.transport.abort()
                    return response
                await response.write(delta(f"{word} "))
                await asyncio.sleep(1 / play.model.tokens_per_second)
            for event in ending:
                await response.write(event)
            await response.write_eof()
        except ConnectionError:
            pass  # the client has left: there is nobody to tell
        return response

    def _new_id(self, kind: str) -> str:
        self._count += 1
        return f"{kind}-demo-{self._count:06d}"


def _refusal(status: int, body: Json) -> web.Response:
    headers = {"Retry-After": "1"} if status == 429 else {}
    return web.json_response(body, status=status, headers=headers)


def _sse(event: Json, name: str | None = None) -> bytes:
    data = f"data: {json.dumps(event, separators=(',', ':'))}\n\n".encode()
    return f"event: {name}\n".encode() + data if name else data
