"""Checks that a data set can be learned from, before anything is trained on it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from erasure.data.dataset import Dataset
from erasure.errors import DataError
from erasure.functional.tokens import ANSWER, UNLABELLED
from erasure.training.batches import TensorColumn
from erasure.types import Task

__all__ = ["check_dataset", "checked", "read_as"]

_BLOCK_VALUES = 1 << 24
_REMEDY = "correct these values, or leave out the samples"
_SHOWN = 5


def check_dataset(data: Dataset) -> list[str]:
    """Refuse a data set that cannot be learned from.

    **Cost**: one pass over the columns.

    Args:
        data: The data set.

    Returns:
        Warnings, one sentence each: what can be learned from but was hardly meant.

    Raises:
        DataError: If it is empty, its columns differ in length, a label is out of range or an input is not finite; names the
            column and the first samples.
    """
    _check_lengths(data)
    _check_labels(data)
    if isinstance(data.x, TensorColumn):
        _check_shape(data, data.x)
        _check_finite(data, data.x.values)
    return _warnings(data)


def checked(data: Dataset) -> Dataset:
    """The same data set, after :func:`check_dataset`."""
    check_dataset(data)
    return data


def read_as(data: Dataset, task: Task | None) -> Dataset:
    """The data set with its labels read in another way.

    Args:
        data: The data set.
        task: How labels are read; None as the source says.

    Raises:
        DataError: If they cannot be read so.
    """
    if task is None or task == data.task:
        return data
    found = {"multilabel": f"{data.n_classes} labels of 0 or 1", "generation": "an answer"}.get(
        data.task, f"one of {data.n_classes} classes"
    )
    if {"multilabel", "generation"} & {task, data.task} or (task == "binary" and data.n_classes != 2):
        raise DataError(f'"{data.name}": each sample has {found}, which cannot be read as task = "{task}"; leave the task out')
    return replace(data, task=task)


def _check_lengths(data: Dataset) -> None:
    n_samples = len(data.x)
    if n_samples == 0:
        raise DataError(f'"{data.name}" is empty')
    columns = {"y": data.y} | {name: each for name, each in (("z", data.z), ("rows", data.rows)) if each is not None}
    for column, values in columns.items():
        if len(values) != n_samples:
            raise DataError(f'"{data.name}": x has {n_samples} samples, but {column} has {len(values)}')
    if data.z is not None and (data.z.dtype != torch.int64 or data.z.ndim not in {1, 2}):
        raise DataError(f'"{data.name}": z must be int64 of shape (N,) or (N, m), found {_described(data.z)}')
    if data.class_names and len(data.class_names) != data.n_classes:
        raise DataError(f'"{data.name}": {len(data.class_names)} class names for {data.n_classes} classes')


def _check_labels(data: Dataset) -> None:
    y = data.y
    if data.task == "generation":
        _check_answers(data)
        return
    if data.task == "multilabel":
        if y.shape[1:] != (data.n_classes,) or not y.is_floating_point():
            raise DataError(f'"{data.name}": y must be float32 of shape (N, {data.n_classes}), found {_described(y)}')
        bad = ((y != 0) & (y != 1)).any(dim=1)
        expected = "0 or 1"
    else:
        if y.ndim != 1 or y.dtype != torch.int64:
            raise DataError(f'"{data.name}": y must be int64 of shape (N,), found {_described(y)}')
        if data.task == "binary" and data.n_classes != 2:
            raise DataError(f'"{data.name}": a binary task has 2 classes, found n_classes = {data.n_classes}')
        bad = (y < 0) | (y >= data.n_classes)
        expected = f"whole numbers from 0 to {data.n_classes - 1}" if data.n_classes > 1 else "whole numbers from 0"
    if bad.any():
        first = int(bad.nonzero()[0, 0])
        raise DataError(
            f'"{data.name}": {int(bad.sum())} labels are out of range: sample {first} has {y[first].tolist()}, expected {expected}'
        )


def _check_answers(data: Dataset) -> None:
    y, x = data.y, data.x
    if y.ndim != 2 or y.dtype != torch.int64:
        raise DataError(f'"{data.name}": y must hold the tokens of each answer, int64 of shape (N, T), found {_described(y)}')
    if not isinstance(x, TensorColumn) or x.values.ndim != 3 or x.values.shape[1] < 2 or x.values.shape[1] % 2:
        raise DataError(f'"{data.name}": x must hold tokens and their roles, int64 of shape (N, 2 V, L)')
    is_token = y != UNLABELLED
    bad = (is_token & ((y < 0) | (y >= data.n_classes))).any(dim=1)
    if bad.any():
        first = int(bad.nonzero()[0, 0])
        raise DataError(f'"{data.name}": sample {first} has tokens outside the vocabulary of {data.n_classes}')
    if not is_token[:, 0].all():
        first = int((~is_token[:, 0]).nonzero()[0, 0])
        raise DataError(f'"{data.name}": sample {first} has no token to learn; its answer is empty')
    if not torch.equal((x.values[:, 1] >= ANSWER).sum(1), is_token.sum(1)):
        raise DataError(f'"{data.name}": y has other numbers of tokens than the answers in x')


def _check_shape(data: Dataset, x: TensorColumn) -> None:
    if x.sample_shape != tuple(data.x_shape):
        raise DataError(f'"{data.name}": x_shape says {tuple(data.x_shape)}, but a sample has shape {x.sample_shape}')
    if data.feature_names and x.values.ndim == 2 and len(data.feature_names) != x.values.shape[1]:
        raise DataError(f'"{data.name}": {len(data.feature_names)} feature names for {x.values.shape[1]} columns')
    if x.std is not None and bool((x.std == 0).any()):
        raise DataError(f'"{data.name}": the column\'s std contains 0')


def _check_finite(data: Dataset, values: Tensor) -> None:
    if not values.is_floating_point():
        return
    rows = max(1, _BLOCK_VALUES // max(1, values[:1].numel()))
    bad = torch.cat([(~torch.isfinite(block)).flatten(1).any(dim=1) for block in torch.split(values, rows)])
    if not bad.any():
        return
    ids = bad.nonzero().flatten()
    samples = ", ".join(str(i) for i in ids[:_SHOWN].tolist()) + (", …" if len(ids) > _SHOWN else "")
    if values.ndim != 2:
        raise DataError(f'"{data.name}": {len(ids)} samples have inputs that are NaN or infinite: {samples}; {_REMEDY}')
    per_column = (~torch.isfinite(values[ids])).sum(dim=0)
    worst = per_column.nonzero().flatten().tolist()
    columns = ", ".join(f"{_feature(data, k)} ({int(per_column[k])})" for k in worst[:_SHOWN])
    more = ", …" if len(worst) > _SHOWN else ""
    raise DataError(f'"{data.name}": NaN or infinite values in {columns}{more}; first samples: {samples}; {_REMEDY}')


def _warnings(data: Dataset) -> list[str]:
    if data.task == "generation":
        return []
    if data.task == "multilabel":
        constant = (data.y == data.y[:1]).all(dim=0).nonzero().flatten().tolist()
        return [f'"{data.name}": the labels {constant} are the same for every sample'] if constant else []
    present = torch.unique(data.y)
    if len(present) == 1:
        return [f'"{data.name}": every sample is of class {int(present[0])}']
    if len(present) < data.n_classes:
        return [f'"{data.name}": {data.n_classes - len(present)} of {data.n_classes} classes have no sample']
    return []


def _feature(data: Dataset, position: int) -> str:
    return f'"{data.feature_names[position]}"' if data.feature_names else f"column {position}"


def _described(values: Tensor) -> str:
    return f"{str(values.dtype).removeprefix('torch.')} of shape {tuple(values.shape)}"
