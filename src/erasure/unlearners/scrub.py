"""SCRUB: a student that agrees with its teacher on the retain set and disagrees on the forget set."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from erasure.functional.losses import distillation_divergence
from erasure.training.batches import Batch
from erasure.training.calls import Optimizer
from erasure.training.forward import logits_of
from erasure.types import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Role, Source
from erasure.unlearners.contract import IterativeUnlearner, UnlearningTask, frozen_copy

__all__ = ["Scrub"]


@dataclass(frozen=True, kw_only=True)
class Scrub(IterativeUnlearner):
    r"""Alternates between leaving the teacher on the forget set and staying with it on the retain set.

    .. math::
        \max_{\theta}\; d(D_f) \quad\text{then}\quad
        \min_{\theta}\; \gamma\,\mathbb{E}_{D_r}\ell(f_\theta(x), y) + \alpha\, d(D_r),
        \qquad d(D) = T^2\, \mathbb{E}_{D}\, \mathrm{KL}\bigl(p_o(x) \,\|\, p_\theta(x)\bigr)

    with both distributions at temperature ``T``. Epochs up to ``max_epochs`` begin with a maximising pass; every epoch has a
    minimising one; one optimizer serves both.

    **Cost**: ``epochs`` passes over the retain set and ``max_epochs`` over the forget set, each with a teacher's forward pass; one
    copy of the model.

    Args:
        max_epochs: Epochs that begin with a maximising pass over the forget set (the code's ``msteps``).
        temperature: ``T``.
        alpha: Weight of the divergence on the retain set.
        gamma: Weight of the loss on the retain set.
        forget_batch_size: Samples per maximising step; by default the batch size.
    """

    source: ClassVar[Source | None] = Source(
        paper="Kurmanji, Triantafillou, Hayes, Triantafillou, NeurIPS 2023, arXiv:2302.09880",
        code="meghdadk/SCRUB at 98ffb11 (small-scale settings)",
        deviations=(
            "The published learning-rate steps (x0.1 after epochs 5, 8 and 9) are not the default; give MultiStepLR as schedule.",
            "The first maximising pass of a network without dropout or BatchNorm has zero gradient, as in the reference code.",
        ),
    )
    reads: ClassVar[frozenset[Role]] = frozenset({"retain", "forget"})
    cost: ClassVar[str] = "epochs passes over the retain set, max_epochs over the forget set, one model copy"

    epochs: NonNegativeInt = 10
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("Adam", lr=5e-4, weight_decay=0.1))
    max_epochs: NonNegativeInt = 3
    temperature: PositiveFloat = 2.0
    alpha: NonNegativeFloat = 0.5
    gamma: NonNegativeFloat = 1.0
    forget_batch_size: PositiveInt | None = None

    def unlearn(self, model: nn.Module, task: UnlearningTask) -> nn.Module:
        """Maximise on the forget set, minimise on the retain set, epoch by epoch."""
        teacher = frozen_copy(model)
        trainer = self.trainer(model, task)
        forget, retain = task.batches("forget", batch_size=self.forget_batch_size), task.batches("retain")

        def divergence(batch: Batch, student_logits: Tensor) -> Tensor:
            with torch.no_grad():
                teacher_logits = logits_of(teacher(batch.x))
            each = distillation_divergence(student_logits, teacher_logits, temperature=self.temperature, task=task.kind)
            return self.temperature**2 * each.mean()

        def maximise(batch: Batch) -> Tensor:
            return -divergence(batch, logits_of(model(batch.x)))

        def minimise(batch: Batch) -> Tensor:
            logits = logits_of(model(batch.x))
            return self.gamma * task.criterion(logits, batch.y) + self.alpha * divergence(batch, logits)

        for epoch in trainer.epochs():
            if epoch < self.max_epochs:
                trainer.train_on(forget, maximise)
            trainer.train_on(retain, minimise)
        return model
