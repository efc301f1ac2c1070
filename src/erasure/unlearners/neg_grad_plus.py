"""NegGrad+: a weighted difference of the retain and the forget loss."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from erasure.training.batches import Batch
from erasure.training.calls import Optimizer
from erasure.training.loop import paired
from erasure.types import ANY_TASK, Fraction, NonNegativeInt, PartitionRole, Source, Task
from erasure.unlearners.contract import IterativeUnlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["NegGradPlus"]


@dataclass(frozen=True, kw_only=True)
class NegGradPlus(IterativeUnlearner):
    r"""Fine-tunes on the retain set while a small weight pushes the forget loss up.

    .. math::
        \min_\theta \; \alpha \, \mathbb{E}_{D_r} \, \ell(f_\theta(x), y) - (1 - \alpha) \, \mathbb{E}_{D_f} \, \ell(f_\theta(x), y)

    ``alpha = 1`` is fine-tuning, ``alpha = 0`` gradient ascent. An epoch is a pass over the retain set, each batch with one of the
    forget set, which starts over (newly shuffled) as often as needed. An empty forget set leaves the model unchanged. The two
    batches go through the model one after the other, so BatchNorm normalises each by its own statistics and its running
    statistics follow both, whatever ``alpha``.

    **Cost**: ``epochs`` passes over the retain set, each step with a forget batch beside it.

    Args:
        alpha: Weight of the retain loss; close to 1 in the paper (0.95, and 0.9999 in its membership-inference experiments).
    """

    source: ClassVar[Source | None] = Source(
        paper="Kurmanji, Triantafillou, Hayes, Triantafillou, NeurIPS 2023, arXiv:2302.09880",
        code="meghdadk/SCRUB at 98ffb11 (train_negrad)",
        tested="the steps by plain formulas in float64 (tests/unit/unlearners/test_neg_grad_plus.py)",
        deviations=(
            "Without the L2 penalty towards the original weights that the notebooks add to the retain loss.",
            'BatchNorm is in training mode, as in train_negrad; the notebooks have it frozen (batch_norm="frozen").',
            "The forget loader reshuffles each time it starts over; itertools.cycle in the reference code repeats the first order.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"retain", "forget"})
    defined_for: ClassVar[frozenset[Task]] = ANY_TASK
    cost: ClassVar[str] = "epochs passes over the retain set, each step with a forget batch"
    search_space: ClassVar[SearchSpace] = {
        "epochs": Range(1, 10),
        "alpha": Range(0.8, 0.9999),
        "optimizer.lr": Range(1e-4, 1e-1, log=True),
    }

    epochs: NonNegativeInt = 10
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("SGD", lr=0.01))
    alpha: Fraction = 0.95

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Descend on the weighted difference."""
        trainer = self.trainer(model, context)
        retain, forget = context.batches("retain"), context.batches("forget")

        def weighted_difference(pair: tuple[Batch, Batch]) -> Tensor:
            kept, forgotten = pair
            return self.alpha * context.loss(model, kept) - (1 - self.alpha) * context.loss(model, forgotten)

        for _ in context.epochs(self, trainer, retain, forget):
            pairs: Iterable[tuple[Batch, Batch]] = paired(retain, forget)
            trainer.train_on(pairs, weighted_difference)
        return model
