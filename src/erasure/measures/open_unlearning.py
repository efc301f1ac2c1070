"""The scores by which open-unlearning ranks methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from annotated_types import MinLen
from torch import Tensor

from erasure.errors import RequirementNotMet
from erasure.functional.tokens import PARAPHRASE, WRONG, versions_missing
from erasure.measures.answers import ExactMemorisation, ExtractionStrength
from erasure.measures.attacks.answer_membership import AnswerMembership
from erasure.measures.contract import Evaluation, Measure, Reference, Value
from erasure.measures.generated_answers import ModelUtility, harmonic_mean
from erasure.measures.requirements import require_defined
from erasure.measures.truth_ratio import log_truth_ratios, version_losses
from erasure.measures.wording import Fluency
from erasure.training.predictor import ModelInput
from erasure.types import Partition, PositiveInt, Source, Task

__all__ = ["OpenUnlearningScore"]


@dataclass(frozen=True, kw_only=True)
class OpenUnlearningScore(Measure):
    r"""The score by which open-unlearning ranks methods, and the three it is made of.

    Answers: has it forgotten, tells nothing of what it forgot, and is still of use?

    * ``memorisation score``: harmonic mean of one minus extraction strength, exact memorisation, probability of the paraphrased answers
      and :math:`\overline{p_{\mathrm{true}} / (p_{\mathrm{true}} + p_{\mathrm{wrong}})}`, all on the forget set;
    * ``privacy score``: harmonic mean over the attacks of :class:`~erasure.measures.attacks.answer_membership.AnswerMembership` of
      :math:`1 - |A - A_{\mathrm{gold}}| / A_{\mathrm{gold}}`, cut to [0, 1];
    * ``utility score``: harmonic mean of model utility and fluency over the original's, cut to [0, 1].

    The score is the harmonic mean of the three, and 0 if one is. Each in [0, 1]. It weighs three different things alike: look at the parts.

    **Cost**: that of its parts, for the model, and of utility and fluency for the original.

    Args:
        forget: The forgotten samples.
        test: Samples that no model was trained on.
        kept: Partitions of what should be kept.
        max_new_tokens: Tokens of a generated answer at most.
        n_samples: Answers that are generated for each partition; all by default.
    """

    source: ClassVar[Source | None] = Source(
        paper="Dorna et al., 2025, arXiv:2506.12618",
        code="gnueaj/unlearning-depth-score at 8faceaf",
        tested="the plain formula (tests/unit/language/test_open_unlearning.py)",
        deviations=(
            "Fluency is judged by gold; the benchmark asks a classifier of gibberish.",
            "Wrong answers enter by their geometric mean, in log space.",
            "Without paraphrases the answers themselves are taken.",
        ),
    )
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    references: ClassVar[frozenset[Reference]] = frozenset({"original", "gold"})
    defined_for: ClassVar[frozenset[Task]] = frozenset({"generation"})

    forget: Partition = "forget"
    test: Partition = "test"
    kept: Annotated[tuple[Partition, ...], MinLen(1)] = ("retain",)
    max_new_tokens: PositiveInt = 64
    n_samples: PositiveInt | None = None

    def unsupported_reason(self, data: ModelInput) -> str | None:
        """There must be wrong answers."""
        return super().unsupported_reason(data) or versions_missing(data.x_shape, WRONG)

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The score and its parts."""
        require_defined(self, evaluation)
        forgotten, hidden = self._memorisation(evaluation), self._privacy(evaluation)
        before = self._use(replace(evaluation, subject=evaluation.model("original"), notes={}))
        if before == 0:
            raise RequirementNotMet("the original's utility is 0, so that nothing can be divided by it")
        useful = min(1.0, self._use(evaluation) / before)
        return [
            Value(value=harmonic_mean([forgotten, hidden, useful]), higher_is_better=True),
            Value(value=forgotten, name="memorisation score", partition=self.forget, indicates="ignorance"),
            Value(value=hidden, name="privacy score", partition=self.forget, higher_is_better=True, ideal=1.0),
            Value(value=useful, name="utility score", higher_is_better=True),
        ]

    def _memorisation(self, evaluation: Evaluation) -> float:
        parts = [measure.measure(evaluation)[0].value for measure in self._memories()]
        parts.append(float((-self._paraphrased(evaluation)).exp().mean()))
        log_r, _ = log_truth_ratios(evaluation, self.forget)
        parts.append(float(torch.sigmoid(-log_r).mean()))
        return harmonic_mean([1 - part for part in parts])

    def _memories(self) -> tuple[Measure, ...]:
        return ExtractionStrength(partition=self.forget), ExactMemorisation(partition=self.forget)

    def _paraphrased(self, evaluation: Evaluation) -> Tensor:
        losses = version_losses(evaluation, self.forget, PARAPHRASE)
        return torch.where(losses.isnan(), evaluation.outputs(self.forget).tokens.losses, losses)

    def _privacy(self, evaluation: Evaluation) -> float:
        attack = AnswerMembership(forget=self.forget, test=self.test)
        gold = replace(evaluation, subject=evaluation.model("gold"))
        found = zip(attack.measure(evaluation), attack.measure(gold), strict=True)
        return harmonic_mean([_closeness(mine.value, other.value) for mine, other in found])

    def _use(self, evaluation: Evaluation) -> float:
        utility = ModelUtility(kept=self.kept, max_new_tokens=self.max_new_tokens, n_samples=self.n_samples)
        fluency = [
            Fluency(partition=name, max_new_tokens=self.max_new_tokens, n_samples=self.n_samples).measure(evaluation)[0].value
            for name in self.kept
        ]
        return harmonic_mean([utility.measure(evaluation)[0].value, sum(fluency) / len(fluency)])


def _closeness(area: float, gold: float) -> float:
    """One less the relative distance from gold's area, in [0, 1]."""
    if gold == 0:
        raise RequirementNotMet("an attack on gold has the area 0, so that nothing can be divided by it")
    return min(1.0, max(0.0, 1 - abs(area - gold) / gold))
