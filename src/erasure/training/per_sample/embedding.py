"""Rule of embedding tables."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from erasure.training.per_sample.layer import LayerRule, Scratch, register

__all__ = ["EmbeddingRule"]


@register(nn.Embedding)
class EmbeddingRule(LayerRule):
    r"""Squares of ``nn.Embedding``: a token that a sample repeats is summed before it is squared.

    .. math:: \sum_i \Bigl(\sum_{t : x_{it} = v} b_{it}\Bigr)^2 \quad\text{for row } v,\text{ and 0 for the padding token.}

    Each sample's tokens are sorted, so that repetitions form runs; no shape depends on the data.
    """

    def __init__(self, module: nn.Module, inputs: Tensor, scratch: Scratch) -> None:
        self.module: nn.Embedding = cast(nn.Embedding, module)
        self.order: Tensor
        tokens, self.order = inputs.reshape(len(inputs), -1).sort(dim=1)
        is_new = torch.ones_like(tokens)
        is_new[:, 1:] = tokens[:, 1:] != tokens[:, :-1]
        self.runs: Tensor = is_new.cumsum(1) - 1
        # Runs that do not exist point to row 0 and add zero to it.
        self.run_tokens: Tensor = torch.zeros_like(tokens).scatter_(1, self.runs, tokens)
        self.total: Tensor = torch.zeros_like(self.module.weight, requires_grad=False)

    @staticmethod
    def supports(module: nn.Module) -> bool:
        """Neither renormalised rows nor gradients scaled by how often a token occurs."""
        embedding = cast(nn.Embedding, module)
        return embedding.max_norm is None and not embedding.scale_grad_by_freq

    @staticmethod
    def accepts(module: nn.Module, inputs: Tensor) -> bool:
        """Any shape that has samples in front."""
        return inputs.ndim >= 1

    def add(self, gradient: Tensor) -> None:
        """Adds the squares of one backward pass; see :class:`LayerRule`."""
        n, length = self.order.shape
        b = gradient.reshape(n, length, -1).to(self.total.dtype)
        b = b.gather(1, self.order.unsqueeze(2).expand_as(b))
        summed = torch.zeros_like(b).scatter_add_(1, self.runs.unsqueeze(2).expand_as(b), b)
        self.total.index_add_(0, self.run_tokens.flatten(), summed.square_().flatten(0, 1))

    def squares(self) -> dict[str, Tensor]:
        """Squares of the table; the padding row is 0."""
        if self.module.padding_idx is not None:
            self.total[self.module.padding_idx] = 0
        return {"weight": self.total}
