"""Steps that move columns between inputs, labels and groups."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

from erasure.data.fields import Label
from erasure.data.preprocess.contract import Columns, NonEmptyColumns, Step
from erasure.data.preprocess.samples import Field, Fields, Samples, names_of
from erasure.errors import DataError

__all__ = ["CopyLabels", "MoveInputs", "MoveLabels", "PickLabels", "elements"]


@dataclass(frozen=True, kw_only=True)
class MoveInputs(Step):
    """Input columns become the groups; what was the group before is dropped.

    Args:
        move: Columns that become groups, by name or by position from 0.
        keep: Columns that stay inputs, in this order, whether they are moved or not; empty for all that are not moved.
    """

    move: NonEmptyColumns
    keep: Columns = ()

    def apply(self, samples: Samples) -> Samples:
        """Move the columns."""
        fields = samples.inputs
        moved = names_of(fields, self.move, "x")
        kept = names_of(fields, self.keep, "x") if self.keep else [name for name in fields if name not in moved]
        if not kept:
            raise DataError(f"no input is left when {', '.join(moved)} are moved")
        return replace(samples, x={name: fields[name] for name in kept}, z={name: fields[name] for name in moved})


@dataclass(frozen=True, kw_only=True)
class MoveLabels(Step):
    """Some of several labels stay labels, and some become the groups; what was the group before is dropped.

    Labels are the columns of y or, if y is one column of several numbers a sample, such as attributes, those numbers. Published files of
    CelebA write ``keep`` as for ``PickLabels``: where ``[0, 31]`` cannot be two columns, it is number 31 of the first one, which is said.

    Args:
        keep: Labels that stay, by name or by position from 0.
        move: Labels that become groups, in the same way.
    """

    keep: NonEmptyColumns
    move: NonEmptyColumns

    def apply(self, samples: Samples) -> Samples:
        """Move the columns."""
        fields = elements(samples.y)
        if _is_path(fields, self.keep):
            path = f"number {self.keep[1]} of column {self.keep[0]}"
            message = f"keep = {list(self.keep)} is read as a path, {path}: there are {len(fields)} columns"
            warnings.warn(message, stacklevel=2)
            return PickLabels(keep=self.keep, move=self.move).apply(samples)
        kept, moved = (names_of(fields, columns, "y") for columns in (self.keep, self.move))
        return replace(samples, y={name: fields[name] for name in kept}, z={name: fields[name] for name in moved})


@dataclass(frozen=True, kw_only=True)
class PickLabels(Step):
    """One element of the labels stays the label, and one becomes the group; each is found by a path.

    ``[0, 31]`` is number 31 of the first column of y, as with CelebA's attributes; ``[1]`` is its second column.

    Args:
        keep: Path of the label: a column by name or position from 0, then the position in it.
        move: Path of the group.
    """

    keep: NonEmptyColumns
    move: NonEmptyColumns

    def apply(self, samples: Samples) -> Samples:
        """Pick the elements."""
        return replace(samples, y=_picked(samples.y, self.keep), z=_picked(samples.y, self.move))


@dataclass(frozen=True, kw_only=True)
class CopyLabels(Step):
    """The labels become the groups too, so that samples can be split by what they were labelled."""

    def apply(self, samples: Samples) -> Samples:
        """Copy the columns."""
        return replace(samples, z=dict(samples.y))


def _is_path(fields: Fields, keep: Sequence[Label]) -> bool:
    """Whether two positions name no two columns, but a column and a number in it."""
    if len(keep) != 2 or len(fields) < 2 or not all(isinstance(each, int) for each in keep):
        return False
    first, second = int(keep[0]), int(keep[1])
    if not 0 <= first < len(fields) <= second:
        return False
    values = [*fields.values()][first].values
    return values.ndim == 2 and second < values.shape[1]


def elements(fields: Fields) -> Fields:
    """The columns; if there is one of several numbers a sample, each of those as a column."""
    called, only = next(iter(fields.items()))
    if len(fields) > 1 or only.values.ndim != 2:
        return fields
    width = only.values.shape[1]
    names = only.names if len(only.names) == width else tuple(f"{called}[{position}]" for position in range(width))
    return {name: Field(only.values[:, position]) for position, name in enumerate(names)}


def _picked(fields: Fields, path: Sequence[Label]) -> Fields:
    first, *rest = path
    (name,) = names_of(fields, [first], "y")
    column = fields[name]
    if not rest:
        return {name: column}
    if column.values.ndim != 2:
        raise DataError(f'there is nothing at {list(path)}: "{name}" is one value a sample')
    inner = elements({name: column})
    (chosen,) = names_of(inner, rest[:1], "y")
    if len(rest) > 1:
        raise DataError(f'there is nothing at {list(path)}: "{chosen}" is one value a sample')
    return {chosen: inner[chosen]}
