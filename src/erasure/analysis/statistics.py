"""Intervals, paired tests and mean ranks: how sure a mean is, and which differences between methods are more than chance.

Training-seed and unlearning-seed variance are kept apart: values of one original are a cluster, and clusters are what is repeated.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erasure.errors import DataError
from erasure.intervals import student_quantile, student_tail

__all__ = [
    "Interval",
    "PairedTest",
    "RankTest",
    "VarianceComponents",
    "bootstrap_interval",
    "cluster_bootstrap",
    "critical_difference",
    "holm",
    "mean_ranks",
    "paired_test",
    "rank_test",
    "student_interval",
    "variance_components",
    "wilcoxon_p",
]

_Floats = NDArray[np.float64]
_MAX_EXACT = 60
"""Differences up to which the signed-rank distribution is counted out rather than approximated."""
_CHUNK = 4_000_000
"""Numbers that a bootstrap holds at a time."""
_MAX_KEPT = 4_000_000
"""Numbers of a bootstrap's draws that are kept for the next one."""
_RELATIVE_ZERO = 1e-12


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval.

    Args:
        mean: The mean.
        low: Lower end.
        high: Upper end.
        n: Independent values that it rests on.
        level: Coverage.
    """

    mean: float
    low: float
    high: float
    n: int
    level: float = 0.95


@dataclass(frozen=True)
class PairedTest:
    """What pairs of values say about the difference of two methods.

    Args:
        n: Pairs.
        mean: Mean difference, first minus second.
        low: Lower end of its Student-t interval; None for a single pair.
        high: Upper end; None for a single pair.
        t_p: Two-sided p-value of the paired t-test; None where it is undefined, for a single pair and for equal differences other than
            zero, whose spread cannot be estimated.
        wilcoxon_p: Two-sided exact p-value of Wilcoxon's signed-rank test. With ``n`` pairs it is never below ``2 ** (1 - n)``.
    """

    n: int
    mean: float
    low: float | None
    high: float | None
    t_p: float | None
    wilcoxon_p: float

    @property
    def p(self) -> float:
        """The t-test's p-value, or Wilcoxon's where the t-test is undefined."""
        return self.wilcoxon_p if self.t_p is None else self.t_p


@dataclass(frozen=True)
class RankTest:
    """Mean ranks of several methods over many blocks.

    Args:
        ranks: Mean rank of each method; 1 is best, ties share their mean.
        n: Blocks.
        statistic: Friedman's chi-squared, corrected for ties.
        p: Its p-value: the chance of ranks as different as these, if all methods were alike.
        critical_difference: Mean ranks closer than this are not told apart by Nemenyi's test.
        level: Level of the test, such as 0.95.
    """

    ranks: tuple[float, ...]
    n: int
    statistic: float
    p: float
    critical_difference: float
    level: float = 0.95

    def groups(self) -> list[tuple[int, ...]]:
        """Largest sets of methods that are not told apart, best first, as positions; sets of one are left out.

        If Friedman's test sees no difference at all, nothing is told apart.
        """
        order = sorted(range(len(self.ranks)), key=lambda i: (self.ranks[i], i))
        if self.p > 1 - self.level:
            return [tuple(order)] if len(order) > 1 else []
        found: list[tuple[int, ...]] = []
        reached = -1
        for start, first in enumerate(order):
            end = start
            while end + 1 < len(order) and self.ranks[order[end + 1]] - self.ranks[first] < self.critical_difference:
                end += 1
            if end > start and end > reached:
                found.append(tuple(order[start : end + 1]))
            reached = max(reached, end)
        return found


@dataclass(frozen=True)
class VarianceComponents:
    """Where the spread of values comes from.

    Args:
        mean: Mean of the clusters' means.
        between: Variance that clusters (training seeds) add; at least 0.
        within: Variance inside a cluster (unlearning seeds); None where no cluster has two values.
        n_clusters: Clusters.
        n: Values.
    """

    mean: float
    between: float | None
    within: float | None
    n_clusters: int
    n: int


def student_interval(values: Sequence[float], *, level: float = 0.95) -> Interval | None:
    """Student-t interval of the mean of independent values; None for fewer than two.

    Raises:
        DataError: If a value is not finite.

    Example:
        >>> found = student_interval([1.0, 2.0, 3.0])
        >>> round(found.low, 3), round(found.high, 3)
        (-0.484, 4.484)
    """
    known = _finite(values)
    n = len(known)
    if n < 2:
        return None
    mean = float(known.mean())
    half = student_quantile(n - 1, (1 + level) / 2) * float(known.std(ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n, level)


def bootstrap_interval(
    values: Sequence[float], *, level: float = 0.95, n_resamples: int = 10_000, seed: int = 0
) -> Interval | None:
    """Percentile bootstrap interval of the mean of independent values; None for fewer than two.

    It assumes no shape of the distribution, but is too narrow for fewer than about ten values; prefer :func:`student_interval` there.

    Raises:
        DataError: If a value is not finite.
    """
    known = _finite(values)
    return cluster_bootstrap({i: (float(v),) for i, v in enumerate(known)}, level=level, n_resamples=n_resamples, seed=seed)


def cluster_bootstrap(
    clusters: Mapping[Any, Sequence[float]], *, level: float = 0.95, n_resamples: int = 10_000, seed: int = 0
) -> Interval | None:
    """Bootstrap interval of the mean over clusters: clusters are drawn with replacement, then values inside each that was drawn.

    With the training seed as cluster and unlearning seeds inside, repetitions of one original do not pass for independent ones: ten
    unlearning seeds of one original are one cluster, and no interval comes of them.

    Like every percentile bootstrap it is too narrow for few clusters: of single values with a normal distribution, a 95 % interval holds
    the mean in 50 % of cases for two clusters, 75 % for three, 83 % for five and 91 % for ten, where :func:`student_interval` keeps 95 %.

    Args:
        clusters: Values of each cluster; every cluster counts the same, however many values it has.
        level: Coverage, in (0, 1).
        n_resamples: Bootstrap samples.
        seed: Seed of the draws.

    Returns:
        The interval, with the number of clusters as ``n``; None for fewer than two.

    Raises:
        DataError: If a cluster is empty or a value is not finite.

    Source:
        Davison & Hinkley, Bootstrap Methods and their Application (1997), section 3.8.
    """
    each = [_finite(values) for values in clusters.values()]
    if any(len(values) == 0 for values in each):
        raise DataError("a cluster has no values; leave it out")
    k = len(each)
    if k < 2:
        return None
    sizes = tuple(map(len, each))
    draws = _kept_shares if n_resamples * sum(sizes) <= _MAX_KEPT else _shares
    flat = np.concatenate(each)
    whole = len(sizes) * math.lcm(*sizes)
    means = [shares @ flat / whole for shares in draws(sizes, n_resamples, seed)]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(np.mean([values.mean() for values in each])), float(low), float(high), k, level)


def _shares(sizes: tuple[int, ...], n_resamples: int, seed: int) -> Iterator[_Floats]:
    """How much every value counts in each resample, in blocks of resamples; values are those of all clusters, one after another.

    Shares of the mean times the number of clusters and the least common multiple of their sizes, so that they are whole numbers.
    """
    generator = np.random.default_rng(seed)
    whole = float(math.lcm(*sizes))
    k, most, total = len(sizes), max(sizes), sum(sizes)
    lengths = np.array(sizes)
    starts = np.cumsum(lengths) - lengths
    at_once = max(1, _CHUNK // (k * most))
    for start in range(0, n_resamples, at_once):
        n = min(at_once, n_resamples - start)
        drawn = generator.integers(k, size=(n, k))
        width = lengths[drawn][:, :, None]
        inner = (generator.random((n, k, most)) * width).astype(np.int64) if most > 1 else np.zeros((n, k, 1), dtype=np.int64)
        # Only as many draws count as the cluster has values.
        weights = (np.arange(most) < width) * (whole / width)
        places = np.arange(n)[:, None, None] * total + starts[drawn][:, :, None] + inner
        counted = np.bincount(places.ravel(), weights.ravel(), minlength=n * total)
        yield counted.astype(np.float64, copy=False).reshape(n, total)


@functools.lru_cache(maxsize=4)
def _kept_shares(sizes: tuple[int, ...], n_resamples: int, seed: int) -> tuple[_Floats, ...]:
    """The same, kept: a report asks for intervals of thousands of cells with the same numbers of repetitions."""
    return tuple(_shares(sizes, n_resamples, seed))


def variance_components(clusters: Mapping[Any, Sequence[float]]) -> VarianceComponents:
    r"""Variance between and within clusters, by the analysis of variance of one random effect.

    .. math:: \sigma^2_w = \mathrm{MS}_w, \qquad \sigma^2_b = \max\Bigl(0, \frac{\mathrm{MS}_b - \mathrm{MS}_w}{n_0}\Bigr),
        \qquad n_0 = \frac{1}{k-1}\Bigl(n - \frac{\sum_i n_i^2}{n}\Bigr)

    Args:
        clusters: Values of each cluster, such as those of one training seed.

    Returns:
        The components. ``between`` is None for a single cluster, and holds both components together where ``within`` is None.

    Raises:
        DataError: If there is no value, a cluster is empty or a value is not finite.

    Source:
        Searle, Casella & McCulloch, Variance Components (1992), section 3.6.
    """
    each = [_finite(values) for values in clusters.values()]
    if not each or any(len(values) == 0 for values in each):
        raise DataError("variance components need clusters with at least one value each")
    k, n = len(each), sum(len(values) for values in each)
    means = np.array([values.mean() for values in each])
    within = float(sum(((values - values.mean()) ** 2).sum() for values in each)) / (n - k) if n > k else None
    between = None
    if k > 1:
        sizes = np.array([len(values) for values in each])
        grand = float((means * sizes).sum()) / n
        square = float((sizes * (means - grand) ** 2).sum()) / (k - 1)
        typical = (n - float((sizes**2).sum()) / n) / (k - 1)
        between = max(0.0, (square - (within or 0.0)) / typical)
    return VarianceComponents(float(means.mean()), between, within, k, n)


def paired_test(first: Sequence[float], second: Sequence[float], *, level: float = 0.95) -> PairedTest:
    """Paired t-test and Wilcoxon's signed-rank test of two methods measured on the same repetitions.

    Differences that are smaller than rounding are zero.

    Args:
        first: Value of each repetition, such as a training seed.
        second: The other method's, in the same order.
        level: Coverage of the interval of the mean difference.

    Raises:
        DataError: If the lengths differ, there is no pair, or a value is not finite.

    Example:
        >>> found = paired_test([0.9, 0.8, 0.95], [0.7, 0.65, 0.7])
        >>> round(found.mean, 3), round(found.t_p, 4), found.wilcoxon_p
        (0.2, 0.0202, 0.25)
    """
    a, b = _finite(first), _finite(second)
    if len(a) != len(b) or not len(a):
        raise DataError(f"a paired test needs as many values of one method as of the other, found {len(a)} and {len(b)}")
    differences = a - b
    scale = float(np.maximum(np.abs(a), np.abs(b)).max())
    differences[np.abs(differences) <= _RELATIVE_ZERO * scale] = 0.0
    n, mean = len(differences), float(differences.mean())
    if n < 2:
        return PairedTest(n, mean, None, None, None, wilcoxon_p(differences.tolist()))
    if not differences.any():
        return PairedTest(n, 0.0, 0.0, 0.0, 1.0, 1.0)
    error = float(differences.std(ddof=1)) / math.sqrt(n)
    if error <= _RELATIVE_ZERO * max(scale, abs(mean)):
        return PairedTest(n, mean, mean, mean, None, wilcoxon_p(differences.tolist()))
    half = student_quantile(n - 1, (1 + level) / 2) * error
    t_p = float(student_tail(n - 1, np.asarray(mean / error)))
    return PairedTest(n, mean, mean - half, mean + half, t_p, wilcoxon_p(differences.tolist()))


def wilcoxon_p(differences: Sequence[float]) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test of differences around zero.

    Zeros are left out, equal magnitudes share their mean rank. Up to 60 differences all signs are counted out, ties included; beyond, the
    normal approximation with its corrections for ties and continuity is taken. No difference other than zero gives 1.

    Example:
        >>> wilcoxon_p([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        0.03125
    """
    from scipy.special import ndtr  # scipy.stats takes a second to import, for the same digits

    known = _finite(differences)
    known = known[known != 0]
    n = len(known)
    if n == 0:
        return 1.0
    ranks = mean_ranks(np.abs(known))
    positive = float(ranks[known > 0].sum())
    statistic = min(positive, n * (n + 1) / 2 - positive)
    if n <= _MAX_EXACT:
        below = _signed_ranks(tuple(np.sort(np.rint(2 * ranks)).astype(np.int64).tolist()))  # mean ranks are halves
        return min(1.0, 2 * float(below[round(2 * statistic)]))
    _, ties = np.unique(ranks, return_counts=True)
    variance = n * (n + 1) * (2 * n + 1) / 24 - float((ties**3 - ties).sum()) / 48
    return min(1.0, float(2 * ndtr((statistic + 0.5 - n * (n + 1) / 4) / math.sqrt(variance))))


@functools.lru_cache(maxsize=64)
def _signed_ranks(doubled: tuple[int, ...]) -> _Floats:
    """Chance that the positive ranks, doubled, sum up to at most 0, 1, 2, … if every sign is a coin's."""
    counts = np.zeros(sum(doubled) + 1)
    counts[0] = 1.0
    for rank in doubled:
        shifted = np.zeros_like(counts)
        shifted[rank:] = counts[:-rank]
        counts = (counts + shifted) / 2
    return np.cumsum(counts)


def mean_ranks(values: _Floats) -> _Floats:
    """Ranks of numbers, the smallest has 1; equal ones share their mean."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    means: _Floats = np.cumsum(counts) - (counts - 1) / 2
    return means[places]


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values of one family after Holm's correction, in their order: compare them with the level itself.

    Raises:
        DataError: If a p-value is not in [0, 1].

    Source:
        Holm, Scandinavian Journal of Statistics 6 (1979).

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    if any(not 0 <= p <= 1 for p in p_values):
        raise DataError("p-values are between 0 and 1")
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for place, position in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[position]))
        adjusted[position] = largest
    return adjusted


def critical_difference(n_methods: int, n_blocks: int, *, level: float = 0.95) -> float:
    r"""How far apart two mean ranks must be for Nemenyi's test.

    .. math:: \mathrm{CD} = \frac{q_\alpha}{\sqrt 2} \sqrt{\frac{k (k + 1)}{6 N}}

    Args:
        n_methods: ``k``, at least 2.
        n_blocks: ``N``, at least 1.
        level: One minus ``alpha``.

    Raises:
        DataError: If there are too few methods or blocks.

    Source:
        Demšar, JMLR 7 (2006); tested against its table 5.
    """
    if n_methods < 2 or n_blocks < 1:
        raise DataError(f"mean ranks need two methods and a block, found {n_methods} and {n_blocks}")
    return _studentized_range(level, n_methods) / math.sqrt(2) * math.sqrt(n_methods * (n_methods + 1) / (6 * n_blocks))


@functools.cache
def _studentized_range(level: float, n_methods: int) -> float:
    """Quantile of the range of a number of standard normal values, found by halving; the largest of them is integrated out."""
    from scipy.special import ndtr

    largest = np.linspace(-9.0, 12.0, 1_001)
    weights = np.exp(-(largest**2) / 2) * ((largest[1] - largest[0]) * n_methods / math.sqrt(2 * math.pi))
    low, high = 0.0, 20.0
    while (middle := (low + high) / 2) not in {low, high}:
        below = float((weights * (ndtr(largest) - ndtr(largest - middle)) ** (n_methods - 1)).sum())
        low, high = (middle, high) if below < level else (low, middle)
    return high


def rank_test(scores: Sequence[Sequence[float]], *, level: float = 0.95) -> RankTest:
    """Mean ranks, Friedman's test and Nemenyi's critical difference.

    Args:
        scores: One line for each block (a data set, a repetition), one number for each method, lower is better; infinity is worst.
        level: Level of both tests.

    Raises:
        DataError: If lines differ in length or hold NaN, or there are fewer than two methods.
    """
    from scipy.special import chdtrc

    widths = {len(line) for line in scores}
    if len(widths) != 1 or min(widths) < 2:
        raise DataError("mean ranks need blocks that have the same two or more methods")
    table = np.array(scores, dtype=np.float64)
    if np.isnan(table).any():
        raise DataError("mean ranks need a value of every method in every block; write infinity for a failure")
    n, k = table.shape
    ranks = np.stack([mean_ranks(line) for line in table])
    ties = sum(float((np.unique(line, return_counts=True)[1] ** 3).sum()) - k for line in ranks)
    correction = 1 - ties / (n * k * (k * k - 1))
    means = ranks.mean(axis=0)
    statistic, p = 0.0, 1.0
    if correction > _RELATIVE_ZERO:
        raw = 12 * n / (k * (k + 1)) * float(((means - (k + 1) / 2) ** 2).sum())
        statistic = raw / correction
        p = float(chdtrc(k - 1, statistic))
    return RankTest(tuple(map(float, means)), n, statistic, p, critical_difference(k, n, level=level), level)


def _finite(values: Sequence[float] | _Floats) -> _Floats:
    known = np.asarray(values, dtype=np.float64)
    if known.ndim != 1 or not np.isfinite(known).all():
        raise DataError("statistics need a list of finite numbers; leave failed values out")
    return known
