"""Forgetting, or holding out, whole groups: persons, users, speakers, sites."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from erasure.data.contract import Splitter
from erasure.data.dataset import Dataset
from erasure.data.partitions import ids_of
from erasure.data.selection import divided, group_column, portion
from erasure.errors import Diagnostic, InvalidParameters, PartitionError
from erasure.types import NonNegativeInt, OpenFraction, PositiveInt

__all__ = ["GroupSplitter"]


@dataclass(frozen=True, kw_only=True)
class GroupSplitter(Splitter):
    """All samples of randomly drawn groups, and all samples of the others.

    No group has samples in both parts. Cut the test set with it too, and nobody who is tested was trained on. Groups that are
    known by name are cut with :class:`~erasure.data.splitters.ByZSplitter`.

    Args:
        parts_names: Names of the first and the second part; ``-`` throws a part away.
        ref_data: The partition to cut.
        n_groups: Groups in the first part, at most as many as ``ref_data`` has.
        percentage: In its place, the fraction of the samples that the first part has at least: groups are drawn until they make it
            up.
        column: Which column of z says the group, counted from 0.
    """

    n_groups: PositiveInt | None = None
    percentage: OpenFraction | None = None
    column: NonNegativeInt = 0

    def check(self) -> None:
        """One of the two sizes."""
        if (self.n_groups is None) == (self.percentage is None):
            raise InvalidParameters([Diagnostic("give either n_groups or percentage", path="GroupSplitter.n_groups")])

    def split(self, data: Dataset, partitions: Mapping[str, Tensor], generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Draw groups, and select their samples; both parts keep the order of ``ref_data``."""
        ids = ids_of(partitions, self.ref_data)
        groups, own, sizes = torch.unique(group_column(data, self.column)[ids], return_inverse=True, return_counts=True)
        order = torch.from_numpy(generator.permutation(len(groups)))
        chosen = torch.zeros(len(groups), dtype=torch.bool)
        chosen[order[: self._n_drawn(sizes[order], len(ids))]] = True
        return divided(ids, chosen[own])

    def _n_drawn(self, sizes: Tensor, n_samples: int) -> int:
        """How many groups to take, of sizes in the order drawn."""
        if self.percentage is not None:
            wanted = portion(n_samples, self.percentage)
            return int((sizes.cumsum(0) < wanted).sum()) + 1 if wanted else 0
        n_groups = self.n_groups or 0
        if n_groups > len(sizes):
            raise PartitionError(
                f'{n_groups} groups asked for, but "{self.ref_data}" has {len(sizes)} in column {self.column} of z'
            )
        return n_groups
