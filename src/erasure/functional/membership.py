r"""How sure a model is of a sample, and how well a score tells members from non-members.

A score is larger the more member-like a sample is. Scores come as vectors of members and of non-members; all is computed in double
precision, ties are never broken in the attack's favour, and the order of the samples does not matter.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from erasure.errors import DataError
from erasure.functional.tokens import TokenTable
from erasure.intervals import clopper_pearson
from erasure.kernels import placements, rates
from erasure.types import Task

__all__ = [
    "auc",
    "auc_interval",
    "balanced_accuracy",
    "best_balanced_accuracy",
    "confidence_margin",
    "roc",
    "thinned_roc",
    "tpr_at_fpr",
    "tpr_interval",
]


_SURE = 1e-12
"""Loss below which a model is as sure of an answer as can be told."""


def confidence_margin(task: Task, logits: Tensor, labels: Tensor) -> Tensor:
    r"""Log-odds that a model gives to the right label, the statistic of most membership attacks.

    .. math:: \phi = \log \frac{p_y}{1 - p_y} = z_y - \log \sum_{j \ne y} e^{z_j}

    In the form on the right it keeps its resolution where :math:`p_y` rounds to 1. For ``multilabel`` :math:`p_y` is the probability of
    the whole vector of labels; for ``generation`` the geometric mean of the probabilities of an answer's tokens.

    Args:
        task: How labels are read.
        logits: As the task asks, ``(n, K)``, ``(n,)`` or ``(n, 1)``; at least two classes. For ``generation``, ``(n, T, 4)`` statistics of
            tokens (:func:`~erasure.functional.tokens.token_statistics`).
        labels: ``(n,)`` integers, ``(n, C)`` zeros and ones for ``multilabel``, or the tokens of answers, ``(n, T)``, for ``generation``.

    Returns:
        ``(n,)`` float64; 0 where the right label has probability one half. Finite for finite logits.

    Raises:
        DataError: If there is one class only, of which every model is sure.

    Source:
        Carlini, Chien, Nasr, Song, Terzis, Tramer, IEEE S&P 2022, arXiv:2112.03570, section V-B.

    Example:
        >>> confidence_margin("classification", torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([0]))
        tensor([1.3069], dtype=torch.float64)
    """
    z = logits.double()
    if task == "classification":
        if z.shape[1] < 2:
            raise DataError("a confidence margin compares the right class with the others; the logits have one class only")
        right = labels.long().unsqueeze(1)
        others = z.scatter(1, right, -math.inf)
        return z.gather(1, right).squeeze(1) - others.logsumexp(1)
    if task == "generation":
        log_p = -TokenTable(logits, labels).losses.clamp_min(_SURE)
        return log_p - torch.log(-torch.expm1(log_p))
    signed = torch.where(labels.reshape(z.shape) > 0, z, -z)
    if task == "binary":
        return signed.reshape(-1)
    log_right = F.logsigmoid(signed)
    # 1 - prod_j p_j as a sum of positive terms: the first wrong label is the j-th.
    before = F.pad(log_right.cumsum(1), (1, 0))[:, :-1]
    return log_right.sum(1) - (before + F.logsigmoid(-signed)).logsumexp(1)


def roc(members: Tensor, nonmembers: Tensor) -> tuple[Tensor, Tensor]:
    """The ROC curve at every threshold that changes it.

    Args:
        members: Score of each member, ``(M,)``, ``M >= 1``.
        nonmembers: Score of each non-member, ``(N,)``, ``N >= 1``.

    Returns:
        False and true positive rates, ascending from (0, 0) to (1, 1), float64; samples of equal score change sides together.

    Raises:
        DataError: If a side is empty or a score is not a number.

    Source:
        Tested against ``sklearn.metrics.roc_curve``.

    Example:
        >>> fpr, tpr = roc(torch.tensor([3.0, 2.0]), torch.tensor([2.0, 1.0]))
        >>> fpr.tolist(), tpr.tolist()
        ([0.0, 0.0, 0.5, 1.0], [0.0, 0.5, 1.0, 1.0])
    """
    scored, others = (side.numpy() for side in _checked(members, nonmembers))
    thresholds = np.unique(np.concatenate([scored, others]))[::-1]
    false, true = (torch.from_numpy(np.concatenate([[0.0], rates(side, thresholds)])) for side in (others, scored))
    return false, true


def auc(members: Tensor, nonmembers: Tensor) -> float:
    r"""Area under the ROC curve of a membership score.

    Answers: how often does a random member outrank a random non-member? 0.5 is chance.

    .. math:: \Pr[s(x_\mathrm{in}) > s(x_\mathrm{out})] + \tfrac12 \Pr[=]

    Args:
        members: Score of each member, ``(M,)``, ``M >= 1``.
        nonmembers: Score of each non-member, ``(N,)``, ``N >= 1``.

    Returns:
        In [0, 1]; ties count one half.

    Raises:
        DataError: If a side is empty or a score is not a number.

    Source:
        Mann & Whitney, 1947; tested against ``sklearn.metrics.roc_auc_score``.

    Example:
        >>> auc(torch.tensor([0.9, 0.4]), torch.tensor([0.4, 0.1]))
        0.875
    """
    return float(_placements(*_checked(members, nonmembers)).mean())


def auc_interval(members: Tensor, nonmembers: Tensor, *, level: float = 0.95) -> tuple[float, float]:
    """Interval of the AUC over samples, the model and the attack being given.

    DeLong's variance on the logit scale, so that the interval stays inside [0, 1]. Where that variance is 0 or unknown (perfect
    separation, a single sample), the exact interval of as many independent pairs as the smaller side allows, which is wide.

    Args:
        members: Score of each member, ``(M,)``, ``M >= 1``.
        nonmembers: Score of each non-member, ``(N,)``, ``N >= 1``.
        level: Coverage, in (0, 1).

    Returns:
        Lower and upper end, in [0, 1]; they hold the AUC.

    Raises:
        DataError: If a side is empty or a score is not a number.

    Source:
        DeLong, DeLong, Clarke-Pearson, Biometrics 44 (1988); logit scale as in Pepe, 2003, section 5.2.

    Example:
        >>> low, high = auc_interval(torch.arange(10.0) + 3, torch.arange(10.0))
        >>> round(low, 2), round(high, 2)
        (0.49, 0.91)
    """
    from scipy.special import ndtri  # scipy.stats takes a second to import

    members, nonmembers = _checked(members, nonmembers)
    m, n = len(members), len(nonmembers)
    each = _placements(members, nonmembers)
    area = float(each.mean())
    variance = 0.0
    if min(m, n) > 1:
        variance = float(each.var()) / m + float(_placements(-nonmembers, -members).var()) / n
    slope = area * (1 - area)
    if variance <= 0 or slope <= 0:
        pairs = min(m, n)
        low, _ = clopper_pearson(math.floor(area * pairs), pairs, level=level)
        _, high = clopper_pearson(math.ceil(area * pairs), pairs, level=level)
        return low, high
    half = float(ndtri((1 + level) / 2)) * math.sqrt(variance) / slope
    centre = math.log(area / (1 - area))
    low, high = _expit(centre - half), _expit(centre + half)
    return min(low, area), max(high, area)


def tpr_at_fpr(curve: tuple[Tensor, Tensor], fpr: float) -> float:
    """Largest true positive rate among the thresholds whose false positive rate is at most ``fpr``.

    With fewer than ``1 / fpr`` non-members that is the rate without any false positive. It is never read off between two thresholds,
    nor at the nearest one.

    Args:
        curve: What :func:`roc` gives; ``10 / fpr`` non-members make a good estimate.
        fpr: Largest false positive rate, in [0, 1].

    Returns:
        In [0, 1]; chance is about ``fpr``.

    Example:
        >>> tpr_at_fpr(roc(torch.tensor([4.0, 3.0, 1.0]), torch.tensor([2.0, 0.0])), 0.4)
        0.6666666666666666
    """
    false, true = curve
    # The tolerance undoes rounding alone: rates are multiples of 1 / N.
    return float(true[false <= fpr + 1e-12][-1])


def tpr_interval(tpr: float, n_members: int, *, level: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson interval of a true positive rate among ``n_members``, the threshold being given.

    Example:
        >>> low, high = tpr_interval(0.0, 10)
        >>> low, round(high, 4)
        (0.0, 0.3085)
    """
    return clopper_pearson(round(tpr * n_members), n_members, level=level)


def balanced_accuracy(members: Tensor, nonmembers: Tensor, threshold: float = 0.0) -> float:
    """Mean of the shares of members above a threshold and of non-members not above it; one half of each for those that equal it.

    Example:
        >>> balanced_accuracy(torch.tensor([1.0, -1.0]), torch.tensor([-1.0, -2.0]))
        0.75
    """
    members, nonmembers = _checked(members, nonmembers)
    above = [float(((side > threshold).double() + (side == threshold).double() / 2).mean()) for side in (members, nonmembers)]
    return (above[0] + 1 - above[1]) / 2


def best_balanced_accuracy(members: Tensor, nonmembers: Tensor) -> float:
    """Balanced accuracy at the threshold that makes it largest.

    Returns:
        In [0.5, 1]. The threshold is chosen on the samples it is judged on, so the value is above one half for scores that say nothing.

    Example:
        >>> best_balanced_accuracy(torch.tensor([3.0, 1.0]), torch.tensor([2.0, 0.0]))
        0.75
    """
    fpr, tpr = roc(members, nonmembers)
    return float((tpr + 1 - fpr).max()) / 2


def thinned_roc(curve: tuple[Tensor, Tensor], n_nonmembers: int, n_points: int = 200) -> tuple[list[float], list[float]]:
    """A curve that :func:`roc` gave in at most ``n_points`` points, half of them spread over the logarithm of the false positive rate.

    Of the points of one false positive rate the highest is kept, and both ends are.

    Args:
        curve: What :func:`roc` gives.
        n_nonmembers: Number of non-members, which sets the smallest rate.
        n_points: Most points.

    Example:
        >>> fpr, tpr = thinned_roc(roc(torch.tensor([3.0, 2.0]), torch.tensor([2.0, 1.0])), 2)
        >>> fpr, tpr
        ([0.0, 0.5, 1.0], [0.5, 1.0, 1.0])
    """
    fpr, tpr = curve
    last = torch.cat([fpr[1:] > fpr[:-1], torch.ones(1, dtype=torch.bool)])
    fpr, tpr = fpr[last], tpr[last]
    if len(fpr) > n_points:
        half = n_points // 2
        grid = torch.cat(
            [
                torch.zeros(1, dtype=torch.float64),
                torch.logspace(-math.log10(n_nonmembers), 0, half, dtype=torch.float64),
                torch.linspace(0, 1, n_points - half, dtype=torch.float64)[1:],
            ]
        )
        place = torch.unique((torch.searchsorted(fpr, grid + 1e-12, right=True) - 1).clamp(min=0))
        fpr, tpr = fpr[place], tpr[place]
    return fpr.tolist(), tpr.tolist()


def _checked(members: Tensor, nonmembers: Tensor) -> tuple[Tensor, Tensor]:
    sides = members.detach().double().reshape(-1).cpu(), nonmembers.detach().double().reshape(-1).cpu()
    for name, side in zip(("members", "non-members"), sides, strict=True):
        if not len(side):
            raise DataError(f"scores of members are compared with those of non-members; there are no {name}")
        if bool(side.isnan().any()):
            raise DataError(f"{int(side.isnan().sum())} of the {len(side)} scores of {name} are not a number")
    return sides


def _placements(members: Tensor, nonmembers: Tensor) -> Tensor:
    """Share of the non-members that each member outranks, ties counting one half."""
    return torch.from_numpy(placements(members.numpy(), nonmembers.numpy()))


def _expit(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))
