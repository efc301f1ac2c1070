"""Mean distance to gold over a few accuracies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from erasure.functional.composites import average_gap
from erasure.measures.contract import Evaluation, Value
from erasure.measures.gold_comparison import GoldReferenced
from erasure.types import Source, Statistic

__all__ = ["AverageGap"]


@dataclass(frozen=True, kw_only=True)
class AverageGap(GoldReferenced):
    r"""Mean absolute distance to gold over forget, retain and test accuracy (Avg. Gap).

    Answers: how far is the model from retraining, all in all?

    .. math:: \frac{100}{|M|} \sum_{m \in M} |m(\theta_u) - m(\theta_r)|, \qquad M = \{A_f, A_r, A_t\} \text{ and the attack, if given}

    in percentage points, as papers print it; in [0, 100], 0 is best. The gap of each seed is averaged, where some papers take the gap
    of the averages, which is never larger. Run time, which some papers list with it, is not part of it.
    """

    source: ClassVar[Source | None] = Source(
        paper="Fan et al., ICLR 2024, arXiv:2310.12508 (SalUn); Jia et al., NeurIPS 2023, arXiv:2304.04934",
        deviations=("Repetitions are averaged after taking the gap, not before.",),
    )
    higher_is_better: ClassVar[bool | None] = False
    value_range: ClassVar[tuple[float, float]] = (0.0, 100.0)
    unit: ClassVar[str] = "pp"
    ideal: ClassVar[Literal["gold"] | float | None] = 0.0

    @property
    def statistic(self) -> Statistic:
        """A number made from other measures."""
        return "composite"

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The mean gap."""
        subject, gold = self.pairs(evaluation, (self.forget, self.retain, self.test))
        return [Value(value=100 * average_gap(subject, gold))]
