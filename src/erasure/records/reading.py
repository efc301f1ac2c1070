"""JSON as typed records and back: each value is checked against the type of its field."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from erasure.types import Json

__all__ = ["Unreadable", "as_json", "as_record"]

_Record = TypeVar("_Record")
_MISSING = dataclasses.MISSING


class Unreadable(ValueError):
    """A value is not of the type of its field; the message names the field."""


def as_record(cls: type[_Record], value: Any, at: str = "") -> _Record:
    """A record from JSON: absent fields get their defaults, unknown ones are passed over or go to the field that takes the rest.

    Args:
        cls: A frozen dataclass. Metadata of its fields may have ``key``, the name in JSON, and ``rest``, for all unknown names.
        value: The JSON.
        at: Where it stands, for the message.

    Raises:
        Unreadable: If a value is missing or not of its field's type.
    """
    if not isinstance(value, Mapping):
        raise Unreadable(f"{at or 'it'} is {_short(value)}; expected an object")
    given: dict[str, Any] = {}
    known = set()
    rest = None
    for name, key, kind, takes_rest, is_required in _fields(cast(Any, cls)):
        if takes_rest:
            rest = name
            continue
        known.add(key)
        here = f"{at}.{key}" if at else key
        if key in value and not (value[key] is None and not is_required and not _allows_none(kind)):
            given[name] = _value(kind, value[key], here)
        elif is_required:
            raise Unreadable(f"{here} is missing")
    if rest is not None:
        given[rest] = {key: each for key, each in value.items() if key not in known}
    return cls(**given)


@functools.cache
def _fields(cls: type[Any]) -> tuple[tuple[str, str, Any, bool, bool], ...]:
    """Name, name in JSON, type, whether it takes what is left, and whether it is required, of each field."""
    hints = get_type_hints(cls)
    return tuple(
        (
            each.name,
            each.metadata.get("key", each.name),
            hints[each.name],
            bool(each.metadata.get("rest")),
            each.default is _MISSING and each.default_factory is _MISSING,
        )
        for each in dataclasses.fields(cls)
    )


def _allows_none(kind: Any) -> bool:
    return kind is Any or type(None) in get_args(kind)


def _value(kind: Any, value: Any, at: str) -> Any:
    origin = get_origin(kind)
    if kind is Any:
        return value
    if origin in {Union, types.UnionType}:
        return _one_of(get_args(kind), value, at)
    if origin is tuple:
        return _several(get_args(kind)[0], value, at)
    if origin is Literal:
        if value not in get_args(kind):
            raise Unreadable(f"{at} is {_short(value)}; expected one of {', '.join(map(str, get_args(kind)))}")
        return value
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return as_record(kind, value, at)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise Unreadable(f"{at} is {_short(value)}; expected an object")
        inner = get_args(kind)[1]
        return {str(key): _value(inner, each, f"{at}.{key}") for key, each in value.items()}
    if not _fits(kind, value):
        raise Unreadable(f"{at} is {_short(value)}; expected {_WORDS.get(kind, kind)}")
    return value


def _one_of(kinds: tuple[Any, ...], value: Any, at: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    others = [kind for kind in kinds if kind is not type(None)]
    for kind in others[:-1]:
        if _fits(kind, value):
            return value
    return _value(others[-1], value, at)


def _several(kind: Any, value: Any, at: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise Unreadable(f"{at} is {_short(value)}; expected a list")
    present = set(map(type, value))  # of thousands of counts the types are a handful
    if kind in _WORDS and present <= _EXACT[kind]:
        return tuple(value)
    return tuple(_value(kind, each, f"{at}[{number}]") for number, each in enumerate(value))


_WORDS: Mapping[Any, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
_EXACT: Mapping[Any, set[type]] = {str: {str}, int: {int}, float: {int, float}, bool: {bool}}


def _fits(kind: Any, value: Any) -> bool:
    return type(value) in _EXACT.get(kind, ())


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def as_json(value: Any) -> Any:
    """A record as JSON, without optional fields that have their default; numbers that are not finite become null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _object(value)
    if isinstance(value, Mapping):
        return {str(key): as_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def _object(record: Any) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for each in dataclasses.fields(record):
        value = getattr(record, each.name)
        if each.metadata.get("rest"):
            found |= as_json(value)
        elif value != (each.default if each.default_factory is _MISSING else each.default_factory()):
            found[each.metadata.get("key", each.name)] = as_json(value)
    return found
