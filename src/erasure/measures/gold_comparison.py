"""What scores of closeness to gold have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from erasure.errors import Diagnostic, InvalidParameters
from erasure.measures.contract import Evaluation, Measure, ModelRole, Reference
from erasure.training.predictor import ModelInput
from erasure.types import Partition

__all__ = ["GoldReferenced"]


@dataclass(frozen=True, kw_only=True)
class GoldReferenced(Measure):
    """Base of scores that compare accuracies on the forget, retain and test partitions with gold's.

    Args:
        forget: The forgotten samples.
        retain: The kept samples.
        test: Samples that no model was trained on.
        membership: A membership attack with values in [0, 1], such as ``UMIA``.
    """

    references: ClassVar[frozenset[Reference]] = frozenset({"gold"})
    applies_to: ClassVar[frozenset[ModelRole]] = frozenset({"gold", "unlearned"})

    forget: Partition = "forget"
    retain: Partition = "retain"
    test: Partition = "test"
    membership: Measure | None = None

    def check(self) -> None:
        """The attack must be a share that needs no other model."""
        attack = self.membership
        if attack is None:
            return
        low, high = attack.value_range
        is_alone = attack.references <= self.references and not attack.requests("unlearned")
        if low < 0 or high > 1 or not is_alone:
            message = f"membership takes a measure with values in [0, 1] that compares with gold at most; {attack.title} is not"
            raise InvalidParameters([Diagnostic(message, path=f"{type(self).__name__}.membership")])

    def partitions(self) -> tuple[str, ...]:
        """The three partitions, and the attack's own."""
        attacked = self.membership.partitions() if self.membership is not None else ()
        return tuple(dict.fromkeys((self.forget, self.retain, self.test, *attacked)))

    def unsupported_reason(self, data: ModelInput) -> str | None:
        """What the attack refuses is refused."""
        reason = self.membership.unsupported_reason(data) if self.membership is not None else None
        return reason or super().unsupported_reason(data)

    def pairs(self, evaluation: Evaluation, partitions: Sequence[str]) -> tuple[list[float], list[float]]:
        """Accuracies, and the attack's value if there is one, of the subject and of gold."""
        subject = [evaluation.outputs(name).accuracy for name in partitions]
        gold = [evaluation.outputs(name, "gold").accuracy for name in partitions]
        if self.membership is not None:
            # The streams are the same, so both models are attacked with the same splits.
            subject.append(self.membership.measure(evaluation)[0].value)
            gold.append(self.membership.measure(replace(evaluation, subject=evaluation.model("gold")))[0].value)
        return subject, gold
