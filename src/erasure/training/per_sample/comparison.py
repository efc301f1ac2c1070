"""Comparisons between a batch and single samples of it, up to the rounding of their type."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from erasure.training.per_sample.recording import Recording

__all__ = ["agreeing", "close", "same_layout", "unit_scale"]


def close(found: Tensor, expected: Tensor) -> bool:
    """Whether two tensors are the same up to rounding, relative to the largest entry expected."""
    if found.shape != expected.shape:
        return False
    if not found.is_floating_point():
        return bool(torch.equal(found, expected))
    difference = torch.nan_to_num((found - expected).detach().abs(), nan=0.0)
    limit = _tolerance(found.dtype) * torch.nan_to_num(expected.detach().abs()).max() if expected.numel() else 0.0
    return bool((difference <= limit).all())


def agreeing(pairs: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, bool]:
    """Whether found and expected gradients are the same up to rounding, by name.

    A gradient that is zero in exact arithmetic (a bias before a normalisation) is noise in both, so differences far below the largest
    gradient of all count as none.
    """
    largest = max(
        (float(torch.nan_to_num(expected).abs().max()) for _, expected in pairs.values() if expected.numel()), default=0.0
    )
    verdicts = {}
    for name, (found, expected) in pairs.items():
        eps = torch.finfo(expected.dtype).eps
        own = torch.nan_to_num(expected).abs().max() if expected.numel() else 0.0
        limit = _tolerance(expected.dtype) * own + eps**0.75 * largest
        verdicts[name] = bool((torch.nan_to_num(found - expected).abs() <= limit).all())
    return verdicts


def unit_scale(gradients: Iterable[Tensor]) -> float:
    """The power of two that brings the largest entry near 1, so that squares of a sure prediction's gradients do not vanish."""
    largest = max((float(torch.nan_to_num(each).abs().max()) for each in gradients if each.numel()), default=0.0)
    return 2.0 ** min(-math.frexp(largest)[1], 100) if 0.0 < largest < math.inf else 1.0


def same_layout(batch: Recording, alone: Recording, layer: int, i: int, n: int) -> bool:
    """Whether a layer's input lies batch first: sample ``i`` run alone gives row ``i`` of the batch.

    True for a layer that was not called exactly once, for the check of every batch excludes that.
    """
    together, single = batch.calls.get(layer, []), alone.calls.get(layer, [])
    if len(together) != 1 or len(single) != 1:
        return True
    a, b = together[0], single[0]
    if a is None or b is None:
        return False
    if a.inputs.shape[0] != n or a.output_shape[0] != n or b.inputs.shape[0] != 1 or b.output_shape[0] != 1:
        return False
    return close(b.inputs, a.inputs[i : i + 1])


def _tolerance(dtype: torch.dtype) -> float:
    return float(10 * torch.finfo(dtype).eps ** 0.5)
