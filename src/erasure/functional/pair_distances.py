"""Distances between the rows of two matrices, those of the link-stealing attacks."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["PAIR_DISTANCES", "pair_distances"]

PAIR_DISTANCES = ("cosine", "euclidean", "correlation", "chebyshev", "braycurtis", "canberra", "cityblock", "sqeuclidean")
"""Name of each column of :func:`pair_distances`."""


def pair_distances(a: Tensor, b: Tensor) -> Tensor:
    """Eight distances between each row of ``a`` and the row of ``b`` beside it.

    Args:
        a: Shape ``(n, K)``, floating point.
        b: The same shape.

    Returns:
        Shape ``(n, 8)``, in the order of :data:`PAIR_DISTANCES`; 0 where a distance is 0 divided by 0, as that of two constant rows by
        their correlation.

    Example:
        >>> pair_distances(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))[0, :2]
        tensor([1.0000, 1.4142])
    """
    difference = a - b
    absolute, squares = difference.abs(), difference.square().sum(1)
    columns = (
        _angle(a, b),
        squares.sqrt(),
        _angle(a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)),
        absolute.amax(1),
        (absolute.sum(1) / (a + b).abs().sum(1)).nan_to_num(0.0),
        (absolute / (a.abs() + b.abs())).nan_to_num(0.0).sum(1),
        absolute.sum(1),
        squares,
    )
    return torch.stack(columns, dim=1)


def _angle(a: Tensor, b: Tensor) -> Tensor:
    """One less the cosine of the angle between rows."""
    cosine: Tensor = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))
    return 1 - cosine.nan_to_num(1.0)
