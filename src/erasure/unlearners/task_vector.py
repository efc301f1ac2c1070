"""Task arithmetic: what fine-tuning on the forget set would add is taken away."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import nn

from erasure.training.anatomy import first_factors
from erasure.training.calls import Optimizer
from erasure.training.trial import deep_copy
from erasure.types import ANY_TASK, NonNegativeFloat, NonNegativeInt, PartitionRole, Source, Task
from erasure.unlearners.contract import IterativeUnlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["TaskVector"]


@dataclass(frozen=True, kw_only=True)
class TaskVector(IterativeUnlearner):
    r"""Fine-tunes on the forget set and goes the same way in the opposite direction.

    .. math:: \theta_0 - a \, \bigl(\mathrm{FT}(\theta_0, D_f) - \theta_0\bigr)

    The retain set is not read. Buffers stay as they are. Of low-rank updates the second factor is trained, in which the weights are
    linear.

    **Cost**: ``epochs`` passes over the forget set.

    Args:
        strength: ``a``; 0 changes nothing.
    """

    version: ClassVar[int] = 3
    source: ClassVar[Source | None] = Source(
        paper="Ilharco et al., ICLR 2023, arXiv:2212.04089",
        code="jaechan-repo/muse_bench at 54719c5",
        tested="plain formulas in float64 (tests/unit/language/test_task_vector.py)",
        deviations=("First factors of low-rank updates stay as they are; a product of two differences would be no difference.",),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"forget"})
    defined_for: ClassVar[frozenset[Task]] = ANY_TASK
    cost: ClassVar[str] = "epochs passes over the forget set"
    search_space: ClassVar[SearchSpace] = {"strength": Range(0.1, 16.0, log=True), "optimizer.lr": Range(1e-6, 1e-2, log=True)}

    epochs: NonNegativeInt = 10
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("AdamW", lr=1e-5))
    strength: NonNegativeFloat = 1.0

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Fine-tune a copy; after each epoch, subtract what it has added."""
        if not context.n_samples("forget"):
            return model
        tuned = deep_copy(model)
        for factor in first_factors(tuned):
            factor.requires_grad_(False)
        trainer = self.trainer(tuned, context)
        forget = context.batches("forget")
        pairs = zip(model.parameters(), tuned.parameters(), strict=True)
        changed = [parameter for parameter, other in pairs if other.requires_grad]
        before, unlearned = [parameter.detach().clone() for parameter in changed], model

        @torch.no_grad()
        def subtract(epoch: int, epochs: int, model: nn.Module) -> None:
            after = (parameter for parameter in model.parameters() if parameter.requires_grad)
            for parameter, was, now in zip(changed, before, after, strict=True):
                parameter.copy_(was - self.strength * (now - was))
            if context.on_epoch is not None:
                context.on_epoch(epoch, epochs, unlearned)

        trainer.on_epoch = subtract
        for _ in context.epochs(self, trainer, forget):
            trainer.train_on(forget, lambda batch: context.loss(tuned, batch))
        return model
