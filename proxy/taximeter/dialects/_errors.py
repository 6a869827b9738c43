"""The words of errors: reading an upstream's code, and saying no in a family's own shape."""

from __future__ import annotations

from typing import Final

import msgspec

from taximeter.dialects import _json

UNKNOWN: Final = "unknown"
"""The code of an error that names none we could keep as a word."""

_encode: Final = msgspec.json.Encoder().encode


def error_word(value: object) -> str | None:
    """Give a code as a word of [A-Za-z0-9_.-]; a whole number counts as one."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) < 1_000_000 else None
    return _json.word(value)


def error_code(error: object) -> str | None:
    """Give the code of an error object, else its type; None if `error` says there is none.

    An error that is a bare text, or whose code is a sentence, is `unknown`: no text of an
    upstream goes further than this.
    """
    if error is None or error is False or error == {} or error == "":
        return None
    members = _json.mapping(error)
    details = _json.mapping(members.get("details"))
    for value in (details.get("error_code"), members.get("code"), members.get("type")):
        if (found := error_word(value)) is not None:
            return found
    return UNKNOWN


def error_line(body: bytes) -> bytes | None:
    """Give an error answer's body on one line; None if it is no object with an error in it."""
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    return _encode(said) if isinstance(said, dict) and said.get("error") else None


# Error answers of our own ---------------------------------------------------------------------

_OPENAI_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "invalid_request_error",
    408: "timeout",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_exceeded",
    503: "service_unavailable_error",
}
_ANTHROPIC_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_GEMINI_STATUSES: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "FAILED_PRECONDITION",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def openai_error(status: int, code: str, message: str, **more: object) -> bytes:
    """Give `{"error": {...}}` as OpenAI writes it, with `more` inside the error object."""
    kind = _OPENAI_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    error = {"message": message, "type": kind, "param": None, "code": code, **more}
    return _encode({"error": error})


def anthropic_error(status: int, code: str, message: str, **more: object) -> bytes:
    """Give `{"type": "error", "error": {...}}` as Anthropic writes it."""
    kind = _ANTHROPIC_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    error = {"type": kind, "message": message, "details": {"error_code": code}, **more}
    return _encode({"type": "error", "error": error})


def gemini_error(status: int, code: str, message: str, **more: object) -> bytes:
    """Give `{"error": {...}}` as Google's APIs write it; the code is an ErrorInfo's reason."""
    word = _GEMINI_STATUSES.get(status, "INTERNAL" if status >= 500 else "INVALID_ARGUMENT")
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": code.upper(),
        "domain": "taximeter",
    }
    error = {"code": status, "message": message, "status": word, "details": [info], **more}
    return _encode({"error": error})


def ollama_error(code: str, message: str, **more: object) -> bytes:
    """Give `{"error": "..."}` as Ollama writes it, with the code beside it."""
    return _encode({"error": message, "code": code, **more})
