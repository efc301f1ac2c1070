"""Which method to recommend: the nearest to retraining over originals, and which others may be as near."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from erasure.errors import DataError

__all__ = ["MethodChoice", "choose"]

_Floats = NDArray[np.float64]
_LEVEL = 0.05
_MIN_ORIGINALS = 3
_DRAWS = 2000
_CHUNK = 4_000_000
_SIMULATED = 40_000
_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class MethodChoice:
    """The nearest method and those that may be as near.

    Args:
        best: Its index.
        ties: Indices of all methods whose distance is not shown to be larger, the best one included, nearest first.
        farther: Of each method, p-value of its not being the nearest, whichever of the others is; 1 for the best one.
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

    A method is a tie if it is not shown that another one is nearer. Its statistic is the largest of its paired t statistics against all
    others,

    .. math:: T_m = \max_j \frac{\bar x_m - \bar x_j}{s_{mj} / \sqrt n}

    and its p-value the share of equally near methods, independent and normal, that have one as large. Which of the others is nearest need
    not be known, and that the best one was chosen by these values is allowed for: the method that truly is nearest is missing among the
    ties in at most about 5 % of cases, however many there are (``benchmarks/recommendation.py --simulate``).
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
        Hsu, The Annals of Statistics 9 (1981), for comparisons with the best; Zrnic & Fithian, 2024, arXiv:2411.18569, on what choosing
        the winner by its own values hides.
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
    """Of each line, the p-value of another one's mean being below its own."""
    equal = _equally_near(*table.shape)
    return np.asarray(1 - np.searchsorted(equal, _farthest(table) - _TOLERANCE) / len(equal))


@functools.lru_cache(maxsize=32)
def _equally_near(n_methods: int, n: int) -> _Floats:
    """Statistics of methods that do not differ, ascending."""
    generator = np.random.default_rng(0)
    draws, at_once = -(-_SIMULATED // n_methods), max(1, _CHUNK // n_methods**2)
    sizes = [min(at_once, draws - start) for start in range(0, draws, at_once)]
    return np.sort(np.concatenate([_farthest(generator.standard_normal((size, n_methods, n))) for size in sizes], axis=None))


def _farthest(tables: _Floats) -> _Floats:
    """Of each line of ``(..., methods, originals)``, the largest t statistic of its mean's being above that of another; at least 0."""
    n = tables.shape[-1]
    means = tables.mean(axis=-1)
    residuals = tables - means[..., None]
    covariance = residuals @ residuals.swapaxes(-1, -2) / (n * (n - 1))
    own = np.einsum("...ii->...i", covariance)
    sums = own[..., :, None] + own[..., None, :]
    squares = sums - 2 * covariance
    apart = means[..., :, None] - means[..., None, :]
    varies = squares > _TOLERANCE * sums
    found = np.where(apart > _TOLERANCE, np.inf, 0.0)
    np.divide(apart, np.sqrt(np.where(varies, squares, 1)), out=found, where=varies)
    return np.asarray(found.max(axis=-1))


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
