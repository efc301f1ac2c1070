"""The weights of many models in one tensor per layer, and their optimizer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from erasure.training.anatomy import tensors_of
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
        learnt: Names of the parameters that get gradients; they lie one after the other, and so do their gradients, so that an
            optimizer can pass over all of them at once.
    """

    def __init__(self, models: Sequence[nn.Module], learnt: Sequence[str]) -> None:
        states = [tensors_of(model) for model in models]
        first = states[0]
        self.trained: list[str] = [name for name, parameter in models[0].named_parameters() if parameter.requires_grad]
        self.flat: Tensor | None = None
        self.flat_gradient: Tensor | None = None
        self.tensors: dict[str, Tensor] = {}
        self.gradients: dict[str, Tensor] = {}
        if len({first[name].dtype for name in learnt}) == 1:
            sizes = [len(models) * first[name].numel() for name in learnt]
            self.flat, self.flat_gradient = (first[learnt[0]].new_zeros(sum(sizes), requires_grad=False) for _ in range(2))
            for part, whole in ((self.tensors, self.flat), (self.gradients, self.flat_gradient)):
                pieces = zip(learnt, torch.split(whole, sizes), strict=True)
                part |= {name: piece.view(len(models), *first[name].shape) for name, piece in pieces}
        self.tensors = {
            name: torch.stack([state[name].detach() for state in states], out=self.tensors.get(name)) for name in first
        }
        for name in learnt:
            self.gradients.setdefault(name, torch.zeros_like(self.tensors[name]))
        self._views: dict[tuple[int, int], tuple[dict[str, Tensor], dict[str, Tensor]]] = {}

    def views(self, first: int, last: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Tensors and gradients of the models from ``first`` to before ``last``."""
        if (first, last) not in self._views:
            tensors, gradients = (
                {name: tensor[first:last] for name, tensor in part.items()} for part in (self.tensors, self.gradients)
            )
            self._views[first, last] = tensors, gradients
        return self._views[first, last]

    def largest(self) -> Tensor:
        """Largest magnitude of a trained weight of each model, ``(M,)``; not a number where a weight is none."""
        found = [tensor.reshape(len(tensor), -1) for name in self.trained if (tensor := self.tensors[name]).numel()]
        return torch.stack([torch.linalg.vector_norm(each, float("inf"), dim=1) for each in found]).amax(0)

    @torch.no_grad()
    def write(self, number: int, model: nn.Module) -> None:
        """Copy the tensors of model ``number`` into ``model``."""
        for name, tensor in tensors_of(model).items():
            tensor.copy_(self.tensors[name][number])


class StackedOptimizer:
    """One optimizer of torch for all models.

    Optimizers that treat every weight by itself do not notice that the weights are stacked. Models with the same number of steps share
    a parameter; those that sit a step out have no gradient in it, so neither weights nor momentum nor the count of steps move.

    Args:
        optimizer: The recipe's.
        stack: The weights, updated in place, and their gradients.
        runs: Ranges of models with the same number of steps.
        max_grad_norm: Each model's gradients are clipped to this norm.
    """

    def __init__(self, optimizer: Optimizer, stack: Stack, runs: Sequence[tuple[int, int]], max_grad_norm: float | None) -> None:
        self.stack = stack
        self.max_grad_norm: float | None = max_grad_norm
        self._parts: list[tuple[nn.Parameter, Tensor, int]] = []
        """Parameters with their gradients, and how many models have to take part in a step that moves them."""
        if len(runs) == 1 and stack.flat is not None and stack.flat_gradient is not None:
            self._parts.append((nn.Parameter(stack.flat), stack.flat_gradient, runs[0][1]))
        else:
            for name, gradient in stack.gradients.items():
                self._parts += [(nn.Parameter(stack.tensors[name][a:b]), gradient[a:b], b) for a, b in runs]
        is_free = optimizer.target().__name__ in _FUSED and not any(way in optimizer.parameters for way in _WAYS)
        every = [parameter for parameter, _, _ in self._parts]
        self.torch: torch.optim.Optimizer = optimizer.build(every, fused=True) if is_free else optimizer.build(every)

    def step(self, n_models: int) -> None:
        """Update the first ``n_models`` models with their gradients."""
        if self.max_grad_norm is not None:
            _, gradients = self.stack.views(0, n_models)
            scale = _scale(list(gradients.values()), self.max_grad_norm)
            for gradient in gradients.values():
                gradient.mul_(scale.reshape(-1, *(1,) * (gradient.dim() - 1)))
        for parameter, gradient, n_needed in self._parts:
            parameter.grad = gradient if n_needed <= n_models else None
        self.torch.step()


def _scale(gradients: Sequence[Tensor], max_norm: float) -> Tensor:
    """What clipping to the norm multiplies each model's gradients by."""
    norms = torch.stack([torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients])
    total: Tensor = torch.linalg.vector_norm(norms, dim=0)
    return (max_norm / (total + 1e-6)).clamp(max=1.0)
