"""The part of a graph that a node's logits depend on, for many nodes at once and side by side."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from erasure.training.graphs import NodeBatch, Subgraph
from erasure.training.sparse_rows import SparseRows

__all__ = ["Neighbourhoods", "SortedEdges", "neighbourhoods", "sorted_edges"]


@dataclass(frozen=True, eq=False)
class _InEdges:
    """Edges by the node that they go to.

    Args:
        sources: Where each edge comes from, shape ``(m,)``; edges of one target together, in their old order.
        pointers: Where the edges of each target begin, and the end; shape ``(n + 1,)``.
        order: Which edge of the graph each one is.
    """

    sources: Tensor
    pointers: Tensor
    order: Tensor

    @classmethod
    def of(cls, edge_index: Tensor, n_nodes: int) -> _InEdges:
        order = torch.argsort(edge_index[1], stable=True)
        counts = torch.bincount(edge_index[1], minlength=n_nodes)
        return cls(edge_index[0, order], torch.nn.functional.pad(counts.cumsum(0), (1, 0)), order)

    def into(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """For each edge into one of ``nodes``: the position of its target in ``nodes``, and its own position here."""
        first = self.pointers.index_select(0, nodes)
        counts = self.pointers.index_select(0, nodes + 1) - first
        targets = torch.repeat_interleave(torch.arange(len(nodes), device=nodes.device), counts)
        shift = first - (counts.cumsum(0) - counts)
        return targets, torch.arange(len(targets), device=nodes.device) + shift.index_select(0, targets)


@dataclass(frozen=True, eq=False)
class SortedEdges:
    """A view's edges, raw and as a GCN has them, by their targets; made when they are first asked for."""

    view: Subgraph

    @cached_property
    def raw(self) -> _InEdges:
        """The edges of the graph."""
        return _InEdges.of(self.view.edge_index, len(self.view.x))

    @cached_property
    def weighted(self) -> _InEdges:
        """Those of a GCN, with self-loops; their order is that of the weights."""
        messages = self.view.messages
        return _InEdges(messages.columns, messages.pointers, torch.arange(len(messages.columns), device=messages.columns.device))


class Neighbourhoods(NodeBatch):
    """Each sample with what is within some hops of it, as one graph whose parts are not connected.

    Nodes keep the degrees that they have in the whole graph where the network asks for :meth:`messages`. Features and edges are
    gathered when they are first looked at.

    Args:
        edges: The whole graph.
        keys: Sample times the number of nodes, plus node, for every node of every part; ascending.
        inner: Positions in ``keys`` whose incoming edges matter: all but those at the full distance.
        rows: The samples, as positions in ``keys``.
    """

    def __init__(self, edges: SortedEdges, keys: Tensor, inner: Tensor, rows: Tensor) -> None:
        n = len(edges.view.x)
        own = {"_edges": edges, "_keys": keys, "_inner": inner, "rows": rows, "view": None}
        vars(self).update(own, nodes=keys % n, owners=torch.div(keys, n, rounding_mode="floor"))

    nodes: Tensor
    owners: Tensor
    _edges: SortedEdges
    _keys: Tensor
    _inner: Tensor

    @property
    def n_nodes(self) -> int:
        """Nodes of all parts."""
        return len(self._keys)

    @cached_property
    def x(self) -> Tensor:
        """Features of the nodes."""
        return self._edges.view.x.index_select(0, self.nodes)

    @cached_property
    def edge_index(self) -> Tensor:
        """Edges within the parts."""
        return self._raw[0]

    @cached_property
    def edge_attr(self) -> Tensor | None:
        """Features of those edges."""
        whole = self._edges.view.edge_attr
        return None if whole is None else whole.index_select(0, self._raw[1])

    @cached_property
    def _raw(self) -> tuple[Tensor, Tensor]:
        return self._cut(self._edges.raw)

    def _cut(self, edges: _InEdges) -> tuple[Tensor, Tensor]:
        """Edges into the inner nodes as rows of this batch, and which edges of the graph they are."""
        targets, position = edges.into(self.nodes.index_select(0, self._inner))
        target_rows = self._inner.index_select(0, targets)
        n = len(self._edges.view.x)
        sources = self.owners.index_select(0, target_rows) * n + edges.sources.index_select(0, position)
        return torch.stack([torch.searchsorted(self._keys, sources), target_rows]), edges.order.index_select(0, position)

    def sparse(self) -> SparseRows | None:
        """The features without their zeros, if the graph has them so."""
        return self._sparse

    @cached_property
    def _sparse(self) -> SparseRows | None:
        whole = self._edges.view.sparse
        return None if whole is None else whole.chosen(self.nodes)

    def messages(self) -> SparseRows:
        """The weights of a GCN's edges as they are in the whole graph."""
        return self._messages

    @cached_property
    def _messages(self) -> SparseRows:
        edge_index, which = self._cut(self._edges.weighted)
        return SparseRows.of_edges(edge_index, self._edges.view.messages.values.index_select(0, which), self.n_nodes)


def neighbourhoods(edges: SortedEdges, rows: Tensor, n_hops: int) -> Neighbourhoods:
    """The parts of a graph within ``n_hops`` of some nodes, against the direction of the edges.

    Args:
        edges: The graph, from :func:`sorted_edges`.
        rows: The nodes of each sample: one, shape ``(B,)`` or ``(B, 1)``, or both ends of a link, which share their part, ``(B, 2)``.
        n_hops: How far messages travel.
    """
    n, rows = len(edges.view.x), rows.reshape(len(rows), -1)
    wanted = (torch.arange(len(rows), device=rows.device)[:, None] * n + rows).reshape(-1)
    keys = wanted if rows.shape[1] == 1 else torch.unique(wanted)
    inner, frontier = keys[:0], keys
    for _ in range(n_hops):
        inner = keys
        targets, position = edges.raw.into(frontier % n)
        owners = torch.div(frontier, n, rounding_mode="floor").index_select(0, targets)
        found = torch.unique(owners * n + edges.raw.sources.index_select(0, position))
        keys = torch.unique(torch.cat([keys, found]))
        frontier = found[~_within(found, inner)]
    return Neighbourhoods(edges, keys, torch.searchsorted(keys, inner), torch.searchsorted(keys, wanted))


def sorted_edges(view: Subgraph) -> SortedEdges:
    """The edges of a view, ready for :func:`neighbourhoods`; kept with the view."""
    found = vars(view).get("_sorted_edges")
    if found is None:
        found = vars(view)["_sorted_edges"] = SortedEdges(view)
    return found


def _within(values: Tensor, ascending: Tensor) -> Tensor:
    """Which of ``values`` are in ``ascending``, which is not empty."""
    position = torch.searchsorted(ascending, values).clamp_(max=len(ascending) - 1)
    return ascending.index_select(0, position) == values
