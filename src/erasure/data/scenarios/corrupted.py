"""Forgetting what was made wrong on purpose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from erasure.data.contract import Splitter
from erasure.data.dataset import Dataset
from erasure.data.partitions import ids_of
from erasure.data.selection import divided
from erasure.errors import PartitionError

__all__ = ["CorruptedSplitter"]


@dataclass(frozen=True, kw_only=True)
class CorruptedSplitter(Splitter):
    """The samples that a :class:`~erasure.data.sources.poisoned.Poisoned` source has made wrong, and the clean ones.

    Cut with it first and keep the test set to clean samples: ``all`` into ``corrupted`` and ``clean``, ``clean`` into ``test`` and
    ``retain``, and concatenate ``corrupted`` and ``retain`` into ``train``. Where only some of the corrupted samples are known,
    cut ``corrupted`` once more by a percentage: the part that is known is forgotten, the other stays in what is retained.

    Args:
        parts_names: Names of the first and the second part; ``-`` throws a part away.
        ref_data: The partition to cut.
    """

    def split(self, data: Dataset, partitions: Mapping[str, Tensor], generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Select what was changed; both parts keep the order of ``ref_data``."""
        if data.corrupted is None:
            raise PartitionError(
                f'"{data.name}" does not say which samples are corrupted; put a Poisoned source around its source'
            )
        ids = ids_of(partitions, self.ref_data)
        corrupted, clean = divided(ids, data.corrupted[ids])
        if not len(corrupted):
            raise PartitionError(
                f'no sample of "{self.ref_data}" is corrupted; "{data.name}" has {int(data.corrupted.sum())} such samples in all'
            )
        return corrupted, clean
