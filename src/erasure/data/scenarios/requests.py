"""A stream of requests to forget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from erasure.data.contract import Splitter
from erasure.data.dataset import Dataset
from erasure.data.fields import Labels
from erasure.data.partitions import DISCARDED, ids_of
from erasure.data.selection import code_of, group_column, ordered, portion
from erasure.errors import Diagnostic, InvalidParameters, PartitionError
from erasure.types import NonNegativeInt, OpenFraction, PositiveInt

__all__ = ["RequestsSplitter"]


@dataclass(frozen=True, kw_only=True)
class RequestsSplitter(Splitter):
    """Forget sets that are asked for one after the other, each with what is left to retain after it.

    A request names a number of samples, a number of groups (persons, say), or groups by name. All samples of a group are forgotten.

    With ``parts_names`` ``["forget", "retain"]`` and three requests the partitions are ``forget 1``, ``retain 1``, ``forget 2``,
    ``retain 2``, ``forget 3`` and ``retain 3``. Forget sets have no sample in common; ``retain 2`` is ``retain 1`` without
    ``forget 2``.

    Args:
        parts_names: Name of the forget sets and of the retain sets, to which the number of the request is added; ``-`` throws them
            away.
        ref_data: The partition to cut.
        n_requests: Requests in the stream; of named groups, there are as many as names.
        n_samples: Samples in each request.
        percentage: In its place, the fraction of ``ref_data`` in each request.
        n_groups: In its place, the groups in each request.
        groups: In its place, the group or the groups of each request in their order, by number or name, such as ``["ann", ["bo", "cy"]]``.
        column: Which column of z says the group, counted from 0.
        shuffle: Draw samples and groups at random; otherwise the first ones are asked for first, groups in the order of their first sample.
    """

    n_requests: PositiveInt = 5
    n_samples: PositiveInt | None = None
    percentage: OpenFraction | None = None
    n_groups: PositiveInt | None = None
    groups: tuple[Labels, ...] | None = None
    column: NonNegativeInt = 0
    shuffle: bool = True

    def check(self) -> None:
        """One way to say what is asked for."""
        given = [each for each in (self.n_samples, self.percentage, self.n_groups, self.groups) if each is not None]
        if len(given) != 1:
            message = "give either n_samples or percentage, or groups: n_groups in each request, or groups by name"
            raise InvalidParameters([Diagnostic(message, path="RequestsSplitter.n_samples")])
        if self.groups is not None:
            named = [label for request in self.groups for label in request]
            twice = next((label for label in named if named.count(label) > 1), None)
            if twice is not None or not named:
                message = "name one group at least" if twice is None else f"the group {twice!r} is asked for twice"
                raise InvalidParameters([Diagnostic(message, path="RequestsSplitter.groups")])

    @property
    def parts(self) -> tuple[str, ...]:
        """Forget and retain set of each request."""
        numbers = range(1, (self.n_requests if self.groups is None else len(self.groups)) + 1)
        return tuple(name if name == DISCARDED else f"{name} {number}" for number in numbers for name in self.parts_names)

    def split(self, data: Dataset, partitions: Mapping[str, Tensor], generator: np.random.Generator) -> tuple[Tensor, ...]:
        """Cut requests off the (shuffled) ids, one after the other."""
        ids = ids_of(partitions, self.ref_data)
        if self.n_groups is not None or self.groups is not None:
            return self._by_group(data, ids, generator)
        ids = ordered(ids, generator if self.shuffle else None)
        size = self.n_samples if self.percentage is None else portion(len(ids), self.percentage)
        wanted = self.n_requests * (size or 0)
        if not size or wanted > len(ids):
            raise PartitionError(
                f'{self.n_requests} requests of {size} samples are {wanted} samples, but "{self.ref_data}" has {len(ids)}'
            )
        return tuple(part for end in range(size, wanted + 1, size) for part in (ids[end - size : end], ids[end:]))

    def _by_group(self, data: Dataset, ids: Tensor, generator: np.random.Generator) -> tuple[Tensor, ...]:
        """All samples of each request's groups, and all that are left after it, in the order of ``ref_data``."""
        own = group_column(data, self.column)[ids]
        parts: list[Tensor] = []
        for codes in self._drawn(own, generator) if self.groups is None else self._named(data, own):
            asked = torch.isin(own, torch.tensor(codes, dtype=own.dtype))
            parts += [ids[asked], ids[~asked]]
            ids, own = ids[~asked], own[~asked]
        return tuple(parts)

    def _drawn(self, own: Tensor, generator: np.random.Generator) -> list[list[int]]:
        size, there = self.n_groups or 0, list(dict.fromkeys(own.tolist()))
        wanted = self.n_requests * size
        if wanted > len(there):
            raise PartitionError(
                f'{self.n_requests} requests of {size} groups are {wanted} groups, but "{self.ref_data}" has {len(there)} in column '
                f"{self.column} of z"
            )
        if self.shuffle:
            there = [there[position] for position in generator.permutation(len(there))]
        return [there[start : start + size] for start in range(0, wanted, size)]

    def _named(self, data: Dataset, own: Tensor) -> list[list[int]]:
        there, found = set(own.tolist()), []
        for number, request in enumerate(self.groups or (), start=1):
            codes = [code_of(label, data.z_names, "z", data.name) for label in request]
            missing = [label for label, code in zip(request, codes, strict=True) if code not in there]
            if missing:
                raise PartitionError(f'request {number} asks for {missing[0]!r}, of whom "{self.ref_data}" has no sample')
            there -= set(codes)
            found.append(codes)
        return found
