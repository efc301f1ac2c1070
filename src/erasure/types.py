"""Small shared types: where a method comes from, parameter ranges, and the kinds of learning task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from annotated_types import Ge, Gt, Interval, MinLen

__all__ = [
    "ANY_TASK",
    "Count",
    "Fraction",
    "Indication",
    "Json",
    "ModelRole",
    "NonNegativeFloat",
    "NonNegativeInt",
    "OpenFraction",
    "Partition",
    "PartitionReference",
    "PartitionRole",
    "PositiveFloat",
    "PositiveInt",
    "Source",
    "Statistic",
    "Task",
]

Json: TypeAlias = Any
"""A value made of dict, list, str, int, float, bool and None."""

Task: TypeAlias = Literal["classification", "binary", "multilabel", "generation"]
"""How labels are read: one class of K (logits ``(B, K)``), one logit ``(B,)`` or ``(B, 1)``, K independent yes/no labels, or the tokens of
an answer, one after the other (logits ``(B, T, K)`` over a vocabulary of K)."""

ANY_TASK: frozenset[Task] = frozenset({"classification", "binary", "multilabel", "generation"})
"""Of methods that need no more than the loss of a batch, and of measures that look at no outputs."""

Indication: TypeAlias = Literal["knowledge", "ignorance", "attack", "trace", ""]
"""What a larger value on forgotten samples indicates: that the model knows more of them, or less; that an attack finds them better; that
more of what they planted (a backdoor, a confusion) is there; or none of these."""

Statistic: TypeAlias = Literal["accuracy", "probability", "memory", "composite", "population", ""]
"""What kind of number a value is, where verdicts treat it apart: the share of samples that are predicted correctly, which moves by whole
samples; the mean probability of what is right; the share of the original's memory that is left; a number made from other measures,
which those are tested for; one of many models at once, which brings a test of its own."""

ModelRole: TypeAlias = Literal["original", "gold", "unlearned"]
"""Which of the three models a value belongs to."""

PartitionRole: TypeAlias = Literal["forget", "retain", "train", "validation"]
"""What a partition is to an unlearner, whatever the configuration calls it."""


@dataclass(frozen=True)
class PartitionReference:
    """Marks a parameter that names a partition, so that an unknown name is refused before anything runs."""


Partition: TypeAlias = Annotated[str, MinLen(1), PartitionReference()]
PositiveInt: TypeAlias = Annotated[int, Gt(0)]
NonNegativeInt: TypeAlias = Annotated[int, Ge(0)]
Count: TypeAlias = NonNegativeInt
PositiveFloat: TypeAlias = Annotated[float, Gt(0)]
NonNegativeFloat: TypeAlias = Annotated[float, Ge(0)]
Fraction: TypeAlias = Annotated[float, Interval(ge=0, le=1)]
OpenFraction: TypeAlias = Annotated[float, Interval(gt=0, lt=1)]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a component comes from, and where it departs from it.

    Args:
        paper: Authors, venue and identifier.
        code: Reference code at a commit, if there is any; it was read.
        tested: What the results are held to, and the tests in the repository that do it.
        deviations: What this implementation does differently from the paper or the reference code, one sentence each.
        bibtex: BibTeX key fields are generated from ``paper``; give an entry here to override them.
    """

    paper: str
    code: str = ""
    tested: str = ""
    deviations: tuple[str, ...] = ()
    bibtex: str = ""
