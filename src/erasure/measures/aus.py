"""Adaptive Unlearning Score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from erasure.errors import PartitionError, RequirementNotMet
from erasure.functional.composites import adaptive_unlearning_score
from erasure.functional.losses import correctness
from erasure.measures.contract import Evaluation, Measure, Outputs, Reference, Value
from erasure.training.predictor import ModelInput
from erasure.types import Partition, Source, Statistic

__all__ = ["AUS"]


@dataclass(frozen=True, kw_only=True)
class AUS(Measure):
    r"""Adaptive Unlearning Score: forgetting and retained accuracy in one number.

    Answers: is forgotten data treated as it should be, without loss of accuracy elsewhere?

    .. math:: \mathrm{AUS} = \frac{1 - (A_t^o - A_t)}{1 + \Delta}

    with the test accuracy :math:`A_t` of the model and :math:`A_t^o` of the original. Where random samples were forgotten,
    :math:`\Delta = |A_f - A_t|`: they should be predicted like test data. Where whole classes were, :math:`\Delta = A_f` and both test
    accuracies are those of the remaining classes.

    In [0, 2]; higher is better; about 1 is good, and above 1 only if test accuracy improved. The ideal is gold's value.

    Args:
        forget: The forgotten samples.
        test: Samples that no model was trained on.
        retain: The kept samples; only their labels are looked at, and only by ``auto``.
        setting: ``random``, ``class``, or ``auto``: ``class`` if no sample of the forget set's classes is left in ``retain``.
    """

    source: ClassVar[Source | None] = Source(
        paper="Cotogni et al., 2023, arXiv:2312.02052 (DUCK)",
        code="OcraM17/DUCK at 0961e3a",
        tested="values worked out by hand (tests/unit/measures/test_aus.py)",
        deviations=("Upstream has the form for random samples alone, whatever was forgotten.",),
    )
    higher_is_better: ClassVar[bool | None] = True
    value_range: ClassVar[tuple[float, float]] = (0.0, 2.0)
    references: ClassVar[frozenset[Reference]] = frozenset({"original"})

    forget: Partition = "forget"
    test: Partition = "test"
    retain: Partition = "retain"
    setting: Literal["auto", "random", "class"] = "auto"

    @property
    def statistic(self) -> Statistic:
        """A number made from other measures."""
        return "composite"

    def partitions(self) -> tuple[str, ...]:
        """The retain partition only where it decides the setting."""
        names = (self.forget, self.test, self.retain) if self.setting == "auto" else (self.forget, self.test)
        return tuple(dict.fromkeys(names))

    def unsupported_reason(self, data: ModelInput) -> str | None:
        """Samples with several labels belong to no one class."""
        if data.task == "multilabel" and self.setting == "class":
            return 'AUS with setting "class" is not defined for multilabel tasks; use "random"'
        return super().unsupported_reason(data)

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The score."""
        reason = self.unsupported_reason(evaluation.model_input)
        if reason is not None:
            raise RequirementNotMet(reason)
        forgotten = self._forgotten_classes(evaluation)
        score = adaptive_unlearning_score(
            self._accuracy(evaluation.outputs(self.test), forgotten),
            self._accuracy(evaluation.outputs(self.test, "original"), forgotten),
            evaluation.outputs(self.forget).accuracy,
            whole_classes=forgotten is not None,
        )
        return [Value(value=score)]

    def _forgotten_classes(self, evaluation: Evaluation) -> Tensor | None:
        """Classes that were forgotten as a whole, or None where random samples were."""
        kept = self._labels(evaluation, self.retain) if self.setting == "auto" else None
        if self.setting == "random" or evaluation.task == "multilabel":
            return None
        forgotten = self._labels(evaluation, self.forget)
        if kept is not None and bool(torch.isin(forgotten, kept).any()):
            return None
        return forgotten

    @staticmethod
    def _labels(evaluation: Evaluation, partition: str) -> Tensor:
        ids = evaluation.ids(partition)
        if not len(ids):
            raise PartitionError(f'the partition "{partition}" is empty')
        return evaluation.y.index_select(0, ids).cpu()

    def _accuracy(self, outputs: Outputs, forgotten: Tensor | None) -> float:
        """Test accuracy, of the remaining classes where some were forgotten."""
        if forgotten is None:
            return outputs.accuracy
        remaining = ~torch.isin(outputs.labels, forgotten)
        if not bool(remaining.any()):
            raise RequirementNotMet(f'AUS needs test samples of classes that were not forgotten; "{self.test}" has none')
        right = correctness(outputs.task, outputs.logits[remaining], outputs.labels[remaining])
        return float(right.double().mean())
