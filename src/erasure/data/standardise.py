"""Tables scaled by the statistics of some of their samples."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from erasure.data.dataset import Dataset
from erasure.training.batches import Column, TensorColumn
from erasure.training.mapped import MappedColumn

__all__ = ["standardised"]

_PART_BYTES = 16 << 20


def standardised(data: Dataset, ids: Tensor) -> Column:
    """The inputs of a data set, centred and scaled column by column if it is a table of floating-point numbers.

    Args:
        data: The data set.
        ids: The samples whose mean and standard deviation are taken, ``(n,)``; with none, nothing is scaled.

    Returns:
        A column over all samples; the values are not copied. Constant columns are only centred; images and token matrices are
        left alone.
    """
    x = data.x
    if data.modality != "table" or not isinstance(x, TensorColumn) or not x.values.is_floating_point() or not len(ids):
        return x
    if isinstance(x, MappedColumn):
        mean, std = _in_parts(x, ids)
    else:
        chosen = x.values.index_select(0, ids).double()
        mean, std = chosen.mean(0), chosen.std(0, correction=0)
    std = torch.where(std > 0, std, torch.ones_like(std))
    return replace(x, mean=mean.to(x.values.dtype), std=std.to(x.values.dtype))


def _in_parts(x: MappedColumn, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation without all samples in memory at a time; the same up to the last bits of a double."""
    n_rows = max(1, _PART_BYTES // max(1, 8 * x.values[:1].numel()))
    parts = torch.split(ids, n_rows)
    mean = torch.stack([x.rows(part).double().sum(0) for part in parts]).sum(0) / len(ids)
    squares = torch.stack([(x.rows(part).double() - mean).square().sum(0) for part in parts]).sum(0)
    return mean, (squares / len(ids)).sqrt()
