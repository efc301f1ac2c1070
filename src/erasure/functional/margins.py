r"""Margins of the right class over a population of models: how far two populations are from each other, sample by sample.

Margins of ``N`` models on ``n`` samples are matrices ``(N, n)``, a row for each model. Everything is vectorised over the samples and
computed in double precision.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from erasure.errors import DataError

__all__ = ["epsilons", "forgetting_scores", "histogram_divergence"]

_CAP = 50.0
_BUFFER = 2.0
_PAIRS_AT_ONCE = 1 << 22

# Thresholds that cannot be judged: those that tell the populations apart somewhat, and those that tell nothing.
_TELLING, _SILENT = -1.0, -2.0


def histogram_divergence(
    margins: Tensor, reference: Tensor, *, n_bins: int = 20, clip: float = 100.0, least_share: float = 1e-5
) -> Tensor:
    r"""Kullback-Leibler divergence of two populations' margins, estimated from histograms of each sample.

    .. math:: \sum_b P_b \ln \frac{P_b}{Q_b}

    Margins are clipped; the bins of a sample are equally wide and span what both populations say about it, both ends included. Where P has
    mass, Q is at least ``least_share``, and is normalised afterwards. The estimate is biased upwards: two samples of one distribution
    do not give 0.

    Args:
        margins: P, ``(N, n)``, without NaN, ``N >= 1``.
        reference: Q, ``(M, n)``, without NaN, ``M >= 1``.
        n_bins: Number of bins.
        clip: Margins are clipped to ``[-clip, clip]``.
        least_share: Least share of the reference in a bin in which P has some.

    Returns:
        ``(n,)`` float64, in nats; at least 0, and ``ln(1 + 1 / least_share)`` at most (11.5 by default), where the two never meet.

    Raises:
        DataError: If the two differ in samples, a population is empty, or a margin is NaN.

    Source:
        Georgiev et al., 2024, arXiv:2410.23232; tested against ``numpy.histogram`` and ``scipy.stats.entropy``.

    Example:
        >>> apart = torch.tensor([[0.0], [0.0]]), torch.tensor([[1.0], [1.0]])
        >>> histogram_divergence(*apart), histogram_divergence(apart[0], apart[0])
        (tensor([11.5129], dtype=torch.float64), tensor([0.], dtype=torch.float64))
    """
    mine, other = _checked(margins, reference)
    mine, other = mine.clamp(-clip, clip), other.clamp(-clip, clip)
    low = torch.minimum(mine.amin(0), other.amin(0))
    high = torch.maximum(mine.amax(0), other.amax(0))
    steps = torch.arange(n_bins + 1, dtype=torch.float64, device=low.device)
    edges = low.unsqueeze(1) + steps * ((high - low) / n_bins).unsqueeze(1)
    p, q = _shares(mine, edges), _shares(other, edges)
    q = torch.where(p > 0, q.clamp(min=least_share), q)
    q = q / q.sum(1, keepdim=True)
    terms = torch.where(p > 0, p * (p.log() - q.log()), 0.0)
    return terms.sum(1).clamp(min=0)


def epsilons(margins: Tensor, reference: Tensor, *, families: Literal["both", "single"] = "both", delta: float = 1e-5) -> Tensor:
    r"""How well the best threshold tells two populations apart, as the ε of differential privacy, for each sample.

    .. math:: \varepsilon = \max_t \max\Bigl(\ln\frac{1 - \delta - \mathrm{FPR}_t}{\mathrm{FNR}_t},
              \ln\frac{1 - \delta - \mathrm{FNR}_t}{\mathrm{FPR}_t}, 0\Bigr)

    An attacker guesses from one margin which population a model is of. A single threshold says "the one with the larger median" at and
    above t. A pair of thresholds says "the one with the smaller range" from l to r, where r is within 2 of its largest value and r - l
    within 2 of its range. All thresholds that make a difference are tried.

    A threshold without any error gives the cap of 50. One with errors of one kind only is left out: there are too few models to judge it.
    Where all are left out, ε is 0 if none of them tells anything, otherwise the cap. It is the cap too where one range is below 1 % of
    the other. As the largest of many estimates ε is biased upwards: it is 1 or more on average for equal distributions.

    Args:
        margins: One population, ``(N, n)``, without NaN, ``N >= 1``.
        reference: The other, ``(M, n)``, without NaN, ``M >= 1``.
        families: Single thresholds and pairs, or ``single`` thresholds alone.
        delta: δ of differential privacy.

    Returns:
        ``(n,)`` float64, in [0, 50].

    Raises:
        DataError: If the two differ in samples, a population is empty, or a margin is NaN.

    Source:
        Triantafillou et al., 2024, arXiv:2406.09073; tested against a search over a grid of thresholds.

    Example:
        >>> epsilons(torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [3.0]]))
        tensor([50.], dtype=torch.float64)
    """
    mine, other = _checked(margins, reference)
    judged = _judgements(len(mine), len(other), delta)
    at_once = max(1, _PAIRS_AT_ONCE // (len(mine) + len(other) + 1) ** 2)
    found = []
    for a, b in zip(torch.split(mine, at_once, 1), torch.split(other, at_once, 1), strict=True):
        cuts = _cuts(a, b)
        best = _best_single(judged, cuts, a, b)
        if families == "both":
            best = torch.maximum(best, _best_pair(judged, cuts, a, b))
        ranges = torch.stack([each.amax(0) - each.amin(0) for each in (a, b)]).sort(0).values
        peaked = ranges[0] < 0.01 * ranges[1]
        best = torch.where(peaked | (best == _TELLING), _CAP, best)
        found.append(best.clamp(0, _CAP))
    return torch.cat(found)


def forgetting_scores(epsilon: Tensor, n_models: int) -> Tensor:
    r"""Score of each sample for its ε: 1 below 0.5, and half of it for every further half.

    .. math:: H(\varepsilon) = 2^{-\lfloor 2 \varepsilon \rfloor}

    and 0 from :math:`\lceil \ln(N - 1) \rceil` on, which N models cannot resolve.

    Args:
        epsilon: ``(n,)``, at least 0.
        n_models: N, the number of models in either population, at least 2.

    Returns:
        ``(n,)`` float64, in [0, 1].

    Source:
        Triantafillou et al., 2024, arXiv:2406.09073.

    Example:
        >>> forgetting_scores(torch.tensor([0.0, 0.6, 1.1, 50.0]), 512)
        tensor([1.0000, 0.5000, 0.2500, 0.0000], dtype=torch.float64)
    """
    halves = (epsilon.double() * 2).floor()
    return torch.where(halves < 2 * math.ceil(math.log(n_models - 1)), torch.exp2(-halves), 0.0)


class _Cuts(NamedTuple):
    """The places between the sorted margins of both populations, for each sample, each ``(n, N + M + 1)``.

    Args:
        below: Largest margin below the place; -inf at the first.
        above: Smallest margin above it, inf at the last; a threshold cannot come between equal margins.
        mine: How many margins of the first population are below it.
        other: How many of the second.
    """

    below: Tensor
    above: Tensor
    mine: Tensor
    other: Tensor


def _cuts(mine: Tensor, other: Tensor) -> _Cuts:
    pool, order = torch.cat([mine, other]).T.sort(dim=1)
    edge = torch.full_like(pool[:, :1], math.inf)
    is_mine = (order < len(mine)).long()
    counts = [torch.cat([torch.zeros_like(each[:, :1]), each.cumsum(1)], dim=1) for each in (is_mine, 1 - is_mine)]
    return _Cuts(torch.cat([-edge, pool], dim=1), torch.cat([pool, edge], dim=1), *counts)


def _judgements(n_mine: int, n_other: int, delta: float) -> Tensor:
    """ε of a threshold that is wrong on that many models of either population, ``(N + 1, M + 1)``."""
    mine = (torch.arange(n_mine + 1, dtype=torch.float64) / n_mine).unsqueeze(1)
    other = (torch.arange(n_other + 1, dtype=torch.float64) / n_other).unsqueeze(0)
    room = [(1 - delta - rate).clamp(min=0) for rate in (mine, other)]
    found = torch.maximum(room[1].log() - mine.log(), room[0].log() - other.log()).clamp(min=0)
    unjudged = torch.where(mine + other < 1, _TELLING, _SILENT)
    found = torch.where((mine == 0) | (other == 0), unjudged, found)
    found[0, 0] = _CAP
    return found


def _best_single(judged: Tensor, cuts: _Cuts, mine: Tensor, other: Tensor) -> Tensor:
    n_mine, n_other = len(mine), len(other)
    mine_above = (_medians(mine) >= _medians(other)).unsqueeze(1)
    wrong_mine = torch.where(mine_above, cuts.mine, n_mine - cuts.mine)
    wrong_other = torch.where(mine_above, n_other - cuts.other, cuts.other)
    found = judged[wrong_mine, wrong_other]
    return torch.where(cuts.below < cuts.above, found, _SILENT).amax(1)


def _best_pair(judged: Tensor, cuts: _Cuts, mine: Tensor, other: Tensor) -> Tensor:
    """The left threshold is at a cut along dimension 1, the right one at a cut along dimension 2."""
    n_mine, n_other = len(mine), len(other)
    ranges = [each.amax(0) - each.amin(0) for each in (mine, other)]
    mine_inside = ranges[0] <= ranges[1]
    width = torch.minimum(*ranges).reshape(-1, 1, 1)
    largest = torch.where(mine_inside, mine.amax(0), other.amax(0)).reshape(-1, 1, 1)
    # l is in (below, above] of its cut and r in [below, above) of its own; both are free within what the family allows.
    left_below, left_above = cuts.below.unsqueeze(2), cuts.above.unsqueeze(2)
    right_below, right_above = cuts.below.unsqueeze(1), cuts.above.unsqueeze(1)
    least_right, most_right = right_below.maximum(largest - _BUFFER), right_above.minimum(largest + _BUFFER)
    allowed = (
        (left_below < left_above)
        & (least_right < right_above)
        & (least_right <= largest + _BUFFER)
        & (least_right - left_above <= width + _BUFFER)
        & (most_right - left_below > width - _BUFFER)
    )
    inside_mine = cuts.mine.unsqueeze(1) - cuts.mine.unsqueeze(2)
    inside_other = cuts.other.unsqueeze(1) - cuts.other.unsqueeze(2)
    allowed &= inside_mine + inside_other > 0
    inside_mine, inside_other = inside_mine.clamp(min=0), inside_other.clamp(min=0)
    mine_inside = mine_inside.reshape(-1, 1, 1)
    wrong_mine = torch.where(mine_inside, n_mine - inside_mine, inside_mine)
    wrong_other = torch.where(mine_inside, inside_other, n_other - inside_other)
    return torch.where(allowed, judged[wrong_mine, wrong_other], _SILENT).amax((1, 2))


def _medians(values: Tensor) -> Tensor:
    ordered, n = values.sort(0).values, len(values)
    return (ordered[(n - 1) // 2] + ordered[n // 2]) / 2


def _shares(values: Tensor, edges: Tensor) -> Tensor:
    """Share of each column's values in each bin, ``(n, n_bins)``; the last bin is closed, so that the largest value counts."""
    n_bins = edges.shape[1] - 1
    rows = values.T.contiguous()
    bins = (torch.searchsorted(edges, rows, right=True) - 1).clamp(0, n_bins - 1)
    counts = torch.zeros(len(rows), n_bins, dtype=torch.float64, device=values.device)
    return counts.scatter_add_(1, bins, torch.ones_like(rows)) / rows.shape[1]


def _checked(margins: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    if margins.shape[1:] != reference.shape[1:] or margins.ndim != 2:
        raise DataError(f"margins of the same samples are compared; found shapes {[*margins.shape]} and {[*reference.shape]}")
    if not len(margins) or not len(reference):
        raise DataError("margins of at least one model on either side are compared; one side has none")
    mine, other = margins.double(), reference.double()
    if bool(mine.isnan().any()) or bool(other.isnan().any()):
        raise DataError("margins are compared, and some are not numbers")
    return mine, other
