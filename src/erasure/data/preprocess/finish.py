"""From samples to a data set: every column a number, or one clear error."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from erasure.data.checks import checked
from erasure.data.dataset import Dataset
from erasure.data.preprocess.samples import Field, Fields, Samples
from erasure.data.preprocess.values import coded
from erasure.errors import DataError
from erasure.training.batches import Column, TensorColumn
from erasure.types import Task

__all__ = ["finished"]

_SHOWN = 6
_CUT = 40
_EXACT_DIGITS = 15
_PLAIN = re.compile(r"[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def finished(samples: Samples) -> Dataset:
    """The data set that samples make.

    Inputs must be numbers by now, but for columns that the source lists as categorical; labels and groups become codes in sorted order
    where they are not whole numbers.

    Raises:
        DataError: If inputs are left that are no numbers, or labels that no network can learn.
    """
    x, feature_names, modality = _inputs(samples)
    y, task, n_classes, class_names = _labels(samples)
    z, z_names = _groups(samples.z)
    origin = samples.origin
    corrupted = None if origin is None else origin.corrupted
    clean_y = None if origin is None else origin.clean_y
    if origin is not None and clean_y is not None and not torch.equal(y, origin.y):
        raise DataError("labels that were made wrong on purpose cannot be changed; put Poisoned around the preprocessed source")
    x_shape = x.sample_shape if isinstance(x, TensorColumn) else cast(Dataset, origin).x_shape
    return checked(
        Dataset(
            name=samples.name,
            x=x,
            y=y,
            z=z,
            n_classes=n_classes,
            task=task,
            modality=modality,
            x_shape=x_shape,
            class_names=class_names,
            feature_names=feature_names,
            value_names=_value_names(samples),
            z_names=z_names,
            token_names=_token_names(samples),
            rows=samples.rows,
            clean_y=clean_y,
            corrupted=corrupted,
        )
    )


def _inputs(samples: Samples) -> tuple[Column, tuple[str, ...], str]:
    """The inputs, the names of a table's columns, and what they are."""
    if not isinstance(samples.x, Mapping):
        return samples.x, (), samples.modality
    if not samples.x:
        raise DataError("no input is left")
    if len(samples.x) == 1:
        (only,) = samples.x.values()
        if only.values.dtype != object and only.values.ndim > (1 if samples.modality == "text" else 2):
            values = torch.from_numpy(np.ascontiguousarray(only.values))
            is_tokens = samples.modality == "text" and not values.is_floating_point()
            return TensorColumn(values.to(torch.int64 if is_tokens else torch.float32)), (), samples.modality
    blocks: list[npt.NDArray[np.float32]] = []
    names: list[str] = []
    left: dict[str, str] = {}
    for name, column in samples.x.items():
        made = _one_hot(name, column) if name in samples.categorical and column.is_text else _numeric(name, column)
        if made is None:
            left[name] = _example(column)
            continue
        blocks.append(made[0])
        names += made[1]
    if left:
        name, example = next(iter(left.items()))
        shown = ", ".join(f'"{each}"' for each in list(left)[:_SHOWN]) + (", …" if len(left) > _SHOWN else "")
        what = "lists" if samples.x[name].values.ndim == 1 and not samples.x[name].is_text else "text"
        remedy = (
            "ParseLists or ListToTensor makes numbers of them"
            if what == "lists"
            else ("Encode makes codes of it, Tokenize makes tokens of it, or list it as categorical")
        )
        raise DataError(
            f'{what} left in the input columns {shown} ("{name}" has {example} in sample 0) after all steps; {remedy}'
        )
    return TensorColumn(torch.from_numpy(np.ascontiguousarray(np.concatenate(blocks, axis=1)))), tuple(names), "table"


def _value_names(samples: Samples) -> dict[str, tuple[str, ...]]:
    if not isinstance(samples.x, Mapping):
        return {} if samples.origin is None else dict(samples.origin.value_names)
    codes = ((name, column) for name, column in samples.x.items() if column.values.ndim == 1 and column.values.dtype != object)
    return {name: column.names for name, column in codes if column.names and not (name in samples.categorical and column.is_text)}


def _token_names(samples: Samples) -> tuple[str, ...]:
    if samples.modality != "text":
        return ()
    if not isinstance(samples.x, Mapping):
        return () if samples.origin is None else samples.origin.token_names
    return next(iter(samples.x.values())).names


def _one_hot(name: str, column: Field) -> tuple[npt.NDArray[np.float32], list[str]]:
    made = coded(name, column)
    return np.eye(len(made.names), dtype=np.float32)[made.values], [f"{name}={value}" for value in made.names]


def _numeric(name: str, column: Field) -> tuple[npt.NDArray[np.float32], list[str]] | None:
    numbers = column.numbers()
    if numbers is None:
        return None
    if numbers.ndim > 2:
        raise DataError(f'the column "{name}" holds arrays of shape {numbers.shape[1:]}, which cannot stand beside other columns')
    with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused with its column's name
        block = numbers.reshape(len(numbers), -1).astype(np.float32)
    return block, [name] if numbers.ndim == 1 else [f"{name}[{position}]" for position in range(numbers.shape[1])]


def _labels(samples: Samples) -> tuple[Tensor, Task, int, tuple[str, ...]]:
    # What is a group too is no label, as long as there is another one.
    fields = {name: each for name, each in samples.y.items() if name not in samples.z} or dict(samples.y)
    if not fields:
        raise DataError("no label is left")
    (name, column), *others = fields.items()
    if not others and (column.values.ndim == 1 or column.values.shape[1:] == (1,)):
        flat = Field(column.values.reshape(-1), column.names, column.count)
        return _classes(samples, name, flat)
    numbers = [each.numbers() for each in fields.values()]
    bits = None if any(each is None for each in numbers) else np.column_stack(cast("list[npt.NDArray[np.float64]]", numbers))
    if samples.task in {"classification", "binary"} or bits is None or not np.isin(bits, (0, 1)).all():
        what = f"{len(fields)} columns ({', '.join(fields)})" if others else f"{column.values.shape[1]} numbers a sample"
        raise DataError(
            f"the labels have {what} after all steps, expected one, or several of 0 and 1 for a multilabel task; MoveLabels and "
            "PickLabels choose"
        )
    names = tuple(fields) if others else column.names
    if samples.task is None and bits.shape[1] > 1 and (bits.sum(axis=1) == 1).all():
        what = f"the labels have one 1 among {bits.shape[1]} numbers in each of {len(bits)} samples"
        if not others:
            warnings.warn(
                f'{what} and are taken for classes; give task = "multilabel" if they are labels of their own', stacklevel=4
            )
            called = names if len(names) == bits.shape[1] else ()
            return torch.from_numpy(bits.argmax(axis=1)), "classification", bits.shape[1], called
        warnings.warn(
            f"{what} and are taken for labels of their own; make one column of classes if they exclude each other", stacklevel=4
        )
    return torch.from_numpy(bits.astype(np.float32)), "multilabel", bits.shape[1], names if len(names) == bits.shape[1] else ()


def _classes(samples: Samples, name: str, column: Field) -> tuple[Tensor, Task, int, tuple[str, ...]]:
    """One class a sample: whole numbers from 0 as they are, anything else as codes."""
    task: Task = "binary" if samples.task == "binary" else "classification"
    declared = samples.n_classes or (2 if task == "binary" else None) or len(column.names) or column.count
    numbers = _exact(column)
    if numbers is None and not column.is_text:
        raise DataError(f'the label "{name}" has {_example(column)} in sample 0, expected a class')
    codes = column
    if numbers is not None:
        whole = np.isfinite(numbers) & (numbers == np.floor(numbers))
        if not whole.all():
            first = int((~whole).argmax())
            raise DataError(f'the label "{name}" is {numbers[first]} in sample {first}, expected whole numbers or text')
        found = np.unique(numbers)
        if column.names or (found[0] >= 0 and (found[-1] < declared if declared else found[-1] == len(found) - 1)):
            codes = Field(numbers.astype(np.int64), column.names, column.count)
        else:
            codes = coded(name, Field(numbers.astype(np.int64)))
    else:
        codes = coded(name, column)
    n_classes = declared if declared and not (codes is not column and codes.names and not column.names) else samples.n_classes
    n_classes = n_classes or (2 if task == "binary" else len(codes.names) or int(codes.values.max()) + 1)
    if len(codes.names) > n_classes:
        shown = ", ".join(codes.names[:_SHOWN]) + (", …" if len(codes.names) > _SHOWN else "")
        raise DataError(f'the label "{name}" has {len(codes.names)} values, expected {n_classes} classes: {shown}')
    return torch.from_numpy(codes.values), task, n_classes, codes.names if len(codes.names) == n_classes else ()


def _exact(column: Field) -> npt.NDArray[Any] | None:
    """The values as numbers; None where texts would become equal that are not, such as 007 and 7 or long identifiers."""
    if column.is_text and not all(_PLAIN.fullmatch(each) and len(each) <= _EXACT_DIGITS for each in column.values):
        return None
    return column.numbers()


def _groups(fields: Fields) -> tuple[Tensor | None, tuple[str, ...]]:
    if not fields:
        return None, ()
    if len(fields) == 1:
        ((called, only),) = fields.items()
        numbers = _exact(only)
        if numbers is not None and (numbers == np.floor(numbers)).all() and numbers.ndim <= 2:
            return torch.from_numpy(numbers.astype(np.int64)), only.names
        made = coded(called, only)
        return torch.from_numpy(made.values), made.names
    columns: list[npt.NDArray[np.int64]] = []
    names: list[str] = []
    for name, column in fields.items():
        made = column if column.names and column.values.dtype != object else coded(name, column)
        if made.values.ndim > 1:
            raise DataError(f'the group "{name}" holds several values a sample, and there are other groups; choose one')
        # Codes of different columns never coincide, so a splitter can tell them apart.
        columns.append(made.values + len(names))
        names += [f"{name}={value}" for value in made.names]
    return torch.from_numpy(np.stack(columns, axis=1)), tuple(names)


def _example(column: Field) -> str:
    text = repr(column.values[0])
    return text if len(text) <= _CUT else f"{text[: _CUT - 3]}..."
