"""Splitters: each cuts one partition in two.

The order within a part is part of the result. Without shuffling, both parts keep the order of ``ref_data``. A splitter that
shuffles hands out both parts in the order drawn, so that "the first n" of a shuffled partition is a random n.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Interval, MinLen
from torch import Tensor

from erasure.data.contract import Splitter
from erasure.data.dataset import Dataset
from erasure.data.fields import Label, Labels
from erasure.data.partitions import ids_of
from erasure.data.selection import code_of, divided, number_of, of_class, ordered, portion, shown
from erasure.errors import InvalidParameters, PartitionError
from erasure.types import NonNegativeInt, OpenFraction, Partition

__all__ = [
    "ByZSplitter",
    "ClassSplitter",
    "ConcatSplitter",
    "ListSplitter",
    "NSamplesOfClassSplitter",
    "NSamplesSplitter",
    "PercentageSplitter",
    "StratifiedPercentageSplitter",
    "ZRangeSplitter",
]


_Share = Annotated[float, Interval(gt=0, le=1)]


@dataclass(frozen=True, kw_only=True)
class PercentageSplitter(Splitter):
    """A fraction of the samples, and the others.

    The first part has ``floor(percentage * n)`` samples.

    Args:
        parts_names: Names of the first and the second part; ``-`` throws a part away.
        ref_data: The partition to cut.
        percentage: Fraction of ``ref_data`` that goes to the first part, above 0; 1 takes all, and so shuffles them.
        shuffle: Draw the samples at random; otherwise the first ones are taken.
    """

    percentage: _Share
    shuffle: bool = True

    def split(self, data: Dataset, partitions: Mapping[str, Tensor], generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Cut after the fraction of the (shuffled) ids."""
        ids = ordered(ids_of(partitions, self.ref_data), generator if self.shuffle else None)
        size = portion(len(ids), self.percentage)
        return ids[:size], ids[size:]


@dataclass(frozen=True, kw_only=True)
class StratifiedPercentageSplitter(Splitter):
    """A fraction of the samples of every class, and the others.

    The first part has ``floor(percentage * n)`` samples, shared out over the classes by largest remainder, so each class is
    within one sample of its share. Multi-label samples are stratified by their combination of labels.

    Args:
        parts_names: Names of the first and the second part; ``-`` throws a part away.
        ref_data: The partition to cut.
        percentage: Fraction of ``ref_data`` that goes to the first part, strictly between 0 and 1.
        shuffle: Draw the samples at random; otherwise the first ones of each class are taken.
    """

    percentage: OpenFraction
    shuffle: bool = True

    def split(self, data: Dataset, partitions: Mapping[str, Tensor], generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Take the first samples of each class of the (shuffled) ids."""
        ids = ordered(ids_of(partitions, self.ref_data), generator if self.shuffle else None)
        if len(ids) == 0:
            return ids, ids.clone()
        _, strata, sizes = torch.unique(data.y[ids], dim=0, return_inverse=True, return_counts=True)
        shares = sizes.double() * self.percentage
        quotas = (shares + 1e-9).floor()
        by_remainder = torch.argsort(shares - quotas, descending=True, stable=True)
        quotas[by_remainder[: portion(len(ids), self.percentage) - int(quotas.sum())]] += 1
        by_stratum = torch.argsort(strata, stable=True)
        starts = torch.cumsum(sizes, 0) - sizes
        rank = torch.empty_like(strata)
        rank[by_stratum] = torch.arange(len(ids)) - starts[strata[by_stratum]]
        return divided(ids, rank < quotas[strata])


@dataclass(frozen=True, kw_only=True)
class ClassSplitter(Splitter):
    """All samples of one or several classes, and the others.

    Args:
        parts_names: Names of the first and the second part; ``-`` throws a part away.
        ref_data: The partition to cut.
        labels: A class or a list of classes, by name or by number; a number is the class that the data call so where they call classes
            by numbers. A multi-label sample belongs to the first part if it has any of them.
    """

    labels: Labels

    def split(self, data: Dataset, partitions: Mapping[str, Tensor], generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Select by label."""
        ids = ids_of(partitions, self.ref_data)
        chosen = torch.zeros(len(ids), dtype=torch.bool)
        for label in self.labels:
            chosen |= of_class(label, data, ids, self.ref_data)
        return divided(ids, chosen)


@dataclass(frozen=True, kw_only=True)
class NSamplesSplitter(Splitter):
    """A number of samples, and the others.

    Args:
        parts_names: Names of the first and the second part; ``-`` throws a part away.
        ref_data: The partition to cut.
        n_samples: Samples in the first part, from 0 to the size of ``ref_data``.
        shuffle: Draw the samples at random; otherwise the first ones are taken, which are a random choice too if ``ref_data``
            is itself a part of a shuffled split.
    """

    n_samples: NonNegativeInt
    shuffle: bool = False

    def split(self, data: Dataset, partitions: Mapping[str, Tensor], generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Cut after ``n_samples`` of the (shuffled) ids."""
        ids = ordered(ids_of(partitions, self.ref_data), generator if self.shuffle else None)
        if self.n_samples > len(ids):
            raise PartitionError(f'{self.n_samples} samples asked for, but "{self.ref_data}" has {len(ids)}')
        return ids[: self.n_samples], ids[self.n_samples :]


@dataclass(frozen=True, kw_only=True)
class NSamplesOfClassSplitter(Splitter):
    """A number of samples of one class, and all others: the setting of selective or partial-class forgetting.

    Args:
        parts_names: Names of the first and the second part; ``-`` throws a part away.
        ref_data: The partition to cut.
        label: The class, by number or by name.
        n_samples: Samples in the first part, from 0 to the number that ``ref_data`` has of the class.
        shuffle: Draw the samples at random; otherwise the first ones of the class are taken.
    """

    label: Label
    n_samples: NonNegativeInt
    shuffle: bool = True

    def split(self, data: Dataset, partitions: Mapping[str, Tensor], generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Take the first ``n_samples`` of the class among the (shuffled) ids."""
        ids = ordered(ids_of(partitions, self.ref_data), generator if self.shuffle else None)
        candidates = of_class(self.label, data, ids, self.ref_data)
        available = int(candidates.sum())
        if self.n_samples > available:
            raise PartitionError(
                f'{self.n_samples} samples of class {self.label!r} asked for, but "{self.ref_data}" has {available} of them'
            )
        return divided(ids, candidates & (candidates.cumsum(0) <= self.n_samples))


@dataclass(frozen=True, kw_only=True)
class ListSplitter(Splitter):
    """The samples of a list of ids, and the others.

    Args:
        parts_names: Names of the first and the second part; ``-`` throws a part away.
        ref_data: The partition to cut; must hold every listed id.
        samples_ids: Ids in the data set, counted from 0; an id listed twice counts once. Both parts keep the order of
            ``ref_data``.
        by: What the ids count: ``sample``, the samples that there are; ``row``, the rows of the source, those included that it could
            not read or left out for a missing value. The two differ only where rows were left out.
    """

    samples_ids: tuple[int, ...]
    by: Literal["sample", "row"] = field(default="sample", metadata={"address": "changed"})

    def split(self, data: Dataset, partitions: Mapping[str, Tensor], generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Select by id."""
        ids = ids_of(partitions, self.ref_data)
        listed = torch.tensor(self.samples_ids, dtype=torch.int64)
        if data.rows is not None:
            listed = self._of_rows(listed, data, data.rows)
        missing = torch.unique(listed[~torch.isin(listed, ids)])
        if len(missing):
            outside = bool(((missing < 0) | (missing >= len(data))).any())
            there = f"the data set has ids 0 to {len(data) - 1}" if outside else f"it has {len(ids)} of {len(data)} samples"
            raise PartitionError(
                f'{len(missing)} of the listed ids are not in "{self.ref_data}": {shown(missing.tolist())}; {there}'
            )
        return divided(ids, torch.isin(ids, listed))

    def _of_rows(self, listed: Tensor, data: Dataset, rows: Tensor) -> Tensor:
        """The ids of listed rows; ids as they are, with a word on rows, where they count samples."""
        if self.by == "sample":
            if bool((listed >= _first_moved(rows)).any()):
                warnings.warn(
                    f'"{data.name}": rows of the source were left out, and {type(self).__name__} counts the samples that are left; give '
                    'by = "row" to count the rows of the source',
                    stacklevel=3,
                )
            return listed
        gone = listed[~torch.isin(listed, rows)]
        if len(gone):
            raise PartitionError(
                f'{len(gone)} of the listed rows are no samples of "{data.name}": {shown(gone.tolist())}; they were left out, or there '
                f"are no such rows (its samples are of {len(rows)} of the rows {int(rows[0])} to {int(rows[-1])})"
            )
        return torch.searchsorted(rows, listed)


def _first_moved(rows: Tensor) -> int:
    """The first sample that is not the row of the same number."""
    return int((rows != torch.arange(len(rows))).nonzero()[0])


@dataclass(frozen=True, kw_only=True)
class ByZSplitter(Splitter):
    """The samples of some groups, identities or values of a sensitive attribute, and the others.

    Args:
        parts_names: Names of the first and the second part; ``-`` throws a part away.
        ref_data: The partition to cut; must hold at least one matching sample.
        z_labels: One value of ``z`` or a list; by number, or by name where the data set names its groups. Where a sample has
            several z values, any of them decides. Every value must occur in the data set.
    """

    z_labels: Labels

    def split(self, data: Dataset, partitions: Mapping[str, Tensor], generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Select by group."""
        z = _groups(data)
        values = torch.tensor(sorted({code for label in self.z_labels for code in _group_codes(label, data)}), dtype=torch.int64)
        there = torch.unique(z)
        unknown = values[~torch.isin(values, there)]
        if len(unknown):
            raise PartitionError(
                f'no sample of "{data.name}" has z = {shown(unknown.tolist())}; there are {shown(there.tolist())}'
            )
        return _with_groups(self, z, torch.isin(z, values), partitions)


@dataclass(frozen=True, kw_only=True)
class ZRangeSplitter(Splitter):
    """The samples with a z value in a range, and the others.

    Args:
        parts_names: Names of the first and the second part; ``-`` throws a part away.
        ref_data: The partition to cut; must hold at least one matching sample.
        z_labels: First and last value, both included, as they are written in the data; codes where groups are called by words. Where a
            sample has several z values, any of them decides.
    """

    z_labels: tuple[int, int]

    def check(self) -> None:
        """The range must not be reversed."""
        first, last = self.z_labels
        if first > last:
            raise InvalidParameters(f"ZRangeSplitter.z_labels: the first value {first} is larger than the last, {last}")

    def split(self, data: Dataset, partitions: Mapping[str, Tensor], generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Select by range."""
        z = _groups(data)
        first, last = self.z_labels
        values = _values_of_groups(data)
        if values is None:
            return _with_groups(self, z, (z >= first) & (z <= last), partitions)
        within = torch.tensor([code for code, value in values.items() if first <= value <= last], dtype=torch.int64)
        return _with_groups(self, z, torch.isin(z, within), partitions)


@dataclass(frozen=True, kw_only=True)
class ConcatSplitter(Splitter):
    """Several partitions one after the other, and the rest of ``ref_data``.

    Args:
        parts_names: Names of the first and the second part; ``-`` throws a part away.
        ref_data: The partition to cut; must hold every concatenated sample.
        concat_splits: Partitions in order; a sample that several of them hold is kept where it comes first.
    """

    concat_splits: Annotated[tuple[Partition, ...], MinLen(1)]

    def split(self, data: Dataset, partitions: Mapping[str, Tensor], generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Concatenate without duplicates."""
        ids = ids_of(partitions, self.ref_data)
        joined = torch.cat([ids_of(partitions, name) for name in self.concat_splits])
        _, first_at = np.unique(joined.numpy(), return_index=True)
        joined = joined[torch.from_numpy(np.sort(first_at))]
        outside = joined[~torch.isin(joined, ids)]
        if len(outside):
            raise PartitionError(
                f'{len(outside)} of the concatenated samples are not in "{self.ref_data}": {shown(outside.tolist())}'
            )
        return joined, ids[~torch.isin(ids, joined)]


def _groups(data: Dataset) -> Tensor:
    if data.z is None:
        raise PartitionError(f'"{data.name}" has no z column (group, identity or attribute) to split by')
    return data.z


def _group_codes(label: Label, data: Dataset) -> list[int]:
    """Codes of a group that is given by number or name; a number is looked for in every column that has numbers."""
    columns = _columns_of_groups(data)
    if len(columns) < 2 or not isinstance(label, int):
        return [code_of(label, data.z_names, "z", data.name)]
    found = [code for values in columns.values() for code, value in values.items() if number_of(value) == label]
    if not found and any(number_of(value) is not None for values in columns.values() for value in values.values()):
        raise PartitionError(f'"{data.name}" has no z {label}; it has {shown(data.z_names)}')
    if len(found) > 1:
        raise PartitionError(
            f"z {label} is the value of several columns: {shown([data.z_names[code] for code in found])}; give its name"
        )
    return found or [label]


def _columns_of_groups(data: Dataset) -> dict[str, dict[int, str]]:
    """The values of several group columns by their codes; empty for one column."""
    found: dict[str, dict[int, str]] = {}
    if data.z is None or data.z.ndim == 1 or data.z.shape[1] == 1:
        return found
    for code, name in enumerate(data.z_names):
        column, _, value = name.partition("=")
        found.setdefault(column, {})[code] = value
    return found


def _values_of_groups(data: Dataset) -> dict[int, Decimal] | None:
    """Code to value where groups are numbers that became codes; None where codes are all that there is."""
    columns = _columns_of_groups(data) or {"": dict(enumerate(data.z_names))}
    numeric = {column: each for column, values in columns.items() if (each := _as_numbers(values))}
    if len(numeric) > 1:
        raise PartitionError(
            f'"{data.name}" has several columns of numbers as z ({shown(list(numeric))}); a range is cut from one'
        )
    return next(iter(numeric.values()), None)


def _as_numbers(values: Mapping[int, str]) -> dict[int, Decimal]:
    numbers = {code: number for code, value in values.items() if (number := number_of(value)) is not None}
    return numbers if len(numbers) == len(values) else {}


def _with_groups(splitter: Splitter, z: Tensor, matches: Tensor, partitions: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    ids = ids_of(partitions, splitter.ref_data)
    chosen = (matches if matches.ndim == 1 else matches.any(dim=1))[ids]
    if not chosen.any():
        there = torch.unique(z[ids]).tolist()
        raise PartitionError(f'no sample of "{splitter.ref_data}" has such a z value; it has {shown(there) or "none"}')
    return divided(ids, chosen)
