"""Measures that judge many models of a method at once bring a p-value of their own: what they tell apart, beside the values of models."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from erasure.records.rows import Row

__all__ = ["PopulationTest", "population_tests"]

_UNIT = "p"


@dataclass(frozen=True)
class PopulationTest:
    """Whether the many models of a method and as many retrained ones are one population.

    Args:
        measure: Who asks, such as ``KLoM``.
        p: P-value over all repetitions.
        n: Repetitions.
        adjusted: The p-value after Holm's correction over everything that a report tests.
    """

    measure: str
    p: float
    n: int = 1
    adjusted: float = 1.0


def population_tests(rows: Iterable[Row]) -> dict[str, tuple[PopulationTest, ...]]:
    """The tests of every method, by its label.

    P-values of several repetitions, which may share models, become one: twice their mean, which holds however they depend on one another.

    Source:
        Vovk & Wang, Biometrika 107 (2020), on averages of p-values.
    """
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        is_test = row.model_role == "unlearned" and row.unit == _UNIT and row.statistic == "population"
        if is_test and row.value is not None and math.isfinite(row.value):
            found.setdefault((row.label, row.measure), []).append(row.value)
    tests: dict[str, tuple[PopulationTest, ...]] = {}
    for (label, measure), each in sorted(found.items()):
        p = each[0] if len(each) == 1 else min(1.0, 2 * math.fsum(each) / len(each))
        tests[label] = (*tests.get(label, ()), PopulationTest(measure.removesuffix(f" {_UNIT}"), p, len(each)))
    return tests
