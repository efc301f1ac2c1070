"""What a design would miss: the shift of one value that is found in four of five cases, before and after a run."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from erasure.analysis.labellings import Design, labellings
from erasure.analysis.relabelling_test import relabel
from erasure.intervals import student_quantile, student_tail

__all__ = ["LEVEL", "POWER", "Basis", "Detection", "basis_of", "detection", "expected_shift", "found_shifts"]

LEVEL = 0.05
"""Share of reports of retrained methods in which any of them may be accused."""
POWER = 0.8
_QUANTILE = 0.8416212335729143
"""Of the normal distribution at the power of 80 %."""
_MIN_DEGREES = 4
_DATASETS = 300
_TRIED = 2000
_FAR = 40.0

_Floats = NDArray[np.float64]
Basis = str
"""``labellings``, ``t`` (assuming normal golds), or empty where nobody can be accused."""


def basis_of(design: Design, n_methods: int, *, level: float = LEVEL) -> Basis:
    """By what a design can accuse one of ``n_methods``: ``labellings``, ``t``, or nothing."""
    if n_methods * design.smallest_p <= level + 1e-12:
        return "labellings"
    return "t" if design.degrees >= _MIN_DEGREES else ""


@dataclass(frozen=True)
class Detection:
    """What a run finds of a shift of one value, in standard deviations of a gold.

    Args:
        critical: Standard errors from which on a difference is found.
        error: Standard error of a difference, in standard deviations of a gold.
        n_originals: Originals of the run.
    """

    critical: float
    error: float
    n_originals: int

    @property
    def shift(self) -> float:
        """The shift that is found in 80 % of cases."""
        return (self.critical + _QUANTILE) * self.error

    def power(self, shift: float) -> float:
        """Share of runs in which a shift is found, taking differences of means as normally distributed."""
        return 0.5 * (1 + math.erf((shift / self.error - self.critical) / math.sqrt(2)))

    def of_originals(self, n: int) -> Detection:
        """The same with another number of originals and as many golds for each, which changes little but the standard error."""
        return Detection(self.critical, self.error * math.sqrt(self.n_originals / n), n)


def detection(
    golds: _Floats,
    design: Design,
    n_methods: int = 1,
    *,
    level: float = LEVEL,
    seed: int = 0,
    farther: Sequence[int] | None = None,
) -> Detection | None:
    """What a run finds, from its own golds.

    A difference is found from the quantile on of the largest statistic over labellings in which golds play the method.

    Args:
        golds: ``(golds, values)``, blocks one after the other.
        design: The blocks of the methods that are tested.
        n_methods: Methods tested together.
        level: Share of reports in which a retrained method may be accused.
        seed: Of the labellings.
        farther: As for :func:`~erasure.analysis.relabelling_test.relabel`.

    Returns:
        None if the design can accuse nobody.
    """
    basis = basis_of(design, n_methods, level=level)
    if not basis:
        return None
    alone = design.golds_alone()
    if basis == "t":
        critical = -student_quantile(design.degrees, level / n_methods / 2 / max(1, golds.shape[1]))
    elif alone is None or not golds.shape[1]:
        shift = expected_shift(design, max(1, golds.shape[1]), n_methods, level=level)
        assert shift is not None  # noqa: S101 - it has a basis
        critical = shift / design.error - _QUANTILE
    else:
        maxima = relabel(golds, alone, seed=seed, farther=farther).maxima
        critical = float(np.quantile(maxima, 1 - level / n_methods, method="higher"))
    return Detection(critical, design.error, design.n_unlearned)


@functools.lru_cache(maxsize=256)
def expected_shift(
    design: Design, n_values: int = 10, n_methods: int = 1, *, level: float = LEVEL, n_sets: int = _DATASETS
) -> float | None:
    """The same before a run: simulated with that many normal values, each two correlated by one half, one of them shifted.

    Args:
        design: The blocks.
        n_values: Values of a method.
        n_methods: Methods tested together.
        level: Share of reports in which a retrained method may be accused.
        n_sets: Simulated runs; the power at the shift is known up to ``0.4 / sqrt(n_sets)``.

    Returns:
        In standard deviations of a gold; None if the design can accuse nobody, infinity if no shift is found so often.
    """
    basis = basis_of(design, n_methods, level=level)
    if not basis:
        return None
    generator = np.random.default_rng(0)
    shape = (n_sets, design.n_models, n_values)
    noise = (generator.standard_normal(shape) + generator.standard_normal((*shape[:2], 1))) / math.sqrt(2)
    return found_shifts(noise, design, n_methods, level=level, of=range(1))[0]


def found_shifts(
    sets: _Floats, design: Design, n_methods: int = 1, *, level: float = LEVEL, of: Iterable[int] | None = None
) -> list[float]:
    """Shift of each value that is found in 80 % of data sets in which nothing else differs.

    Args:
        sets: ``(data sets, models, values)``, models as the design has them; all of them from one distribution.
        design: The blocks; it can accuse somebody.
        n_methods: Methods tested together.
        level: Share of reports in which a retrained method may be accused.
        of: Values to shift; all by default.

    Returns:
        In the unit of the values, for each value of ``of``; infinity if no shift up to 40 is found so often.
    """
    basis = basis_of(design, n_methods, level=level)
    made = _powers_by_labellings(sets, design, level / n_methods) if basis == "labellings" else None
    found = []
    for value in range(sets.shape[2]) if of is None else of:
        power = made(value) if made is not None else _power_by_t(sets, design, level / n_methods, value)
        low, high = 0.0, _FAR
        if power(high) < POWER:
            found.append(math.inf)
            continue
        for _ in range(10):
            middle = (low + high) / 2
            low, high = (low, middle) if power(middle) >= POWER else (middle, high)
        found.append(high)
    return found


def _powers_by_labellings(noise: _Floats, design: Design, level: float) -> Callable[[int], Callable[[float], float]]:
    """Share of data sets in which a value is found, by which value it is and how far it is shifted.

    What the other values say under each labelling does not depend on the shift; it is found once. Statistics are divided by their root
    mean square over labellings, so that the scale of a value plays no part.
    """
    ways = labellings(design, seed=0, most=min(10_000, max(_TRIED, math.ceil(5 / level))))
    moved = ways.weights @ _indicator(design)
    # Largest and second largest statistic of all values: without the one that is shifted, one of the two is the largest.
    first, second = np.zeros((len(ways.weights), len(noise))), np.zeros((len(ways.weights), len(noise)))
    for value in range(noise.shape[2]):
        each = _standardised(ways.weights @ noise[:, :, value].T)
        np.maximum(second, np.minimum(first, each), out=second)
        np.maximum(first, each, out=first)

    def power_of(value: int) -> Callable[[float], float]:
        unmoved = ways.weights @ noise[:, :, value].T
        others = np.where(_standardised(unmoved) >= first, second, first)

        def power(shift: float) -> float:
            found = _standardised(unmoved + shift * moved[:, None])
            reached = (np.maximum(found, others) >= found[0] - 1e-9).mean(axis=0)
            return float((reached <= level + 1e-12).mean())

        return power

    return power_of


def _standardised(differences: _Floats) -> _Floats:
    found = np.abs(differences)
    size = np.sqrt((found**2).mean(axis=0))
    return np.asarray(np.divide(found, size, out=np.zeros_like(found), where=size > 0))


def _indicator(design: Design) -> _Floats:
    """1 for unlearned models, 0 for golds."""
    of = np.zeros(design.n_models)
    for rows, (unlearned, _) in zip(design.slices, design.blocks, strict=True):
        of[rows.start : rows.start + unlearned] = 1
    return of


def _power_by_t(noise: _Floats, design: Design, level: float, value: int) -> Callable[[float], float]:
    difference = np.zeros(len(noise))
    squares = np.zeros(len(noise))
    for rows, share, (unlearned, _) in zip(design.slices, design.shares, design.blocks, strict=True):
        mine, golds = noise[:, rows, value][:, :unlearned], noise[:, rows, value][:, unlearned:]
        difference += share * (mine.mean(axis=1) - golds.mean(axis=1))
        squares += ((golds - golds.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    error = np.maximum(np.sqrt(squares / design.degrees) * design.error, np.finfo(float).tiny)

    def power(shift: float) -> float:
        return float((student_tail(design.degrees, (difference + shift) / error) * noise.shape[2] <= level).mean())

    return power
