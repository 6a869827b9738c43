"""OpenAI's generating endpoints: chat completions, completions, responses."""

from __future__ import annotations

from typing import Any

from tests.rig._talk import CREATED, Answer, Ask, compact, data, named, plain, sse


def chat_usage(ask: Ask) -> dict[str, Any]:
    """The usage object of chat completions and completions."""
    figures = ask.figures
    return {
        "prompt_tokens": figures.input,
        "completion_tokens": figures.output,
        "total_tokens": figures.total,
        "prompt_tokens_details": {
            "cached_tokens": figures.cached,
            "cache_write_tokens": figures.cache_write,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": figures.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def responses_usage(ask: Ask) -> dict[str, Any]:
    """The usage object of responses."""
    figures = ask.figures
    return {
        "input_tokens": figures.input,
        "input_tokens_details": {
            "cached_tokens": figures.cached,
            "cache_write_tokens": figures.cache_write,
        },
        "output_tokens": figures.output,
        "output_tokens_details": {"reasoning_tokens": figures.reasoning},
        "total_tokens": figures.total,
    }


def error(status: int, code: str, message: str) -> bytes:
    """An error answer's body."""
    kinds = {401: "authentication_error", 429: "rate_limit_exceeded"}
    kind = kinds.get(status, "invalid_request_error" if status < 500 else "server_error")
    said = {"message": message, "type": kind, "param": None, "code": code}
    return compact({"error": said})


def served_model(model: str) -> str:
    """The dated snapshot that answers for a model's alias."""
    return f"{model}-2026-03-17" if model.startswith("gpt-") and model.count("-") < 4 else model


def _tool_calls(ask: Ask) -> list[dict[str, Any]]:
    """A call of each tool offered, its arguments holding the answer's text."""
    return [
        {
            "id": f"call_{ask.id}_{place}",
            "type": "function",
            "function": {
                "name": tool["function"]["name"],
                "arguments": compact({"text": ask.figures.text}).decode(),
            },
        }
        for place, tool in enumerate(ask.said.get("tools") or [])
    ]


def chat(ask: Ask) -> Answer:
    """`POST /chat/completions`."""
    said, script = ask.said, ask.script
    if script.refuse_stream_options and "stream_options" in said:
        body = error(400, "unknown_parameter", "Unrecognized request argument: stream_options")
        return Answer(events=[body], status=400, billed=False)
    common = {"id": f"chatcmpl-{ask.id}", "created": CREATED, "model": served_model(ask.model)}
    calls = _tool_calls(ask)
    finish = "tool_calls" if calls else "stop"
    if not ask.streams:
        message: dict[str, Any] = {"role": "assistant", "content": ask.figures.text}
        if calls:
            message = {"role": "assistant", "content": None, "tool_calls": calls}
        answer: dict[str, Any] = {
            **common,
            "object": "chat.completion",
            "choices": [
                {"index": number, "message": message, "finish_reason": finish, "logprobs": None}
                for number in range(int(said.get("n") or 1))
            ],
            "service_tier": "default",
        }
        if not script.usage_missing:
            answer["usage"] = chat_usage(ask)
        return plain(answer)
    asked = bool((said.get("stream_options") or {}).get("include_usage"))
    wanted = (asked or script.usage_without_asking) and not script.usage_missing
    chunk = {**common, "object": "chat.completion.chunk", "service_tier": "default"}
    usage_null = {"usage": None} if asked else {}

    def piece(delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return data({**chunk, "choices": [choice], **usage_null})

    events = [piece({"role": "assistant", "content": "", "refusal": None})]
    if calls:
        for place, call in enumerate(calls):
            head = {"name": call["function"]["name"], "arguments": ""}
            start = {"index": place, "id": call["id"], "type": "function", "function": head}
            events.append(piece({"tool_calls": [start]}))
            arguments = call["function"]["arguments"]
            for at in range(0, len(arguments), 7):
                part = {"index": place, "function": {"arguments": arguments[at : at + 7]}}
                events.append(piece({"tool_calls": [part]}))
    else:
        events.extend(piece({"content": word}) for word in ask.figures.words)
    events.append(piece({}, finish))
    if wanted:
        events.append(data({**chunk, "choices": [], "usage": chat_usage(ask)}))
    if not script.done_missing:
        events.append(b"data: [DONE]\n\n")
    return sse(events)


def completions(ask: Ask) -> Answer:
    """`POST /completions`, the legacy endpoint."""
    common = {
        "id": f"cmpl-{ask.id}",
        "object": "text_completion",
        "created": CREATED,
        "model": ask.model,
    }

    def choice(text: str, reason: str | None) -> dict[str, Any]:
        return {"text": text, "index": 0, "logprobs": None, "finish_reason": reason}

    if not ask.streams:
        whole = {**common, "choices": [choice(ask.figures.text, "stop")]}
        return plain({**whole, "usage": chat_usage(ask)})
    events = [data({**common, "choices": [choice(word, None)]}) for word in ask.figures.words]
    events.append(data({**common, "choices": [choice("", "stop")]}))
    if (ask.said.get("stream_options") or {}).get("include_usage"):
        events.append(data({**common, "choices": [], "usage": chat_usage(ask)}))
    return sse([*events, b"data: [DONE]\n\n"])


def _response(ask: Ask, status: str) -> dict[str, Any]:
    done = status == "completed"
    part = {"type": "output_text", "text": ask.figures.text, "annotations": [], "logprobs": []}
    item = {
        "id": f"msg_{ask.id}",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }
    return {
        "id": f"resp_{ask.id}",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "model": served_model(ask.model),
        "output": [item] if done else [],
        "usage": responses_usage(ask) if done and not ask.script.usage_missing else None,
        "service_tier": "default",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "background": bool(ask.said.get("background")),
    }


def responses(ask: Ask) -> Answer:
    """`POST /responses`, plain, streamed or in the background."""
    if ask.said.get("background") and not ask.streams:
        done = _response(ask, "completed")
        queued = _response(ask, "queued")
        ask.kept[queued["id"]] = {"done": done, "polls": ask.script.polls_until_done}
        return plain(queued, billed=False)
    if not ask.streams:
        return plain(_response(ask, "completed"))
    done = _response(ask, "completed")
    item = done["output"][0]
    part = item["content"][0]
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    started = {**item, "status": "in_progress", "content": []}
    told: list[dict[str, Any]] = [
        {"type": "response.created", "response": _response(ask, "in_progress")},
        {"type": "response.in_progress", "response": _response(ask, "in_progress")},
        {"type": "response.output_item.added", "output_index": 0, "item": started},
        {"type": "response.content_part.added", **place, "part": {**part, "text": ""}},
    ]
    told.extend(
        {"type": "response.output_text.delta", **place, "delta": word, "logprobs": []}
        for word in ask.figures.words
    )
    told.extend(
        [
            {"type": "response.output_text.done", **place, "text": part["text"], "logprobs": []},
            {"type": "response.content_part.done", **place, "part": part},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": done},
        ]
    )
    return sse([named({**event, "sequence_number": at}) for at, event in enumerate(told)])


def fetch_response(ask: Ask) -> Answer:
    """`GET /responses/{id}`: unfinished a few times, then done, ever the same."""
    run = ask.kept.get(ask.path.rpartition("/")[2])
    if run is None:
        return Answer(events=[error(404, "not_found", "No such response.")], status=404)
    if run["polls"] > 0:
        run["polls"] -= 1
        unfinished = {**run["done"], "status": "in_progress", "output": [], "usage": None}
        return plain(unfinished, billed=False)
    return plain(run["done"])


def input_tokens(ask: Ask) -> Answer:
    """`POST /responses/input_tokens`."""
    said = {"object": "response.input_tokens", "input_tokens": ask.figures.input}
    return plain(said, billed=False)
