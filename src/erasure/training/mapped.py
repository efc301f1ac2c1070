"""Inputs that stay in a file, so that a data set can be larger than memory."""

from __future__ import annotations

import mmap
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from erasure.training.batches import TensorColumn

__all__ = ["MappedColumn", "Mapping"]

_AT_ONCE = 32 << 20
"""Bytes that may be in memory before the pages they belong to are given back."""

_PAGE_BYTES = 2 << 20
"""The largest piece of a file that the operating system brings in where one row is read."""


class Mapping:
    """A file as memory: pages are read when they are looked at, and given back by :meth:`release`.

    Args:
        descriptor: Of the open file, which may be closed afterwards.
        writable: Whether what is written goes into the file; otherwise it stays in memory and is lost with the next release.
    """

    def __init__(self, descriptor: int, *, writable: bool = False) -> None:
        self._memory = mmap.mmap(descriptor, 0, access=mmap.ACCESS_WRITE if writable else mmap.ACCESS_COPY)

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


@dataclass(frozen=True, eq=False)
class MappedColumn(TensorColumn):
    """A column whose values stay in a file while batches are cut from it.

    The batches are those of a :class:`~erasure.training.batches.TensorColumn`, and no more of the file is in memory than a few of them
    need.

    Args:
        mapping: What ``values`` are a view of; on the CPU.
        device: Where batches go.
    """

    reads_ahead: ClassVar[bool] = True

    mapping: Mapping | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def rows(self, ids: Tensor) -> Tensor:
        """Samples ``ids`` as they are stored, in memory, on the device."""
        wanted = ids.to("cpu")
        found = torch.empty((len(wanted), *self.sample_shape), dtype=self.values.dtype)
        n_rows = max(1, _AT_ONCE // (_PAGE_BYTES + self.values[:1].nbytes))
        for start in range(0, len(wanted), n_rows):
            torch.index_select(self.values, 0, wanted[start : start + n_rows], out=found[start : start + n_rows])
            self.release()
        return found.to(self.device)

    def release(self) -> None:
        """Give back the pages that were read."""
        if self.mapping is not None:
            self.mapping.release()

    def to(self, device: torch.device) -> MappedColumn:
        """The same column, with batches on ``device``; the values stay in the file."""
        mean, std = (None if t is None else t.to(device) for t in (self.mean, self.std))
        return replace(self, mean=mean, std=std, device=device)
