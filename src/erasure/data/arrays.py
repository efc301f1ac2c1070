"""Data sets from what people already hold: tensors, arrays and PyTorch data sets."""

from __future__ import annotations

import reprlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from erasure.data.checks import checked
from erasure.data.dataset import Dataset
from erasure.data.reading.held import Held, Texts, as_tensor, held_columns
from erasure.data.reading.picture_axes import Axes, channels_first
from erasure.errors import DataError
from erasure.training.batches import TensorColumn
from erasure.types import Task

__all__ = ["Modality", "as_tensor", "coded_jointly", "dataset_from", "datasets_from", "is_one_hot"]

Modality: TypeAlias = Literal["table", "image", "text", "graph"]

_ID_LIKE = 10_000
"""More classes than this and than samples: the labels are hardly classes."""


def dataset_from(
    data: Any,
    *,
    n_classes: int | None = None,
    task: Task | None = None,
    name: str = "data",
    modality: Modality | None = None,
    scale: float | None = None,
    keep_float64: bool = False,
    axes: Axes | None = None,
) -> Dataset:
    """A columnar data set from tensors, arrays or a map-style PyTorch data set.

    **Cost**: one pass; a map-style data set is read sample by sample, once.

    Args:
        data: A pair ``(x, y)`` or triple ``(x, y, z)`` of tensors, arrays, data frames or series, any other form that
            :func:`~erasure.data.reading.held.held_columns` takes, or a :class:`Dataset`, which is returned as it is.
        n_classes: Number of classes, or of labels of a multi-label task; by default the data's own attribute ``n_classes`` or,
            failing that, one more than the largest label.
        task: How labels are read; by default ``multilabel`` if a label is a vector, else ``classification``. Rows with one 1 each are
            classes unless this says ``multilabel``, and a warning says so.
        name: How results call the data set.
        modality: By default ``image`` for samples with two axes or more, ``text`` for whole numbers other than uint8 (taken for
            token ids), else ``table``.
        scale: Factor that turns whole numbers into model inputs; by default 1/255 for uint8 images, 1 for tables of whole
            numbers; token ids are not scaled.
        keep_float64: Keep the type of fractions; by default they become float32.
        axes: Of pictures; by default they are recognised, see :func:`~erasure.data.reading.picture_axes.channels_first`.

    Returns:
        A checked data set. ``y`` is int64, or float32 for ``multilabel``. String labels become codes in sorted order.

    Raises:
        DataError: If the data cannot be used; names the first bad sample.

    Example:
        >>> dataset_from((torch.zeros(3, 2), torch.tensor([0, 1, 1]))).n_classes
        2
    """
    if isinstance(data, Dataset):
        return data
    made = datasets_from(
        {name: data}, n_classes=n_classes, task=task, modality=modality, scale=scale, keep_float64=keep_float64, axes=axes
    )
    return made[name]


def datasets_from(
    parts: Mapping[str, Any],
    *,
    n_classes: int | None = None,
    task: Task | None = None,
    modality: Modality | None = None,
    scale: float | None = None,
    keep_float64: bool = False,
    axes: Axes | None = None,
) -> dict[str, Dataset]:
    """The same of several parts, such as forget and retain, whose labels and groups are read jointly.

    Args:
        parts: Name of each part to its data, as in :func:`dataset_from`.
        n_classes: As there.
        task: As there; ``multilabel`` only if no part has classes.
        modality: As there.
        scale: As there.
        keep_float64: As there.
        axes: As there.

    Returns:
        One data set a part; a label or group that is a text has the same code in all.

    Raises:
        DataError: If a part cannot be used, or one has texts where another one has numbers.
    """
    held = {name: held_columns(data) for name, data in parts.items() if not isinstance(data, Dataset)}
    empty = next((name for name, each in held.items() if len(each.x) == 0), None)
    if empty is not None:
        raise DataError(f'"{empty}" is empty')
    made = {name: data for name, data in parts.items() if isinstance(data, Dataset)}
    if not held:
        return made
    _check_columns(held)
    own = {name: getattr(parts[name], "n_classes", None) for name in held}
    n_classes = n_classes or next((each for each in own.values() if isinstance(each, int)), None)
    labels = _labels({name: each.y for name, each in held.items()}, n_classes, task)
    groups, z_names = coded_jointly({name: each.z for name, each in held.items() if each.z is not None}, "groups (z)")
    for (name, each), y in zip(held.items(), labels.y, strict=True):
        column, kind = _input_column(each.x, modality, scale, keep_float64, axes)
        made[name] = checked(
            Dataset(
                name=name,
                x=column,
                y=y,
                z=_groups(groups[name]) if name in groups else None,
                n_classes=labels.n_classes,
                task=labels.task,
                modality=kind,
                x_shape=column.sample_shape,
                class_names=labels.names or _class_names(parts[name], labels.n_classes),
                z_names=z_names,
            )
        )
    return {name: made[name] for name in parts}


def _check_columns(held: Mapping[str, Held]) -> None:
    """That data frames have the same columns in the same order."""
    named = {name: each.columns for name, each in held.items() if each.columns}
    for name, columns in named.items():
        first = next(iter(named))
        place = next((i for i, pair in enumerate(zip(named[first], columns, strict=False)) if pair[0] != pair[1]), None)
        if place is not None:
            raise DataError(
                f'the columns of all data frames must be the same in the same order: column {place} is "{named[first][place]}" in {first} '
                f'and "{columns[place]}" in {name}'
            )


def _input_column(
    x: Tensor, modality: Modality | None, scale: float | None, keep_float64: bool, axes: Axes | None
) -> tuple[TensorColumn, Modality]:
    if x.is_complex():
        raise DataError(f"x is {_kind(x)}; give its real and imaginary parts as two features")
    if x.ndim == 1:
        x = x.unsqueeze(1)
    if x.is_floating_point() and not keep_float64:
        x = x.float()
    modality = modality or _modality(x, scale, axes)
    if modality == "image":
        x = channels_first(x, axes)
    if not x.is_floating_point() and scale is None:
        if modality == "image" and (x.dtype == torch.uint8 or _is_of_bytes(x)):
            scale = 1 / 255
        elif modality != "text":
            scale = 1.0
    if modality == "text" and not x.is_floating_point():
        x = x.long()
    return TensorColumn(x.contiguous(), scale=None if x.is_floating_point() else scale), modality


def _modality(x: Tensor, scale: float | None, axes: Axes | None) -> Modality:
    """What inputs are, by their type and shape; a warning says so where they could be something else."""
    if x.is_floating_point() or x.dtype in {torch.uint8, torch.bool}:
        return "image" if x.ndim >= 3 else "table"
    kind = f"{_kind(x)} of shape {tuple(x.shape[1:])}"
    if x.ndim >= 4 or (x.ndim == 3 and not _is_ids_and_mask(x)):
        if scale is None and not _is_of_bytes(x):
            low, high = int(x.min()), int(x.max())
            raise DataError(
                f"inputs are {kind} from {low} to {high}: for pictures of more than 8 bits give scale, such as {1 / max(high, 1):.3g}"
            )
        if axes != "as_they_are":
            warnings.warn(
                f'inputs are {kind} and are taken for pictures of 8 bits; give modality = "text" if they are ids', stacklevel=4
            )
        return "image"
    if x.numel() and int(x.min()) < 0:
        return "table"  # ids of tokens are not negative
    return "text"


def _is_ids_and_mask(x: Tensor) -> bool:
    return x.shape[1] == 2 and bool(((x[:, 1] == 0) | (x[:, 1] == 1)).all())


def _is_of_bytes(x: Tensor) -> bool:
    return bool(x.numel()) and not x.is_floating_point() and int(x.min()) >= 0 and 1 < int(x.max()) <= 255


@dataclass(frozen=True)
class _Labels:
    """Labels of several parts, read jointly: one task, one number of classes, one table of names."""

    y: tuple[Tensor, ...]
    n_classes: int
    task: Task
    names: tuple[str, ...]


def _labels(parts: Mapping[str, Tensor | Texts], n_classes: int | None, task: Task | None) -> _Labels:
    names: tuple[str, ...] = ()
    codes, names = coded_jointly(parts, "labels")
    if names:
        n_classes = n_classes or len(names)
    shapes = {tuple(y.shape[1:]) for y in codes.values()}
    if len(shapes) > 1:
        found = "; ".join(f"those of {name} have {tuple(y.shape[1:])}" for name, y in codes.items())
        raise DataError(f"the labels of all samples must have one shape: {found}")
    if all(y.ndim == 2 and y.shape[1] == 1 for y in codes.values()) and task != "multilabel":
        codes = {name: y.squeeze(1) for name, y in codes.items()}
    if task != "multilabel" and all(map(is_one_hot, codes.values())):
        codes, n_classes = _of_one_hot(codes, n_classes, told=task is not None)
    y = next(iter(codes.values()))
    task = task or ("classification" if y.ndim == 1 else "multilabel")
    if y.ndim != (2 if task == "multilabel" else 1):
        expected = "(N, K)" if task == "multilabel" else "(N,)"
        raise DataError(f"the labels of a {task} task have shape {expected}, found {tuple(y.shape)}")
    for name, each in codes.items():
        _check_whole(each, "" if len(codes) == 1 else f" of {name}")
    if task == "multilabel":
        return _Labels(tuple(each.float() for each in codes.values()), n_classes or y.shape[1], task, names)
    whole = tuple(each.long() for each in codes.values())
    if n_classes is None:
        largest, n_samples = max(int(each.max()) for each in whole), sum(map(len, whole))
        n_classes = 2 if task == "binary" else max(1, largest + 1)
        if n_classes > max(_ID_LIKE, n_samples):
            raise DataError(
                f"the largest of {n_samples} labels is {n_classes - 1}: these are hardly classes; give n_classes if so"
            )
    return _Labels(whole, n_classes, task, names if len(names) == n_classes else ())


def coded_jointly(parts: Mapping[str, Tensor | Texts], what: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Texts of several parts as codes of their sorted values, the same in all; numbers as they are.

    Raises:
        DataError: If one part has texts and another one numbers.
    """
    texts = {name: values for name, values in parts.items() if isinstance(values, np.ndarray)}
    numbers = {name: values for name, values in parts.items() if isinstance(values, Tensor)}
    if not texts:
        return numbers, ()
    if numbers:
        text, number = next(iter(texts)), next(iter(numbers))
        found = f"{text} has texts ({str(texts[text].flat[0])!r}), {number} has numbers"
        raise DataError(f"the {what} must be alike in all parts: {found}; give texts or numbers everywhere")
    names = np.unique(np.concatenate([values.ravel() for values in texts.values()]))
    codes = {name: torch.from_numpy(np.searchsorted(names, values).astype(np.int64)) for name, values in texts.items()}
    return codes, tuple(str(name) for name in names)


def is_one_hot(y: Tensor) -> bool:
    """Whether every row has one 1 and otherwise 0, in two columns or more."""
    return y.ndim == 2 and y.shape[1] > 1 and bool(((y == 0) | (y == 1)).all()) and bool((y.sum(dim=1) == 1).all())


def _of_one_hot(codes: dict[str, Tensor], n_classes: int | None, *, told: bool) -> tuple[dict[str, Tensor], int]:
    width, n_samples = next(iter(codes.values())).shape[1], sum(map(len, codes.values()))
    if not told:
        warnings.warn(
            f"the labels are {n_samples} rows of {width} values with one 1 each and are taken for classes; "
            f'give task = "multilabel" if they are {width} labels of their own',
            stacklevel=5,
        )
    return {name: y.to(torch.float32).argmax(dim=1) for name, y in codes.items()}, n_classes or width


def _check_whole(y: Tensor, whose: str) -> None:
    if y.is_complex():
        raise DataError(f"the labels{whose} are {_kind(y)}, expected whole numbers")
    if not y.is_floating_point():
        return
    bad = (~((y == y.round()) & y.isfinite()).reshape(len(y), -1).all(dim=1)).nonzero().flatten()
    if len(bad):
        first = int(bad[0])
        raise DataError(
            f"the label of sample {first}{whose} is {reprlib.repr(y[first].tolist())}, expected whole numbers ({len(bad)} are not); "
            "classes are learned, amounts (regression) are not: cut them into classes first"
        )


def _groups(z: Tensor) -> Tensor:
    if z.is_floating_point():
        bad = (~((z == z.round()) & z.isfinite()).reshape(len(z), -1).all(dim=1)).nonzero().flatten()
        if len(bad):
            raise DataError(f"z of sample {int(bad[0])} is {z[bad[0]].tolist()}, expected whole numbers")
    return z.long().contiguous()


def _class_names(data: Any, n_classes: int) -> tuple[str, ...]:
    classes = getattr(data, "classes", None)
    if isinstance(classes, list | tuple) and len(classes) == n_classes:
        return tuple(str(each) for each in classes)
    return ()


def _kind(values: Tensor) -> str:
    return str(values.dtype).removeprefix("torch.")
