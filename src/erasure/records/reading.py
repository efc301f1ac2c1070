"""JSON as typed records and back: each value is checked against the type of its field."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from erasure.types import Json

__all__ = ["Unreadable", "as_json", "as_record"]

_Record = TypeVar("_Record")
_Reader: TypeAlias = Callable[[Any], Any]
_MISSING = dataclasses.MISSING


class Unreadable(ValueError):
    """A value is not of the type of its field; the message names the field."""


class _Unfit(Exception):
    """What is wrong with a value, and where it stands from the outside in: names of fields and numbers of elements."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.path: list[str | int] = []


def as_record(cls: type[_Record], value: Any, at: str = "") -> _Record:
    """A record from JSON: absent fields get their defaults, unknown ones are passed over or go to the field that takes the rest.

    Args:
        cls: A frozen dataclass. Metadata of its fields may have ``key``, the name in JSON, and ``rest``, for all unknown names.
        value: The JSON.
        at: Where it stands, for the message.

    Raises:
        Unreadable: If a value is missing or not of its field's type.
    """
    try:
        return cast(_Record, _reader(cast(Any, cls))(value))
    except _Unfit as unfit:
        for part in reversed(unfit.path):
            at += f"[{part}]" if isinstance(part, int) else f".{part}" if at else part
        raise Unreadable(f"{at or 'it'} {unfit}") from None


@functools.cache
def _fields(cls: type[Any]) -> tuple[tuple[tuple[str, str, _Reader, bool, bool], ...], str | None, frozenset[str]]:
    """Name, name in JSON, reader, whether it may be None and is required, of each field; the field that takes what is left; known names."""
    hints = get_type_hints(cls)
    every = dataclasses.fields(cls)
    rest = next((each.name for each in every if each.metadata.get("rest")), None)
    found = tuple(
        (
            each.name,
            each.metadata.get("key", each.name),
            _reader(hints[each.name]),
            hints[each.name] is Any or type(None) in get_args(hints[each.name]),
            each.default is _MISSING and each.default_factory is _MISSING,
        )
        for each in every
        if each.name != rest
    )
    return found, rest, frozenset(key for _, key, *_ in found)


@functools.cache
def _reader(kind: Any) -> _Reader:
    """What reads values of a type: types are looked into once, for there may be hundreds of thousands of values."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return lambda value: value
    if origin in {Union, types.UnionType}:
        return _union_reader(inner)
    if origin is tuple:
        return _tuple_reader(inner[0])
    if origin is Literal:
        return _checked(lambda value: value in inner, f"one of {', '.join(map(str, inner))}")
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return functools.partial(_read_record, kind)
    if origin is not None and issubclass(origin, Mapping):
        return functools.partial(_read_mapping, _reader(inner[1]))
    exact = _EXACT.get(kind, frozenset())
    return _checked(lambda value: type(value) in exact, str(_WORDS.get(kind, kind)))


def _checked(fits: Callable[[Any], bool], expected: str) -> _Reader:
    def read(value: Any) -> Any:
        if not fits(value):
            raise _Unfit(f"is {_short(value)}; expected {expected}")
        return value

    return read


def _read_record(cls: type[Any], value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise _Unfit(f"is {_short(value)}; expected an object")
    given: dict[str, Any] = {}
    fields, rest, known = _fields(cast(Any, cls))
    for name, key, read, allows_none, is_required in fields:
        if key in value and not (value[key] is None and not is_required and not allows_none):
            given[name] = _at(key, read, value[key])
        elif is_required:
            raise _placed(key, _Unfit("is missing"))
    if rest is not None:
        given[rest] = {key: each for key, each in value.items() if key not in known}
    return cls(**given)


def _read_mapping(read: _Reader, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _Unfit(f"is {_short(value)}; expected an object")
    return {str(key): _at(str(key), read, each) for key, each in value.items()}


def _at(place: str | int, read: _Reader, value: Any) -> Any:
    try:
        return read(value)
    except _Unfit as unfit:
        raise _placed(place, unfit) from None


def _placed(place: str | int, unfit: _Unfit) -> _Unfit:
    unfit.path.append(place)
    return unfit


def _union_reader(kinds: tuple[Any, ...]) -> _Reader:
    others = [kind for kind in kinds if kind is not type(None)]
    with_none = len(others) < len(kinds)
    plain = frozenset[type]().union(*(_EXACT.get(kind, ()) for kind in others[:-1]))
    last = _reader(others[-1])

    def read(value: Any) -> Any:
        return value if (value is None and with_none) or type(value) in plain else last(value)

    return read


def _tuple_reader(kind: Any) -> _Reader:
    exact, read_one = _exact(kind), _reader(kind)

    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise _Unfit(f"is {_short(value)}; expected a list")
        if exact and set(map(type, value)) <= exact:  # of thousands of counts the types are a handful
            return tuple(value)
        return tuple([_at(number, read_one, each) for number, each in enumerate(value)])

    return read


def _exact(kind: Any) -> frozenset[type]:
    """The types of which every value is of ``kind``; none where values must be looked into."""
    if get_origin(kind) in {Union, types.UnionType}:
        parts = [frozenset({each}) if each is type(None) else _exact(each) for each in get_args(kind)]
        return frozenset[type]().union(*parts) if all(parts) else frozenset()
    return _EXACT.get(kind, frozenset())


_WORDS: Mapping[Any, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
_EXACT: Mapping[Any, frozenset[type]] = {
    str: frozenset({str}),
    int: frozenset({int}),
    float: frozenset({int, float}),
    bool: frozenset({bool}),
}


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
