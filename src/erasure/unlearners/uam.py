"""Unlearning-aware minimisation: keep the retain loss low even where the forget loss is high."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from erasure.functional.projections import orthogonal_part
from erasure.training.batches import Batch
from erasure.training.calls import Optimizer
from erasure.training.loop import paired
from erasure.types import ANY_TASK, NonNegativeFloat, NonNegativeInt, PartitionRole, Source, Task
from erasure.unlearners.contract import IterativeUnlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["UAM"]


@dataclass(frozen=True, kw_only=True)
class UAM(IterativeUnlearner):
    r"""Takes the retain gradient at a point that is a step up the forget loss away.

    .. math::
        \theta' = \theta + \rho_t \frac{e}{\lVert e \rVert}, \quad e = g_f; \qquad
        \theta \leftarrow \theta - \eta\, \nabla_\theta \mathbb{E}_{D_r} \ell(\theta'), \qquad
        \rho_t = \tfrac{\rho}{2} \bigl(1 + \cos \tfrac{\pi t}{T}\bigr)

    ``surrogate="orthogonal"`` (ROSU) takes the retain gradient at the current point out of the direction first,
    :math:`e = g_f - \frac{g_f \cdot g_r}{\lVert g_r \rVert^2} g_r`, so that the retain loss is the same up there to first order.
    ``rho = 0`` is fine-tuning, but for the further forward passes that BatchNorm sees. Each retain batch has a forget batch beside it,
    which starts over (newly shuffled) as often as needed; an empty forget set leaves the model unchanged.

    **Cost**: ``epochs`` passes over the retain set, each step with a forget batch; with ROSU every retain batch is computed twice.

    Args:
        rho: Length of the step up at the start; it falls along a cosine to 0 over all steps.
        surrogate: ``ascent`` goes along the forget gradient (UAM), ``orthogonal`` along its part across the retain gradient (ROSU).
    """

    source: ClassVar[Source | None] = Source(
        paper="Kim et al., NeurIPS 2025 (UAM); Cai, Kim, Kim, Choi, Jin, Park, Joo, 2026, arXiv:2605.05871 (ROSU)",
        code="Harry24k/machine-unlearning-pytorch at 405bab1 (torchunlearn, the authors' library)",
        tested="the steps by plain formulas in float64 (tests/unit/unlearners/test_gradient_geometry.py)",
        deviations=(
            "The forget batch goes through the network by itself; the code puts the retain batch beside it, which BatchNorm alone sees.",
            "The weights are put back from a copy; the code subtracts the step, which leaves rounding errors.",
            "The library has no default for rho; 0.05 is that of sharpness-aware minimisation.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"retain", "forget"})
    defined_for: ClassVar[frozenset[Task]] = ANY_TASK
    cost: ClassVar[str] = "epochs passes over the retain set, each step with a forget batch"
    search_space: ClassVar[SearchSpace] = {
        "epochs": Range(1, 10),
        "rho": Range(1e-3, 5.0, log=True),
        "optimizer.lr": Range(1e-4, 1e-1, log=True),
    }

    epochs: NonNegativeInt = 5
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("SGD", lr=0.01, momentum=0.9))
    rho: NonNegativeFloat = 0.05
    surrogate: Literal["ascent", "orthogonal"] = "ascent"

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Go up, look down, step down."""
        trainer = self.trainer(model, context)
        retain, forget = context.batches("retain"), context.batches("forget")
        n_steps = self.epochs * len(retain)

        def loss(batch: Batch) -> Tensor:
            return context.loss(model, batch)

        def look_down(step: tuple[int, Batch, Batch]) -> Tensor:
            t, kept, forgotten = step
            direction = _flat(trainer.gradient(forgotten, loss)[1])
            if self.surrogate == "orthogonal":
                direction = orthogonal_part(direction, _flat(trainer.gradient(kept, loss)[1])[None])
            length = self.rho * (1 + math.cos(math.pi * t / n_steps)) / 2
            up = length * direction / (direction.norm() + 1e-16)
            before = [parameter.detach().clone() for parameter in trainer.parameters]
            with torch.no_grad():
                for parameter, part in zip(trainer.parameters, torch.split(up, [p.numel() for p in before]), strict=True):
                    parameter.add_(part.view(parameter.shape))
            value, gradients = trainer.gradient(kept, loss)
            with torch.no_grad():
                for parameter, was in zip(trainer.parameters, before, strict=True):
                    parameter.copy_(was)
            trainer.set_gradients(gradients)
            return value

        for epoch in context.epochs(self, trainer, retain, forget):
            pairs: Iterable[tuple[Batch, Batch]] = paired(retain, forget)
            trainer.step_on(_numbered(pairs, epoch * len(retain)), look_down)
        return model


def _numbered(pairs: Iterable[tuple[Batch, Batch]], first: int) -> Iterator[tuple[int, Batch, Batch]]:
    return ((number, kept, forgotten) for number, (kept, forgotten) in enumerate(pairs, start=first))


def _flat(gradients: list[Tensor]) -> Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients])
