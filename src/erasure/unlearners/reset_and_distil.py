"""KDE, the sixth of the unlearning challenge: reset the first convolution and the classifier, distil them back."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from erasure.functional.losses import distillation_divergence
from erasure.training.batches import Batch
from erasure.training.calls import Criterion, Optimizer, Schedule
from erasure.training.forward import logits_of
from erasure.types import NonNegativeInt, Partition, PartitionRole, PositiveFloat, PositiveInt, Source
from erasure.unlearners.contract import IterativeUnlearner, UnlearningContext, frozen_copy
from erasure.unlearners.last_layers import reset_layers, split_layers
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["ResetAndDistil"]


@dataclass(frozen=True, kw_only=True)
class ResetAndDistil(IterativeUnlearner):
    r"""Reinitialises the first convolution and the classifier, and distils the original into the rest on unseen, then retain samples.

    .. math::
        \min_\theta \mathbb{E}_{D_v} \mathrm{KL}_T(p_o \,\|\, p_\theta), \qquad\text{then}\qquad
        \min_\theta \mathbb{E}_{D_r} \bigl[\ell(f_\theta(x), y) + 2\, \mathrm{KL}_T(p_o \,\|\, p_\theta)\bigr]

    with the distributions at temperature ``T`` and no factor ``T^2``. The forget set is not looked at. A network without convolutions
    loses its classifier alone. Frozen layers are left alone.

    **Cost**: ``warm_up_epochs`` passes over the validation set and ``epochs`` over the retain set, each with a forward pass of the
    original; one model copy.

    Args:
        warm_up_epochs: Passes over the validation set.
        warm_up_optimizer: Optimizer of these.
        temperature: ``T``.
        validation: Partition that the original was not trained on.
    """

    source: ClassVar[Source | None] = Source(
        paper="Sixth of the NeurIPS 2023 unlearning challenge: Triantafillou et al., 2024, arXiv:2406.09073; benchmarked by Cadet et al., "
        "2024, arXiv:2410.01276",
        code="xcadet/deepunlearn at 6830ff6 (kgltop6)",
        tested="the steps by plain formulas in float64 (tests/unit/unlearners/test_perturb_and_repair.py)",
        deviations=(
            "The code adds a soft cross-entropy to the divergence: they have one gradient, so the divergence counts twice.",
            "The layers are the first convolution and the last layer with its normalisation; the code goes by their names.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"retain", "validation"})
    cost: ClassVar[str] = "warm_up_epochs passes over the validation set, epochs over the retain set, one model copy"
    search_space: ClassVar[SearchSpace] = {
        "epochs": Range(1, 10),
        "warm_up_epochs": Range(1, 10),
        "temperature": Range(1.0, 10.0),
        "optimizer.lr": Range(1e-4, 1e-1, log=True),
    }

    epochs: NonNegativeInt = 3
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("SGD", lr=0.001, momentum=0.9, weight_decay=5e-4))
    schedule: Schedule | None = field(default_factory=lambda: Schedule.of("CosineAnnealingLR"))
    batch_size: PositiveInt | None = 64
    warm_up_epochs: NonNegativeInt = 3
    warm_up_optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("SGD", lr=9e-4, momentum=0.9, weight_decay=5e-4))
    temperature: PositiveFloat = 5.0
    validation: Partition = "validation"

    def try_on(self, model: nn.Module, batch: Batch, criterion: Criterion) -> None:
        """There must be a last layer."""
        _to_reset(model)

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Reset, warm up, fine-tune."""
        teacher = frozen_copy(model)
        reset_layers(_to_reset(model), context)

        def divergence(batch: Batch, logits: Tensor) -> Tensor:
            with torch.no_grad():
                answer = logits_of(teacher(batch.x))
            return distillation_divergence(logits, answer, temperature=self.temperature, task=context.task).mean()

        def warm_up(batch: Batch) -> Tensor:
            return divergence(batch, logits_of(model(batch.x)))

        def both(batch: Batch) -> Tensor:
            logits = logits_of(model(batch.x))
            return context.criterion(logits, batch.y) + 2 * divergence(batch, logits)

        first = self.replace(epochs=self.warm_up_epochs, optimizer=self.warm_up_optimizer, schedule=None)
        trainer, unseen = first.trainer(model, replace(context, on_epoch=None)), context.batches("validation")
        for _ in trainer.epochs():
            trainer.train_on(unseen, warm_up)
        trainer, retain = self.trainer(model, context), context.batches("retain")
        for _ in trainer.epochs():
            trainer.train_on(retain, both)
        return model


def _to_reset(model: nn.Module) -> list[nn.Module]:
    """The first convolution, if there is one, and the last layer, where they may be trained."""
    last = split_layers(model, 1)[1]
    first = [module for module in model.modules() if isinstance(module, _ConvNd)][:1]
    chosen = [*(module for module in first if module not in last), *last]
    return [module for module in chosen if all(p.requires_grad for p in module.parameters(recurse=False))]
