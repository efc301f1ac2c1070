"""A graph of which something is to be forgotten: nodes, edges or features, and the graphs that there are before and after that."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from erasure.errors import PartitionError
from erasure.training.graphs import NodeBatch, NodeColumn, Subgraph, one_hot
from erasure.training.propagation import Propagation, propagation

__all__ = [
    "GRAPHS",
    "GraphName",
    "RequestKind",
    "RequestedGraph",
    "edge_pairs",
    "pair_keys",
    "within_hops",
    "within_hops_of_each",
]

RequestKind: TypeAlias = Literal["nodes", "edges", "features"]
"""What is forgotten of a graph."""

GraphName: TypeAlias = Literal["before", "after", "alone"]
"""The graph with what is forgotten, the graph without it, and the nodes without any edge."""

GRAPHS: tuple[GraphName, ...] = ("before", "after", "alone")
"""Every graph that a node can be seen in; the place in this list is the graph's number."""

_MAX_VIEWS = 6
_MAX_VIEW_BYTES = 1 << 28


def pair_keys(edge_index: Tensor, n_nodes: int) -> Tensor:
    """One number for the two directions of each edge, -1 for self-loops; shape ``(m,)``."""
    low, high = edge_index.min(0).values, edge_index.max(0).values
    return torch.where(low == high, -1, low * n_nodes + high)


def edge_pairs(column: NodeColumn) -> Tensor:
    """The edges that can be forgotten, each once whatever its directions and copies: both ends, the smaller first; ``(E, 2)``.

    A self-loop is no edge between two nodes, and none of them.
    """
    n = len(column)
    keys = torch.unique(pair_keys(column.edge_index, n))
    keys = keys[keys >= 0]
    return torch.stack([torch.div(keys, n, rounding_mode="floor"), keys % n], dim=1)


def within_hops(edge_index: Tensor, start: Tensor, n_hops: int) -> Tensor:
    """Which nodes messages from ``start`` have reached after a number of hops; ``start`` is a mask ``(n,)``, and the result another.

    Example:
        >>> path = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
        >>> within_hops(path, torch.tensor([True, False, False]), 1)
        tensor([ True,  True, False])
    """
    reached = start.clone()
    for _ in range(n_hops):
        reached = reached.index_fill(0, edge_index[1, reached[edge_index[0]]], True)
    return reached


def within_hops_of_each(edge_index: Tensor, starts: Tensor, n_hops: int, n_nodes: int) -> Tensor:
    """Which nodes messages from each of ``starts`` have reached after a number of hops; ``(len(starts), n_nodes)``, bool.

    Args:
        edge_index: Shape ``(2, m)``.
        starts: Numbers of nodes, shape ``(k,)``.
        n_hops: Hops.
        n_nodes: Nodes of the graph.

    **Cost**: memory for ``k`` times the nodes, and for each hop a product of that with the edges.

    Example:
        >>> path = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
        >>> within_hops_of_each(path, torch.tensor([0, 1]), 1, 3)
        tensor([[ True,  True, False],
                [ True,  True,  True]])
    """
    reached = torch.zeros(n_nodes, len(starts), device=edge_index.device)
    reached[starts, torch.arange(len(starts), device=edge_index.device)] = 1.0
    ones = torch.ones(edge_index.shape[1], device=edge_index.device)
    messages = torch.sparse_coo_tensor(edge_index.flip(0), ones, (n_nodes, n_nodes), check_invariants=False).coalesce()
    for _ in range(n_hops):
        reached = (reached + torch.sparse.mm(messages, reached)).clamp_(max=1.0)
    return reached.T > 0


@dataclass(frozen=True, eq=False)
class RequestedGraph:
    """A graph and a request to forget something of it; a sample is a node as it is seen in one of the graphs.

    With N nodes, the sample ``number * N + node`` is a node in the graph of that number in :data:`GRAPHS`, and the ids from ``3 * N`` on
    are the edges between two nodes, in the order of :func:`edge_pairs`. So the ids of a partition say which graph it sees, and every model,
    method and measure that is given a partition sees that graph and no other:

    - ``before``: all nodes, features and edges.
    - ``after``: forgotten nodes are not there, with their features and all their edges; or forgotten edges are not there, in both
      directions and all copies; or forgotten features are 0. A forgotten node that is asked for has a row of its own, without an edge.
    - ``alone``: the features of each node as they were, and no edge.

    One-hot degrees are counted in each graph. Samples of several graphs in one batch are computed side by side, without an edge between
    the graphs.

    Args:
        graph: The whole graph, without a background.
        kind: What is forgotten.
        nodes: The forgotten nodes, or those whose features are forgotten, shape ``(k,)``, int64; empty for edges.
        pairs: The forgotten edges by their ends, shape ``(k, 2)``, int64; empty for nodes and features.
        columns: Columns of the features that are forgotten; None for all.
    """

    graph: NodeColumn
    kind: RequestKind
    nodes: Tensor
    pairs: Tensor
    columns: Tensor | None = None
    _views: list[tuple[tuple[int, ...], Tensor, tuple[int, ...], Subgraph]] = field(default_factory=list, init=False, repr=False)

    def __len__(self) -> int:
        return len(GRAPHS) * self.n_nodes

    @property
    def n_nodes(self) -> int:
        """Nodes of the graph."""
        return len(self.graph)

    @property
    def n_samples(self) -> int:
        """Samples, each counted once for all graphs: the nodes."""
        return len(self.graph)

    @property
    def n_features(self) -> int:
        """Width of the node features."""
        return self.graph.n_features

    @property
    def n_edge_features(self) -> int:
        """Width of the edge features; 0 if there are none."""
        return self.graph.n_edge_features

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Width of the node features, as ``x_shape`` of a data set has it."""
        return self.graph.sample_shape

    def nodes_of(self, ids: Tensor) -> Tensor:
        """The node that each sample is, whatever graph it is seen in."""
        return ids % self.n_nodes

    def seen_in(self, ids: Tensor, graph: GraphName) -> Tensor:
        """The same nodes as samples of another graph."""
        return self.nodes_of(ids) + GRAPHS.index(graph) * self.n_nodes

    def ends_of(self, ids: Tensor) -> Tensor:
        """Both ends of edges, shape ``(k, 2)``.

        Raises:
            PartitionError: If an id is that of a node.
        """
        edges = ids - len(self)
        if len(edges) and int(edges.min()) < 0:
            raise PartitionError("edges are asked for, and these are nodes; name a partition of edges, as GraphEdges cuts them")
        return self._pairs.to(ids.device).index_select(0, edges)

    @cached_property
    def _pairs(self) -> Tensor:
        return edge_pairs(self.graph)

    @cached_property
    def is_forgotten(self) -> Tensor:
        """Which nodes are forgotten, ``(N,)``; none where it is edges or features."""
        mask = torch.zeros(self.n_nodes, dtype=torch.bool, device=self.graph.x.device)
        return mask.index_fill(0, self.nodes, True) if self.kind == "nodes" else mask

    @cached_property
    def kept_edges(self) -> Tensor:
        """Which of the whole graph's edges are there after the request, ``(m,)``."""
        edge_index = self.graph.edge_index
        if self.kind == "edges":
            return ~torch.isin(pair_keys(edge_index, self.n_nodes), pair_keys(self.pairs.T, self.n_nodes))
        return ~self.is_forgotten[edge_index].any(0)

    def affected(self, n_hops: int) -> Tensor:
        """Which nodes are within a number of hops of what is forgotten, in the graph before the request; ``(N,)``, bool.

        Zero hops are the forgotten nodes, the ends of forgotten edges, or the nodes whose features are forgotten.
        """
        start = torch.zeros(self.n_nodes, dtype=torch.bool, device=self.graph.x.device)
        start = start.index_fill(0, self.pairs.flatten() if self.kind == "edges" else self.nodes, True)
        return within_hops(self.graph.edge_index, start, n_hops)

    def gather(self, ids: Tensor) -> NodeBatch | Tensor:
        """The samples ``ids``, each in its graph."""
        return self.within(ids).gather(ids)

    def within(self, ids: Tensor) -> Subgraph:
        """The graph or graphs that samples are seen in, for all batches that are cut from them.

        Raises:
            PartitionError: If some of them are edges: nothing is predicted for those.
        """
        graphs = torch.unique(torch.div(ids, self.n_nodes, rounding_mode="floor")).tolist()
        if any(number >= len(GRAPHS) for number in graphs):
            raise PartitionError(
                "a model predicts nodes, and these are edges; name a partition of nodes, such as the edges' ends"
            )
        # Forgotten nodes that nobody asks for are nowhere after the request, not even in the statistics of a BatchNorm.
        shown = torch.unique(ids[self.is_forgotten.index_select(0, self.nodes_of(ids)) & (ids >= self.n_nodes)])
        numbers, written = tuple(graphs), self._written()
        for seen, rows, version, view in self._views:
            if seen == numbers and version == written and torch.equal(rows, shown):
                return view
        view = self._joined([self._seen(number, shown) for number in numbers], numbers)
        keep = max(0, min(_MAX_VIEWS - 1, _MAX_VIEW_BYTES // max(1, view.x.nbytes) - 1))
        self._views[:] = [(numbers, shown, written, view), *self._views[:keep]]
        return view

    def _written(self) -> tuple[int, ...]:
        parts = (self.graph.x, self.graph.edge_index, self.graph.edge_attr)
        return tuple(0 if part is None else part._version for part in parts)

    def _seen(self, number: int, shown: Tensor) -> Subgraph:
        """One graph with those of its forgotten nodes that are among the samples ``shown``; ``row_of`` is by node."""
        name, n = GRAPHS[number], self.n_nodes
        if self.graph.propagate and not self.graph.counts_degrees:
            return self._averaged(name, shown - number * n)
        x, edges, attributes = self.graph.x, self.graph.edge_index, self.graph.edge_attr
        kept = None if name == "before" else torch.zeros_like(self.kept_edges) if name == "alone" else self.kept_edges
        if kept is not None:
            edges, attributes = edges[:, kept], None if attributes is None else attributes[kept]
        if name == "after" and self.kind == "features":
            x = self._without_features(x)
        if name == "before" or self.kind != "nodes":
            row_of = torch.arange(n, device=x.device)
        else:
            own = shown[(shown >= number * n) & (shown < (number + 1) * n)] - number * n
            visible = (~self.is_forgotten).index_fill(0, own, True)
            row_of = torch.where(visible, visible.cumsum(0) - 1, -1)
            x, edges = x[visible], row_of[edges]
        if self.graph.counts_degrees and name != "before" and self.kind != "features":
            degrees = torch.bincount(edges[1], minlength=len(x)).clamp_(max=self.n_features - 1)
            x = one_hot(degrees[:, None], (self.n_features,)).to(x.dtype)
        return Subgraph(x, edges, attributes, row_of, self.graph.propagate)

    @cached_property
    def _before(self) -> Propagation:
        return propagation(self.graph.x, self.graph.edge_index, self.graph.propagate)

    def _averaged(self, name: GraphName, shown: Tensor) -> Subgraph:
        """One graph whose nodes are rows of averaged features. After the request only those are averaged that it changes."""
        x, n = self.graph.x, self.n_nodes
        nodes = torch.arange(n, device=x.device)
        values, row_of = x, nodes
        if name == "before":
            values = self._before.propagated
        elif name == "after":
            values = self._before.propagated.index_copy(0, *self._changed())
        if name != "before" and self.kind == "nodes":
            values = values.index_copy(0, self.nodes, x.index_select(0, self.nodes))
            own = shown[(shown >= 0) & (shown < n)]
            row_of = torch.where((~self.is_forgotten).index_fill(0, own, True), nodes, -1)
        # Rows without edges, of which further means change nothing.
        return Subgraph(values, self.graph.edge_index[:, :0], None, row_of, self.graph.propagate)

    def _changed(self) -> tuple[Tensor, Tensor]:
        """Nodes whose averaged features are others after the request, and those."""
        before, none = self._before, self.nodes[:0]
        if self.kind == "features":
            nodes = torch.unique(self.nodes)
            return before.after(rewired=none, features=(nodes, self._without_features(self.graph.x).index_select(0, nodes)))
        if self.kind == "nodes":
            reached = torch.unique(before.messages.transposed().chosen(self.nodes).columns)
            return before.after(rewired=reached, gone=lambda sources, targets: self.is_forgotten[sources])
        keys = pair_keys(self.pairs.T, self.n_nodes)

        def gone(sources: Tensor, targets: Tensor) -> Tensor:
            return torch.isin(pair_keys(torch.stack([sources, targets]), self.n_nodes), keys)

        return before.after(rewired=torch.unique(self.pairs), gone=gone)

    def features_after(self) -> Tensor:
        """Features of the nodes that are there after the request, ``(n, F)``; forgotten features are 0."""
        if self.kind == "nodes":
            return self.graph.x[~self.is_forgotten]
        return self._without_features(self.graph.x) if self.kind == "features" else self.graph.x

    def _without_features(self, x: Tensor) -> Tensor:
        if self.columns is None:
            return x.index_fill(0, self.nodes, 0.0)
        blank = x.clone()
        blank[self.nodes[:, None], self.columns[None, :]] = 0.0
        return blank

    def _joined(self, views: list[Subgraph], numbers: tuple[int, ...]) -> Subgraph:
        """Several graphs side by side; ``row_of`` is by sample."""
        row_of = torch.full((len(self),), -1, dtype=torch.int64, device=self.graph.x.device)
        edges, first = [], 0
        for view, number in zip(views, numbers, strict=True):
            rows = view.row_of
            assert rows is not None  # noqa: S101 - narrows the type
            row_of[number * self.n_nodes : (number + 1) * self.n_nodes] = torch.where(rows >= 0, rows + first, -1)
            edges.append(view.edge_index + first)
            first += len(view.x)
        if len(views) == 1:
            return replace(views[0], row_of=row_of)
        if not views:
            return Subgraph(self.graph.x[:0], self.graph.edge_index[:, :0], None, row_of, self.graph.propagate)
        attributes = [view.edge_attr for view in views if view.edge_attr is not None]
        return Subgraph(
            torch.cat([view.x for view in views]),
            torch.cat(edges, dim=1),
            torch.cat(attributes) if attributes else None,
            row_of,
            self.graph.propagate,
        )

    def trained_on(self, ids: Tensor) -> RequestedGraph:
        """The same: who trains on what is in the ids."""
        return self

    def to(self, device: torch.device) -> RequestedGraph:
        """The same graph and request on ``device``."""
        columns = None if self.columns is None else self.columns.to(device)
        return RequestedGraph(self.graph.to(device), self.kind, self.nodes.to(device), self.pairs.to(device), columns)
