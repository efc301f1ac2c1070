"""Pairs of nodes on the device: whether there is an edge between two nodes is what a model of links predicts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from erasure.errors import PartitionError
from erasure.training.batches import Column
from erasure.training.graph_requests import GraphName, RequestedGraph
from erasure.training.graphs import NodeBatch, NodeColumn, Subgraph

__all__ = ["LinkBatch", "LinkColumn", "LinkView", "reads_whole_graph", "request_of"]


@dataclass(frozen=True, eq=False)
class LinkBatch:
    """A graph and some pairs of its nodes; a sample is a pair.

    Args:
        nodes: The graph, with the nodes of all pairs one after the other as its samples.
    """

    nodes: NodeBatch

    def __len__(self) -> int:
        return len(self.nodes) // 2

    def __getitem__(self, part: slice) -> LinkBatch:
        """The same graph with fewer pairs."""
        return LinkBatch(replace(self.nodes, rows=self.nodes.rows.reshape(-1, 2)[part].reshape(-1)))

    def to(self, device: torch.device | str) -> LinkBatch:
        """The same batch on ``device``."""
        return LinkBatch(self.nodes.to(device))


@dataclass(frozen=True, eq=False)
class LinkView:
    """The pairs as a partition sees them.

    Args:
        view: The graph or graphs that messages run over.
        nodes: Both ends of each sample as samples of ``view``, shape ``(n, 2)``, int64.
    """

    view: Subgraph
    nodes: Tensor

    def __len__(self) -> int:
        return len(self.nodes)

    def gather(self, ids: Tensor) -> LinkBatch:
        """The pairs ``ids``, in their graph."""
        batch = self.view.gather(self.nodes.index_select(0, ids).reshape(-1))
        assert isinstance(batch, NodeBatch)  # noqa: S101 - narrows the type
        return LinkBatch(batch)

    def to(self, device: torch.device) -> LinkView:
        """The same on ``device``."""
        return LinkView(self.view.to(device), self.nodes.to(device))


@dataclass(frozen=True, eq=False)
class LinkColumn:
    """Pairs of the nodes of one graph; a sample is a pair.

    The graph has the edges that messages run over: those that are trained on. After a request to forget some of them, the sample
    ``number * S + pair`` is one of the S pairs with messages over the graph of that number, as for
    :class:`~erasure.training.graph_requests.RequestedGraph`: before the request, after it, or without any edge.

    Args:
        graph: The whole graph without a background, or the graph with its request.
        pairs: Both ends of each pair, the smaller number first, shape ``(S, 2)``, int64.
    """

    graph: NodeColumn | RequestedGraph
    pairs: Tensor

    def __len__(self) -> int:
        return self.n_samples * (self.graph.n_graphs if isinstance(self.graph, RequestedGraph) else 1)

    @property
    def n_samples(self) -> int:
        """Pairs, each counted once."""
        return len(self.pairs)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Width of the node features, as ``x_shape`` of a data set has it."""
        return self.graph.sample_shape

    def seen_in(self, ids: Tensor, graph: GraphName) -> Tensor:
        """The same pairs as samples of another graph.

        Raises:
            PartitionError: If nothing is forgotten.
        """
        return ids % self.n_samples + self._requested.number(graph) * self.n_samples

    def asked_by(self, ids: Tensor) -> LinkColumn:
        """With the request that samples are seen after, as for :class:`~erasure.training.graph_requests.RequestedGraph`."""
        graph = self._requested
        while graph.earlier is not None and len(ids) and bool((ids < graph.earlier.n_graphs * self.n_samples).all()):
            graph = graph.earlier
        return self if graph is self.graph else replace(self, graph=graph)

    @property
    def _requested(self) -> RequestedGraph:
        if not isinstance(self.graph, RequestedGraph):
            raise PartitionError("nothing is forgotten of the graph; a LinkRequest says what is")
        return self.graph

    def affected(self, n_hops: int) -> Tensor:
        """Which pairs have an end within a number of hops of what is forgotten; ``(S,)``, bool.

        Raises:
            PartitionError: If nothing is forgotten.
        """
        return self._requested.affected(n_hops)[self.pairs].any(1)

    def gather(self, ids: Tensor) -> LinkBatch:
        """The pairs ``ids``, each in its graph."""
        return self.within(ids).gather(ids)

    def within(self, ids: Tensor) -> LinkView:
        """The graph or graphs that pairs are seen in, for all batches that are cut from them."""
        if not isinstance(self.graph, RequestedGraph):
            return LinkView(self.graph.within(ids), self.pairs)
        n = self.graph.n_nodes
        numbers = torch.div(ids, self.n_samples, rounding_mode="floor")
        view = self.graph.within((numbers[:, None] * n + self.pairs.index_select(0, ids % self.n_samples)).reshape(-1))
        first = n * torch.arange(self.graph.n_graphs, device=ids.device)
        return LinkView(view, (first[:, None, None] + self.pairs).reshape(-1, 2))

    def trained_on(self, ids: Tensor) -> LinkColumn:
        """The same: messages run over the graph, whoever trains."""
        return self

    def to(self, device: torch.device) -> LinkColumn:
        """The same column on ``device``."""
        return LinkColumn(self.graph.to(device), self.pairs.to(device))


def request_of(x: Column) -> RequestedGraph | LinkColumn | None:
    """The inputs, if something is to be forgotten of a graph and samples say which graph they see; None otherwise."""
    if isinstance(x, RequestedGraph):
        return x
    return x if isinstance(x, LinkColumn) and isinstance(x.graph, RequestedGraph) else None


def reads_whole_graph(x: Column) -> bool:
    """Whether every batch is computed on the whole graph of its partition, however few samples it has."""
    column = x.graph if isinstance(x, LinkColumn) else x
    column = column.graph if isinstance(column, RequestedGraph) else column
    return isinstance(column, NodeColumn) and not column.propagate
