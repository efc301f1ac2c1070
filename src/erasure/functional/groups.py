"""Means within groups, and agreement beyond chance."""

from __future__ import annotations

import torch
from torch import Tensor

from erasure.errors import DataError

__all__ = ["cohens_kappa", "group_means"]


def group_means(values: Tensor, groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean of each group that occurs.

    Args:
        values: ``(n,)``.
        groups: ``(n,)`` integers.

    Returns:
        The groups in ascending order, their means (float64) and their sizes, each ``(G,)``.

    Example:
        >>> group_means(torch.tensor([1.0, 0.0, 1.0]), torch.tensor([7, 7, 2]))
        (tensor([2, 7]), tensor([1.0000, 0.5000], dtype=torch.float64), tensor([1, 2]))
    """
    found, place = torch.unique(groups, return_inverse=True)
    counts = torch.bincount(place, minlength=len(found))
    sums = torch.zeros(len(found), dtype=torch.float64).scatter_add_(0, place, values.double())
    return found, sums / counts, counts


def cohens_kappa(confusion: Tensor) -> float:
    r"""Agreement of two raters beyond chance, :math:`(p_o - p_e) / (1 - p_e)`.

    Args:
        confusion: ``(K, K)`` counts: how often the first says the row where the second says the column.

    Returns:
        In [-1, 1]; 1 is full agreement, 0 what two independent raters with these frequencies reach.

    Raises:
        DataError: If both always say the same one class, or there is no sample: chance then leaves nothing to agree on.

    Source:
        Cohen, 1960; tested against ``sklearn.metrics.cohen_kappa_score``.

    Example:
        >>> cohens_kappa(torch.tensor([[2, 1], [0, 1]]))
        0.5
    """
    n = int(confusion.sum())
    counts = confusion.double()
    # In counts, so that agreement by necessity is found exactly.
    expected = float((confusion.sum(0) * confusion.sum(1)).sum())
    if not n or expected == n * n:
        raise DataError("agreement beyond chance is not defined where both raters always say the same class")
    observed, by_chance = float(counts.diagonal().sum()) / n, expected / (n * n)
    return (observed - by_chance) / (1 - by_chance)
