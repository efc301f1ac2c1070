"""Fine-tuning on the retain set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from erasure.types import ANY_TASK, PartitionRole, Source, Task
from erasure.unlearners.contract import IterativeUnlearner, PlainTraining, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["Finetuning"]


@dataclass(frozen=True, kw_only=True)
class Finetuning(IterativeUnlearner):
    r"""Training goes on without the forget set and relies on catastrophic forgetting.

    .. math:: \min_\theta \; \mathbb{E}_{D_r} \, \ell(f_\theta(x), y) \quad\text{from}\quad \theta_o

    **Cost**: ``epochs`` passes over the retain set.
    """

    source: ClassVar[Source | None] = Source(
        paper="Golatkar, Achille, Soatto, CVPR 2020, arXiv:1911.04933 (as a baseline)",
        code="meghdadk/SCRUB at 98ffb11",
        tested="NegGrad at the opposite rate, whose steps are held to plain formulas (tests/unit/unlearners/test_neg_grad.py)",
        deviations=("No L2 penalty towards the original weights, which the SCRUB code adds.",),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"retain"})
    defined_for: ClassVar[frozenset[Task]] = ANY_TASK
    cost: ClassVar[str] = "epochs passes over the retain set"
    search_space: ClassVar[SearchSpace] = {"epochs": Range(1, 10), "optimizer.lr": Range(1e-4, 1e-1, log=True)}

    def as_training(self) -> PlainTraining | None:
        """Training on the retain set."""
        return self.training_on("retain")

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Train on."""
        trainer = self.trainer(model, context)
        retain = context.batches("retain")
        for _ in context.epochs(self, trainer, retain):
            trainer.train_on(retain, lambda batch: context.loss(model, batch))
        return model
