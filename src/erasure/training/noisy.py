"""Noisy descent: clipping, independent noise of every step, and what has to be cleaned of a network before its weights may be promised."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from erasure.errors import RequirementNotMet
from erasure.training.loop import frozen_norms

__all__ = [
    "add_noise",
    "buffers_of_training",
    "clip_together",
    "forget_statistics",
    "require_single_precision",
    "statistics_beside_norms",
]

_NORM_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


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


def require_single_precision(model: nn.Module, method: str) -> None:
    """Refuse weights of fewer bits: rounding moves them further than clipping and noise account for.

    Raises:
        RequirementNotMet: If there are any.
    """
    coarse = next((name for name, p in model.named_parameters() if p.dtype.itemsize < 4), None)
    if coarse is not None:
        raise RequirementNotMet(
            f"{method} promises nothing of weights in half precision, whose rounding its noise does not cover, and {coarse} is "
            f"{str(model.get_parameter(coarse).dtype).removeprefix('torch.')}; give model.float()"
        )


def forget_statistics(model: nn.Module) -> bool:
    """Reset the running statistics of every BatchNorm that is not frozen, which have seen forgotten samples too; whether there were any."""
    frozen = {*frozen_norms(model)}
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats and m not in frozen]
    for norm in norms:
        norm.reset_running_stats()
    return bool(norms)


def statistics_beside_norms(model: nn.Module) -> list[str]:
    """Names of buffers that are no BatchNorm's statistics: nobody knows what they were computed from.

    Buffers of any type, whether they are saved or not: counters of samples are whole numbers.
    """
    found = []
    for name, module in model.named_modules():
        known = _NORM_STATISTICS if isinstance(module, _BatchNorm) else ()
        own = [key for key, _ in module.named_buffers(recurse=False) if key not in known]
        found += [f"{name}.{key}" if name else key for key in own]
    return found


def buffers_of_training(model: nn.Module, untrained: nn.Module) -> list[str]:
    """Names of buffers, of any type, that are not as a network of the architecture has them before it is trained."""
    before = dict(untrained.named_buffers())
    return [name for name, buffer in model.named_buffers() if name not in before or not torch.equal(buffer, before[name])]
