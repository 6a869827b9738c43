"""Upstreams: what can be said of one, and which there are without a word being said."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator

from taximeter.settings import _values
from taximeter.settings._admission import FALLBACKS_MAX, Breaker, Limits, Queue, Retry
from taximeter.settings._kinds import MEBI, Bytes, Count, Seconds, Section

Dialect = Literal["openai", "anthropic", "gemini", "ollama"]


class Tls(Section):
    """How an upstream's certificate is checked."""

    verify: bool = Field(
        True,
        description="Check the upstream's certificate and name. Off only for experiments.",
    )
    ca_file: Path | None = Field(
        None,
        description="File of certificates (PEM) that are trusted instead of the system's.",
    )

    @field_validator("ca_file")
    @classmethod
    def _expand(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser()


class Timeouts(Section):
    """How long an upstream may keep a call waiting. There is no deadline for a whole answer."""

    connect_seconds: Seconds = Field(
        10, description="To make a connection, with name lookup and TLS."
    )
    first_byte_seconds: Seconds = Field(
        600,
        description="From the request's last byte to the answer's first; with `idle_seconds` more "
        "for the whole of its head.",
    )
    idle_seconds: Seconds = Field(300, description="Without a byte in the middle of an answer.")
    send_seconds: Seconds = Field(
        60, description="Without the upstream taking a byte of the request."
    )


def _key_in(variable: str) -> str:
    return os.environ.get(variable, "").strip()


def _holds_key(variable: str) -> str:
    """Look at the key that a variable holds, if it is set: it becomes a line of a head.

    Raises:
        ValueError: if it cannot be sent as it is. Of the key it says nothing.
    """
    key = _key_in(variable)
    if not (key.isascii() and key.isprintable()):
        raise ValueError("names a variable that holds no key: a key is printable ASCII in one line")
    return variable


class Upstream(Section):
    """One API that calls are passed on to."""

    url: str = Field(
        description="Base URL, http or https; paths of calls are put behind the path it carries."
    )
    dialect: Dialect = Field(
        "openai",
        description=(
            "Family of its API. Not given, it is told from the upstream's name, else from the "
            "URL's host, else it is `openai`."
        ),
    )
    provider: str | None = Field(
        None,
        max_length=64,
        description=(
            "Whose prices apply: a provider id of genai-prices, or one of your own `prices`. "
            "Not given, it is told from the URL, else from the dialect."
        ),
    )
    api_key_env: (
        Annotated[str, AfterValidator(_values.variable_name), AfterValidator(_holds_key)] | None
    ) = Field(
        None,
        description=(
            "Name of the environment variable that holds the upstream's key, for callers that "
            "bring none. Space around the key is taken off; one that cannot stand in a header is "
            "refused. The key itself has no place in the file."
        ),
    )
    client_gone: Literal["cancel", "drain"] = Field(
        "cancel",
        description=(
            "When a client leaves in the middle of an answer: `cancel` the call upstream, which "
            "stops the spending, or `drain` it to its end, which learns the real usage."
        ),
    )
    drain_seconds_max: Seconds = Field(60, description="Longest a drained answer is read on.")
    drain_bytes_max: Bytes = Field(16 * MEBI, description="Most a drained answer is read on.")
    usage: Literal["ask", "observe"] = Field(
        "ask",
        description=(
            "`ask` sets `stream_options.include_usage` on chat streams whose client did not, "
            "and takes the extra event out again; `observe` leaves every byte alone, and tokens "
            "of such streams are counted."
        ),
    )
    forward_trace: bool = Field(
        False,
        description=(
            "Pass the client's `traceparent`, `tracestate` and `baggage` on; where traces are made "
            "(`otlp`), the span named to the upstream is our attempt's. Off, they end here: "
            "baggage may name your users, and a third party has no use for it."
        ),
    )
    models: dict[str, str] = Field(
        {},
        max_length=1000,
        description="Deployment names and the models they stand for. `prices` may name either.",
    )
    connections_max: Count = Field(
        1024, description="Connections a worker has open to it at a time; further calls wait."
    )
    timeouts: Timeouts = Field(Timeouts(), description="How long it may keep a call waiting.")
    tls: Tls = Field(Tls(), description="How its certificate is checked.")
    limits: Limits = Field(Limits(), description="How much may go to it.")
    queue: Queue = Field(Queue(), description="Where calls wait that cannot go at once.")
    retry: Retry = Field(Retry(), description="Attempts of our own.")
    breaker: Breaker = Field(Breaker(), description="When it is left alone for a while.")
    fallback: tuple[str, ...] = Field(
        (),
        max_length=FALLBACKS_MAX,
        description=(
            "Upstreams of the same dialect that take its calls, in this order, when it cannot."
        ),
    )

    def read_api_key(self) -> str | None:
        """Read the upstream's key from the environment. It is kept nowhere: never show it."""
        return _key_in(self.api_key_env) or None if self.api_key_env else None

    @field_validator("url", mode="before")
    @classmethod
    def _read_url(cls, value: object) -> str:
        return _values.upstream_url(value)


BUILT_IN_UPSTREAMS: dict[str, Dialect] = {
    "openai": "openai",
    "anthropic": "anthropic",
    "gemini": "gemini",
    "ollama": "ollama",
}
"""Upstreams there without being configured. Each is the default of the family it is named for."""

BUILT_IN_URLS = {
    "openai": "https://api.openai.com",
    "anthropic": "https://api.anthropic.com",
    "gemini": "https://generativelanguage.googleapis.com",
    "ollama": "http://127.0.0.1:11434",
}


def guess_dialect(name: str, url: str) -> Dialect:
    """Tell an upstream's dialect from its name, else from its URL's host and port."""
    if name in BUILT_IN_UPSTREAMS:
        return BUILT_IN_UPSTREAMS[name]
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host == "anthropic.com" or host.endswith(".anthropic.com"):
        return "anthropic"
    if host == "generativelanguage.googleapis.com":
        return "gemini"
    if parts.port == 11434:
        return "ollama"
    return "openai"


def with_defaults(configured: Mapping[object, object]) -> dict[object, object]:
    """Fill in what an upstream's name and URL say, and add the built-in upstreams.

    A built-in upstream stays only if nothing of its family is configured: with one's own server
    of a family, calls of that family must not end up at the public API by surprise.
    """
    filled: dict[object, object] = {}
    for name, given in configured.items():
        if isinstance(given, Upstream):
            filled[name] = given
            continue
        if given is None:
            given = {}
        if not isinstance(given, Mapping) or not isinstance(name, str):
            filled[name] = given  # refused by its type in a moment
            continue
        entry = dict(given)
        if name in BUILT_IN_URLS:
            entry.setdefault("url", BUILT_IN_URLS[name])
        if "dialect" not in entry and isinstance(entry.get("url"), str):
            try:
                entry["dialect"] = guess_dialect(name, _values.upstream_url(entry["url"]))
            except ValueError:
                pass  # the URL's own check is about to say what is wrong with it
        filled[name] = entry
    families = [
        entry.dialect if isinstance(entry, Upstream) else entry.get("dialect")
        for entry in filled.values()
        if isinstance(entry, Upstream | Mapping)
    ]
    for name, dialect in BUILT_IN_UPSTREAMS.items():
        if name not in filled and dialect not in families:
            filled[name] = {"url": BUILT_IN_URLS[name], "dialect": dialect}
    return filled


def upstream_name(name: str) -> str:
    if not _values.UPSTREAM_NAME.fullmatch(name):
        raise ValueError(
            "an upstream's name is 1 to 32 of a-z, 0-9, _ and -, and begins with a letter or digit"
        )
    if name in _values.RESERVED_UPSTREAM_NAMES:
        raise ValueError("this name is the beginning of an API's own paths; choose another")
    return name
