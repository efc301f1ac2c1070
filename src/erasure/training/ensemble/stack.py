"""The weights of many models in one tensor per layer, and their optimizer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from erasure.training.calls import Optimizer

__all__ = ["ELEMENTWISE", "Stack", "StackedOptimizer"]

ELEMENTWISE = ("SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adagrad", "Adadelta", "RMSprop", "Rprop", "ASGD")
"""Optimizers of torch whose update of a weight depends on that weight's own history alone."""

_FUSED = ("SGD", "Adam", "AdamW", "Adagrad")
"""Those that can pass over the weights once a step; a stack is too large for the caches to forgive more."""

_WAYS = ("fused", "foreach", "capturable", "differentiable")


class Stack:
    """Parameters and buffers of models of one architecture, each ``(M, …)``.

    Args:
        models: Their tensors are copied.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        states = [_tensors(model) for model in models]
        self.tensors: dict[str, Tensor] = {name: torch.stack([state[name].detach() for state in states]) for name in states[0]}
        self.trained: list[str] = [name for name, parameter in models[0].named_parameters() if parameter.requires_grad]
        self._views: dict[int, dict[str, Tensor]] = {}

    def first(self, n_models: int) -> dict[str, Tensor]:
        """Views of the first models' tensors; the trained ones are leaves of their own for gradients."""
        if n_models not in self._views:
            views = {name: tensor[:n_models].detach() for name, tensor in self.tensors.items()}
            for name in self.trained:
                views[name].requires_grad_()
            self._views[n_models] = views
        return self._views[n_models]

    def largest(self) -> Tensor:
        """Largest magnitude of a trained weight of each model, ``(M,)``; not a number where a weight is none."""
        found = [tensor.reshape(len(tensor), -1) for name in self.trained if (tensor := self.tensors[name]).numel()]
        return torch.stack([torch.linalg.vector_norm(each, float("inf"), dim=1) for each in found]).amax(0)

    @torch.no_grad()
    def write(self, number: int, model: nn.Module) -> None:
        """Copy the tensors of model ``number`` into ``model``."""
        for name, tensor in _tensors(model).items():
            tensor.copy_(self.tensors[name][number])


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


class StackedOptimizer:
    """One optimizer of torch for all models.

    Optimizers that treat every weight by itself do not notice that the weights are stacked. Models with the same number of steps share
    a parameter; those that sit a step out have no gradient in it, so neither weights nor momentum nor the count of steps move.

    Args:
        optimizer: The recipe's.
        stack: The weights, updated in place.
        runs: Ranges of models with the same number of steps.
        max_grad_norm: Each model's gradients are clipped to this norm.
    """

    def __init__(self, optimizer: Optimizer, stack: Stack, runs: Sequence[tuple[int, int]], max_grad_norm: float | None) -> None:
        self.runs: Sequence[tuple[int, int]] = runs
        self.max_grad_norm: float | None = max_grad_norm
        self.parameters: list[list[nn.Parameter]] = [
            [nn.Parameter(stack.tensors[name][a:b]) for a, b in runs] for name in stack.trained
        ]
        every = [parameter for parts in self.parameters for parameter in parts]
        is_free = optimizer.target().__name__ in _FUSED and not any(way in optimizer.parameters for way in _WAYS)
        self.torch: torch.optim.Optimizer = optimizer.build(every, fused=True) if is_free else optimizer.build(every)

    def step(self, gradients: Sequence[Tensor | None], n_models: int) -> None:
        """Update the first ``n_models`` models with their gradients, given in the order of ``Stack.trained``."""
        scale = self._scale([g for g in gradients if g is not None])
        for parts, gradient in zip(self.parameters, gradients, strict=True):
            clipped = gradient
            if gradient is not None and scale is not None:
                clipped = gradient * scale.reshape(-1, *(1,) * (gradient.dim() - 1))
            for parameter, (a, b) in zip(parts, self.runs, strict=True):
                parameter.grad = _laid_out(clipped[a:b], parameter) if clipped is not None and b <= n_models else None
        self.torch.step()

    def _scale(self, gradients: Sequence[Tensor]) -> Tensor | None:
        """What clipping to the norm multiplies each model's gradients by."""
        if self.max_grad_norm is None:
            return None
        norms = torch.stack([torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients])
        total: Tensor = torch.linalg.vector_norm(norms, dim=0)
        return (self.max_grad_norm / (total + 1e-6)).clamp(max=1.0)


def _laid_out(gradient: Tensor, parameter: Tensor) -> Tensor:
    """The gradient in the memory layout of its parameter: fused optimizers pass over both as they lie there."""
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter, requires_grad=False).copy_(gradient)
