"""The weights that plain gradient descent passed through, with the samples, rate and gradient of each step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from erasure.errors import RequirementNotMet
from erasure.training.batches import Batch, Column
from erasure.training.calls import Criterion
from erasure.training.forward import logits_of
from erasure.training.history import StepListener, Update

__all__ = ["BatchGradient", "DescentStep", "descent_of"]

_ROUNDING = 2e-3
"""Part of a step of float32 weights by which it may differ from rate times gradient."""


@dataclass(frozen=True, eq=False, kw_only=True)
class DescentStep:
    """One step ``w - rate * (gradient + decay * w)``.

    Args:
        weights: Before it, flat, float64.
        gradient: Of the batch's mean loss there.
        ids: The batch.
        rate: Learning rate.
        decay: Weight decay.
    """

    weights: Tensor
    gradient: Tensor
    ids: Tensor
    rate: float
    decay: float

    @property
    def n_bytes(self) -> int:
        """What it takes to keep."""
        return sum(t.numel() * t.element_size() for t in (self.weights, self.gradient, self.ids))


class BatchGradient:
    """Gradient of the mean loss of some samples at any weights, flat, in float64, in eval mode.

    Args:
        model: The architecture; its weights are not read.
        x: Inputs of the whole data set.
        y: Labels of the whole data set.
        criterion: The loss.
    """

    def __init__(self, model: nn.Module, x: Column, y: Tensor, criterion: Criterion) -> None:
        self.model: nn.Module = model
        self.x: Column = x
        self.y: Tensor = y
        self.criterion: Criterion = criterion
        self.shapes: dict[str, torch.Size] = {name: p.shape for name, p in model.named_parameters()}
        self.dtypes: dict[str, torch.dtype] = {name: p.dtype for name, p in model.named_parameters()}

    def __call__(self, weights: Tensor, ids: Tensor) -> Tensor:
        """Shape ``(P,)``; zeros without samples."""
        if not len(ids):
            return torch.zeros_like(weights)
        leaves = {n: w.to(self.dtypes[n]).requires_grad_() for n, w in self._shaped(weights).items()}
        batch = Batch(self.x.gather(ids), self.y.index_select(0, ids), ids)
        loss = self.criterion(logits_of(functional_call(self.model, leaves, (batch.x,))), batch.y)
        found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
        return torch.cat([g.flatten() for g in found]).to(weights.dtype)

    def flat(self, model: nn.Module) -> Tensor:
        """Weights of a network of this architecture as one vector."""
        vector = torch.cat([p.detach().flatten() for p in model.parameters()])
        return vector if vector.device.type == "mps" else vector.double()

    @torch.no_grad()
    def assign(self, model: nn.Module, weights: Tensor) -> None:
        """Put a vector into a network of this architecture."""
        shaped = self._shaped(weights)
        for name, parameter in model.named_parameters():
            parameter.copy_(shaped[name].to(parameter.dtype))

    def _shaped(self, weights: Tensor) -> dict[str, Tensor]:
        pieces = torch.split(weights, [shape.numel() for shape in self.shapes.values()])
        return {name: piece.reshape(shape) for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)}


def descent_of(
    original: nn.Module, gradient: BatchGradient, replay: Callable[[StepListener], None], method: str
) -> list[DescentStep]:
    """The steps of the original's training.

    Args:
        original: The trained model.
        gradient: Gives gradients of its architecture.
        replay: Shows every update.
        method: Who asks, for the error.

    Raises:
        RequirementNotMet: If a step is not plain gradient descent: momentum, Adam, clipping, dropout or BatchNorm; says which step.
    """
    steps: list[DescentStep] = []
    before: Tensor | None = None

    def observe(model: nn.Module, update: Update) -> None:
        nonlocal before
        after = gradient.flat(model)
        if update.batch is not None and before is not None:
            found = gradient(before, update.batch.ids)
            moved = -update.rate * (found + update.weight_decay * before)
            gap, size = float((after - before - moved).norm()), float(moved.norm())
            if gap > _ROUNDING * size + 1e-6 * float(before.norm()):
                raise RequirementNotMet(
                    f"{method} needs plain gradient descent, and update {update.number} of the original's training is another step: train "
                    "with SGD without momentum, clipping and augmentation, and a network without dropout and BatchNorm"
                )
            steps.append(
                DescentStep(
                    weights=before, gradient=found, ids=update.batch.ids.clone(), rate=update.rate, decay=update.weight_decay
                )
            )
        before = after

    replay(observe)
    if before is None or not torch.equal(before, gradient.flat(original)):
        raise RequirementNotMet(
            f"{method} replays the training of the original itself, and its end is another model than the one given"
        )
    return steps
