r"""Is a method retraining? An exact test over all values at once, by relabelling models; and a t-test where there are too few labellings.

Under the null hypothesis the models of a block are exchangeable: which of them are called unlearned is then as good as drawn by lot.
Nothing is assumed of distributions, nor of how values depend on one another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from erasure.analysis.labellings import Design, labellings
from erasure.errors import DataError
from erasure.intervals import student_tail

__all__ = ["Relabelled", "differences", "gold_spread", "relabel", "t_test", "usable_by_t"]

_Floats = NDArray[np.float64]
_TOLERANCE = 1e-9
"""Statistics that differ by less are equal."""
_RELATIVE_ZERO = 1e-12
_SCATTER_WEIGHT = 1.05
"""The statistic of scatter is divided by it: differences in location are what is looked for first."""


@dataclass(frozen=True, eq=False)
class Relabelled:
    """What the relabelling test says of every value.

    Args:
        adjusted: P-value of each value, adjusted for all of them; NaN for values that do not vary.
        location: Standardised difference of means of each value, as observed.
        scatter: Standardised excess of spread over golds, as observed; ``-inf`` where it is not tested.
        location_adjusted: P-values as ``adjusted``, of differences in location alone; NaN where no value scatters more than it is shifted.
        maxima: Largest statistic of any value under each labelling; the first is the observed one.
    """

    adjusted: _Floats
    location: _Floats
    scatter: _Floats
    location_adjusted: _Floats
    maxima: _Floats

    @property
    def p(self) -> float:
        """The method's p-value: the smallest adjusted one; 1 if no value varies."""
        known = self.adjusted[~np.isnan(self.adjusted)]
        return float(known.min()) if len(known) else 1.0

    def is_scattered(self, level: float) -> NDArray[np.bool_]:
        """Whether it is the spread of a value, and not its mean, that is shown to be unlike golds' at a level.

        Models that differ in the mean have a larger spread about the mean of the block as well. A value whose location alone is
        significant therefore counts as shifted, however large its spread.
        """
        is_shifted = np.nan_to_num(self.location_adjusted, nan=1.0) <= level + 1e-12
        is_told = np.nan_to_num(self.adjusted, nan=1.0) <= level + 1e-12
        return is_told & (self.scatter > self.location) & ~is_shifted


def relabel(values: _Floats, design: Design, *, seed: int = 0, farther: Sequence[int] | None = None) -> Relabelled:
    r"""Westfall and Young's step-down maximum test over values, by relabelling the models of each block.

    .. math:: T = \frac{|W x|}{s}, \qquad Q = \sqrt{\frac{1}{K} \sum_{i \text{ plays}} \Bigl(\frac{x_i - \bar x_b}{s}\Bigr)^2}

    ``W`` holds differences of means over blocks, weighted inversely to their variance, and ``s`` is the spread inside blocks over all
    models, so that it does not depend on the labelling. T is divided by its root mean square over labellings; Q, which asks whether the
    unlearned models scatter more than golds, is standardised over them and divided by 1.05. The larger one counts. The root
    keeps the few labellings in which some value scatters most from hiding shifts: without it, and divided by 1.3, three originals with nine
    golds each find one of ten values shifted by 2.4 standard deviations in 80 instead of 84 % of cases, and ten originals with two golds
    find a threefold scatter in 37 instead of 48 %.

    Args:
        values: ``(models, values)``, finite; blocks one after the other, in each the unlearned models first.
        design: The blocks.
        seed: Of the labellings, where there are too many to try all.
        farther: Of each value 0, or 1 if only a larger one counts, -1 if only a smaller one does; such a value is not tested for scatter.

    Raises:
        DataError: If values are not finite or do not fit the design.

    Source:
        Westfall & Young, Resampling-Based Multiple Testing (1993); tested against an enumeration.
    """
    x = _checked(values, design)
    spread = np.sqrt(_squares(x, design).sum(axis=0) / max(1, design.n_models - len(design.blocks)))
    varies = spread > _RELATIVE_ZERO * np.maximum(np.abs(x).max(axis=0, initial=0), np.finfo(float).tiny)
    adjusted, by_location = np.full(x.shape[1], np.nan), np.full(x.shape[1], np.nan)
    location, scatter = np.zeros(x.shape[1]), np.full(x.shape[1], -np.inf)
    if not varies.any():
        return Relabelled(adjusted, location, scatter, by_location, np.zeros(1))
    table = _centred(x[:, varies], design) / spread[varies]
    ways = labellings(design, seed=seed)
    if not ways.is_exact:
        table = _sorted_golds(table, design)
    found = ways.weights @ table
    found /= np.sqrt((found**2).mean(axis=0))
    sides = _sides(farther, x)[varies]
    found = _amounts(found, sides)
    location[varies] = found[0]
    if design.tests_scatter:
        excess = np.sqrt((ways.players / design.n_unlearned) @ table**2)
        deviation = excess.std(axis=0)
        is_known = (deviation > _TOLERANCE * np.maximum(excess.mean(axis=0), _TOLERANCE)) & (sides == 0)
        excess = np.where(is_known, (excess - excess.mean(axis=0)) / np.where(is_known, deviation, 1), -np.inf) / _SCATTER_WEIGHT
        scatter[varies] = excess[0]
        if (scatter > location).any():  # it costs as much as the test, and is seldom asked for
            by_location[varies], _ = _step_down(found)
        found = np.maximum(found, excess)
    adjusted[varies], maxima = _step_down(found)
    return Relabelled(adjusted, location, scatter, by_location, maxima)


def _sides(farther: Sequence[int] | None, x: _Floats) -> _Floats:
    return np.zeros(x.shape[1]) if farther is None else np.asarray(farther, dtype=np.float64)


def _amounts(signed: _Floats, sides: _Floats) -> _Floats:
    """How large differences are; 0 of those that lie on the other side than the one that counts."""
    return np.asarray(np.where(signed * sides < 0, 0.0, np.abs(signed)))


def _step_down(statistics: _Floats) -> tuple[_Floats, _Floats]:
    """Adjusted p-values of values from ``(labellings, values)``, the observed labelling first; and the maxima over all values."""
    order = np.argsort(-statistics[0], kind="stable")
    maxima = np.maximum.accumulate(statistics[:, order[::-1]], axis=1)[:, ::-1]
    shares = (maxima >= statistics[0, order] - _TOLERANCE).mean(axis=0)
    adjusted = np.empty(len(order))
    adjusted[order] = np.maximum.accumulate(shares)
    return adjusted, maxima[:, 0]


def differences(values: _Floats, design: Design) -> _Floats:
    """Weighted mean over blocks of what the unlearned models have more than the golds, ``(values,)``."""
    x = np.asarray(values, dtype=np.float64)
    apart = [
        share * (x[rows][:unlearned].mean(axis=0) - x[rows][unlearned:].mean(axis=0))
        for rows, share, (unlearned, _) in zip(design.slices, design.shares, design.blocks, strict=True)
    ]
    return np.asarray(np.sum(apart, axis=0))


def gold_spread(values: _Floats, design: Design) -> _Floats:
    """Standard deviation of the golds inside blocks, pooled, ``(values,)``.

    Where every block has a single gold it is that of golds of different blocks, and NaN if there is one block.
    """
    x = np.asarray(values, dtype=np.float64)
    if design.degrees:
        return np.asarray(np.sqrt(_gold_squares(x, design) / design.degrees))
    if len(design.blocks) < 2:
        return np.full(x.shape[1], np.nan)
    return np.asarray(x[[rows.stop - 1 for rows in design.slices]].std(axis=0, ddof=1))


def usable_by_t(values: _Floats, design: Design) -> NDArray[np.bool_]:
    """Values of which the golds take different numbers enough for a t-test: at least four, and at least half as many as there are golds.

    Without it, rates at a strict threshold, which are 0 for nearly every gold, would make the test accuse several times too often.
    """
    x = np.asarray(values, dtype=np.float64)
    golds = np.concatenate([x[rows][unlearned:] for rows, (unlearned, _) in zip(design.slices, design.blocks, strict=True)])
    least = max(4, math.ceil(len(golds) / 2))
    return np.array([len(np.unique(column)) >= least for column in golds.T], dtype=bool)


def t_test(
    values: _Floats,
    design: Design,
    *,
    steps: Sequence[float] | _Floats | None = None,
    farther: Sequence[int] | None = None,
) -> _Floats:
    r"""Two-sided t-tests of the weighted difference of means against the spread of golds, Bonferroni-corrected over the usable values.

    .. math:: t = \frac{W x}{\sqrt{(s_g^2 + \mathrm{step}^2 / 12) \sum_b w_b^2 (1/K_b + 1/N_b)}}

    It assumes that golds are normally distributed. Use it where a design has too few labellings to accuse anybody.

    Args:
        values: ``(models, values)``, finite.
        design: The blocks.
        steps: Smallest step of each value, as of shares of a finite sample; 0 for none.
        farther: As for :func:`relabel`; the p-value of the side that counts stays that of both.

    Returns:
        ``(values,)``; NaN for values that are not usable.

    Raises:
        DataError: If values are not finite, do not fit the design, or no block has two golds.
    """
    x = _checked(values, design)
    if not design.degrees:
        raise DataError("a t-test needs a block with two retrained models")
    step = np.zeros(x.shape[1]) if steps is None else np.asarray(steps, dtype=np.float64)
    spread = np.sqrt(_gold_squares(x, design) / design.degrees + step**2 / 12)
    usable = usable_by_t(x, design) & (spread > 0)
    found = np.full(x.shape[1], np.nan)
    if usable.any():
        statistic = _amounts(differences(x, design), _sides(farther, x))[usable] / (spread[usable] * design.error)
        found[usable] = np.minimum(1.0, student_tail(design.degrees, statistic) * usable.sum())
    return found


def _checked(values: _Floats, design: Design) -> _Floats:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 2 or len(x) != design.n_models:
        raise DataError(f"the design has {design.n_models} models; expected an array (models, values), found {x.shape}")
    if not np.isfinite(x).all():
        raise DataError("values of models must be finite; leave out values that a model lacks")
    scale = np.abs(x).max(axis=0, initial=0)
    # Squares of huge values would overflow; no statistic depends on the scale of a value.
    return np.where(scale > 1e100, x / np.where(scale > 1e100, scale, 1), x)


def _centred(x: _Floats, design: Design) -> _Floats:
    return np.concatenate([x[rows] - x[rows].mean(axis=0) for rows in design.slices])


def _squares(x: _Floats, design: Design) -> _Floats:
    return np.asarray(_centred(x, design) ** 2)


def _gold_squares(x: _Floats, design: Design) -> _Floats:
    golds = [x[rows][unlearned:] for rows, (unlearned, _) in zip(design.slices, design.blocks, strict=True)]
    return np.asarray(sum(((own - own.mean(axis=0)) ** 2).sum(axis=0) for own in golds))


def _sorted_golds(table: _Floats, design: Design) -> _Floats:
    """The same with the models of each side of a block in an order of their own: how they are numbered must not decide which labellings
    are drawn.
    """
    sums = np.array([math.fsum(row) for row in table])
    order: list[int] = []
    for rows, (unlearned, _) in zip(design.slices, design.blocks, strict=True):
        first, last = list(range(rows.start, rows.start + unlearned)), list(range(rows.start + unlearned, rows.stop))
        order += sorted(first, key=lambda row: sums[row]) + sorted(last, key=lambda row: sums[row])
    return table[order]
