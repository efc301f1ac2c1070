"""The values of a method and of its jury as one array: which of them are compared, and in which blocks models may trade places."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from erasure.analysis.gaps import RolePartitions, side_of
from erasure.analysis.labellings import Design
from erasure.records.originals import original_of
from erasure.records.rows import Row
from erasure.types import Statistic

__all__ = ["CLAIMS", "FORGETTING", "UTILITY", "Claim", "Family", "TestedColumn", "families_of"]

Claim: TypeAlias = Literal["forgotten", "traces", "retained", "held-out"]
CLAIMS: tuple[Claim, ...] = ("forgotten", "traces", "retained", "held-out")
FORGETTING: frozenset[Claim] = frozenset({"forgotten", "traces"})
UTILITY: tuple[Claim, ...] = ("retained", "held-out")

_NO_GOLDS = "there are no further golds to judge it beside"
_NOT_COMPARED = "nothing is measured that is compared with retraining; add a measure of what models say, such as Accuracy or UMIA"
_UNKEPT = "the values of the further golds were not kept, as by older versions; run it again to have it judged"
_UNFIT = frozenset({"collapsed", "non-finite", "failed"})
_Unit: TypeAlias = tuple[int | None, int | None]
_Key: TypeAlias = tuple[str, str]
_Jury: TypeAlias = dict[_Unit, dict[int, dict[_Key, list[float]]]]


@dataclass(frozen=True)
class TestedColumn:
    """One value: a measure on a partition.

    Args:
        measure: The measure.
        partition: The partition.
        claim: What it tells about.
        side: 1 if a larger value is more knowledge or use, -1 if a smaller one is, 0 if it has no side.
        tells: What a larger value tells of forgotten samples.
        unit: Its unit.
        is_share: Whether it is a share of samples.
        step: One sample, as a share; 0 for other values.
        chance: What guessing reaches, of an attack of which it is not known which way it points; None of other values.
        statistic: What kind of number it is, where verdicts treat it apart.
        farther: Of a distance to the gold of the same seeds 1 if a larger value is farther from it, -1 if a smaller one is; 0 of others.
    """

    measure: str
    partition: str
    claim: Claim
    side: int
    tells: str
    unit: str
    is_share: bool
    step: float
    chance: float | None = None
    statistic: Statistic = ""
    farther: int = 0

    @property
    def key(self) -> tuple[str, str]:
        """Measure and partition."""
        return self.measure, self.partition


@dataclass(frozen=True, eq=False)
class Family:
    """The values of a method and of its jury.

    Args:
        columns: The values, by measure and partition.
        values: ``(models, values)``; blocks one after the other, in each the method's models and then the jury. A block is an original, or
            all originals of a split that share their golds.
        units: The originals, block by block.
        design: The blocks; None if nothing can be compared.
        reason: Why not.
        left_out: Values that some model lacks.
        seed: Of the labellings, where there are too many to try all.
    """

    columns: Sequence[TestedColumn] = ()
    values: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))
    units: Sequence[_Unit] = ()
    design: Design | None = None
    reason: str = ""
    left_out: Sequence[str] = ()
    seed: int = 0

    @property
    def n_originals(self) -> int:
        """Originals."""
        return len(self.units)

    @property
    def is_testable(self) -> bool:
        """Whether there are values beside a jury."""
        return self.design is not None and bool(self.columns)

    def apart(self, index: int) -> NDArray[np.float64]:
        """What the method has more than the mean of its jury, for each original."""
        return np.asarray(self._apart[index])

    @functools.cached_property
    def _apart(self) -> NDArray[np.float64]:
        """The same of every value, ``(values, originals)``."""
        if self.design is None:
            return np.zeros((len(self.columns), 0))
        table = np.ascontiguousarray(self.values.T)
        blocks = [(table[:, rows], mine) for rows, (mine, _) in zip(self.design.slices, self.design.blocks, strict=True)]
        return np.concatenate([each[:, :mine] - each[:, mine:].mean(axis=1, keepdims=True) for each, mine in blocks], axis=1)

    def distance(self, index: int) -> float:
        """How far the method lies from its jury, whichever way: the root mean square over originals."""
        return math.sqrt(float((self.apart(index) ** 2).mean()))

    def means(self, index: int) -> tuple[float, float]:
        """Means over originals of the method and of the jury."""
        mine, jury = self._means
        return float(mine[index]), float(jury[index])

    @functools.cached_property
    def _means(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The same of every value."""
        if self.design is None:
            return np.full(len(self.columns), np.nan), np.full(len(self.columns), np.nan)
        table, design = np.ascontiguousarray(self.values.T), self.design
        blocks = [(table[:, rows], mine) for rows, (mine, _) in zip(design.slices, design.blocks, strict=True)]
        juries = np.stack([each[:, mine:].mean(axis=1) for each, mine in blocks], axis=1)
        own = np.ascontiguousarray(np.concatenate([each[:, :mine] for each, mine in blocks], axis=1))
        return own.mean(axis=1), np.average(juries, axis=1, weights=[mine for _, mine in blocks])


def families_of(rows: Iterable[Row], roles: RolePartitions) -> tuple[dict[str, Family], list[str]]:
    """The family of every method, and of the original under its own label; and what a reader must know of the jury.

    Args:
        rows: Rows of all models, further golds among them.
        roles: What the partitions are.
    """
    columns: dict[_Key, TestedColumn] = {}
    models: dict[str, dict[_Unit, dict[_Key, list[float]]]] = {}
    jury: _Jury = {}
    own: dict[str, _Jury] = {}
    unfit: set[tuple[_Unit, int]] = set()
    golds: set[str] = set()
    seen: set[str] = set()
    has_floors = has_values = False
    previous: tuple[object, ...] = ()
    for row in rows:
        has_values = has_values or row.value is not None
        has_floors = has_floors or row.noise_floor is not None
        unit = original_of(row)
        model = row.model_role, row.label, row.number, row.treated_like, row.status in _UNFIT, unit
        if model != previous:  # rows of one model come one after the other, and there may be hundreds of thousands
            previous = model
            is_seated = True
            if row.model_role == "gold":
                calibrated_for = {"": "", "original": "original"}.get(row.treated_like, row.label)
                if not calibrated_for:
                    golds.add(row.label)
                is_seated = bool(row.number)
                if row.number:
                    if row.status in _UNFIT and not calibrated_for:
                        unfit.add((unit, row.number))
                    bench = own.setdefault(calibrated_for, {}) if calibrated_for else jury
                    of = bench.setdefault(unit, {}).setdefault(row.number, {})
            else:
                of = models.setdefault("original" if row.model_role == "original" else row.label, {}).setdefault(unit, {})
        value = row.value
        if not is_seated or value is None or not math.isfinite(value) or not _is_compared(row):
            continue
        key = (row.measure, row.partition)
        if key not in columns:
            column = _column(row, roles)
            if column is None:
                continue
            columns[key] = column
        if key in of:
            of[key].append(value)
        else:
            of[key] = [value]
        seen.add(row.address)
    for unit, number in unfit:
        del jury[unit][number]
    notices = [f"{len(unfit)} further gold{'s' * (len(unfit) > 1)} broke down and left the jury."] if unfit else []
    if len(golds) > 1:
        # Rows do not name the gold that a method belongs to.
        reason = "methods with different retrain partitions are in one run; run them one by one to have them judged"
        return {label: Family(reason=reason) for label in models}, notices
    seed = int.from_bytes(hashlib.sha256("".join(sorted(seen)).encode()).digest()[:4], "big")
    ordered = [columns[key] for key in sorted(columns)]
    without = _NOT_COMPARED if has_values and not columns else _UNKEPT if has_floors and not jury else _NO_GOLDS
    return {
        label: _family(of, _seated(jury, own.get(label, {})), ordered, seed, without) for label, of in models.items()
    }, notices


def _seated(jury: _Jury, own: _Jury) -> _Jury:
    """The jury as one method sees it: where an attack was calibrated for the method, its values take the place of the others'.

    A gold that lacks such a value lacks it: what another calibration says of it is another value.
    """
    if not own:
        return jury
    calibrated = {key for of in own.values() for values in of.values() for key in values}
    return {
        unit: {
            number: {key: each for key, each in values.items() if key not in calibrated} | own.get(unit, {}).get(number, {})
            for number, values in of.items()
        }
        for unit, of in jury.items()
    }


def _is_compared(row: Row) -> bool:
    return row.ideal is not None and row.statistic not in {"composite", "population"}


def _column(row: Row, roles: RolePartitions) -> TestedColumn | None:
    is_attack = row.indicates == "attack" and (not row.partition or row.partition in roles.forget)
    if is_attack or row.indicates == "trace":
        claim: Claim = "traces"
    elif row.partition in roles.forget:
        claim = "forgotten"
    elif row.partition in roles.retain:
        claim = "retained"
    elif row.partition in roles.test:
        claim = "held-out"
    else:
        return None
    is_share = row.unit == "" and (is_attack or row.statistic == "accuracy")
    size = roles.sizes.get(row.partition)
    step = 1 / size if is_share and size else 0.0
    side = side_of(row, "forgetting" if claim in FORGETTING else "utility")
    return TestedColumn(
        row.measure,
        row.partition,
        claim,
        side,
        row.indicates,
        row.unit,
        is_share,
        step,
        row.chance_level if is_attack else None,
        row.statistic,
        {"lower": 1, "higher": -1}.get(row.direction, 0) if row.ideal != "gold" and not row.indicates else 0,
    )


def _family(
    of: Mapping[_Unit, Mapping[_Key, Sequence[float]]],
    jury: Mapping[_Unit, Mapping[int, Mapping[_Key, Sequence[float]]]],
    columns: Sequence[TestedColumn],
    seed: int,
    without: str,
) -> Family:
    judged = {unit: unit if jury.get(unit) else (unit[0], None) for unit in of if of[unit]}
    units = sorted((unit for unit, bench in judged.items() if jury.get(bench)), key=lambda unit: (str(judged[unit]), str(unit)))
    if not units:
        return Family(reason=without)
    blocks: dict[_Unit, list[_Unit]] = {}
    for unit in units:
        blocks.setdefault(judged[unit], []).append(unit)
    members = [
        [*(of[unit] for unit in mine), *(jury[bench][number] for number in sorted(jury[bench]))] for bench, mine in blocks.items()
    ]
    every = [model for block in members for model in block]
    of_all = set(every[0]).intersection(*every[1:])
    of_some = set().union(*every) - of_all
    kept = [column for column in columns if column.key in of_all]
    some = [column for column in columns if column.key in of_some]
    keys = [column.key for column in kept]
    values = np.array([[_mean(model[key]) for key in keys] for model in every])
    design = Design(tuple((len(mine), len(jury[bench])) for bench, mine in blocks.items()))
    left_out = tuple(f"{c.measure} on {c.partition}" if c.partition else c.measure for c in some)
    return Family(kept, values.reshape(len(every), len(kept)), units, design, "", left_out, seed)


def _mean(values: Sequence[float]) -> float:
    return values[0] if len(values) == 1 else math.fsum(values) / len(values)
