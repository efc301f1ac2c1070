"""Successive random labels: training on, with wrong labels for the forget set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from erasure.training.batches import Batch
from erasure.training.calls import Optimizer
from erasure.training.forward import logits_of
from erasure.training.predictor import ModelInput
from erasure.types import NonNegativeInt, PartitionRole, Source
from erasure.unlearners.contract import IterativeUnlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["SuccessiveRandomLabels"]


@dataclass(frozen=True, kw_only=True)
class SuccessiveRandomLabels(IterativeUnlearner):
    r"""Trains on with random labels for the forget set and true labels for the retain set.

    .. math::
        \min_\theta \; \mathbb{E}_{D_f} \, \ell(f_\theta(x), y') + \mathbb{E}_{D_r} \, \ell(f_\theta(x), y),
        \qquad y' \sim \mathcal{U}(\mathcal{Y} \setminus \{y\})

    Labels are drawn from a stream of the method's own. In ``binary`` and ``multilabel`` tasks every label is a choice of two:
    ``other`` flips it (all labels of a sample at once), ``all`` tosses a fair coin for it. Without a forget set this is
    fine-tuning, bit for bit. BatchNorm sees the inputs as they are; with ``order="sequential"`` some of its batches are forget
    batches only, with ``mixed`` hardly any.

    **Cost**: ``epochs`` passes over the forget and the retain set.

    Args:
        redraw: When labels are drawn: for every ``batch``, at the start of every ``epoch``, or ``once``.
        classes: What they are drawn from: the ``other`` classes, or ``all`` of them.
        order: ``mixed`` shuffles both sets together; ``sequential`` makes a pass over the forget set, then one over the retain set.
    """

    source: ClassVar[Source | None] = Source(
        paper="Graves, Nagisetty, Ganesh, AAAI 2021, arXiv:2010.10981 (relabelling); Fan et al., ICLR 2024, arXiv:2310.12508 (RL)",
        code="OPTML-Group/Unlearn-Saliency at a6e89fd; xcadet/deepunlearn at 6830ff6",
        tested="the steps by plain formulas in float64 (tests/unit/unlearners/test_successive_random_labels.py)",
        deviations=(
            'Labels differ from the true ones, as in the papers; both reference codes draw from all classes (classes="all").',
            'Graves et al. draw once (redraw="once"); the Unlearn-Saliency code passes over the forget set first on CIFAR-10 and SVHN '
            '(order="sequential").',
            "The optimizer's settings are those of SalUn, so that the two differ by the mask alone.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"retain", "forget"})
    cost: ClassVar[str] = "epochs passes over the forget and the retain set"
    search_space: ClassVar[SearchSpace] = {"epochs": Range(1, 15), "optimizer.lr": Range(1e-4, 1e-1, log=True)}

    epochs: NonNegativeInt = 10
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("SGD", lr=0.013, momentum=0.9, weight_decay=5e-4))
    redraw: Literal["batch", "epoch", "once"] = "batch"
    classes: Literal["other", "all"] = "other"
    order: Literal["mixed", "sequential"] = "mixed"

    def unsupported_reason(self, data: ModelInput) -> str | None:
        """There must be another class to draw."""
        if data.task == "classification" and self.classes == "other" and data.n_classes < 2:
            return f"{self.registered_name()} is not defined for a single class: there is no other one to draw"
        return super().unsupported_reason(data)

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Train on both sets, with labels drawn for the forget set."""
        trainer = self.trainer(model, context)
        forget, retain = context.ids("forget"), context.ids("retain")
        is_forgotten = torch.zeros(len(context.y), dtype=torch.bool, device=context.device)
        is_forgotten[forget] = True
        draw = self._drawing(context)
        drawn = context.y if self.redraw == "batch" else draw(context.y)

        def loss(batch: Batch) -> Tensor:
            random = draw(batch.y) if self.redraw == "batch" else drawn[batch.ids]
            chosen = is_forgotten[batch.ids].view(-1, *[1] * (batch.y.ndim - 1))
            return context.criterion(logits_of(model(batch.x)), torch.where(chosen, random, batch.y))

        mixed = context.batches("retain", ids=torch.cat([forget, retain]))
        passes = (mixed,) if self.order == "mixed" else (context.batches("forget"), context.batches("retain"))
        for epoch in trainer.epochs():
            if self.redraw == "epoch" and epoch:
                drawn = draw(context.y)
            for batches in passes:
                trainer.train_on(batches, loss)
        return model

    def _drawing(self, context: UnlearningContext) -> Callable[[Tensor], Tensor]:
        """A function from true labels to drawn ones of the same shape; each call goes on in the stream ``labels``."""
        generator = context.generator("labels")
        n_classes = context.n_classes if context.task == "classification" else 2

        def draw(y: Tensor) -> Tensor:
            if self.classes == "all":
                return torch.randint(0, n_classes, y.shape, generator=generator).to(y)
            # A step of 1 … K - 1 around the circle of classes reaches each of the others with the same probability.
            step = torch.randint(1, n_classes, y.shape, generator=generator).to(y)
            return (y + step) % n_classes

        return draw
