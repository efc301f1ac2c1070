"""A stream of requests to forget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from erasure.data.contract import Splitter
from erasure.data.dataset import Dataset
from erasure.data.partitions import DISCARDED, ids_of
from erasure.data.selection import ordered, portion
from erasure.errors import InvalidParameters, PartitionError, Problem
from erasure.types import OpenFraction, PositiveInt

__all__ = ["RequestsSplitter"]


@dataclass(frozen=True, kw_only=True)
class RequestsSplitter(Splitter):
    """Forget sets that are asked for one after the other, each with what is left to retain after it.

    With ``parts_names`` ``["forget", "retain"]`` and three requests the partitions are ``forget 1``, ``retain 1``, ``forget 2``,
    ``retain 2``, ``forget 3`` and ``retain 3``. Forget sets have no sample in common; ``retain 2`` is ``retain 1`` without
    ``forget 2``.

    Args:
        parts_names: Name of the forget sets and of the retain sets, to which the number of the request is added; ``-`` throws them
            away.
        ref_data: The partition to cut.
        n_requests: Requests in the stream.
        n_samples: Samples in each request.
        percentage: In its place, the fraction of ``ref_data`` in each request.
        shuffle: Draw the samples at random; otherwise the first ones are asked for first.
    """

    n_requests: PositiveInt = 5
    n_samples: PositiveInt | None = None
    percentage: OpenFraction | None = None
    shuffle: bool = True

    def check(self) -> None:
        """One of the two sizes."""
        if (self.n_samples is None) == (self.percentage is None):
            raise InvalidParameters([Problem("give either n_samples or percentage", path="RequestsSplitter.n_samples")])

    @property
    def parts(self) -> tuple[str, ...]:
        """Forget and retain set of each request."""
        numbers = range(1, self.n_requests + 1)
        return tuple(name if name == DISCARDED else f"{name} {number}" for number in numbers for name in self.parts_names)

    def split(self, data: Dataset, partitions: Mapping[str, Tensor], generator: np.random.Generator) -> tuple[Tensor, ...]:
        """Cut requests of one size off the front of the (shuffled) ids."""
        ids = ordered(ids_of(partitions, self.ref_data), generator if self.shuffle else None)
        size = self.n_samples if self.percentage is None else portion(len(ids), self.percentage)
        wanted = self.n_requests * (size or 0)
        if not size or wanted > len(ids):
            raise PartitionError(
                f'{self.n_requests} requests of {size} samples are {wanted} samples, but "{self.ref_data}" has {len(ids)}'
            )
        return tuple(part for end in range(size, wanted + 1, size) for part in (ids[end - size : end], ids[end:]))
