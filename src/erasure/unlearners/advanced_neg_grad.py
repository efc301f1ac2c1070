"""Advanced NegGrad: descent on the retain set and ascent on the forget set in one step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.training.batches import Batch, Batches
from erasure.training.calls import Optimizer
from erasure.training.loop import paired
from erasure.types import ANY_TASK, NonNegativeInt, PartitionRole, Source, Task
from erasure.unlearners.contract import IterativeUnlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["AdvancedNegGrad"]


@dataclass(frozen=True, kw_only=True)
class AdvancedNegGrad(IterativeUnlearner):
    r"""Each step lowers the loss of a retain batch and raises the loss of a forget batch.

    .. math:: \min_\theta \; \mathbb{E}_{D_r} \, \ell(f_\theta(x), y) - \mathbb{E}_{D_f} \, \ell(f_\theta(x), y)

    An epoch is a pass over the retain set, each batch with one of the forget set, which starts over (newly shuffled) as often as
    needed. An empty forget set leaves the model unchanged. The two batches go through the model one after the other, so BatchNorm
    normalises each by its own statistics and its running statistics follow both.

    **Cost**: ``epochs`` passes over the retain set, each step with a forget batch beside it.

    Args:
        unequal_batches: ``keep`` uses every pair; ``skip`` leaves out pairs whose batches differ in size (in practice those with the
            short last batch of either set), as the reference code does.
    """

    source: ClassVar[Source | None] = Source(
        paper="Choi, Na, 2023, arXiv:2311.02240",
        code="ndb796/MachineUnlearning at 9813cd7",
        tested="the steps by plain formulas in float64 (tests/unit/unlearners/test_advanced_neg_grad.py)",
        deviations=('Pairs of unequal size are used; the reference code skips them (unequal_batches="skip").',),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"retain", "forget"})
    defined_for: ClassVar[frozenset[Task]] = ANY_TASK
    cost: ClassVar[str] = "epochs passes over the retain set, each step with a forget batch"
    search_space: ClassVar[SearchSpace] = {"epochs": Range(1, 10), "optimizer.lr": Range(1e-5, 1e-1, log=True)}

    epochs: NonNegativeInt = 2
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("SGD", lr=1e-3))
    unequal_batches: Literal["keep", "skip"] = "keep"

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Descend on retain, ascend on forget."""
        trainer = self.trainer(model, context)
        retain, forget = context.batches("retain"), context.batches("forget")
        if self.unequal_batches == "skip":
            _require_whole_batches(retain, forget)

        def difference(pair: tuple[Batch, Batch]) -> Tensor:
            kept, forgotten = pair
            return context.loss(model, kept) - context.loss(model, forgotten)

        for _ in context.epochs(self, trainer, retain, forget):
            pairs: Iterable[tuple[Batch, Batch]] = paired(retain, forget)
            trainer.train_on(pairs if self.unequal_batches == "keep" else _of_equal_size(pairs), difference)
        return model


def _of_equal_size(pairs: Iterable[tuple[Batch, Batch]]) -> Iterator[tuple[Batch, Batch]]:
    return (pair for pair in pairs if len(pair[0].y) == len(pair[1].y))


def _require_whole_batches(retain: Batches, forget: Batches) -> None:
    smallest = min(retain.n_samples, forget.n_samples)
    if forget.n_samples and smallest < forget.batch_size:
        raise RequirementNotMet(
            f'AdvancedNegGrad with unequal_batches="skip" is not defined for a partition of {smallest} samples, less than one batch of '
            f'{forget.batch_size}: every pair would be skipped; use "keep" or a smaller batch_size'
        )
