"""Accuracy class by class and group by group, and fairness between groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from erasure.errors import RequirementNotMet
from erasure.functional.groups import group_means
from erasure.functional.losses import correctness
from erasure.intervals import clopper_pearson
from erasure.measures.contract import Evaluation, Measure, Outputs, Value
from erasure.measures.requirements import class_id, class_names, group_names, groups_of, require_defined, unknown_class
from erasure.training.predictor import ModelInput
from erasure.types import NonNegativeInt, Partition, Source, Task

__all__ = ["ClassAccuracy", "DemographicParity", "EqualisedOdds", "GroupAccuracy"]


@dataclass(frozen=True, kw_only=True)
class ClassAccuracy(Measure):
    """Accuracy of each class, the worst of them, and how far they lie apart.

    Answers: who pays for forgetting? One value ``accuracy[class]`` for each class that has samples (for multilabel tasks, for each
    label), with its exact 95 % interval; then ``worst class accuracy``, ``class accuracy gap`` (best less worst) and
    ``class accuracy variance`` (of the classes, each counted once). All in [0, 1].

    Args:
        partition: Where it is measured.
    """

    source: ClassVar[Source | None] = Source(paper="Bookkeeping; intervals by Clopper & Pearson, 1934")
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    partition: Partition = "test"

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """Accuracies, the worst, the gap and the variance."""
        outputs = evaluation.outputs(self.partition)
        right = (outputs.predictions == outputs.labels).double()
        if outputs.task == "multilabel":
            classes, means = torch.arange(right.shape[1]), right.mean(0)
            counts = torch.full((right.shape[1],), len(right))
        else:
            classes, means, counts = group_means(right, outputs.labels.reshape(-1))
        if len(classes) < 2:
            raise RequirementNotMet(f'all samples of "{self.partition}" are of one class; accuracy says the same')
        names = class_names(evaluation)
        values = [
            _share(f"accuracy[{names[code]}]", mean, count, self.partition)
            for code, mean, count in zip(classes.tolist(), means.tolist(), counts.tolist(), strict=True)
        ]
        variance = float(means.var(correction=0))
        return [
            *values,
            *_extremes("class", means, self.partition),
            Value(value=variance, name="class accuracy variance", partition=self.partition),
        ]


@dataclass(frozen=True, kw_only=True)
class GroupAccuracy(Measure):
    """Accuracy of each group, the worst of them, and how far they lie apart.

    Answers: does forgetting harm some people more than others? One value ``accuracy[z=group]`` for each group of the data's z, with its
    exact 95 % interval, and the group's size ``n[z=group]``; then ``worst group accuracy`` and ``group accuracy gap`` (best less
    worst). Accuracies in [0, 1]; for multilabel tasks they are shares of labels, without an interval.

    Args:
        partition: Where it is measured.
        column: Column of z, from 0, where it has several; names then say ``z1``, ``z2``.
    """

    source: ClassVar[Source | None] = Source(
        paper="Sagawa, Koh, Hashimoto, Liang, ICLR 2020, arXiv:1911.08731 (worst group)",
        deviations=("Intervals are exact ones of each share, where some papers resample.",),
    )
    value_range: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    ideal: ClassVar[Literal["gold"] | float | None] = None

    partition: Partition = "test"
    column: NonNegativeInt = 0

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """Accuracies and sizes, the worst and the gap."""
        outputs = evaluation.outputs(self.partition)
        groups = groups_of(evaluation, outputs, self.column)
        right = correctness(outputs.task, outputs.logits, outputs.labels)
        codes, means, counts = group_means(right, groups)
        values: list[Value] = []
        z = _column(self.column)
        for name, mean, count in zip(group_names(evaluation, codes), means.tolist(), counts.tolist(), strict=True):
            exact = outputs.task != "multilabel"
            values.append(_share(f"accuracy[{z}={name}]", mean, count, self.partition, exact=exact))
            values.append(Value(value=count, name=f"n[{z}={name}]", partition=self.partition, unit="samples"))
        return [*values, *_extremes("group" if not self.column else f"{z} group", means, self.partition)]


def _column(number: int) -> str:
    return f"z{number}" if number else "z"


def _share(name: str, mean: float, count: int, partition: str, *, exact: bool = True) -> Value:
    low, high = clopper_pearson(round(mean * count), count) if exact else (None, None)
    return Value(value=mean, name=name, partition=partition, low=low, high=high, ideal="gold")


def _extremes(kind: str, means: Tensor, partition: str) -> list[Value]:
    worst, gap = float(means.min()), float(means.max() - means.min())
    return [
        Value(value=worst, name=f"worst {kind} accuracy", partition=partition, higher_is_better=True, ideal="gold"),
        Value(value=gap, name=f"{kind} accuracy gap", partition=partition, ideal="gold"),
    ]


@dataclass(frozen=True, kw_only=True)
class _Fairness(Measure):
    """What gaps between groups have in common.

    Args:
        partition: Where it is measured.
        positive: The class that people want to be predicted, by number or name; by default the second of two.
        column: Column of z, from 0, where it has several.
    """

    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification", "binary"})

    partition: Partition = "test"
    positive: int | str | None = None
    column: NonNegativeInt = 0

    @property
    def title(self) -> str:
        """The measure's name, with the class and the column where they were chosen."""
        chosen = [str(self.positive)] if self.positive is not None else []
        chosen += [_column(self.column)] if self.column else []
        return f"{type(self).__name__}[{','.join(chosen)}]" if chosen else type(self).__name__

    def unsupported_reason(self, data: ModelInput) -> str | None:
        """Which of several classes is the good one, nobody can guess."""
        if self.positive is None and data.task == "classification" and data.n_classes > 2:
            return f"{self.title} compares how often one class is predicted; name it in positive"
        return super().unsupported_reason(data) or unknown_class(data, self.positive)

    def _seen(self, evaluation: Evaluation) -> tuple[Outputs, Tensor, int]:
        """Outputs, the group of each sample, and the class."""
        require_defined(self, evaluation)
        outputs = evaluation.outputs(self.partition)
        positive = 1 if self.positive is None else class_id(evaluation, self.positive)
        return outputs, groups_of(evaluation, outputs, self.column), positive

    @staticmethod
    def _gap(hits: Tensor, groups: Tensor) -> float:
        _, means, _ = group_means(hits.double(), groups)
        return float(means.max() - means.min())


@dataclass(frozen=True, kw_only=True)
class DemographicParity(_Fairness):
    r"""Demographic parity gap: how much more often one group gets the good prediction than another.

    .. math:: \max_g \Pr[\hat y = c \mid g] - \min_g \Pr[\hat y = c \mid g]

    In [0, 1]; 0 is parity. The labels are not looked at. The ideal of an unlearned model is gold's gap; a smaller one is no praise in
    itself, since a constant prediction has parity.

    Args:
        partition: Where it is measured.
        positive: The class :math:`c`, by number or name; by default the second of two.
        column: Column of z, from 0, where it has several.
    """

    source: ClassVar[Source | None] = Source(paper="Calders, Kamiran, Pechenizkiy, ICDM Workshops 2009")

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The gap."""
        outputs, groups, positive = self._seen(evaluation)
        return [Value(value=self._gap(outputs.predictions == positive, groups), partition=self.partition)]


@dataclass(frozen=True, kw_only=True)
class EqualisedOdds(_Fairness):
    r"""Equalised odds gap: how unequal the true and false positive rates of groups are.

    Among the samples of class :math:`c`, and among all others, how often is :math:`c` predicted in each group? Three values, in [0, 1]:
    ``true positive rate gap`` and ``false positive rate gap``, the largest less the smallest of those shares, and ``EqualisedOdds``,
    the larger of the two; 0 is equality. The ideal of an unlearned model is gold's gap; a smaller one is no praise in itself, since a
    constant prediction has none.

    Args:
        partition: Where it is measured.
        positive: The class :math:`c`, by number or name; by default the second of two.
        column: Column of z, from 0, where it has several.
    """

    source: ClassVar[Source | None] = Source(paper="Hardt, Price, Srebro, NeurIPS 2016, arXiv:1610.02413")

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The larger gap, then both."""
        outputs, groups, positive = self._seen(evaluation)
        hits, actual = outputs.predictions == positive, outputs.labels.reshape(-1) == positive
        gaps = {}
        suffix = self.title.removeprefix("EqualisedOdds")
        for name, among, what in (("true positive rate gap", actual, "with"), ("false positive rate gap", ~actual, "outside")):
            missing = [g for g in torch.unique(groups).tolist() if not bool((among & (groups == g)).any())]
            if missing:
                [group] = group_names(evaluation, torch.tensor(missing[:1]))
                raise RequirementNotMet(f'group "{group}" has no sample {what} the class {positive}, so it has no rate')
            gaps[name] = self._gap(hits[among], groups[among])
        return [
            Value(value=max(gaps.values()), partition=self.partition),
            *(Value(value=gap, name=f"{name}{suffix}", partition=self.partition) for name, gap in gaps.items()),
        ]
