"""Counting labels."""

from __future__ import annotations

import torch
from torch import Tensor

from erasure.types import TaskKind

__all__ = ["label_counts", "majority_share"]


def label_counts(task: TaskKind, y: Tensor, n_classes: int) -> Tensor:
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


def majority_share(task: TaskKind, y: Tensor) -> float:
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
