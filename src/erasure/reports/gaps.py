"""How far a method is from gold: one measure at a time, in its own unit and in noise floors."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from erasure.store.rows import Row

__all__ = ["EPSILON", "Comparison", "Question", "Roles", "comparisons", "is_attack"]

Question: TypeAlias = Literal["forgetting", "utility", "other"]

_ATTACK = re.compile(
    r"(?<![a-z])(?<!tow-)(?:u?mia|r?lira|rmia|ruli|shokri)(?![a-z])|attack(?!\s*success)|membership|leakage", re.IGNORECASE
)
_NO_CHANCE = re.compile(r"tpr|advantage|@|entropyattack", re.IGNORECASE)
_TRACES = re.compile(r"AttackSuccessRate|InterclassConfusion|IC-Err|WrongLabelAccuracy")
"""What forgotten samples have planted, whatever it is looked for on: more of it is knowledge of them, and less says nothing."""
_SIDES = {"MIAEfficacy": -1, "Forgetting rate": -1, "ForgettingQuality": 0, "TrueLabelAccuracy": 0, "ECE": 0, "adaptive ECE": 0}
"""What a larger value on forgotten samples is: less knowledge of them (-1), or either (0). Of all others the direction tells."""
EPSILON = 1e-9
_FAR = 1e3
"""Ratio of a gap to a floor of zero."""


@dataclass(frozen=True)
class Roles:
    """Names of the partitions that were forgotten, kept, and never seen, and their sizes where known."""

    forget: frozenset[str] = frozenset({"forget"})
    retain: frozenset[str] = frozenset({"retain"})
    test: frozenset[str] = frozenset({"test"})
    sizes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """One measure of a method against gold, over all repetitions.

    Args:
        measure: The measure.
        partition: What it was measured on.
        question: What it tells about.
        value: Mean value.
        gold: Mean value of gold.
        gap: Distance of the two, that of attacks after counting values below chance as chance; the mean over repetitions, so that a
            method that does too well with one seed and too badly with another is not taken for gold.
        signed: The same with a sign: positive where the method does better (or is easier attacked) than gold; None if unknown
            or neither on average, and of distances to gold, which have no side.
        floor: Mean noise floor, or None.
        unit: Unit of the values.
        is_attack: Whether it is an attack's success.
        samples: What the partition holds, in words.
        is_scattered: Whether it is only seed by seed that the two differ by more than the floor, and not on average.
    """

    measure: str
    partition: str
    question: Question
    value: float
    gold: float
    gap: float
    signed: float | None
    floor: float | None
    unit: str = ""
    is_attack: bool = False
    samples: str = ""
    is_scattered: bool = False

    @property
    def is_within(self) -> bool:
        """Whether the gap is not larger than the noise floor."""
        return self.floor is not None and self.gap <= self.floor + EPSILON

    @property
    def ratio(self) -> float:
        """Gap in noise floors; 0 if there is no gap, and large where the floor is 0."""
        if self.gap <= EPSILON:
            return 0.0
        return min(self.gap / self.floor, _FAR) if self.floor else _FAR


def comparisons(rows: Iterable[Row], roles: Roles) -> tuple[Comparison, ...]:
    """What a method's rows say against gold, one for each measure and partition.

    Retrained models may agree exactly; a floor of an accuracy is therefore never below one sample, where the sizes are known.
    """
    cells: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.value is not None and row.gold is not None and row.gap is not None:
            cells.setdefault((row.measure, row.partition), []).append(row)
    return tuple(_comparison(measure, partition, cell, roles) for (measure, partition), cell in cells.items())


def _comparison(measure: str, partition: str, cell: Sequence[Row], roles: Roles) -> Comparison:
    pairs = [(row.value, row.gold) for row in cell if row.value is not None and row.gold is not None]
    value, gold = (_mean(part) for part in zip(*pairs, strict=True))
    floors = [row.floor for row in cell if row.floor is not None]
    floor = _mean(floors) if floors else None
    attack = is_attack(measure) and (not partition or partition in roles.forget)
    counted = attack and cell[0].unit == ""
    if floor is not None and (counted or measure.casefold().startswith("accuracy")) and roles.sizes.get(partition):
        floor = max(floor, 1 / roles.sizes[partition])
    question: Question = "other"
    if partition in roles.forget or attack:
        question = "forgetting"
    elif partition in roles.retain or partition in roles.test:
        question = "utility"
    is_trace = bool(_TRACES.match(measure))
    if is_trace:
        question = "forgetting"
    if counted and all(0 <= v <= 1 for pair in pairs for v in pair) and _has_chance(measure):
        pairs = [(max(found, 0.5), max(reference, 0.5)) for found, reference in pairs]
    differences = [found - reference for found, reference in pairs]
    gap, difference = _mean([abs(each) for each in differences]), _mean(differences)
    sign = _side(cell[0], question) if not (attack or is_trace) else 1 if attack or difference > 0 else 0
    is_scattered = floor is not None and abs(difference) <= floor + EPSILON < gap
    return Comparison(
        measure=measure,
        partition=partition,
        question=question,
        value=value,
        gold=gold,
        gap=gap,
        signed=sign * difference if sign and not is_scattered else None,
        floor=floor,
        unit=cell[0].unit,
        is_attack=attack,
        samples=_samples(partition, roles),
        is_scattered=is_scattered,
    )


def _side(row: Row, question: Question) -> int:
    """1 if a larger value is more knowledge or use, -1 if a smaller one is, 0 if it does not say."""
    if row.ideal != "gold":
        return 0
    if question == "forgetting":
        for name, side in _SIDES.items():
            if row.measure.startswith(name):
                return side
    return {"higher": 1, "lower": -1}.get(row.direction, 0)


@functools.cache
def is_attack(measure: str) -> bool:
    """Whether a measure's name is that of an attack's success."""
    return bool(_ATTACK.search(measure))


def _samples(partition: str, roles: Roles) -> str:
    if partition in roles.forget:
        return "forgotten"
    return "retained" if partition in roles.retain else "unseen" if partition in roles.test else ""


@functools.cache
def _has_chance(measure: str) -> bool:
    """Whether one half is what a coin would reach: an accuracy or an area, not a rate at a fixed false-positive rate, nor a share."""
    return not _NO_CHANCE.search(measure)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
