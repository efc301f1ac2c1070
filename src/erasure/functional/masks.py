"""Masks over the weights of a model: which of them a method may change."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

import torch
from torch import Tensor

from erasure.errors import DataError

__all__ = ["top_fraction_mask"]


def top_fraction_mask(scores: Mapping[str, Tensor], fraction: float) -> dict[str, Tensor]:
    r"""The entries with the highest scores, counted over all tensors together.

    Answers: which fraction :math:`s` of all weights matters most?

    .. math:: m_i = 1 \;\text{for the}\; \lfloor s P \rfloor \;\text{largest of the}\; P \;\text{scores, otherwise}\; 0

    The number of ones is exact: ``fraction`` is read as the decimal it is written as, so 0.29 of 100 is 29, not 28.

    Args:
        scores: Name to scores of any shape and floating type, all on one device, finite.
        fraction: ``s`` in ``[0, 1]``.

    Returns:
        Name to a mask of the same shape, boolean. Among equal scores the earlier one wins: tensors in the order of ``scores``, entries
        in row-major order. Empty scores give empty masks.

    Raises:
        DataError: If ``fraction`` is outside ``[0, 1]`` or a score is not finite.

    Source:
        Fan et al., ICLR 2024, arXiv:2310.12508 (``generate_mask.py``, where ties depend on an unstable sort).

    Example:
        >>> top_fraction_mask({"w": torch.tensor([[3.0, 1.0], [2.0, 2.0]])}, 0.5)["w"]
        tensor([[ True, False],
                [ True, False]])
    """
    if not 0 <= fraction <= 1:
        raise DataError(f"the fraction of weights must be between 0 and 1, found {fraction}")
    if not scores:
        return {}
    flat = torch.cat([score.detach().flatten() for score in scores.values()])
    if not bool(torch.isfinite(flat).all()):
        raise DataError("a score that ranks the weights is not finite")
    chosen = math.floor(Fraction(repr(float(fraction))) * len(flat))
    mask = _highest(flat, chosen)
    parts = torch.split(mask, [score.numel() for score in scores.values()])
    return {name: part.view(score.shape) for (name, score), part in zip(scores.items(), parts, strict=True)}


def _highest(scores: Tensor, n: int) -> Tensor:
    """Which entries are the ``n`` highest; of equal ones the earlier."""
    if n == 0:
        return torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    # An eighth of the time of a sort; on other devices torch has no deterministic one.
    lowest = scores.kthvalue(len(scores) - n + 1).values if scores.is_cpu else scores.sort(descending=True).values[n - 1]
    mask = scores > lowest
    equal = (scores == lowest).nonzero().flatten()
    mask[equal[: n - int(mask.sum())]] = True
    return mask
