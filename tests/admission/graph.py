"""All that hangs on an object, as plain data: to hold one graph of objects against another."""

from __future__ import annotations

import inspect
from collections import deque
from typing import Any

from taximeter.admission._plan import Plan
from taximeter.call import Word

PLAIN = frozenset({int, float, str, bool, type(None)})
_FIELDS: dict[type, tuple[str, ...]] = {}


def fields_of(kind: type) -> tuple[str, ...]:
    """Give the names of all that objects of this class keep in slots, or have from the class."""
    names = _FIELDS.get(kind)
    if names is None:
        flat: list[str] = []
        for base in kind.__mro__:
            slots = vars(base).get("__slots__", ())
            flat += [slots] if isinstance(slots, str) else slots
            flat += inspect.get_annotations(base)
        names = _FIELDS[kind] = tuple(dict.fromkeys(flat))
    return names


def all_of(*things: object) -> object:
    """Give all that hangs on some objects as plain data, to hold one graph against another.

    Every field of every object, by whatever name it goes now or later; an object that has been met
    already is told by its number. A plan is told by its key, and what is configured by itself.
    """
    met: dict[int, int] = {}

    def read(thing: Any) -> object:
        kind = type(thing)
        if kind in PLAIN or isinstance(thing, Word):
            return thing
        if kind is tuple:
            return [read(each) for each in thing]
        if id(thing) in met:
            return ("met", met[id(thing)])
        met[id(thing)] = len(met)
        if kind is list or kind is deque:
            return [each if type(each) in PLAIN else read(each) for each in thing]
        if kind is Plan:
            return thing.key
        if kind is frozenset or callable(thing):
            return None
        if kind.__module__ == "taximeter.admission._model":
            return thing
        found: list[object] = [kind.__name__]
        if isinstance(thing, dict):
            found += [(read(key), read(value)) for key, value in thing.items()]
        names = set(fields_of(kind)).union(getattr(thing, "__dict__", ()))
        found += [(name, read(getattr(thing, name))) for name in sorted(names)]
        return found

    return read(things)
