"""A graph of which something is to be forgotten: nodes, edges or features, and the graphs that there are before and after that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from erasure.errors import PartitionError
from erasure.training.graphs import NodeBatch, NodeColumn, Subgraph, one_hot
from erasure.training.propagation import Propagation, propagation

__all__ = [
    "FIRST_PAIR",
    "GRAPHS",
    "NO_SAMPLE",
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
"""Every graph that a node can be seen in; of the first request the place in this list is the graph's number."""

NO_SAMPLE = 1 << 40
"""Ids from here on are no samples: edges where samples are nodes, and nodes where samples are links."""

FIRST_PAIR = 1 << 50
"""Ids from here on are pairs of nodes that need not have an edge: this and their :func:`pair_keys`."""

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

    With N nodes, the sample ``number * N + node`` is a node in the graph of that number, and the ids from :data:`NO_SAMPLE` on are the
    edges between two nodes, in the order of :func:`edge_pairs`. So the ids of a partition say which graph it sees, and every model, method
    and measure that is given a partition sees that graph and no other:

    - ``before``: all nodes, features and edges; of a later request, what the earlier ones have left.
    - ``after``: forgotten nodes are not there, with their features and all their edges; or forgotten edges are not there, in both
      directions and all copies; or forgotten features are 0. A forgotten node that is asked for has a row of its own, without an edge.
    - ``alone``: the features of each node as they were at first, and no edge.

    The first request has the graphs 0 (before), 1 (after) and 2 (alone); each later one adds the graph after it. One-hot degrees are
    counted in each graph. Samples of several graphs in one batch are computed side by side, without an edge between the graphs.

    Where some nodes of the graph arrive ``later`` (the inductive setting), they and their edges are in none of the graphs that others are
    seen in. They themselves are seen ``before`` and ``after`` in two further graphs, in which everybody has arrived.

    Args:
        graph: The whole graph, without a background.
        kind: What is forgotten.
        nodes: The forgotten nodes, or those whose features are forgotten, shape ``(k,)``, int64; empty for edges.
        pairs: The forgotten edges by their ends, shape ``(k, 2)``, int64; empty for nodes and features.
        columns: Columns of the features that are forgotten; None for all.
        earlier: The request before this one, of the same graph; None for the first.
    """

    graph: NodeColumn
    kind: RequestKind
    nodes: Tensor
    pairs: Tensor
    columns: Tensor | None = None
    earlier: RequestedGraph | None = None
    # What has been pushed on by threshold, for :func:`~erasure.training.pushed_propagation.pushed_after`.
    pushed: dict[float, object] = field(default_factory=dict, init=False, repr=False)
    _views: list[tuple[tuple[int, ...], Tensor, tuple[int, ...], Subgraph]] = field(default_factory=list, init=False, repr=False)

    def __len__(self) -> int:
        return self.n_graphs * self.n_nodes

    @property
    def n_graphs(self) -> int:
        """Graphs that a node can be seen in."""
        n_arrived = self.later is not None
        return self.earlier.n_graphs + 1 + n_arrived if self.earlier is not None else len(GRAPHS) + 2 * n_arrived

    @property
    def n_nodes(self) -> int:
        """Nodes of the graph."""
        return len(self.graph)

    @property
    def later(self) -> Tensor | None:
        """Nodes that arrive after the training, ``(N,)``, bool; None for none."""
        return self.graph.later

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

    # Which graph

    def number(self, graph: GraphName, *, arrived: bool = False) -> int:
        """The number of a graph; with ``arrived`` that in which the nodes that arrive later are seen."""
        if graph == "alone":
            return GRAPHS.index("alone")
        if graph == "before" and self.earlier is not None:
            return self.earlier.number("after", arrived=arrived)
        n_first = len(GRAPHS) if self.earlier is None else self.earlier.n_graphs
        has_arrived = arrived and self.later is not None
        if self.earlier is None:
            return n_first + GRAPHS.index(graph) if has_arrived else GRAPHS.index(graph)
        return n_first + has_arrived

    def nodes_of(self, ids: Tensor) -> Tensor:
        """The node that each sample is, whatever graph it is seen in."""
        return ids % self.n_nodes

    def seen_in(self, ids: Tensor, graph: GraphName) -> Tensor:
        """The same nodes as samples of another graph."""
        nodes = self.nodes_of(ids)
        if self.later is None:
            return nodes + self.number(graph) * self.n_nodes
        number = torch.where(self.later[nodes], self.number(graph, arrived=True), self.number(graph))
        return nodes + number * self.n_nodes

    def asked_by(self, ids: Tensor) -> RequestedGraph:
        """The request that samples are seen after: this one, or an earlier one if all of them are seen in the graph after that."""
        if self.earlier is None or not len(ids) or bool((ids >= len(self.earlier)).any()):
            return self
        return self.earlier.asked_by(ids)

    # What is forgotten

    def ends_of(self, ids: Tensor) -> Tensor:
        """Both ends of edges, or of pairs that need not have one; shape ``(k, 2)``.

        Raises:
            PartitionError: If an id is that of a node.
        """
        if len(ids) and int(ids.max()) >= FIRST_PAIR:
            keys = ids - FIRST_PAIR
            named = torch.stack([torch.div(keys, self.n_nodes, rounding_mode="floor"), keys % self.n_nodes], dim=1)
            are_edges = ids < FIRST_PAIR
            return named.masked_scatter(are_edges[:, None], self.ends_of(ids[are_edges]))
        edges = ids - NO_SAMPLE
        if len(edges) and int(edges.min()) < 0:
            raise PartitionError("edges are asked for, and these are nodes; name a partition of edges, as GraphEdges cuts them")
        return self._pairs.to(ids.device).index_select(0, edges)

    @cached_property
    def _pairs(self) -> Tensor:
        return edge_pairs(self.graph)

    @cached_property
    def is_forgotten(self) -> Tensor:
        """Which nodes are forgotten by now, ``(N,)``; a request for edges or features adds none."""
        mask = torch.zeros(self.n_nodes, dtype=torch.bool, device=self.graph.x.device)
        if self.kind == "nodes":
            mask = mask.index_fill(0, self.nodes, True)
        return mask if self.earlier is None else mask | self.earlier.is_forgotten

    @cached_property
    def kept_edges(self) -> Tensor:
        """Which of the whole graph's edges are there after the request, ``(m,)``, if everybody has arrived."""
        edge_index = self.graph.edge_index
        if self.kind == "edges":
            kept = ~torch.isin(pair_keys(edge_index, self.n_nodes), pair_keys(self.pairs.T, self.n_nodes))
        else:
            kept = ~self.is_forgotten[edge_index].any(0)
        return kept if self.earlier is None else kept & self.earlier.kept_edges

    @property
    def edges_before(self) -> Tensor:
        """Edges of the graph before the request, ``(2, m)``, without those of nodes that arrive later."""
        return self.graph.edge_index if (there := self._there_before) is None else self.graph.edge_index[:, there]

    @property
    def edges_after(self) -> Tensor:
        """Edges of the graph after the request, ``(2, m)``, without those of nodes that arrive later."""
        there = self.kept_edges
        return self.graph.edge_index[:, there if (trained := self._trained_edges) is None else there & trained]

    @cached_property
    def _there_before(self) -> Tensor | None:
        left = None if self.earlier is None else self.earlier.kept_edges
        trained = self._trained_edges
        return trained if left is None else left if trained is None else left & trained

    @cached_property
    def _trained_edges(self) -> Tensor | None:
        return None if self.later is None else ~self.later[self.graph.edge_index].any(0)

    @cached_property
    def nodes_before(self) -> Tensor:
        """Nodes of the graph before the request, without those that arrive later; ``(n,)``, ascending."""
        there = torch.ones(self.n_nodes, dtype=torch.bool, device=self.graph.x.device)
        if self.earlier is not None:
            there = there & ~self.earlier.is_forgotten
        return (there if self.later is None else there & ~self.later).nonzero().flatten()

    def affected(self, n_hops: int) -> Tensor:
        """Which nodes are within a number of hops of what is forgotten, in the graph before the request; ``(N,)``, bool.

        Zero hops are the forgotten nodes, the ends of forgotten edges, or the nodes whose features are forgotten. Whether a node that
        arrives later is affected is told in the graph in which it has arrived.
        """
        start = torch.zeros(self.n_nodes, dtype=torch.bool, device=self.graph.x.device)
        start = start.index_fill(0, self.pairs.flatten() if self.kind == "edges" else self.nodes, True)
        reached = within_hops(self.edges_before, start, n_hops)
        if self.later is None:
            return reached
        edges = self.graph.edge_index if self.earlier is None else self.graph.edge_index[:, self.earlier.kept_edges]
        return torch.where(self.later, within_hops(edges, start, n_hops), reached)

    def with_features(self, x: Tensor) -> RequestedGraph:
        """The same requests of a graph with other features of the same width."""
        earlier = None if self.earlier is None else self.earlier.with_features(x)
        return replace(self, graph=replace(self.graph, x=x), earlier=earlier)

    # Samples

    def gather(self, ids: Tensor) -> NodeBatch | Tensor:
        """The samples ``ids``, each in its graph."""
        return self.within(ids).gather(ids)

    def within(self, ids: Tensor) -> Subgraph:
        """The graph or graphs that samples are seen in, for all batches that are cut from them.

        Raises:
            PartitionError: If some of them are edges, of which nothing is predicted, or are seen after a later request.
        """
        graphs = torch.unique(torch.div(ids, self.n_nodes, rounding_mode="floor")).tolist()
        if graphs and graphs[-1] * self.n_nodes >= NO_SAMPLE - self.n_nodes:
            raise PartitionError(
                "a model predicts nodes, and these are edges; name a partition of nodes, such as the edges' ends"
            )
        if graphs and graphs[-1] >= self.n_graphs:
            raise PartitionError(
                "samples are seen in the graph after a later request, which is not known here; name a partition that is seen in an "
                "earlier graph"
            )
        if self.earlier is not None and (not graphs or graphs[-1] < self.earlier.n_graphs):
            return self.earlier.within(ids)
        # Nodes that are not there and that nobody asks for are nowhere, not even in the statistics of a BatchNorm.
        shown = torch.unique(ids[self._is_hidden(ids)])
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

    def _own_numbers(self) -> list[int]:
        """Numbers of the graphs after this request."""
        return sorted({self.number("after"), self.number("after", arrived=True)})

    def _missing(self, number: int) -> Tensor:
        """Nodes that are not in the graph of a number, ``(N,)``, bool."""
        if self.earlier is not None and number not in self._own_numbers():
            return self.earlier._missing(number)
        was_there = number in {self.number("before"), self.number("before", arrived=True)}
        gone = torch.zeros_like(self.is_forgotten) if was_there else self.is_forgotten
        has_arrived = number > GRAPHS.index("alone") and number in {
            self.number(name, arrived=True) for name in ("before", "after")
        }
        return gone if self.later is None or has_arrived else gone | self.later

    def _is_hidden(self, ids: Tensor) -> Tensor:
        """Which samples are nodes that are not in the graph that they are seen in."""
        nodes, graphs = self.nodes_of(ids), torch.div(ids, self.n_nodes, rounding_mode="floor")
        hidden = torch.zeros_like(ids, dtype=torch.bool)
        for number in torch.unique(graphs).tolist():
            hidden |= (graphs == number) & self._missing(number)[nodes]
        return hidden

    def _seen(self, number: int, shown: Tensor) -> Subgraph:
        """One graph with those of its missing nodes that are among the samples ``shown``; ``row_of`` is by node."""
        if self.earlier is not None and number not in self._own_numbers():
            return self.earlier._seen(number, shown)
        name, n = self._name(number), self.n_nodes
        own = shown[(shown >= number * n) & (shown < (number + 1) * n)] - number * n
        if self.graph.is_averaged:
            return self._averaged(name, own)
        x, edges, attributes = self.graph.x, self.graph.edge_index, self.graph.edge_attr
        missing = self._missing(number)
        kept = None if name == "before" else torch.zeros_like(self.kept_edges) if name == "alone" else self.kept_edges
        if self.later is not None and bool(missing.any()):
            there = ~missing[edges].any(0)
            kept = there if kept is None else kept & there
        if kept is not None:
            edges, attributes = edges[:, kept], None if attributes is None else attributes[kept]
        if self.graph.counts_degrees and kept is not None and (self._rewires or self.later is not None):
            degrees = torch.bincount(edges[1], minlength=n).clamp_(max=self.n_features - 1)
            x = one_hot(degrees[:, None], (self.n_features,)).to(x.dtype)
        if name == "after":
            x = self._blanked(x)
        row_of = torch.arange(n, device=x.device)
        if bool(missing.any()):
            visible = (~missing).index_fill(0, own, True)
            row_of = torch.where(visible, visible.cumsum(0) - 1, -1)
            x, edges = x[visible], row_of[edges]
        return Subgraph(x, edges, attributes, row_of, self.graph.propagate, self.graph.weighted)

    def _name(self, number: int) -> GraphName:
        return next(name for name in GRAPHS if number in {self.number(name), self.number(name, arrived=True)})

    @property
    def _rewires(self) -> bool:
        """Whether edges have gone by now."""
        return self.kind != "features" or (self.earlier is not None and self.earlier._rewires)

    @cached_property
    def averages(self) -> Propagation:
        """Averaged features of the graph before any request."""
        if self.earlier is not None:
            return self.earlier.averages
        return propagation(self.graph.x, self.graph.edge_index, self.graph.propagate)

    def _averaged(self, name: GraphName, own: Tensor) -> Subgraph:
        """One graph whose nodes are rows of averaged features. After requests only those are averaged that they change."""
        x, n = self.graph.x, self.n_nodes
        nodes = torch.arange(n, device=x.device)
        values, row_of = x, nodes
        if name == "before":
            values = self.averages.propagated
        elif name == "after":
            rewired, is_gone, features = self.changes()
            changed = self.averages.after(rewired=rewired, gone=is_gone, features=features)
            values = self.averages.propagated.index_copy(0, *changed)
            gone = self.is_forgotten.nonzero().flatten()
            values = values.index_copy(0, gone, self._blanked(x).index_select(0, gone)) if len(gone) else values
        if name != "before":
            row_of = torch.where((~self.is_forgotten).index_fill(0, own, True), nodes, -1)
        # Rows without edges, of which further means change nothing.
        return Subgraph(values, self.graph.edge_index[:, :0], None, row_of, self.graph.propagate)

    def changes(self) -> tuple[Tensor, Callable[[Tensor, Tensor], Tensor] | None, tuple[Tensor, Tensor] | None]:
        """What all requests so far change of averages, as :meth:`Propagation.after` takes it."""
        requests, gone = self.requests, self.is_forgotten.nonzero().flatten()
        pairs = torch.cat([each.pairs for each in requests])
        rewired = torch.unique(torch.cat([self.averages.messages.transposed().chosen(gone).columns, pairs.flatten()]))
        keys = pair_keys(pairs.T, self.n_nodes)

        def is_gone(sources: Tensor, targets: Tensor) -> Tensor:
            lost = self.is_forgotten[sources]
            return lost | torch.isin(pair_keys(torch.stack([sources, targets]), self.n_nodes), keys) if len(keys) else lost

        blank = torch.unique(torch.cat([self.nodes[:0], *(each.nodes for each in requests if each.kind == "features")]))
        features = (blank, self._blanked(self.graph.x).index_select(0, blank)) if len(blank) else None
        return rewired, is_gone if len(rewired) else None, features

    @property
    def requests(self) -> tuple[RequestedGraph, ...]:
        """All requests so far, the first one first, this one last."""
        return (*(self.earlier.requests if self.earlier is not None else ()), self)

    def features_after(self) -> Tensor:
        """Features of the nodes that are there after the request, ``(n, F)``; forgotten features are 0."""
        x, missing = self._blanked(self.graph.x), self._missing(self.number("after"))
        return x[~missing] if bool(missing.any()) else x

    def _blanked(self, x: Tensor) -> Tensor:
        """Features of all nodes without those that are forgotten by now."""
        if self.earlier is not None:
            x = self.earlier._blanked(x)
        if self.kind != "features":
            return x
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
            self.graph.weighted,
        )

    def trained_on(self, ids: Tensor) -> RequestedGraph:
        """The same: who trains on what is in the ids."""
        return self

    def to(self, device: torch.device) -> RequestedGraph:
        """The same graph and request on ``device``."""
        return self._on(self.graph.to(device), device)

    def _on(self, graph: NodeColumn, device: torch.device) -> RequestedGraph:
        columns = None if self.columns is None else self.columns.to(device)
        earlier = None if self.earlier is None else self.earlier._on(graph, device)
        return RequestedGraph(graph, self.kind, self.nodes.to(device), self.pairs.to(device), columns, earlier)
