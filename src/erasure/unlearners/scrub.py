"""SCRUB: a student that agrees with its teacher on the retain set and disagrees on the forget set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeVar

from torch import Tensor, nn

from erasure.functional.losses import distillation_divergence
from erasure.training.batches import Batch
from erasure.training.calls import Optimizer, Schedule
from erasure.training.forward import logits_of
from erasure.types import NonNegativeFloat, NonNegativeInt, PartitionRole, PositiveFloat, PositiveInt, Source
from erasure.unlearners.contract import IterativeUnlearner, UnlearningContext, frozen_copy
from erasure.unlearners.search import Range, SearchSpace
from erasure.unlearners.taught import TaughtBatches

__all__ = ["Scrub"]

_S = TypeVar("_S", bound="Scrub")


@dataclass(frozen=True, kw_only=True)
class Scrub(IterativeUnlearner):
    r"""Alternates between leaving the teacher on the forget set and staying with it on the retain set.

    .. math::
        \max_{\theta}\; d(D_f) \quad\text{then}\quad
        \min_{\theta}\; \gamma\,\mathbb{E}_{D_r}\ell(f_\theta(x), y) + \alpha\, d(D_r),
        \qquad d(D) = T^2\, \mathbb{E}_{D}\, \mathrm{KL}\bigl(p_o(x) \,\|\, p_\theta(x)\bigr)

    with both distributions at temperature ``T``. The first ``max_epochs`` epochs have a maximising pass; every epoch has a
    minimising one; one optimizer serves both. The student trains with BatchNorm in training mode while the teacher stays in eval
    mode, so they differ from the first step on; without BatchNorm and dropout the very first maximising pass has no gradient. An
    empty forget set leaves fine-tuning with distillation on the retain set.

    The published settings are :meth:`small_scale` (the defaults, with the paper's batch sizes and rate steps), :meth:`large_scale` and
    :meth:`choi_na`.

    **Cost**: ``epochs`` passes over the retain set and ``max_epochs`` over the forget set, each with a teacher's forward pass; one
    copy of the model.

    Args:
        max_epochs: Epochs with a maximising pass over the forget set (the code's ``msteps``); later ones only minimise.
        order: Which pass of an epoch comes first: ``max-min`` as published, ``min-max`` as in Choi & Na's code.
        temperature: ``T``.
        alpha: Weight of the divergence on the retain set.
        gamma: Weight of the loss on the retain set.
        forget_batch_size: Samples per maximising step; by default the batch size.
    """

    source: ClassVar[Source | None] = Source(
        paper="Kurmanji, Triantafillou, Hayes, Triantafillou, NeurIPS 2023, arXiv:2302.09880",
        code="meghdadk/SCRUB at 98ffb11 (small-scale settings)",
        tested="the steps by plain formulas in float64 (tests/unit/unlearners/test_scrub.py)",
        deviations=(
            "The published learning-rate steps (x0.1 after epochs 5, 8 and 9) are not the default; they are in Scrub.small_scale().",
            'Choi & Na (arXiv:2311.02240) minimise first and maximise in every epoch (order="min-max"): Scrub.choi_na().',
            "The first maximising pass of a network without dropout or BatchNorm has zero gradient, as in the reference code.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"retain", "forget"})
    cost: ClassVar[str] = "epochs passes over the retain set, max_epochs over the forget set, one model copy"
    search_space: ClassVar[SearchSpace] = {
        "epochs": Range(1, 10),
        "max_epochs": Range(1, 5),
        "alpha": Range(1e-3, 1.0, log=True),
        "optimizer.lr": Range(1e-4, 1e-1, log=True),
        "optimizer.weight_decay": Range(1e-6, 1e-1, log=True),
    }

    epochs: NonNegativeInt = 10
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("Adam", lr=5e-4, weight_decay=0.1))
    max_epochs: NonNegativeInt = 3
    temperature: PositiveFloat = 2.0
    alpha: NonNegativeFloat = 0.5
    gamma: NonNegativeFloat = 1.0
    forget_batch_size: PositiveInt | None = None
    order: Literal["max-min", "min-max"] = "max-min"

    @classmethod
    def small_scale(cls: type[_S]) -> _S:
        """The paper's settings for CIFAR-5 and Lacuna-5."""
        schedule = Schedule.of("MultiStepLR", milestones=(5, 8, 9), gamma=0.1)
        return cls(batch_size=32, forget_batch_size=64, schedule=schedule)

    @classmethod
    def large_scale(cls: type[_S]) -> _S:
        """The paper's settings for CIFAR-10 and Lacuna-10."""
        return cls(
            epochs=3,
            max_epochs=2,
            alpha=0.001,
            gamma=0.99,
            temperature=4.0,
            batch_size=128,
            forget_batch_size=32,
            optimizer=Optimizer.of("SGD", lr=5e-4, momentum=0.9, weight_decay=5e-4),
            schedule=Schedule.of("MultiStepLR", milestones=(3, 5, 9), gamma=0.1),
        )

    @classmethod
    def choi_na(cls: type[_S]) -> _S:
        """The settings of Choi & Na, 2023 (arXiv:2311.02240): minimise, then maximise, in both epochs."""
        optimizer = Optimizer.of("SGD", lr=1e-3)
        return cls(
            epochs=2, max_epochs=2, alpha=1.0, gamma=1.0, temperature=4.0, order="min-max", batch_size=64, optimizer=optimizer
        )

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Maximise on the forget set, minimise on the retain set, epoch by epoch."""
        forget, retain = self._taught(model, context)
        trainer = self.trainer(model, context)

        def divergence(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
            each = distillation_divergence(student_logits, teacher_logits, temperature=self.temperature, task=context.task)
            return self.temperature**2 * each.mean()

        def maximise(pair: tuple[Batch, Callable[[], Tensor]]) -> Tensor:
            batch, answers = pair
            return -divergence(logits_of(model(batch.x)), answers())

        def minimise(pair: tuple[Batch, Callable[[], Tensor]]) -> Tensor:
            batch, answers = pair
            logits = logits_of(model(batch.x))
            return self.gamma * context.criterion(logits, batch.y) + self.alpha * divergence(logits, answers())

        for epoch in trainer.epochs():
            maximising = epoch < self.max_epochs
            if maximising and self.order == "max-min":
                trainer.train_on(forget, maximise)
            trainer.train_on(retain, minimise)
            if maximising and self.order == "min-max":
                trainer.train_on(forget, maximise)
        return model

    def _taught(self, model: nn.Module, context: UnlearningContext) -> tuple[TaughtBatches, TaughtBatches]:
        """Batches of the forget and the retain set."""
        teacher = frozen_copy(model)

        def answers(batch: Batch) -> Tensor:
            return logits_of(teacher(batch.x))

        forget, retain = context.batches("forget", batch_size=self.forget_batch_size), context.batches("retain")
        return (
            TaughtBatches(forget, min(self.max_epochs, self.epochs), (teacher,), answers, context),
            TaughtBatches(retain, self.epochs, (teacher,), answers, context),
        )
