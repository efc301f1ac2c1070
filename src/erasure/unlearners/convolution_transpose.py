"""Convolution transpose: swap the axes of every kernel, then repair on the retain set."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.training.batches import Batch
from erasure.training.calls import Criterion, Optimizer, Schedule
from erasure.training.parametrized import plain_weights, require_assignable
from erasure.types import NonNegativeInt, PartitionRole, PositiveInt, Source
from erasure.unlearners.contract import IterativeUnlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["ConvolutionTranspose"]


@dataclass(frozen=True, kw_only=True)
class ConvolutionTranspose(IterativeUnlearner):
    r"""Swaps the two spatial axes of every convolution's kernel, then fine-tunes on the retain set.

    .. math:: W_{o,i,a,b} \leftarrow W_{o,i,b,a}, \qquad\text{then}\qquad \min_\theta\; \mathbb{E}_{D_r}\, \ell(f_\theta(x), y)

    The forget set is not looked at: the swap disturbs what the network knows, and the retain set brings back what may stay. Kernels of
    1x1 are their own transpose. Swapping twice gives the original; ``epochs = 0`` swaps and does not repair. Frozen convolutions are
    left alone, unless the whole model is frozen.

    **Cost**: ``epochs`` passes over the retain set.
    """

    source: ClassVar[Source | None] = Source(
        paper="Fifth of the NeurIPS 2023 unlearning challenge: Triantafillou et al., 2024, arXiv:2406.09073; benchmarked by Cadet et al., "
        "2024, arXiv:2410.01276",
        code="xcadet/deepunlearn at 6830ff6 (kgltop5)",
        tested="the steps by plain formulas in float64 (tests/unit/unlearners/test_perturb_and_repair.py)",
        deviations=(
            "Kernels that are not square stay as they are; in the code they change shape while their padding does not.",
            "A model without square kernels larger than 1x1 is refused, as nothing but fine-tuning would be left.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"retain"})
    cost: ClassVar[str] = "epochs passes over the retain set"
    search_space: ClassVar[SearchSpace] = {"epochs": Range(1, 10), "optimizer.lr": Range(1e-4, 1e-1, log=True)}

    epochs: NonNegativeInt = 3
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("SGD", lr=0.001, momentum=0.9, weight_decay=5e-4))
    schedule: Schedule | None = field(default_factory=lambda: Schedule.of("CosineAnnealingLR"))
    batch_size: PositiveInt | None = 64

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Swap, then fine-tune."""
        with plain_weights(model, pruned=True):
            _transpose(_square_kernels(model), whole=not any(p.requires_grad for p in model.parameters()))
        trainer = self.trainer(model, context)
        retain = context.batches("retain")
        for _ in trainer.epochs():
            trainer.train_on(retain, lambda batch: context.loss(model, batch))
        return model

    def try_on(self, model: nn.Module, batch: Batch, criterion: Criterion) -> None:
        """There must be kernels to swap, and they must take what is assigned to them."""
        require_assignable(model, self.registered_name())
        _square_kernels(model)


def _square_kernels(model: nn.Module) -> list[Tensor]:
    """Kernels that are not their own transpose for their size.

    Raises:
        RequirementNotMet: If there are none.
    """
    kernels = [module.weight for module in model.modules() if isinstance(module, nn.Conv2d)]
    square = [kernel for kernel in kernels if kernel.shape[2] == kernel.shape[3] > 1]
    if not square:
        raise RequirementNotMet(
            f"CT needs two-dimensional convolutions with square kernels larger than 1x1; {type(model).__name__} has none"
        )
    return square


@torch.no_grad()
def _transpose(kernels: list[Tensor], *, whole: bool) -> None:
    """Swap the spatial axes in place, so that the parameters stay the same objects; frozen ones only if the ``whole`` model is."""
    for kernel in kernels:
        if whole or kernel.requires_grad:
            kernel.copy_(kernel.transpose(2, 3).clone())
