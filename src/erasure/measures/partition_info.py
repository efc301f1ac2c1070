"""Size and classes of a partition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from erasure.functional.counts import label_counts
from erasure.measures.contract import Evaluation, Measure, ModelRole, Value
from erasure.types import Partition, Source

__all__ = ["PartitionInfo"]


@dataclass(frozen=True, kw_only=True)
class PartitionInfo(Measure):
    """How large a partition is, and what is in it.

    Answers: how many samples, of which classes? One value ``size``, and for each class ``size[class]`` and ``share[class]``, the
    number of samples and their share of the partition, in [0, 1]. Shares of classes sum to 1; a multilabel sample counts for every
    label it has. An empty partition has the size 0 and no shares.

    It says nothing about a model, so it appears once, beside the original.

    Args:
        partition: The partition.
    """

    source: ClassVar[Source | None] = Source(
        paper="Bookkeeping",
        code="aiim-research/ERASURE at d5bbbe5 (PartitionInfo)",
        tested="counts by hand (tests/unit/measures/test_partition_info.py)",
        deviations=("Classes are counted on the whole partition (upstream counts full batches and divides by the full size).",),
    )
    value_range: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    ideal: ClassVar[Literal["gold"] | float | None] = None
    applies_to: ClassVar[frozenset[ModelRole]] = frozenset({"original"})

    partition: Partition = "forget"

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The size, then number and share of each class."""
        ids = evaluation.ids(self.partition)
        values = [self._value("size", len(ids), "samples")]
        if not len(ids):
            return values
        labels = evaluation.y.index_select(0, ids)
        counts = label_counts(evaluation.task, labels, evaluation.model_input.n_classes).tolist()
        names = evaluation.facts.get("class_names") or range(len(counts))
        for name, count in zip(names, counts, strict=True):
            values.append(self._value(f"size[{name}]", count, "samples"))
            values.append(self._value(f"share[{name}]", count / len(ids), ""))
        return values

    def _value(self, name: str, value: float, unit: str) -> Value:
        return Value(value=value, name=name, partition=self.partition, unit=unit)
