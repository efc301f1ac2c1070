"""The splitter that says which links, or which nodes with their links, are to be forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from erasure.data.contract import Splitter
from erasure.data.dataset import Dataset
from erasure.data.partitions import ids_of
from erasure.data.selection import divided
from erasure.errors import Diagnostic, InvalidParameters, PartitionError
from erasure.training.graph_requests import NO_SAMPLE, RequestedGraph
from erasure.training.graphs import NodeColumn
from erasure.training.links import LinkColumn
from erasure.types import Partition, Source

__all__ = ["LinkRequestSplitter"]


@dataclass(frozen=True, kw_only=True)
class LinkRequestSplitter(Splitter):
    """Which links of a graph, or which nodes with all their links, are to be forgotten: as samples and as what messages run over.

    The training set goes on seeing the graph as it was. The retain set, and the partitions that are ``deployed``, see the graph after the
    request from now on: gold is trained and every model is evaluated on that. The forget set is seen in the graph as it was; see ``SeenIn``
    for the others. A later request takes the retain set of the one before as its ``ref_data``.

    - ``links``: they go, in both directions. Forget: those links; retain: all other pairs. A pair without an edge is never forgotten by
      itself: nobody has put it into the data.
    - ``nodes``: they go, with their features and all their links. Forget: the training pairs with an end among them, with an edge or
      without, since nothing can be asked of a node that is not there; retain: the others. Pairs of such nodes leave the deployed
      partitions, too. All other pairs without an edge stay what they are: none of them becomes an edge.

    Args:
        parts_names: Names of the forget and of the retain set.
        ref_data: The training set; of a later request, the retain set of the one before.
        links: Links to forget: a partition of samples of the class "edge" in ``ref_data``.
        nodes: Nodes to forget, as ``GraphNodes`` cuts them.
        deployed: Partitions that are seen in the graph after the request from now on.
    """

    source: ClassVar[Source | None] = Source(paper="Cheng et al., ICLR 2023, arXiv:2302.13406 (GNNDelete)")

    parts_names: tuple[str, str] = ("forget", "retain")
    ref_data: Partition = "train"
    links: Partition | None = None
    nodes: Partition | None = field(default=None, metadata={"address": "changed"})
    deployed: tuple[Partition, ...] = ("test",)

    def check(self) -> None:
        """One kind of request."""
        if (self.links is None) == (self.nodes is None):
            raise InvalidParameters(
                [Diagnostic("say what is forgotten: a partition of links, or one of nodes", path="LinkRequest.links")]
            )

    @property
    def parts(self) -> tuple[str, ...]:
        """Forget, retain and the deployed partitions."""
        return (*self.parts_names, *self.deployed)

    def redefines(self) -> tuple[str, ...]:
        """The deployed partitions: their samples are then others, on purpose."""
        return self.deployed

    def settles(self) -> tuple[str, ...]:
        """What is forgotten must not be another partition later."""
        return tuple(name for name in (self.links, self.nodes) if name is not None)

    def split(self, data: Dataset, partitions: Mapping[str, Tensor], generator: np.random.Generator) -> tuple[Tensor, ...]:
        """Forget, retain, and each deployed partition."""
        column, graph = self._requested(data, partitions)
        ids, deployed = ids_of(partitions, self.ref_data), {name: ids_of(partitions, name) for name in self.deployed}
        if not torch.equal(ids, column.seen_in(ids, "before")):
            raise PartitionError(
                f'"{self.ref_data}" is not seen in the graph before this request; a later request takes the retain set of the one before '
                "as its ref_data"
            )
        if self.links is not None:
            gone = ids_of(partitions, self.links)
            strange = int((~torch.isin(gone, ids)).sum())
            if strange:
                raise PartitionError(
                    f'{strange} of "{self.links}" are not in "{self.ref_data}"; forget links that were trained on'
                )
            forget, retain = divided(ids, torch.isin(ids, gone))
        else:
            is_gone = graph.is_forgotten[column.pairs].any(1)
            forget, retain = divided(ids, is_gone[ids % column.n_samples])
            deployed = {name: each[~is_gone[each % column.n_samples]] for name, each in deployed.items()}
        for name, each in {f"{self.links or self.nodes}": forget, **deployed}.items():
            if not len(each):
                what = "there is nothing to forget" if each is forget else "all of it has an end that is forgotten"
                raise PartitionError(f'"{name}" is empty: {what}')
        if not len(retain):
            raise PartitionError(f'all of "{self.ref_data}" is forgotten: nothing is left to train on')
        return (forget, column.seen_in(retain, "after"), *(column.seen_in(each, "after") for each in deployed.values()))

    def prepared(self, data: Dataset, partitions: Mapping[str, Tensor]) -> Dataset:
        """The data set with a sample for each pair in each graph."""
        column, graph = self._requested(data, partitions)
        n = column.n_samples
        again = {name: values[:n].repeat(graph.n_graphs) for name in ("y", "z") if (values := getattr(data, name)) is not None}
        return replace(data, x=column, **again)

    def _requested(self, data: Dataset, partitions: Mapping[str, Tensor]) -> tuple[LinkColumn, RequestedGraph]:
        column = data.x
        if not isinstance(column, LinkColumn):
            raise PartitionError(f'the samples of "{data.name}" are not links; a LinkRequest needs the source Links')
        earlier = column.graph if isinstance(column.graph, RequestedGraph) else None
        whole: NodeColumn = column.graph if earlier is None else earlier.graph  # type: ignore[assignment]
        none = torch.empty(0, dtype=torch.int64)
        gone = ids_of(partitions, self.links or self.nodes or "")
        if self.nodes is not None:
            if len(gone) and bool((gone < NO_SAMPLE).any()):
                raise PartitionError(f'"{self.nodes}" is a partition of links; cut nodes with GraphNodes')
            graph = RequestedGraph(whole, "nodes", gone - NO_SAMPLE, none.reshape(0, 2), earlier=earlier)
            absent = int((~torch.isin(graph.nodes, graph.nodes_before)).sum())
            if absent:
                raise PartitionError(f'{absent} of "{self.nodes}" cannot be forgotten: an earlier request took them out')
            return LinkColumn(graph, column.pairs), graph
        if len(gone) and bool((gone >= NO_SAMPLE).any()):
            raise PartitionError(f'"{self.links}" is a partition of nodes; say nodes instead of links')
        without = int((data.y[gone] == 0).sum())
        if without:
            raise PartitionError(
                f'{without} of "{self.links}" are pairs without an edge, of which nothing can be forgotten; cut the class "edge" off first'
            )
        graph = RequestedGraph(whole, "edges", none, column.pairs[gone % column.n_samples], earlier=earlier)
        return LinkColumn(graph, column.pairs), graph
