"""GRU: steps of another method, less what they would do against retained answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from erasure.functional.tokens import labelled
from erasure.training.batches import Batch
from erasure.training.loop import Trainer
from erasure.training.predictor import ModelInput
from erasure.types import Fraction, PartitionRole, Source, Task
from erasure.unlearners.answers import AnswerUnlearner, Step, Term, cut, descended, loss_term
from erasure.unlearners.contract import Unlearner, UnlearningContext
from erasure.unlearners.negative_preference import NPO
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["GRU", "rectified"]


@dataclass(frozen=True, kw_only=True)
class GRU(Unlearner):
    r"""Gradient rectified unlearning: another method's gradient, projected where it would raise the retain loss.

    .. math::
        g \leftarrow g - \frac{\min(0, \langle g, \bar g_r \rangle)}{\lVert \bar g_r \rVert^2} \, \bar g_r, \qquad
        \bar g_r \leftarrow (1 - s) \, \nabla \overline{l}_r + s \, \bar g_r

    Inner products are over all weights that the method trains. The optimizer comes afterwards: one with a rate of its own for each weight
    undoes exact orthogonality. The retain set enters through the projection, and through the inner method's own retain term if it has one.

    **Cost**: the inner method's, and the gradient of a retain batch in each step; two gradients in memory.

    Args:
        inner: The method whose steps are rectified; epochs, optimizer and partitions are its own.
        smoothing: ``s``, the share of the earlier retain gradients.
    """

    source: ClassVar[Source | None] = Source(
        paper="Wang et al., ICML 2025, arXiv:2503.09117",
        code="locuslab/open-unlearning at 911e52a",
        tested="plain formulas in float64 (tests/unit/language/test_constrained_forgetting.py)",
        deviations=("The retain gradient of a step is that of one retain batch, however many pieces the batches are cut into.",),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"forget", "retain"})
    defined_for: ClassVar[frozenset[Task]] = frozenset({"generation"})
    cost: ClassVar[str] = "the inner method, and the gradient of a retain batch in each step"
    search_space: ClassVar[SearchSpace] = {"smoothing": Range(0.0, 0.9)}

    inner: AnswerUnlearner = field(default_factory=lambda: NPO(retain_term="none"))
    smoothing: Fraction = 0.2

    def partitions(self) -> dict[PartitionRole, str]:
        """Those of the inner method, and the retain set."""
        return {"retain": self.retain, **self.inner.partitions()}

    def unsupported_reason(self, data: ModelInput) -> str | None:
        """The inner method's reason, or one of its own."""
        return super().unsupported_reason(data) or self.inner.unsupported_reason(data)

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """The inner method's epochs with rectified steps."""
        kept = loss_term(model)

        def stepping(trainer: Trainer, forget: Term, retain: Term | None, n_steps: int) -> Step:
            inner = self.inner.step(trainer, forget, retain, n_steps)

            def step(pair: tuple[Batch, Batch | None]) -> Tensor:
                loss = inner(pair)
                if pair[1] is None:
                    return loss
                wanted = _taken(trainer)
                parts = cut(pair[1], labelled(pair[1].y).sum(), self.inner.piece_size)
                trainer.accumulate(parts, lambda part: kept(*part))
                smooth = [self._smoothed(trainer, number, now) for number, now in enumerate(_taken(trainer))]
                trainer.set_gradients(rectified(wanted, smooth))
                return loss

            return step

        inner_task = context.seen_by(self.inner).handed(self, self.inner)
        roles = {**inner_task.roles, "retain": inner_task.roles.get("retain", self.retain)}
        return descended(self.inner, model, replace(inner_task, roles=roles), True, stepping)

    def _smoothed(self, trainer: Trainer, number: int, now: Tensor) -> Tensor:
        """The moving average of a retain gradient, which the loop remembers."""
        name = f"retain_gradient_{number}"
        trainer.memory[name] = torch.lerp(now, trainer.memory.get(name, now), self.smoothing)
        return trainer.memory[name]


def rectified(wanted: Sequence[Tensor], kept: Sequence[Tensor]) -> list[Tensor]:
    """The gradient nearest to ``wanted`` along which a step of descent does not raise a loss with the gradient ``kept``.

    Both are lists of tensors with one inner product over all. Where ``kept`` is 0 nothing is taken away.
    """
    inner = torch.stack([(first * second).sum() for first, second in zip(wanted, kept, strict=True)]).sum()
    square = torch.stack([second.square().sum() for second in kept]).sum()
    share = torch.where(square > 0, inner.clamp_max(0) / square, torch.zeros_like(square))
    return [first - share * second for first, second in zip(wanted, kept, strict=True)]


def _taken(trainer: Trainer) -> list[Tensor]:
    """The gradients in the parameters, which are empty afterwards."""
    found = [torch.zeros_like(p) if p.grad is None else p.grad for p in trainer.parameters]
    for parameter in trainer.parameters:
        parameter.grad = None
    return found
