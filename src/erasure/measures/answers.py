"""How well a language model knows answers: everything that follows from one pass over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from erasure.functional.memorisation import exact_memorisation, extraction_strength
from erasure.functional.tokens import END, TokenTable
from erasure.measures.contract import Evaluation, Measure, Value
from erasure.measures.requirements import require_defined
from erasure.types import Partition, Source, Statistic, Task

__all__ = ["AnswerProbability", "ExactMemorisation", "ExtractionStrength", "has_end"]


@dataclass(frozen=True, kw_only=True)
class AnswerProbability(Measure):
    r"""Mean probability of the answers, per token.

    Answers: how probable does the model find what it was taught?

    .. math:: \frac1n \sum_i \exp\Bigl(-\frac{1}{T_i} \sum_t l_{it}\Bigr)

    The geometric mean over the tokens of an answer, its end included, so that length does not decide. In (0, 1].

    Args:
        partition: Where it is measured.
    """

    source: ClassVar[Source | None] = Source(
        paper="Maini et al., COLM 2024, arXiv:2401.06121",
        code="locuslab/open-unlearning at d3d7cf9",
        tested="counting by hand (tests/unit/language/test_answer_measures.py)",
    )
    higher_is_better: ClassVar[bool | None] = True
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    defined_for: ClassVar[frozenset[Task]] = frozenset({"generation"})

    partition: Partition = "forget"

    @property
    def statistic(self) -> Statistic:
        """A mean probability."""
        return "probability"

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The mean."""
        require_defined(self, evaluation)
        table = evaluation.outputs(self.partition).tokens
        return [Value(value=float((-table.losses).exp().mean()), partition=self.partition)]


@dataclass(frozen=True, kw_only=True)
class ExtractionStrength(Measure):
    r"""Share of an answer that the model finishes by itself, word for word.

    Answers: how short a beginning of the answer makes the model recite the rest?

    .. math:: \mathrm{ES} = 1 - \frac{k}{T}

    with the smallest :math:`k` from which on every token is the most likely one, the true ones before it given. The token that ends
    the answer is left out, where there is one. 0 if the last token is missed, 1 if the whole answer follows from the prompt.

    Args:
        partition: Where it is measured.
    """

    source: ClassVar[Source | None] = Source(
        paper="Carlini et al., USENIX Security 2021, arXiv:2012.07805; Wang et al., 2025, arXiv:2505.11953",
        code="locuslab/open-unlearning at d3d7cf9",
        tested="counting by hand (tests/unit/language/test_answer_measures.py)",
        deviations=("An answer of which no token is hit has 0; the reference code gives it 1/T.",),
    )
    higher_is_better: ClassVar[bool | None] = True
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    defined_for: ClassVar[frozenset[Task]] = frozenset({"generation"})

    partition: Partition = "forget"

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The mean over the answers."""
        require_defined(self, evaluation)
        return [Value(value=float(extraction_strength(_inside(evaluation, self.partition)).mean()), partition=self.partition)]


@dataclass(frozen=True, kw_only=True)
class ExactMemorisation(Measure):
    """Share of an answer's tokens that are the most likely ones, the true ones before them given.

    Answers: how much of the answer would be guessed token by token? Words that any sentence has are guessed too, so that a model that never
    saw the answers is far above 0: look at gold. The token that ends the answer is left out, where there is one. In [0, 1].

    Args:
        partition: Where it is measured.
    """

    source: ClassVar[Source | None] = Source(
        paper="Tirumala et al., NeurIPS 2022, arXiv:2205.10770",
        code="locuslab/open-unlearning at d3d7cf9",
        tested="counting by hand (tests/unit/language/test_answer_measures.py)",
    )
    higher_is_better: ClassVar[bool | None] = True
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    defined_for: ClassVar[frozenset[Task]] = frozenset({"generation"})

    partition: Partition = "forget"

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The mean over the answers."""
        require_defined(self, evaluation)
        return [Value(value=float(exact_memorisation(_inside(evaluation, self.partition)).mean()), partition=self.partition)]


def has_end(evaluation: Evaluation, ids: Tensor) -> Tensor:
    """Whether the answer of each sample has a token that ends it, ``(n,)`` bool on the CPU."""
    x: Tensor = evaluation.x.gather(ids.to(evaluation.y.device))
    return (x[:, 1] == END).any(1).cpu()


def _inside(evaluation: Evaluation, partition: str) -> TokenTable:
    outputs = evaluation.outputs(partition)
    return outputs.tokens.without_ends(has_end(evaluation, outputs.ids))
