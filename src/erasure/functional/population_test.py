"""Are two populations of models one? Permutation tests that change which models are called unlearned, and compute the statistic again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from erasure.errors import DataError
from erasure.functional.margins import epsilons

__all__ = ["divergence_by_labelling", "epsilon_by_labelling", "labellings_of", "p_value"]

_MIN_SHARE = 1e-5
_CELLS = 2**24
"""Numbers that are held at once."""


def labellings_of(n_first: int, n_second: int, n_labellings: int, generator: np.random.Generator) -> Tensor:
    """Which of ``n_first + n_second`` models play the first population: as observed, and by lot.

    Returns:
        ``(1 + n_labellings, n_first + n_second)``, boolean; the first row is the observed one.
    """
    players = torch.zeros(1 + n_labellings, n_first + n_second, dtype=torch.bool)
    players[0, :n_first] = True
    drawn = generator.random((n_labellings, n_first + n_second)).argsort(axis=1)[:, :n_first]
    players[1:] = players[1:].scatter(1, torch.from_numpy(drawn), value=True)
    return players


def divergence_by_labelling(
    margins: Tensor, reference: Tensor, players: Tensor, *, n_bins: int = 20, clip: float = 100.0
) -> Tensor:
    """Mean over samples of :func:`~erasure.functional.margins.histogram_divergence` under each labelling.

    The bins of a sample span both populations, so that they are the same for all labellings.

    Args:
        margins: First population as observed, ``(N, n)``.
        reference: Second population, ``(M, n)``.
        players: As :func:`labellings_of` gives them, ``(L, N + M)``.
        n_bins: Bins of a sample.
        clip: Margins are clipped to ``[-clip, clip]``.

    Returns:
        ``(L,)`` float64; the first is the observed one.
    """
    models = torch.cat([margins, reference]).double().clamp(-clip, clip).T.contiguous()
    low, high = models.amin(1, keepdim=True), models.amax(1, keepdim=True)
    edges = low + torch.arange(n_bins + 1, dtype=torch.float64) * ((high - low) / n_bins)
    bins = (torch.searchsorted(edges, models, right=True) - 1).clamp(0, n_bins - 1)
    distinct, which = torch.unique(players, dim=0, return_inverse=True)  # few models have few labellings
    mine = distinct.double()
    n_mine, n_others = mine.sum(1), (1 - mine).sum(1)
    total = torch.zeros(len(distinct), dtype=torch.float64)
    for part in torch.split(bins, max(1, _CELLS // (n_bins * len(players)))):
        held = torch.nn.functional.one_hot(part, n_bins).double().transpose(1, 2).reshape(-1, models.shape[1])
        of_mine = held @ mine.T
        q = (held.sum(1, keepdim=True) - of_mine) / n_others
        p = of_mine / n_mine
        p, q = (each.view(len(part), n_bins, -1) for each in (p, q))
        q = torch.where(p > 0, q.clamp(min=_MIN_SHARE), q)
        q = q / q.sum(1, keepdim=True)
        total += torch.where(p > 0, p * (p.log() - q.log()), 0.0).sum(1).clamp(min=0).sum(0)
    return (total / models.shape[0])[which]


def epsilon_by_labelling(
    margins: Tensor, reference: Tensor, players: Tensor, *, families: Literal["both", "single"] = "both"
) -> Tensor:
    """Mean over samples of :func:`~erasure.functional.margins.epsilons` under each labelling, ``(L,)``.

    Args:
        margins: First population as observed, ``(N, n)``.
        reference: Second population, ``(M, n)``.
        players: As :func:`labellings_of` gives them, ``(L, N + M)``.
        families: As in :func:`~erasure.functional.margins.epsilons`.
    """
    models = torch.cat([margins, reference])
    n_samples = models.shape[1]
    distinct, which = torch.unique(players, dim=0, return_inverse=True)
    found = []
    for part in torch.split(distinct, max(1, _CELLS // max(1, models.numel()) // 8)):
        first = torch.stack([models[each] for each in part], dim=1)
        second = torch.stack([models[~each] for each in part], dim=1)
        each = epsilons(first.flatten(1), second.flatten(1), families=families)
        found.append(each.view(len(part), n_samples).mean(1))
    return torch.cat(found)[which]


def p_value(statistics: Sequence[Tensor]) -> float:
    """Share of labellings under which the largest of several statistics is at least the observed one.

    Each is standardised over labellings first, so that none drowns the others.

    Args:
        statistics: Each ``(L,)``, larger for populations that differ more; the first entry is the observed one.

    Raises:
        DataError: If there is none.

    Example:
        >>> p_value([torch.tensor([3.0, 1.0, 2.0, 0.0])])
        0.25
    """
    if not statistics:
        raise DataError("a permutation test needs a statistic")
    standardised = []
    for each in statistics:
        spread = each.std(correction=0)
        standardised.append((each - each.mean()) / spread if spread > 0 else torch.zeros_like(each))
    largest = torch.stack(standardised).amax(0)
    return float((largest >= largest[0] - 1e-9).double().mean())
