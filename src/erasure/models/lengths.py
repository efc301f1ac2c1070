"""Batches of samples of unlike lengths, as parts of like ones: what is padding in the one costs nothing in the other."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["parts_by_length"]

_WORTH = 0.1
"""Two parts have to save this share of a batch's positions: each takes calls of its own."""


def parts_by_length(lengths: Sequence[int]) -> tuple[list[int], list[int]] | None:
    """Rows of the shorter and of the longer samples of a batch, each from short to long, cut so that the fewest positions are padding.

    Args:
        lengths: Tokens of each sample.

    Returns:
        None where one part is as good.

    Example:
        >>> parts_by_length([9, 3, 8, 4])
        ([1, 3], [2, 0])
        >>> parts_by_length([9, 8, 9, 9])
    """
    rows = sorted(range(len(lengths)), key=lambda row: lengths[row])
    if not rows:
        return None
    longest, n = lengths[rows[-1]], len(rows)
    cost, cut = min((k * lengths[rows[k - 1]] + (n - k) * longest, k) for k in range(1, n + 1))
    return (rows[:cut], rows[cut:]) if cost <= (1 - _WORTH) * n * longest and cut < n else None
