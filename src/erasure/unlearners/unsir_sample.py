"""UNSIR for samples: noise whose logits are far from those of the forget set, trained on beside the retain set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.training.batches import Batch, Batches
from erasure.training.calls import Optimizer
from erasure.training.forward import logits_of
from erasure.training.inputs import fixed, logits_on, optimised, value_range, values_of
from erasure.training.loop import paired
from erasure.types import NonNegativeInt, PartitionRole, PositiveFloat, PositiveInt, Source
from erasure.unlearners.contract import IterativeUnlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["SampleUNSIR"]


class _Noised(NamedTuple):
    """A retain batch and noise of its size; ``y`` tells the loop how many samples there are."""

    retain: Batch
    noise: Tensor
    y: Tensor


@dataclass(frozen=True, kw_only=True)
class SampleUNSIR(IterativeUnlearner):
    r"""Trains on noise unlike the forget samples, labelled like retain samples; then repairs on the retain set.

    For each forget batch ``x_f`` and a retain batch ``(x_r, y_r)`` of its size, noise is optimised with the model fixed, then one
    step is taken:

    .. math::
        N = \arg\min_N \; -\lVert f_\theta(N) - f_\theta(x_f) \rVert_2^2 \,/\, (BK), \qquad
        \min_\theta\; \ell(f_\theta(N), y_r) + \ell(f_\theta(x_r), y_r)

    This is what the ERASURE reference calls UNSIR, which stops after impairing (``repair_epochs=0``). An empty forget set leaves
    the model as it is. Token inputs are noised in the space of the model's embeddings, graphs in the features of their nodes; their
    edges are those of the retain samples.

    BatchNorm is frozen by default, as in the authors' runs; with ``batch_norm="train"`` running statistics take in the noise.

    **Cost**: ``epochs`` passes over the forget set, each batch with ``noise_steps`` forward and backward passes on noise and a step on
    noise and a retain batch; ``repair_epochs`` passes over the retain set.

    Args:
        noise_steps: Steps of Adam on each batch of noise.
        noise_lr: Its rate.
        noise_range: ``inputs`` keeps the noise between the least and greatest value of the retain set as the model sees it (per
            column or channel; for tokens of the embedding table); ``unit`` cuts the finished noise to [0, 1], as the authors do;
            ``none`` leaves it free.
        repair_epochs: Passes of the repair phase; 0 impairs alone.
        repair_optimizer: Optimizer of the repair phase.
    """

    source: ClassVar[Source | None] = Source(
        paper="Choi, Na, 2023, arXiv:2311.02240; after Tarun et al., IEEE TNNLS 2023, arXiv:2111.08947",
        code="ndb796/MachineUnlearning",
        tested="the steps by plain formulas in float64 (tests/unit/unlearners/test_unsir.py)",
        deviations=(
            'The noise stays in the range of the inputs; the code\'s cut to [0, 1], noise_range="unit", ruins normalised inputs.',
            "Retain and forget batches of unequal size are cut to the smaller one; the code skips them, and with them small forget sets.",
            "Every forget batch is used; the code stops when either set ends.",
            "The weights receive no gradient while noise is made.",
            "Tokens are noised in the space of the embeddings; the ERASURE reference draws random tokens.",
            "Dropout is active while training, the code runs in eval mode.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"retain", "forget"})
    cost: ClassVar[str] = "epochs passes over the forget set with noise_steps passes on noise, repair_epochs over the retain set"
    search_space: ClassVar[SearchSpace] = {
        "epochs": Range(1, 5),
        "optimizer.lr": Range(1e-4, 1e-1, log=True),
        "noise_lr": Range(1e-3, 1.0, log=True),
        "noise_steps": Range(1, 20),
        "repair_epochs": Range(1, 3),
        "repair_optimizer.lr": Range(1e-4, 1e-1, log=True),
    }

    epochs: NonNegativeInt = 2
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("SGD", lr=0.001))
    batch_size: PositiveInt | None = 64
    batch_norm: Literal["train", "frozen"] = "frozen"
    noise_steps: NonNegativeInt = 5
    noise_lr: PositiveFloat = 0.01
    noise_range: Literal["inputs", "unit", "none"] = "inputs"
    repair_epochs: NonNegativeInt = 1
    repair_optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("SGD", lr=0.001))

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Impair with noise made for each step, then repair."""
        if not context.n_samples("forget"):
            return model
        if not context.n_samples("retain"):
            raise RequirementNotMet("SampleUNSIR is not defined for an empty retain set: noise is labelled like retain samples")
        retain = context.batches("retain")
        if self.epochs:
            self._impair(model, context, context.batches("forget"), retain)
        if self.repair_epochs:
            repair = self.replace(epochs=self.repair_epochs, optimizer=self.repair_optimizer).trainer(model, context)
            for _ in repair.epochs():
                repair.train_on(retain, lambda batch: context.loss(model, batch))
        return model

    def _impair(self, model: nn.Module, context: UnlearningContext, forget: Batches, retain: Batches) -> None:
        bounds = value_range(model, context.batches("retain", shuffle=False)) if self.noise_range == "inputs" else None
        draws = context.generator("noise")

        def noise_against(forgotten: Batch, kept: Batch) -> Tensor:
            with torch.no_grad(), fixed(model):
                target = logits_of(model(forgotten.x))
            seen = values_of(model, kept.x)
            start = torch.randn(seen.shape, generator=draws, dtype=seen.dtype).to(seen.device)
            noise = optimised(
                model,
                kept.x,
                start,
                lambda logits, _: -F.mse_loss(logits, target),
                steps=self.noise_steps,
                lr=self.noise_lr,
                bounds=bounds,
            )
            return noise.clamp(0, 1) if self.noise_range == "unit" else noise

        def noised() -> Iterator[_Noised]:
            pairs: Iterator[tuple[Batch, Batch]] = paired(forget, retain)
            for forgotten, kept in pairs:
                size = min(len(forgotten.y), len(kept.y))
                forgotten, kept = (Batch(b.x[:size], b.y[:size], b.ids[:size]) for b in (forgotten, kept))
                yield _Noised(kept, noise_against(forgotten, kept), kept.y)

        def loss(step: _Noised) -> Tensor:
            kept = step.retain
            return context.criterion(logits_on(model, kept.x, step.noise), kept.y) + context.loss(model, kept)

        trainer = self.trainer(model, context)
        for _ in trainer.epochs():
            trainer.train_on(noised(), loss)
