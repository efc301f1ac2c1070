"""Columns from what people hold: tensors, arrays, data frames, loaders, and data sets of pairs or of named values."""

from __future__ import annotations

import numbers
import reprlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    default_collate,
    default_convert,
)

from erasure.errors import DataError

__all__ = ["Held", "Texts", "as_tensor", "held_columns"]

Texts: TypeAlias = np.ndarray[Any, Any]
"""``(N,)`` texts."""

_INPUTS = ("x", "input", "inputs", "features", "data", "image", "images", "img", "pixel_values", "input_ids")
_LABELS = ("y", "label", "labels", "target", "targets", "class")
_GROUPS = ("z", "group", "groups")
_MASK = "attention_mask"
_SHOWN = 6


@dataclass(frozen=True, eq=False)
class Held:
    """What somebody holds, in columns.

    Args:
        x: Inputs, ``(N, …)``; ids and mask of texts as ``(N, 2, L)``.
        y: Labels: numbers, or texts.
        z: Groups in the same way, if there are any.
        arguments: Names that the parts of an input have for the model, such as ``input_ids`` and ``attention_mask``; empty where an
            input has no parts.
        columns: Names of the columns of ``x`` where it was a data frame.
    """

    x: Tensor
    y: Tensor | Texts
    z: Tensor | Texts | None = None
    arguments: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()


def held_columns(data: Any) -> Held:
    """The columns of what somebody holds.

    Args:
        data: Columns ``(x, y)`` or ``(x, y, z)`` as tensors, arrays, data frames or series; a mapping of such columns; a
            ``TensorDataset``; a ``DataLoader`` that only shuffles and stacks; or anything with ``len()`` and ``[i]`` that gives pairs,
            triples, or mappings with keys such as ``input_ids``, ``attention_mask``, ``pixel_values`` and ``label``.

    Raises:
        DataError: If it is anything else; says what to give instead, and names the first bad sample.
    """
    if isinstance(data, Held):
        return data
    if hasattr(data, "edge_index") or (isinstance(data, Mapping) and "edge_index" in data):
        raise DataError(
            "a graph is not a set of samples: erasure.unlearn takes it as train=, with what to forget of it, and erasure.run from the "
            "source GraphFile with the splitter GraphRequest (docs/graphs.md)"
        )
    if hasattr(data, "edge_types"):
        raise DataError("a graph of several kinds of nodes or edges can neither be learned from nor forgotten from")
    if isinstance(data, DataLoader):
        data = _loaded(data)
    if isinstance(data, TensorDataset):
        data = data.tensors
    if _is_frame(data):
        raise DataError('a data frame does not say which column is the label; give a pair: (frame.drop(columns="y"), frame["y"])')
    if isinstance(data, Mapping):
        return _named_columns(data)
    if isinstance(data, tuple | list) and data and (isinstance(data[0], Tensor | np.ndarray) or _is_of_frames(data[0])):
        return _columns(data)
    if isinstance(data, tuple) and len(data) in {2, 3}:
        _refuse_foreign(data[0], "x")
    first = data[0] if isinstance(data, list | tuple) and data else None
    if hasattr(first[0] if isinstance(first, list | tuple) and first else first, "edge_index"):
        raise DataError(
            "samples that are graphs are taken by erasure.unlearn, and by erasure.run from sources such as TUDataset and GraphDataset "
            "(docs/graphs.md)"
        )
    return _read_samples(data)


def as_tensor(values: Any, what: str) -> Tensor:
    """A tensor on the CPU from a tensor, an array, a data frame or nested lists of numbers.

    Args:
        values: The values; an array is not copied if PyTorch can use its memory.
        what: What they are, for the error message.

    Raises:
        DataError: If they are not numbers in a regular grid.
    """
    if isinstance(values, Tensor):
        return _plain_tensor(values, what)
    if _is_frame(values):
        return _frame(values, what)
    array = _array(values, what)
    if array.dtype.kind == "O":
        array = _plain_numbers(array, what)
    if array.dtype.kind not in "biuf":
        found = f"an array of {array.dtype}" if isinstance(values, np.ndarray) or _is_of_frames(values) else type(values).__name__
        raise DataError(f"{what} is {found}, expected numbers: a tensor or an array{_remedy(array, what)}")
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        if array.size and int(array.max()) > np.iinfo(np.int64).max:
            raise DataError(f"{what} holds {array.max()}, which is larger than any int64; give codes")
        array = array.astype(np.int64)
    if array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return torch.from_numpy(array if array.flags.writeable and array.flags.c_contiguous else array.copy())


def _array(values: Any, what: str) -> np.ndarray[Any, Any]:
    if isinstance(values, np.ma.MaskedArray) and np.ma.getmaskarray(values).any():
        raise DataError(f"{what} has {int(np.ma.getmaskarray(values).sum())} masked values; fill them, or leave such samples out")
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(f"{what} is not a regular grid of numbers: {error}") from error


def _plain_tensor(values: Tensor, what: str) -> Tensor:
    if values.is_meta:
        raise DataError(f'{what} is on the device "meta", which holds no values')
    if values.layout != torch.strided:
        raise DataError(f"{what} is a sparse tensor; give it with .to_dense()")
    values = values.detach().cpu()
    if values.dtype in _UNSIGNED:
        return as_tensor(values.numpy(), what)
    return values.float() if values.is_floating_point() and values.element_size() == 1 else values


_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)
"""Types that PyTorch can store and hardly compute with, as those of a fraction in one byte."""


def _remedy(array: np.ndarray[Any, Any], what: str) -> str:
    if array.dtype.kind in "mM":
        return "; make numbers of dates, such as days since the first one"
    return " (for pictures, add a transform to tensors)" if what.partition(" ")[0] == "x" else ""


_AS_COLUMNS = ("toarray", "to_pandas", "collect")
"""Methods that make columns which can be read of those of other libraries."""


def _refuse_foreign(values: Any, what: str) -> None:
    """Columns of a library that is not read, such as sparse matrices, tables of Arrow and lazy frames."""
    method = next((name for name in _AS_COLUMNS if hasattr(values, name)), None)
    if method is not None:
        raise DataError(
            f"{what} is a {type(values).__name__}, expected a tensor, an array or a data frame; give it with .{method}()"
        )


def _loaded(loader: DataLoader[Any]) -> Any:
    """The data set behind a loader that does nothing but draw its samples in some order and stack them."""
    remedy = "give its data set (loader.dataset) as you want it read"
    if isinstance(loader.dataset, IterableDataset):
        raise DataError("the loader reads a stream; give a data set with len() and [i]")
    if loader.collate_fn not in (default_collate, default_convert):
        raise DataError(f"the loader has a collate_fn of its own, which may change samples; {remedy}")
    # Beside a batch sampler of the caller's, ``loader.sampler`` is one that nobody draws by.
    batches = loader.batch_sampler
    sampler = batches.sampler if type(batches) is BatchSampler else loader.sampler if batches is None else batches
    if isinstance(sampler, SubsetRandomSampler):
        return Subset(loader.dataset, list(sampler.indices))
    if isinstance(sampler, SequentialSampler) or (
        isinstance(sampler, RandomSampler) and not sampler.replacement and sampler.num_samples == len(loader.dataset)  # type: ignore[arg-type]
    ):
        return loader.dataset
    raise DataError(
        f"the loader draws its samples by {type(sampler).__name__}; {remedy}, with torch.utils.data.Subset for a part of it"
    )


def _columns(data: Sequence[Any]) -> Held:
    if len(data) not in {2, 3}:
        raise DataError(f"expected the columns (x, y) or (x, y, z), found {len(data)}")
    _check_rows(data)
    x = as_tensor(data[0], "x")
    y = _labels(data[1], "y")
    z = _labels(data[2], "z") if len(data) == 3 and data[2] is not None else None
    for column, values in (("x", x), ("y", y), ("z", z)):
        if values is not None and values.ndim == 0:
            raise DataError(f"{column} is a single number, expected one value a sample")
        if values is not None and len(values) != len(x):
            raise DataError(f"x has {len(x)} samples, but {column} has {len(values)}")
    return Held(x, y, z, columns=tuple(map(str, data[0].columns)) if _is_frame(data[0]) else ())


def _check_rows(data: Sequence[Any]) -> None:
    """That columns of pandas which both name their rows name the same ones in one order; 0, 1, … is no name."""
    names = [
        (name, each.index) for name, each in zip("xyz", data, strict=False) if type(each).__module__.partition(".")[0] == "pandas"
    ]
    for other, index in names[1:]:
        first, of_first = names[0]
        if len(index) != len(of_first) or index.equals(of_first):
            continue
        counted = any(list(each) == list(range(len(each))) for each in (index, of_first))
        if not counted or set(index) == set(of_first):
            place = next(i for i, (a, b) in enumerate(zip(of_first, index, strict=True)) if a != b)
            raise DataError(
                f"the rows of {first} and {other} have different names (index): {of_first[place]!r} and {index[place]!r} in row {place}; "
                "bring them into one order, or call reset_index(drop=True) on both if they are"
            )


def _named_columns(data: Mapping[Any, Any]) -> Held:
    roles = _roles(data, "the mapping")
    x, arguments = _joined_inputs({name: as_tensor(data[name], name) for name in roles.inputs})
    columns = _columns([x, data[roles.label], *([] if roles.group is None else [data[roles.group]])])
    return Held(columns.x, columns.y, columns.z, arguments)


@dataclass(frozen=True)
class _Roles:
    inputs: tuple[str, ...]
    label: str
    group: str | None


def _roles(sample: Mapping[Any, Any], what: str) -> _Roles:
    """Which keys are inputs, label and group."""
    keys = [str(key) for key in sample]
    inputs = [key for key in keys if key in _INPUTS]
    labels = [key for key in keys if key in _LABELS]
    shown = ", ".join(keys[:_SHOWN]) + (", …" if len(keys) > _SHOWN else "")
    if len(inputs) != 1 or len(labels) != 1:
        wanted = f"one input ({', '.join(_INPUTS)}) and one label ({', '.join(_LABELS)})"
        raise DataError(f"{what} has the keys {shown}, expected {wanted}; or give pairs (x, y)")
    group = next((key for key in keys if key in _GROUPS), None)
    chosen = (inputs[0], _MASK) if inputs == ["input_ids"] and _MASK in keys else (inputs[0],)
    rest = [key for key in keys if key not in {*chosen, labels[0], group}]
    if rest:
        warnings.warn(f"{', '.join(rest[:_SHOWN])} is no input, label or group and is left out", stacklevel=6)
    return _Roles(chosen, labels[0], group)


def _joined_inputs(parts: Mapping[str, Tensor]) -> tuple[Tensor, tuple[str, ...]]:
    """One tensor of all parts of the inputs, and their names where there are several."""
    if len(parts) == 1:
        return next(iter(parts.values())), ()
    shapes = {tuple(each.shape) for each in parts.values()}
    if len(shapes) > 1:
        raise DataError(f"{' and '.join(parts)} differ in shape: {', '.join(map(str, shapes))}")
    return torch.stack([each.long() for each in parts.values()], dim=1), tuple(parts)


def _read_samples(data: Any) -> Held:
    if isinstance(data, IterableDataset):
        raise DataError(f"{type(data).__name__} is a stream; give a data set with len() and [i]")
    if not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
        raise DataError(f"expected tensors (x, y) or a data set with len() and [i], found {type(data).__name__}")
    n_samples = len(data)
    if n_samples == 0:
        return Held(torch.empty(0), torch.empty(0, dtype=torch.int64))
    x: Tensor | None = None
    labels: list[Tensor | str] = []
    groups: list[Tensor | str] = []
    roles: _Roles | None = None
    arguments: tuple[str, ...] = ()
    for i in range(n_samples):
        sample = _sample(data, i)
        if isinstance(sample, Mapping):
            roles = roles or _roles(sample, f"sample {i}")
            missing = [key for key in (*roles.inputs, roles.label) if key not in sample]
            if missing:
                raise DataError(f'sample {i} has no "{missing[0]}", which sample 0 has')
            inputs = {key: as_tensor(sample[key], f"{key} of sample {i}")[None] for key in roles.inputs}
            stacked, arguments = _joined_inputs(inputs)
            parts: Sequence[Any] = (stacked[0], sample[roles.label], *([] if roles.group is None else [sample.get(roles.group)]))
        else:
            parts = sample
        value = as_tensor(parts[0], f"x of sample {i}")
        if x is None:
            x = torch.empty((n_samples, *value.shape), dtype=value.dtype)
        elif value.shape != x.shape[1:] or value.dtype != x.dtype:
            found, expected = f"{_kind(value)} of shape {tuple(value.shape)}", f"{_kind(x)} of shape {tuple(x.shape[1:])}"
            is_longer = value.dtype == x.dtype and value.shape[:-1] == x.shape[1:-1]
            remedy = "; pad them to one length" if is_longer and not value.is_floating_point() else ""
            raise DataError(f"x of sample {i} is {found}, but sample 0 is {expected}; all samples must be alike{remedy}")
        x[i] = value
        labels.append(_whole(parts[1], f"the label of sample {i}"))
        if len(parts) == 3:
            groups.append(_whole(parts[2], f"z of sample {i}"))
        if len(groups) not in {0, i + 1}:
            raise DataError(f"sample {i} has {len(parts)} parts, but the first one has {3 if groups else 2}")
    assert x is not None  # noqa: S101 # n_samples > 0
    return Held(x, _stacked(labels, "label"), _stacked(groups, "z value") if groups else None, arguments)


def _sample(data: Any, i: int) -> Any:
    try:
        sample = data[i]
    except Exception as error:
        raise DataError(f"sample {i} cannot be read: {type(error).__name__}: {error}") from error
    if isinstance(sample, Mapping):
        return sample
    if not isinstance(sample, tuple | list) or len(sample) not in {2, 3}:
        found = f"{type(sample).__name__} of {len(sample)}" if isinstance(sample, tuple | list) else type(sample).__name__
        remedy = ""
        if isinstance(sample, numbers.Number):
            remedy = "; for positions give the samples at them, such as torch.utils.data.Subset(train, positions)"
        elif isinstance(data, tuple) and len(data) in {2, 3}:
            remedy = "; if these are the columns x and y, make tensors or arrays of them"
        raise DataError(
            f"sample {i} is a {found}, expected a pair (x, y), a triple (x, y, z) or a dict with the keys x and y{remedy}"
        )
    return sample


def _labels(values: Any, what: str) -> Tensor | Texts:
    """Labels or groups: texts, or numbers."""
    if isinstance(values, Tensor):
        return _plain_tensor(values, what)
    if _is_frame(values):
        return _frame(values, what)
    array = _array(values, what)
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8")
    if array.dtype.kind == "O" and array.ndim == 1 and len(array) and any(isinstance(each, str) for each in array):
        odd = next((i for i, each in enumerate(array) if not isinstance(each, str)), None)
        if odd is not None and (_is_missing(array[odd]) or array[odd] != array[odd]):
            raise DataError(f"{what} has no value in place {odd}; leave such samples out")
        if odd is not None:
            first = next(i for i, each in enumerate(array) if isinstance(each, str))
            raise DataError(
                f"{what} mixes texts and other values: {array[first]!r} in sample {first}, {array[odd]!r} in sample {odd}"
            )
        return array.astype(str)
    return array if array.dtype.kind == "U" else as_tensor(array, what)


def _whole(value: Any, what: str) -> Tensor | str:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, str):
        return str(value)
    if value is None:
        raise DataError(f"{what} is {value!r}, expected a whole number or a text")
    tensor = as_tensor(value, what)
    if tensor.is_floating_point() and not bool((tensor == tensor.round()).all()):
        raise DataError(
            f"{what} is {reprlib.repr(tensor.tolist())}, expected {'a whole number' if tensor.ndim == 0 else 'whole numbers'}"
        )
    return tensor


def _stacked(values: list[Tensor | str], what: str) -> Tensor | Texts:
    texts = [i for i, value in enumerate(values) if isinstance(value, str)]
    if len(texts) == len(values):
        return np.array(values)
    if texts:
        raise DataError(f"the {what} of sample {texts[0]} is the text {values[texts[0]]!r}, those of others are numbers")
    tensors = [value for value in values if isinstance(value, Tensor)]
    odd = next((i for i, value in enumerate(tensors) if value.shape != tensors[0].shape), None)
    if odd is not None:
        shapes = f"{tuple(tensors[odd].shape)}, but that of sample 0 has {tuple(tensors[0].shape)}"
        raise DataError(f"the {what} of sample {odd} has shape {shapes}")
    return torch.stack(tensors)


def _frame(frame: Any, what: str) -> Tensor:
    """The columns of a data frame as float64, truth values as 1 and 0."""
    columns, text = [], []
    for position, name in enumerate(frame.columns):
        column = frame.iloc[:, position] if hasattr(frame, "iloc") else frame.to_series(position)
        try:
            columns.append(as_tensor(column, f'{what}, column "{name}",').double())
        except DataError:
            text.append(str(name))
    if text:
        shown = ", ".join(text[:_SHOWN]) + (", …" if len(text) > _SHOWN else "")
        raise DataError(
            f"{what} has columns that hold no numbers: {shown}; make numbers of them (pandas.get_dummies) or leave them out"
        )
    if not columns:
        raise DataError(f"{what} has no column")
    return torch.stack(columns, dim=1)


def _plain_numbers(array: np.ndarray[Any, Any], what: str) -> np.ndarray[Any, Any]:
    """Python's own numbers, decimals and truth values as an array of numbers; anything else as it is."""
    flat = array.ravel().tolist()
    missing = next((i for i, each in enumerate(flat) if _is_missing(each)), None)
    if missing is not None:
        raise DataError(f"{what} has no value in place {missing}; leave such samples out")
    from decimal import Decimal

    if not all(isinstance(each, numbers.Real | Decimal | np.bool_) for each in flat):
        return array
    whole = all(isinstance(each, numbers.Integral | np.bool_) for each in flat)
    try:
        return np.array([int(each) if whole else float(each) for each in flat], np.int64 if whole else np.float64).reshape(
            array.shape
        )
    except OverflowError as error:
        raise DataError(f"{what} holds a whole number that is larger than any int64; give codes") from error


def _is_missing(value: Any) -> bool:
    return value is None or type(value).__name__ in {"NAType", "NaTType"}


def _is_frame(value: Any) -> bool:
    return _is_of_frames(value) and hasattr(value, "columns")


def _is_of_frames(value: Any) -> bool:
    """Whether it is a data frame or series of pandas or polars, without importing them."""
    return type(value).__module__.partition(".")[0] in {"pandas", "polars"} and hasattr(value, "shape")


def _kind(values: Tensor) -> str:
    return str(values.dtype).removeprefix("torch.")
