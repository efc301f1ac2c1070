"""LoTUS: smooth the original's answers on the forget set until the student is no better than on unseen data."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from erasure.functional.losses import class_logits
from erasure.training.batches import Batch, Batches
from erasure.training.calls import Optimizer
from erasure.training.forward import logits_of
from erasure.types import Fraction, NonNegativeInt, Partition, PartitionRole, PositiveFloat, PositiveInt, Source, Task
from erasure.unlearners.contract import IterativeUnlearner, UnlearningContext, frozen_copy
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["LoTUS"]

_TOLERANCE = 0.01
"""The student may be this much worse on the forget set than the original on unseen data before the training stops."""
_LARGEST_EXPONENT = 80.0
"""Of a temperature: answers are even long before, and single precision ends there."""


@dataclass(frozen=True, kw_only=True)
class LoTUS(IterativeUnlearner):
    r"""Distils the original with a temperature that is high while the student still knows the forget set better than unseen data.

    .. math::
        \min_\theta \; \mathbb{E}_{D_f}\, \mathrm{CE}\bigl(\sigma(f_o(x) / \tau),\, p_\theta(x)\bigr) +
        \mathbb{E}_{S \subset D_r}\, \mathrm{CE}\bigl(\arg\max f_o(x),\, p_\theta(x)\bigr), \qquad
        \tau = \exp\bigl(\alpha\,(\mathrm{Acc}_{D_f}(\theta) - \mathrm{Acc}_{D_v}(\theta_o))\bigr)

    The temperature is set before each epoch, accuracies in eval mode; training stops as soon as the student is 0.01 worse on the forget
    set than the original on the validation set. Forget and retain samples are shuffled together, so the two means are over one set of
    samples; no labels are trained on. As ``tau`` goes to 0 this is training on the original's own predictions. An empty forget set
    leaves the model as it is.

    **Cost**: ``epochs`` passes over the forget set and ``retain_fraction`` of the retain set with the original's forward pass each,
    ``epochs`` evaluations of the forget set, one of the validation set, one model copy.

    Args:
        alpha: How fast the temperature grows with the difference of accuracies; 8 for CIFAR-10 in the paper.
        retain_fraction: Share of the retain set, drawn once.
        targets: ``softmax`` takes the smoothed answer and the predicted class; ``gumbel`` samples both with Gumbel noise, so that a
            retain target is wrong as often as the original is unsure.
        unseen_accuracy: What the forget accuracy is to fall to: that of the original on the ``validation`` set, or ``zero``, for whole
            classes.
        validation: Partition that neither model was trained on.
    """

    source: ClassVar[Source | None] = Source(
        paper="Spartalis, Semertzidis, Gavves, Daras, CVPR 2025, arXiv:2503.18314",
        code="cspartalis/LoTUS at 35ae25e",
        tested="the steps by plain formulas in float64 (tests/unit/unlearners/test_forget_losses.py)",
        deviations=(
            'Targets are not sampled by default; the Gumbel noise of the paper is targets="gumbel".',
            "Accuracies are exact; the code rounds them to two digits.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"forget", "retain", "validation"})
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification", "binary"})
    cost: ClassVar[str] = (
        "epochs passes over the forget set and retain_fraction of the retain set, epochs evaluations of the forget set, one model copy"
    )
    search_space: ClassVar[SearchSpace] = {
        "epochs": Range(1, 15),
        "alpha": Range(0.5, 16.0, log=True),
        "optimizer.lr": Range(1e-5, 1e-2, log=True),
    }

    epochs: NonNegativeInt = 10
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("AdamW", lr=1e-4, weight_decay=5e-4))
    batch_size: PositiveInt | None = 128
    alpha: PositiveFloat = 2.0
    retain_fraction: Fraction = 0.3
    targets: Literal["softmax", "gumbel"] = "softmax"
    unseen_accuracy: Literal["validation", "zero"] = "validation"
    validation: Partition = "validation"

    def partitions(self) -> dict[PartitionRole, str]:
        """Without a comparison the validation set is not needed."""
        return {
            role: name
            for role, name in super().partitions().items()
            if role != "validation" or self.unseen_accuracy == "validation"
        }

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Set the temperature, distil, compare."""
        if not context.n_samples("forget") or not self.epochs:
            return model
        teacher = frozen_copy(model)
        trainer = self.trainer(model, context)
        forget, mixed = context.ids("forget"), self._mixed(context)
        is_forgotten = torch.zeros(len(context.y), dtype=torch.bool, device=context.device)
        is_forgotten[forget] = True
        unseen = context.accuracy(teacher, "validation") if self._compares else 0.0
        generator = context.generator("gumbel")
        temperature = 1.0

        def distil(batch: Batch) -> Tensor:
            with torch.no_grad():
                answer = class_logits(context.task, logits_of(teacher(batch.x)))
                target = self._targets(answer, is_forgotten[batch.ids], temperature, generator)
            student = class_logits(context.task, logits_of(model(batch.x)))
            return -(target * student.log_softmax(1)).sum(1).mean()

        for _ in trainer.epochs():
            gap = context.accuracy(model, "forget") - unseen
            if gap <= -_TOLERANCE:
                break
            temperature = math.exp(min(self.alpha * gap, _LARGEST_EXPONENT))
            trainer.train_on(mixed, distil)
        return model

    @property
    def _compares(self) -> bool:
        return self.unseen_accuracy == "validation"

    def _mixed(self, context: UnlearningContext) -> Batches:
        """The forget set and a share of the retain set, shuffled together."""
        retain = context.ids("retain")
        order = torch.randperm(len(retain), generator=context.generator("subset")).to(retain.device)
        subset = retain[order[: round(self.retain_fraction * len(retain))]]
        return context.batches("retain", ids=torch.cat([context.ids("forget"), subset]))

    def _targets(self, answer: Tensor, forgotten: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
        if self.targets == "gumbel":
            noise = -torch.empty(answer.shape, dtype=answer.dtype).exponential_(generator=generator).log()
            answer = answer + noise.to(answer.device)
        smooth = (answer / temperature).softmax(1)
        sharp = torch.nn.functional.one_hot(answer.argmax(1), answer.shape[1]).to(answer.dtype)
        return torch.where(forgotten[:, None], smooth, sharp)
