"""The splitter for the inductive setting: nodes that nobody is trained on arrive after the training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from erasure.data.contract import Splitter
from erasure.data.dataset import Dataset
from erasure.data.partitions import ids_of
from erasure.errors import PartitionError
from erasure.training.graphs import NodeColumn
from erasure.types import Partition, Source

__all__ = ["InductiveSplitter"]


@dataclass(frozen=True, kw_only=True)
class InductiveSplitter(Splitter):
    """Lets the nodes outside the training set, and all their edges, arrive after the training (the inductive setting).

    Whoever is trained, and every method, sees the graph of the training nodes alone. The other nodes are seen in the graph in which
    everybody has arrived: after a ``GraphRequest`` in that without what is forgotten. Without this splitter the graph is whole for
    everybody, and only labels are held back (the transductive setting). It stands before a ``GraphRequest``.

    Args:
        parts_names: Name of the training set, and ``-``.
        ref_data: The training set, under its name so far.
    """

    source: ClassVar[Source | None] = Source(
        paper="Hamilton, Ying, Leskovec, NeurIPS 2017, arXiv:1706.02216 (the setting); Wang, Huai, Wang, USENIX Security 2023, "
        "arXiv:2304.03093 (GUIDE)"
    )

    parts_names: tuple[str, str] = ("train", "-")
    ref_data: Partition = "train"

    def redefines(self) -> tuple[str, ...]:
        """The training set: its graph is another one, on purpose."""
        return (self.parts_names[0],)

    def split(self, data: Dataset, partitions: Mapping[str, Tensor], generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """The training set."""
        self._graph(data)
        ids = ids_of(partitions, self.ref_data)
        if not len(ids) or len(ids) == len(data):
            raise PartitionError(
                f'"{self.ref_data}" is {"empty" if not len(ids) else "all there is"}: no node could arrive later'
            )
        return ids, ids[:0]

    def prepared(self, data: Dataset, partitions: Mapping[str, Tensor]) -> Dataset:
        """The data set whose graph knows who arrives later."""
        graph = self._graph(data)
        later = torch.ones(len(graph), dtype=torch.bool).index_fill(0, ids_of(partitions, self.parts_names[0]), False)
        return replace(data, x=replace(graph, later=later))

    def _graph(self, data: Dataset) -> NodeColumn:
        if not isinstance(data.x, NodeColumn):
            raise PartitionError(
                f'the samples of "{data.name}" are not the nodes of one graph, or something is forgotten of it already; Inductive stands '
                "before a GraphRequest, among the partitions of a source such as Planetoid"
            )
        if data.x.background is not None:
            raise PartitionError(
                f'"{data.name}" shows each partition its own nodes; give the source "forgets": "request", or "label" to forget labels'
            )
        if data.x.later is not None:
            raise PartitionError("it has been said already who arrives later")
        return data.x
