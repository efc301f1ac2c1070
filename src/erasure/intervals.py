"""Confidence intervals of a share and of a mean, and Student's distribution, which they rest on."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from erasure.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["clopper_pearson", "student_quantile", "student_t", "student_tail"]


def clopper_pearson(hits: int, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a share.

    Args:
        hits: Number of successes, between 0 and ``n``.
        n: Number of trials, at least 1.
        level: Coverage, in (0, 1).

    Returns:
        Lower and upper end, in [0, 1]; they hold ``hits / n``, and cover the true share at least as often as ``level`` says.

    Raises:
        DataError: If ``hits`` is not between 0 and ``n``, or ``n`` is 0.

    Source:
        Clopper & Pearson, Biometrika 26 (1934); tested against ``scipy.stats.binomtest``.

    Example:
        >>> low, high = clopper_pearson(0, 10)
        >>> low, round(high, 4)
        (0.0, 0.3085)
    """
    from scipy.special import betaincinv  # scipy.stats takes a second to import, for the same digits

    if n < 1 or not 0 <= hits <= n:
        raise DataError(f"a share needs hits between 0 and the number of trials, at least one; found {hits} of {n}")
    tail = (1 - level) / 2
    low = float(betaincinv(hits, n - hits + 1, tail)) if hits else 0.0
    high = float(betaincinv(hits + 1, n - hits, 1 - tail)) if hits < n else 1.0
    return low, high


def student_t(values: Sequence[float], *, level: float = 0.95) -> tuple[float, float] | None:
    """Interval of the mean of a few independent values; None for fewer than two.

    Example:
        >>> low, high = student_t([1.0, 2.0, 3.0])
        >>> round(low, 3), round(high, 3)
        (-0.484, 4.484)
        >>> student_t([1.0]) is None
        True
    """
    n = len(values)
    if n < 2:
        return None
    mean = math.fsum(values) / n
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = student_quantile(n - 1, (1 + level) / 2) * deviation / math.sqrt(n)
    return mean - half, mean + half


_USUAL = 0.975
_QUANTILES: tuple[float, ...] = (
    12.706204736174694, 4.302652729749462, 3.1824463052837078, 2.7764451051977934, 2.5705818356363146, 2.4469118511449786,
    2.364624251592784, 2.306004135204166, 2.262157162798205, 2.228138851986274, 2.200985160091639, 2.1788128296672284,
    2.1603686564627913, 2.144786687917804, 2.131449545559776, 2.1199052992212546, 2.1098155778333156, 2.1009220402410382,
    2.0930240544083087, 2.085963447265864, 2.0796138447276795, 2.0738730679040254, 2.0686576104190486, 2.0638985616280245,
    2.0595385527532972, 2.0555294386428735, 2.0518305164802846, 2.0484071417952454, 2.045229642132703, 2.0422724563012378,
)  # fmt: skip
"""Quantiles of 95 % intervals for 1 to 30 degrees of freedom, as ``scipy.special.stdtrit`` gives them: a report needs no other, and
importing that module would be a twentieth of what it costs."""


@functools.lru_cache(maxsize=1024)
def student_quantile(degrees: float, p: float) -> float:
    """The value that a Student variable is below with probability ``p``.

    Args:
        degrees: Degrees of freedom, above 0.
        p: In (0, 1).
    """
    if p == _USUAL and degrees in range(1, len(_QUANTILES) + 1):
        return _QUANTILES[int(degrees) - 1]
    from scipy.special import stdtrit

    return float(stdtrit(degrees, p))


def student_tail(degrees: float, statistic: NDArray[Any]) -> NDArray[Any]:
    """Two-sided p-value of each statistic, which of sign does not matter.

    Args:
        degrees: Degrees of freedom, above 0.
        statistic: Of any shape.
    """
    import numpy as np
    from scipy.special import stdtr

    return np.asarray(2 * stdtr(degrees, -np.abs(statistic)))
