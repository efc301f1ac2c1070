"""When training has diverged: the one definition for every training loop, method and measure.

Numbers that run away end as infinite or not a number, but *when* depends on the order of sums and so on the processor: one instruction
set overflows where another still holds 1e+30. What is beyond a bound has diverged on all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

__all__ = ["OUTPUT_BOUND", "WEIGHT_BOUND", "has_diverged", "outputs_diverged", "weight_that_diverged", "weights_diverged"]

WEIGHT_BOUND = 1e10
"""Largest magnitude of a trained weight. Float32 has seven digits: no ordinary step changes a weight that is larger."""

OUTPUT_BOUND = 1e18
"""Largest magnitude of a loss or a logit. Its square is just below float32's largest number: beyond, variances and norms overflow."""


def has_diverged(values: Tensor, bound: float) -> Tensor:
    """Whether any number is not finite, or larger than ``bound`` in magnitude; a boolean scalar on the device.

    Args:
        values: Any shape, floating point or complex; none has diverged where there are none.
        bound: Largest magnitude of a number that has not.

    Example:
        >>> bool(has_diverged(torch.tensor([1.0, -3.0]), 2.0)), bool(has_diverged(torch.tensor([float("nan")]), 2.0))
        (True, True)
    """
    if not values.numel():
        return torch.zeros((), dtype=torch.bool, device=values.device)
    # The largest magnitude of numbers among which one is none is not a number, and not within any bound.
    largest: Tensor = torch.linalg.vector_norm(values.detach(), float("inf"))
    if largest.dtype == torch.float16:  # which has no 1e10: the bound would be infinite too
        largest = largest.float()
    return ~(largest <= bound)


def outputs_diverged(values: Tensor) -> bool:
    """Whether some losses or logits say that a training or unlearning has diverged.

    Args:
        values: Any shape.

    Example:
        >>> outputs_diverged(torch.tensor([1e17])), outputs_diverged(torch.tensor([0.0, float("inf")]))
        (False, True)
    """
    return bool(has_diverged(values, OUTPUT_BOUND))


def weights_diverged(weights: Sequence[Tensor], buffers: Sequence[Tensor] = ()) -> Tensor:
    """Whether a weight is not finite or beyond the bound, or a buffer not finite; a boolean scalar on the device.

    A buffer may hold large numbers: the variance of raw data is one.

    Args:
        weights: Trained weights.
        buffers: Buffers; those that hold no fractions are passed over.
    """
    found = [has_diverged(_local(value), WEIGHT_BOUND) for value in weights if _has_fractions(value)]
    found += [~torch.isfinite(_local(value)).all() for value in buffers if _has_fractions(value)]
    return torch.stack([each.to(found[0].device) for each in found]).any() if found else torch.zeros((), dtype=torch.bool)


def weight_that_diverged(weights: Mapping[str, Tensor], buffers: Mapping[str, Tensor] | None = None) -> str | None:
    """What is wrong with the first tensor that has diverged, as ``name is not finite``; None if all is well.

    Args:
        weights: Name to weight.
        buffers: Name to buffer.

    Example:
        >>> weight_that_diverged({"a": torch.ones(2), "b": torch.tensor([1e20])})
        'b holds values beyond 1e+10'
    """
    for name, value in weights.items():
        if _has_fractions(value) and bool(has_diverged(value, WEIGHT_BOUND)):
            return f"{name} holds values {_beyond(value, WEIGHT_BOUND)}"
    for name, value in (buffers or {}).items():
        if _has_fractions(value) and not bool(torch.isfinite(value).all()):
            return f"{name} holds values that are not finite"
    return None


def _beyond(values: Tensor, bound: float) -> str:
    return f"beyond {bound:g}" if bool(torch.isfinite(values).all()) else "that are not finite"


def _has_fractions(value: Tensor) -> bool:
    return value.is_floating_point() or value.is_complex()


def _local(value: Tensor) -> Tensor:
    """This process's share of a tensor that several hold."""
    share = getattr(value, "to_local", None)
    return value if share is None else share()
