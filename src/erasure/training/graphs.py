"""Graphs on the device: columns that keep all of them in flat tensors, and the batches cut from them by index arithmetic."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from erasure.errors import MissingDependency
from erasure.training.propagation import propagation
from erasure.training.sparse_rows import SparseRows

__all__ = ["GraphBatch", "GraphColumn", "NodeBatch", "NodeColumn", "Subgraph", "normalised_edges", "one_hot", "torch_geometric"]

_MAX_VIEWS = 4
"""Views of a graph that are kept: one for each of the usual partitions."""

_MAX_VIEW_BYTES = 1 << 28
"""Features in views that are kept; of larger graphs only the last view is."""


def torch_geometric(module: str, purpose: str) -> Any:
    """The module ``torch_geometric.<module>``, imported now.

    Raises:
        MissingDependency: If it is not installed; says what needs it.
    """
    with warnings.catch_warnings():
        # Importing it makes torch complain about torch.jit, which is none of the user's business.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return importlib.import_module(f"torch_geometric.{module}")
        except ModuleNotFoundError as error:
            if error.name != "torch_geometric":
                raise
            raise MissingDependency("torch_geometric", "graph", purpose) from error


@dataclass(frozen=True, eq=False)
class GraphBatch:
    """Some graphs as one graph whose parts are not connected; a sample is a graph.

    Args:
        x: Node features, shape ``(n, F)``, float32.
        edge_index: From and to which row of ``x`` each edge goes, shape ``(2, m)``, int64.
        edge_attr: Edge features, shape ``(m, D)``, float32; None if there are none.
        batch: Which graph each node belongs to, shape ``(n,)``, int64, ascending.
        n_graphs: Number of graphs; each has at least one node.
    """

    x: Tensor
    edge_index: Tensor
    edge_attr: Tensor | None
    batch: Tensor
    n_graphs: int

    def __len__(self) -> int:
        return self.n_graphs

    def __getitem__(self, part: slice) -> GraphBatch:
        """Some of the graphs, in their order: a slice without a step."""
        first, last, _ = part.indices(self.n_graphs)
        nodes = (self.batch >= first) & (self.batch < last)
        edges = nodes.index_select(0, self.edge_index[0])
        position = nodes.cumsum(0) - 1
        return GraphBatch(
            x=self.x[nodes],
            edge_index=position[self.edge_index[:, edges]],
            edge_attr=None if self.edge_attr is None else self.edge_attr[edges],
            batch=self.batch[nodes] - first,
            n_graphs=max(0, last - first),
        )

    def to(self, device: torch.device | str) -> GraphBatch:
        """The same batch on ``device``."""
        edge_attr = None if self.edge_attr is None else self.edge_attr.to(device)
        x, edge_index, batch = (t.to(device) for t in (self.x, self.edge_index, self.batch))
        return replace(self, x=x, edge_index=edge_index, edge_attr=edge_attr, batch=batch)

    def messages(self) -> SparseRows:
        """The weights of a GCN's edges, self-loops among them."""
        return SparseRows.of_edges(*normalised_edges(self.edge_index, len(self.x), self.x.dtype), len(self.x))


@dataclass(frozen=True, eq=False)
class NodeBatch:
    """A graph and those of its nodes whose logits are wanted; a sample is a node.

    Args:
        x: Features of all nodes of the graph, shape ``(n, F)``, float32.
        edge_index: From and to which row of ``x`` each edge goes, shape ``(2, m)``, int64.
        edge_attr: Edge features, shape ``(m, D)``, float32; None if there are none.
        rows: The samples as rows of ``x``, shape ``(B,)``, int64.
        view: What the graph was cut from, for what has been computed of it already; None if nothing has.
        weighted: Whether the one edge feature is the edge's weight.
    """

    x: Tensor
    edge_index: Tensor
    edge_attr: Tensor | None
    rows: Tensor
    view: Subgraph | None = None
    weighted: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def n_nodes(self) -> int:
        """Nodes of the graph."""
        return len(self.x)

    def sparse(self) -> SparseRows | None:
        """The features without their zeros, if nearly all of them are zero and known in advance; None otherwise."""
        return self.view.sparse if self.view is not None and self.view.x is self.x else None

    def messages(self) -> SparseRows:
        """The weights of a GCN's edges, self-loops among them."""
        if self.view is not None and self.view.edge_index is self.edge_index:
            return self.view.messages
        weights = edge_weights(self.edge_attr, self.weighted)
        return SparseRows.of_edges(*normalised_edges(self.edge_index, self.n_nodes, self.x.dtype, weights), self.n_nodes)

    def __getitem__(self, part: slice) -> NodeBatch:
        """The same graph with fewer samples."""
        return replace(self, rows=self.rows[part])

    def to(self, device: torch.device | str) -> NodeBatch:
        """The same batch on ``device``."""
        edge_attr = None if self.edge_attr is None else self.edge_attr.to(device)
        x, edge_index, rows = (t.to(device) for t in (self.x, self.edge_index, self.rows))
        return NodeBatch(x, edge_index, edge_attr, rows, weighted=self.weighted)


def normalised_edges(
    edge_index: Tensor, n_nodes: int, dtype: torch.dtype, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Edges with a self-loop at every node, and their weights by the degrees of both ends, as a GCN has them.

    With ``weights`` of the edges, ``(m,)``, a degree is their sum; that of a new self-loop is 1.
    """
    gcn_norm = torch_geometric("nn.conv.gcn_conv", "a graph network").gcn_norm
    normalised: tuple[Tensor, Tensor] = gcn_norm(edge_index, weights, num_nodes=n_nodes, dtype=dtype)
    return normalised


def edge_weights(edge_attr: Tensor | None, weighted: bool) -> Tensor | None:
    """Weight of each edge, ``(m,)``; None where edges count alike."""
    return edge_attr[:, 0] if weighted and edge_attr is not None else None


@dataclass(frozen=True, eq=False)
class GraphColumn:
    """Many small graphs, one after the other; a sample is a graph.

    Args:
        x: Node features of all graphs, shape ``(n, F)``, float32; with ``categories``, codes of integer type, shape ``(n, C)``.
        node_ptr: Graph i has the nodes ``node_ptr[i]`` to ``node_ptr[i + 1] - 1``; shape ``(N + 1,)``, int64.
        edge_index: Edges of all graphs, their nodes counted within their own graph; shape ``(2, m)``, int64.
        edge_ptr: Graph i has the edges ``edge_ptr[i]`` to ``edge_ptr[i + 1] - 1``; shape ``(N + 1,)``, int64.
        edge_attr: Edge features, shape ``(m, D)``, float32, or codes; None if there are none.
        categories: How many values each column of ``x`` takes, where they are codes; a batch has them one-hot.
        edge_categories: The same for ``edge_attr``.
    """

    x: Tensor
    node_ptr: Tensor
    edge_index: Tensor
    edge_ptr: Tensor
    edge_attr: Tensor | None = None
    categories: tuple[int, ...] = ()
    edge_categories: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.node_ptr) - 1

    @property
    def n_features(self) -> int:
        """Width of the node features as a model sees them."""
        return sum(self.categories) if self.categories else self.x.shape[1]

    @property
    def n_edge_features(self) -> int:
        """Width of the edge features as a model sees them; 0 if there are none."""
        if self.edge_attr is None:
            return 0
        return sum(self.edge_categories) if self.edge_categories else self.edge_attr.shape[1]

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Width of the node features, as ``x_shape`` of a data set has it."""
        return (self.n_features,)

    @cached_property
    def _counts(self) -> tuple[Tensor, Tensor]:
        return self.node_ptr.diff(), self.edge_ptr.diff()

    def gather(self, ids: Tensor) -> GraphBatch:
        """The graphs ``ids`` side by side.

        **Cost**: a fixed number of tensor operations however many graphs; on an accelerator one wait, for the size of the batch.
        """
        node_counts, edge_counts = (counts.index_select(0, ids) for counts in self._counts)
        n_nodes, n_edges = torch.stack((node_counts.sum(), edge_counts.sum())).tolist()
        graphs = torch.arange(len(ids), device=ids.device)
        first_node = node_counts.cumsum(0) - node_counts
        owner, nodes = _spans(graphs, self.node_ptr.index_select(0, ids) - first_node, node_counts, n_nodes)
        first_edge = edge_counts.cumsum(0) - edge_counts
        edge_owner, edges = _spans(graphs, self.edge_ptr.index_select(0, ids) - first_edge, edge_counts, n_edges)
        edge_attr = None if self.edge_attr is None else one_hot(self.edge_attr.index_select(0, edges), self.edge_categories)
        return GraphBatch(
            x=one_hot(self.x.index_select(0, nodes), self.categories),
            edge_index=self.edge_index.index_select(1, edges) + first_node.index_select(0, edge_owner),
            edge_attr=edge_attr,
            batch=owner,
            n_graphs=len(ids),
        )

    def to(self, device: torch.device) -> GraphColumn:
        """The same column on ``device``."""
        x, node_ptr, edge_index, edge_ptr = (t.to(device) for t in (self.x, self.node_ptr, self.edge_index, self.edge_ptr))
        edge_attr = None if self.edge_attr is None else self.edge_attr.to(device)
        return replace(self, x=x, node_ptr=node_ptr, edge_index=edge_index, edge_ptr=edge_ptr, edge_attr=edge_attr)


def _spans(graphs: Tensor, shift: Tensor, counts: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """For each of ``total`` rows of a batch: the graph it belongs to, and the row of the column that it is."""
    owner = torch.repeat_interleave(graphs, counts, output_size=total)
    return owner, torch.arange(total, device=graphs.device) + shift.index_select(0, owner)


@dataclass(frozen=True, eq=False)
class NodeColumn:
    """One graph; a sample is a node.

    What forgetting a node means depends on ``background``:

    - None: the graph is whole for everyone, and only whose labels are learned from differs (the transductive setting of the
      literature). Forgetting is then forgetting *labels*; the features and edges of a forgotten node still reach its neighbours.
    - A mask: a batch is computed on the subgraph of the background and of the partition at hand; features and edges of all other
      nodes are not there. Forgetting is then forgetting *nodes*: a model that is retrained on the retain partition has seen nothing
      of the forgotten ones. Test nodes are measured on the background and themselves, every model on the same graph.

    Args:
        x: Node features, shape ``(N, F)``, float32.
        edge_index: From and to which node each edge goes, shape ``(2, m)``, int64.
        edge_attr: Edge features, shape ``(m, D)``, float32; None if there are none.
        background: Nodes that are always part of the graph, shape ``(N,)``, bool: those no model is trained on. None for all.
        counts_degrees: Whether ``x`` is the nodes' one-hot degree. It is then counted in the subgraph that a partition sees, so that the
            edges to forgotten nodes are in nobody's features; only the number of columns comes from the whole graph.
        propagate: If not 0, a sample is no node of a graph but a row of numbers: its features after this many means over the neighbours and
            the node itself, in the graph that it is seen in. Models of rows then are graph models (SGC).
        planted: Which edges were put in on purpose to make the graph worse, shape ``(m,)``, bool; None if none is known. No model sees it.
        names: What the data calls each node; empty where nodes are called by their numbers.
        later: Nodes that arrive after the training, shape ``(N,)``, bool (the inductive setting); None for none. Samples of which none is
            among them are seen in the graph without these nodes and their edges, others in the whole graph. Not with a background.
        weighted: Whether ``edge_attr`` has one column, the weight of each edge, above 0. A GCN's messages are multiplied by it.
    """

    x: Tensor
    edge_index: Tensor
    edge_attr: Tensor | None = None
    background: Tensor | None = None
    counts_degrees: bool = False
    propagate: int = 0
    planted: Tensor | None = None
    names: tuple[str, ...] = ()
    later: Tensor | None = None
    weighted: bool = False
    _views: list[tuple[Tensor | None, tuple[int, ...], Subgraph]] = field(default_factory=list, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.x)

    @property
    def n_features(self) -> int:
        """Width of the node features."""
        return self.x.shape[1]

    @property
    def n_edge_features(self) -> int:
        """Width of the edge features; 0 if there are none."""
        return 0 if self.edge_attr is None else self.edge_attr.shape[1]

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Width of the node features, as ``x_shape`` of a data set has it."""
        return (self.n_features,)

    @property
    def is_averaged(self) -> bool:
        """Whether samples are averages that a request changes near it only: of features that are given, by a graph that is there."""
        return bool(self.propagate) and not self.counts_degrees and self.later is None

    def gather(self, ids: Tensor) -> NodeBatch | Tensor:
        """The nodes ``ids``, in the graph of the background and themselves."""
        return self.within(ids).gather(ids)

    def within(self, ids: Tensor) -> Subgraph:
        """The column of a partition: whatever batches are cut from it, they see the background and the whole partition.

        Args:
            ids: The partition, shape ``(n,)``, int64.
        """
        wanted = self._wanted(ids)
        written = tuple(0 if t is None else t._version for t in (self.x, self.edge_index, self.edge_attr, self.background))
        for seen, version, view in self._views:
            is_same = seen is wanted or (seen is not None and wanted is not None and torch.equal(seen, wanted))
            if is_same and version == written:
                return view
        view = self._view(wanted)
        keep = max(0, min(_MAX_VIEWS - 1, _MAX_VIEW_BYTES // max(1, view.x.nbytes) - 1))
        self._views[:] = [(None if wanted is None else wanted.clone(), written, view), *self._views[:keep]]
        return view

    def _wanted(self, ids: Tensor) -> Tensor | None:
        """Nodes that are seen besides the background; None for all."""
        if self.later is None or bool(self.later[ids].any()):
            return None if self.background is None else ids
        return (~self.later).nonzero().flatten()

    def _view(self, ids: Tensor | None) -> Subgraph:
        if ids is None:
            return Subgraph(self.x, self.edge_index, self.edge_attr, propagate=self.propagate, weighted=self.weighted)
        background = (
            self.background if self.background is not None else torch.zeros(len(self), dtype=torch.bool, device=ids.device)
        )
        visible = background.index_fill(0, ids, True)
        edges = visible[self.edge_index].all(0)
        row_of = visible.cumsum(0) - 1
        edge_index, x = row_of[self.edge_index[:, edges]], self.x[visible]
        if self.counts_degrees:
            degrees = torch.bincount(edge_index[1], minlength=len(x)).clamp_(max=self.n_features - 1)
            x = one_hot(degrees[:, None], (self.n_features,)).to(x.dtype)
        return Subgraph(
            x=x,
            edge_index=edge_index,
            edge_attr=None if self.edge_attr is None else self.edge_attr[edges],
            row_of=torch.where(visible, row_of, -1),
            propagate=self.propagate,
            weighted=self.weighted,
        )

    def trained_on(self, ids: Tensor) -> NodeColumn:
        """The same column when the original model is trained on ``ids``: all other nodes become the background."""
        if self.background is None:
            return self
        return replace(self, background=torch.ones_like(self.background).index_fill(0, ids, False))

    def to(self, device: torch.device) -> NodeColumn:
        """The same column on ``device``."""
        own = (self.edge_attr, self.background, self.planted, self.later)
        edge_attr, background, planted, later = (None if t is None else t.to(device) for t in own)
        return NodeColumn(
            self.x.to(device),
            self.edge_index.to(device),
            edge_attr,
            background,
            self.counts_degrees,
            self.propagate,
            planted,
            self.names,
            later,
            self.weighted,
        )


@dataclass(frozen=True, eq=False)
class Subgraph:
    """What a partition sees of a :class:`NodeColumn`, and what has been computed of it: once, whatever batches are cut from it.

    Args:
        x: Features of the visible nodes.
        edge_index: Edges between them, as rows of ``x``.
        edge_attr: Features of those edges.
        row_of: Row of each node of the whole graph, -1 for those that cannot be seen; None if all can.
        propagate: As for :class:`NodeColumn`.
        weighted: As for :class:`NodeColumn`.
    """

    x: Tensor
    edge_index: Tensor
    edge_attr: Tensor | None = None
    row_of: Tensor | None = None
    propagate: int = 0
    weighted: bool = False

    def __len__(self) -> int:
        return len(self.x) if self.row_of is None else len(self.row_of)

    def gather(self, ids: Tensor) -> NodeBatch | Tensor:
        """The nodes ``ids``, which must be visible; or their propagated features."""
        rows = ids if self.row_of is None else self.row_of.index_select(0, ids)
        if self.propagate:
            return self.propagated.index_select(0, rows)
        return NodeBatch(self.x, self.edge_index, self.edge_attr, rows, view=self, weighted=self.weighted)

    @cached_property
    def propagated(self) -> Tensor:
        """Features after ``propagate`` means over the nodes with an edge to a node, and the node itself; once for each of several edges."""
        return propagation(self.x, self.edge_index, self.propagate).propagated

    @cached_property
    def sparse(self) -> SparseRows | None:
        """The features without their zeros; None if they are not nearly all zero."""
        return SparseRows.of(self.x)

    @cached_property
    def messages(self) -> SparseRows:
        """The weights of a GCN's edges, self-loops among them."""
        weights = edge_weights(self.edge_attr, self.weighted)
        return SparseRows.of_edges(*normalised_edges(self.edge_index, len(self.x), self.x.dtype, weights), len(self.x))

    @cached_property
    def arriving(self) -> SparseRows:
        """The edges by the node that they arrive at, each a 1."""
        return SparseRows.of_edges(self.edge_index, self.x.new_ones(self.edge_index.shape[1]), len(self.x))

    def to(self, device: torch.device) -> Subgraph:
        """The same on ``device``."""
        edge_attr, row_of = (None if t is None else t.to(device) for t in (self.edge_attr, self.row_of))
        return Subgraph(self.x.to(device), self.edge_index.to(device), edge_attr, row_of, self.propagate, self.weighted)


def one_hot(codes: Tensor, categories: tuple[int, ...]) -> Tensor:
    """Codes as float32 columns of 0 and 1, one for each category of each code; without categories, what is given.

    Args:
        codes: Shape ``(n, C)``, of integer type.
        categories: Number of values of each of the ``C`` codes.

    Returns:
        Shape ``(n, sum(categories))``.

    Example:
        >>> one_hot(torch.tensor([[1, 0]]), (2, 3))
        tensor([[0., 1., 1., 0., 0.]])
    """
    if not categories:
        return codes
    widths = torch.tensor(categories, device=codes.device)
    out = torch.zeros(len(codes), sum(categories), device=codes.device)
    return out.scatter_(1, codes.long() + (widths.cumsum(0) - widths), 1.0)
