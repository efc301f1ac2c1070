"""Weights rounded to few bits, as they are for deployment."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["rounded", "with_rounded_weights"]


def rounded(weight: Tensor, bits: int, group: int | None = None) -> Tensor:
    r"""Symmetric rounding to the nearest of :math:`2^b - 1` evenly spaced values, row by row.

    .. math:: s \cdot \mathrm{round}(w / s), \quad s = \max_g \lvert w \rvert / (2^{b-1} - 1)

    Args:
        weight: At least two dimensions; the first is that of the outputs.
        bits: 2 to 8.
        group: Neighbouring inputs that share a scale; None takes all inputs of an output.

    Returns:
        The same shape and type.

    Example:
        >>> rounded(torch.tensor([[1.0, 0.3, -0.6]]), bits=2)
        tensor([[ 1.,  0., -1.]])
    """
    most = 2 ** (bits - 1) - 1
    rows = weight.flatten(1)
    size = group or rows.shape[1]
    found = []
    for part in torch.split(rows.float(), size, dim=1):
        scale = part.abs().amax(1, keepdim=True) / most
        found.append(torch.where(scale > 0, (part / scale.clamp_min(torch.finfo(part.dtype).tiny)).round() * scale, part))
    return torch.cat(found, dim=1).to(weight.dtype).reshape(weight.shape)


@torch.no_grad()
def with_rounded_weights(model: nn.Module, bits: int, group: int | None = None) -> nn.Module:
    """A copy of a model in which every matrix of weights is rounded, except those of embeddings and of the output layer.

    Low-rank updates are merged into the weights that they belong to first, as they are for deployment.
    """
    changed = copy.deepcopy(model)
    kept: set[int] = set()
    for module in changed.modules():
        part: Any = module
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            kept.add(id(module.weight))
        if hasattr(part, "base_layer") and callable(getattr(part, "merge", None)):
            part.merge()
        output = part.get_output_embeddings() if callable(getattr(part, "get_output_embeddings", None)) else None
        if isinstance(output, nn.Module):
            kept |= {id(parameter) for parameter in output.parameters()}
    for name, parameter in changed.named_parameters():
        if parameter.dim() >= 2 and parameter.is_floating_point() and id(parameter) not in kept and "lora_" not in name:
            parameter.copy_(rounded(parameter, bits, group))
    return changed
