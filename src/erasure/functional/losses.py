"""Losses, probabilities and predictions for each kind of task.

Logits are ``(B, K)`` for ``classification``, ``(B,)`` or ``(B, 1)`` for ``binary``, ``(B, C)`` for ``multilabel`` and ``(B, T, K)`` for
``generation``, whose losses are in :mod:`erasure.functional.tokens`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from erasure.errors import RequirementNotMet
from erasure.functional.tokens import answer_losses
from erasure.kernels import predicted
from erasure.types import Task

__all__ = ["class_logits", "correctness", "distillation_divergence", "per_sample_loss", "predictions", "probabilities", "targets"]


def targets(task: Task, logits: Tensor, y: Tensor) -> Tensor:
    """Labels in the shape and type that the task's loss compares with ``logits``."""
    if task in {"classification", "generation"}:
        return y
    return y.to(logits.dtype).reshape(logits.shape)


def per_sample_loss(task: Task, logits: Tensor, y: Tensor) -> Tensor:
    """The task's own loss of each sample, in nats.

    Cross-entropy for ``classification`` and ``binary``; for ``multilabel`` the mean binary cross-entropy over the labels, for
    ``generation`` the mean over the tokens of the answer.

    Args:
        task: How labels are read.
        logits: Shape as the task asks.
        y: ``(B,)`` integers, or ``(B, C)`` zeros and ones for ``multilabel``.

    Returns:
        Shape ``(B,)``, at least 0.

    Example:
        >>> per_sample_loss("classification", torch.zeros(1, 4), torch.tensor([2]))
        tensor([1.3863])
    """
    if task == "classification":
        return F.cross_entropy(logits, y, reduction="none")
    if task == "generation":
        return answer_losses(logits, y)
    losses = F.binary_cross_entropy_with_logits(logits, targets(task, logits, y), reduction="none")
    return losses.flatten(1).mean(1) if task == "multilabel" else losses.reshape(-1)


def class_logits(task: Task, logits: Tensor) -> Tensor:
    """Logits with a column for every class, ``(B, K)``: a binary logit stands beside a zero, and its softmax is the sigmoid.

    Args:
        task: ``classification`` or ``binary``; labels of a ``multilabel`` task are no classes.
        logits: Shape as the task asks.

    Example:
        >>> class_logits("binary", torch.tensor([2.0]))
        tensor([[0., 2.]])
    """
    if task == "classification":
        return logits
    positive = logits.reshape(-1)
    return torch.stack([torch.zeros_like(positive), positive], dim=1)


def probabilities(task: Task, logits: Tensor) -> Tensor:
    """Probability of each class: ``(B, K)``, rows summing to 1; for ``multilabel`` of each label, ``(B, C)``."""
    _refuse_answers(task)
    if task == "classification":
        return logits.softmax(1)
    if task == "multilabel":
        return logits.sigmoid()
    positive = logits.reshape(-1).sigmoid()
    return torch.stack([1 - positive, positive], dim=1)


def predictions(task: Task, logits: Tensor) -> Tensor:
    """Predicted class ``(B,)``, or for ``multilabel`` the predicted 0/1 labels ``(B, C)``; a binary logit above 0 means class 1."""
    _refuse_answers(task)
    return predicted(task, logits).to(torch.int64)


def correctness(task: Task, logits: Tensor, y: Tensor) -> Tensor:
    """Whether each sample is predicted correctly, ``(B,)`` float 0 or 1; for ``multilabel`` the share of right labels."""
    right = (predictions(task, logits) == y).to(torch.float32)
    return right.mean(1) if task == "multilabel" else right


def _refuse_answers(task: Task) -> None:
    if task == "generation":
        raise RequirementNotMet(
            "answers have no single class that is predicted; of generated text, measures of tokens are defined"
        )


def distillation_divergence(
    student: Tensor, teacher: Tensor, *, temperature: float = 1.0, task: Task = "classification"
) -> Tensor:
    r"""Divergence of a student's prediction from a teacher's, per sample.

    .. math:: \mathrm{KL}\bigl(\sigma(z_t / T) \,\|\, \sigma(z_s / T)\bigr)

    For ``binary`` and ``multilabel`` the softmax is a sigmoid and the divergences of the labels are summed.

    Args:
        student: Logits; gradients flow here.
        teacher: Logits of the same shape.
        temperature: ``T > 0``.
        task: How logits are read.

    Returns:
        Shape ``(B,)``, at least 0, in nats; 0 where both agree. Not multiplied by ``T**2``.

    Source:
        Hinton et al., 2015, arXiv:1503.02531.

    Example:
        >>> distillation_divergence(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])).abs() < 1e-6
        tensor([True])
    """
    if task == "classification":
        log_s, log_t = (student / temperature).log_softmax(1), (teacher / temperature).log_softmax(1)
        return (log_t.exp() * (log_t - log_s)).sum(1)
    s, t = ((z.unsqueeze(1) if z.ndim == 1 else z.flatten(1)) / temperature for z in (student, teacher))
    on = t.sigmoid() * (F.logsigmoid(t) - F.logsigmoid(s))
    off = (-t).sigmoid() * (F.logsigmoid(-t) - F.logsigmoid(-s))
    return (on + off).sum(1)
