"""How often would reports accuse models that truly are retrained, and what would they miss? From golds that play the methods."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from erasure.analysis.families import Family, TestedColumn, families_of
from erasure.analysis.findings import ACCUSED, Finding
from erasure.analysis.gaps import RolePartitions
from erasure.analysis.judging import judge_report
from erasure.analysis.labellings import Design
from erasure.analysis.power import LEVEL, basis_of, found_shifts
from erasure.analysis.relabelling_test import gold_spread, usable_by_t
from erasure.errors import DataError
from erasure.records.originals import original_of
from erasure.records.rows import Row

__all__ = ["Calibration", "Missed", "calibrate"]

_ORIGINAL = "the original"
_PLANTED = "planted"
_SETS = 100
_RELATIVE_ZERO = 1e-12
_Unit: TypeAlias = tuple[int | None, int | None]


@dataclass(frozen=True)
class Missed:
    """What a report finds of one value.

    Args:
        column: The value.
        gold: Mean of retrained models.
        gold_sd: Their standard deviation.
        shift: Smallest shift, in the value's own unit, that 80 % of reports find if nothing else differs; infinity if none is found.
    """

    column: TestedColumn
    gold: float
    gold_sd: float
    shift: float

    @property
    def deviations(self) -> float:
        """The shift in standard deviations of a gold."""
        return self.shift / self.gold_sd if self.gold_sd else math.inf


@dataclass(frozen=True)
class Calibration:
    """How a design judges models of which the truth is known.

    Args:
        n_originals: Originals of a report.
        n_golds: Further golds of each, or of those that share them.
        n_pool: Golds of each original, or of originals that share them, that reports were drawn from.
        n_methods: Methods for which verdicts are corrected.
        n_played: Golds that play methods in one report.
        n_draws: Reports.
        n_accused: Reports that accuse a gold.
        findings: What was found of the golds that played, over all reports.
        original: What was found of the original, where it plays one more method.
        planted: What was found of models of which more is known than that they are retrained, where one of them plays one more.
        missed: What is found of each value; empty if the design can accuse nobody.
        notices: What a reader must know of the golds.
        is_shared: Whether originals share their golds.
    """

    n_originals: int
    n_golds: int
    n_pool: int
    n_methods: int
    n_played: int
    n_draws: int
    n_accused: int
    findings: Mapping[Finding, int]
    original: Mapping[Finding, int]
    planted: Mapping[Finding, int] = field(default_factory=dict)
    missed: Sequence[Missed] = ()
    notices: Sequence[str] = ()
    is_shared: bool = False

    @property
    def accused(self) -> float:
        """Share of reports that accuse a retrained model."""
        return self.n_accused / self.n_draws

    @property
    def n_found(self) -> int:
        """Reports that find the original under-forgotten."""
        return self.original.get(Finding.UNDER_FORGOTTEN, 0)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Clopper-Pearson interval of that share; draws overlap, so that it is somewhat too narrow."""
        from scipy.special import betaincinv

        k, n = self.n_accused, self.n_draws
        low = 0.0 if not k else float(betaincinv(k, n - k + 1, 0.025))
        return low, 1.0 if k == n else float(betaincinv(k + 1, n - k, 0.975))


def calibrate(
    rows: Iterable[Row],
    roles: RolePartitions,
    *,
    n_golds: int,
    n_methods: int = 1,
    n_draws: int = 300,
    level: float = LEVEL,
    seed: int = 0,
    planted: Iterable[Row] = (),
) -> Calibration:
    """Judge golds as if they were methods, in reports of the design that is asked for.

    In each report golds of the same original play methods and jury, by lot and without replacement; then the original plays one. Of
    originals that share their golds each has a gold of its own to play a method. A test by
    labellings holds its level for any pool of golds, so that only the error of that number of draws is left; one by t is put to the test.

    Args:
        rows: Rows of originals and of all golds, further ones among them; those of unlearned models are not looked at.
        roles: What the partitions are.
        n_golds: Golds of each original in the jury of a report.
        n_methods: Methods for which verdicts are corrected; as many golds play them as the pool has to spare.
        n_draws: Reports.
        level: Share of reports in which a retrained method may be accused.
        seed: Of the draws.
        planted: Rows, as of further golds, of models that were made in another way for the same originals.

    Raises:
        DataError: If an original has no more golds than the jury.
    """
    # Golds as attacks see them that are calibrated on golds: what a method that retrains would have.
    references = [row for row in rows if row.model_role == "original" or (row.is_juror and not row.treated_like)]
    families, notices = families_of(references, roles)
    family = families.get("original")
    if family is None or family.design is None or not family.columns:
        raise DataError("there are no further golds with values that are compared with retraining")
    n_pool, n_seats = _n_golds(family.design), _n_unlearned(family.design)
    n_played = min(max(1, n_methods), (n_pool - n_golds) // n_seats)
    if n_played < 1:
        spare = "none" if n_seats == 1 else f"fewer than {n_seats}"
        raise DataError(f"a jury of {n_golds} golds leaves {spare} of {n_pool} to play the method")
    generator = np.random.default_rng(seed)
    share = level * n_played / max(1, n_methods)
    by_unit: dict[_Unit, list[Row]] = {}
    for row in references:
        by_unit.setdefault(original_of(row), []).append(row)
    findings: Counter[Finding] = Counter()
    of_original: Counter[Finding] = Counter()
    of_planted: Counter[Finding] = Counter()
    others = _by_unit_and_number(planted)
    n_accused = 0
    for _ in range(n_draws):
        drawn, jury = _report(by_unit, family, n_golds, n_played, generator)
        found = judge_report(drawn, roles, level=share).methods
        mine = [tested.finding for tested in found.values()]
        findings.update(mine)
        n_accused += any(each in ACCUSED for each in mine)
        one = level / max(1, n_methods)
        unforgotten = [replace(row, model_role="unlearned", label=_ORIGINAL) for row in jury if row.model_role == "original"]
        of_original[judge_report([*jury, *unforgotten], roles, level=one).methods[_ORIGINAL].finding] += 1
        if others:
            played = [row for unit in family.units for row in _one_of(others[unit], generator)]
            of_planted[judge_report([*jury, *played], roles, level=one).methods[_PLANTED].finding] += 1
    missed = _missed(family, n_golds, max(1, n_methods), level, generator)
    return Calibration(
        len(family.units),
        n_golds,
        n_pool,
        max(1, n_methods),
        n_played,
        n_draws,
        n_accused,
        findings,
        of_original,
        of_planted,
        missed,
        notices,
        n_seats > 1,
    )


def _report(
    by_unit: Mapping[_Unit, Sequence[Row]],
    family: Family,
    n_golds: int,
    n_played: int,
    generator: np.random.Generator,
) -> tuple[list[Row], list[Row]]:
    """Rows of a report in which golds play methods, and those of its jury and originals alone."""
    played, jury = [], []
    for bench, units in _benches(by_unit, family).items():
        golds = [row for row in by_unit[bench] if row.number]
        numbers = generator.permutation(sorted({row.number for row in golds if row.number})).tolist()
        seats = [(f"retrained {place}", unit) for place in range(1, n_played + 1) for unit in units]
        actors = dict(zip(numbers, seats, strict=False))
        places = {number: place for place, number in enumerate(numbers[len(seats) : len(seats) + n_golds], start=1)}
        for row in golds:
            if row.number in actors:
                label, (_, seed) = actors[row.number]
                played.append(replace(row, model_role="unlearned", label=label, number=None, seed_train=seed))
            elif row.number in places:
                seated = replace(row, number=places[row.number])
                played.append(seated)
                jury.append(seated)
        for row in (row for unit in units for row in by_unit[unit] if row.model_role == "original"):
            played.append(row)
            jury.append(row)
    return played, jury


def _by_unit_and_number(rows: Iterable[Row]) -> dict[_Unit, dict[int, list[Row]]]:
    found: dict[_Unit, dict[int, list[Row]]] = {}
    for row in rows:
        if row.number:
            found.setdefault(original_of(row), {}).setdefault(row.number, []).append(row)
    return found


def _one_of(models: Mapping[int, Sequence[Row]], generator: np.random.Generator) -> list[Row]:
    """One of some models as a method."""
    number = sorted(models)[int(generator.integers(len(models)))]
    return [replace(row, model_role="unlearned", label=_PLANTED, number=None) for row in models[number]]


def _benches(by_unit: Mapping[_Unit, Sequence[Row]], family: Family) -> dict[_Unit, list[_Unit]]:
    """The originals that are judged beside each jury: each by itself, or all of a split that share their golds."""
    found: dict[_Unit, list[_Unit]] = {}
    for unit in family.units:
        has_own = any(row.number for row in by_unit[unit])
        found.setdefault(unit if has_own else (unit[0], None), []).append(unit)
    return found


def _n_golds(design: Design) -> int:
    """Fewest golds of a block."""
    return min(golds for _, golds in design.blocks)


def _n_unlearned(design: Design) -> int:
    """Most originals of a block."""
    return max(unlearned for unlearned, _ in design.blocks)


def _missed(family: Family, n_golds: int, n_methods: int, level: float, generator: np.random.Generator) -> list[Missed]:
    """The shift of each value that is found, on data sets drawn from the golds."""
    whole = family.design
    assert whole is not None  # noqa: S101 - the caller has asked
    design = Design(tuple((unlearned, n_golds) for unlearned, _ in whole.blocks))
    basis = basis_of(design, n_methods, level=level)
    if not basis:
        return []
    spread = gold_spread(family.values, whole)
    golds = [(family.values[rows][mine:], mine) for rows, (mine, _) in zip(whole.slices, whole.blocks, strict=True)]
    sets = np.concatenate([_drawn(each, mine + n_golds, generator) for each, mine in golds], axis=1)
    varies = spread > _RELATIVE_ZERO * np.abs(family.values).max(axis=0)
    compared = np.flatnonzero(varies & usable_by_t(family.values, whole) if basis == "t" else varies)
    shifts = found_shifts(sets[:, :, compared] / spread[compared], design, n_methods, level=level)
    found = dict(zip(compared.tolist(), shifts, strict=True))
    return [
        Missed(column, family.means(index)[1], float(spread[index]), found.get(index, math.inf) * float(spread[index]))
        for index, column in enumerate(family.columns)
        if varies[index]
    ]


def _drawn(golds: NDArray[np.float64], n: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """``(data sets, n, values)`` of one block, without replacement inside a set."""
    chosen = np.stack([generator.permutation(len(golds))[:n] for _ in range(_SETS)])
    return np.asarray(golds[chosen])
