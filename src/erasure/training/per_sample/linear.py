"""Rule of fully connected layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from erasure.training.per_sample.layer import CHUNK_ELEMENTS, LayerRule, Scratch, register

__all__ = ["LinearRule"]


@register(nn.Linear)
class LinearRule(LayerRule):
    r"""Squares of ``nn.Linear``, on vectors or on sequences of them.

    With inputs :math:`a_{it}` and output gradients :math:`b_{it}` of sample i at position t,

    .. math:: \sum_i \Bigl(\sum_t b_{it} a_{it}^\top\Bigr)^2,\qquad \text{without positions}\quad
              \sum_i (b_i a_i^\top)^2 = (b^2)^\top (a^2).

    Source:
        Goodfellow, "Efficient per-example gradient computations", arXiv 1510.01799.
    """

    def __init__(self, module: nn.Module, inputs: Tensor, scratch: Scratch) -> None:
        self.inputs: Tensor = inputs.reshape(len(inputs), -1, inputs.shape[-1])
        self.scratch: Scratch = scratch
        self.on_vectors: bool = self.inputs.shape[1] == 1
        self.bias_total: Tensor | None = None
        self.weight_total: Tensor | None = None
        self.squared_gradients: Tensor | None = None

    def add(self, gradient: Tensor) -> None:
        """Adds the squares of one backward pass; see :class:`LayerRule`."""
        b = gradient.reshape(len(gradient), self.inputs.shape[1], -1).to(self.inputs.dtype)
        if self.on_vectors:
            # The inputs are the same in every pass: one matrix product serves all of them.
            squared = b[:, 0].square()
            self.squared_gradients = squared if self.squared_gradients is None else self.squared_gradients.add_(squared)
            return
        bias = b.sum(1).square_().sum(0)
        self.bias_total = bias if self.bias_total is None else self.bias_total.add_(bias)
        step = max(1, CHUNK_ELEMENTS // (b.shape[2] * self.inputs.shape[2]))
        for start in range(0, len(b), step):
            part = slice(start, start + step)
            pair = b[part].transpose(1, 2), self.inputs[part]
            product = self.scratch.of("product", (len(pair[0]), b.shape[2], self.inputs.shape[2]), b)
            squares = torch.bmm(*pair, out=product).square_()
            weight = squares.sum(0) if len(squares) > 1 or self.weight_total is None else squares[0]
            self.weight_total = weight if self.weight_total is None else self.weight_total.add_(weight)

    def squares(self) -> dict[str, Tensor]:
        """Squares of weight and bias."""
        if self.squared_gradients is not None:
            weight = self.squared_gradients.t() @ self.inputs[:, 0].square()
            return {"weight": weight, "bias": self.squared_gradients.sum(0)}
        if self.weight_total is None or self.bias_total is None:
            return {}
        return {"weight": self.weight_total, "bias": self.bias_total}
