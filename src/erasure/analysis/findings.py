"""What a test finds of a method: each value beside the golds', the verdict, and the report over all methods."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from erasure.analysis.equivalence import Limits, telling_rate
from erasure.analysis.families import Claim, TestedColumn
from erasure.analysis.nearest import Distances
from erasure.analysis.populations import PopulationTest
from erasure.analysis.power import Basis, Detection

__all__ = ["ACCUSED", "ORIGINAL", "Difference", "Finding", "Repeats", "Tested", "TestedReport", "is_negligible"]

ORIGINAL = "original"
"""Label of the model that has forgotten nothing, among the compared ones."""
MEMORY_MARGIN = 0.2
"""Memory left, either way, that is as good as none."""
_SLIGHT_SHARE = 0.005
_SLIGHT_OTHER = 0.01
_SLIGHT_SPREAD = 0.5
_FAR = 1e6


class Repeats(StrEnum):
    """How more originals are had: by a run's option, or by giving an audit more models."""

    SEEDS = "seeds"
    MODELS = "models"

    def words(self, n: int) -> str:
        """Such as ``five seeds (--seeds 0-4)``."""
        number = {5: "five", 10: "ten"}.get(n, str(n))
        if self is Repeats.SEEDS:
            return f"{number} seeds (--seeds 0-{n - 1})"
        return f"{number} originals of other training seeds, each with its unlearned model"


class Finding(StrEnum):
    """Verdict on a method. Guards decide the first two, and damage where a model broke down; the test decides the others."""

    FAILED = "failed"
    NO_OP = "no-op"
    DAMAGED = "damaged"
    UNDER_FORGOTTEN = "under-forgotten"
    OVER_FORGOTTEN = "over-forgotten"
    DIFFERENT = "different"
    UNDECIDED = "undecided"
    INDISTINGUISHABLE = "indistinguishable"
    NOT_TOLD_APART = "not-told-apart"


ACCUSED = frozenset({Finding.DAMAGED, Finding.DIFFERENT, Finding.OVER_FORGOTTEN, Finding.UNDER_FORGOTTEN})
"""Findings that say that a model is not like retrained ones."""


@dataclass(frozen=True)
class Difference:
    """One value of a method beside the golds'.

    Args:
        column: The value.
        value: Mean of the method.
        gold: Mean of the jury.
        amount: Difference in the value's own unit; of a method that scatters, how far its models lie from the jury's mean.
        gold_sd: Standard deviation of one gold.
        p: P-value, adjusted for all values of the method; None if the test cannot use it.
        is_scattered: Whether the models scatter more than golds, rather than lie to one side.
        is_negligible: Whether it is too small to matter, however sure.
        apart: For each original, what the method has more than the mean of its jury.
    """

    column: TestedColumn
    value: float
    gold: float
    amount: float
    gold_sd: float
    p: float | None
    is_scattered: bool = False
    is_negligible: bool = False
    apart: tuple[float, ...] = ()

    @property
    def deviations(self) -> float:
        """The difference in standard deviations of a gold."""
        return min(abs(self.amount) / self.gold_sd, _FAR) if self.gold_sd else (_FAR if self.amount else 0.0)

    @property
    def telling_rate(self) -> float:
        """How often the value picks out the unlearned one of a pair."""
        return telling_rate(self.deviations)

    @property
    def side(self) -> int:
        """1 if the method knows or keeps more than golds, -1 if less, 0 if the value has no side.

        An attack that does no better than guessing gives nobody away: it has a side as far as it lies above chance alone.
        """
        if self.is_scattered or not self.amount:
            return 0
        chance = self.column.chance
        if chance is not None:
            above = max(self.value, chance) - max(self.gold, chance)
            if is_negligible(self.column, above, self.gold, self.gold_sd):
                return 0
        side = self.column.side * (1 if self.amount > 0 else -1)
        return 0 if self.column.tells == "trace" and side < 0 else side

    @property
    def is_nearer(self) -> bool:
        """Whether the method is nearer to the gold of its own seeds than other golds are.

        What shares its randomness may be, such as a model that forgets exactly: that is no sign that it was not retrained.
        """
        return (self.value - self.gold) * self.column.farther < 0

    def accuses(self, level: float) -> bool:
        """Whether the value by itself speaks against the method."""
        return self.p is not None and self.p <= level + 1e-12 and not self.is_negligible


@dataclass(frozen=True)
class Tested:
    """What the test says of one method.

    Args:
        label: The method.
        finding: What was found.
        differences: Every value, those that accuse first and the farthest first.
        basis: ``labellings``, ``t`` (assuming normal golds), or empty where nobody can be accused.
        p: The method's p-value.
        adjusted: The same after Holm's correction over the methods; None for retraining itself, which is not tested.
        n_originals: Originals.
        n_labellings: Ways to label the models.
        memory: Share of the original's memory that is left, over originals.
        reason: Why it is undecided, or not shown to be indistinguishable.
        remedy: What would settle it; empty if nothing is known to.
        left_out: Values that are in no test, because some model lacks them.
        maxima: The largest statistic of any value under each labelling, at most 400 of them evenly spaced, ascending; empty without
            labellings.
        maximum: The same as observed.
        populations: Tests of many of its models at once, by measures that bring their own.
    """

    label: str
    finding: Finding
    differences: Sequence[Difference] = ()
    basis: Basis = ""
    p: float | None = None
    adjusted: float | None = None
    n_originals: int = 0
    n_labellings: int = 0
    memory: Limits | None = None
    reason: str = ""
    left_out: Sequence[str] = ()
    remedy: str = ""
    maxima: tuple[float, ...] = ()
    maximum: float = 0.0
    populations: tuple[PopulationTest, ...] = ()

    @property
    def is_accused(self) -> bool:
        """Whether the test says that it differs from retraining."""
        return self.finding in _ACCUSATIONS

    def is_told_by(self, difference: Difference, level: float) -> bool:
        """Whether a value tells the method from retraining, all methods and values of the report considered."""
        return self.adjusted is not None and self.adjusted <= level + 1e-12 and difference.accuses(level)

    def telling_populations(self, level: float) -> tuple[PopulationTest, ...]:
        """Tests of many models at once that tell the method from retraining."""
        return tuple(each for each in self.populations if each.adjusted <= level + 1e-12)

    def difference(self, measure: str, partition: str) -> Difference | None:
        """The difference by one value; None if it is not compared."""
        return self._by_column.get((measure, partition))

    @cached_property
    def _by_column(self) -> dict[tuple[str, str], Difference]:
        return {each.column.key: each for each in self.differences}

    def farthest(self, claims: Collection[Claim]) -> float | None:
        """Largest difference in values on some claims, in standard deviations of a gold; None if nothing is compared."""
        found = (0.0 if each.is_nearer else each.deviations for each in self.differences if each.column.claim in claims)
        return max(found, default=None)

    def farthest_by_original(self, claims: Collection[Claim]) -> list[float]:
        """The same for each original."""
        found = [
            [min(abs(each) / d.gold_sd, _FAR) if d.gold_sd and each * d.column.farther >= 0 else 0.0 for each in d.apart]
            for d in self.differences
            if d.column.claim in claims
        ]
        return [max(each) for each in zip(*found, strict=True)]


_ACCUSATIONS = frozenset({Finding.DAMAGED, Finding.UNDER_FORGOTTEN, Finding.OVER_FORGOTTEN, Finding.DIFFERENT})


@dataclass(frozen=True, eq=False)
class TestedReport:
    """The tests of all methods of a report.

    Args:
        methods: By label.
        n_tested: Methods that were tested together.
        level: Share of reports of retrained methods in which any may be accused.
        control: The original, tested like a method: unless it is accused of knowing more, nobody is indistinguishable.
        distances: How far each model, the original included, is from retraining.
        detection: What is found of a difference of one value; None if nobody can be accused.
        notices: What a reader must know of the jury.
    """

    methods: Mapping[str, Tested]
    n_tested: int
    level: float
    control: Tested | None = None
    distances: Distances = field(default_factory=Distances)
    detection: Detection | None = None
    notices: Sequence[str] = field(default=())

    @property
    def shift(self) -> float | None:
        """Difference of one value, in standard deviations of a gold, that is found in 80 % of cases; None if none can be."""
        return self.detection.shift if self.detection is not None else None

    @property
    def has_nothing_to_forget(self) -> bool:
        """Whether the original itself, which has forgotten nothing, could have been told from retrained models and was not."""
        control = self.control
        return control is not None and control.finding in {Finding.INDISTINGUISHABLE, Finding.NOT_TOLD_APART}


def is_negligible(column: TestedColumn, amount: float, gold: float, spread: float) -> bool:
    """Whether a difference from golds of mean ``gold`` and standard deviation ``spread`` is too small to matter."""
    least = max(column.step, _SLIGHT_SHARE) if column.is_share else _SLIGHT_OTHER * abs(gold)
    return abs(amount) <= max(least, _SLIGHT_SPREAD * spread) + 1e-12
