"""Is each method of a report retraining? Its models beside the jury, the further golds of the same originals, by all values at once.

Of all reports in which every method truly is retraining, at most 5 % accuse any of them. An original is what is repeated: seeds of
unlearning and measuring inside one are averaged first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from erasure.analysis.equivalence import CERTAINTY
from erasure.analysis.families import FORGETTING, UTILITY, Family, families_of
from erasure.analysis.findings import ORIGINAL, Difference, Finding, Repeats, Tested, TestedReport, is_negligible
from erasure.analysis.gaps import RolePartitions
from erasure.analysis.indistinguishable import UTILITY_MARGIN, Ruler, memory_of, not_shown, rulers_of
from erasure.analysis.nearest import MIN_ORIGINALS, distances_of
from erasure.analysis.populations import PopulationTest, population_tests
from erasure.analysis.power import LEVEL, Basis, Detection, basis_of, detection
from erasure.analysis.relabelling_test import differences, gold_spread, relabel, t_test
from erasure.analysis.statistics import holm
from erasure.records.rows import Row

__all__ = ["MIN_ORIGINALS", "judge_report"]

PROBABILITY_MARGIN = 0.1
"""Loss of the mean probability of what is right from which on a model is worse: it falls sooner than what is guessed right."""
_MAX_MAXIMA = 400
_FAR_FOR_T = 8.0
"""Standard deviations of a gold that a t-test beside five golds finds in four of five cases."""
_Floats: TypeAlias = NDArray[np.float64]


def judge_report(
    rows: Iterable[Row],
    roles: RolePartitions,
    *,
    exact: Iterable[str] = (),
    excluded: Iterable[str] = (),
    level: float = LEVEL,
    repeats: Repeats = Repeats.SEEDS,
    certainty: float = CERTAINTY,
) -> TestedReport:
    """Test every method of one problem beside the jury.

    Args:
        rows: Rows of all models, those of further golds among them.
        roles: What the partitions are.
        exact: Labels of methods that retrain; they are shown and not counted among the tests.
        excluded: Labels that guards have judged already (failed, changed nothing).
        level: Share of reports in which a retrained method may be accused.
        repeats: How more originals are had, for remedies.
        certainty: Level of each limit that equivalence is shown by; more than usual where several methods are tried in turn.
    """
    rows = list(rows)
    families, notices = families_of(rows, roles)
    original = families.pop(ORIGINAL, None)
    retraining, out = set(exact), set(excluded)
    tried = {label: family for label, family in families.items() if label not in out}
    counted = [label for label, family in tried.items() if label not in retraining and family.is_testable]
    n_tested = len(counted)
    populations = {label: tests for label, tests in population_tests(rows).items() if label in tried and label not in retraining}
    # A population is a hypothesis of its own: Holm's correction is over all of them.
    asked = [(label, test) for label, tests in populations.items() for test in tests]
    n_asked = max(1, n_tested + len(asked))
    bases = {
        label: basis_of(family.design, n_asked, level=level) if family.design is not None and family.columns else ""
        for label, family in tried.items()
    }
    reference = _reference(original, level) if original is not None else _Reference()
    reference = replace(reference, repeats=repeats, certainty=certainty)
    relabelled = {label: _compared(family, bases[label], level) for label, family in tried.items()}
    compared = {label: _with_sides(found, reference.sides) for label, (found, _) in relabelled.items()}
    p_values = {label: _p(found) for label, found in compared.items()}
    tested = [label for label in counted if bases[label]]
    # Methods that cannot be accused count too: one more golds would have let them be.
    corrected = holm([test.p for _, test in asked] + [p_values[label] for label in tested] + [1.0] * (n_tested - len(tested)))
    adjusted = dict(zip(tested, corrected[len(asked) :], strict=False))
    of_populations: dict[str, tuple[PopulationTest, ...]] = {}
    for (label, test), p in zip(asked, corrected, strict=False):
        of_populations[label] = (*of_populations.get(label, ()), replace(test, adjusted=p))
    methods = {
        label: _tested(
            label,
            family,
            compared[label],
            bases[label],
            adjusted.get(label),
            reference,
            level,
            relabelled[label][1],
            of_populations.get(label, ()),
            n_asked,
        )
        for label, family in tried.items()
    }
    compared_all = families if original is None else {**families, ORIGINAL: original}
    found = _detection(list(tried.values()), n_asked, level)
    return TestedReport(methods, n_tested, level, reference.tested, distances_of(compared_all), found, notices)


def _compared(family: Family, basis: Basis, level: float) -> tuple[list[Difference], _Floats]:
    """Every value beside the golds', and the largest statistic under each labelling, the observed one first; none without labellings."""
    if family.design is None or not family.columns:
        return [], np.zeros(0)
    design, values = family.design, family.values
    steps = np.array([column.step for column in family.columns])
    spread = np.sqrt(np.nan_to_num(gold_spread(values, design)) ** 2 + steps**2 / 12)
    apart, farther = differences(values, design), [column.farther for column in family.columns]
    adjusted, scattered, maxima = None, np.zeros(len(apart), dtype=bool), np.zeros(0)
    if basis == "labellings":
        found = relabel(values, design, seed=family.seed, farther=farther)
        adjusted, scattered, maxima = found.adjusted, found.is_scattered(level), found.maxima
    elif basis == "t":
        adjusted = t_test(values, design, steps=steps, farther=farther)
    result = []
    for index, column in enumerate(family.columns):
        mine, golds = family.means(index)
        amount = float(family.distance(index)) if scattered[index] else float(apart[index])
        p = None if adjusted is None or math.isnan(adjusted[index]) else float(adjusted[index])
        small = is_negligible(column, amount, golds, float(spread[index]))
        by_original = tuple(family.apart(index).tolist())
        result.append(
            Difference(column, mine, golds, amount, float(spread[index]), p, bool(scattered[index]), small, by_original)
        )
    return result, maxima


def _evenly(maxima: _Floats) -> tuple[float, ...]:
    """At most 400 of them in ascending order, evenly spaced by rank."""
    if len(maxima) <= _MAX_MAXIMA:
        return tuple(np.sort(maxima).tolist())
    return tuple(np.quantile(maxima, (np.arange(_MAX_MAXIMA) + 0.5) / _MAX_MAXIMA, method="inverted_cdf").tolist())


def _p(found: Sequence[Difference]) -> float:
    return min((each.p for each in found if each.p is not None), default=1.0)


def _tested(
    label: str,
    family: Family,
    compared: Sequence[Difference],
    basis: Basis,
    adjusted: float | None,
    reference: _Reference,
    level: float,
    maxima: _Floats,
    populations: tuple[PopulationTest, ...] = (),
    n_asked: int = 1,
) -> Tested:
    order = sorted(compared, key=lambda d: (not d.accuses(level), -d.deviations))
    memory = memory_of(family, reference.rulers, level=reference.certainty)

    def tested(finding: Finding, reason: str = "", remedy: str = "") -> Tested:
        return Tested(
            label,
            finding,
            tuple(order),
            basis,
            _p(compared) if basis else None,
            adjusted,
            family.n_originals,
            family.design.n_labellings if family.design is not None else 0,
            memory,
            reason,
            family.left_out,
            remedy,
            _evenly(maxima),
            float(maxima[0]) if len(maxima) else 0.0,
            populations,
        )

    is_accused = adjusted is not None and adjusted <= level + 1e-12
    accusing = [each for each in order if each.accuses(level)] if is_accused else []
    if accusing:
        return tested(_accusation(accusing, reference.harm))
    if any(each.adjusted <= level + 1e-12 for each in populations):
        return tested(Finding.DIFFERENT)
    if family.design is None:
        return tested(Finding.UNDECIDED, family.reason)
    if not any(each.column.claim in FORGETTING for each in compared):
        return tested(Finding.UNDECIDED, "no value on the forgotten samples is compared with retrained models")
    if not basis:
        return tested(Finding.UNDECIDED, _cannot(family, math.ceil(n_asked / level - 1e-9) - 1))
    untold = _untold(order) if basis == "t" else None
    if untold is not None:
        return tested(Finding.UNDECIDED, _too_alike(untold, reference.repeats))
    missing, remedy = not_shown(family, memory, reference.tested, reference.repeats, level=reference.certainty)
    return tested(Finding.NOT_TOLD_APART, missing, remedy) if missing else tested(Finding.INDISTINGUISHABLE)


def _untold(found: Iterable[Difference]) -> Difference | None:
    """The farthest value that a t-test cannot use, where it lies so far from golds that nobody may say that no difference was found."""
    untold = [
        each for each in found if each.p is None and each.deviations > _FAR_FOR_T and not (each.is_negligible or each.is_nearer)
    ]
    return max(untold, key=lambda each: each.deviations, default=None)


def _too_alike(each: Difference, repeats: Repeats) -> str:
    where = f' on "{each.column.partition}"' if each.column.partition else ""
    return (
        f"retrained models are too alike in {each.column.measure}{where} for a t-test, so nobody can weigh that they have "
        f"{each.gold:.3f} and this model {each.value:.3f}; 19 further golds, or {repeats.words(5)}, can"
    )


def _accusation(accusing: Sequence[Difference], harm: Mapping[tuple[str, str], float]) -> Finding:
    """What differences that accuse, the farthest first, accuse of.

    Where forgotten data harmed the original (poison, wrong labels), a model that is no worse than the original was not damaged: the harm is
    left of what it was to forget.
    """
    for each in accusing:
        if each.column.claim in UTILITY and each.side < 0 and (each.column.is_share or each.column.statistic == "probability"):
            margin = UTILITY_MARGIN if each.column.is_share else PROBABILITY_MARGIN
            if abs(each.amount) > margin + 1e-9 and each.value < harm.get(each.column.key, math.inf) - margin:
                return Finding.DAMAGED
    if any(each.column.key in harm and each.side < 0 for each in accusing):
        return Finding.UNDER_FORGOTTEN
    sided = [each for each in accusing if each.column.claim in FORGETTING and each.side]
    if not sided:
        return Finding.DIFFERENT
    # An attack of which it is not known which way it points decides where nothing else does.
    deciding = next((each for each in sided if each.column.chance is None), sided[0])
    return Finding.UNDER_FORGOTTEN if deciding.side > 0 else Finding.OVER_FORGOTTEN


def _cannot(family: Family, least: int) -> str:
    """Why nobody can be accused by the design, and which one could: ``least`` golds of one original without assumptions."""
    design = family.design
    n = design.degrees + len(design.blocks) if design is not None else 0
    golds = f"{n} further {'gold' if n == 1 else 'golds'}"
    if family.n_originals == 1:
        return f"{golds} cannot accuse; 5 can by a t-test, {least} without assumptions"
    return f"{family.n_originals} originals with {golds} in all cannot accuse any of these methods; five originals with four golds each can"


@dataclass(frozen=True)
class _Reference:
    """What the original, which has forgotten nothing, says of the values that judge the methods.

    Args:
        tested: The original, tested like a method; None if it was not measured.
        sides: Of attacks that tell it from golds, which way. An attack may do worse than guessing on a model that remembers, and better on
            one that was retrained: whatever way it points on the original is the way of knowing more.
        harm: Its accuracies that forgotten data harmed.
        rulers: How values become shares of its memory.
        repeats: How more originals are had.
        certainty: Level of each limit.
    """

    tested: Tested | None = None
    sides: Mapping[tuple[str, str], int] = field(default_factory=dict)
    harm: Mapping[tuple[str, str], float] = field(default_factory=dict)
    rulers: tuple[Ruler, ...] = ()
    repeats: Repeats = Repeats.SEEDS
    certainty: float = CERTAINTY


def _reference(family: Family, level: float) -> _Reference:
    basis = basis_of(family.design, 1, level=level) if family.design is not None and family.columns else ""
    compared, maxima = _compared(family, basis, level)
    sides = {
        each.column.key: 1 if each.amount > 0 else -1
        for each in compared
        if each.column.tells == "attack" and each.accuses(level) and not each.is_scattered
    }
    compared = _with_sides(compared, sides)
    harm = {
        each.column.key: each.value
        for each in compared
        if each.column.claim in UTILITY and each.column.is_share and each.side < 0 and each.accuses(level)
    }
    adjusted = _p(compared) if basis else None
    # No rulers: the original's own memory left is all of it, by definition.
    tested = _tested(ORIGINAL, family, compared, basis, adjusted, _Reference(sides=sides, harm=harm), level, maxima)
    return _Reference(tested, sides, harm, rulers_of(family, _compared(family, "", LEVEL)[0]))


def _with_sides(compared: Sequence[Difference], sides: Mapping[tuple[str, str], int]) -> list[Difference]:
    return [
        replace(d, column=replace(d.column, side=sides[d.column.key], chance=None)) if d.column.key in sides else d
        for d in compared
    ]


# Power


def _detection(families: Sequence[Family], n_tested: int, level: float) -> Detection | None:
    """What the largest design of a report finds."""
    known = [family for family in families if family.is_testable and (np.ptp(family.values, axis=0) > 0).any()]
    if not known:
        return None
    family = max(known, key=lambda each: (each.n_originals, each.values.shape))
    assert family.design is not None  # noqa: S101 - narrows the type
    blocks = zip(family.design.slices, family.design.blocks, strict=True)
    golds = np.concatenate([family.values[rows][mine:] for rows, (mine, _) in blocks])
    farther = [column.farther for column in family.columns]
    return detection(golds, family.design, n_tested, level=level, farther=farther)
