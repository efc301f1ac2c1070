"""Whether a backdoor still opens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from erasure.errors import PartitionError, RequirementNotMet
from erasure.intervals import clopper_pearson
from erasure.measures.contract import Evaluation, Measure, Value, forward_pass
from erasure.measures.corrupted import true_labels
from erasure.measures.requirements import class_id, require_defined, unknown_class
from erasure.training.batches import TensorColumn
from erasure.training.predictor import ModelInput
from erasure.training.triggers import Trigger
from erasure.types import Indication, Partition, Source, Task

__all__ = ["AttackSuccessRate"]


@dataclass(frozen=True, kw_only=True)
class AttackSuccessRate(Measure):
    r"""Share of samples of other classes that a trigger turns into its target.

    Answers: after the poisoned samples were forgotten, does the model still obey the trigger? With the trigger :math:`t` and its target
    class :math:`c`, the value is :math:`\Pr[\arg\max f(x + t) = c \mid y \ne c]`, in [0, 1], with the exact interval of a share. Lower
    is better; the ideal is gold's, which is what a model says that was never poisoned. True labels count where the data knows them.

    Ask for the accuracy on the same partition too: a model that has lost everything has no backdoor either.

    **Cost**: a forward pass over the samples of the other classes.

    Args:
        trigger: The mark, the same as in the data's ``Backdoor``.
        target: The class it leads to, by number or name.
        partition: Samples that are tried; those of the target class are left out.
    """

    source: ClassVar[Source | None] = Source(
        paper="Gu, Dolan-Gavitt, Garg, 2017, arXiv:1708.06733; for verifying deletion: Sommer, Song, Wagh, Mittal, PoPETs 2022, "
        "arXiv:2003.04247",
        deviations=(
            "The success rate and its interval are given; the hypothesis test that Sommer et al. derive from it is not.",
        ),
    )
    higher_is_better: ClassVar[bool | None] = False
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    indicates: ClassVar[Indication | None] = "trace"
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification", "binary"})

    trigger: Trigger
    target: int | str = 0
    partition: Partition = "test"

    @property
    def title(self) -> str:
        """Names the target, such as ``AttackSuccessRate[3]``."""
        return f"AttackSuccessRate[{self.target}]"

    def unsupported_reason(self, data: ModelInput) -> str | None:
        """The inputs must be able to bear the trigger."""
        reason = super().unsupported_reason(data) or self.trigger.unsupported_reason(data.x_shape)
        return reason or unknown_class(data, self.target)

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """Stamp the trigger and look at the predictions."""
        require_defined(self, evaluation)
        target = class_id(evaluation, self.target)
        ids = evaluation.ids(self.partition)
        if not len(ids):
            raise PartitionError(f'the partition "{self.partition}" is empty')
        tried = ids[true_labels(evaluation, ids) != target]
        n = len(tried)
        if not n:
            raise RequirementNotMet(f'all {len(ids)} samples of "{self.partition}" are of the target class {self.target!r}')
        x = evaluation.x
        if isinstance(x, TensorColumn):
            x = replace(x, values=x.values.index_select(0, tried))
        marked = self.trigger.stamp(x, evaluation.facts.get("feature_names") or ())
        outputs = forward_pass(
            evaluation.subject.load(),
            x=marked,
            y=evaluation.y.index_select(0, tried),
            ids=torch.arange(n, device=tried.device),
            criterion=evaluation.criterion,
            task=evaluation.task,
        )
        if outputs.diverged:
            raise RequirementNotMet(
                "some model outputs on triggered samples are not finite or run away: its training or unlearning diverged"
            )
        hits = int((outputs.predictions == target).sum())
        low, high = clopper_pearson(hits, n)
        return [Value(value=hits / n, partition=self.partition, low=low, high=high)]
