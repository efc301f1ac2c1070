"""Attacks that tell answers which a language model was taught from others, all from one pass."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import torch
from torch import Tensor

from erasure.errors import RequirementNotMet
from erasure.functional.membership import auc, auc_interval
from erasure.functional.token_scores import lowest_mean
from erasure.functional.tokens import END, TokenTable
from erasure.measures.contract import Evaluation, Measure, Value
from erasure.measures.requirements import require_defined
from erasure.token_texts import text_of_pieces
from erasure.types import Indication, OpenFraction, Partition, Source, Task

__all__ = ["AnswerMembership"]

AnswerAttack: TypeAlias = Literal["loss", "zlib", "min-k", "min-k++"]


@dataclass(frozen=True, kw_only=True)
class AnswerMembership(Measure):
    """Areas under the ROC curves of attacks that tell forgotten answers from ones that nobody was taught.

    Answers: can it be seen that the forgotten answers were in the training set?

    Scores, larger for members: ``loss``, the negative mean loss; ``zlib``, that loss per byte of the compressed text; ``min-k``, the
    mean of the lowest log-probabilities of an answer; ``min-k++``, the same of log-probabilities standardised by mean and spread over
    the vocabulary. 0.5 is chance, and gold's area is the ideal, which need not be 0.5 where the two sets differ in more than membership.

    The end of an answer counts for ``loss`` and ``zlib`` and is left out elsewhere.

    Args:
        forget: The forgotten samples.
        test: Samples that no model was trained on.
        attacks: Which scores.
        share: Share of the tokens of an answer that are the lowest, for ``min-k`` and ``min-k++``; at least one token.
    """

    source: ClassVar[Source | None] = Source(
        paper="Carlini et al., USENIX Security 2021, arXiv:2012.07805 (loss, zlib); Shi et al., ICLR 2024, arXiv:2310.16789 "
        "(min-k); Zhang et al., ICLR 2025, arXiv:2404.02936 (min-k++)",
        code="locuslab/open-unlearning at d3d7cf9",
        tested="plain formulas and scikit-learn (tests/unit/language/test_answer_measures.py)",
    )
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    indicates: ClassVar[Indication | None] = "attack"
    chance_level: ClassVar[float | None] = 0.5
    defined_for: ClassVar[frozenset[Task]] = frozenset({"generation"})

    forget: Partition = "forget"
    test: Partition = "test"
    attacks: tuple[AnswerAttack, ...] = ("loss", "zlib", "min-k", "min-k++")
    share: OpenFraction = 0.4

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """An area for each attack, with its interval."""
        require_defined(self, evaluation)
        members, others = (self._scores(evaluation, name) for name in (self.forget, self.test))
        values = []
        for attack in self.attacks:
            low, high = auc_interval(members[attack], others[attack])
            area = auc(members[attack], others[attack])
            values.append(
                Value(value=area, name=f"{self.title} {attack}", partition=self.forget, low=min(low, area), high=max(high, area))
            )
        return values

    def _scores(self, evaluation: Evaluation, partition: str) -> Mapping[str, Tensor]:
        outputs = evaluation.outputs(partition)
        table = outputs.tokens
        x: Tensor = evaluation.x.gather(outputs.ids.to(evaluation.y.device))
        inside = table.without_ends((x[:, 1] == END).any(1).cpu())
        makers: dict[str, Callable[[], Tensor]] = {
            "loss": lambda: -table.losses,
            "zlib": lambda: -table.losses / self._bytes(evaluation, inside),
            "min-k": lambda: lowest_mean(inside.log_probabilities, inside.mask, self.share),
            "min-k++": lambda: lowest_mean(inside.standardised, inside.mask, self.share),
        }
        return {attack: makers[attack]() for attack in self.attacks}

    def _bytes(self, evaluation: Evaluation, table: TokenTable) -> Tensor:
        """Length of each answer's text after compression, in bytes."""
        pieces = evaluation.facts.get("token_names")
        if not pieces:
            raise RequirementNotMet("how tokens read is not known, so that texts cannot be compressed; leave the attack zlib out")
        texts = (
            text_of_pieces(pieces[i] for i in row[mask].tolist()) for row, mask in zip(table.labels, table.mask, strict=True)
        )
        return torch.tensor([len(zlib.compress(text.encode())) for text in texts], dtype=torch.float64)
