"""What a model says about a partition."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from erasure.errors import PartitionError
from erasure.functional.diverged import outputs_diverged
from erasure.functional.losses import predictions, probabilities
from erasure.types import TaskKind

__all__ = ["Outputs"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Outputs:
    """What a model says about every sample of a partition, in ``eval()`` mode and without augmentation.

    Args:
        ids: ``(n,)`` int64, in the partition's order.
        logits: ``(n, K)`` float32, as the task asks.
        losses: ``(n,)`` float32, the predictor's loss of each sample.
        labels: ``(n,)`` int64, or ``(n, C)`` for ``multilabel``.
        features: ``(n, d)`` float32 of the last hidden layer, if the model returns them.
        task: How logits are read.
    """

    ids: Tensor
    logits: Tensor
    losses: Tensor
    labels: Tensor
    features: Tensor | None = None
    task: TaskKind = "classification"

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def probabilities(self) -> Tensor:
        """``(n, K)``; rows sum to 1 except for ``multilabel``."""
        return probabilities(self.task, self.logits)

    @property
    def predictions(self) -> Tensor:
        """Predicted class ``(n,)``, or labels ``(n, C)``."""
        return predictions(self.task, self.logits)

    @cached_property
    def diverged(self) -> bool:
        """Whether a logit is not finite, or beyond :data:`~erasure.functional.diverged.OUTPUT_BOUND`: predictions mean nothing then."""
        return outputs_diverged(self.logits)

    @property
    def accuracy(self) -> float:
        """Share of samples predicted correctly, in [0, 1] (for ``multilabel``, of labels)."""
        if not len(self):
            raise PartitionError("accuracy is not defined on an empty partition")
        return float((self.predictions == self.labels).double().mean())
