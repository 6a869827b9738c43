"""From all sources to one `Settings`.

Later sources win, key by key: the built-in defaults, OpenTelemetry's standard variables (for
`otlp`, see `_otel`), the file, the environment, the flags.
Lists are replaced whole. In the environment a key's path is written in capitals with `__`
between its parts (`TAXIMETER_UPSTREAMS__OPENAI__URL`); lists and mappings are written as JSON.

The environment is read here in a few lines rather than by pydantic-settings, because a variable
that nothing knows (`TAXIMETER_WORKRES=4`) must be refused like any unknown key, and that library
cannot see those; and because each problem must name the source that it came from.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from taximeter.settings import _values
from taximeter.settings._errors import Contradiction, Problem, SettingsError
from taximeter.settings._file import File, Key, dotted, read_file
from taximeter.settings._model import Settings
from taximeter.settings._otel import standard_variables

ENVIRONMENT_PREFIX = "TAXIMETER_"
FILE_VARIABLE = "TAXIMETER_CONFIG"
DEFAULT_FILE = Path("taximeter.yaml")

_FLAGS = {"url": "--upstream"}
"""Flags that are not called as the last part of their key."""

_SECRET_NAME = re.compile(
    r"(?i)(api[_-]?key|access[_-]?key|key|token|secret|password|passwd|credential|authorization)s?"
)


def find_file(environ: Mapping[str, str] | None = None) -> Path | None:
    """Give the file that is read if none is named: `$TAXIMETER_CONFIG`, else ./taximeter.yaml."""
    named = (os.environ if environ is None else environ).get(FILE_VARIABLE)
    if named:
        return Path(named).expanduser()
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def load(
    path: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Read the configuration from all its sources.

    Args:
        path: the file; None looks for one as `find_file` does.
        overrides: values of flags by dotted key, such as {"relay.ping_seconds": 0}. A value of
            None is a flag that was not given.
        environ: the environment; None is the process's own.

    Raises:
        SettingsError: with every problem found.
    """
    environ = os.environ if environ is None else environ
    path = path or find_file(environ)
    file = read_file(path) if path else None
    sources = _Sources(file)
    values: dict[str, Any] = {}
    if file:
        values.update(file.values)
    for name in sorted(environ):
        if name.startswith(ENVIRONMENT_PREFIX) and name != FILE_VARIABLE:
            sources.note(_variable_key(name), name)
            _put(values, _variable_key(name), _variable_value(name, environ[name]), name)
    for name, value in (overrides or {}).items():
        if value is not None:
            key: Key = tuple(name.split("."))
            sources.note(key, _FLAGS.get(str(key[-1]), f"--{key[-1]}".replace("_", "-")))
            _put(values, key, value, name)
    for key, value, name in standard_variables(values.get("otlp"), environ):
        sources.note(key, name)
        _put(values, key, value, name)
    problems: list[Problem] = []
    settings = None
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            problems += _problems(details, sources)
    if settings is None:
        raise SettingsError(problems)
    _refuse_readable_password(settings, sources)
    return settings


class _Sources:
    """Which source a key came from."""

    def __init__(self, file: File | None) -> None:
        self._file = file
        self._named: dict[Key, str] = {}

    @property
    def values(self) -> dict[str, Any]:
        """What the file says."""
        return self._file.values if self._file else {}

    def note(self, key: Key, source: str) -> None:
        self._named[key] = source

    def where(self, key: Key) -> str:
        """Name the source of a key; of a missing key, that of what it is missing in."""
        for length in range(len(key), 0, -1):
            part = key[:length]
            if part in self._named:
                return self._named[part]
            if self._file and part in self._file.lines:
                return self._file.where(part)
            for named, source in self._named.items():
                if named[:length] == part:
                    return source
        return str(self._file.path) if self._file else "configuration"

    def file_of(self, key: Key) -> File | None:
        """Give the file if it is where the key's value stands."""
        if self._file and key in self._file.lines and key not in self._named:
            return self._file
        return None


def _variable_key(name: str) -> Key:
    return tuple(name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__"))


def _variable_value(name: str, text: str) -> Any:
    # `[::1]:8400` begins like a list but is an address.
    if text.strip()[:1] + text.strip()[-1:] not in ("[]", "{}"):
        return text
    try:
        # Fractions stay text, which is exact, and which every numeric field takes.
        return json.loads(text, parse_float=str)
    except (ValueError, RecursionError):
        key = dotted(_variable_key(name))
        raise SettingsError([Problem(name, key, "is not JSON")]) from None


def _put(values: dict[str, Any], key: Key, value: Any, source: str) -> None:
    here: Any = values
    for part in key[:-1]:
        inner = here.get(part)
        if inner is None:
            inner = {}
        if not isinstance(inner, dict):
            message = "is no group of settings, so it has no parts"
            raise SettingsError([Problem(source, dotted(key[: key.index(part) + 1]), message)])
        # A copy: the file's own values stay as they were read.
        here[part] = inner = dict(inner)
        here = inner
    here[key[-1]] = value


Document = TypeVar("Document", bound=BaseModel)


def read_document(path: Path, model: type[Document]) -> Document:
    """Read another file of the same kind as the configuration: YAML, checked against a model.

    Raises:
        SettingsError: with every problem found.
    """
    sources = _Sources(read_file(path))
    try:
        return model.model_validate(sources.values)
    except ValidationError as error:
        raise SettingsError(
            [
                problem
                for details in error.errors(include_url=False)
                for problem in _problems(details, sources, model)
            ]
        ) from None


def _problems(
    details: ErrorDetails, sources: _Sources, model: type[BaseModel] = Settings
) -> list[Problem]:
    """Turn one of pydantic's errors into ours, of which it may hold several."""
    error = details.get("ctx", {}).get("error")
    if isinstance(error, Contradiction):
        return [Problem(sources.where(key), dotted(key), what) for key, what in error.found]
    return [_problem(details, sources, model)]


def _problem(details: ErrorDetails, sources: _Sources, model: type[BaseModel]) -> Problem:
    """Turn one of pydantic's errors into one of ours, without the value it was about."""
    # Pydantic marks a bad key of a mapping with a part of its own.
    key: Key = tuple(part for part in details["loc"] if part != "[key]")
    where, name = sources.where(key), dotted(key)
    kind, context = details["type"], details.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown(key, where, model)
    if kind == "missing":
        return Problem(where, name, "is missing")
    if kind == "literal_error":
        return Problem(where, name, f"must be {context.get('expected', 'another word')}")
    if kind == "value_error":
        return Problem(where, name, str(context.get("error", "is not valid")))
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return Problem(where, name, "must be a group of settings (a mapping)")
    message = details["msg"]
    return Problem(where, name, message[:1].lower() + message[1:])


def _unknown(key: Key, where: str, model: type[BaseModel]) -> Problem:
    name, last = dotted(key), str(key[-1])
    if _SECRET_NAME.fullmatch(last):
        hint = "name an environment variable that holds it, with api_key_env of the upstream"
        return Problem(where, name, "a secret has no place in the configuration", hint)
    known = sorted(_known_keys(key[:-1], model))
    close = difflib.get_close_matches(last[:64], known, n=1, cutoff=0.6)
    hint = f"did you mean `{close[0]}`?" if close else f"known here: {', '.join(known)}"
    return Problem(where, name, "unknown key", hint)


def _known_keys(parent: Key, model: type[BaseModel]) -> set[str]:
    """Give the keys known below a path, by walking the model's own types."""
    for part in parent:
        field = model.model_fields.get(str(part))
        if field is None:
            continue  # the name of an upstream, a place in a list
        found = _inner_model(field.annotation)
        if found is None:
            return set()
        model = found
    return set(model.model_fields)


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        found = _inner_model(argument)
        if found is not None:
            return found
    return None


def _refuse_readable_password(settings: Settings, sources: _Sources) -> None:
    instead = {"ledger": "TAXIMETER_LEDGER or PGPASSWORD", "state": "TAXIMETER_STATE"}
    urls = {"ledger": settings.ledger_url, "state": settings.state_url}
    problems = [
        Problem(
            file.where((name,)),
            name,
            "carries a password, and others may read the file",
            f"chmod 600 {file.path}, or set {instead[name]} instead",
        )
        for name, url in urls.items()
        if url is not None
        and (file := sources.file_of((name,)))
        and file.open_to_others
        and _values.has_password(url)
    ]
    if problems:
        raise SettingsError(problems)
