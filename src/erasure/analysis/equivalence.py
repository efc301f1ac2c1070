"""Equivalence: how far from retraining a method can still be, over originals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from erasure.intervals import student_quantile

__all__ = ["CERTAINTY", "Limits", "chance_within", "limits", "originals_within", "telling_rate"]

CERTAINTY = 0.95
"""Level of each limit that a method is called indistinguishable by."""
_STEPS = 400
_SHARED_STEPS = 40
_MIN_ORIGINALS, _MAX_ORIGINALS = 3, 100


@dataclass(frozen=True)
class Limits:
    """A mean over originals with both its one-sided limits.

    Args:
        mean: The mean.
        low: Lower one-sided limit.
        high: Upper one-sided limit.
        n: Originals.
        level: Level of each limit.
        spread: Standard deviation of one original.
        common: Standard error that all originals have in common, of golds that they share.
        degrees: Degrees of freedom of the common one.
    """

    mean: float
    low: float
    high: float
    n: int
    level: float = CERTAINTY
    spread: float = 0.0
    common: float = 0.0
    degrees: int = 0

    def half_width(self, n: int) -> float:
        """How far each limit would be from the mean with ``n`` originals of the same spread."""
        return _half_width(n, self.spread, self.common, self.degrees, self.level)

    def is_within(self, margin: float) -> bool:
        """Whether both limits are within ``margin`` of 0: two one-sided tests."""
        return -margin < self.low and self.high < margin

    def is_above(self, least: float) -> bool:
        """Whether the lower limit is above ``least``."""
        return self.low > least


def limits(values: Sequence[float], *, level: float = CERTAINTY, common: float = 0.0, degrees: int = 0) -> Limits | None:
    """Student-t limits of a mean, each one-sided at ``level``; None for fewer than two values or ones that are not finite.

    Differences of several originals from the mean of golds that they share are all too large or too small by what that mean is: their
    own spread does not show it.

    Args:
        values: One of each original.
        level: Of each limit.
        common: Standard error that all values have in common.
        degrees: Degrees of freedom by which it was estimated, at least 1 where it is not 0.

    Source:
        Welch, Biometrika 34 (1947), for errors of two kinds; Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 15 (1987), for
        two one-sided tests; Berger, Technometrics 24 (1982), for why several claims that must all hold need no correction.

    Example:
        >>> found = limits([0.0, 0.1, 0.2])
        >>> round(found.low, 3), round(found.high, 3)
        (-0.069, 0.269)
    """
    n = len(values)
    if n < 2 or not all(math.isfinite(value) for value in (*values, common)):
        return None
    mean = math.fsum(values) / n
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = _half_width(n, spread, common, degrees, level)
    return Limits(mean, mean - half, mean + half, n, level, spread, common, degrees)


def _half_width(n: int, spread: float, common: float, degrees: int, level: float) -> float:
    own = spread**2 / n
    total = own + common**2
    if not common or not total:
        return student_quantile(n - 1, level) * math.sqrt(own)
    return student_quantile(1 / ((own / total) ** 2 / (n - 1) + (common**2 / total) ** 2 / degrees), level) * math.sqrt(total)


def chance_within(
    spread: float, n: int, margin: float, *, n_golds: int, is_shared: bool = False, level: float = CERTAINTY
) -> float:
    """How often both limits of a retrained model are within a margin, if golds are normally distributed.

    Args:
        spread: Standard deviation of a gold.
        n: Originals, at least 2.
        margin: The margin.
        n_golds: Golds that each original has beside it, at least 2 where they are shared.
        is_shared: Whether all originals have the same golds.
        level: Of each limit.

    Example:
        >>> [round(chance_within(spread, 5, 0.2, n_golds=4), 2) for spread in (0.08, 0.13, 0.28)]
        [0.98, 0.64, 0.06]
        >>> [round(chance_within(0.13, n, 0.2, n_golds=4, is_shared=True), 1) for n in (5, 20)]
        [0.3, 0.6]
    """
    import numpy as np
    from scipy.special import gammaincinv, ndtr

    if not spread:
        return 1.0

    def estimated(variance: float, degrees: int, steps: int) -> Any:
        levels = (np.arange(steps) + 0.5) / steps
        return variance * 2 * gammaincinv(degrees / 2, levels) / degrees

    if is_shared:
        deviation = spread * math.sqrt(1 / n + 1 / n_golds)
        own = estimated(spread**2 / n, n - 1, _SHARED_STEPS)[:, None]
        common = estimated(spread**2 / n_golds, n_golds - 1, _SHARED_STEPS)
        degrees = (own + common) ** 2 / (own**2 / (n - 1) + common**2 / (n_golds - 1))
        distinct, which = np.unique(np.round(degrees, 1), return_inverse=True)
        quantiles = np.array([student_quantile(each, level) for each in distinct.tolist()])
        half = quantiles[which.reshape(degrees.shape)] * np.sqrt(own + common)
    else:
        deviation = spread * math.sqrt((1 + 1 / n_golds) / n)
        half = student_quantile(n - 1, level) * np.sqrt(estimated(deviation**2, n - 1, _STEPS))
    room = np.maximum(margin - half, 0)
    return float((2 * ndtr(room / deviation) - 1).mean())


def originals_within(spread: float, margin: float, *, n_golds: int, is_shared: bool = False, chance: float = 0.8) -> int | None:
    """The fewest originals whose limits are within a margin as often as asked; None if a hundred are too few.

    Example:
        >>> originals_within(0.28, 0.2, n_golds=4, chance=0.6)
        17
    """
    numbers = range(_MIN_ORIGINALS, _MAX_ORIGINALS + 1)
    return next((n for n in numbers if chance_within(spread, n, margin, n_golds=n_golds, is_shared=is_shared) >= chance), None)


def telling_rate(difference: float) -> float:
    r"""How often a value tells an unlearned model from a retrained one, shown one of each.

    .. math:: \Phi\bigl(|d| / \sqrt 2\bigr)

    Args:
        difference: d, the difference of the means in standard deviations of a gold.

    Returns:
        In [0.5, 1].

    Source:
        McGraw & Wong, Psychological Bulletin 111 (1992), the common language effect size.

    Example:
        >>> round(telling_rate(2.0), 3)
        0.921
    """
    return 0.5 * (1 + math.erf(abs(difference) / 2))
