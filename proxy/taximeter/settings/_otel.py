"""OpenTelemetry's standard variables, as far as they say what the settings of `otlp` say.

The rule: a setting of our own wins, from whichever source; what none of them says is taken from
the variables, the one for traces before the one for all signals. So an endpoint in the file is
not bent by an environment that was made for somebody else's exporter. With no endpoint at all, or
with none of our own and `OTEL_SDK_DISABLED=true` or `OTEL_TRACES_EXPORTER=none`, no variable is
looked at.

`OTEL_EXPORTER_OTLP_ENDPOINT` is a base, and `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` is the whole URL.
Timeouts are milliseconds, as the specification has it; some SDKs took them for seconds, so what
could only have been meant that way is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from taximeter.settings._errors import Problem, SettingsError
from taximeter.settings._file import Key

TRACES_PATH = "/v1/traces"
PORTS = {4317: "grpc", 4318: "http"}
"""The ports that are assigned to OTLP, and what is spoken at each."""
HEADERS_MAX = 32
TIMEOUT_MILLISECONDS_MIN = 100

_ALL, _TRACES = "OTEL_EXPORTER_OTLP_", "OTEL_EXPORTER_OTLP_TRACES_"
_HEADER_NAME = re.compile(r"(?!grpc-)[a-z0-9_.-]{1,128}(?<!-bin)")
"""What both HTTP and gRPC can send, without the names that gRPC keeps for itself."""
_PROTOCOLS = {"grpc": "grpc", "http/protobuf": "http"}
_RATIOS = {"always_on": "1", "always_off": "0"}

Found = tuple[Key, Any, str]
"""A setting's key, its value, and the variable that says so."""


def standard_variables(own: object, environ: Mapping[str, str]) -> Iterator[Found]:
    """Give what the variables say of settings that `own`, the group `otlp` so far, has not.

    Raises:
        SettingsError: if a variable says something that cannot be had.
    """
    said: Mapping[Any, Any] = own if isinstance(own, Mapping) else {}
    if not (own is None or isinstance(own, Mapping)):
        return  # no group at all: the model will say so
    if said.get("endpoint") is None and said.get("traces_endpoint") is None:
        if _of(environ, "OTEL_SDK_DISABLED").lower() == "true":
            return
        if _of(environ, "OTEL_TRACES_EXPORTER") == "none":
            return
        whole, base = _of(environ, _TRACES + "ENDPOINT"), _of(environ, _ALL + "ENDPOINT")
        if whole:
            yield ("otlp", "traces_endpoint"), whole, _TRACES + "ENDPOINT"
        elif base:
            yield ("otlp", "endpoint"), base, _ALL + "ENDPOINT"
        else:
            return
    for name, key, read in (
        ("PROTOCOL", "protocol", _protocol),
        ("CERTIFICATE", "ca_file", _same),
        ("CLIENT_CERTIFICATE", "certificate_file", _same),
        ("CLIENT_KEY", "key_file", _same),
        ("COMPRESSION", "compression", _same),
        ("TIMEOUT", "timeout_seconds", _timeout),
    ):
        for variable in (_TRACES + name, _ALL + name):
            text = _of(environ, variable)
            if text and said.get(key) is None:
                yield ("otlp", key), read(text, variable), variable
                break
    for variable in (_TRACES + "HEADERS", _ALL + "HEADERS"):
        if _of(environ, variable) and said.get("headers_env") is None:
            yield ("otlp", "headers_env"), variable, variable  # its name: the value is secret
            break
    if said.get("sample_ratio") is None:
        yield from _sampler(environ)
    yield from _resource(said, environ)


def mismatch(url: str, *, grpc: bool) -> str | None:
    """Say what is wrong if a collector's URL and the protocol do not fit each other."""
    parts = urlsplit(url)
    spoken = PORTS.get(parts.port or 0)
    if spoken == "grpc" and not grpc:
        return "port 4317 speaks gRPC: set protocol to `grpc`, or use port 4318"
    if spoken == "http" and grpc:
        return "port 4318 speaks HTTP: set protocol to `http`, or use port 4317"
    if grpc and parts.path:
        return "an endpoint of gRPC has no path"
    return None


def parse_headers(text: str | None) -> dict[str, str]:
    """Read `name=value,name=value`; values may be percent-coded, names become lower case.

    Raises:
        ValueError: with a sentence that does not repeat what was given.
    """
    if text is None:
        raise ValueError("is not set")
    headers: dict[str, str] = {}
    for member in filter(str.strip, text.split(",")):
        name, equals, value = member.partition("=")
        name, value = name.strip().lower(), unquote(value.strip())
        if not equals or not _HEADER_NAME.fullmatch(name):
            raise ValueError("must be of the form name=value,name=value")
        if not value.isascii() or not value.isprintable():
            raise ValueError("has a value that no header can hold")
        headers[name] = value
    if len(headers) > HEADERS_MAX:
        raise ValueError(f"has more than {HEADERS_MAX} headers")
    return headers


def _of(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name, "").strip()


def _same(text: str, variable: str) -> str:
    return text


def _protocol(text: str, variable: str) -> str:
    if text not in _PROTOCOLS:
        raise _refused(variable, "protocol", f"must be one of {', '.join(_PROTOCOLS)}")
    return _PROTOCOLS[text]


def _timeout(text: str, variable: str) -> float:
    milliseconds = _number(text, variable, "timeout_seconds")
    if milliseconds < TIMEOUT_MILLISECONDS_MIN:
        words = f"is in milliseconds, and must be at least {TIMEOUT_MILLISECONDS_MIN}"
        raise _refused(variable, "timeout_seconds", words)
    return milliseconds / 1000


def _number(text: str, variable: str, key: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _refused(variable, key, "must be a number") from None


def _sampler(environ: Mapping[str, str]) -> Iterator[Found]:
    variable = "OTEL_TRACES_SAMPLER"
    kind = _of(environ, variable).removeprefix("parentbased_")
    key: Key = ("otlp", "sample_ratio")
    if kind in _RATIOS:
        yield key, _RATIOS[kind], variable
    elif kind == "traceidratio":
        variable += "_ARG"
        yield key, _number(_of(environ, variable) or "1", variable, "sample_ratio"), variable
    elif kind:
        words = "must be always_on, always_off or traceidratio, or parentbased_ and one of them"
        raise _refused(variable, "sample_ratio", words)


def _resource(said: Mapping[Any, Any], environ: Mapping[str, str]) -> Iterator[Found]:
    variable = "OTEL_RESOURCE_ATTRIBUTES"
    own = said.get("resource")
    named = _of(environ, "OTEL_SERVICE_NAME")
    for member in filter(str.strip, environ.get(variable, "").split(",")):
        name, equals, value = member.partition("=")
        name, value = name.strip(), unquote(value.strip())
        if not equals or not name:
            raise _refused(variable, "resource", "must be of the form name=value,name=value")
        if name == "service.name":
            if said.get("service_name") is None and not named:
                yield ("otlp", "service_name"), value, variable
        elif own is None or (isinstance(own, Mapping) and name not in own):
            yield ("otlp", "resource", name), value, variable
    if named and said.get("service_name") is None:
        yield ("otlp", "service_name"), named, "OTEL_SERVICE_NAME"


def _refused(variable: str, key: str, message: str) -> SettingsError:
    return SettingsError([Problem(variable, f"otlp.{key}", message)])
