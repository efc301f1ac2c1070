"""Multiple choice between the true answer and wrong ones, by how likely the model finds each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from erasure.errors import PartitionError, RequirementNotMet
from erasure.functional.tokens import LEARNED, PARAPHRASE, WRONG, labelled, n_versions, version_of, versions_missing
from erasure.measures.contract import Evaluation, Measure, Value
from erasure.measures.requirements import require_defined
from erasure.measures.truth_ratio import version_losses
from erasure.training.predictor import ModelInput
from erasure.types import Partition, Source, Task

__all__ = ["MultipleChoice"]


@dataclass(frozen=True, kw_only=True)
class MultipleChoice(Measure):
    """Share of questions of which the true answer is the likeliest of several.

    Answers: does the model still pick what is true? ``MultipleChoice`` compares mean log-probabilities per token, ``MultipleChoice summed``
    those of whole answers, which favours short ones. Where answers are equally likely, each counts its share. In [0, 1]; chance is the mean
    of one over the number of answers. Samples without wrong answers are left out.

    Nothing is generated, and no letters are asked for: small models do not know what to do with them.

    **Cost**: a pass over the partition for each of the answers.

    Args:
        partition: Where it is measured.
        true: ``paraphrase`` takes the true answer in other words where there is one, so that wording learned by heart does not decide;
            ``answer`` the one that is learned.
    """

    source: ClassVar[Source | None] = Source(
        paper="Brown et al., NeurIPS 2020, arXiv:2005.14165 (answers compared by likelihood)",
        tested="counting by hand (tests/unit/language/test_attacks_on_answers.py)",
    )
    higher_is_better: ClassVar[bool | None] = True
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    defined_for: ClassVar[frozenset[Task]] = frozenset({"generation"})

    partition: Partition = "forget"
    true: Literal["paraphrase", "answer"] = "paraphrase"

    def unsupported_reason(self, data: ModelInput) -> str | None:
        """There must be wrong answers."""
        return super().unsupported_reason(data) or versions_missing(data.x_shape, WRONG)

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """Both shares."""
        require_defined(self, evaluation)
        ids = evaluation.ids(self.partition)
        if not len(ids):
            raise PartitionError(f'the partition "{self.partition}" is empty')
        x: Tensor = evaluation.x.gather(ids)
        versions = n_versions(x)
        if versions <= WRONG:
            raise RequirementNotMet("the data has no wrong answers; name their column in the source")
        evaluation.outputs(self.partition)  # a model that diverged chooses nothing
        losses, lengths = self._answers(evaluation, x, [LEARNED, *range(WRONG, versions)])
        if self.true == "paraphrase":
            other, other_lengths = self._answers(evaluation, x, [PARAPHRASE])
            losses[0] = torch.where(other[0].isnan(), losses[0], other[0])
            lengths[0] = torch.where(other[0].isnan(), lengths[0], other_lengths[0])
        is_asked = ~losses[1:].isnan().all(0)
        if not bool(is_asked.any()):
            raise RequirementNotMet(f'no sample of "{self.partition}" has wrong answers; name their column in the source')
        losses, lengths = losses[:, is_asked], lengths[:, is_asked]
        chance = float((1 / (~losses.isnan()).sum(0)).mean())
        return [
            Value(value=_share(losses), partition=self.partition, chance_level=chance),
            Value(value=_share(losses * lengths), name=f"{self.title} summed", partition=self.partition, chance_level=chance),
        ]

    def _answers(self, evaluation: Evaluation, x: Tensor, versions: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Mean losses and lengths, ``(V, n)``; losses are not a number where there is no answer."""
        losses = torch.stack([version_losses(evaluation, self.partition, version) for version in versions])
        return losses, torch.stack([labelled(version_of(x, version)[1]).sum(1).cpu() for version in versions])


def _share(losses: Tensor) -> float:
    """Share of the columns whose first value is the smallest; with equals, one over their number."""
    filled = losses.nan_to_num(nan=float("inf"))
    is_best = filled == filled.amin(0)
    return float((is_best[0] / is_best.sum(0)).double().mean())
