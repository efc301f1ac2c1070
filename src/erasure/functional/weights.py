"""Comparisons of two models' weights."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["changed_share", "relative_distance"]


def changed_share(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> float:
    """Share of numbers that differ between two state dictionaries, in [0, 1].

    Counts parameters and buffers, such as the sums that an estimator keeps, but no single whole numbers: counters such as BatchNorm's
    number of batches say nothing about what a model computes. Dictionaries of different names or shapes differ in everything. Not a
    number differs from itself.

    Example:
        >>> changed_share({"w": torch.zeros(4)}, {"w": torch.tensor([0.0, 0.0, 0.0, 1.0])})
        0.25
    """
    first, second = (
        {name: value for name, value in state.items() if value.is_floating_point() or value.ndim} for state in (before, after)
    )
    if {name: value.shape for name, value in first.items()} != {name: value.shape for name, value in second.items()}:
        return 1.0
    n = sum(value.numel() for value in first.values())
    changed = sum(int(torch.ne(value, second[name].to(value.device)).sum()) for name, value in first.items())
    return changed / n if n else 0.0


def relative_distance(values: Mapping[str, Tensor], reference: Mapping[str, Tensor]) -> float | None:
    r"""Distance of some tensors from others of the same names, relative to those: :math:`\lVert a - b \rVert_2 / \lVert b \rVert_2`.

    Args:
        values: Name to tensor.
        reference: The same names and shapes.

    Returns:
        At least 0; 0 for equal tensors, and None where the reference is all zeros and the other is not.

    Example:
        >>> relative_distance({"w": torch.tensor([3.0, 8.0])}, {"w": torch.tensor([3.0, 4.0])})
        0.8
    """
    squares = [(values[name].to(other.device).double() - other.double()).square().sum() for name, other in reference.items()]
    distance, norm = (
        math.sqrt(math.fsum(float(square) for square in each))
        for each in (squares, [other.double().square().sum() for other in reference.values()])
    )
    if not distance:
        return 0.0
    return distance / norm if norm else None
