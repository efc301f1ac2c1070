"""Data sets as plain tensors and JSON facts, so that they can be stored without pickle and loaded by memory map."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from torch import Tensor

from erasure.data.dataset import Dataset
from erasure.errors import DataError
from erasure.training.batches import Column, TensorColumn
from erasure.training.mapped import MappedColumn
from erasure.types import Json

__all__ = ["TOKENS", "ColumnFormat", "from_artifact", "register_column", "to_artifact"]

TOKENS = "tokens"
"""Name of the list of how tokens read, beside a stored text data set; it is kept apart, for only reports want it."""

_FORMAT = 1
_NAMES = ("class_names", "feature_names", "z_names")
_VALUES = "value_names"
_OPTIONAL = ("z", "rows", "clean_y", "corrupted")
_PREFIX = "x."

_ColumnT = TypeVar("_ColumnT", bound=Column)


@dataclass(frozen=True)
class ColumnFormat(Generic[_ColumnT]):
    """How one kind of column is written as tensors and facts, and read again.

    Args:
        column: The column class.
        to_tensors: From a column to named tensors and JSON facts.
        from_tensors: The way back; must be lossless.
    """

    column: type[_ColumnT]
    to_tensors: Callable[[_ColumnT], tuple[dict[str, Tensor], dict[str, Json]]]
    from_tensors: Callable[[Mapping[str, Tensor], Mapping[str, Json]], _ColumnT]


_FORMATS: dict[str, ColumnFormat[Any]] = {}


def register_column(kind: str, column_format: ColumnFormat[Any]) -> None:
    """Make a kind of column storable.

    Args:
        kind: Its name in stored data; never change it.
        column_format: How it is written and read.

    Raises:
        ValueError: If the name stands for another column class.
    """
    known = _FORMATS.setdefault(kind, column_format)
    if known.column is not column_format.column:
        raise ValueError(f'the column kind "{kind}" is taken by {known.column.__name__}')


def to_artifact(data: Dataset) -> tuple[dict[str, Tensor], dict[str, Json]]:
    """A data set as contiguous CPU tensors, none sharing memory, and JSON facts.

    Raises:
        DataError: If nobody registered how its kind of column is stored.
    """
    stored = TensorColumn if isinstance(data.x, MappedColumn) else type(data.x)
    kind = next((name for name, each in _FORMATS.items() if each.column is stored), None)
    if kind is None:
        raise DataError(f'the inputs of "{data.name}" are a {type(data.x).__name__}, which cannot be stored: register_column()')
    columns, column_facts = _FORMATS[kind].to_tensors(data.x)
    tensors = {f"{_PREFIX}{name}": values for name, values in columns.items()} | {"y": data.y}
    tensors |= {name: getattr(data, name) for name in _OPTIONAL if getattr(data, name) is not None}
    facts: dict[str, Json] = {
        "format": _FORMAT,
        "name": data.name,
        "n_classes": data.n_classes,
        "x_shape": list(data.x_shape),
        "task": data.task,
        "modality": data.modality,
        "column": {"kind": kind, "facts": column_facts},
    }
    facts |= {name: list(getattr(data, name)) for name in _NAMES}
    if data.value_names:  # left out where there are none, as in data sets that were stored before there were any
        facts[_VALUES] = {name: list(values) for name, values in data.value_names.items()}
    return _storable(tensors), facts


def from_artifact(tensors: Mapping[str, Tensor], facts: Mapping[str, Json]) -> Dataset:
    """The data set that :func:`to_artifact` took apart; the tensors are used as they are, memory-mapped ones too.

    Raises:
        DataError: If the facts are of another format or of a kind of column that nobody registered.
    """
    if facts.get("format") != _FORMAT:
        raise DataError(f"stored data set of format {facts.get('format')!r}, expected {_FORMAT}; build it again")
    kind = facts["column"]["kind"]
    if kind not in _FORMATS:
        known = ", ".join(_FORMATS)
        raise DataError(f'stored inputs of the unknown kind "{kind}" (known: {known}); import the package that defines it first')
    columns = {name.removeprefix(_PREFIX): values for name, values in tensors.items() if name.startswith(_PREFIX)}
    others: dict[str, Any] = {name: tuple(facts[name]) for name in _NAMES} | {name: tensors.get(name) for name in _OPTIONAL}
    return Dataset(
        name=facts["name"],
        x=_FORMATS[kind].from_tensors(columns, facts["column"]["facts"]),
        y=tensors["y"],
        n_classes=facts["n_classes"],
        x_shape=tuple(facts["x_shape"]),
        task=facts["task"],
        modality=facts["modality"],
        value_names={name: tuple(values) for name, values in facts.get(_VALUES, {}).items()},
        **others,
    )


def _storable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    storable: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, values in tensors.items():
        values = values.detach().cpu().contiguous()
        storage = values.untyped_storage()
        # safetensors refuses tensors that share memory, and a view would drag its whole base along.
        if storage.nbytes() != values.nbytes or storage.data_ptr() in seen:
            values = values.clone()
        seen.add(values.untyped_storage().data_ptr())
        storable[name] = values
    return storable


def _tensor_column_to_tensors(column: TensorColumn) -> tuple[dict[str, Tensor], dict[str, Json]]:
    parts = {"values": column.values, "mean": column.mean, "std": column.std}
    return {name: part for name, part in parts.items() if part is not None}, {"scale": column.scale}


def _tensor_column_from_tensors(tensors: Mapping[str, Tensor], facts: Mapping[str, Json]) -> TensorColumn:
    return TensorColumn(tensors["values"], scale=facts["scale"], mean=tensors.get("mean"), std=tensors.get("std"))


register_column("tensor", ColumnFormat(TensorColumn, _tensor_column_to_tensors, _tensor_column_from_tensors))
