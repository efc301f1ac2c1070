"""The gradients at the logits from which backward passes start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from erasure.errors import RequirementNotMet
from erasure.training.per_sample.recording import parameter_uses
from erasure.types import Task

__all__ = ["Cotangents", "PerSampleLoss", "Seeder", "fisher_seeder", "loss_seeder"]

PerSampleLoss = Callable[[Tensor, Tensor], Tensor]
"""``(logits, labels) -> losses`` with one loss per sample, shape ``(B,)``, a function of that sample's logits and label alone."""


@dataclass(frozen=True)
class Cotangents:
    """Backward passes of one batch.

    Args:
        count: How many.
        at: Seed of one pass, in the shape and type of the logits; row i belongs to sample i.
    """

    count: int
    at: Callable[[int], Tensor]

    def stacked(self, first: int, last: int) -> Tensor:
        """Seeds ``first`` to ``last - 1``, shape ``(n, B, …)``."""
        return torch.stack([self.at(j) for j in range(first, last)])

    def gradients(self, j: int, logits: Tensor, inputs: Sequence[Any], *, keep: bool) -> tuple[Tensor | None, ...]:
        """Gradients of pass ``j`` with respect to ``inputs`` (tensors or edges of the graph); None where they are unused.

        Args:
            j: The pass.
            logits: Of this batch, with their graph.
            inputs: What to differentiate by.
            keep: Whether another pass over the same graph follows.
        """
        return torch.autograd.grad(self.start(j, logits), inputs, retain_graph=keep, allow_unused=True)

    def start(self, j: int, logits: Tensor) -> Tensor:
        """What pass ``j`` differentiates: a sum whose gradient at the logits is the seed."""
        # Handing the seed to torch as `grad_outputs` would import sympy.
        return (logits * self.at(j)).sum()


Seeder = Callable[[Tensor, Tensor], Cotangents]
"""``(detached logits, labels) -> seeds``."""


def loss_seeder(per_sample_loss: PerSampleLoss) -> Seeder:
    """One pass that starts from the gradient of each sample's loss with respect to its logits."""

    def seeder(logits: Tensor, y: Tensor) -> Cotangents:
        leaf = logits.detach().requires_grad_()
        with torch.enable_grad():
            losses = per_sample_loss(leaf, y)
        if losses.shape != (len(logits),):
            raise RequirementNotMet(
                f"per_sample_loss gave shape {tuple(losses.shape)} for {len(logits)} samples; expected ({len(logits)},),"
                ' such as from reduction="none"'
            )
        if set(parameter_uses(losses)) - {id(leaf)}:
            raise RequirementNotMet(
                "per_sample_loss depends on trainable tensors besides the logits, which per-sample gradients miss"
            )
        if not losses.requires_grad:
            return Cotangents(0, lambda j: leaf)
        (seed,) = torch.autograd.grad(losses.sum(), leaf)
        return Cotangents(1, lambda j: seed)

    return seeder


def fisher_seeder(n_classes: int, task: Task) -> Seeder:
    r"""Passes whose squared gradients add up to the diagonal of the true Fisher information.

    The Fisher information of sample i with respect to its logits is a matrix :math:`H_i = \sum_s l_{is} l_{is}^\top`, so with the
    Jacobian :math:`J_i` of the logits the diagonal is :math:`\sum_s (J_i^\top l_{is})^2`. For K exclusive classes
    :math:`H = \operatorname{diag}(p) - p p^\top` has rank K - 1 and a Cholesky factor in closed form; with
    :math:`S_j = \sum_{k \ge j} p_k`,

    .. math:: L_{jj} = \sqrt{p_j S_{j+1} / S_j},\qquad L_{ij} = -p_i \sqrt{p_j / (S_j S_{j+1})}\;(i > j),

    so K - 1 passes replace the K of the sum over labels. It is evaluated in float64 on a logarithmic scale.
    """

    def seeder(logits: Tensor, y: Tensor) -> Cotangents:
        _check_shape(logits, n_classes, task)
        z = logits.double()
        if task != "classification":
            root = (torch.sigmoid(z) * torch.sigmoid(-z)).sqrt().to(logits.dtype)
            return Cotangents(1, lambda j: root) if task == "binary" else Cotangents(n_classes, lambda j: _only_column(root, j))
        log_p = z.log_softmax(1)
        log_tail = log_p.flip(1).logcumsumexp(1).flip(1)
        return Cotangents(n_classes - 1, lambda j: _cholesky_column(log_p, log_tail, j).to(logits.dtype))

    return seeder


def _check_shape(logits: Tensor, n_classes: int, task: Task) -> None:
    shape = tuple(logits.shape[1:])
    expected = ((), (1,)) if task == "binary" else ((n_classes,),)
    if shape not in expected:
        wanted = "(B,) or (B, 1)" if task == "binary" else f"(B, {n_classes})"
        raise RequirementNotMet(f"the model gives logits of shape {tuple(logits.shape)}; {task} expects {wanted}")


def _only_column(values: Tensor, j: int) -> Tensor:
    column = torch.zeros_like(values)
    column[:, j] = values[:, j]
    return column


def _cholesky_column(log_p: Tensor, log_tail: Tensor, j: int) -> Tensor:
    here, after = log_tail[:, j : j + 1], log_tail[:, j + 1 : j + 2]
    column = torch.zeros_like(log_p)
    column[:, j : j + 1] = (0.5 * (log_p[:, j : j + 1] + after - here)).exp()
    below = -(log_p[:, j + 1 :] + 0.5 * (log_p[:, j : j + 1] - here - after)).exp()
    # Classes masked by a logit of -inf have no tail: 0 / 0 is 0 here.
    column[:, j + 1 :] = torch.where(after.isneginf(), 0.0, below)
    return torch.where(here.isneginf(), torch.zeros_like(column), column)
