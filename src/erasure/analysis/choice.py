"""Which method to recommend: the nearest to retraining over originals, and which others may be as near."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from erasure.errors import DataError
from erasure.intervals import student_tail

__all__ = ["MethodChoice", "choose"]

_Floats = NDArray[np.float64]
_LEVEL = 0.05
_MIN_ORIGINALS = 3
_DRAWS = 2000
_CHUNK = 4_000_000


@dataclass(frozen=True, eq=False)
class MethodChoice:
    """The nearest method and those that may be as near.

    Args:
        best: Its index.
        ties: Indices of all methods whose distance is not shown to be larger, the best one included, nearest first.
        farther: Of each method, one-sided p-value of its being farther than the best of the others, cross-fitted over originals; 1 for the
            best one.
        chances: Of each method, how likely it is the nearest over all originals that might have been drawn.
        distance: The best one's distance, the geometric mean over originals.
        cross_fitted: The same where it is chosen, for each original, by the others: what the choice flatters is taken out.
    """

    best: int
    ties: tuple[int, ...]
    farther: tuple[float, ...]
    chances: tuple[float, ...]
    distance: float
    cross_fitted: float


def choose(log_distances: _Floats, *, level: float = _LEVEL, seed: int = 0, draws: int = _DRAWS) -> MethodChoice | None:
    r"""The method with the smallest mean log distance from retraining, its ties and the chances of all.

    A method is a tie if it is not shown to be farther than the best one, by a one-sided t-test of the difference of their log distances,
    paired over originals. By the same values by which it was chosen the best one looks nearer than it is. The test is therefore
    cross-fitted: at each original the method is compared with the one of the others that is best on all other originals,

    .. math:: d_o = x_{m,o} - x_{b(m,o),o}, \qquad b(m,o) = \arg\min_{j \ne m} \sum_{o' \ne o} x_{j,o'}

    The mean of these is at most 0 for the method that truly is nearest, however many others there are to choose from. They depend on one
    another a little: of equal methods the nearest is missing among the ties of five originals in 9 % of cases, without cross-fitting in
    19 % (``benchmarks/recommendation.py --simulate``).
    Chances come from ``draws`` draws of all means together,

    .. math:: \bar x + \frac{R g}{\sqrt{n (n - 1)}} \sqrt{\frac{n - 1}{\chi^2_{n-1}}}

    with residuals R and normal g: below ten originals a bootstrap contradicts itself between sets of seeds far more often.

    Args:
        log_distances: ``(methods, originals)``, finite.
        level: Of the test of each method.
        seed: Of the draws.
        draws: Their number.

    Returns:
        None for fewer than three originals, which may name nobody, or without methods.

    Raises:
        DataError: If a distance is not finite.

    Source:
        Zrnic & Fithian, 2024, arXiv:2411.18569, on what choosing the winner by its own values hides.
    """
    table = np.asarray(log_distances, dtype=np.float64)
    if not np.isfinite(table).all():
        raise DataError("log distances must be finite; leave out methods that have none")
    n_methods, n = table.shape
    if n < _MIN_ORIGINALS or not n_methods:
        return None
    means = table.mean(axis=1)
    best = int(means.argmin())
    farther = _farther(table)
    farther[best] = 1.0
    ties = sorted(np.flatnonzero(farther > level).tolist(), key=lambda method: (means[method], method))
    others = (table.sum(axis=1, keepdims=True) - table) / (n - 1)
    fitted = np.take_along_axis(table, others.argmin(axis=0)[None, :], axis=0)
    return MethodChoice(
        best,
        (best, *(method for method in ties if method != best)),
        tuple(farther.tolist()),
        tuple(_chances(table, means, seed, draws).tolist()),
        float(np.exp(means[best])),
        float(np.exp(fitted.mean())),
    )


def _farther(table: _Floats) -> _Floats:
    """Of each line, the p-value of its mean being above that of the line that is best on the other originals."""
    n_methods, n = table.shape
    if n_methods < 2:
        return np.ones(n_methods)
    first, second = np.argsort(table.sum(axis=1, keepdims=True) - table, axis=0, kind="stable")[:2]
    against = np.where(first == np.arange(n_methods)[:, None], second, first)
    apart = table - np.take_along_axis(table, against, axis=0)
    mean, error = apart.mean(axis=1), apart.std(axis=1, ddof=1) / np.sqrt(n)
    statistic = np.divide(mean, error, out=np.full(n_methods, np.inf), where=error > 0)
    return np.where(mean > 0, student_tail(n - 1, statistic) / 2, 1.0)


def _chances(table: _Floats, means: _Floats, seed: int, draws: int) -> _Floats:
    n_methods, n = table.shape
    generator = np.random.default_rng(seed)
    residuals = (table - means[:, None]) / np.sqrt(n * (n - 1))
    wins = np.zeros(n_methods)
    at_once = max(1, _CHUNK // n_methods)
    for start in range(0, draws, at_once):
        size = min(at_once, draws - start)
        scale = np.sqrt((n - 1) / generator.chisquare(n - 1, size))
        drawn = means[:, None] + residuals @ generator.standard_normal((n, size)) * scale
        wins += np.bincount(drawn.argmin(axis=0), minlength=n_methods)
    return wins / draws
