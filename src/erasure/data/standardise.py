"""Tables scaled by the statistics of some of their samples."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from erasure.data.dataset import Dataset
from erasure.training.batches import Column, TensorColumn

__all__ = ["standardised"]


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
    chosen = x.values.index_select(0, ids).double()
    std = chosen.std(0, correction=0)
    std = torch.where(std > 0, std, torch.ones_like(std))
    return replace(x, mean=chosen.mean(0).to(x.values.dtype), std=std.to(x.values.dtype))
