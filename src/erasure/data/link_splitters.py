"""The splitter that says which links are to be forgotten."""

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
from erasure.data.selection import divided
from erasure.errors import PartitionError
from erasure.training.graph_requests import GRAPHS, RequestedGraph
from erasure.training.graphs import NodeColumn
from erasure.training.links import LinkColumn
from erasure.types import Partition, Source

__all__ = ["LinkRequestSplitter"]


@dataclass(frozen=True, kw_only=True)
class LinkRequestSplitter(Splitter):
    """Which links of a graph are to be forgotten, as samples and as edges that messages run over.

    The training set goes on seeing the graph as it was. The retain set, and the partitions that are ``deployed``, see it without the
    forgotten edges from now on, in both directions: gold is trained and every model is evaluated on that. The forget set is seen in the
    graph as it was; see ``SeenIn`` for the others. Pairs without an edge are never forgotten: nobody has put them into the data.

    Args:
        parts_names: Names of the forget and of the retain set.
        ref_data: The training set.
        links: Links to forget: a partition of samples of the class "edge" in ``ref_data``.
        deployed: Partitions that are seen in the graph after the request from now on.
    """

    source: ClassVar[Source | None] = Source(paper="Cheng et al., ICLR 2023, arXiv:2302.13406 (GNNDelete)")

    parts_names: tuple[str, str] = ("forget", "retain")
    ref_data: Partition = "train"
    links: Partition
    deployed: tuple[Partition, ...] = ("test",)

    @property
    def parts(self) -> tuple[str, ...]:
        """Forget, retain and the deployed partitions."""
        return (*self.parts_names, *self.deployed)

    def redefines(self) -> tuple[str, ...]:
        """The deployed partitions: their samples are then others, on purpose."""
        return self.deployed

    def settles(self) -> tuple[str, ...]:
        """What is forgotten must not be another partition later."""
        return (self.links,)

    def split(self, data: Dataset, partitions: Mapping[str, Tensor], generator: np.random.Generator) -> tuple[Tensor, ...]:
        """Forget, retain, and each deployed partition."""
        column = self._requested(data, partitions)
        ids, gone = ids_of(partitions, self.ref_data), ids_of(partitions, self.links)
        strange = int((~torch.isin(gone, ids)).sum())
        if strange:
            raise PartitionError(f'{strange} of "{self.links}" are not in "{self.ref_data}"; forget links that were trained on')
        forget, retain = divided(ids, torch.isin(ids, gone))
        if not len(forget):
            raise PartitionError(f'"{self.links}" is empty: there is nothing to forget')
        if not len(retain):
            raise PartitionError(f'all of "{self.ref_data}" is forgotten: nothing is left to train on')
        after = (column.seen_in(ids_of(partitions, name), "after") for name in self.deployed)
        return (forget, column.seen_in(retain, "after"), *after)

    def prepared(self, data: Dataset, partitions: Mapping[str, Tensor]) -> Dataset:
        """The data set with a sample for each pair in each graph."""
        again = {name: values.repeat(len(GRAPHS)) for name in ("y", "z") if (values := getattr(data, name)) is not None}
        return replace(data, x=self._requested(data, partitions), **again)

    def _requested(self, data: Dataset, partitions: Mapping[str, Tensor]) -> LinkColumn:
        column = data.x
        if not isinstance(column, LinkColumn):
            raise PartitionError(f'the samples of "{data.name}" are not links; a LinkRequest needs the source Links')
        if not isinstance(column.graph, NodeColumn):
            raise PartitionError("links are forgotten already; an experiment has one LinkRequest")
        gone = ids_of(partitions, self.links)
        without = int((data.y[gone] == 0).sum())
        if without:
            raise PartitionError(
                f'{without} of "{self.links}" are pairs without an edge, of which nothing can be forgotten; cut the class "edge" off first'
            )
        return LinkColumn(
            RequestedGraph(column.graph, "edges", torch.empty(0, dtype=torch.int64), column.pairs[gone]), column.pairs
        )
