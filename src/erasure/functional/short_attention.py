"""Attention over short samples in bfloat16 on the CPU, where torch's own takes four times as long to differentiate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

__all__ = ["ShortAttention", "short_attention"]

MAX_LENGTH = 192
"""Longer samples take torch no longer."""

_CHUNK = 2**18
"""Scores in memory at a time, so that they stay in the cache."""


class ShortAttention(TorchFunctionMode):
    """While it is active, causal attention over short samples in bfloat16 on the CPU is that of :func:`short_attention`."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func is F.scaled_dot_product_attention and _is_short(*args, **given):
            query, key, value = args[:3]
            scale = given.get("scale")
            return short_attention(query, key, value, query.shape[-1] ** -0.5 if scale is None else scale)
        return func(*args, **given)


def _is_short(*args: Any, **kwargs: Any) -> bool:
    """Whether a call of torch's attention is one that is better computed here."""
    if (
        len(args) != 3
        or not kwargs.get("is_causal", False)
        or kwargs.get("attn_mask") is not None
        or kwargs.get("dropout_p", 0.0)
    ):
        return False
    query, key, value = args
    return bool(
        query.dtype == torch.bfloat16
        and query.device.type == "cpu"
        and query.dim() == key.dim() == value.dim() == 4
        and query.shape[-2] == key.shape[-2] <= MAX_LENGTH
        and (query.shape[1] == key.shape[1] or (kwargs.get("enable_gqa", False) and query.shape[1] % key.shape[1] == 0))
        and key.shape[1] == value.shape[1]
        and query.requires_grad
    )


def short_attention(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    r"""Causal attention, :math:`\mathrm{softmax}(s Q K^\top) V`; probabilities are computed again in the backward pass.

    Args:
        query: ``(B, H, L, D)``.
        key: ``(B, H', L, D)``; ``H`` is a multiple of ``H'``, and neighbouring heads share keys and values.
        value: ``(B, H', L, D')``.
        scale: Factor of the scores.

    Returns:
        ``(B, H, L, D')``; once differentiable. Probabilities are float32, or float64 of inputs in it.
    """
    return _ShortAttention.apply(query, key, value, scale)  # type: ignore[no-untyped-call,no-any-return]


class _ShortAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        n_heads = key.shape[1]
        # Heads that share keys stand below each other.
        q = query.reshape(len(query) * n_heads, -1, query.shape[-1])
        k, v = key.flatten(0, 1), value.flatten(0, 1)
        ctx.save_for_backward(q, k, v)
        ctx.scale, ctx.shape = scale, query.shape
        parts = [torch.bmm(_probabilities(a, b, scale).to(c.dtype), c) for a, b, c in _chunks(q, k, v)]
        return torch.cat(parts).reshape(*query.shape[:-1], value.shape[-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v = ctx.saved_tensors
        found = []
        for a, b, c, g in _chunks(q, k, v, gradient.reshape(*q.shape[:-1], v.shape[-1])):
            p = _probabilities(a, b, ctx.scale)
            to_p = torch.bmm(g, c.transpose(1, 2)).to(p.dtype)
            to_scores = torch._softmax_backward_data(to_p, p, -1, p.dtype).mul_(ctx.scale).to(g.dtype)
            to_v = torch.bmm(p.to(g.dtype).transpose(1, 2), g)
            found.append((torch.bmm(to_scores, b), torch.bmm(to_scores.transpose(1, 2), a), to_v))
        to_q, to_k, to_v = (torch.cat(parts) for parts in zip(*found, strict=True))
        n = ctx.shape[0]
        return to_q.reshape(ctx.shape), to_k.reshape(n, -1, *k.shape[1:]), to_v.reshape(n, -1, *v.shape[1:]), None


def _chunks(q: Tensor, *others: Tensor) -> zip[tuple[Tensor, ...]]:
    size = max(1, _CHUNK // (q.shape[1] * others[0].shape[1]))
    return zip(*(torch.split(each, size) for each in (q, *others)), strict=True)


def _probabilities(q: Tensor, k: Tensor, scale: float) -> Tensor:
    """Of each position before and at the query's, ``(n, G L, L)``."""
    length = k.shape[1]
    scores = torch.bmm(q, k.transpose(1, 2)).to(torch.promote_types(q.dtype, torch.float32)).mul_(scale)
    later = torch.full((length, length), float("-inf"), dtype=scores.dtype, device=scores.device).triu_(1)
    scores.view(len(q), -1, length, length).add_(later)
    return scores.softmax(-1)
