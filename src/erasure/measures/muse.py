"""MUSE's measures: verbatim memorisation, knowledge memorisation and privacy leakage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from erasure.errors import RequirementNotMet
from erasure.functional.membership import auc
from erasure.functional.token_scores import lowest_mean
from erasure.measures.answers import has_end
from erasure.measures.contract import Evaluation, Measure, Reference, Value
from erasure.measures.generation import examples_of, generated, mean_rouge
from erasure.measures.requirements import require_defined
from erasure.types import NonNegativeInt, OpenFraction, Partition, PositiveInt, Source, Task

__all__ = ["KnowMem", "PrivLeak", "VerbMem"]

_PAPER = "Shi et al., ICLR 2025, arXiv:2407.06460"
_CODE = "jaechan-repo/muse_bench at 54719c5; OPTML-Group/Unlearn-Simple at f1a355d"
_TESTED = "plain formulas and scikit-learn (tests/unit/language/test_muse.py)"
_STOPS = ("\n\n", "\nQuestion", "Question:")


@dataclass(frozen=True, kw_only=True)
class VerbMem(Measure):
    """How much of a text the model recites, word for word, after its beginning.

    Answers: does it still know the text by heart? Mean ROUGE-L F1 of what it generates greedily against the true continuation; in [0, 1].

    **Cost**: generation, token after token.

    Args:
        partition: Where it is measured.
        n_tokens: Tokens that are generated and compared; the true text is cut to as many.
        n_samples: Only the first samples by their id, this many; all by default.
    """

    source: ClassVar[Source | None] = Source(paper=_PAPER, code=_CODE, tested=_TESTED)
    higher_is_better: ClassVar[bool | None] = True
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    defined_for: ClassVar[frozenset[Task]] = frozenset({"generation"})

    partition: Partition = "forget"
    n_tokens: PositiveInt = 128
    n_samples: PositiveInt | None = None

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The mean."""
        require_defined(self, evaluation)
        answers = generated(
            evaluation, self.partition, max_new_tokens=self.n_tokens, n_samples=self.n_samples, wanted_tokens=self.n_tokens
        )
        score = mean_rouge([(each.wanted, each.said) for each in answers], "f1")
        return [Value(value=score, partition=self.partition)]


@dataclass(frozen=True, kw_only=True)
class KnowMem(Measure):
    """How well the model answers questions on what a text says.

    Answers: does it still know what it read? Mean ROUGE-L F1 of short greedy answers against the true ones, with solved examples before
    each question, which are not asked themselves; in [0, 1]. What is said ends at an empty line or at another question.

    **Cost**: generation, token after token.

    Args:
        partition: Where it is measured.
        examples: Partition whose first exchanges by id are the solved examples; those that are in ``partition`` as well are passed over,
            unless it is the same one.
        n_examples: How many; with 0 there are none and the partition is not looked at.
        n_tokens: Tokens of an answer at most.
        n_samples: Only the first samples by their id, this many; all by default.
    """

    source: ClassVar[Source | None] = Source(
        paper=_PAPER,
        code=_CODE,
        tested=_TESTED,
        deviations=("Examples are joined as tokens, each with the token that ends its answer; MUSE joins texts by empty lines.",),
    )
    version: ClassVar[int] = 2
    higher_is_better: ClassVar[bool | None] = True
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    defined_for: ClassVar[frozenset[Task]] = frozenset({"generation"})

    partition: Partition = "forget"
    examples: Partition = "retain"
    n_examples: NonNegativeInt = 2
    n_tokens: PositiveInt = 32
    n_samples: PositiveInt | None = None

    def partitions(self) -> tuple[str, ...]:
        """Without examples, only what is measured."""
        return (self.partition, self.examples) if self.n_examples else (self.partition,)

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The mean."""
        require_defined(self, evaluation)
        # Of its own samples those that are examples are left out; of another partition, those that are asked.
        asked = "" if self.examples == self.partition else self.partition
        before = examples_of(evaluation, self.examples, self.n_examples, asked=asked) if self.n_examples else ()
        answers = generated(
            evaluation,
            self.partition,
            max_new_tokens=self.n_tokens,
            n_samples=self.n_samples,
            before=before,
            n_left_out=self.n_examples if self.examples == self.partition else 0,
        )
        score = mean_rouge([(each.wanted, shortened(each.said)) for each in answers], "f1")
        return [Value(value=score, partition=self.partition)]


@dataclass(frozen=True, kw_only=True)
class PrivLeak(Measure):
    r"""How much more, or less, than gold a model tells of what it was trained on.

    Answers: can the forgotten texts be told from others better, or worse, than with a model that never saw them?

    .. math:: 100 \, \frac{A_u - A_{\mathrm{gold}}}{A_{\mathrm{gold}}}, \quad A = 1 - \mathrm{AUC}(\text{min-}k)

    About -100 while the texts are known, 0 as gold, positive where they were forgotten too much. It is not symmetric:
    the upper end is :math:`100 (1 / A_{\mathrm{gold}} - 1)`.

    Args:
        forget: The forgotten samples.
        test: Samples that no model was trained on.
        share: Share of the tokens of a text that are the least likely; at least one.
    """

    source: ClassVar[Source | None] = Source(
        paper=_PAPER,
        code=_CODE,
        tested=_TESTED,
        deviations=("Tokens of answers count, without the one that ends them; in MUSE all tokens of the text.",),
    )
    value_range: ClassVar[tuple[float, float]] = (-100.0, float("inf"))
    ideal: ClassVar[Literal["gold"] | float | None] = 0.0
    references: ClassVar[frozenset[Reference]] = frozenset({"gold"})
    defined_for: ClassVar[frozenset[Task]] = frozenset({"generation"})

    forget: Partition = "forget"
    test: Partition = "test"
    share: OpenFraction = 0.4

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The relative difference in percent."""
        require_defined(self, evaluation)
        own, gold = self._area(evaluation, "subject"), self._area(evaluation, "gold")
        if gold == 0:
            raise RequirementNotMet(
                "gold tells all forgotten texts from the others, so that nothing can be divided by its area; take more of the others, or "
                "ones that are more alike"
            )
        return [Value(value=100 * (own - gold) / gold, partition=self.forget, unit="%")]

    def _area(self, evaluation: Evaluation, model: Literal["subject", "gold"]) -> float:
        return 1 - auc(self._scores(evaluation, self.forget, model), self._scores(evaluation, self.test, model))

    def _scores(self, evaluation: Evaluation, partition: str, model: Literal["subject", "gold"]) -> Tensor:
        outputs = evaluation.outputs(partition, model)
        inside = outputs.tokens.without_ends(has_end(evaluation, outputs.ids))
        return lowest_mean(inside.log_probabilities, inside.mask, self.share)


def shortened(text: str) -> str:
    """An answer up to where another question begins.

    Example:
        >>> shortened("Near the mill. Question: Who?")
        'Near the mill. '
    """
    return text[: min((place for place in map(text.find, _STOPS) if place >= 0), default=len(text))]
