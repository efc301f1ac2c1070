"""Losses of many models at once, with the gradients of their logits."""

from __future__ import annotations

import torch
from torch import Tensor

from erasure.training.calls import Criterion

__all__ = ["StackedLoss"]


class StackedLoss:
    """The mean loss of each model.

    Args:
        criterion: Loss of a sample.
        sign: What it is multiplied by; -1 where it is climbed.
    """

    def __init__(self, criterion: Criterion, sign: float = 1.0) -> None:
        self.criterion: Criterion = criterion
        self.sign: float = sign

    def __call__(self, y: Tensor, weights: Tensor | None, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Losses ``(M,)``, and the gradient of their sum, of the shape of the logits.

        Args:
            y: Labels, ``(M, B, …)``.
            weights: ``(M, B)``, what each sample adds to its model's mean; None for a plain mean.
            logits: ``(M, B, …)``.
        """
        if self.criterion.is_cross_entropy and logits.dim() == 3:
            losses, gradient = _cross_entropy(y, logits)
            share = self.sign / y.shape[1] if weights is None else (self.sign * weights).unsqueeze(2)
            gradient = gradient.mul_(share)
        else:
            leaf = logits.detach().requires_grad_()
            with torch.enable_grad():
                losses = self.criterion.per_sample(leaf.flatten(0, 1), y.flatten(0, 1)).view(y.shape[:2])
                total = self._means(losses, weights).sum()
            (gradient,) = torch.autograd.grad(total, leaf)
        return self._means(losses.detach(), weights), gradient

    def _means(self, losses: Tensor, weights: Tensor | None) -> Tensor:
        return self.sign * (losses.mean(1) if weights is None else (losses * weights).sum(1))


def _cross_entropy(y: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Losses ``(M, B)`` and their gradients ``(M, B, K)``; samples last in memory, as a linear layer leaves them."""
    log_p = logits.transpose(1, 2).log_softmax(1)
    at = y.unsqueeze(1)
    losses = -log_p.gather(1, at).squeeze(1)
    gradient = log_p.exp_()
    gradient.scatter_add_(1, at, gradient.new_full((), -1.0).expand(at.shape))
    return losses, gradient.transpose(1, 2)
