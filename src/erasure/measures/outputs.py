"""What a model says about a partition."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from erasure.errors import PartitionError, RequirementNotMet
from erasure.functional.diverged import outputs_diverged
from erasure.functional.losses import predictions, probabilities
from erasure.functional.membership import confidence_margin
from erasure.functional.tokens import TokenTable
from erasure.types import Task

__all__ = ["Outputs"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Outputs:
    """What a model says about every sample of a partition, in ``eval()`` mode and without augmentation.

    Args:
        ids: ``(n,)`` int64, in the partition's order.
        logits: ``(n, K)`` float32, as the task asks; for ``generation`` not those, of which there would be too many, but
            ``(n, T, 4)`` statistics of each token (:func:`~erasure.functional.tokens.token_statistics`).
        losses: ``(n,)`` float32, the predictor's loss of each sample.
        labels: ``(n,)`` int64, ``(n, C)`` for ``multilabel``, or the tokens of the answers, ``(n, T)``, for ``generation``.
        features: ``(n, d)`` float32 of the last hidden layer, if the model returns them.
        task: How logits are read.
    """

    ids: Tensor
    logits: Tensor
    losses: Tensor
    labels: Tensor
    features: Tensor | None = None
    task: Task = "classification"

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

    @cached_property
    def log_odds(self) -> Tensor:
        """``(n,)`` float64 log-odds of the right labels, which attacks ask shadow models for again with every model that they attack."""
        return confidence_margin(self.task, self.logits, self.labels)

    @cached_property
    def has_log_odds(self) -> bool:
        """Whether neither a logit nor a log-odds has run away."""
        return not (outputs_diverged(self.log_odds) or self.diverged)

    @property
    def tokens(self) -> TokenTable:
        """What the model says of each token of the answers.

        Raises:
            RequirementNotMet: If the task is not ``generation``.
        """
        if self.task != "generation":
            raise RequirementNotMet(f"samples of {self.task} tasks have no answers of tokens")
        return TokenTable(self.logits, self.labels)

    @property
    def accuracy(self) -> float:
        """Share of samples predicted correctly, in [0, 1] (for ``multilabel``, of labels; of answers, the mean share of tokens)."""
        if not len(self):
            raise PartitionError("accuracy is not defined on an empty partition")
        if self.task == "generation":
            return float(self.tokens.hit_shares.mean())
        return float((self.predictions == self.labels).double().mean())
