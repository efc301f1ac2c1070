"""EU-k: exact unlearning of the last k layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import nn

from erasure.training.calls import Optimizer, Schedule
from erasure.types import ANY_TASK, NonNegativeInt, PositiveFloat, Source, Task
from erasure.unlearners.contract import PlainTraining, UnlearningContext
from erasure.unlearners.finetuning import Finetuning
from erasure.unlearners.last_layers import on_last_layers, trained_behind
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["EUk"]


@dataclass(frozen=True, kw_only=True)
class EUk(Finetuning):
    r"""The last k layers are reinitialised and trained from scratch on the retain set, the rest is frozen.

    .. math:: \min_{\theta_{>L-k}} \; \mathbb{E}_{D_r} \, \ell(f_\theta(x), y) \quad\text{from}\quad \theta_{>L-k} \sim \text{init}

    The same as ``LastLayers(inner=Finetuning(...), n_layers=k, reset=True)``, which says what a layer is. Training takes the budget of
    a full one (62 epochs in the reference code). ``k = 0`` leaves the model unchanged; a large ``k`` is retraining from scratch.

    **Cost**: a full training on the retain set, backward through the last ``k`` layers only.

    Args:
        k: Number of layers that are reinitialised and trained.
    """

    source: ClassVar[Source | None] = Source(
        paper="Goel, Prabhu, Sanyal, Lim, Torr, Kumaraguru, 2022, arXiv:2201.06640",
        code="shash42/Evaluating-Inexact-Unlearning at a45fe02 (k from 1 to 3 is its default range)",
        tested="the steps by plain formulas in float64 (tests/unit/unlearners/test_eu_k.py)",
        deviations=(
            "Normalisation layers are reset with the layer they follow; the reference code resets convolutions and linear maps only.",
            "Frozen BatchNorm keeps its running statistics; in the reference code they follow the batches.",
            "Layers are drawn by their own reset_parameters; a model that initialises its layers otherwise starts from a different "
            "distribution than its first training did.",
        ),
    )
    version: ClassVar[int] = 2
    defined_for: ClassVar[frozenset[Task]] = ANY_TASK
    cost: ClassVar[str] = "epochs passes over the retain set (a full training), backward through the last k layers"
    search_space: ClassVar[SearchSpace] = {
        "k": Range(1, 4),
        "epochs": Range(1, 60),
        "optimizer.lr": Range(1e-3, 1.0, log=True),
    }

    epochs: NonNegativeInt = 62
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("SGD", lr=0.1, momentum=0.9, weight_decay=5e-5))
    schedule: Schedule | None = field(
        default_factory=lambda: Schedule.of("CosineAnnealingWarmRestarts", T_0=1, T_mult=2, eta_min=0.005)
    )
    max_grad_norm: PositiveFloat | None = 10.0
    k: NonNegativeInt = 1

    def as_training(self) -> PlainTraining | None:
        """Training of the last k layers on the retain set."""
        return trained_behind(super().as_training(), self.k, reset=True)

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Reset the last k layers and train them."""
        trains_on = self.retain if self.epochs > 1 else None
        return on_last_layers(model, context, super().unlearn, n_layers=self.k, reset=True, trains_on=trains_on)
