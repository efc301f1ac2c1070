"""Which class is taken for which."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["confusion_matrix", "macro_f1"]


def confusion_matrix(labels: Tensor, predictions: Tensor, n_classes: int) -> Tensor:
    """Number of samples of each class (row) that are predicted as each class (column).

    Args:
        labels: ``(n,)`` integers in ``[0, n_classes)``.
        predictions: The same.
        n_classes: ``K``.

    Returns:
        Shape ``(K, K)``, int64.

    Source:
        Tested against ``sklearn.metrics.confusion_matrix``.

    Example:
        >>> confusion_matrix(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), 2)
        tensor([[1, 1],
                [0, 1]])
    """
    cells = labels.to(torch.int64) * n_classes + predictions.to(torch.int64)
    return torch.bincount(cells, minlength=n_classes * n_classes).view(n_classes, n_classes)


def macro_f1(true_positives: Tensor, predicted: Tensor, actual: Tensor) -> float:
    r"""Mean over classes of :math:`F_1 = 2 \mathrm{TP} / (\text{predicted} + \text{actual})`.

    Args:
        true_positives: ``(K,)``, of each class.
        predicted: How often each class is predicted.
        actual: How often each class occurs.

    Returns:
        In [0, 1]; classes that neither occur nor are predicted do not count, and 0 if there is no other.

    Source:
        Tested against ``sklearn.metrics.f1_score`` with ``average="macro"``, which leaves such classes out too.

    Example:
        >>> macro_f1(torch.tensor([1, 1]), torch.tensor([1, 2]), torch.tensor([2, 1]))
        0.6666666666666666
    """
    total = (predicted + actual).double()
    present = total > 0
    if not bool(present.any()):
        return 0.0
    return float((2 * true_positives.double()[present] / total[present]).mean())
