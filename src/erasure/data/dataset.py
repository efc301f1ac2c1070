"""A data set in columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from erasure.training.batches import Column
from erasure.types import Task

__all__ = ["Dataset", "rows_left"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset:
    """A whole data set in columns.

    Args:
        name: How results call it.
        x: Inputs, N samples.
        y: Labels: ``(N,)`` int64 in ``[0, n_classes)`` for ``classification`` and ``binary``, ``(N, n_classes)`` float32 of
            0 and 1 for ``multilabel``.
        n_classes: Number of classes (2 for ``binary``), or of labels for ``multilabel``.
        task: How labels are read.
        modality: ``table``, ``image``, ``text`` or ``graph``; tables are standardised by default.
        z: Optional group, identity or sensitive attribute, ``(N,)`` or ``(N, m)`` int64.
        class_names: Name of each class, if known.
        feature_names: Name of each input column of a table, if known.
        value_names: Of input columns of a table that hold codes, what each code stands for, by the column's name, if known. Reports show
            samples by it.
        z_names: What each value of ``z`` stands for, if known.
        token_names: Of texts, how each token id reads, with the space before it, if known. Reports show samples by it; what is read from
            a store has none.
        x_shape: Shape of one input sample as the model sees it, such as ``(30,)`` or ``(1, 8, 8)``.
        clean_y: The labels before some were made wrong on purpose, like ``y``; None where none were.
        rows: ``(N,)`` int64 ascending, the row of the source that each sample is from, counted from 0, where rows were left out; None where
            sample i is row i.
        corrupted: ``(N,)`` bool, the samples whose label or input was changed on purpose; None where none were.
    """

    name: str
    x: Column
    y: Tensor
    n_classes: int
    x_shape: tuple[int, ...]
    task: Task = "classification"
    modality: str = "table"
    z: Tensor | None = None
    class_names: tuple[str, ...] = ()
    feature_names: tuple[str, ...] = ()
    value_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    z_names: tuple[str, ...] = ()
    token_names: tuple[str, ...] = ()
    clean_y: Tensor | None = None
    rows: Tensor | None = None
    corrupted: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def class_name(self, k: int) -> str:
        """Name of class ``k``; its number where classes have no names."""
        return str(self.class_names[k]) if k < len(self.class_names) else str(k)


def rows_left(rows: Tensor) -> Tensor | None:
    """Rows as :class:`Dataset` has them: None where none was left out before another.

    Args:
        rows: The row of the source that each sample is from, counted from 0; ``(N,)`` int64.
    """
    return None if torch.equal(rows, torch.arange(len(rows))) else rows
