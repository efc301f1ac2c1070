"""Scores of answers from scores of their tokens."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["lowest_mean"]


def lowest_mean(values: Tensor, mask: Tensor, share: float) -> Tensor:
    r"""Mean of the lowest values of each row, ``(n,)``.

    .. math:: \frac1k \sum_{t \in \text{lowest } k} v_t, \quad k = \max(1, \lfloor s T \rfloor)

    Args:
        values: ``(n, T)``.
        mask: Which of them count, ``(n, T)`` bool; 0 for a row without any.
        share: ``s`` in (0, 1].

    Example:
        >>> lowest_mean(torch.tensor([[-3.0, -1.0, -2.0, 9.0]]), torch.tensor([[True, True, True, False]]), 0.7)
        tensor([-2.5000])
    """
    lengths = mask.sum(1)
    counts = (lengths * share).floor().clamp_min(1)
    ordered = torch.where(mask, values, torch.full_like(values, float("inf"))).sort(1).values
    chosen = (torch.arange(values.shape[1], device=values.device) < counts.unsqueeze(1)) & ordered.isfinite()
    return torch.where(chosen, ordered, torch.zeros_like(ordered)).sum(1) / chosen.sum(1).clamp_min(1)
