"""Bad Teaching: a student follows an incompetent teacher on the forget set and the original on retain samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from erasure.functional.losses import distillation_divergence
from erasure.training.batches import Batch, Batches
from erasure.training.calls import Optimizer
from erasure.training.forward import logits_of
from erasure.types import Fraction, NonNegativeInt, PartitionRole, PositiveFloat, PositiveInt, Source
from erasure.unlearners.contract import IterativeUnlearner, UnlearningContext, frozen_copy
from erasure.unlearners.search import Range, SearchSpace
from erasure.unlearners.taught import TaughtBatches

__all__ = ["BadTeaching"]


@dataclass(frozen=True, kw_only=True)
class BadTeaching(IterativeUnlearner):
    r"""Learns a random network's answers on the forget set and the original's on a part of the retain set.

    .. math::
        \min_\theta \; \mathbb{E}_{D_f \cup D_r'} \,
        \mathrm{KL}\bigl(l\, p_\mathrm{incompetent}(x) + (1 - l)\, p_o(x) \,\|\, p_\theta(x)\bigr),
        \qquad l = \mathbb{1}[x \in D_f]

    with all distributions at temperature ``T``, and no factor ``T^2``. Labels are not read. An empty forget set leaves the model as it
    is: the student starts as its only teacher.

    With BatchNorm in train mode the student differs from the original from the first step on; ``batch_norm="frozen"`` does not.

    **Cost**: ``epochs`` passes over the forget set and ``retain_fraction`` of the retain set, each with two teachers' forward passes;
    two model copies.

    Args:
        retain_fraction: Share of the retain set, drawn at random once, that is mixed with the forget set.
        temperature: ``T``.
        reduction: ``batchmean`` is the divergence per sample; ``mean`` divides it by the number of outputs too, as the authors' code
            does: their learning rate belongs to that scale.
    """

    source: ClassVar[Source | None] = Source(
        paper="Chundawat, Tarun, Mandal, Kankanhalli, AAAI 2023, arXiv:2205.08096",
        code="vikram2000b/bad-teaching-unlearning",
        tested="the steps by plain formulas in float64 (tests/unit/unlearners/test_bad_teaching.py)",
        deviations=(
            'The divergence is per sample; the code\'s default, divided by the number of outputs, is reduction="mean".',
            "The student trains in train mode; the code leaves the mode that it finds.",
            "An empty forget set is not trained on, where rounding errors would move an adaptive optimizer.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"retain", "forget"})
    cost: ClassVar[str] = "epochs passes over the forget set and retain_fraction of the retain set, two model copies"
    search_space: ClassVar[SearchSpace] = {
        "epochs": Range(1, 5),
        "optimizer.lr": Range(1e-5, 1e-2, log=True),
        "retain_fraction": Range(0.1, 1.0),
        "temperature": Range(0.5, 5.0, log=True),
    }

    epochs: NonNegativeInt = 1
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("Adam", lr=1e-4))
    batch_size: PositiveInt | None = 256
    retain_fraction: Fraction = 0.3
    temperature: PositiveFloat = 1.0
    reduction: Literal["batchmean", "mean"] = "batchmean"

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Distil from both teachers over one shuffled mixture."""
        forget = context.ids("forget")
        if not len(forget):
            return model
        mixture = context.batches("forget", ids=torch.cat([forget, self._retain_subset(context)]))
        taught = self._taught(mixture, model, context)

        def divergence(pair: tuple[Batch, Callable[[], Tensor]]) -> Tensor:
            batch, answers = pair
            student = logits_of(model(batch.x))
            each = distillation_divergence(student, answers(), temperature=self.temperature, task=context.task)
            return each.mean() if self.reduction == "batchmean" else each.mean() / (student.numel() / len(student))

        trainer = self.trainer(model, context)
        for _ in trainer.epochs():
            trainer.train_on(taught, divergence)
        return model

    def _taught(self, mixture: Batches, model: nn.Module, context: UnlearningContext) -> TaughtBatches:
        competent, incompetent = frozen_copy(model), context.fresh_model("incompetent")
        is_forgotten = torch.zeros(len(context.y), dtype=torch.bool, device=context.device)
        is_forgotten[context.ids("forget")] = True

        def answers(batch: Batch) -> Tensor:
            good, bad = logits_of(competent(batch.x)), logits_of(incompetent(batch.x))
            return torch.where(is_forgotten[batch.ids].reshape(-1, *[1] * (good.ndim - 1)), bad, good)

        return TaughtBatches(mixture, self.epochs, (competent, incompetent), answers, context)

    def _retain_subset(self, context: UnlearningContext) -> Tensor:
        ids = context.ids("retain")
        order = torch.randperm(len(ids), generator=context.generator("retain_subset")).to(ids.device)
        return ids[order[: round(self.retain_fraction * len(ids))]]
