"""What a language model answers when it is asked: ROUGE-L of generated answers, and TOFU's model utility."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import MinLen
from torch import Tensor

from erasure.errors import PartitionError, RequirementNotMet
from erasure.functional.rouge import rouge_l
from erasure.functional.tokens import ANSWER, END
from erasure.measures.contract import Evaluation, Measure, Value
from erasure.measures.requirements import require_defined
from erasure.measures.truth_ratio import TruthRatio
from erasure.types import Partition, PositiveInt, Source, TaskKind

__all__ = ["ModelUtility", "RougeL", "harmonic_mean"]

_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class RougeL(Measure):
    """ROUGE-L of the answers that a model generates against the true ones.

    Answers: what does the model say when it is asked?

    Answers are generated greedily from the prompts. The score is the length of the longest common subsequence of words over that of the
    true answer (``recall``), or the harmonic mean with that over the generated one (``f1``), averaged over the samples; in [0, 1].

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
    defined_for: ClassVar[frozenset[TaskKind]] = frozenset({"generation"})

    partition: Partition = "forget"
    score: Literal["recall", "f1"] = "recall"
    max_new_tokens: PositiveInt = 64
    n_samples: PositiveInt | None = None

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The mean."""
        require_defined(self, evaluation)
        ids = evaluation.ids(self.partition)
        if not len(ids):
            raise PartitionError(f'the partition "{self.partition}" is empty')
        pieces = evaluation.facts.get("token_names")
        if not pieces:
            raise RequirementNotMet("how tokens read is not known, so that answers cannot be compared as texts")
        evaluation.outputs(self.partition)  # a model that diverged says nothing
        model: Any = evaluation.subject.load()
        if not hasattr(model, "generate"):
            raise RequirementNotMet("the model does not generate answers; take a language model of this package")
        chosen = ids.sort().values[: self.n_samples]
        scores: list[float] = []
        for part in torch.split(chosen, _BATCH):
            x: Tensor = evaluation.x.gather(part)
            end = _end_of(x)
            for row, answer in zip(x, model.generate(x, end=end, max_new_tokens=self.max_new_tokens), strict=True):
                is_answer = row[1] == ANSWER
                recall, f1 = rouge_l(_text(pieces, row[0][is_answer].tolist()), _text(pieces, answer))
                scores.append(recall if self.score == "recall" else f1)
        return [Value(value=sum(scores) / len(scores), partition=self.partition)]


@dataclass(frozen=True, kw_only=True)
class ModelUtility(Measure):
    r"""TOFU's model utility: one number for what a model still can do.

    Answers: how useful is the model on what it should keep?

    The harmonic mean over some partitions of the probability of answers, their ROUGE-L recall and the share of truth that is known
    (``truth known`` of :class:`~erasure.measures.truth_ratio.TruthRatio`); in [0, 1], and 0 if any of them is 0.

    **Cost**: that of the three.

    Args:
        kept: Partitions of what should be kept; TOFU has the retain set, real authors and world facts.
        max_new_tokens: Tokens of a generated answer at most.
        n_samples: Answers that are generated for each partition; all by default.
    """

    source: ClassVar[Source | None] = Source(
        paper="Maini et al., COLM 2024, arXiv:2401.06121",
        code="locuslab/tofu at bdc209e",
        tested="the plain formula (tests/unit/language/test_answer_measures.py)",
        deviations=("Probabilities of real authors and world facts are not divided by those of the wrong answers.",),
    )
    higher_is_better: ClassVar[bool | None] = True
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    defined_for: ClassVar[frozenset[TaskKind]] = frozenset({"generation"})

    kept: Annotated[tuple[Partition, ...], MinLen(1)] = ("retain",)
    max_new_tokens: PositiveInt = 64
    n_samples: PositiveInt | None = None

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The harmonic mean."""
        require_defined(self, evaluation)
        parts: list[float] = []
        for partition in self.kept:
            parts.append(float((-evaluation.outputs(partition).tokens.losses).exp().mean()))
            rouge = RougeL(partition=partition, max_new_tokens=self.max_new_tokens, n_samples=self.n_samples)
            parts.append(rouge.measure(evaluation)[0].value)
            parts.append(TruthRatio(partition=partition).measure(evaluation)[1].value)
        return [Value(value=harmonic_mean(parts))]


def harmonic_mean(values: Sequence[float]) -> float:
    """Harmonic mean of numbers of at least 0; 0 if any is."""
    return len(values) / sum(1 / value for value in values) if all(value > 0 for value in values) else 0.0


def _end_of(x: Tensor) -> int:
    """The token that ends answers; the first of all where every answer was cut."""
    ends = x[:, 0][x[:, 1] == END]
    return int(ends[0]) if len(ends) else 0


def _text(pieces: Sequence[str], ids: Sequence[int]) -> str:
    return "".join(pieces[i] if i < len(pieces) else "" for i in ids)
