"""Forgetting nodes, edges or features of one graph: choosing them, and what each partition sees of the graph from then on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from erasure.data.contract import Splitter
from erasure.data.dataset import Dataset
from erasure.data.graph_strata import bridges, cut_nodes, foreign_neighbours, undirected_degrees
from erasure.data.node_names import NodeName, called, numbers_of, written
from erasure.data.partitions import ALL, ids_of
from erasure.data.selection import divided, portion
from erasure.errors import Diagnostic, InvalidParameters, PartitionError
from erasure.training.graph_requests import FIRST_PAIR, NO_SAMPLE, GraphName, RequestedGraph, RequestKind, edge_pairs, pair_keys
from erasure.training.graphs import NodeColumn
from erasure.training.links import LinkColumn, request_of
from erasure.types import NonNegativeInt, OpenFraction, Partition, PositiveInt, Source

__all__ = ["AffectedSplitter", "GraphEdgesSplitter", "GraphNodesSplitter", "GraphRequestSplitter", "SeenInSplitter"]

Stratum: TypeAlias = Literal["random", "high-degree", "low-degree", "bridge", "between-classes"]
"""Which nodes are chosen."""

EdgeStratum: TypeAlias = Literal["random", "high-degree", "low-degree", "bridge", "between-classes", "planted", "all"]
"""Which edges are chosen."""

_ONLY: Mapping[str, str] = {
    "bridge": "hold parts of the graph together",
    "between-classes": "are between two classes",
    "planted": "were planted",
}
"""Strata that a node or an edge belongs to or not, and what it is to belong to them."""


@dataclass(frozen=True, kw_only=True)
class _Chosen(Splitter):
    """Some nodes or edges of a graph by their place in it, and the others."""

    stratum: EdgeStratum = "random"
    n: PositiveInt | None = None
    percentage: OpenFraction | None = None

    def _sized(self, available: int, what: str) -> int:
        size = portion(available, self.percentage) if self.percentage is not None else self.n or 0
        if not 0 < size <= available:
            raise PartitionError(f'{size} {what} asked for, but "{self.ref_data}" has {available}')
        return size

    def _check_size(self) -> None:
        if (self.n is None) == (self.percentage is None):
            raise InvalidParameters([Diagnostic("give either n or percentage", path=f"{type(self).__name__}.n")])

    def _cut(self, ids: Tensor, score: Tensor, generator: np.random.Generator, what: str) -> tuple[Tensor, Tensor]:
        """The ids of the highest scores, ties at random, and the others in their order."""
        size = self._sized(len(ids), what)
        order = torch.from_numpy(generator.permutation(len(ids)))
        if self.stratum in _ONLY:
            n_there = int((score > 0).sum())
            if size > n_there:
                raise PartitionError(
                    f'{size} {what} asked for, but only {n_there} of the {len(ids)} of "{self.ref_data}" {_ONLY[self.stratum]}'
                )
        if self.stratum != "random":
            order = order[torch.argsort(score[order], descending=self.stratum != "low-degree", stable=True)]
        chosen = ids[order[:size]]
        return chosen, ids[~torch.isin(ids, chosen)]


@dataclass(frozen=True, kw_only=True)
class GraphNodesSplitter(_Chosen):
    """Nodes of a graph by their place in it, and the others.

    Where samples are links, both parts are nodes for a ``LinkRequest``, and nothing is predicted for them.

    Args:
        parts_names: Names of the first and the second part; ``-`` throws a part away.
        ref_data: The nodes to choose from; where samples are links, those links at whose ends they are.
        stratum: ``random``; ``high-degree`` and ``low-degree``: those with the most or fewest neighbours; ``bridge``: nodes without
            which their part of the graph falls apart, at random; ``between-classes``: those with the largest share of neighbours of
            another class. Ties are broken at random.
        n: How many are chosen.
        percentage: In its place, the fraction of ``ref_data`` that is.
        nodes: In its place, the nodes by what the data calls them, or by their numbers where it calls them nothing.
    """

    stratum: Stratum = "random"
    nodes: tuple[NodeName, ...] | None = field(default=None, metadata={"address": "changed"})

    def check(self) -> None:
        """One way to say which."""
        if self.nodes is None:
            self._check_size()
        elif self.n is not None or self.percentage is not None or not self.nodes:
            raise InvalidParameters([Diagnostic("give either n or percentage, or one or more nodes", path="GraphNodes.nodes")])

    def split(self, data: Dataset, partitions: Mapping[str, Tensor], generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Score and cut."""
        graph, ids = _graph(data, links=True), ids_of(partitions, self.ref_data)
        _require_nodes(ids, self.ref_data)
        if isinstance(data.x, LinkColumn):
            nodes = torch.unique(data.x.pairs[ids % data.x.n_samples])
            ids = nodes + NO_SAMPLE
        else:
            nodes = ids % len(graph)
        if self.nodes is not None:
            asked = torch.unique(numbers_of(self.nodes, graph, data.name))
            missing = asked[~torch.isin(asked, nodes)]
            if len(missing):
                raise PartitionError(f'{called(missing, graph)} is no node of "{self.ref_data}", though one of the graph')
            return divided(ids, torch.isin(nodes, asked))
        pairs = edge_pairs(graph)[_left(data)]
        if self.stratum == "bridge":
            score = cut_nodes(pairs, len(graph))[nodes].double()
        elif self.stratum == "between-classes":
            score = foreign_neighbours(pairs, _classes(data, graph))[nodes]
        else:
            score = undirected_degrees(pairs, len(graph))[nodes].double()
        return self._cut(ids, score, generator, "nodes")


@dataclass(frozen=True, kw_only=True)
class GraphEdgesSplitter(_Chosen):
    """Edges of a graph, and the other edges.

    An edge is a pair of nodes: both its directions and all its copies are one. Self-loops are not among them. After a request, only the
    edges that it has left are there to choose from.

    Args:
        parts_names: Names of the first and the second part, both of edges; ``-`` throws a part away.
        ref_data: What to choose from: nodes, for the edges that have an end among them (``all``: all edges), or edges.
        stratum: ``random``; ``high-degree`` and ``low-degree``: by the smaller number of neighbours of both ends; ``bridge``: edges
            without which their part of the graph falls apart, at random; ``between-classes``: edges whose ends differ in class, at random;
            ``planted``: those that ``PlantEdges`` has put in, at random; ``all``: every edge, without a size. Ties are broken at random.
        n: How many are chosen; of ``planted``, all by default.
        percentage: In its place, the fraction of what there is to choose from, of ``planted`` the fraction of those.
        pairs: In its place, the edges by what the data calls both ends, or by their numbers where it calls them nothing, in any order;
            each must be there, and be named once.
        both_ends: Of ``ref_data``, only edges with both ends among its nodes.
    """

    version: ClassVar[int] = 2

    pairs: tuple[tuple[NodeName, NodeName], ...] | None = None
    both_ends: bool = field(default=False, metadata={"address": "changed"})

    def check(self) -> None:
        """One way to say which."""
        sized = self.n is not None or self.percentage is not None
        if self.stratum == "all" and (sized or self.pairs is not None):
            raise InvalidParameters(
                [Diagnostic("all edges are all: leave n, percentage and pairs out", path="GraphEdges.stratum")]
            )
        if self.pairs is None and self.stratum in {"planted", "all"} and not sized:
            return
        if self.pairs is None:
            self._check_size()
        elif self.n is not None or self.percentage is not None or not self.pairs:
            raise InvalidParameters([Diagnostic("give either n or percentage, or one or more pairs", path="GraphEdges.pairs")])

    def split(self, data: Dataset, partitions: Mapping[str, Tensor], generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Choose edges."""
        graph = _graph(data)
        pairs, left = edge_pairs(graph), _left(data)
        there = self._there(ids_of(partitions, self.ref_data), pairs, len(graph))
        there = there[left[there - NO_SAMPLE]]
        if self.pairs is not None:
            chosen = self._named(pairs, there - NO_SAMPLE, graph, data.name) + NO_SAMPLE
            return chosen, there[~torch.isin(there, chosen)]
        if self.stratum == "all":
            return there, there[:0]
        among = pairs[there - NO_SAMPLE]
        if self.stratum == "planted":
            return self._planted(data, graph, there, among, generator)
        if self.stratum == "between-classes":
            y = _classes(data, graph)
            score = (y[among[:, 0]] != y[among[:, 1]]).double()
        elif self.stratum == "bridge":
            holding = torch.zeros(len(pairs), dtype=torch.bool).masked_scatter(left, bridges(pairs[left], len(graph)))
            score = holding[there - NO_SAMPLE].double()
        else:
            degrees = undirected_degrees(pairs[left], len(graph))
            score = degrees[among].min(1).values.double() if len(among) else among[:, 0].double()
        return self._cut(there, score, generator, "edges")

    def _planted(
        self, data: Dataset, graph: NodeColumn, there: Tensor, among: Tensor, generator: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Planted edges, all or some of them."""
        if graph.planted is None:
            raise PartitionError(
                f'"{data.name}" has no planted edges; put a Poisoned source with the corruption PlantEdges around its source'
            )
        known = pair_keys(graph.edge_index[:, graph.planted], len(graph))
        of_those = torch.isin(pair_keys(among.T, len(graph)), known)
        if self.n is None and self.percentage is None:
            return there[of_those], there[~of_those]
        chosen, _ = self._cut(there[of_those], of_those[of_those].double(), generator, "planted edges")
        return chosen, there[~torch.isin(there, chosen)]

    def _there(self, ids: Tensor, pairs: Tensor, n_nodes: int) -> Tensor:
        """The edges to choose from."""
        if len(ids) and bool((ids >= NO_SAMPLE).all()):
            _require_edges(ids, self.ref_data)
            return ids
        if self.ref_data == ALL:
            return torch.arange(len(pairs)) + NO_SAMPLE
        of_nodes = torch.isin(pairs, ids % n_nodes)
        return (of_nodes.all(1) if self.both_ends else of_nodes.any(1)).nonzero().flatten() + NO_SAMPLE

    def _named(self, pairs: Tensor, there: Tensor, graph: NodeColumn, called: str) -> Tensor:
        """Numbers of the edges that ``self.pairs`` names."""
        n_nodes = len(graph)
        asked = numbers_of([end for pair in self.pairs or () for end in pair], graph, called).reshape(-1, 2)
        loops = asked[:, 0] == asked[:, 1]
        if bool(loops.any()):
            raise PartitionError(f"{written(asked[loops], graph)} has the same node at both ends; such edges are not forgotten")
        keys = pair_keys(asked.T, n_nodes)
        _, inverse, counts = torch.unique(keys, return_inverse=True, return_counts=True)
        if bool((counts > 1).any()):
            twice = asked[counts[inverse] > 1]
            raise PartitionError(f"an edge is removed once, whichever way it is written: {written(twice, graph)}")
        there = there.sort().values
        known = pair_keys(pairs[there].T, n_nodes)
        absent = ~torch.isin(keys, known)
        if bool(absent.any()):
            raise PartitionError(f'"{self.ref_data}" has no edge {written(asked[absent], graph)}')
        return there[torch.searchsorted(known, keys)] if len(known) else there


@dataclass(frozen=True, kw_only=True)
class GraphRequestSplitter(Splitter):
    """What is to be forgotten of a graph: nodes, edges, or the features of nodes.

    The training set goes on seeing the graph as it was. The retain set, and the partitions that are ``deployed``, see the graph after the
    request from now on: gold is trained and every model is evaluated without anything that was forgotten.

    - ``nodes``: they go, with their features and all their edges. Forget: those of them in ``ref_data``; retain: the others.
    - ``edges``: they go, in both directions. Forget: training nodes at an end of one; retain: all training nodes.
    - ``features_of``: features of nodes become 0, and their edges stay. Forget: those of them in ``ref_data``; retain: all training nodes.

    The forget set is seen in the graph as it was; see :class:`SeenInSplitter` for the others.

    Requests follow one another: a later one takes the retain set of the one before as its training set, and what that has left as its
    graph. ``Sequential`` applies a method to one after the other. A splitter that stands between two requests is about the first one.

    Args:
        parts_names: Names of the forget and of the retain set.
        ref_data: The training set; of a later request, the retain set of the one before.
        nodes: Nodes to forget.
        edges: Edges to forget, as ``GraphEdges`` cuts them.
        features_of: Nodes whose features are forgotten.
        columns: Which of their features, counted from 0; all by default.
        deployed: Partitions that are seen in the graph after the request from now on.
    """

    source: ClassVar[Source | None] = Source(
        paper="Chen et al., CCS 2022 (GraphEraser); Wu et al., WWW 2023, arXiv:2304.02835 (GIF)",
        deviations=(
            "Gold never sees the labels of forgotten nodes, and forgets the very nodes that the method forgets; the code in circulation "
            "does neither.",
            "All edges of forgotten nodes go; the code in circulation keeps most of them.",
        ),
    )

    parts_names: tuple[str, str] = ("forget", "retain")
    ref_data: Partition = "train"
    nodes: Partition | None = None
    edges: Partition | None = None
    features_of: Partition | None = None
    columns: tuple[NonNegativeInt, ...] | None = None
    deployed: tuple[Partition, ...] = ("test",)

    def check(self) -> None:
        """One kind of request."""
        given = [each for each in (self.nodes, self.edges, self.features_of) if each is not None]
        if len(given) != 1:
            message = "say what is forgotten: a partition of nodes, or of edges, or features_of a partition of nodes"
            raise InvalidParameters([Diagnostic(message, path="GraphRequest.nodes")])
        if self.columns is not None and (self.features_of is None or not self.columns):
            raise InvalidParameters(
                [Diagnostic("columns are those of features_of; name one at least", path="GraphRequest.columns")]
            )

    @property
    def request(self) -> RequestKind:
        """What is forgotten."""
        return "nodes" if self.nodes is not None else "edges" if self.edges is not None else "features"

    @property
    def parts(self) -> tuple[str, ...]:
        """Forget, retain and the deployed partitions."""
        return (*self.parts_names, *self.deployed)

    def redefines(self) -> tuple[str, ...]:
        """The deployed partitions: their samples are then others, on purpose."""
        return self.deployed

    def settles(self) -> tuple[str, ...]:
        """What is forgotten must not be another partition later."""
        return tuple(name for name in (self.nodes, self.edges, self.features_of) if name is not None)

    def split(self, data: Dataset, partitions: Mapping[str, Tensor], generator: np.random.Generator) -> tuple[Tensor, ...]:
        """Forget, retain, and each deployed partition."""
        graph = self._requested(data, partitions)
        ids = ids_of(partitions, self.ref_data)
        deployed = {name: ids_of(partitions, name) for name in self.deployed}
        for name, each in {self.ref_data: ids, **deployed}.items():
            _require_nodes(each, name)
        if not torch.equal(ids, graph.seen_in(ids, "before")):
            raise PartitionError(
                f'"{self.ref_data}" is not seen in the graph before this request; a later request takes the retain set of the one before '
                "as its ref_data"
            )
        is_forgotten = graph.is_forgotten[graph.nodes_of(ids)]
        if self.request == "nodes":
            forget, retain = divided(ids, is_forgotten)
            for name, each in deployed.items():
                n_gone = int(graph.is_forgotten[graph.nodes_of(each)].sum())
                if n_gone:
                    raise PartitionError(
                        f'{n_gone} of the forgotten nodes are in "{name}", which is evaluated without them; forget training nodes, or '
                        f"leave {name} out of deployed"
                    )
        else:
            forget, retain = ids[graph.affected(0)[graph.nodes_of(ids)]], ids
        if not len(forget):
            what = {"nodes": "are forgotten", "edges": "are an end of a forgotten edge", "features": "lose features"}[
                self.request
            ]
            raise PartitionError(
                f'no nodes of "{self.ref_data}" {what}, and forgetting is measured on those; choose what to forget among them '
                f'(ref_data "{self.ref_data}")'
            )
        if not len(retain):
            raise PartitionError(f'all nodes of "{self.ref_data}" are forgotten: nothing is left to train on')
        return (forget, graph.seen_in(retain, "after"), *(graph.seen_in(each, "after") for each in deployed.values()))

    def prepared(self, data: Dataset, partitions: Mapping[str, Tensor]) -> Dataset:
        """The data set with a sample for each node in each graph."""
        graph = self._requested(data, partitions)
        again = {
            name: values[: graph.n_nodes].repeat(graph.n_graphs, *[1] * (values.ndim - 1))
            for name in ("y", "z", "clean_y", "corrupted")
            if (values := getattr(data, name)) is not None
        }
        return replace(data, x=graph, **again)

    def _requested(self, data: Dataset, partitions: Mapping[str, Tensor]) -> RequestedGraph:
        graph = _graph(data)
        if graph.background is not None:
            raise PartitionError(
                f'"{data.name}" shows each partition its own nodes; a GraphRequest needs the whole graph: give the source '
                '"forgets": "request"'
            )
        earlier = data.x if isinstance(data.x, RequestedGraph) else None
        none = torch.empty(0, dtype=torch.int64)
        if self.edges is not None:
            ids = ids_of(partitions, self.edges)
            if len(ids) and bool((ids < NO_SAMPLE).any()):
                raise PartitionError(f'"{self.edges}" is a partition of nodes; cut edges with GraphEdges')
            _require_edges(ids, self.edges)
            pairs = edge_pairs(graph)[ids - NO_SAMPLE]
            asked = RequestedGraph(graph, "edges", none, pairs, earlier=earlier)
            absent = ~torch.isin(pair_keys(pairs.T, len(graph)), pair_keys(asked.edges_before, len(graph)))
            self._refuse_absent(written(pairs[absent], graph), int(absent.sum()))
            return asked
        name = self.nodes or self.features_of or ""
        nodes = ids_of(partitions, name)
        _require_nodes(nodes, name)
        columns = None if self.columns is None else torch.tensor(self.columns, dtype=torch.int64)
        if columns is not None and int(columns.max()) >= graph.n_features:
            raise PartitionError(f'"{data.name}" has {graph.n_features} features, there is no column {int(columns.max())}')
        asked = RequestedGraph(graph, self.request, nodes % len(graph), none.reshape(0, 2), columns, earlier)
        absent = ~torch.isin(asked.nodes, asked.nodes_before)
        self._refuse_absent(called(asked.nodes[absent], graph), int(absent.sum()))
        return asked

    def _refuse_absent(self, names: str, n: int) -> None:
        if n:
            name = self.nodes or self.edges or self.features_of
            raise PartitionError(
                f'{n} of "{name}" cannot be forgotten, since the training graph does not have them before this request ({names}): an '
                "earlier one took them out, or they arrive after the training"
            )


@dataclass(frozen=True, kw_only=True)
class SeenInSplitter(Splitter):
    """A partition of nodes or links as it is seen in another graph of a request.

    ``before``: with all that is forgotten, as for one who puts forgotten nodes or edges back; ``after``: without it, as deployed;
    ``alone``: by the nodes' own features, without any edge. The second part is empty.

    Args:
        parts_names: Name of the partition in that graph, and ``-``.
        ref_data: The nodes, in whichever graph.
        graph: Which graph.
    """

    graph: GraphName

    def shows_again(self) -> str:
        """The same nodes or links."""
        return self.ref_data

    def split(self, data: Dataset, partitions: Mapping[str, Tensor], generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """The same nodes or links in the graph."""
        requested, ids = _requested(data, type(self).__name__), ids_of(partitions, self.ref_data)
        _require_samples(ids, requested, self.ref_data)
        return requested.seen_in(ids, self.graph), ids[:0]


@dataclass(frozen=True, kw_only=True)
class AffectedSplitter(Splitter):
    """The nodes or links whose predictions a request can change by itself, and the others; a link is inside if one of its ends is.

    Outside, a model with the same weights says the same before and after the request. A GCN of L layers with symmetric normalisation
    reaches L + 1 hops from forgotten nodes and L from forgotten edges and features; other convolutions reach L, and L - 1 from edges.

    Args:
        parts_names: Names of the part inside and of the part outside.
        ref_data: The nodes to cut.
        hops: How far a request reaches; 0 are the forgotten nodes, the ends of forgotten edges, or the nodes that lose features.
    """

    hops: NonNegativeInt

    def split(self, data: Dataset, partitions: Mapping[str, Tensor], generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Cut by distance."""
        requested, ids = _requested(data, type(self).__name__), ids_of(partitions, self.ref_data)
        _require_samples(ids, requested, self.ref_data)
        return divided(ids, requested.affected(self.hops)[ids % requested.n_samples])


def _classes(data: Dataset, graph: NodeColumn) -> Tensor:
    """The class of each node."""
    if isinstance(data.x, LinkColumn):
        raise PartitionError(
            f'the samples of "{data.name}" are links, whose classes are not those of nodes; take another stratum'
        )
    if data.task == "multilabel":
        raise PartitionError(f'the nodes of "{data.name}" have several labels each; between-classes needs one class a node')
    return data.y[: len(graph)]


def _graph(data: Dataset, *, links: bool = False) -> NodeColumn:
    """The whole graph; with ``links`` also that of links."""
    column = data.x.graph if links and isinstance(data.x, LinkColumn) else data.x
    column = column.graph if isinstance(column, RequestedGraph) else column
    if not isinstance(column, NodeColumn):
        raise PartitionError(f'the samples of "{data.name}" are not the nodes of one graph')
    return column


def _left(data: Dataset) -> Tensor:
    """Which edges, in the order of ``edge_pairs``, all requests so far have left; ``(E,)``, bool."""
    graph, requested = _graph(data, links=True), data.x.graph if isinstance(data.x, LinkColumn) else data.x
    pairs = edge_pairs(graph)
    if not isinstance(requested, RequestedGraph):
        return torch.ones(len(pairs), dtype=torch.bool)
    return torch.isin(pair_keys(pairs.T, len(graph)), pair_keys(requested.edges_after, len(graph)))


def _requested(data: Dataset, name: str) -> RequestedGraph | LinkColumn:
    requested = request_of(data.x)
    if requested is None:
        needed = "LinkRequest" if isinstance(data.x, LinkColumn) else "GraphRequest"
        raise PartitionError(f"{name.removesuffix('Splitter')} needs a {needed} before it in the list of partitions")
    return requested


def _require_samples(ids: Tensor, requested: RequestedGraph | LinkColumn, name: str) -> None:
    if isinstance(requested, RequestedGraph):
        _require_nodes(ids, name)


def _require_nodes(ids: Tensor, name: str) -> None:
    if len(ids) and int(ids.max()) >= NO_SAMPLE:
        raise PartitionError(f'"{name}" is a partition of edges, and nodes are asked for')


def _require_edges(ids: Tensor, name: str) -> None:
    if len(ids) and int(ids.max()) >= FIRST_PAIR:
        raise PartitionError(f'"{name}" is a partition of pairs without an edge, and edges are asked for')
