"""Training on a few neighbours of each node, drawn anew for each step, for graphs whose neighbourhoods do not fit into memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erasure.errors import RequirementNotMet
from erasure.training.batches import Column
from erasure.training.graph_requests import RequestedGraph
from erasure.training.graphs import NodeBatch, NodeColumn, Subgraph
from erasure.training.sparse_rows import GraphConvolution, SparseRows

__all__ = [
    "NeighbourColumn",
    "NeighbourSums",
    "SampledNodes",
    "SumsNeighbours",
    "convolved",
    "messages_fit",
    "neighbours_unsupported",
    "sampled_column",
]

_MAX_MESSAGE_BYTES = 1 << 28
"""Messages of a layer that are held at once where nothing is learned; more of them are added up part by part."""

NeighbourSums: TypeAlias = Literal["weighted", "mean"]
"""What a network does with the vectors of neighbours: add them up with the weights of a GCN, or take their mean."""


@runtime_checkable
class SumsNeighbours(Protocol):
    """A network of nodes that can be trained on a few neighbours of each."""

    @property
    def n_convolutions(self) -> int:
        """Hops that it looks at."""
        ...

    @property
    def neighbour_sums(self) -> NeighbourSums | None:
        """What it does with neighbours; None where a few of them do not stand for all."""
        ...


@dataclass(frozen=True, eq=False)
class SampledNodes(NodeBatch):
    """Some nodes, some of their neighbours, some of the neighbours' own, and so on: a graph for each layer, the first layer's the largest.

    The nodes are in the order in which they were reached, the samples first, so that a layer's outputs are the first rows of its inputs.

    Args:
        counts: Nodes within 0, 1, … hops.
        chosen: In row v the neighbours of node v that were drawn, for all nodes but the last hop's.
        features: The features without their zeros, where that is known of the graph.
    """

    counts: tuple[int, ...] = ()
    chosen: SparseRows | None = None
    features: SparseRows | None = None

    def sparse(self) -> SparseRows | None:
        """The features without their zeros, if that is known; None otherwise."""
        return self.features

    def to(self, device: torch.device | str) -> SampledNodes:
        """Not needed: batches are cut where their graph is."""
        if torch.device(device) != self.x.device:
            raise RequirementNotMet("a batch of drawn neighbours stays on the device that its graph is on")
        return self

    def layer(self, number: int) -> SparseRows:
        """The messages of a layer, the first being 0: ``(nodes that it gives vectors to, nodes that it reads)``."""
        assert self.chosen is not None  # noqa: S101 - narrows the type
        n_targets, n_sources = self.counts[-2 - number], self.counts[-1 - number]
        pointers = self.chosen.pointers[: n_targets + 1]
        n = int(pointers[-1])
        return SparseRows(self.chosen.values[:n], self.chosen.columns[:n], pointers, n_sources)


@dataclass(frozen=True, eq=False)
class _SampledView:
    """What a partition sees of a graph, and a few neighbours of each node of a batch at a time."""

    view: Subgraph
    column: NeighbourColumn

    def __len__(self) -> int:
        return len(self.view)

    def gather(self, ids: Tensor) -> SampledNodes:
        batch = self.view.gather(ids)
        assert isinstance(batch, NodeBatch)  # noqa: S101 - narrows the type
        return self.column.sampled(self.view, batch.rows)

    def to(self, device: torch.device) -> _SampledView:
        return replace(self, view=self.view.to(device))


@dataclass(frozen=True, eq=False)
class NeighbourColumn:
    """The nodes of a graph, each partition in its own, of which batches hold a few neighbours of each node.

    Of the ``d`` edges that arrive at a node, ``k`` are taken at equal distances from a random start, all if there are no more: each with
    the same chance, none twice. A GCN's messages, whose degrees are those of the whole graph, are multiplied by ``d / k`` but for the
    node's own, so that sums and means over neighbours are right in expectation. What is not linear in them, such as a ReLU over them and
    the loss, is not: with small ``k`` the gradient is biased.

    Args:
        x: The column.
        fan_outs: Neighbours of each sample, of each of those, and so on: one number for each convolution.
        sums: What the network does with them.
        generator: Draws where to start; on the CPU.
    """

    x: NodeColumn | RequestedGraph
    fan_outs: tuple[int, ...]
    sums: NeighbourSums
    generator: torch.Generator
    _places: list[Tensor] = field(default_factory=list, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.x)

    def within(self, ids: Tensor) -> _SampledView:
        """The column as a partition sees it."""
        return _SampledView(self.x.within(ids), self)

    def gather(self, ids: Tensor) -> SampledNodes:
        """The nodes ``ids`` and a few neighbours."""
        return self.within(ids).gather(ids)

    def trained_on(self, ids: Tensor) -> Column:
        """The column, told which samples belong to the training set."""
        return replace(self, x=self.x.trained_on(ids))

    def to(self, device: torch.device) -> NeighbourColumn:
        """The same column on ``device``."""
        return replace(self, x=self.x.to(device))

    def sampled(self, view: Subgraph, rows: Tensor) -> SampledNodes:
        """Some rows of a graph, and a few of the rows that messages come from.

        **Cost**: the edges that are drawn, however many the graph has.
        """
        arriving = view.messages if self.sums == "weighted" else view.arriving
        nodes, samples = torch.unique(rows, return_inverse=True)
        place = self._place(len(view.x), rows.device)
        reached, counts, parts = [nodes], [len(nodes)], list[SparseRows]()
        place[nodes] = torch.arange(len(nodes), device=rows.device)
        for fan_out in self.fan_outs:
            drawn = self._drawn(arriving, reached[-1], fan_out)
            parts.append(drawn)
            new = torch.unique(drawn.columns[place[drawn.columns] < 0])
            place[new] = torch.arange(len(new), device=rows.device) + counts[-1]
            reached.append(new)
            counts.append(counts[-1] + len(new))
        seen = torch.cat(reached)
        per_row = torch.cat([part.pointers.diff() for part in parts])
        chosen = SparseRows(
            torch.cat([part.values for part in parts]),
            place[torch.cat([part.columns for part in parts])],
            F.pad(per_row.cumsum(0), (1, 0)),
            len(seen),
        )
        place[seen] = -1
        edge_index = torch.stack([chosen.columns, chosen.rows])
        features = None if view.sparse is None else view.sparse.chosen(seen)
        x = view.x.index_select(0, seen)
        return SampledNodes(x, edge_index, None, samples, counts=tuple(counts), chosen=chosen, features=features)

    def _place(self, n: int, device: torch.device) -> Tensor:
        """-1 for each node; kept, so that a batch does not cost a pass over all of them."""
        if not self._places or len(self._places[0]) != n or self._places[0].device != device:
            self._places[:] = [torch.full((n,), -1, dtype=torch.int64, device=device)]
        return self._places[0]

    def _drawn(self, arriving: SparseRows, nodes: Tensor, fan_out: int) -> SparseRows:
        """A few of the edges that arrive at nodes."""
        n_own = 1 if self.sums == "weighted" else 0  # a GCN's own message is the last of a row, and always there
        first = arriving.pointers.index_select(0, nodes)
        degrees = arriving.pointers.index_select(0, nodes + 1) - first - n_own
        taken = degrees.clamp(max=fan_out)
        start = torch.rand(len(nodes), generator=self.generator, dtype=torch.float64).to(nodes.device)
        pointers = F.pad((taken + n_own).cumsum(0), (1, 0))
        owners = torch.repeat_interleave(torch.arange(len(nodes), device=nodes.device), taken + n_own)
        number = torch.arange(len(owners), device=nodes.device) - pointers.index_select(0, owners)
        d, k = degrees.index_select(0, owners), taken.index_select(0, owners)
        apart = d.double() / k.clamp(min=1)
        spread = ((number + start.index_select(0, owners)) * apart).long().minimum(d - 1)
        entries = torch.where(number == k, d, torch.where(d > k, spread, number))
        values = arriving.values.index_select(0, entries + first.index_select(0, owners))
        values = torch.where(number == k, values, values * apart.to(values.dtype))
        columns = arriving.columns.index_select(0, entries + first.index_select(0, owners))
        return SparseRows(values, columns, pointers, arriving.n_columns)


def neighbours_unsupported(model: nn.Module, x: Column, fan_outs: Sequence[int]) -> str | None:
    """Why a network cannot be trained on a few neighbours of each sample, or None."""
    if not isinstance(x, NodeColumn | RequestedGraph):
        return "neighbours are drawn where samples are the nodes of one graph; leave predictor.neighbours out"
    if isinstance(x, RequestedGraph):
        x = x.graph
    if x.propagate:
        return "features that are propagated already have no neighbours to draw from; leave predictor.neighbours out"
    if not isinstance(model, SumsNeighbours) or model.neighbour_sums is None:
        return 'neighbours are drawn for a GNN whose conv is "gcn" or "sage": of other sums a few neighbours do not stand for all'
    if x.weighted and model.neighbour_sums == "mean":
        return 'the edges have weights, which conv = "sage" does not multiply messages by; take "gcn"'
    if len(fan_outs) != model.n_convolutions:
        return f"predictor.neighbours has {len(fan_outs)} numbers, and the network {model.n_convolutions} convolutions; give one for each"
    return None


def sampled_column(model: nn.Module, x: Column, fan_outs: tuple[int, ...], generator: torch.Generator) -> NeighbourColumn:
    """The column that a network is trained on.

    Raises:
        RequirementNotMet: If it cannot be.
    """
    reason = neighbours_unsupported(model, x, fan_outs)
    if reason is not None:
        raise RequirementNotMet(reason)
    assert isinstance(x, NodeColumn | RequestedGraph)  # noqa: S101 - narrows the types
    assert isinstance(model, SumsNeighbours)  # noqa: S101
    assert model.neighbour_sums is not None  # noqa: S101
    return NeighbourColumn(x, fan_outs, model.neighbour_sums, generator)


def messages_fit(x: Tensor, edge_index: Tensor) -> bool:
    """Whether the messages of a layer may be held at once, one for each edge."""
    return edge_index.shape[1] * x.shape[1] * x.element_size() <= _MAX_MESSAGE_BYTES


def convolved(conv: nn.Module, x: Tensor | SparseRows | tuple[Tensor, Tensor], edges: Sequence[Tensor | SparseRows]) -> Tensor:
    """The vectors after a convolution; where it is told the edges by the nodes that they arrive at, part of the nodes after another.

    Args:
        conv: A convolution that tells nodes that are read from nodes that vectors are for, or one of a GCN.
        x: Vectors of the nodes, ``(n, d)``.
        edges: What the convolution is told of them.
    """
    if isinstance(conv, GraphConvolution) or not isinstance(edges[0], SparseRows):
        found: Tensor = conv(x, *edges)
        return found
    assert isinstance(x, Tensor)  # noqa: S101 - narrows the type
    arriving = edges[0]
    budget = max(1, _MAX_MESSAGE_BYTES // (x.shape[1] * x.element_size()))
    wanted = torch.arange(0, len(arriving.columns), budget, device=x.device)
    starts = torch.unique(torch.searchsorted(arriving.pointers, wanted, right=True) - 1).tolist()
    parts = []
    for first, last in zip(starts, [*starts[1:], len(arriving)], strict=True):
        nodes = torch.arange(first, last, device=x.device)
        some = arriving.chosen(nodes)
        parts.append(conv((x, x[first:last]), torch.stack([some.columns, some.rows])))
    return torch.cat(parts)
