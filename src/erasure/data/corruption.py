"""Ways of making samples wrong on purpose: wrong labels, two classes taken for each other, a backdoor."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from erasure.component import Component
from erasure.data.dataset import Dataset
from erasure.data.fields import Label, Labels
from erasure.data.selection import class_code, portion, shown
from erasure.errors import DataError, Diagnostic, InvalidParameters, RequirementNotMet
from erasure.training.batches import TensorColumn
from erasure.training.randomness import Streams
from erasure.training.triggers import Trigger
from erasure.types import OpenFraction, PositiveInt, Source

__all__ = ["Backdoor", "Corruption", "Mislabel", "SwapClasses"]


@dataclass(frozen=True, kw_only=True)
class Corruption(Component):
    """What is done to a data set to make some of its samples wrong."""

    kind: ClassVar[str] = "corruption"

    def corrupt(self, data: Dataset, streams: Streams) -> Dataset:
        """The data set with some samples made wrong.

        Which samples those are stands in ``corrupted``, and all true labels in ``clean_y``. Samples that are corrupted already are
        never drawn again.

        Args:
            data: The data set; it is not changed.
            streams: Where random choices come from.

        Raises:
            DataError: If there are not enough samples, or the data cannot be corrupted so; says what there is.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class _Share(Corruption):
    """What corruptions of a number or share of the samples have in common."""

    n_samples: PositiveInt | None = None
    percentage: OpenFraction | None = None
    labels: Labels | None = None

    def check(self) -> None:
        """One of the two sizes."""
        if (self.n_samples is None) == (self.percentage is None):
            path = f"{type(self).__name__}.n_samples"
            raise InvalidParameters([Diagnostic("give either n_samples or percentage", path=path)])

    def _drawn(self, data: Dataset, eligible: Tensor, streams: Streams) -> Tensor:
        """Ids that are made wrong, ascending."""
        if self.labels is not None:
            codes = torch.tensor([class_code(label, data) for label in self.labels])
            eligible = eligible & torch.isin(data.y, codes)
        candidates = (eligible & ~_corrupted(data)).nonzero().flatten()
        n = self.n_samples if self.percentage is None else portion(len(candidates), self.percentage)
        if not n or n > len(candidates):
            raise DataError(f'{n} samples of "{data.name}" shall be corrupted, but there are {len(candidates)} to choose from')
        return _some(candidates, n, streams, "samples")


@dataclass(frozen=True, kw_only=True)
class Mislabel(_Share):
    """Random wrong labels.

    Each chosen sample gets a label drawn uniformly from the other classes.

    Args:
        n_samples: Samples that are mislabelled.
        percentage: In its place, the fraction of the samples, or of those of the classes in ``labels``.
        labels: Only samples of these classes, by number or name; by default of all.
    """

    source: ClassVar[Source | None] = Source(paper="Goel, Prabhu, Torr, Kumaraguru, Sanyal, TMLR 2024, arXiv:2402.14015")

    def corrupt(self, data: Dataset, streams: Streams) -> Dataset:
        """Draw samples and, for each, another class."""
        _require_classes(data)
        chosen = self._drawn(data, torch.ones(len(data), dtype=torch.bool), streams)
        shifts = torch.from_numpy(streams.numpy("labels").integers(1, data.n_classes, size=len(chosen)))
        return _relabelled(data, chosen, (data.y[chosen] + shifts) % data.n_classes, "mislabelled")


@dataclass(frozen=True, kw_only=True)
class SwapClasses(Corruption):
    """Some samples of two classes with each other's label: the interclass confusion test.

    The measure ``InterclassConfusion`` asks what is left of it.

    Args:
        first: One class, by number or name.
        second: The other.
        n_per_class: Samples of each class that get the other's label.
    """

    source: ClassVar[Source | None] = Source(
        paper="Goel, Prabhu, Sanyal, Lim, Torr, Kumaraguru, 2022, arXiv:2201.06640",
        deviations=("The size is given for each class; the paper gives the sum of both.",),
    )

    first: Label = 0
    second: Label = 1
    n_per_class: PositiveInt

    def corrupt(self, data: Dataset, streams: Streams) -> Dataset:
        """Swap the labels of as many samples of both classes."""
        _require_classes(data)
        a, b = class_code(self.first, data), class_code(self.second, data)
        if a == b:
            raise DataError(f"first and second are the same class, {self.first!r}; nothing would be swapped")
        chosen = [self._of(code, label, data, streams) for code, label in ((a, self.first), (b, self.second))]
        labels = torch.tensor([b, a]).repeat_interleave(self.n_per_class)
        return _relabelled(data, torch.cat(chosen), labels, "confused")

    def _of(self, code: int, label: Label, data: Dataset, streams: Streams) -> Tensor:
        candidates = ((data.y == code) & ~_corrupted(data)).nonzero().flatten()
        if len(candidates) < self.n_per_class:
            raise DataError(
                f"the labels of {self.n_per_class} samples of class {label!r} shall be swapped, "
                f'but "{data.name}" has {len(candidates)} of them'
            )
        return _some(candidates, self.n_per_class, streams, f"samples of {code}")


@dataclass(frozen=True, kw_only=True)
class Backdoor(_Share):
    """A trigger on some samples, all with the label that the trigger shall lead to.

    The measure ``AttackSuccessRate`` with the same trigger and target asks whether it still does.

    Args:
        trigger: The mark.
        target: The class that marked samples are given, by number or name.
        n_samples: Samples that are marked.
        percentage: In its place, the fraction of the samples that may be marked.
        labels: Only samples of these classes; by default of all but the target. The target alone makes a backdoor without wrong
            labels.
    """

    source: ClassVar[Source | None] = Source(
        paper="Gu, Dolan-Gavitt, Garg, 2017, arXiv:1708.06733; for verifying deletion: Sommer, Song, Wagh, Mittal, PoPETs 2022"
    )

    trigger: Trigger
    target: Label = 0

    def corrupt(self, data: Dataset, streams: Streams) -> Dataset:
        """Stamp the trigger and set the label."""
        _require_classes(data)
        target = class_code(self.target, data)
        others = torch.ones(len(data), dtype=torch.bool) if self.labels is not None else data.y != target
        chosen = self._drawn(data, others, streams)
        if not isinstance(data.x, TensorColumn):
            raise DataError(f'the inputs of "{data.name}" are a {type(data.x).__name__}; a trigger needs them in one tensor')
        rows = replace(data.x, values=data.x.values.index_select(0, chosen))
        try:
            marked = self.trigger.stamp(rows, data.feature_names).values
        except RequirementNotMet as error:
            raise DataError(f'the trigger does not fit "{data.name}": {error}') from error
        values = data.x.values.clone()
        values[chosen] = marked
        relabelled = _relabelled(data, chosen, torch.full_like(chosen, target), "backdoored")
        return replace(relabelled, x=replace(data.x, values=values))


def _require_classes(data: Dataset) -> None:
    if data.task == "multilabel":
        raise DataError(
            f'the samples of "{data.name}" have several labels each; only data with one class a sample can be corrupted'
        )
    if data.n_classes < 2:
        named = shown(data.class_names) or "1 class"
        raise DataError(f'"{data.name}" has only {named}; there is no wrong label')


def _corrupted(data: Dataset) -> Tensor:
    return torch.zeros(len(data), dtype=torch.bool) if data.corrupted is None else data.corrupted


def _some(candidates: Tensor, n: int, streams: Streams, name: str) -> Tensor:
    drawn = torch.from_numpy(streams.numpy(name).permutation(len(candidates))[:n])
    return candidates[drawn.sort().values]


def _relabelled(data: Dataset, chosen: Tensor, labels: Tensor, adjective: str) -> Dataset:
    """The data set with other labels for the chosen samples, which from now on count as corrupted."""
    y, corrupted = data.y.clone(), _corrupted(data).clone()
    y[chosen], corrupted[chosen] = labels, True
    clean = data.y if data.clean_y is None else data.clean_y
    return replace(data, name=f"{data.name} ({adjective})", y=y, clean_y=clean, corrupted=corrupted)
