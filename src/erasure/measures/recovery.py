"""How much of what wrong data has cost comes back once it is forgotten."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from erasure.errors import PartitionError, RequirementNotMet
from erasure.functional.losses import correctness
from erasure.measures.contract import Evaluation, Measure, ModelRole, Reference, Value
from erasure.measures.requirements import require_defined
from erasure.types import Partition, Source, Statistic, Task

__all__ = ["Recovery"]

_DEVIATIONS = 2.0
"""Standard deviations of the paired difference by which gold must be ahead of the original."""


@dataclass(frozen=True, kw_only=True)
class Recovery(Measure):
    r"""Share of the accuracy that wrong data has cost which comes back when it is forgotten.

    Answers: after poisoned samples or edges were forgotten, is the model as good as one that has never seen them?

    .. math:: \frac{a(\theta_u) - a(\theta_o)}{a(\theta_r) - a(\theta_o)}

    with the accuracies of the unlearned, the original and the retrained model. 0 is no better than before, below 0 worse, 1 as good as
    gold; above 1 is better than gold on these samples. Where gold's lead over the original is within two standard deviations of the paired
    difference, the wrong data has done no harm that could be repaired, and the measure says so instead of dividing by noise.

    Args:
        partition: Clean samples that the wrong data has harmed, such as test nodes near planted edges.
    """

    source: ClassVar[Source | None] = Source(
        paper="Goel, Prabhu, Torr, Kumaraguru, Sanyal, TMLR 2024, arXiv:2402.14015; graphs: Kolipaka et al., ICML 2025, arXiv:2412.00789",
        deviations=("The papers report accuracies; this is their place between the original's and gold's.",),
    )
    higher_is_better: ClassVar[bool | None] = True
    ideal: ClassVar[Literal["gold"] | float | None] = 1.0
    references: ClassVar[frozenset[Reference]] = frozenset({"original", "gold"})
    applies_to: ClassVar[frozenset[ModelRole]] = frozenset({"gold", "unlearned"})
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification", "binary"})

    partition: Partition = "test"

    @property
    def statistic(self) -> Statistic:
        """A number made from other measures."""
        return "composite"

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The share."""
        require_defined(self, evaluation)
        found, before, after = (self._right(evaluation, who) for who in (None, "original", "gold"))
        gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
        if gained - lost <= _DEVIATIONS * math.sqrt(gained + lost):
            raise RequirementNotMet(
                f"gold is right in {int(after.sum())} and the original in {int(before.sum())} of the {len(before)} samples of "
                f'"{self.partition}", which is within chance: what is forgotten has done no harm there that could be repaired'
            )
        return [Value(value=(int(found.sum()) - int(before.sum())) / (gained - lost), partition=self.partition)]

    def _right(self, evaluation: Evaluation, who: Reference | None) -> Tensor:
        outputs = evaluation.outputs(self.partition) if who is None else evaluation.outputs(self.partition, who)
        if not len(outputs.labels):
            raise PartitionError(f'the partition "{self.partition}" is empty')
        return correctness(outputs.task, outputs.logits, outputs.labels).bool()
