"""How far models are from retraining, in one number an original, and which of them are nearest."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from erasure.analysis.choice import choose
from erasure.analysis.families import CLAIMS, Claim, Family
from erasure.analysis.power import LEVEL
from erasure.analysis.relabelling_test import gold_spread

__all__ = ["MIN_ORIGINALS", "Distances", "Nearest", "distances_of"]

MIN_ORIGINALS = 3
"""Originals without which nobody is called indistinguishable, and no method is named."""


@dataclass(frozen=True)
class Nearest:
    """The nearest method to retraining, of several.

    Args:
        label: The method.
        ties: All that are not shown to be farther, itself included, nearest first.
        farther: P-value of each one's not being the nearest, whichever of the others is.
        chances: How likely each is the nearest, over all originals that might have been drawn.
        distance: Its distance, in standard deviations of a gold.
        cross_fitted: The same where it is chosen, for each original, by the others.
    """

    label: str
    ties: tuple[str, ...]
    farther: Mapping[str, float]
    chances: Mapping[str, float]
    distance: float
    cross_fitted: float


@dataclass(frozen=True, eq=False)
class Distances:
    """How far models are from retraining.

    Args:
        logs: Logarithm of the distance, in standard deviations of a gold, by label and original.
    """

    logs: Mapping[str, Mapping[Hashable, float]] = field(default_factory=dict)

    def of(self, label: str) -> float:
        """Distance in standard deviations of a gold, the geometric mean over originals; infinite if it was not compared."""
        known = list(self.logs.get(label, {}).values())
        return math.exp(math.fsum(known) / len(known)) if known else math.inf

    def nearest(self, labels: Iterable[str], *, level: float = LEVEL) -> Nearest | None:
        """The nearest of some models over the originals that all of them have; None for fewer than three.

        Models that lack so many originals that fewer than three would be left do not compete.

        Args:
            labels: The models.
            level: Of the test of each one.
        """
        known = [label for label in labels if self.logs.get(label)]
        while len(common := self._common(known)) < MIN_ORIGINALS:
            most, least = (pick((len(self.logs[label]) for label in known), default=0) for pick in (max, min))
            if most < MIN_ORIGINALS or most == least:
                return None
            known = [label for label in known if len(self.logs[label]) > least]
        choice = choose(np.array([[self.logs[label][unit] for unit in common] for label in known]), level=level)
        if choice is None:
            return None
        return Nearest(
            known[choice.best],
            tuple(known[i] for i in choice.ties),
            dict(zip(known, choice.farther, strict=True)),
            dict(zip(known, choice.chances, strict=True)),
            choice.distance,
            choice.cross_fitted,
        )

    def _common(self, labels: Iterable[str]) -> list[Hashable]:
        """Originals that all of some models have."""
        units = [set(self.logs[label]) for label in labels]
        return sorted(set.intersection(*units), key=str) if units else []


def distances_of(families: Mapping[str, Family]) -> Distances:
    """The distances of models by the values that all of them have."""
    known = {label: family for label, family in families.items() if family.is_testable}
    if not known:
        return Distances()
    keys = set.intersection(*({column.key for column in family.columns} for family in known.values()))
    return Distances({label: _log_distances(family, keys) for label, family in known.items()})


def _log_distances(family: Family, keys: set[tuple[str, str]]) -> dict[Hashable, float]:
    """For each original, log of the root mean square over claims of the distance from the jury's mean, in sd of a gold.

    Empty where no value is left by which models could be compared, or beside a single gold, whose spread nobody knows.
    """
    assert family.design is not None  # noqa: S101 - narrows the type
    spread = gold_spread(family.values, family.design)
    if np.isnan(spread).any():
        return {}
    squares: dict[Claim, list[list[float]]] = {}
    for index, column in enumerate(family.columns):
        deviation = math.sqrt(float(spread[index]) ** 2 + column.step**2 / 12)
        if column.key in keys and deviation:
            apart = family.apart(index)
            # To be nearer to the gold of the same seeds than other golds are is not to be far from retraining.
            apart = np.maximum(column.farther * apart, 0) if column.farther else apart
            squares.setdefault(column.claim, []).append(((apart / deviation) ** 2).tolist())
    found: dict[Hashable, float] = {}
    for place, unit in enumerate(family.units):
        means = [math.fsum(each[place] for each in squares[claim]) / len(squares[claim]) for claim in CLAIMS if claim in squares]
        if means:
            found[unit] = 0.5 * math.log(max(math.fsum(means) / len(means), 1e-12))
    return found
