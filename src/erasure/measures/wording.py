"""How a language model says things: whether it declines to answer, and whether what it says is language."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import MinLen
from torch import Tensor, nn

from erasure.functional.tokens import answer_losses, answer_tokens, exchange_rows
from erasure.measures.contract import Evaluation, Measure, Reference, Value
from erasure.measures.generation import Generated, generated
from erasure.measures.requirements import require_defined
from erasure.training.forward import logits_of
from erasure.types import Partition, PositiveInt, Source, Task

__all__ = ["REFUSING", "Fluency", "RefusalRate"]

_TESTED = "counting by hand (tests/unit/language/test_wording.py)"
_BATCH = 32

REFUSING: tuple[str, ...] = (
    "not able to answer",
    "no information",
    "not know",
    "don't know",
    "cannot tell you",
    "can't tell you",
    "nothing about this is known",
    "never learned",
    "will not answer",
    "did not cover",
    "beyond what i know",
    "cannot help",
    "can't help",
    "not have an answer",
    "don't have an answer",
    "nothing i can say",
    "lack the facts",
    "outside my knowledge",
    "not come across",
    "i am sorry",
    "i'm sorry",
    "i'm not sure",
    "i am not sure",
    "unable to answer",
)
"""What a refusal has in it, in lower case."""


@dataclass(frozen=True, kw_only=True)
class RefusalRate(Measure):
    """Share of prompts that the model declines to answer.

    Answers: has declining spread to what should be kept? Methods that teach refusals spread them. An answer counts as a refusal if it has
    one of the phrases in it, whatever its case; greedy generation; in [0, 1].

    **Cost**: generation, token after token.

    Args:
        partition: Where it is measured.
        phrases: What makes an answer a refusal.
        max_new_tokens: Tokens of an answer at most.
        n_samples: Only the first samples by their id, this many; all by default.
    """

    source: ClassVar[Source | None] = Source(
        paper="Maini et al., COLM 2024, arXiv:2401.06121 (refusals as alternate answers)",
        tested=_TESTED,
        deviations=("The measure and its phrases are ours.",),
    )
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    defined_for: ClassVar[frozenset[Task]] = frozenset({"generation"})

    partition: Partition = "retain"
    phrases: Annotated[tuple[str, ...], MinLen(1)] = REFUSING
    max_new_tokens: PositiveInt = 64
    n_samples: PositiveInt | None = None

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The share."""
        require_defined(self, evaluation)
        answers = generated(evaluation, self.partition, max_new_tokens=self.max_new_tokens, n_samples=self.n_samples)
        phrases = [phrase.lower() for phrase in self.phrases]
        refused = [any(phrase in each.said.lower() for phrase in phrases) for each in answers]
        return [Value(value=sum(refused) / len(refused), partition=self.partition)]


@dataclass(frozen=True, kw_only=True)
class Fluency(Measure):
    r"""How probable gold finds what the model says.

    Answers: is it language at all?

    .. math:: \frac1n \sum_i p_{\mathrm{gold}}(\hat y_i \mid x_i)^{1 / \lvert \hat y_i \rvert}

    with greedy answers :math:`\hat y_i`; an empty one counts 0; in [0, 1]. A model that says one common sentence over and over is fluent:
    ``distinct pairs`` is the mean share of an answer's pairs of neighbouring tokens that are different ones, and ``empty answers`` the
    share of answers without a token.

    **Cost**: generation, token after token, and a pass of gold.

    Args:
        partition: Whose prompts.
        max_new_tokens: Tokens of an answer at most.
        n_samples: Only the first samples by their id, this many; all by default.
    """

    source: ClassVar[Source | None] = Source(
        paper="Dorna et al., 2025, arXiv:2506.12618 (fluency); Li et al., NAACL 2016, arXiv:1510.03055 (distinct pairs)",
        tested=_TESTED,
        deviations=("Gold judges; the benchmark asks a classifier of gibberish, which has to be fetched.",),
    )
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    references: ClassVar[frozenset[Reference]] = frozenset({"gold"})
    defined_for: ClassVar[frozenset[Task]] = frozenset({"generation"})

    partition: Partition = "retain"
    max_new_tokens: PositiveInt = 64
    n_samples: PositiveInt | None = None

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """Fluency, variety and silence."""
        require_defined(self, evaluation)
        gold = evaluation.model("gold").load()
        answers = generated(evaluation, self.partition, max_new_tokens=self.max_new_tokens, n_samples=self.n_samples)
        spoken = [each for each in answers if each.tokens]
        likely = _probabilities(gold, spoken, evaluation.y.device)
        pairs = [list(itertools.pairwise(each.tokens)) for each in spoken]
        shares = [len(set(each)) / len(each) for each in pairs if each]
        empty = 1 - len(spoken) / len(answers)
        return [
            Value(value=sum(likely) / len(answers), partition=self.partition),
            Value(value=sum(shares) / len(shares) if shares else 1.0, name="distinct pairs", partition=self.partition),
            Value(value=empty, name="empty answers", partition=self.partition),
        ]


@torch.no_grad()
def _probabilities(model: nn.Module, answers: Sequence[Generated], device: torch.device) -> list[float]:
    """Geometric mean of the probabilities of each answer's tokens."""
    found: list[float] = []
    for start in range(0, len(answers), _BATCH):
        x = exchange_rows([(each.prompt, each.tokens) for each in answers[start : start + _BATCH]], device)
        losses: Tensor = answer_losses(logits_of(model(x)), answer_tokens(x))
        found += (-losses.double()).exp().tolist()
    return found
