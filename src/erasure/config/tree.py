"""The tree of a configuration: values that know where they were written."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from erasure.errors import ConfigError, Diagnostic, Position

__all__ = ["MAX_DEPTH", "Loaded", "Node", "Notice", "child_path"]

MAX_DEPTH = 200
"""Deepest nesting of lists and objects; every walk over a tree may recurse this deep and stay under Python's limit."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Node:
    """A JSON value with its position.

    Nodes are never changed once made, so that trees may share them: to change one, make another with ``with_child``.
    Two nodes are equal only if they are the same; compare ``plain()`` to compare values.

    Args:
        value: An object as ``dict[str, Node]``, a list as ``list[Node]``, or a string, number, boolean or None.
        position: Where the value begins.
        keys: Of an object: where each key is written.
    """

    value: dict[str, Node] | list[Node] | str | int | float | bool | None
    position: Position = field(default_factory=Position)
    keys: dict[str, Position] = field(default_factory=dict)

    @classmethod
    def of(cls, value: Any, file: str = "<python>") -> Node:
        """The tree of a Python value made of mappings, lists, tuples, strings, numbers, booleans and None.

        Args:
            value: The value; numbers may be NumPy scalars. A ``Node`` inside it is kept as it is.
            file: What stands for the file in the positions.

        Raises:
            ConfigError: Listing every part that has no JSON form: other types, keys that are no strings, NaN, infinity, nesting
                beyond ``MAX_DEPTH`` (a mapping that contains itself, for example).
        """
        problems: list[Diagnostic] = []
        node = _of(value, Position(file), "", 0, problems)
        if problems:
            raise ConfigError(problems)
        return node

    @property
    def is_object(self) -> bool:
        """Whether the value has keys."""
        return isinstance(self.value, dict)

    @property
    def is_list(self) -> bool:
        """Whether the value has elements."""
        return isinstance(self.value, list)

    @property
    def kind(self) -> str:
        """The value's kind as a noun phrase for messages: ``an object``, ``a list``, and so on."""
        match self.value:
            case dict():
                return "an object"
            case list():
                return "a list"
            case str():
                return "a string"
            case bool():
                return "true" if self.value else "false"
            case None:
                return "null"
        return "a number"

    def get(self, name: str) -> Node | None:
        """The child under a key; None if there is no such key or the value is no object."""
        return self.value.get(name) if isinstance(self.value, dict) else None

    def items(self) -> Iterator[tuple[str, Node]]:
        """Key and child of each entry of an object; nothing for other kinds."""
        yield from self.value.items() if isinstance(self.value, dict) else ()

    def elements(self) -> Iterator[Node]:
        """Each element of a list; nothing for other kinds."""
        yield from self.value if isinstance(self.value, list) else ()

    def key_position(self, name: str) -> Position:
        """Where a key is written; the object's own position if that is not known."""
        return self.keys.get(name, self.position)

    def plain(self) -> Any:
        """The value as fresh dict, list, str, int, float, bool and None."""
        if isinstance(self.value, dict):
            return {name: child.plain() for name, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def with_child(self, key: str | int, child: Node, key_position: Position | None = None) -> Node:
        """This object or list with one child replaced, or one key added at the end.

        Args:
            key: A key of an object, or the index of an element that exists.
            child: The new child.
            key_position: Where the key is written; by default where it was, or where the child is.

        Raises:
            TypeError: If the value is of a kind that has no such child.
        """
        if isinstance(self.value, dict) and isinstance(key, str):
            written = key_position or self.keys.get(key, child.position)
            return Node({**self.value, key: child}, self.position, {**self.keys, key: written})
        if isinstance(self.value, list) and isinstance(key, int):
            return Node([child if i == key else old for i, old in enumerate(self.value)], self.position)
        raise TypeError(f"{self.kind} has no child {key!r}")

    def as_component(self) -> Node:
        """A bare string as ``{"class": string}``, its long form; any other node as it is."""
        if not isinstance(self.value, str):
            return self
        return Node({"class": self}, self.position, {"class": self.position})

    def __repr__(self) -> str:
        return f"Node({self.plain()!r} at {self.position})"


@dataclass(frozen=True)
class Notice:
    """Something the user should know that is not an error, such as a key that is ignored.

    Args:
        message: One sentence without a full stop.
        path: Where in the configuration, such as ``unlearners[2].parameters``.
        position: File, line and column.
        kind: ``no-effect``, ``left-out`` or ``unlike`` (another implementation) where one of them fits.
    """

    message: str
    path: str = ""
    position: Position = field(default_factory=Position)
    kind: str = ""

    def __str__(self) -> str:
        where = f"{self.position}: " if self.position.line else ""
        path = f"{self.path}: " if self.path else ""
        return f"{where}{path}{self.message}"


@dataclass(frozen=True)
class Loaded:
    """A composed configuration and what was noticed on the way.

    Args:
        root: The tree.
        notices: What was noticed.
        propagated: The values of parameters that ``experiment.parameters.propagate`` gave to sections.
    """

    root: Node
    notices: list[Notice] = field(default_factory=list)
    propagated: frozenset[Node] = frozenset()


def child_path(path: str, key: str | int) -> str:
    """The path of a child: ``unlearners[2].parameters``; a key that would be misread is quoted: ``a["b.c"]``.

    Example:
        >>> child_path(child_path("unlearners", 2), "lr.scale")
        'unlearners[2]["lr.scale"]'
    """
    if isinstance(key, int):
        return f"{path}[{key}]"
    if not key or any(mark in key for mark in '.[]="'):
        escaped = key.replace("\\", "\\\\").replace('"', '\\"')
        return f'{path}["{escaped}"]'
    return f"{path}.{key}" if path else key


def _of(value: Any, position: Position, path: str, depth: int, problems: list[Diagnostic]) -> Node:
    def problem(message: str) -> Node:
        problems.append(Diagnostic(message, path=path, position=position, kind="structure"))
        return Node(None, position)

    if isinstance(value, Node):
        return value
    if depth > MAX_DEPTH:
        return problem(f"nested deeper than {MAX_DEPTH} levels; does it contain itself?")
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                problem(f"a key must be a string, found {name!r}")
        children = {
            name: _of(child, position, child_path(path, name), depth + 1, problems)
            for name, child in value.items()
            if isinstance(name, str)
        }
        return Node(children, position, dict.fromkeys(children, position))
    if isinstance(value, list | tuple):
        return Node([_of(v, position, child_path(path, i), depth + 1, problems) for i, v in enumerate(value)], position)
    if value is None or isinstance(value, str | bool):
        return Node(value, position)
    # NumPy registers its scalars with these classes, so they are understood without an import of NumPy.
    if isinstance(value, numbers.Integral):
        return Node(int(value), position)
    if isinstance(value, numbers.Real):
        number = float(value)
        return Node(number, position) if math.isfinite(number) else problem(f"expected a finite number, found {number}")
    return problem(f"expected a JSON value (object, list, string, number, boolean or None), found {type(value).__name__}")
