"""A graph network to first order in its weights: products with its Jacobian and the transpose of that, without an autograd tape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erasure.training.calls import Criterion
from erasure.training.sparse_rows import GraphConvolution, SparseRows

__all__ = ["LinearStep", "Linearisable", "LinearisedNetwork", "curvature_of_loss", "slope_of_loss"]


@dataclass(frozen=True, eq=False)
class LinearStep:
    """A layer that is linear in its weights, and what follows it.

    Args:
        name: The layer's place in its network, which its parameters' names begin with.
        layer: A convolution of a GCN or a fully connected layer.
        messages: The weights of the edges, for a convolution.
        rectified: Whether a ReLU follows.
    """

    name: str
    layer: GraphConvolution | nn.Linear
    messages: SparseRows | None
    rectified: bool

    @property
    def weight(self) -> Tensor:
        """Shape ``(d_out, d_in)``."""
        return (self.layer.lin.weight if isinstance(self.layer, GraphConvolution) else self.layer.weight).detach()

    @property
    def bias(self) -> Tensor | None:
        """Shape ``(d_out,)``."""
        return None if self.layer.bias is None else self.layer.bias.detach()

    @property
    def names(self) -> tuple[str, str]:
        """Names of the weight and of the bias."""
        weight = "lin.weight" if isinstance(self.layer, GraphConvolution) else "weight"
        return f"{self.name}.{weight}", f"{self.name}.bias"


class LinearisedNetwork:
    """Logits of some nodes, and how they move with the weights.

    Forward mode and reverse mode are written out: on a small graph autograd's bookkeeping costs as much as the products.

    Args:
        steps: The layers, in order: one or more convolutions, and what follows the last one.
        x: Features of all nodes, ``(n, F)``.
        rows: The nodes whose logits are wanted, ``(B,)``, int64.
    """

    def __init__(self, steps: Sequence[LinearStep], x: Tensor | SparseRows, rows: Tensor) -> None:
        self.steps = tuple(steps)
        self.rows = rows
        # What follows is computed for the chosen nodes alone.
        self._last_convolution: LinearStep = [step for step in steps if step.messages is not None][-1]
        self._n_nodes: int = len(x)
        self._inputs: list[Tensor | SparseRows] = []
        self._masks: list[Tensor | None] = []
        for step in self.steps:
            self._inputs.append(x)
            out = _mixed(step, _times(x, step.weight), step.bias)
            self._masks.append((out > 0).to(out.dtype) if step.rectified else None)
            x = self._chosen(out.relu() if step.rectified else out, step)
        self.logits: Tensor = x  # type: ignore[assignment]

    def along(self, direction: Mapping[str, Tensor]) -> Tensor:
        """How fast the logits move when the weights go along a direction: ``J d``, ``(B, K)``.

        Args:
            direction: Parameter's name to a tensor of its shape; those that are missing stay.
        """
        moved: Tensor | None = None
        for step, x, mask in zip(self.steps, self._inputs, self._masks, strict=True):
            weight, bias = (direction.get(name) for name in step.names)
            own = step.weight.new_zeros(len(x), len(step.weight)) if weight is None else _times(x, weight)
            if moved is not None:
                own += moved @ step.weight.t()
            own = _mixed(step, own, bias)
            moved = self._chosen(own if mask is None else own.mul_(mask), step)
        assert moved is not None  # noqa: S101 - there are steps
        return moved

    def back(self, seed: Tensor) -> dict[str, Tensor]:
        """The gradient of the logits' product with ``seed``, ``(B, K)``: ``J' u``, by the names of the parameters."""
        found: dict[str, Tensor] = {}
        slope = seed
        for number in reversed(range(len(self.steps))):
            step, mask, x = self.steps[number], self._masks[number], self._inputs[number]
            if step is self._last_convolution:
                slope = slope.new_zeros(self._n_nodes, slope.shape[1]).index_add_(0, self.rows, slope)
            slope = slope if mask is None else slope * mask
            weight, bias = step.names
            if step.bias is not None:
                found[bias] = slope.sum(0)
            if step.messages is not None:
                slope = step.messages.transposed().product(slope)
            found[weight] = x.transposed().product(slope).t() if isinstance(x, SparseRows) else slope.t() @ x
            if number:
                slope = slope @ step.weight
        return found

    def _chosen(self, x: Tensor, step: LinearStep) -> Tensor:
        """What goes on from a step."""
        return x.index_select(0, self.rows) if step is self._last_convolution else x


def _mixed(step: LinearStep, x: Tensor, bias: Tensor | None) -> Tensor:
    x = x if step.messages is None else step.messages.product(x)
    return x if bias is None else x.add_(bias)


def _times(x: Tensor | SparseRows, weight: Tensor) -> Tensor:
    return x.product(weight.t()) if isinstance(x, SparseRows) else x @ weight.t()


@runtime_checkable
class Linearisable(Protocol):
    """A network that may know its own first order."""

    def linearised(self, inputs: Any) -> LinearisedNetwork | None:
        """At its weights, in eval mode; None where it does not know it, as with a BatchNorm, a hook or another layer in place of one."""
        ...


def slope_of_loss(logits: Tensor, y: Tensor, criterion: Criterion) -> Tensor:
    """Gradient of the samples' mean loss by the logits, ``(B, K)``; that of cross-entropy is written out.

    Args:
        logits: Shape ``(B, K)``.
        y: Labels.
        criterion: The loss.
    """
    if criterion.is_cross_entropy:
        return (logits.softmax(1) - F.one_hot(y, logits.shape[1])) / len(y)
    return _slope(logits, y, criterion)[1].detach()


def curvature_of_loss(logits: Tensor, y: Tensor, criterion: Criterion) -> Callable[[Tensor], Tensor]:
    """Products of a direction ``(B, K)`` with the Hessian of the samples' mean loss by the logits; arguments as above."""
    if criterion.is_cross_entropy:
        p = logits.softmax(1)
        weighted = p / len(y)
        return lambda moved: weighted * (moved - (p * moved).sum(1, keepdim=True))
    at, slope = _slope(logits, y, criterion)
    return lambda moved: torch.autograd.grad(slope, at, moved, retain_graph=True)[0]


def _slope(logits: Tensor, y: Tensor, criterion: Criterion) -> tuple[Tensor, Tensor]:
    at = logits.detach().requires_grad_(True)
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(criterion.over_samples(at, y), at, create_graph=True)
    return at, slope
