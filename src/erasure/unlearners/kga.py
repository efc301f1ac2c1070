"""KGA: make the student as far from a model of the forget set as the original is from a model of unseen data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.functional.losses import distillation_divergence
from erasure.training.batches import Batch, Batches
from erasure.training.calls import Optimizer, Schedule
from erasure.training.forward import logits_of
from erasure.types import Fraction, NonNegativeInt, Partition, PartitionRole, PositiveInt, Source
from erasure.unlearners.contract import IterativeUnlearner, UnlearningContext, frozen_copy
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["KGA"]


@dataclass(frozen=True, kw_only=True)
class KGA(IterativeUnlearner):
    r"""Aligns two gaps of knowledge: student and a model of the forget set on it, original and a model of unseen data on that.

    .. math::
        \min_\theta \; \bigl| \mathrm{KL}_{D_f}(p_{A_f} \,\|\, p_\theta) - \mathrm{KL}_{D_n}(p_o \,\|\, p_{A_n}) \bigr|
        + (1 - \rho)\, \mathrm{KL}_{D_r}(p_o \,\|\, p_\theta)

    :math:`A_f` is trained on the forget set and :math:`A_n` on the unseen samples :math:`D_n`, both as the original was; a
    step takes the mean of ``inner_steps`` retain batches and one batch each of the forget set and of unseen samples, which start over
    (newly shuffled) as often as needed. Labels serve only to train the two models. An empty forget set leaves the model unchanged.

    **Cost**: training from scratch on the forget set and on the unseen samples, then ``epochs`` passes over the retain set, each with
    a forward pass of the original; three model copies.

    Args:
        inner_steps: Retain batches a step; the last step of an epoch takes what is left.
        alignment_share: ``rho``: share of the weight that the retain divergence lacks.
        validation: The unseen samples: a partition that the original was not trained on.
    """

    source: ClassVar[Source | None] = Source(
        paper="Wang, Chen, Yuan, Zeng, Wong, Yin, ACL 2023, arXiv:2305.06535",
        code="Lingzhi-WANG/KGAUnlearn at 703dd79 (classification)",
        tested="the steps by plain formulas in float64 (tests/unit/unlearners/test_trained_teachers.py)",
        deviations=(
            "Divergences are per sample; the code divides each by the number of outputs too, which Adam's step does not see.",
            "The last retain batches of an epoch make a step of their own; in the code they wait for the next epoch, or are lost.",
            "Weight decay is on all weights; the code spares biases and layer normalisation.",
            "The rate falls to 0 with the last step; the code counts retain batches, not steps, and ends at nine tenths of it.",
            "The code trains no models: it reads them from files.",
        ),
    )
    version: ClassVar[int] = 2
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"forget", "retain", "validation"})
    cost: ClassVar[str] = (
        "training on the forget set and on unseen samples, epochs passes over the retain set, three model copies"
    )
    search_space: ClassVar[SearchSpace] = {
        "epochs": Range(1, 10),
        "alignment_share": Range(0.0, 0.9),
        "optimizer.lr": Range(1e-5, 1e-2, log=True),
    }

    epochs: NonNegativeInt = 1
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("AdamW", lr=5e-5, weight_decay=0.01))
    schedule: Schedule | None = field(default_factory=lambda: Schedule.of("LinearLR", start_factor=1.0, end_factor=0.0))
    inner_steps: PositiveInt = 10
    alignment_share: Fraction = 0.1
    validation: Partition = "validation"

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Train the two models, align the gaps."""
        if not context.n_samples("forget") or not self.epochs:
            return model
        if not context.n_samples("validation"):
            raise RequirementNotMet(f'KGA compares with unseen samples, and the partition "{self.validation}" is empty')
        original = frozen_copy(model)
        of_forget, of_unseen = frozen_copy(context.retrained("forget")), frozen_copy(context.retrained("validation"))
        retain, forget, unseen = context.batches("retain"), context.batches("forget"), context.batches("validation")
        n_steps = -(-len(retain) // self.inner_steps)
        trainer = self.trainer(model, context, schedule_steps=self.epochs * n_steps)

        def gap(teacher: nn.Module, student: nn.Module, batch: Batch) -> Tensor:
            with torch.no_grad():
                known = logits_of(teacher(batch.x))
            return distillation_divergence(logits_of(student(batch.x)), known, task=context.task).mean()

        def align(step: tuple[list[Batch], Batch, Batch]) -> Tensor:
            kept, forgotten, new = step
            with torch.no_grad():
                target = gap(original, of_unseen, new)
            weight, loss = (1 - self.alignment_share) / len(kept), torch.zeros_like(target)
            total = [torch.zeros_like(parameter) for parameter in trainer.parameters]
            aims = [(batch, weight, lambda part: gap(original, model, part)) for batch in kept]
            aims.append((forgotten, 1.0, lambda part: (gap(of_forget, model, part) - target).abs()))
            for batch, share, aim in aims:
                value, gradients = trainer.gradient(batch, aim)
                loss = loss + share * value
                for sum_, gradient in zip(total, gradients, strict=True):
                    sum_.add_(gradient, alpha=share)
            trainer.set_gradients(total)
            return loss

        forgotten, new = _endless(forget), _endless(unseen)
        for _ in trainer.epochs():
            groups = _grouped(retain, self.inner_steps)
            trainer.step_on(((kept, next(forgotten), next(new)) for kept in groups), align)
        return model


def _endless(batches: Batches) -> Iterator[Batch]:
    while True:
        yield from batches


def _grouped(batches: Batches, size: int) -> Iterator[list[Batch]]:
    group: list[Batch] = []
    for batch in batches:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
