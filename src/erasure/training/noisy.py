"""Noisy descent: clipping, independent noise of every step, and what has to be cleaned of a network before its weights may be promised."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from erasure.training.loop import frozen_norms

__all__ = ["add_noise", "clip_together", "forget_statistics", "statistics_beside_norms"]


@torch.no_grad()
def clip_together(tensors: Iterable[Tensor], bound: float) -> Tensor:
    """Scale tensors in place so that the Euclidean norm of all numbers together is at most ``bound``; returns the norm before."""
    found = list(tensors)
    norm: Tensor = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(t.detach().double()) for t in found]))
    # Never up, and a hair below the bound: a rounding must not carry the norm over it.
    factor = torch.clamp(bound * (1 - 1e-6) / norm, max=1.0) if bound > 0 else torch.zeros_like(norm)
    factor = torch.where(norm <= bound, torch.ones_like(factor), factor)
    for tensor in found:
        tensor.mul_(factor.to(tensor.dtype))
    return norm


@torch.no_grad()
def add_noise(parameters: Iterable[Tensor], sd: float, generator: torch.Generator) -> None:
    """Add independent Gaussian noise of standard deviation ``sd`` in place; drawn on the CPU, so that every device gets the same."""
    for parameter in parameters:
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.add_((sd * noise).to(parameter.device, parameter.dtype))


def forget_statistics(model: nn.Module) -> bool:
    """Reset the running statistics of every BatchNorm that is not frozen, which have seen forgotten samples too; whether there were any."""
    frozen = {*frozen_norms(model)}
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats and m not in frozen]
    for norm in norms:
        norm.reset_running_stats()
    return bool(norms)


def statistics_beside_norms(model: nn.Module) -> list[str]:
    """Names of floating-point buffers that are no BatchNorm's running statistics: nobody knows what they were computed from."""
    known = {
        f"{name}.{buffer}" if name else buffer
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm)
        for buffer in ("running_mean", "running_var")
    }
    persistent = model.state_dict().keys()
    return [n for n, b in model.named_buffers() if n not in known and n in persistent and b.is_floating_point()]
