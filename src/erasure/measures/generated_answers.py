"""What a language model answers when it is asked: ROUGE-L of generated answers, and TOFU's model utility."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import MinLen
from torch import Tensor

from erasure.errors import Diagnostic, InvalidParameters, RequirementNotMet
from erasure.functional.tokens import LEARNED, WRONG, n_versions, versions_missing
from erasure.measures.contract import Evaluation, Measure, Value
from erasure.measures.generation import generated, mean_rouge
from erasure.measures.requirements import require_defined
from erasure.measures.truth_ratio import TruthRatio, version_losses
from erasure.training.predictor import ModelInput
from erasure.types import Partition, PositiveInt, Source, Task

__all__ = ["ModelUtility", "RougeL", "harmonic_mean"]


@dataclass(frozen=True, kw_only=True)
class RougeL(Measure):
    """ROUGE-L of the answers that a model generates against the true ones.

    Answers: what does the model say when it is asked?

    Answers are generated greedily from the prompts. The score is the length of the longest common subsequence of words over that of the
    true answer (``recall``), or the harmonic mean with that over the generated one (``f1``), averaged over the samples; in [0, 1]. Words
    are runs of the letters a to z and digits: for other alphabets there is no such score.

    **Cost**: generation, token after token.

    Args:
        partition: Where it is measured.
        score: ``recall`` as in TOFU, ``f1`` as in MUSE.
        max_new_tokens: Tokens of an answer at most.
        n_samples: Only the first samples by their id, this many; all by default.
    """

    source: ClassVar[Source | None] = Source(
        paper="Lin, ACL Workshop 2004; Maini et al., COLM 2024, arXiv:2401.06121",
        code="locuslab/open-unlearning at d3d7cf9",
        tested="the longest common subsequence by brute force (tests/unit/language/test_answer_measures.py)",
        deviations=("Words are not reduced to stems; TOFU's code does so, MUSE's does not.",),
    )
    higher_is_better: ClassVar[bool | None] = True
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    defined_for: ClassVar[frozenset[Task]] = frozenset({"generation"})

    partition: Partition = "forget"
    score: Literal["recall", "f1"] = "recall"
    max_new_tokens: PositiveInt = 64
    n_samples: PositiveInt | None = None

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The mean."""
        require_defined(self, evaluation)
        answers = generated(evaluation, self.partition, max_new_tokens=self.max_new_tokens, n_samples=self.n_samples)
        score = mean_rouge([(each.wanted, each.said) for each in answers], self.score)
        return [Value(value=score, partition=self.partition)]


@dataclass(frozen=True, kw_only=True)
class ModelUtility(Measure):
    r"""TOFU's model utility: one number for what a model still can do.

    Answers: how useful is the model on what it should keep?

    The harmonic mean over some partitions of the probability of answers, their ROUGE-L recall and the share of truth that is known
    (``truth known`` of :class:`~erasure.measures.truth_ratio.TruthRatio`); in [0, 1], and 0 if any of them is 0.

    **Cost**: that of the three.

    Args:
        kept: Partitions of what should be kept; TOFU has the retain set, real authors and world facts.
        divided: Those of them whose probabilities are divided by the sum over the true and the wrong answers, as TOFU does for real authors
            and world facts; samples without wrong answers are left out there.
        max_new_tokens: Tokens of a generated answer at most.
        n_samples: Answers that are generated for each partition; all by default.
    """

    source: ClassVar[Source | None] = Source(
        paper="Maini et al., COLM 2024, arXiv:2401.06121",
        code="locuslab/tofu at bdc209e",
        tested="the plain formula (tests/unit/language/test_answer_measures.py)",
        deviations=("Which probabilities are divided has to be said (``divided``).",),
    )
    higher_is_better: ClassVar[bool | None] = True
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    defined_for: ClassVar[frozenset[Task]] = frozenset({"generation"})

    kept: Annotated[tuple[Partition, ...], MinLen(1)] = ("retain",)
    divided: tuple[Partition, ...] = field(default=(), metadata={"address": "changed"})
    max_new_tokens: PositiveInt = 64
    n_samples: PositiveInt | None = None

    def check(self) -> None:
        """What is divided is looked at."""
        unknown = next((name for name in self.divided if name not in self.kept), None)
        if unknown is not None:
            raise InvalidParameters([Diagnostic(f'"{unknown}" is not one of kept', path="ModelUtility.divided")])

    def unsupported_reason(self, data: ModelInput) -> str | None:
        """There must be wrong answers."""
        return super().unsupported_reason(data) or versions_missing(data.x_shape, WRONG)

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The harmonic mean."""
        require_defined(self, evaluation)
        parts: list[float] = []
        for partition in self.kept:
            losses = evaluation.outputs(partition).tokens.losses
            parts.append(float(_shares(evaluation, partition).mean() if partition in self.divided else (-losses).exp().mean()))
            rouge = RougeL(partition=partition, max_new_tokens=self.max_new_tokens, n_samples=self.n_samples)
            parts.append(rouge.measure(evaluation)[0].value)
            parts.append(TruthRatio(partition=partition).measure(evaluation)[1].value)
        return [Value(value=harmonic_mean(parts))]


def _shares(evaluation: Evaluation, partition: str) -> Tensor:
    r"""Of the samples that have wrong answers, :math:`p / (p + \sum_k p_k)` of mean probabilities per token."""
    versions = range(WRONG, n_versions(evaluation.x.gather(evaluation.ids(partition)[:1])))
    wrong = torch.stack([version_losses(evaluation, partition, version) for version in versions])
    is_asked = ~wrong.isnan().all(0)
    if not bool(is_asked.any()):
        raise RequirementNotMet(f'no sample of "{partition}" has wrong answers; name their column in the source')
    others = (version_losses(evaluation, partition, LEARNED) - wrong).exp().nansum(0)
    return (1 / (1 + others))[is_asked]


def harmonic_mean(values: Sequence[float]) -> float:
    """Harmonic mean of numbers of at least 0; 0 if any is."""
    return len(values) / sum(1 / value for value in values) if all(value > 0 for value in values) else 0.0
