"""Other ways to ask: the prompt in other words, and solved examples before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, TypeAlias

import torch
from annotated_types import MinLen
from torch import Tensor

from erasure.errors import PartitionError, RequirementNotMet
from erasure.functional.tokens import END, REPHRASED, exchange_rows, labelled, version_of, versions_missing, without_padding
from erasure.measures.answer_tables import Knowledge, knowledge, knowledge_values, table_of
from erasure.measures.contract import Evaluation, Measure, Value
from erasure.measures.generation import examples_of, require_context
from erasure.measures.requirements import require_defined
from erasure.training.predictor import ModelInput
from erasure.types import Partition, PositiveInt, Source, Task

__all__ = ["PromptAttack"]

Asking: TypeAlias = Literal["rephrased", "examples"]


@dataclass(frozen=True, kw_only=True)
class PromptAttack(Measure):
    """How well forgotten answers are known when they are asked for in another way.

    Answers: was the answer forgotten, or only the wording of the question? ``rephrased`` asks in other words, which the data must have;
    ``examples`` puts solved examples from another partition before the question. Each gives the mean probability of the true answers
    per token, their extraction strength and the share of their tokens that are hit, as ``AnswerProbability``, ``ExtractionStrength`` and
    ``ExactMemorisation`` do for the plain question; in [0, 1]. Compare with gold under the same question: examples teach it the form.

    **Cost**: a pass over the partition for each way to ask.

    Args:
        partition: The forgotten samples.
        asking: The ways to ask.
        known: What is read from the answers.
        examples: Partition whose first exchanges by id are the examples; those that are in ``partition`` as well are passed over.
        n_examples: How many.
    """

    source: ClassVar[Source | None] = Source(
        paper="Lynch et al., 2024, arXiv:2402.16835 (other prompts); Maini et al., COLM 2024, arXiv:2401.06121 (paraphrased questions)",
        tested="counting by hand (tests/unit/language/test_attacks_on_answers.py)",
    )
    version: ClassVar[int] = 2
    higher_is_better: ClassVar[bool | None] = True
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    defined_for: ClassVar[frozenset[Task]] = frozenset({"generation"})

    partition: Partition = "forget"
    asking: Annotated[tuple[Asking, ...], MinLen(1)] = ("rephrased",)
    known: Annotated[tuple[Knowledge, ...], MinLen(1)] = ("probability", "extraction", "memorisation")
    examples: Partition = "retain"
    n_examples: PositiveInt = 2

    def partitions(self) -> tuple[str, ...]:
        """Examples are looked at only if they are asked for."""
        return (self.partition, self.examples) if "examples" in self.asking else (self.partition,)

    def unsupported_reason(self, data: ModelInput) -> str | None:
        """There must be rephrased prompts, where they are asked."""
        return super().unsupported_reason(data) or (
            None if "rephrased" not in self.asking else versions_missing(data.x_shape, REPHRASED)
        )

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """A value for each way to ask and each kind of knowledge."""
        require_defined(self, evaluation)
        ids = evaluation.ids(self.partition).sort().values
        if not len(ids):
            raise PartitionError(f'the partition "{self.partition}" is empty')
        evaluation.outputs(self.partition)  # a model that diverged knows nothing
        network = evaluation.subject.load()
        values: list[Value] = []
        for way in self.asking:
            x = self._rephrased(evaluation, ids) if way == "rephrased" else self._with_examples(evaluation, ids)
            if way == "examples":
                require_context(network, x.shape[2])
            known = knowledge(table_of(network, x), x)
            values += knowledge_values(f"{self.title} {way}", known, self.known, self.partition)
        return values

    def _rephrased(self, evaluation: Evaluation, ids: Tensor) -> Tensor:
        x, y = version_of(evaluation.x.gather(ids), REPHRASED)
        is_asked = labelled(y).any(1)
        if not bool(is_asked.any()):
            raise RequirementNotMet(f'no sample of "{self.partition}" has a rephrased prompt; name their column in the source')
        return x[is_asked]

    def _with_examples(self, evaluation: Evaluation, ids: Tensor) -> Tensor:
        before = examples_of(evaluation, self.examples, self.n_examples, asked=self.partition)
        known = without_padding(evaluation.x.gather(ids))
        x = exchange_rows([([*before, *prompt], answer) for prompt, answer, _ in known], ids.device)
        # An answer keeps the token that ends it.
        for row, (prompt, answer, has_end) in enumerate(known):
            if has_end:
                x[row, 1, len(before) + len(prompt) + len(answer) - 1] = END
        return x.to(torch.int64)
