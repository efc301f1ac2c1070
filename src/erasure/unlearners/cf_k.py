"""CF-k: fine-tuning of the last k layers."""

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

__all__ = ["CFk"]


@dataclass(frozen=True, kw_only=True)
class CFk(Finetuning):
    r"""Catastrophic forgetting in the last k layers: they train on without the forget set, the rest is frozen.

    .. math:: \min_{\theta_{>L-k}} \; \mathbb{E}_{D_r} \, \ell(f_\theta(x), y) \quad\text{from}\quad \theta_o

    The same as ``LastLayers(inner=Finetuning(...), n_layers=k)``, which says what a layer is and that frozen BatchNorm stays frozen.
    ``k = 0`` leaves the model unchanged; a large ``k`` is fine-tuning.

    **Cost**: ``epochs`` passes over the retain set, backward through the last ``k`` layers only.

    Args:
        k: Number of layers that train on.
    """

    source: ClassVar[Source | None] = Source(
        paper="Goel, Prabhu, Sanyal, Lim, Torr, Kumaraguru, 2022, arXiv:2201.06640",
        code="shash42/Evaluating-Inexact-Unlearning at a45fe02 (k from 1 to 3 is its default range)",
        tested="the steps by plain formulas in float64 (tests/unit/unlearners/test_cf_k.py)",
        deviations=("Frozen BatchNorm keeps its running statistics; in the reference code they follow the batches.",),
    )
    version: ClassVar[int] = 2
    defined_for: ClassVar[frozenset[Task]] = ANY_TASK
    cost: ClassVar[str] = "epochs passes over the retain set, backward through the last k layers"
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
        return trained_behind(super().as_training(), self.k)

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Fine-tune the last k layers."""
        trains_on = self.retain if self.epochs > 1 else None
        return on_last_layers(model, context, super().unlearn, n_layers=self.k, trains_on=trains_on)
