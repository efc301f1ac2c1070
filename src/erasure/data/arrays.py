"""Data sets from what people already hold: tensors, arrays and PyTorch data sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from erasure.data.checks import checked
from erasure.data.dataset import Dataset
from erasure.errors import DataError
from erasure.training.batches import TensorColumn
from erasure.types import TaskKind

__all__ = ["Modality", "as_tensor", "dataset_from"]

Modality: TypeAlias = Literal["table", "image", "text", "graph"]

_ID_LIKE = 10_000
"""More classes than this and than samples: the labels are hardly classes."""


def dataset_from(
    data: Any,
    *,
    n_classes: int | None = None,
    task: TaskKind | None = None,
    name: str = "data",
    modality: Modality | None = None,
    scale: float | None = None,
    keep_float64: bool = False,
) -> Dataset:
    """A columnar data set from tensors, arrays or a map-style PyTorch data set.

    **Cost**: one pass; a map-style data set is read sample by sample, once.

    Args:
        data: A pair ``(x, y)`` or triple ``(x, y, z)`` of tensors or arrays, a ``TensorDataset`` of as many tensors, any object
            with ``len()`` and ``[i]`` that gives such pairs or triples, or a :class:`Dataset`, which is returned as it is.
        n_classes: Number of classes, or of labels of a multi-label task; by default the data's own attribute ``n_classes`` or,
            failing that, one more than the largest label.
        task: How labels are read; by default ``multilabel`` if a label is a vector, else ``classification``.
        name: How results call the data set.
        modality: By default ``image`` for samples with two axes or more, ``text`` for whole numbers other than uint8 (taken for
            token ids), else ``table``.
        scale: Factor that turns whole numbers into model inputs; by default 1/255 for uint8 images, 1 for tables of whole
            numbers; token ids are not scaled.
        keep_float64: Keep double precision; by default it becomes float32. Other types are kept.

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
    x, y, z = _columns_of(data)
    if len(x) == 0:
        raise DataError(f'"{name}" is empty')
    column, modality = _input_column(x, modality, scale, keep_float64)
    own = getattr(data, "n_classes", None)
    if n_classes is None and isinstance(own, int):
        n_classes = own
    labels, n_classes, task, class_names = _labels(y, n_classes, task)
    if not class_names:
        class_names = _class_names(data, n_classes)
    return checked(
        Dataset(
            name=name,
            x=column,
            y=labels,
            z=None if z is None else _groups(z),
            n_classes=n_classes,
            task=task,
            modality=modality,
            x_shape=column.sample_shape,
            class_names=class_names,
        )
    )


def as_tensor(values: Any, what: str) -> Tensor:
    """A tensor on the CPU from a tensor, an array or nested lists of numbers.

    Args:
        values: The values; an array is not copied if PyTorch can use its memory.
        what: What they are, for the error message.

    Raises:
        DataError: If they are not numbers in a regular grid.
    """
    if isinstance(values, Tensor):
        return values.detach().cpu()
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(f"{what} is not a regular grid of numbers: {error}") from error
    if array.dtype.kind not in "biuf":
        found = f"an array of {array.dtype}" if isinstance(values, np.ndarray) else type(values).__name__
        raise DataError(f"{what} is {found}, expected numbers: a tensor or an array (for pictures, add a transform to tensors)")
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return torch.from_numpy(array if array.flags.writeable and array.flags.c_contiguous else array.copy())


def _columns_of(data: Any) -> tuple[Tensor, Tensor | np.ndarray[Any, Any], Tensor | None]:
    if isinstance(data, TensorDataset):
        data = data.tensors
    if not (isinstance(data, tuple | list) and data and isinstance(data[0], Tensor | np.ndarray)):
        return _read_samples(data)
    if len(data) not in {2, 3}:
        raise DataError(f"expected the columns (x, y) or (x, y, z), found {len(data)}")
    x = as_tensor(data[0], "x")
    y = np.asarray(data[1]) if not isinstance(data[1], Tensor) else data[1]
    if isinstance(y, Tensor) or y.dtype.kind not in "US":
        y = as_tensor(y, "y")
    z = as_tensor(data[2], "z") if len(data) == 3 and data[2] is not None else None
    for column, values in (("x", x), ("y", y), ("z", z)):
        if values is not None and values.ndim == 0:
            raise DataError(f"{column} is a single number, expected one value a sample")
        if values is not None and len(values) != len(x):
            raise DataError(f"x has {len(x)} samples, but {column} has {len(values)}")
    return x, y, z


def _read_samples(data: Any) -> tuple[Tensor, Tensor, Tensor | None]:
    if not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
        raise DataError(f"expected tensors (x, y) or a data set with len() and [i], found {type(data).__name__}")
    n_samples = len(data)
    if n_samples == 0:
        return torch.empty(0), torch.empty(0, dtype=torch.int64), None
    x: Tensor | None = None
    labels: list[Tensor] = []
    groups: list[Tensor] = []
    for i in range(n_samples):
        parts = _sample(data, i)
        value = as_tensor(parts[0], f"x of sample {i}")
        if x is None:
            x = torch.empty((n_samples, *value.shape), dtype=value.dtype)
        elif value.shape != x.shape[1:] or value.dtype != x.dtype:
            found, expected = f"{_kind(value)} of shape {tuple(value.shape)}", f"{_kind(x)} of shape {tuple(x.shape[1:])}"
            raise DataError(f"x of sample {i} is {found}, but sample 0 is {expected}; all samples must be alike")
        x[i] = value
        labels.append(_whole(parts[1], f"the label of sample {i}"))
        if len(parts) == 3:
            groups.append(_whole(parts[2], f"z of sample {i}"))
        if len(groups) not in {0, i + 1}:
            raise DataError(f"sample {i} has {len(parts)} parts, but the first one has {3 if groups else 2}")
    assert x is not None  # noqa: S101 # n_samples > 0
    return x, _stacked(labels, "label"), _stacked(groups, "z value") if groups else None


def _sample(data: Any, i: int) -> Sequence[Any]:
    try:
        sample = data[i]
    except Exception as error:
        raise DataError(f"sample {i} cannot be read: {type(error).__name__}: {error}") from error
    if not isinstance(sample, tuple | list) or len(sample) not in {2, 3}:
        found = f"{type(sample).__name__} of {len(sample)}" if isinstance(sample, tuple | list) else type(sample).__name__
        raise DataError(f"sample {i} is a {found}, expected a pair (x, y) or a triple (x, y, z)")
    return sample


def _whole(value: Any, what: str) -> Tensor:
    if isinstance(value, str) or value is None:
        raise DataError(f"{what} is {value!r}, expected a whole number")
    tensor = as_tensor(value, what)
    if tensor.is_floating_point() and not bool((tensor == tensor.round()).all()):
        raise DataError(f"{what} is {tensor.tolist()}, expected {'a whole number' if tensor.ndim == 0 else 'whole numbers'}")
    return tensor


def _stacked(values: list[Tensor], what: str) -> Tensor:
    odd = next((i for i, value in enumerate(values) if value.shape != values[0].shape), None)
    if odd is not None:
        shapes = f"{tuple(values[odd].shape)}, but that of sample 0 has {tuple(values[0].shape)}"
        raise DataError(f"the {what} of sample {odd} has shape {shapes}")
    return torch.stack(values)


def _input_column(x: Tensor, modality: Modality | None, scale: float | None, keep_float64: bool) -> tuple[TensorColumn, Modality]:
    if x.is_complex():
        raise DataError(f"x is {_kind(x)}; give its real and imaginary parts as two features")
    if x.ndim == 1:
        x = x.unsqueeze(1)
    if x.dtype == torch.float64 and not keep_float64:
        x = x.float()
    is_token = not x.is_floating_point() and x.dtype not in {torch.uint8, torch.bool}
    if modality is None:
        modality = "text" if is_token else "image" if x.ndim >= 3 else "table"
    if not x.is_floating_point() and scale is None:
        if modality == "image" and x.dtype == torch.uint8:
            scale = 1 / 255
        elif modality != "text":
            scale = 1.0
    if modality == "text" and not x.is_floating_point():
        x = x.long()
    return TensorColumn(x.contiguous(), scale=None if x.is_floating_point() else scale), modality


def _labels(
    y: Tensor | np.ndarray[Any, Any], n_classes: int | None, task: TaskKind | None
) -> tuple[Tensor, int, TaskKind, tuple[str, ...]]:
    names: tuple[str, ...] = ()
    if isinstance(y, np.ndarray):
        values, codes = np.unique(y, return_inverse=True)
        names, y = tuple(str(value) for value in values), torch.from_numpy(codes.reshape(y.shape).astype(np.int64))
        n_classes = n_classes or len(names)
    if y.ndim == 2 and y.shape[1] == 1 and task != "multilabel":
        y = y.squeeze(1)
    task = task or ("classification" if y.ndim == 1 else "multilabel")
    if y.ndim != (2 if task == "multilabel" else 1):
        expected = "(N, K)" if task == "multilabel" else "(N,)"
        raise DataError(f"the labels of a {task} task have shape {expected}, found {tuple(y.shape)}")
    if y.is_floating_point():
        bad = (y != y.round()).reshape(len(y), -1).any(dim=1).nonzero().flatten()
        if len(bad):
            first = int(bad[0])
            raise DataError(f"the label of sample {first} is {y[first].tolist()}, expected whole numbers ({len(bad)} are not)")
    if task == "multilabel":
        return y.float(), n_classes or y.shape[1], task, names
    y = y.long()
    if n_classes is None:
        n_classes = 2 if task == "binary" else max(1, int(y.max()) + 1)
        if n_classes > max(_ID_LIKE, len(y)):
            raise DataError(f"the largest of {len(y)} labels is {n_classes - 1}: these are hardly classes; give n_classes if so")
    return y, n_classes, task, names if len(names) == n_classes else ()


def _groups(z: Tensor) -> Tensor:
    if z.is_floating_point():
        bad = (z != z.round()).reshape(len(z), -1).any(dim=1).nonzero().flatten()
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
