"""How far a method is from gold: one measure at a time, in its own unit and in noise floors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from erasure.records.rows import Row

__all__ = ["EPSILON", "GoldGap", "Question", "RolePartitions", "gold_gaps", "side_of"]

Question: TypeAlias = Literal["forgetting", "utility", "other"]

EPSILON = 1e-9
_FAR = 1e3
"""Ratio of a gap to a floor of zero."""


@dataclass(frozen=True)
class RolePartitions:
    """Names of the partitions that were forgotten, kept, and never seen, and their sizes where known."""

    forget: frozenset[str] = frozenset({"forget"})
    retain: frozenset[str] = frozenset({"retain"})
    test: frozenset[str] = frozenset({"test"})
    sizes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class GoldGap:
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
        noise_floor: Mean noise floor, or None.
        unit: Unit of the values.
        is_attack: Whether it is an attack's success.
        chance_level: What guessing reaches, or None.
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
    noise_floor: float | None
    unit: str = ""
    is_attack: bool = False
    chance_level: float | None = None
    samples: str = ""
    is_scattered: bool = False

    @property
    def is_within(self) -> bool:
        """Whether the gap is not larger than the noise floor."""
        return self.noise_floor is not None and self.gap <= self.noise_floor + EPSILON

    @property
    def ratio(self) -> float:
        """Gap in noise floors; 0 if there is no gap, and large where the floor is 0."""
        if self.gap <= EPSILON:
            return 0.0
        return min(self.gap / self.noise_floor, _FAR) if self.noise_floor else _FAR


def gold_gaps(rows: Iterable[Row], roles: RolePartitions) -> tuple[GoldGap, ...]:
    """What a method's rows say against gold, one for each measure and partition.

    Retrained models may agree exactly; a floor of an accuracy is therefore never below one sample, where the sizes are known.
    """
    cells: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.value is not None and row.gold is not None and row.gap is not None:
            cells.setdefault((row.measure, row.partition), []).append(row)
    return tuple(_comparison(measure, partition, cell, roles) for (measure, partition), cell in cells.items())


def _comparison(measure: str, partition: str, cell: Sequence[Row], roles: RolePartitions) -> GoldGap:
    pairs = [(row.value, row.gold) for row in cell if row.value is not None and row.gold is not None]
    value, gold = (_mean(part) for part in zip(*pairs, strict=True))
    floors = [row.noise_floor for row in cell if row.noise_floor is not None]
    floor = _mean(floors) if floors else None
    unit, tells, chance = cell[0].unit, cell[0].indicates, cell[0].chance_level
    is_attack = tells == "attack" and (not partition or partition in roles.forget)
    is_share = unit == "" and (is_attack or cell[0].statistic == "accuracy")
    if floor is not None and is_share and roles.sizes.get(partition):
        floor = max(floor, 1 / roles.sizes[partition])
    question: Question = "other"
    if partition in roles.forget or is_attack or tells == "trace":
        question = "forgetting"
    elif partition in roles.retain or partition in roles.test:
        question = "utility"
    if is_attack and chance is not None:
        pairs = [(max(found, chance), max(reference, chance)) for found, reference in pairs]
    differences = [found - reference for found, reference in pairs]
    gap, difference = _mean([abs(each) for each in differences]), _mean(differences)
    sign = side_of(cell[0], question)
    if tells == "trace" and difference <= 0:
        sign = 0
    is_scattered = floor is not None and abs(difference) <= floor + EPSILON < gap
    return GoldGap(
        measure=measure,
        partition=partition,
        question=question,
        value=value,
        gold=gold,
        gap=gap,
        signed=sign * difference if sign and not is_scattered else None,
        noise_floor=floor,
        unit=unit,
        is_attack=is_attack,
        chance_level=chance,
        samples=_samples(partition, roles),
        is_scattered=is_scattered,
    )


def side_of(row: Row, question: Question) -> int:
    """1 if a larger value is more knowledge or use, -1 if a smaller one is, 0 if it does not say."""
    if question == "forgetting":
        return {"knowledge": 1, "attack": 1, "trace": 1, "ignorance": -1}.get(row.indicates, 0)
    return {"higher": 1, "lower": -1}.get(row.direction, 0) if row.ideal == "gold" else 0


def _samples(partition: str, roles: RolePartitions) -> str:
    if partition in roles.forget:
        return "forgotten"
    return "retained" if partition in roles.retain else "unseen" if partition in roles.test else ""


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
