"""DELETE: distil the original's answer without the forgotten class into the student."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from erasure.functional.losses import class_logits, distillation_divergence
from erasure.training.batches import Batch
from erasure.training.calls import Optimizer
from erasure.training.forward import logits_of
from erasure.training.predictor import ModelInput
from erasure.types import NonNegativeInt, PartitionRole, PositiveInt, Source, Task
from erasure.unlearners.contract import IterativeUnlearner, UnlearningContext, frozen_copy
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["DecoupledDistillation", "without_class"]


def without_class(logits: Tensor, y: Tensor) -> Tensor:
    """Logits in which the class ``y`` of each sample has no probability; the others keep their proportions.

    Args:
        logits: ``(B, K)`` with ``K >= 2``.
        y: ``(B,)``.

    Example:
        >>> without_class(torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([0])).softmax(1)
        tensor([[0.0000, 0.5000, 0.5000]])
    """
    # Minus infinity would make 0 * inf of a divergence; the authors' constant leaves exact zeros in the softmax all the same.
    return logits.scatter(1, y[:, None], max(-1e10, torch.finfo(logits.dtype).min))


@dataclass(frozen=True, kw_only=True)
class DecoupledDistillation(IterativeUnlearner):
    r"""Teaches the student, on the forget set, what the original says of all classes but the true one.

    .. math::
        \min_\theta \; \mathbb{E}_{D_f}\, \mathrm{KL}\bigl(q(x) \,\|\, p_\theta(x)\bigr), \qquad
        q_k(x) \propto \exp f_{o,k}(x) \;\text{ for } k \neq y, \quad q_y(x) = 0

    The ranking of the other classes stays that of the original; the gradient for the logits is :math:`p_\theta - q`. No retain data is
    needed. In binary tasks ``q`` is the other class. BatchNorm's running statistics follow the forget batches;
    ``batch_norm="frozen"`` keeps them.

    **Cost**: ``epochs`` passes over the forget set, each with the original's forward pass; one model copy.
    """

    source: ClassVar[Source | None] = Source(
        paper="Zhou, Zheng, Mo, Lu, Lin, Zheng, CVPR 2025, arXiv:2503.23751",
        code="shaaaaron/DELETE at 1dfe8cc (CIFAR-10, ResNet-18)",
        tested="the steps by plain formulas in float64 (tests/unit/unlearners/test_forget_losses.py)",
        deviations=(
            'Frozen BatchNorm means all its kinds, where the code\'s option takes the two-dimensional one (batch_norm="frozen").',
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"forget"})
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification", "binary"})
    cost: ClassVar[str] = "epochs passes over the forget set with a forward pass of the original each, one model copy"
    search_space: ClassVar[SearchSpace] = {"epochs": Range(1, 20), "optimizer.lr": Range(1e-5, 1e-1, log=True)}

    epochs: NonNegativeInt = 20
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("SGD", lr=1e-4, momentum=0.9))
    batch_size: PositiveInt | None = 128

    def unsupported_reason(self, data: ModelInput) -> str | None:
        """There must be another class to distil."""
        if data.task == "classification" and data.n_classes < 2:
            return "DELETE is not defined for a single class: there is no other one to distil"
        return super().unsupported_reason(data)

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Distil."""
        teacher = frozen_copy(model)
        trainer = self.trainer(model, context)
        forget = context.batches("forget")

        def divergence(batch: Batch) -> Tensor:
            with torch.no_grad():
                answer = without_class(class_logits(context.task, logits_of(teacher(batch.x))), batch.y)
            return distillation_divergence(class_logits(context.task, logits_of(model(batch.x))), answer).mean()

        for _ in trainer.epochs():
            trainer.train_on(forget, divergence)
        return model
