"""Whether rounding a model's weights brings back what was forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Interval, MinLen

from erasure.errors import PartitionError
from erasure.functional.rounding import with_rounded_weights
from erasure.measures.answer_tables import Knowledge, knowledge, knowledge_values, table_of
from erasure.measures.contract import Evaluation, Measure, Value
from erasure.measures.requirements import require_defined
from erasure.types import Partition, PositiveInt, Source, Task

__all__ = ["RoundedWeights"]


@dataclass(frozen=True, kw_only=True)
class RoundedWeights(Measure):
    """How well answers are known after the model's weights were rounded to few bits.

    Answers: does deployment bring back what was forgotten? Methods that move weights very little may have their changes rounded away.
    Every matrix of weights but those of embeddings and of the output layer is rounded to the nearest value, symmetrically; with 8 bits
    each output has a scale, with fewer each ``group`` of its inputs. In [0, 1]; compare with gold, whose weights are rounded alike.

    **Cost**: for each number of bits a copy of the model and a pass over the partition.

    Args:
        partition: Where it is measured.
        bits: How many bits a weight has.
        group: Inputs that share a scale where there are fewer than 8 bits.
        known: What is read from the answers.
    """

    source: ClassVar[Source | None] = Source(
        paper="Zhang et al., ICLR 2025, arXiv:2410.16454",
        tested="plain formulas (tests/unit/language/test_attacks_on_answers.py)",
        deviations=("Round to nearest; the paper also has methods that look at data, and 4-bit types with uneven steps.",),
    )
    higher_is_better: ClassVar[bool | None] = True
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    defined_for: ClassVar[frozenset[Task]] = frozenset({"generation"})

    partition: Partition = "forget"
    bits: Annotated[tuple[Annotated[int, Interval(ge=2, le=8)], ...], MinLen(1)] = (8, 4)
    group: PositiveInt = 64
    known: Annotated[tuple[Knowledge, ...], MinLen(1)] = ("probability", "extraction", "memorisation")

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """A value for each number of bits and each kind of knowledge."""
        require_defined(self, evaluation)
        ids = evaluation.ids(self.partition).sort().values
        if not len(ids):
            raise PartitionError(f'the partition "{self.partition}" is empty')
        evaluation.outputs(self.partition)  # a model that diverged knows nothing
        x = evaluation.x.gather(ids)
        values: list[Value] = []
        for bits in self.bits:
            network = with_rounded_weights(evaluation.subject.load(), bits, None if bits == 8 else self.group)
            known = knowledge(table_of(network, x), x)
            values += knowledge_values(f"{self.title} {bits} bits", known, self.known, self.partition)
        return values
