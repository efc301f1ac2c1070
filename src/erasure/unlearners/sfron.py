"""SFRon: adaptive ascent on the weights that matter to the forget set, repaired by a retain step every time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

import torch
from torch import Tensor, nn

from erasure.training.batches import Batch, Batches
from erasure.training.calls import Optimizer, Schedule
from erasure.training.forward import logits_of
from erasure.training.per_sample import batch_squared_gradients, squared_gradients
from erasure.types import NonNegativeFloat, NonNegativeInt, PartitionRole, PositiveFloat, PositiveInt, Source
from erasure.unlearners.contract import Unlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["SFRon", "importance_mask", "sample_weights"]

_Iteration: TypeAlias = tuple[int, Batch, Batch | None]
_TINY = 1e-15


def sample_weights(losses: Tensor, power: float) -> Tensor:
    r"""Weights that hold back samples that are forgotten already.

    .. math:: w_i = B\, \frac{(\ell_i^\lambda + 10^{-15})^{-1}}{\sum_j (\ell_j^\lambda + 10^{-15})^{-1}}

    Args:
        losses: ``(B,)``, at least 0.
        power: ``lambda >= 0``; 0 weighs all the same.

    Returns:
        ``(B,)``, with a sum of ``B``; no gradient flows through them.

    Example:
        >>> sample_weights(torch.tensor([1.0, 4.0]), 0.5)
        tensor([1.3333, 0.6667])
    """
    inverse = (losses.detach() ** power + _TINY).reciprocal()
    return len(losses) * inverse / inverse.sum()


def importance_mask(forget: Tensor, retain: Tensor, ratio: float) -> Tensor:
    r"""Where a weight is at least ``ratio`` times as important to the forget set: :math:`(F_f + \epsilon) / (F_r + \epsilon) \ge \gamma`.

    Example:
        >>> importance_mask(torch.tensor([1.0, 0.5, 0.0]), torch.tensor([0.5, 1.0, 0.0]), 1.0)
        tensor([ True, False,  True])
    """
    return (forget + _TINY) / (retain + _TINY) >= ratio


@dataclass(frozen=True, kw_only=True)
class SFRon(Unlearner):
    r"""Climbs the forget loss on its own salient weights every few steps, and takes a retain step at every one.

    .. math::
        \theta \leftarrow \theta + \eta_t\, \alpha_t\, m \odot \nabla \frac1B \sum_i w_i \ell_i
        \;\;(\text{every } k \text{ steps}), \qquad \theta \leftarrow \theta - \eta_t \nabla \mathbb{E}_{D_r} \ell, \qquad
        \alpha_t = \tfrac{\alpha_0}{2} \bigl(1 + \cos \tfrac{\pi t}{T}\bigr)

    with :math:`w_i \propto \ell_i^{-\lambda}` and the mask :math:`m = [F_f \ge \gamma F_r]` of diagonal Fisher information at the
    original. The ascent's gradient is clipped after masking; the retain step is neither clipped nor masked, and its momentum carries the
    ascent on, to weights outside the mask too, as does weight decay. ``alpha = 0`` leaves fine-tuning but for the weight decay and the
    momentum of the empty ascents. The rate falls along a cosine with every iteration. An empty forget set leaves fine-tuning.

    **Cost**: one pass over the forget and the retain set for the mask; ``steps`` retain batches and ``steps / forget_every`` forget
    batches.

    Args:
        steps: ``T``: iterations.
        optimizer: A fresh one for both kinds of step.
        schedule: Learning-rate schedule, stepped with every iteration.
        forget_every: ``k``: iterations from one ascent to the next; the first iteration has one.
        alpha: ``alpha_0``: strength of the ascent at the start.
        power: ``lambda`` of the sample weights.
        ratio: ``gamma`` of the mask; 0 selects every weight.
        importance: ``batch`` squares the gradient of each minibatch's mean loss, as the authors' code does; ``sample`` that of each
            sample, which does not depend on the batch size.
        ascent_norm: The ascent's gradient is clipped to this norm.
        batch_norm: ``train`` lets running statistics follow the batches, ``frozen`` keeps BatchNorm in eval mode.
    """

    source: ClassVar[Source | None] = Source(
        paper="Huang, Cheng, Zheng, Wang, He, Li, Huang, NeurIPS 2024, arXiv:2409.19732",
        code="K1nght/Unified-Unlearning-w-Remain-Geometry at 1837bf6 (CIFAR-10)",
        tested="the steps by plain formulas in float64 (tests/unit/unlearners/test_gradient_geometry.py)",
        deviations=(
            "Without the exponential moving average of the weights, which at the code's setting changes nothing.",
            "Frozen weights take no part in the mask; the code silently masks them with zeros.",
            "Importances are kept by what they were computed from; the code's cache knows the folder alone.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"retain", "forget"})
    cost: ClassVar[str] = (
        "one pass over both sets for the mask, then steps retain batches and steps / forget_every forget batches"
    )
    search_space: ClassVar[SearchSpace] = {
        "steps": Range(50, 3000, log=True),
        "alpha": Range(0.1, 500.0, log=True),
        "ratio": Range(0.1, 10.0, log=True),
        "optimizer.lr": Range(1e-4, 1e-1, log=True),
    }

    steps: NonNegativeInt = 1500
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("SGD", lr=0.01, momentum=0.9, weight_decay=5e-4))
    schedule: Schedule | None = field(default_factory=lambda: Schedule.of("CosineAnnealingLR"))
    forget_every: PositiveInt = 5
    alpha: NonNegativeFloat = 25.0
    power: NonNegativeFloat = 0.5
    ratio: NonNegativeFloat = 1.0
    importance: Literal["batch", "sample"] = "batch"
    ascent_norm: PositiveFloat = 7.0
    batch_norm: Literal["train", "frozen"] = "train"

    def changes_nothing(self) -> bool:
        """Whether there is no step."""
        return self.steps == 0

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Make the mask once, then climb and repair."""
        retain = context.batches("retain")
        if not self.steps or not len(retain):
            return model
        mask = self._mask(model, context) if context.n_samples("forget") else {}
        trainer = context.trainer(
            model,
            self.optimizer,
            epochs=-(-self.steps // len(retain)),
            schedule=self.schedule,
            schedule_steps=self.steps,
            batch_norm=self.batch_norm,
        )
        keeps = [mask[name] for name, p in model.named_parameters() if p.requires_grad] if mask else []

        def ascent(batch: Batch, strength: float) -> Tensor:
            losses = context.criterion.per_sample(logits_of(model(batch.x)), batch.y)
            return -strength * (sample_weights(losses, self.power) * losses).mean()

        def iterate(iteration: _Iteration) -> Tensor:
            t, kept, forgotten = iteration
            if forgotten is not None:
                strength = self.alpha * (1 + math.cos(math.pi * t / self.steps)) / 2
                _, gradients = trainer.gradient(forgotten, lambda batch: ascent(batch, strength))
                trainer.set_gradients([g * keep for g, keep in zip(gradients, keeps, strict=True)])
                torch.nn.utils.clip_grad_norm_(trainer.parameters, self.ascent_norm, foreach=True)
                trainer.update()
            loss, gradients = trainer.gradient(kept, lambda batch: context.loss(model, batch))
            trainer.set_gradients(gradients)
            return loss

        forget = self._ascents(context.batches("forget"))
        for epoch in trainer.epochs():
            trainer.step_on(self._iterations(epoch * len(retain), retain, forget), iterate)
        return model

    def _ascents(self, forget: Batches) -> Iterator[Batch]:
        return forget.cycled(-(-self.steps // self.forget_every))

    def _iterations(self, first: int, retain: Batches, forget: Iterator[Batch]) -> Iterator[_Iteration]:
        """One pass over the retain set, with a forget batch every few steps; the last pass ends with the last step."""
        for t, kept in enumerate(retain, start=first):
            if t == self.steps:
                return
            yield t, kept, next(forget, None) if t % self.forget_every == 0 else None

    def _mask(self, model: nn.Module, context: UnlearningContext) -> dict[str, Tensor]:
        forget, retain = (self._importances(model, context, role) for role in ("forget", "retain"))
        return {name: importance_mask(forget[name], retain[name], self.ratio) for name in forget}

    def _importances(self, model: nn.Module, context: UnlearningContext, role: PartitionRole) -> dict[str, Tensor]:
        batches = context.batches(role, shuffle=False)

        def compute() -> dict[str, Tensor]:
            if self.importance == "batch":
                return batch_squared_gradients(model, batches, context.criterion)
            return squared_gradients(model, batches, context.criterion.per_sample)

        return context.precomputed(f"{self.importance}_importances", model, [role], compute, loss="loss")
