"""What a design would miss: the shift of one value that is found in four of five cases, before and after a run."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from erasure.analysis.labellings import Design, labellings
from erasure.analysis.relabelling_test import relabel

__all__ = ["LEVEL", "Basis", "basis_of", "detectable_shift", "expected_shift", "level_of_look"]

LEVEL = 0.05
"""Share of reports of retrained methods in which any of them may be accused."""
POWER = 0.8
_QUANTILE = 0.8416212335729143
"""Of the normal distribution at the power of 80 %."""
_LEAST_DEGREES = 4
_DATASETS = 300
_TRIED = 2000
_FAR = 40.0

_Floats = NDArray[np.float64]
Basis = str
"""``labellings``, ``t`` (assuming normal golds), or empty where nobody can be accused."""


def level_of_look(planned: int = 1, level: float = LEVEL) -> float:
    """Level of each of so many planned looks at growing seeds: the level of all is shared out evenly."""
    return level / max(1, planned)


def basis_of(design: Design, n_methods: int, *, level: float = LEVEL) -> Basis:
    """By what a design can accuse one of ``n_methods``: ``labellings``, ``t``, or nothing."""
    if n_methods * design.smallest_p <= level + 1e-12:
        return "labellings"
    return "t" if design.degrees >= _LEAST_DEGREES else ""


def detectable_shift(golds: _Floats, design: Design, n_methods: int = 1, *, level: float = LEVEL, seed: int = 0) -> float | None:
    """Shift of one value, in standard deviations of a gold, that a run finds in 80 % of cases; from its own golds.

    The quantile of the largest statistic over labellings in which golds play the method, plus that of the normal distribution at 80 %,
    in standard errors.

    Args:
        golds: ``(golds, values)``, blocks one after the other.
        design: The blocks of the methods that are tested.
        n_methods: Methods tested together.
        level: Share of reports in which a retrained method may be accused.
        seed: Of the labellings.

    Returns:
        None if the design can accuse nobody.
    """
    from scipy.special import stdtrit

    basis = basis_of(design, n_methods, level=level)
    if not basis:
        return None
    if basis == "t":
        quantile = -float(stdtrit(design.degrees, level / n_methods / 2 / max(1, golds.shape[1])))
        return (quantile + _QUANTILE) * design.error
    alone = design.golds_alone()
    if alone is None or not golds.shape[1]:
        return expected_shift(design, max(1, golds.shape[1]), n_methods, level=level)
    maxima = relabel(golds, alone, seed=seed).maxima
    return (float(np.quantile(maxima, 1 - level / n_methods, method="higher")) + _QUANTILE) * design.error


@functools.lru_cache(maxsize=256)
def expected_shift(
    design: Design, n_values: int = 10, n_methods: int = 1, *, level: float = LEVEL, n_sets: int = _DATASETS
) -> float | None:
    """The same before a run: simulated with so many normal values, each two correlated by one half, one of them shifted.

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
    power = (_power_by_labellings if basis == "labellings" else _power_by_t)(noise, design, level / n_methods)
    low, high = 0.0, _FAR
    if power(high) < POWER:
        return math.inf
    for _ in range(10):
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle) >= POWER else (middle, high)
    return high


def _power_by_labellings(noise: _Floats, design: Design, level: float) -> Callable[[float], float]:
    """Share of data sets in which the first value is found, by how far it is shifted.

    What the other values say under each labelling does not depend on the shift; it is found once. Statistics are divided by their root
    mean square over labellings, so that the scale of a value plays no part.
    """
    ways = labellings(design, seed=0, most=min(10_000, max(_TRIED, math.ceil(5 / level))))
    others = np.zeros((len(ways.weights), len(noise)))
    for value in range(1, noise.shape[2]):
        np.maximum(others, _standardised(ways.weights @ noise[:, :, value].T), out=others)
    first, moved = ways.weights @ noise[:, :, 0].T, ways.weights @ _indicator(design)

    def power(shift: float) -> float:
        found = _standardised(first + shift * moved[:, None])
        reached = (np.maximum(found, others) >= found[0] - 1e-9).mean(axis=0)
        return float((reached <= level + 1e-12).mean())

    return power


def _standardised(differences: _Floats) -> _Floats:
    found = np.abs(differences)
    found /= np.sqrt((found**2).mean(axis=0))
    return np.asarray(found)


def _indicator(design: Design) -> _Floats:
    """1 for unlearned models, 0 for golds."""
    of = np.zeros(design.n_models)
    for rows, (unlearned, _) in zip(design.slices, design.blocks, strict=True):
        of[rows.start : rows.start + unlearned] = 1
    return of


def _power_by_t(noise: _Floats, design: Design, level: float) -> Callable[[float], float]:
    from scipy.special import stdtr

    difference = np.zeros(len(noise))
    squares = np.zeros(len(noise))
    for rows, share, (unlearned, _) in zip(design.slices, design.shares, design.blocks, strict=True):
        mine, golds = noise[:, rows, 0][:, :unlearned], noise[:, rows, 0][:, unlearned:]
        difference += share * (mine.mean(axis=1) - golds.mean(axis=1))
        squares += ((golds - golds.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    error = np.sqrt(squares / design.degrees) * design.error

    def power(shift: float) -> float:
        return float((2 * stdtr(design.degrees, -np.abs(difference + shift) / error) * noise.shape[2] <= level).mean())

    return power
