"""Which design would do? How many originals, and golds for each, let a run accuse, and what shift it then finds, before anything runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from erasure.analysis.labellings import Design
from erasure.analysis.power import LEVEL, Basis, basis_of, expected_shift
from erasure.intervals import student_quantile

__all__ = ["GOLDS", "ORIGINALS", "Outlook", "affordable", "least_designs", "outlook"]

ORIGINALS = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20)
"""Numbers of originals that are considered."""
GOLDS = (2, 3, 4, 5, 6, 9, 12, 19, 39)
"""Numbers of further golds for each original that are considered."""
_MAX_GOLDS = 39
_SETS = 100
"""Simulated runs of each design: the shift is then known to about a tenth."""
_TRIED = 8
"""Designs whose shift is simulated, of those that a budget allows; they are chosen by what is expected without a simulation."""


@dataclass(frozen=True)
class Outlook:
    """What a design can say of its methods.

    Args:
        n_originals: Originals.
        n_golds: Further golds of each; of designs whose originals have different numbers, the smallest.
        n_methods: Methods tested together.
        n_labellings: Ways to label the models.
        smallest_p: Smallest p-value, before the correction over methods.
        basis: By what it can accuse: ``labellings``, ``t`` (assuming normal golds), or empty.
        shift: Smallest shift of one of about ten values that is found in 80 % of runs, in standard deviations of a gold; infinity if none
            is, None if nobody can be accused.
        price_s: Seconds, if known.
    """

    n_originals: int
    n_golds: int
    n_methods: int
    n_labellings: int
    smallest_p: float
    basis: Basis
    shift: float | None
    price_s: float | None = None


def outlook(
    design: Design | None, n_methods: int, *, n_values: int = 10, level: float = LEVEL, price_s: float | None = None
) -> Outlook:
    """What a design can say; None is the one without golds."""
    methods = max(1, n_methods)
    if design is None:
        return Outlook(0, 0, methods, 1, 1.0, "", None, price_s)
    n_golds = min(golds for _, golds in design.blocks)
    shift = expected_shift(design, n_values, methods, level=level, n_sets=_SETS)
    basis = basis_of(design, methods, level=level)
    return Outlook(design.n_unlearned, n_golds, methods, design.n_labellings, design.smallest_p, basis, shift, price_s)


def least_designs(n_methods: int, *, level: float = LEVEL) -> list[Design]:
    """Designs with the fewest trainings that can accuse: one original by a t-test, one original, and several originals, without it.

    Trainings are an original, the gold shown, and the further golds.
    """
    found = []
    for wanted, counts in (("t", (1,)), ("labellings", (1,)), ("labellings", ORIGINALS[2:])):
        able = [
            design
            for n_originals in counts
            for n_golds in range(2, _MAX_GOLDS + 1)
            if basis_of(design := _even(n_originals, n_golds), max(1, n_methods), level=level) == wanted
        ]
        best = min(able, key=_trainings, default=None)
        if best is not None:
            found.append(best)
    return found


def affordable(
    budget_s: float,
    price_s: Callable[[int, int], float],
    n_methods: int,
    *,
    n_values: int = 10,
    level: float = LEVEL,
    originals: Iterable[int] = ORIGINALS,
    golds: Iterable[int] = GOLDS,
) -> list[Outlook]:
    """Designs that a budget allows and that can accuse, the one that finds the smallest shift first, of equal ones the cheapest.

    Args:
        budget_s: Seconds.
        price_s: Seconds of a number of originals with a number of further golds each.
        n_methods: Methods tested together.
        n_values: Values of a method.
        level: Share of reports in which a retrained method may be accused.
        originals: Numbers of originals to consider.
        golds: Numbers of golds to consider.
    """
    methods = max(1, n_methods)
    allowed = []
    for n_originals in originals:
        for n_golds in golds:
            design, price = _even(n_originals, n_golds), price_s(n_originals, n_golds)
            if price <= budget_s and basis_of(design, methods, level=level):
                allowed.append((_rough_shift(design, methods, level), design, price))
    allowed.sort(key=lambda each: (each[0], each[2]))
    found = [outlook(design, methods, n_values=n_values, level=level, price_s=price) for _, design, price in allowed[:_TRIED]]
    found = [_no_worse_than_smaller(each, found) for each in found]
    return sorted(found, key=lambda each: (math.inf if each.shift is None else round(each.shift, 1), each.price_s))


def _no_worse_than_smaller(own: Outlook, found: Iterable[Outlook]) -> Outlook:
    """More models never find less by one test: where the simulation says so by chance, the shift is that of the smaller design."""
    alike = [each for each in found if each.basis == own.basis]
    within = [each.shift for each in alike if each.n_originals <= own.n_originals and each.n_golds <= own.n_golds]
    return replace(own, shift=min((shift for shift in within if shift is not None), default=None))


def _even(n_originals: int, n_golds: int) -> Design:
    return Design(((1, n_golds),) * n_originals)


def _trainings(design: Design) -> int:
    return sum(2 + golds for _, golds in design.blocks)


def _rough_shift(design: Design, n_methods: int, level: float) -> float:
    """A guess for the order of designs: Student's quantile after Bonferroni's correction over ten values, in standard errors."""
    degrees = (
        design.n_models - len(design.blocks) - 1 if basis_of(design, n_methods, level=level) == "labellings" else design.degrees
    )
    return (0.84 - student_quantile(max(1, degrees), level / n_methods / 20)) * design.error
