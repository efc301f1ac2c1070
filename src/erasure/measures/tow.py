"""Tug of war: closeness to gold on every side at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from erasure.functional.composites import tug_of_war
from erasure.measures.contract import Evaluation, Value
from erasure.measures.gold_comparison import GoldReferenced
from erasure.types import Source, Statistic

__all__ = ["ToW"]


@dataclass(frozen=True, kw_only=True)
class ToW(GoldReferenced):
    r"""Tug of war between forgetting, keeping and generalising.

    Answers: is the model close to retraining on every side at once?

    .. math:: \prod_{S \in \{D_f, D_r, D_t\}} \bigl(1 - |a(\theta_u, S) - a(\theta_r, S)|\bigr)

    with accuracies in [0, 1]. In [0, 1]; 1 is best. With ``membership``, the attack's value takes the place of the forget accuracy
    (ToW-MIA); the papers' attack is a confidence-based one, so say which one was used.
    """

    source: ClassVar[Source | None] = Source(
        paper="Zhao, Kurmanji, Barbulescu, Triantafillou, Triantafillou, NeurIPS 2024, arXiv:2406.01257",
        code="kairanzhao/RUM at f593c9d",
        tested="the formula on drawn accuracies (tests/unit/measures/test_gold_comparisons.py)",
    )
    higher_is_better: ClassVar[bool | None] = True
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    ideal: ClassVar[Literal["gold"] | float | None] = 1.0

    @property
    def statistic(self) -> Statistic:
        """A number made from other measures."""
        return "composite"

    @property
    def title(self) -> str:
        """``ToW``, or ``ToW-MIA`` with an attack."""
        return "ToW" if self.membership is None else "ToW-MIA"

    def partitions(self) -> tuple[str, ...]:
        """The forget partition only where it, or the attack, is looked at."""
        names = super().partitions()
        if self.membership is None or self.forget in (self.retain, self.test, *self.membership.partitions()):
            return names
        return tuple(name for name in names if name != self.forget)

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The product."""
        accuracies = (self.forget, self.retain, self.test) if self.membership is None else (self.retain, self.test)
        return [Value(value=tug_of_war(*self.pairs(evaluation, accuracies)))]
