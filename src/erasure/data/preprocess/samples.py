"""Samples on their way to becoming a data set: inputs, labels and groups as columns of numbers, texts or lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt
from torch import Tensor

from erasure.data.dataset import Dataset
from erasure.errors import DataError, nearest
from erasure.training.batches import Column, TensorColumn
from erasure.types import Task

__all__ = ["Field", "Fields", "Part", "Samples", "objects", "samples_of"]

Part: TypeAlias = Literal["x", "y", "z"]
"""Inputs, labels or groups."""

_SHOWN = 8


@dataclass(frozen=True, eq=False)
class Field:
    """One column.

    Args:
        values: ``(N, …)`` numbers, or ``(N,)`` or ``(N, L)`` objects: texts, or lists of any length.
        names: What each code stands for where the values are codes, such as tokens; or, of other ``(N, K)`` numbers, what each of the K
            is called.
        count: How many different codes there may be, where that is known and there are no names.
    """

    values: npt.NDArray[Any]
    names: tuple[str, ...] = ()
    count: int | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def is_text(self) -> bool:
        """Whether each value is a text."""
        return self.values.dtype == object and self.values.ndim == 1 and all(isinstance(each, str) for each in self.values)

    def numbers(self) -> npt.NDArray[Any] | None:
        """The values as numbers, texts such as ``"3.5"`` too; None if they are not."""
        if self.values.dtype != object:
            return self.values
        if not self.is_text:
            return None
        try:
            return self.values.astype(np.float64)
        except ValueError:
            return None

    def texts(self) -> npt.NDArray[Any] | None:
        """The values as texts: codes by their names; None if they are numbers or lists."""
        if self.is_text:
            return self.values
        if self.names and self.values.ndim == 1 and self.values.dtype != object:
            return objects([self.names[int(code)] for code in self.values])
        return None


Fields: TypeAlias = Mapping[str, Field]
"""Columns by name, in order."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Samples:
    """What preprocess steps work on.

    Args:
        name: How results call the data.
        x: Inputs: columns of a table or texts, or one column of a data set, such as pictures, as it is.
        y: Labels, one column or several.
        z: Groups; empty if there are none.
        task: How labels are read; None leaves it to their shape.
        modality: What the inputs are.
        n_classes: Number of classes, where the source was told.
        categorical: Input columns that become one 0/1 column a value, if they are still text when all steps are done.
        rows: As for :class:`~erasure.data.dataset.Dataset`.
        origin: The data set that the columns are from, where there was one already.
    """

    name: str
    x: Fields | Column
    y: Fields
    z: Fields = field(default_factory=dict)
    task: Task | None = None
    modality: str = "table"
    n_classes: int | None = None
    categorical: tuple[str, ...] = ()
    rows: Tensor | None = None
    origin: Dataset | None = None

    def __len__(self) -> int:
        return len(next(iter(self.x.values()))) if isinstance(self.x, Mapping) else len(self.x)

    @property
    def inputs(self) -> Fields:
        """The input columns.

        Raises:
            DataError: If the inputs are no columns of a table or texts.
        """
        if not isinstance(self.x, Mapping):
            what = {"image": "pictures", "graph": "graphs", "text": "token ids already"}.get(self.modality, "one array")
            raise DataError(f"works on columns of a table or of texts, and these inputs are {what}")
        return self.x

    def part(self, part: Part) -> Fields:
        """The columns of a part.

        Raises:
            DataError: If there are none.
        """
        if part == "x":
            return self.inputs
        if part == "z" and not self.z:
            raise DataError("there are no groups (z) to work on")
        return self.y if part == "y" else self.z

    def with_part(self, part: Part, fields: Fields) -> Samples:
        """The same samples with other columns in a part."""
        return replace(self, **cast(dict[str, Any], {part: dict(fields)}))

    def mapped(self, part: Part, change: Callable[[str, Field], Field], columns: Sequence[int | str] = ()) -> Samples:
        """The same samples with some columns changed.

        Args:
            part: Which part.
            change: From name and column to the new column.
            columns: Columns by name or position; empty for all.

        Raises:
            DataError: If there is no such column; what ``change`` raises is told with the column's name.
        """
        fields = self.part(part)
        chosen = set(names_of(fields, columns, part)) if columns else set(fields)
        return self.with_part(part, {name: change(name, each) if name in chosen else each for name, each in fields.items()})


def names_of(fields: Fields, columns: Iterable[int | str], part: Part) -> list[str]:
    """Names of columns that are given by name, or by position from 0.

    Raises:
        DataError: If there is no such column; says which there are.
    """
    known, found = list(fields), []
    for column in columns:
        if isinstance(column, str) and column in fields:
            found.append(column)
        elif isinstance(column, int) and -len(known) <= column < len(known):
            found.append(known[column])
        else:
            there = ", ".join(known[:_SHOWN]) + (", …" if len(known) > _SHOWN else "")
            hint = nearest(column, known) if isinstance(column, str) else "positions count from 0"
            wanted = f'"{column}"' if isinstance(column, str) else str(column)
            raise DataError(f"{part} has no column {wanted}; it has {there}{f'; {hint}' if hint else ''}")
    return found


def objects(values: Sequence[Any]) -> npt.NDArray[Any]:
    """``(N,)`` objects, also where they are lists of one length."""
    array = np.empty(len(values), dtype=object)
    for position, value in enumerate(values):
        array[position] = value
    return array


def samples_of(data: Dataset) -> Samples:
    """A finished data set as samples: a table column by column, anything else as it is."""
    x: Fields | Column = data.x
    if data.modality == "table" and isinstance(data.x, TensorColumn) and data.x.values.ndim == 2 and data.x.scale is None:
        values = data.x.values.numpy()
        names = data.feature_names or tuple(str(position) for position in range(values.shape[1]))
        x = {name: Field(values[:, position]) for position, name in enumerate(names)}
    multilabel = data.task == "multilabel"
    labels = {"y": Field(data.y.numpy(), data.class_names, None if multilabel else data.n_classes)}
    return Samples(
        name=data.name,
        x=x,
        y=labels,
        z={} if data.z is None else {"z": Field(data.z.numpy(), data.z_names)},
        task="binary" if data.task == "binary" else None,
        modality=data.modality,
        rows=data.rows,
        origin=data,
    )
