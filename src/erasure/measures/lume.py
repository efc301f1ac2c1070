"""The score of SemEval-2025 task 4."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from erasure.errors import RequirementNotMet
from erasure.functional.membership import auc
from erasure.functional.rouge import rouge_l
from erasure.measures.contract import Evaluation, Measure, Value
from erasure.measures.generated_answers import harmonic_mean
from erasure.measures.generation import Generated, generated
from erasure.measures.requirements import require_defined
from erasure.types import Partition, PositiveInt, Source, Task

__all__ = ["LUMEScore"]


@dataclass(frozen=True, kw_only=True)
class LUMEScore(Measure):
    r"""The score of SemEval-2025 task 4, without its test of general knowledge.

    Answers: are stories, people and articles forgotten, others kept, and is it hidden what was forgotten?

    * ``task aggregate``: the harmonic mean over tasks, over sentences to be completed (ROUGE-L recall) and questions (exact match, whatever
      the case), and over both sides, of one less the score on the forget side and of the score on the retain side; 0 if one of them is;
    * ``membership score``: :math:`1 - 2 \, |A - 0.5|` with the area :math:`A` of an attack by loss between forgotten samples and others.

    The score is the mean of both; each in [0, 1]. The groups of the data say task and kind (source ``LUME``).

    **Cost**: generation, token after token.

    Args:
        forget: The forgotten samples.
        retain: What should be kept.
        test: Samples that no model was trained on.
        max_new_tokens: Tokens of an answer at most.
        n_samples: Only the first samples of each side by their id, this many; all by default.
    """

    source: ClassVar[Source | None] = Source(
        paper="Ramakrishna et al., SemEval 2025, arXiv:2504.02883",
        code="llmunlearningsemeval2025/llmunlearningsemeval2025.github.io (its definition)",
        tested="counting by hand (tests/unit/language/test_lume.py)",
        deviations=(
            "MMLU is left out: the score is the mean of two parts, not of three.",
            "Words are not reduced to stems.",
            "A script that circulates takes one harmonic mean of everything, with the raw area; the task's page does not.",
        ),
    )
    higher_is_better: ClassVar[bool | None] = True
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    defined_for: ClassVar[frozenset[Task]] = frozenset({"generation"})

    forget: Partition = "forget"
    retain: Partition = "retain"
    test: Partition = "test"
    max_new_tokens: PositiveInt = 64
    n_samples: PositiveInt | None = None

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The score and its parts."""
        require_defined(self, evaluation)
        tasks = harmonic_mean(
            [1 - score for score in self._scores(evaluation, self.forget)] + self._scores(evaluation, self.retain)
        )
        members, others = (evaluation.outputs(name).tokens.losses for name in (self.forget, self.test))
        hidden = 1 - 2 * abs(auc(-members, -others) - 0.5)
        return [
            Value(value=(tasks + hidden) / 2),
            Value(value=tasks, name="task aggregate"),
            Value(value=hidden, name="membership score", partition=self.forget, ideal=1.0),
        ]

    def _scores(self, evaluation: Evaluation, partition: str) -> list[float]:
        """Score of each task and kind, in the order of their names."""
        names = evaluation.facts.get("z_names") or ()
        if evaluation.z is None or not all(name.endswith((" sc", " qa")) for name in names) or not names:
            raise RequirementNotMet(
                'the groups of the data do not say task and kind, such as "forget Task1 qa"; take the source LUME'
            )
        groups = evaluation.z.reshape(len(evaluation.z), -1)[:, 0].cpu()
        found: dict[str, list[float]] = {}
        for each in generated(evaluation, partition, max_new_tokens=self.max_new_tokens, n_samples=self.n_samples):
            kind = str(names[int(groups[each.sample])])
            found.setdefault(kind.partition(" ")[2], []).append(_score(each, kind))
        return [sum(scores) / len(scores) for _, scores in sorted(found.items())]


def _score(answer: Generated, kind: str) -> float:
    if kind.endswith(" sc"):
        return rouge_l(answer.wanted, answer.said)[0]
    return float(answer.said.strip().lower() == answer.wanted.strip().lower())
