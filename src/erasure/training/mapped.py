"""Inputs that stay in a file, so that a data set can be larger than memory."""

from __future__ import annotations

import mmap
import os
import weakref
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from erasure.errors import DataError
from erasure.training.batches import TensorColumn

__all__ = ["MappedColumn", "Mapping"]


class Mapping:
    """A file as memory: pages are read when they are looked at, and given back by :meth:`release`.

    Args:
        descriptor: Of the open file, which may be closed afterwards.
        writable: Whether what is written goes into the file; otherwise it stays in memory and is lost with the next release.
    """

    def __init__(self, descriptor: int, *, writable: bool = False) -> None:
        self._memory = mmap.mmap(descriptor, 0, access=mmap.ACCESS_WRITE if writable else mmap.ACCESS_COPY)
        self._descriptor = os.dup(descriptor)
        weakref.finalize(self, os.close, self._descriptor)

    def tensor(self, dtype: torch.dtype, shape: tuple[int, ...], offset: int = 0) -> Tensor:
        """The bytes from ``offset`` on as a tensor; it keeps the mapping alive."""
        n_values = torch.Size(shape).numel()
        if n_values == 0:
            return torch.empty(shape, dtype=dtype)
        return torch.frombuffer(self._memory, dtype=dtype, count=n_values, offset=offset).view(shape)

    def release(self) -> None:
        """Give the pages back to the operating system; they are read again when they are needed."""
        if hasattr(mmap, "MADV_DONTNEED"):  # Windows takes pages back by itself
            self._memory.madvise(mmap.MADV_DONTNEED)

    def read(self, into: Tensor, ids: Tensor, offset: int) -> None:
        """Read rows, without mapping the large pages that they are parts of.

        Args:
            into: Where they go, contiguous, ``(B, …)``.
            ids: Which rows, ``(B,)`` int64, on the CPU.
            offset: Where the first row of the file begins.

        Raises:
            DataError: If the file ends before a row does.
        """
        row_bytes = into[:1].nbytes
        target: Any = into.flatten().view(torch.uint8).numpy()
        rows = ids.numpy()
        # Rows that follow one another are read at once; the operating system is told of all of them before the first is awaited.
        starts = np.flatnonzero(np.diff(rows, prepend=rows[0] - 2) != 1)
        places = offset + rows[starts] * row_bytes
        lengths = np.diff(starts, append=len(rows)) * row_bytes
        pieces = list(zip((starts * row_bytes).tolist(), places.tolist(), lengths.tolist(), strict=True))
        if hasattr(os, "posix_fadvise"):
            for _, place, length in pieces:
                os.posix_fadvise(self._descriptor, place, length, os.POSIX_FADV_WILLNEED)
        for first, place, length in pieces:
            read = 0
            while read < length:
                found = os.preadv(self._descriptor, [target[first + read : first + length]], place + read)
                if not found:
                    raise DataError("a column's file is shorter than it was; run again to regenerate it")
                read += found


@dataclass(frozen=True, eq=False)
class MappedColumn(TensorColumn):
    """A column whose values stay in a file while batches are cut from it.

    The batches are those of a :class:`~erasure.training.batches.TensorColumn`, and no more of the file is in memory than a few of them
    need.

    Args:
        mapping: What ``values`` are a view of; on the CPU.
        offset: Where they begin in the file.
        device: Where batches go.
    """

    reads_ahead: ClassVar[bool] = True

    mapping: Mapping | None = None
    offset: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def rows(self, ids: Tensor) -> Tensor:
        """Samples ``ids`` as they are stored, in memory, on the device."""
        wanted = ids.to("cpu")
        if self.mapping is None or not hasattr(os, "preadv"):
            return self.values.index_select(0, wanted).to(self.device)
        found = torch.empty((len(wanted), *self.sample_shape), dtype=self.values.dtype)
        if found.numel():
            self.mapping.read(found, wanted, self.offset)
        return found.to(self.device)

    def release(self) -> None:
        """Give back the pages that were read."""
        if self.mapping is not None:
            self.mapping.release()

    def to(self, device: torch.device) -> MappedColumn:
        """The same column, with batches on ``device``; the values stay in the file."""
        mean, std = (None if t is None else t.to(device) for t in (self.mean, self.std))
        return replace(self, mean=mean, std=std, device=device)
