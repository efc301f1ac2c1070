"""Field types of data components: a parameter that takes one value or a list of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, TypeAlias

from annotated_types import MinLen
from pydantic import BeforeValidator, WithJsonSchema

from erasure.errors import Diagnostic, InvalidParameters
from erasure.types import NonNegativeInt

__all__ = ["Label", "Labels", "Name", "Names", "NonEmptyNames", "OneOrMore", "RowCounts", "require_different"]


def _as_tuple(value: Any) -> Any:
    return value if isinstance(value, tuple | list) else (value,)


def _as_labels(value: Any) -> Any:
    """One or more labels; ``true`` and ``false`` become the words by which truth values of a column are asked for."""
    given = value if isinstance(value, tuple | list) else (value,)
    return tuple(str(each).lower() if isinstance(each, bool) else each for each in given)


def _only_one(value: Any) -> Any:
    return value[0] if isinstance(value, tuple | list) and len(value) == 1 else value


def _one_or_more(*types: str) -> WithJsonSchema:
    each: dict[str, Any] = {"type": types[0] if len(types) == 1 else list(types)}
    return WithJsonSchema({"anyOf": [each, {"type": "array", "items": each}]})


Label: TypeAlias = int | str
"""A class or a group, by its number or its name."""

Labels: TypeAlias = Annotated[
    tuple[Label, ...], BeforeValidator(_as_labels), MinLen(1), _one_or_more("integer", "string", "boolean")
]

Name: TypeAlias = Annotated[str, BeforeValidator(_only_one), MinLen(1), _one_or_more("string")]
"""One name, which may come as a list of one."""

OneOrMore: TypeAlias = Annotated[
    str | tuple[Annotated[str, MinLen(1)], ...], BeforeValidator(_only_one), MinLen(1), _one_or_more("string")
]
"""One name, or a list of several."""

Names: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_as_tuple), _one_or_more("string")]
NonEmptyNames: TypeAlias = Annotated[
    tuple[Annotated[str, MinLen(1)], ...], BeforeValidator(_as_tuple), MinLen(1), _one_or_more("string")
]
RowCounts: TypeAlias = Annotated[tuple[NonNegativeInt, ...], BeforeValidator(_as_tuple), MinLen(1), _one_or_more("integer")]


def require_different(values: Sequence[object], path: str) -> None:
    """Refuse a list in which something stands twice: samples that are read twice are forgotten once.

    Args:
        values: The list.
        path: Class and field that have it, for the error.

    Raises:
        InvalidParameters: If something does; names it.
    """
    twice = next((each for number, each in enumerate(values) if each in values[:number]), None)
    if twice is not None:
        message = f"{twice} stands there twice, so that its samples would be forgotten once and kept once; leave one out"
        raise InvalidParameters([Diagnostic(message, path=path)])
