"""Losses of tokens over a large vocabulary, without the logits of all of them at a time."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["chunked_token_losses", "may_be_chunked"]

CHUNK = 2**22
"""Logits in memory at a time."""


def chunked_token_losses(states: Tensor, weight: Tensor, bias: Tensor | None, y: Tensor) -> Tensor:
    r"""Losses :math:`-\log \mathrm{softmax}(W h_t + b)_{y_t}` of tokens, in nats.

    Logits exist for some positions at a time. Where the output layer is frozen, the gradient for the states is made on the way and nothing
    is computed twice; otherwise logits are computed again in the backward pass.

    Args:
        states: What the output layer is given, ``(N, d)``.
        weight: Of the output layer, ``(K, d)``.
        bias: ``(K,)``, if it has one.
        y: Tokens, ``(N,)``.

    Returns:
        Shape ``(N,)``, at least float32; once differentiable.

    Example:
        >>> chunked_token_losses(torch.zeros(1, 3), torch.zeros(4, 3), None, torch.tensor([2]))
        tensor([1.3863])
    """
    return _ChunkedLosses.apply(states, weight, bias, y)  # type: ignore[no-untyped-call,no-any-return]


def may_be_chunked() -> bool:
    """Whether no transformation of ``torch.func`` is at work, under which there is no such loss."""
    return torch._C._functorch.peek_interpreter_stack() is None


class _ChunkedLosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, y: Tensor) -> Tensor:
        wants_states, wants_weight, wants_bias, _ = ctx.needs_input_grad
        ctx.is_frozen = not (wants_weight or wants_bias)
        losses = states.new_empty(len(states), dtype=torch.promote_types(states.dtype, torch.float32))
        gradient = torch.empty_like(states) if ctx.is_frozen and wants_states else None
        for part in _parts(len(states), len(weight)):
            logits = F.linear(states[part], weight, bias)
            p, losses[part] = _probabilities(logits.to(losses.dtype, copy=True), y[part])
            if gradient is not None:
                torch.mm(logits.copy_(_less_labels(p, y[part])), weight, out=gradient[part])
        ctx.save_for_backward(*((gradient,) if ctx.is_frozen else (states, weight, bias, y)))
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weights: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.is_frozen:
            (gradient,) = ctx.saved_tensors
            return gradient * weights.unsqueeze(-1).to(gradient.dtype), None, None, None
        states, weight, bias, y = ctx.saved_tensors
        wants_states, wants_weight, wants_bias, _ = ctx.needs_input_grad
        to_states = torch.empty_like(states) if wants_states else None
        to_weight = torch.zeros_like(weight) if wants_weight else None
        # In bfloat16 each part would round what the parts before it gave.
        to_bias = torch.zeros_like(bias, dtype=weights.dtype) if wants_bias else None
        for part in _parts(len(states), len(weight)):
            logits = F.linear(states[part], weight, bias)
            p, _ = _probabilities(logits.to(weights.dtype, copy=True), y[part])
            logits.copy_(_less_labels(p, y[part]).mul_(weights[part].unsqueeze(-1)))
            if to_states is not None:
                torch.mm(logits, weight, out=to_states[part])
            if to_weight is not None:
                to_weight.addmm_(logits.t(), states[part])
            if to_bias is not None:
                to_bias += logits.sum(0, dtype=to_bias.dtype)
        return to_states, to_weight, None if to_bias is None else to_bias.to(bias.dtype), None


def _parts(n_positions: int, n_tokens: int) -> list[slice]:
    """Positions whose logits are computed at a time."""
    n_parts = -(-n_positions * n_tokens // CHUNK) or 1
    size = -(-n_positions // n_parts) or 1
    return [slice(start, start + size) for start in range(0, n_positions, size)]


def _probabilities(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities, written over the logits, and losses of the labels."""
    own = logits.gather(-1, y.unsqueeze(-1))
    largest = logits.amax(-1, keepdim=True)
    p = logits.sub_(largest).exp_()
    total = p.sum(-1, keepdim=True)
    return p.div_(total), (total.log() + largest - own).squeeze(-1)


def _less_labels(p: Tensor, y: Tensor) -> Tensor:
    """``p - e_y``, in place."""
    return p.scatter_add_(-1, y.unsqueeze(-1), p.new_full((len(y), 1), -1.0))
