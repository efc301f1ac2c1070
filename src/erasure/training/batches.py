"""Columns on the device and the batches cut from them: no per-sample Python, no synchronisation.

A data set keeps its inputs as one *column* (a tensor, a list of graphs, a token matrix). An epoch is a permutation of ids;
samples are gathered in blocks of several batches and handed out as views.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from erasure.training.reading import ahead

__all__ = ["Batch", "Batches", "Column", "TensorColumn"]

_BLOCK_BYTES = 1 << 20
"""Gathered at once: large enough to make a batch a cheap view, small enough to stay in cache."""


@runtime_checkable
class Column(Protocol):
    """All inputs of a data set, indexed by id."""

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def gather(self, ids: Tensor) -> Any:
        """Model input for the samples ``ids`` (shape ``(B,)``, int64), in that order."""
        ...

    def to(self, device: torch.device) -> Column:
        """The same column on another device."""
        ...


@dataclass(frozen=True, eq=False)
class TensorColumn:
    """Inputs in one tensor, optionally scaled and normalised when a batch is cut.

    Args:
        values: Shape ``(N, …)``; floating point, or integers that ``scale`` turns into floats (uint8 images) or that stay as they
            are (token ids).
        scale: Factor applied to integer values, such as ``1 / 255``; None keeps the values' own type.
        mean: Subtracted after scaling; broadcast against one sample.
        std: Divided by after subtracting; same shape as ``mean``; must not contain 0.

    Class data:
        reads_ahead: Whether reading takes so long that the next samples are read while the last ones are learned from.
    """

    reads_ahead: ClassVar[bool] = False

    values: Tensor
    scale: float | None = None
    mean: Tensor | None = None
    std: Tensor | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.values.shape[1:])

    def gather(self, ids: Tensor) -> Tensor:
        """Samples ``ids``, scaled and normalised; shape ``(B, …)``."""
        return self.prepared(self.rows(ids))

    def rows(self, ids: Tensor) -> Tensor:
        """Samples ``ids`` as they are stored; shape ``(B, …)``."""
        return self.values.index_select(0, ids)

    def prepared(self, chosen: Tensor) -> Tensor:
        """Stored samples as the model takes them: scaled and normalised; shape ``(B, …)``."""
        if self.scale is not None:
            chosen = chosen.to(torch.float32).mul_(self.scale)
        if self.mean is not None and self.std is not None:
            chosen = (chosen - self.mean) / self.std
        return chosen

    def to(self, device: torch.device) -> TensorColumn:
        """The same column on ``device``."""
        mean, std = (None if t is None else t.to(device) for t in (self.mean, self.std))
        return replace(self, values=self.values.to(device), mean=mean, std=std)


@runtime_checkable
class PartitionedColumn(Protocol):
    """A column in which a sample's input depends on which other samples are in the partition at hand, such as nodes of a graph."""

    def within(self, ids: Tensor) -> Column:
        """The column as a pass over the samples ``ids`` sees it."""
        ...

    def trained_on(self, ids: Tensor) -> Column:
        """The column, told which samples belong to the training set."""
        ...


class Batch(NamedTuple):
    """Some samples: ``x`` as the model takes it, labels ``y``, and their ``ids`` in the data set."""

    x: Any
    y: Tensor
    ids: Tensor


class Batches:
    """The batches of one partition, re-iterable: every pass is a new epoch.

    Args:
        x: Column of inputs.
        y: Labels, shape ``(N,)`` or ``(N, K)``, on the same device.
        ids: The partition, shape ``(n,)``, int64, on the same device.
        batch_size: Samples per batch; the last, shorter one is kept.
        generator: Shuffles each pass; None keeps the partition's order.
        augment: Changes the stored inputs of each batch before they are scaled and normalised; for a :class:`TensorColumn`.
    """

    def __init__(
        self,
        x: Column,
        y: Tensor,
        ids: Tensor,
        batch_size: int,
        generator: torch.Generator | None = None,
        augment: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.x: Column = x.within(ids) if isinstance(x, PartitionedColumn) else x
        self.y: Tensor = y
        self.ids: Tensor = ids
        self.batch_size: int = batch_size
        self.generator: torch.Generator | None = generator
        self.augment: Callable[[Tensor], Tensor] | None = augment

    @property
    def n_samples(self) -> int:
        """Samples in one pass."""
        return len(self.ids)

    def __len__(self) -> int:
        return -(-len(self.ids) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        ids = self.ids
        if self.generator is not None:
            order = torch.randperm(len(ids), generator=self.generator, device=self.generator.device)
            ids = ids[order.to(ids.device)]
        if isinstance(self.x, TensorColumn):
            yield from self._views(self.x, ids)
            return
        for start in range(0, len(ids), self.batch_size):
            chosen = ids[start : start + self.batch_size]
            yield Batch(self.x.gather(chosen), self.y[chosen], chosen)

    def _views(self, x: TensorColumn, ids: Tensor) -> Iterator[Batch]:
        blocks = self._blocks(x, ids)
        for inputs, labels, chosen in ahead(blocks) if x.reads_ahead else blocks:
            for first in range(0, len(chosen), self.batch_size):
                size = min(self.batch_size, len(chosen) - first)
                cut = inputs.narrow(0, first, size)
                if self.augment is not None:
                    cut = x.prepared(self.augment(cut))
                yield Batch(cut, labels.narrow(0, first, size), chosen.narrow(0, first, size))

    def _blocks(self, x: TensorColumn, ids: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Inputs, labels and ids of several batches at a time; inputs that are to be augmented are as they are stored."""
        row_bytes = max(1, x.values[:1].numel() * 4)
        block = self.batch_size * max(1, _BLOCK_BYTES // (row_bytes * self.batch_size))
        read = x.gather if self.augment is None else x.rows
        for start in range(0, len(ids), block):
            chosen = ids[start : start + block]
            yield read(chosen), self.y.index_select(0, chosen), chosen

    def cycled(self, n_batches: int) -> Iterator[Batch]:
        """Exactly ``n_batches`` batches, starting a new (newly shuffled) pass whenever one ends.

        Used to pair partitions of unequal size; yields nothing if the partition is empty.
        """
        given = 0
        while given < n_batches and len(self.ids):
            for batch in self:
                yield batch
                given += 1
                if given == n_batches:
                    return
