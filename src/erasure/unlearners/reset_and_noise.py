"""RNI, the seventh of the unlearning challenge: reset the classifier, add noise to random tensors while the rest learns."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

import torch
from annotated_types import MinLen
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from erasure.training.batches import Batch, Batches
from erasure.training.calls import Criterion, Optimizer
from erasure.types import Fraction, NonNegativeFloat, NonNegativeInt, PartitionRole, PositiveFloat, PositiveInt, Source
from erasure.unlearners.contract import IterativeUnlearner, UnlearningContext
from erasure.unlearners.last_layers import reset_layers, split_layers
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["ResetAndNoise"]

_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


@dataclass(frozen=True, kw_only=True)
class ResetAndNoise(IterativeUnlearner):
    r"""Reinitialises the classifier, then trains a few random tensors an epoch, some of them with noise, and at last all of them.

    .. math:: \theta_S \leftarrow \theta_S + \mathcal{N}(0, \sigma^2 I), \qquad \min_{\theta_C} \mathbb{E}_{D_r}\, \ell(f_\theta(x), y),
        \qquad S \subset C

    In each of ``epochs`` epochs, ``tensors`` parameter tensors ``C`` are drawn, and learn together with those of all normalisation
    layers; a share ``noise_share`` of the drawn ones gets noise first, except in the first epoch, and except for tensors that were
    drawn in an epoch before. Then one epoch for each of ``repair_factors`` trains all tensors, at that multiple of the rate. Momentum
    starts from 0 in every epoch. The forget set is not looked at. Frozen tensors are never drawn.

    **Cost**: ``epochs`` passes over the retain set and one more for each repair factor.

    Args:
        tensors: Parameter tensors drawn in an epoch.
        noise: ``sigma``.
        noise_share: Share of the drawn tensors that gets noise, rounded down.
        repair_factors: Of the learning rate, for each epoch at the end.
    """

    source: ClassVar[Source | None] = Source(
        paper="Seventh of the NeurIPS 2023 unlearning challenge: Triantafillou et al., 2024, arXiv:2406.09073; benchmarked by Cadet et "
        "al., 2024, arXiv:2410.01276",
        code="xcadet/deepunlearn at 6830ff6 (kgltop7)",
        tested="the steps by plain formulas in float64 (tests/unit/unlearners/test_perturb_and_repair.py)",
        deviations=(
            'Normalisation layers are known by their class; the code looks for "bn" in names, and misses those of shortcuts.',
            "The last layer is reset with its normalisation; the code resets what is called fc or head.",
            "The code also evaluates the validation set after each epoch, of which nothing follows.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"retain"})
    cost: ClassVar[str] = "epochs passes over the retain set, and one for each repair factor"
    search_space: ClassVar[SearchSpace] = {
        "epochs": Range(1, 10),
        "noise": Range(1e-3, 1.0, log=True),
        "noise_share": Range(0.0, 1.0),
        "optimizer.lr": Range(1e-5, 1e-1, log=True),
    }

    epochs: NonNegativeInt = 5
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("SGD", lr=2e-4, momentum=0.9, weight_decay=5e-4))
    batch_size: PositiveInt | None = 64
    tensors: PositiveInt = 9
    noise: NonNegativeFloat = 0.04
    noise_share: Fraction = 0.7
    repair_factors: Annotated[tuple[PositiveFloat, ...], MinLen(0)] = (1.0, 1.0, 1.0, 5.0)

    def try_on(self, model: nn.Module, batch: Batch, criterion: Criterion) -> None:
        """There must be a last layer."""
        split_layers(model, 1)

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Reset, then epoch after epoch draw, disturb and train."""
        last = split_layers(model, 1)[1]
        reset_layers([module for module in last if all(p.requires_grad for p in module.parameters(recurse=False))], context)
        norms = {id(p) for module in model.modules() if isinstance(module, _NORMS) for p in module.parameters(recurse=False)}
        free = [p for p in model.parameters() if p.requires_grad]
        drawable = [p for p in free if id(p) not in norms]
        draws, noises = context.generator("draws"), context.generator("noise")
        retain, drawn_before = context.batches("retain"), set[int]()
        n_epochs = self.epochs + len(self.repair_factors)
        for epoch in range(n_epochs):
            chosen, factor = free, 1.0
            if epoch < self.epochs:
                chosen = [drawable[i] for i in _some(len(drawable), self.tensors, draws)]
                if epoch:
                    disturbed = [chosen[i] for i in _some(len(chosen), int(self.noise_share * self.tensors), draws)]
                    self._disturb([p for p in disturbed if id(p) not in drawn_before], noises)
                drawn_before |= {id(p) for p in chosen}
                chosen = [*chosen, *(p for p in free if id(p) in norms)]
            else:
                factor = self.repair_factors[epoch - self.epochs]
            self._train(model, context, retain, chosen, factor)
            if context.on_epoch is not None:
                context.on_epoch(epoch + 1, n_epochs, model)
        return model

    @torch.no_grad()
    def _disturb(self, tensors: list[nn.Parameter], generator: torch.Generator) -> None:
        for tensor in tensors:
            noise = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
            tensor.add_(noise.to(tensor.device), alpha=self.noise)

    def _train(
        self, model: nn.Module, context: UnlearningContext, retain: Batches, chosen: list[nn.Parameter], factor: float
    ) -> None:
        """One epoch of the chosen tensors with an optimizer of its own."""
        free = [p for p in model.parameters() if p.requires_grad]
        rate = factor * self.optimizer.learning_rate
        optimizer = self.optimizer.replace(parameters={**self.optimizer.parameters, "lr": rate})
        learning = {id(p) for p in chosen}
        for parameter in free:
            parameter.requires_grad_(id(parameter) in learning)
        try:
            trainer = self.replace(epochs=1, optimizer=optimizer).trainer(model, replace(context, on_epoch=None))
            for _ in trainer.epochs():
                trainer.train_on(retain, lambda batch: context.loss(model, batch))
        finally:
            for parameter in free:
                parameter.requires_grad_(True)


def _some(n: int, size: int, generator: torch.Generator) -> list[int]:
    """At most ``size`` of ``n`` numbers, drawn without repetition."""
    found: list[int] = torch.randperm(n, generator=generator)[:size].tolist()
    return found
