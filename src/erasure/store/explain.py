"""What an address is made of, and why two differ."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from erasure.errors import StoreError
from erasure.store.directory import Store
from erasure.types import Json

__all__ = ["ABSENT", "ContentDifference", "Input", "Made", "differences", "inputs", "made_of"]

ABSENT: Final = type("Absent", (), {"__repr__": lambda self: "absent"})()
"""Stands for a value that one of two addresses has not."""

_ADDRESS = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Made:
    """Kind and content of an address; ``is_stored`` unless it is only named by other objects, as partitions are."""

    address: str
    kind: str
    content: Json
    is_stored: bool = True


@dataclass(frozen=True)
class Input:
    """An address in a content: where it stands, and its kind, or an empty one if nothing in the store knows it."""

    path: str
    address: str
    kind: str
    is_stored: bool


@dataclass(frozen=True)
class ContentDifference:
    """A place at which two contents differ.

    Args:
        path: Where, such as ``predictor.parameters.epochs``.
        one: The value of the first, or :data:`ABSENT`.
        other: The value of the second, or :data:`ABSENT`.
        kind: What both are, where they are addresses of one kind.
        because: Why these two addresses differ in turn.
        explained_before: Whether the reasons were given at an earlier place.
    """

    path: str
    one: Any
    other: Any
    kind: str = ""
    because: tuple[ContentDifference, ...] = field(default=())
    explained_before: bool = False


class _Names:
    """Looks addresses up: objects by their manifests, others in the facts ``explains`` of stored splits."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._found: dict[str, Made | None] = {}
        self._named: dict[str, Made] | None = None

    def of(self, address: str) -> Made | None:
        if address not in self._found:
            self._found[address] = self._stored(address) or self._names().get(address)
        return self._found[address]

    def _stored(self, address: str) -> Made | None:
        try:
            artifact = self._store.open(address)
        except StoreError:
            return None
        return Made(address, artifact.kind, artifact.content)

    def _names(self) -> dict[str, Made]:
        if self._named is None:
            self._named = {}
            for entry in self._store.entries():
                if entry.kind == "split":
                    self._named |= self._explained_by(entry.address)
        return self._named

    def _explained_by(self, address: str) -> dict[str, Made]:
        try:
            explains = self._store.open(address).facts.get("explains")
        except StoreError:
            return {}
        if not isinstance(explains, Mapping):
            return {}
        return {
            name: Made(name, str(made.get("kind", "")), made.get("content"), is_stored=False)
            for name, made in explains.items()
            if isinstance(made, Mapping)
        }


def made_of(store: Store, address: str) -> Made:
    """Kind and content of an object, or of a partition that a stored split explains.

    Raises:
        StoreError: If nothing in the store knows the address, or its object is damaged.
    """
    if store.contains(address):
        artifact = store.open(address)
        return Made(address, artifact.kind, artifact.content)
    found = _Names(store).of(address)
    if found is None:
        raise StoreError(f"Nothing in the store {store.root} says what {address} is made of.")
    return found


def inputs(store: Store, content: Json) -> list[Input]:
    """The addresses in a content, in its order, each once."""
    names, found = _Names(store), {}
    for path, value in _leaves(content, ""):
        if _is_address(value) and value not in found:
            made = names.of(value)
            found[value] = Input(path, value, made.kind if made else "", bool(made and made.is_stored))
    return list(found.values())


def differences(store: Store, one: Made, other: Made) -> list[ContentDifference]:
    """Where two contents differ; two addresses at one place are explained by what they are made of, as deep as it goes."""
    return list(_compared(_Names(store), one.content, other.content, "", set()))


def _compared(names: _Names, one: Any, other: Any, path: str, seen: set[tuple[str, str]]) -> Iterator[ContentDifference]:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}):
            below = f"{path}.{key}" if path else key
            yield from _compared(names, one.get(key, ABSENT), other.get(key, ABSENT), below, seen)
    elif isinstance(one, list) and isinstance(other, list):
        for index in range(max(len(one), len(other))):
            first, second = (items[index] if index < len(items) else ABSENT for items in (one, other))
            yield from _compared(names, first, second, f"{path}[{index}]", seen)
    elif type(one) is not type(other) or one != other:
        yield _explained(names, one, other, path, seen)


def _explained(names: _Names, one: Any, other: Any, path: str, seen: set[tuple[str, str]]) -> ContentDifference:
    if not (_is_address(one) and _is_address(other)):
        return ContentDifference(path, one, other)
    first, second = names.of(one), names.of(other)
    if first is None or second is None or first.kind != second.kind:
        return ContentDifference(path, one, other)
    if (one, other) in seen:
        return ContentDifference(path, one, other, first.kind, explained_before=True)
    seen.add((one, other))
    return ContentDifference(path, one, other, first.kind, tuple(_compared(names, first.content, second.content, "", seen)))


def _leaves(value: Json, path: str) -> Iterator[tuple[str, Json]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}[{index}]")
    else:
        yield path, value


def _is_address(value: Any) -> bool:
    return isinstance(value, str) and _ADDRESS.fullmatch(value) is not None
