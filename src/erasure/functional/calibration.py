"""How far predicted probabilities can be taken at their word."""

from __future__ import annotations

import torch
from torch import Tensor

from erasure.errors import DataError

__all__ = ["brier_score", "expected_calibration_error"]


def expected_calibration_error(confidence: Tensor, right: Tensor, *, n_bins: int = 15, equal_mass: bool = False) -> float:
    r"""Expected calibration error (ECE).

    Answers: when a model is 80 % sure, is it right four times out of five?

    .. math:: \sum_b \frac{n_b}{n} \bigl| \mathrm{acc}_b - \mathrm{conf}_b \bigr|

    Args:
        confidence: Probability of the predicted class, ``(n,)`` in [0, 1], ``n >= 1``.
        right: Whether the prediction is right, ``(n,)`` 0 or 1.
        n_bins: Number of bins.
        equal_mass: Bins of equally many samples instead of bins ``(k / n_bins, (k + 1) / n_bins]``. Equal confidences stay together.

    Returns:
        In [0, 1]; 0 is calibrated. Empty bins count nothing.

    Raises:
        DataError: If there is no sample.

    Source:
        Guo, Pleiss, Sun, Weinberger, ICML 2017, arXiv:1706.04599; bins of equal mass as in Nixon et al., 2019, arXiv:1904.01685.

    Example:
        >>> expected_calibration_error(torch.tensor([0.75, 0.75, 0.75, 0.75]), torch.tensor([1, 1, 0, 0]))
        0.25
    """
    n = len(confidence)
    if not n:
        raise DataError("calibration is not defined without samples")
    confidence, right = confidence.double(), right.double()
    if equal_mass:
        rank = torch.searchsorted(confidence.sort().values, confidence)
        bins = rank * n_bins // n
    else:
        edges = torch.arange(1, n_bins, dtype=torch.float64, device=confidence.device) / n_bins
        bins = torch.bucketize(confidence, edges)
    differences = torch.zeros(n_bins, dtype=torch.float64, device=confidence.device)
    # n_b |acc_b - conf_b| is the absolute sum of the differences in the bin.
    return float(differences.scatter_add_(0, bins, right - confidence).abs().sum()) / n


def brier_score(probabilities: Tensor, outcomes: Tensor) -> float:
    r"""Brier score, :math:`\frac1n \sum_i \sum_k (p_{ik} - y_{ik})^2`.

    Args:
        probabilities: ``(n, K)`` in [0, 1], ``n >= 1``; one column for the probability of a single event.
        outcomes: What happened, 0 or 1, same shape.

    Returns:
        In [0, 2] where the rows of both sum to 1, in [0, 1] for a single column; 0 is best.

    Raises:
        DataError: If there is no sample.

    Source:
        Brier, Monthly Weather Review 78 (1950).

    Example:
        >>> brier_score(torch.tensor([[0.5, 0.5], [1.0, 0.0]]), torch.tensor([[1, 0], [0, 1]]))
        1.25
    """
    if not len(probabilities):
        raise DataError("the Brier score is not defined without samples")
    return float((probabilities.double() - outcomes.double()).square().sum(1).mean())
