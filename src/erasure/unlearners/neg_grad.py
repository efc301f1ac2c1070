"""NegGrad: gradient ascent on the forget set."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import nn

from erasure.training.calls import Optimizer
from erasure.types import ANY_TASK, NonNegativeInt, PartitionRole, PositiveFloat, Source, Task
from erasure.unlearners.contract import IterativeUnlearner, PlainTraining, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["NegGrad"]


@dataclass(frozen=True, kw_only=True)
class NegGrad(IterativeUnlearner):
    r"""Climbs the loss of the forget set and looks at nothing else.

    .. math:: \max_\theta \; \mathbb{E}_{D_f} \, \ell(f_\theta(x), y) \quad\text{from}\quad \theta_o

    The loss has no upper bound, so the method ends when its steps do: keep them few and small, or give ``stop_above``. An empty forget
    set leaves the model unchanged.

    In training mode BatchNorm normalises by forget batches alone and its running statistics drift towards the forget set, which
    can undo the model on everything else; ``batch_norm="frozen"`` keeps the original's statistics.

    **Cost**: ``epochs`` passes over the forget set; with ``steps_per_epoch="retain"`` as many steps as ``epochs`` passes over the retain
    set would have.

    Args:
        steps_per_epoch: ``forget`` makes an epoch one pass over the forget set; ``retain`` repeats the forget set, newly shuffled, until
            there have been as many steps as the retain set has batches (of the retain set only the size is used).
        stop_above: End after the pass whose mean forget loss exceeds this, in nats; None never stops early.
    """

    source: ClassVar[Source | None] = Source(
        paper="Golatkar, Achille, Soatto, CVPR 2020, arXiv:1911.04933 (as a baseline); Thudi et al., EuroS&P 2022, arXiv:2109.13398",
        code="OPTML-Group/Unlearn-Saliency at a6e89fd (GA, whose settings are the defaults)",
        tested="the steps by plain formulas in float64 (tests/unit/unlearners/test_neg_grad.py)",
        deviations=(
            'Choi & Na (arXiv:2311.02240) count an epoch by the retain loader: NegGrad.choi_na(), steps_per_epoch="retain".',
            'With steps_per_epoch="retain" every retain batch makes a step; Choi & Na\'s code makes none where the retain batch and the '
            "forget batch beside it differ in size, as the last ones of a pass do.",
            "An optional stop at a target forget loss, which the reference codes do not have.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"forget"})
    defined_for: ClassVar[frozenset[Task]] = ANY_TASK
    cost: ClassVar[str] = "epochs passes over the forget set"
    search_space: ClassVar[SearchSpace] = {"epochs": Range(1, 10), "optimizer.lr": Range(1e-6, 1e-2, log=True)}

    epochs: NonNegativeInt = 5
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("SGD", lr=1e-4, momentum=0.9, weight_decay=5e-4))
    steps_per_epoch: Literal["forget", "retain"] = "forget"
    stop_above: PositiveFloat | None = None

    @classmethod
    def choi_na(cls) -> NegGrad:
        """The settings of Choi & Na, 2023 (arXiv:2311.02240)."""
        return cls(epochs=2, optimizer=Optimizer.of("SGD", lr=1e-3), steps_per_epoch="retain", batch_size=64)

    def partitions(self) -> dict[PartitionRole, str]:
        """The forget set, and the retain set where its size sets the number of steps."""
        roles = super().partitions()
        return {**roles, "retain": self.retain} if self.steps_per_epoch == "retain" else roles

    def as_training(self) -> PlainTraining | None:
        """Climbing the loss of the forget set, where a pass is one over it and none is the last because of its loss."""
        if self.steps_per_epoch != "forget" or self.stop_above is not None:
            return None
        return self.training_on("forget", ascends=True)

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Ascend, pass after pass."""
        trainer = self.trainer(model, context)
        forget = context.batches("forget")
        for _ in context.epochs(self, trainer, forget):
            batches = forget if self.steps_per_epoch == "forget" else forget.cycled(len(context.batches("retain")))
            mean_loss = -trainer.train_on(batches, lambda batch: -context.loss(model, batch))
            if self.stop_above is not None and bool(mean_loss > self.stop_above):
                break
        return model
