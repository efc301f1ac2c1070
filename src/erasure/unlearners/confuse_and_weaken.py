"""CFW, the third of the unlearning challenge: confuse the first convolution with noise, fine-tune, weaken it once more."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.training.batches import Batch
from erasure.training.calls import Criterion, Optimizer, Schedule
from erasure.training.forward import logits_of
from erasure.training.parametrized import plain_weights, require_assignable
from erasure.types import NonNegativeFloat, NonNegativeInt, PartitionRole, PositiveInt, Source, Task
from erasure.unlearners.contract import IterativeUnlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["ConfuseAndWeaken"]


@dataclass(frozen=True, kw_only=True)
class ConfuseAndWeaken(IterativeUnlearner):
    r"""Adds noise to the first convolution, fine-tunes with balanced classes, and adds a little more before the last epoch.

    .. math:: W_1 \leftarrow W_1 + \mathcal{N}(0, \sigma^2 I), \qquad
        \min_\theta \mathbb{E}_{D_r}\, \frac{n}{K n_y}\, \ell(f_\theta(x), y)

    with ``n_y`` retain samples of the label and ``K`` labels that there are. The forget set is not looked at. A frozen first
    convolution is left alone; ``epochs = 0`` confuses and does not repair.

    **Cost**: ``epochs`` passes over the retain set.

    Args:
        noise: ``sigma`` at the start.
        last_noise: ``sigma`` before the last epoch, if there are at least two.
    """

    source: ClassVar[Source | None] = Source(
        paper="Third of the NeurIPS 2023 unlearning challenge: Triantafillou et al., 2024, arXiv:2406.09073; benchmarked by Cadet et al., "
        "2024, arXiv:2410.01276",
        code="xcadet/deepunlearn at 6830ff6 (kgltop3)",
        tested="the steps by plain formulas in float64 (tests/unit/unlearners/test_perturb_and_repair.py)",
        deviations=(
            "Each sample's loss counts with its class's weight; the code multiplies the batch's mean loss by its mean weight.",
            'The noise is on the first convolution; the code takes every top-level module with "conv" in its name, in a ResNet the same.',
            "Class numbers may have gaps.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"retain"})
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification", "binary"})
    cost: ClassVar[str] = "epochs passes over the retain set"
    search_space: ClassVar[SearchSpace] = {
        "epochs": Range(1, 10),
        "noise": Range(0.01, 2.0, log=True),
        "last_noise": Range(1e-4, 0.1, log=True),
        "optimizer.lr": Range(1e-4, 1e-1, log=True),
    }

    epochs: NonNegativeInt = 4
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("SGD", lr=7e-4, momentum=0.9, weight_decay=5e-4))
    schedule: Schedule | None = field(default_factory=lambda: Schedule.of("CosineAnnealingLR"))
    batch_size: PositiveInt | None = 64
    noise: NonNegativeFloat = 0.6
    last_noise: NonNegativeFloat = 0.005

    def try_on(self, model: nn.Module, batch: Batch, criterion: Criterion) -> None:
        """There must be a convolution that takes what is assigned to it."""
        require_assignable(model, self.registered_name())
        _first_convolution(model)

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Confuse, fine-tune, weaken."""
        with plain_weights(model, pruned=True):
            self._confuse_and_repair(model, context)
        return model

    def _confuse_and_repair(self, model: nn.Module, context: UnlearningContext) -> None:
        kernel, generator = _first_convolution(model).weight, context.generator("noise")
        _disturb(kernel, self.noise, generator)
        if not self.epochs:
            return
        weights, trainer, retain = _balanced(context), self.trainer(model, context), context.batches("retain")

        def loss(batch: Batch) -> Tensor:
            losses = context.criterion.per_sample(logits_of(model(batch.x)), batch.y)
            return (weights[batch.y.long()].to(losses.dtype) * losses).mean()

        for epoch in trainer.epochs():
            if epoch and epoch == self.epochs - 1:
                _disturb(kernel, self.last_noise, generator)
                context.confine(model)
            trainer.train_on(retain, loss)


def _first_convolution(model: nn.Module) -> nn.Conv2d:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            return module
    raise RequirementNotMet(f"CFW adds noise to the first two-dimensional convolution; {type(model).__name__} has none")


@torch.no_grad()
def _disturb(kernel: Tensor, size: float, generator: torch.Generator) -> None:
    if kernel.requires_grad:
        kernel.add_(torch.randn(kernel.shape, generator=generator, dtype=kernel.dtype).to(kernel.device), alpha=size)


def _balanced(context: UnlearningContext) -> Tensor:
    """Weight of each class, so that all classes of the retain set weigh the same; their mean over the samples is 1."""
    labels = context.y[context.ids("retain")].long()
    counts = torch.bincount(labels, minlength=context.n_classes)
    n_present = int((counts > 0).sum())
    return len(labels) / (max(1, n_present) * counts.clamp(min=1)).double()
