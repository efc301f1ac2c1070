"""Counting labels, and finding samples."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from erasure.types import Task

__all__ = ["are_among", "association", "label_counts", "majority_share"]


def are_among(ids: Tensor, others: Tensor) -> Tensor:
    """Which ids of samples are among others, as ``torch.isin``, which sorts what a table of all ids answers at once.

    Args:
        ids: ``(n,)`` integers from 0.
        others: ``(m,)`` integers from 0, on the same device.

    Returns:
        Shape ``(n,)``, booleans.

    Example:
        >>> are_among(torch.tensor([3, 0, 3]), torch.tensor([1, 3]))
        tensor([ True, False,  True])
    """
    if not len(ids) or not len(others):
        return torch.zeros_like(ids, dtype=torch.bool)
    table = torch.zeros(int(torch.maximum(ids.max(), others.max())) + 1, dtype=torch.bool, device=ids.device)
    table[others] = True
    return table[ids]


def label_counts(task: Task, y: Tensor, n_classes: int) -> Tensor:
    """Number of samples of each class, or that have each label of a ``multilabel`` task.

    Args:
        task: How labels are read.
        y: ``(n,)`` integers, or ``(n, C)`` zeros and ones for ``multilabel``.
        n_classes: ``K``, or ``C``; a binary task has 2 classes whatever is said here.

    Returns:
        Shape ``(K,)`` or ``(C,)``, int64.

    Example:
        >>> label_counts("classification", torch.tensor([0, 2, 2]), 3)
        tensor([1, 0, 2])
    """
    if task == "multilabel":
        return y.to(torch.int64).sum(0)
    return torch.bincount(y.reshape(-1).to(torch.int64), minlength=2 if task == "binary" else n_classes)


def majority_share(task: Task, y: Tensor) -> float:
    """Accuracy of the best constant prediction, in [0, 1]: what a model reaches that has learned nothing but frequencies.

    For ``multilabel`` the best constant is chosen label by label.

    Args:
        task: How labels are read.
        y: ``(n,)`` integers, or ``(n, C)`` zeros and ones for ``multilabel``; ``n >= 1``.

    Example:
        >>> majority_share("classification", torch.tensor([0, 1, 1, 2]))
        0.5
    """
    if task == "multilabel":
        positive = y.double().mean(0)
        return float(torch.maximum(positive, 1 - positive).mean())
    return float(label_counts("classification", y, 1).max()) / len(y)


def association(task: Task, predicted: Tensor, y: Tensor) -> float:
    r"""How many standard errors predictions agree better with the labels than predictions that know nothing of them.

    The statistic is the mean recall over the classes that occur, less its expectation if predictions were made without looking. Unlike
    accuracy it is not drowned by a frequent class: a model that finds a few of the rare samples has learned something, even if always
    answering the frequent class were as often right.

    .. math:: z = \frac{\sum_k (r_k - p_k)}{\sqrt{\sum_k p_k (1 - p_k) / n_k}}

    with the recall :math:`r_k` of class :math:`k`, its share :math:`p_k` of the predictions and its number :math:`n_k` of samples. For
    ``multilabel``, :math:`r_k - p_k` is the share of positives less the share of negatives that are predicted to have label :math:`k`,
    and :math:`1 / n_k` is the sum of that of both.

    Args:
        task: How labels are read.
        predicted: Predicted labels, of the shape of ``y``.
        y: ``(n,)`` integers, or ``(n, C)`` zeros and ones for ``multilabel``; ``n >= 1``.

    Returns:
        About standard normal for predictions that know nothing, negative where they are systematically wrong; 0 for constant predictions
        and for labels that do not vary.

    Example:
        >>> round(association("classification", torch.tensor([0] * 95 + [1] * 5), torch.tensor([0] * 90 + [1] * 10)), 2)
        6.88
        >>> association("classification", torch.zeros(100), torch.tensor([0] * 90 + [1] * 10))
        0.0
    """
    if task == "multilabel":
        truth, said = y.double(), predicted.double()
        positive, negative = truth.sum(0), (1 - truth).sum(0)
        some = (positive > 0) & (negative > 0)
        shares = said.mean(0)
        gains = (truth * said).sum(0) / positive.clamp_min(1) - ((1 - truth) * said).sum(0) / negative.clamp_min(1)
        inverse = 1 / positive.clamp_min(1) + 1 / negative.clamp_min(1)
    else:
        truth, said = y.reshape(-1).to(torch.int64), predicted.reshape(-1).to(torch.int64)
        n_classes = int(torch.maximum(truth.max(), said.max())) + 1
        counts = torch.bincount(truth, minlength=n_classes).double()
        some = counts > 0
        shares = torch.bincount(said, minlength=n_classes).double() / len(said)
        right = torch.bincount(truth[truth == said], minlength=n_classes).double()
        gains, inverse = right / counts.clamp_min(1) - shares, 1 / counts.clamp_min(1)
    variance = float((shares * (1 - shares) * inverse)[some].sum())
    return float(gains[some].sum()) / math.sqrt(variance) if variance > 0 and int(some.sum()) > (task != "multilabel") else 0.0
