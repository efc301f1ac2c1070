r"""Margins of the right class over a population of models: how far two populations are from each other, sample by sample.

Margins of ``N`` models on ``n`` samples are matrices ``(N, n)``, a row for each model. Everything is vectorised over the samples and
computed in double precision.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from erasure.errors import DataError
from erasure.types import TaskKind

__all__ = ["class_margin", "histogram_divergence"]


def class_margin(task: TaskKind, logits: Tensor, labels: Tensor) -> Tensor:
    r"""Logit of the right class against all others, :math:`z_y - \log \sum_{j \ne y} e^{z_j} = \log \frac{p_y}{1 - p_y}`.

    Args:
        task: ``classification`` or ``binary``.
        logits: ``(n, K)`` with at least two classes; ``(n,)`` or ``(n, 1)`` for ``binary``.
        labels: ``(n,)`` integers.

    Returns:
        ``(n,)`` float64; finite where the logits are and do not differ by more than their type can hold.

    Raises:
        DataError: If samples have several labels, or there is one class only.

    Source:
        Carlini et al., IEEE S&P 2022, arXiv:2112.03570, section V-B; tested against ``scipy.special.logsumexp``.

    Example:
        >>> class_margin("classification", torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([0]))
        tensor([1.3069], dtype=torch.float64)
    """
    z = logits.double()
    if task == "multilabel":
        raise DataError("a margin of the right class is not defined for samples with several labels")
    if task == "binary":
        return torch.where(labels.reshape(-1) > 0, z.reshape(-1), -z.reshape(-1))
    if z.shape[1] < 2:
        raise DataError("a margin compares the right class with the others; the logits have one class only")
    right = labels.long().unsqueeze(1)
    return z.gather(1, right).squeeze(1) - z.scatter(1, right, -math.inf).logsumexp(1)


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
