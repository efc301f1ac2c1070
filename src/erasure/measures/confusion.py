"""Which class is taken for which, and the interclass confusion test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import MinLen
from torch import Tensor

from erasure.errors import Diagnostic, InvalidParameters, RequirementNotMet
from erasure.functional.confusion import confusion_matrix
from erasure.measures.contract import Evaluation, Measure, Value
from erasure.measures.requirements import class_id, class_names, require_defined, unknown_class
from erasure.training.predictor import ModelInput
from erasure.types import Indication, Partition, Source, Task

__all__ = ["ConfusionMatrix", "InterclassConfusion"]

_LARGEST = 32
"""Classes of which a whole matrix is given; more would be over a thousand rows for each model."""


@dataclass(frozen=True, kw_only=True)
class ConfusionMatrix(Measure):
    """How many samples of each class are predicted as each class.

    Answers: what does the model take forgotten samples for? One value ``confusion[true,predicted]`` for each pair of classes: the
    number of samples, or with ``normalized`` ``confusion share[true,predicted]``, their share of the class, in [0, 1]. Classes without
    samples have no shares.

    Args:
        partition: Where it is measured.
        classes: The classes to look at, by number or name; predictions of any other are counted as ``other``. By default all, up to 32.
        normalized: Whether to give shares of the true class.
    """

    source: ClassVar[Source | None] = Source(paper="Bookkeeping; tested against sklearn.metrics.confusion_matrix")
    value_range: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification", "binary"})

    partition: Partition = "test"
    classes: Annotated[tuple[int | str, ...], MinLen(1)] | None = None
    normalized: bool = False

    def unsupported_reason(self, data: ModelInput) -> str | None:
        """A matrix of very many classes must be asked for by name."""
        if self.classes is None and data.n_classes > _LARGEST:
            return f"a confusion matrix of {data.n_classes} classes is too large for a table; name those to look at in classes"
        return super().unsupported_reason(data) or unknown_class(data, *(self.classes or ()))

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """One value for each pair."""
        require_defined(self, evaluation)
        outputs = evaluation.outputs(self.partition)
        names = class_names(evaluation)
        width = _n_classes(outputs.logits, len(names))
        counts = confusion_matrix(outputs.labels.reshape(-1), outputs.predictions, width)
        chosen = list(range(len(names)))
        if self.classes is not None:
            chosen = list(dict.fromkeys(class_id(evaluation, label) for label in self.classes))
        values: list[Value] = []
        for true in chosen:
            row, total = counts[true], int(counts[true].sum())
            if self.normalized and not total:
                continue
            cells = {names[predicted]: int(row[predicted]) for predicted in chosen}
            if len(chosen) < width:
                cells["other"] = total - sum(cells.values())
            values += [self._value(names[true], name, count, total) for name, count in cells.items()]
        if not values:
            raise RequirementNotMet(f'"{self.partition}" has no sample of the classes to look at')
        return values

    def _value(self, true: str, predicted: str, count: int, total: int) -> Value:
        cell = f"[{true},{predicted}]"
        if self.normalized:
            return Value(value=count / total, name=f"confusion share{cell}", partition=self.partition)
        return Value(value=count, name=f"confusion{cell}", partition=self.partition, unit="samples")


@dataclass(frozen=True, kw_only=True)
class InterclassConfusion(Measure):
    r"""Interclass confusion test: what is left of two classes whose labels were swapped in training.

    Answers: after the swapped samples were forgotten, does the model still take one class for the other? With the number
    :math:`C_{12}` of samples of the first class that are predicted as the second, the value is :math:`C_{12} + C_{21}`, in samples.
    ``IC-Err[first,second]`` is the share of the samples of both classes that are predicted wrongly, in [0, 1]. Lower is better; the
    ideal is gold's.

    Labels must be the true ones. On the test set they are. On a forget set that holds swapped labels set ``swapped``: then each of the
    two classes is read as the other.

    Args:
        first: One class, by number or name.
        second: The other.
        partition: Where it is measured.
        swapped: Whether the labels of this partition are the swapped ones.
    """

    source: ClassVar[Source | None] = Source(
        paper="Goel, Prabhu, Sanyal, Lim, Torr, Kumaraguru, 2022, arXiv:2201.06640",
        code="shash42/Evaluating-Inexact-Unlearning at a45fe02",
        tested="a count by loops (tests/unit/measures/test_confusion_measures.py)",
    )
    higher_is_better: ClassVar[bool | None] = False
    value_range: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    unit: ClassVar[str] = "samples"
    indicates: ClassVar[Indication | None] = "trace"
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification", "binary"})

    first: int | str = 0
    second: int | str = 1
    partition: Partition = "test"
    swapped: bool = False

    @property
    def title(self) -> str:
        """Names both classes, such as ``InterclassConfusion[3,5]``."""
        return f"InterclassConfusion[{self.first},{self.second}]"

    def check(self) -> None:
        """The classes must differ."""
        if self.first == self.second:
            raise InvalidParameters([Diagnostic("first and second are the same class", path="InterclassConfusion.second")])

    def unsupported_reason(self, data: ModelInput) -> str | None:
        """The data must have both classes."""
        return super().unsupported_reason(data) or unknown_class(data, self.first, self.second)

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The targeted confusion, and the error on both classes."""
        require_defined(self, evaluation)
        a, b = class_id(evaluation, self.first), class_id(evaluation, self.second)
        if a == b:
            raise RequirementNotMet(f'"{self.first}" and "{self.second}" are the same class')
        outputs = evaluation.outputs(self.partition)
        labels = outputs.labels.reshape(-1)
        if self.swapped:
            labels = torch.where(labels == a, b, torch.where(labels == b, a, labels))
        counts = confusion_matrix(labels, outputs.predictions, _n_classes(outputs.logits, evaluation.model_input.n_classes))
        n = int(counts[[a, b]].sum())
        if not n:
            raise RequirementNotMet(f'"{self.partition}" has no sample of the classes {self.first} and {self.second}')
        wrong = n - int(counts[a, a] + counts[b, b])
        return [
            Value(value=int(counts[a, b] + counts[b, a]), partition=self.partition),
            Value(value=wrong / n, name=f"IC-Err[{self.first},{self.second}]", partition=self.partition, unit=""),
        ]


def _n_classes(logits: Tensor, known: int) -> int:
    """Classes that can be predicted, which may be more than the data has."""
    return max(known, logits.shape[1] if logits.ndim == 2 else 2)
