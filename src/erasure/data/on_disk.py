"""Data sets larger than memory: columns that are written to a file as they are made, and that stay in one while they are used."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from erasure.data.dataset import Dataset
from erasure.errors import DataError
from erasure.training.batches import TensorColumn
from erasure.training.mapped import MappedColumn, Mapping

__all__ = ["GIB", "empty_column", "left_on_disk"]

GIB = 1 << 30

_IN_MEMORY = 256 << 20
"""Bytes of a column that are made in memory; larger ones are made in a file."""

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Types as safetensors calls them."""


def empty_column(shape: tuple[int, ...], dtype: torch.dtype, *, in_memory: int = _IN_MEMORY) -> TensorColumn:
    """A column whose values are yet to be filled in: in memory, or in a nameless temporary file if it is large.

    Args:
        shape: Of the values.
        dtype: Of the values.
        in_memory: Bytes up to which it is in memory.

    Returns:
        A column without scaling; of a :class:`MappedColumn`, call ``release`` after each part that was filled in.

    Raises:
        DataError: If there is no room for the file.
    """
    n_bytes = torch.Size(shape).numel() * dtype.itemsize
    if n_bytes <= in_memory:
        return TensorColumn(torch.empty(shape, dtype=dtype))
    try:
        with tempfile.TemporaryFile(prefix="erasure-column-") as file:
            if hasattr(os, "posix_fallocate"):  # a disk that is full says so now, not by a signal when a page is written
                os.posix_fallocate(file.fileno(), 0, n_bytes)
            else:
                file.truncate(n_bytes)
            mapping = Mapping(file.fileno(), writable=True)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"no room for a column of {n_bytes / GIB:.1f} GiB: {reason}; set TMPDIR to a disk that has it") from error
    return MappedColumn(mapping.tensor(dtype, shape), mapping=mapping)


def left_on_disk(data: Dataset, file: Path, cap_gib: float | None) -> Dataset:
    """The data set with inputs that stay in their file if they are larger than the cap.

    Args:
        data: A data set that was read from ``file``.
        file: The safetensors file of its columns.
        cap_gib: GiB of inputs that may be in memory; None for any number.

    Returns:
        The same samples; labels and groups are always in memory, and so are lists of graphs.
    """
    x = data.x
    if cap_gib is None or not isinstance(x, TensorColumn) or x.values.nbytes <= cap_gib * GIB:
        return data
    with file.open("rb") as stream:
        header_bytes = int.from_bytes(stream.read(8), "little")
        entry: dict[str, Any] = json.loads(stream.read(header_bytes))["x.values"]
        mapping = Mapping(stream.fileno())
    start = 8 + header_bytes + entry["data_offsets"][0]
    values = mapping.tensor(_DTYPES[entry["dtype"]], tuple(entry["shape"]), start)
    return replace(data, x=MappedColumn(values, scale=x.scale, mean=x.mean, std=x.std, mapping=mapping, offset=start))
