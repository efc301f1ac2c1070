"""What a model makes of samples whose labels were made wrong on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from erasure.errors import PartitionError, RequirementNotMet
from erasure.intervals import clopper_pearson
from erasure.measures.contract import Evaluation, Measure, Value
from erasure.measures.requirements import require_defined
from erasure.types import Indication, Partition, Source, Task

__all__ = ["TrueLabelAccuracy", "true_labels"]


@dataclass(frozen=True, kw_only=True)
class TrueLabelAccuracy(Measure):
    """Share of mislabelled samples that are predicted as what they truly are.

    Answers: after samples with wrong labels were forgotten, does the model see what they are? ``WrongLabelAccuracy`` is the share that is
    still predicted as the wrong label, which only a model knows that has seen it. Both are in [0, 1], with the exact interval of a
    share, over the samples of the partition whose label is wrong; the ideals are gold's.

    Args:
        partition: Where it is measured; samples with their true label are left out.
    """

    source: ClassVar[Source | None] = Source(paper="Goel, Prabhu, Torr, Kumaraguru, Sanyal, TMLR 2024, arXiv:2402.14015")
    version: ClassVar[int] = 2
    higher_is_better: ClassVar[bool | None] = True
    indicates: ClassVar[Indication | None] = ""
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification", "binary"})

    partition: Partition = "forget"

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The two shares."""
        require_defined(self, evaluation)
        if evaluation.facts.get("clean_y") is None:
            raise RequirementNotMet("the data does not know of wrong labels; put a Poisoned source around its source")
        outputs = evaluation.outputs(self.partition)
        truth, labels = true_labels(evaluation, outputs.ids), outputs.labels.reshape(-1)
        wrong = truth != labels
        n = int(wrong.sum())
        if not n:
            raise PartitionError(f'all {len(labels)} samples of "{self.partition}" have their true label')
        said = outputs.predictions[wrong]
        return [
            self._share(int((said == truth[wrong]).sum()), n),
            self._share(
                int((said == labels[wrong]).sum()), n, name="WrongLabelAccuracy", higher_is_better=False, indicates="trace"
            ),
        ]

    def _share(self, hits: int, n: int, **otherwise: Any) -> Value:
        low, high = clopper_pearson(hits, n)
        return Value(value=hits / n, partition=self.partition, low=low, high=high, **otherwise)


def true_labels(evaluation: Evaluation, ids: Tensor) -> Tensor:
    """Labels of some samples before any were made wrong on purpose, ``(n,)`` int64, on the device of ``ids``."""
    known: Tensor | None = evaluation.facts.get("clean_y")
    labels = evaluation.y if known is None else known
    return labels.index_select(0, ids.to(labels.device)).reshape(-1).to(ids.device)
