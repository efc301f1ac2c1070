"""Message-passing networks for graphs and for the nodes of one graph: GCN, GIN, GraphSAGE and GAT."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional as F

from erasure.errors import Diagnostic, InvalidParameters, RequirementNotMet
from erasure.training.graphs import GraphBatch, NodeBatch, torch_geometric
from erasure.training.linearised import LinearisedNetwork, LinearStep
from erasure.training.neighbours import NeighbourSums, SampledNodes, convolved, messages_fit
from erasure.training.node_operators import NodeOperators
from erasure.training.predictor import Model, ModelInput
from erasure.training.sparse_rows import FeatureLinear, GraphConvolution, SparseRows
from erasure.types import Fraction, NonNegativeInt, PositiveInt, Source

__all__ = ["GNN"]


@dataclass(frozen=True, kw_only=True)
class GNN(Model):
    """Graph convolutions, (BatchNorm,) ReLU and dropout; for graphs, pooling; then fully connected layers.

    Where the samples are graphs, node features are pooled into one vector for each graph; where they are the nodes of one graph,
    each node has its own.

    Args:
        conv: ``gcn``, ``gin``, ``sage`` (GraphSAGE, mean of the neighbours) or ``gat``.
        hidden: Width of the convolutions.
        hidden_factor: Width as a multiple of the node features, instead of ``hidden``.
        layers: Number of convolutions.
        pool: How the nodes of a graph become one vector.
        dense_layers: Fully connected layers after the convolutions, the output layer included; with 0, the last convolution gives the
            logits of nodes, as in the papers on node classification, and the features are what it reads.
        dense_decay: Each of them but the output layer is narrower than what comes before by this factor.
        batch_norm: Whether a BatchNorm follows each convolution (and is inside GIN's perceptrons).
        dropout: Probability of dropping a unit after each convolution while training, in [0, 1].
        input_dropout: Probability of dropping a node feature while training, in [0, 1].
        heads: Attention heads of ``gat``; their outputs are concatenated, and their number divides the width.
        edge_features: Width of the edge features that ``gin`` and ``gat`` look at; 0 looks at none.
        n_inputs: Node features; by default what the data has, and an error if it has something else.
        n_classes: Classes; by default what the data has.
    """

    source: ClassVar[Source | None] = Source(
        paper="Kipf, Welling, ICLR 2017, arXiv:1609.02907; Xu, Hu, Leskovec, Jegelka, ICLR 2019, arXiv:1810.00826; Hamilton, Ying, "
        "Leskovec, NeurIPS 2017, arXiv:1706.02216; Veličković et al., ICLR 2018, arXiv:1710.10903",
        deviations=(
            "By default the last convolution is followed by a linear layer, so that the features are the last convolution's.",
            "GIN reads out the last layer only, not all of them.",
        ),
    )

    version: ClassVar[int] = 2

    conv: Literal["gcn", "gin", "sage", "gat"] = "gin"
    hidden: PositiveInt = 64
    hidden_factor: PositiveInt | None = None
    layers: PositiveInt = 3
    pool: Literal["mean", "sum", "max"] = "mean"
    dense_layers: NonNegativeInt = 1
    dense_decay: Annotated[float, Ge(1)] = 1.0
    batch_norm: bool = True
    dropout: Fraction = 0.0
    input_dropout: Fraction = 0.0
    heads: PositiveInt = 4
    edge_features: NonNegativeInt = 0
    n_inputs: PositiveInt | None = None
    n_classes: PositiveInt | None = None

    def check(self) -> None:
        """Heads share the width, only some convolutions look at edge features, and something must be learned."""
        if self.conv == "gat" and self.hidden_factor is None and self.hidden % self.heads:
            message = f"{self.heads} heads cannot share a width of {self.hidden}"
            raise InvalidParameters([Diagnostic(message, path="GNN.heads", hint="take a divisor of hidden")])
        if self.edge_features and self.conv in {"gcn", "sage"}:
            message = f'conv = "{self.conv}" does not look at edge features; only "gin" and "gat" do'
            raise InvalidParameters([Diagnostic(message, path="GNN.edge_features")])

    def build(self, data: ModelInput) -> nn.Module:
        """The network with fresh weights."""
        if data.modality != "graph" or len(data.x_shape) != 1:
            raise RequirementNotMet(
                f"GNN takes graphs; the data is of the kind {data.modality}, its samples of shape {data.x_shape}"
            )
        n_inputs = data.fitting("node features", self.n_inputs, data.x_shape[0])
        width = self.hidden if self.hidden_factor is None else self.hidden_factor * n_inputs
        if self.conv == "gat" and width % self.heads:
            raise RequirementNotMet(f"{self.heads} heads cannot share a width of {width}; change heads or hidden_factor")
        n_outputs = data.outputs_for(self.n_classes)
        n_hidden = self.layers if self.dense_layers else self.layers - 1
        blocks: list[nn.Module] = []
        before = n_inputs
        for _ in range(n_hidden):
            norm = nn.BatchNorm1d(width) if self.batch_norm else nn.Identity()
            blocks.append(_Block(self._convolution(before, width), norm, self.dropout))
            before = width
        if not self.dense_layers:
            return _Network(self, blocks, nn.Identity(), self._convolution(before, n_outputs, heads=1))
        dense: list[nn.Module] = []
        for _ in range(self.dense_layers - 1):
            narrower = max(1, int(before / self.dense_decay))
            dense += [nn.Linear(before, narrower), nn.ReLU()]
            before = narrower
        return _Network(self, blocks, nn.Sequential(*dense), nn.Linear(before, n_outputs))

    def _convolution(self, before: int, after: int, heads: int | None = None) -> nn.Module:
        library = torch_geometric("nn", "a graph network")
        conv: nn.Module
        if self.conv == "gcn":
            drawn = library.GCNConv(before, after)
            conv = GraphConvolution(drawn.lin.weight, drawn.bias)
        elif self.conv == "sage":
            conv = library.SAGEConv(before, after)
        elif self.conv == "gat":
            heads = heads or self.heads
            conv = library.GATConv(before, after // heads, heads=heads, edge_dim=self.edge_features or None)
        else:
            norm = [nn.BatchNorm1d(after)] if self.batch_norm else []
            perceptron = nn.Sequential(nn.Linear(before, after), *norm, nn.ReLU(), nn.Linear(after, after))
            conv = (
                library.GINEConv(perceptron, edge_dim=self.edge_features) if self.edge_features else library.GINConv(perceptron)
            )
        return conv


class _Block(nn.Module):
    """A convolution and what follows it."""

    def __init__(self, conv: nn.Module, norm: nn.Module, dropout: float) -> None:
        super().__init__()
        self.conv, self.norm, self.dropout = conv, norm, dropout

    def forward(self, x: Any, edges: tuple[Tensor | SparseRows, ...], operator: Callable[[Tensor], Tensor]) -> Tensor:
        """Features of the nodes; ``operator`` is applied to what the convolution gives."""
        return F.dropout(F.relu(self.norm(operator(convolved(self.conv, x, edges)))), self.dropout, self.training)


class _Network(nn.Module):
    """Gives features ``(B, d)`` and logits ``(B, K)`` for the graphs of a batch, or for the chosen nodes of one graph."""

    def __init__(self, family: GNN, blocks: list[nn.Module], dense: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.family = family
        self.blocks = nn.ModuleList(blocks)
        self.dense = dense
        self.head = head
        self.operators = NodeOperators()

    def forward(self, inputs: GraphBatch | NodeBatch) -> tuple[Tensor, Tensor]:
        """Features and logits."""
        if not isinstance(inputs, GraphBatch | NodeBatch):
            raise RequirementNotMet("GNN takes graphs or nodes; of pairs of nodes it is the encoder of a LinkPredictor")
        edges = () if isinstance(inputs, SampledNodes) else self._edges(inputs)
        x: Any = self._features(inputs)
        for layer, block in enumerate(self.blocks):
            x = block(*self._read(layer, x, edges, inputs), partial(self.operators, layer, inputs=inputs))
        if self.family.dense_layers:
            features = self.dense(self._samples(x, inputs))
            return features, self.head(features)
        last = len(self.blocks)
        read, edges = self._read(last, x, edges, inputs)
        return self._samples(x, inputs), self._samples(self.operators(last, convolved(self.head, read, edges), inputs), inputs)

    def _read(
        self, layer: int, x: Any, edges: tuple[Tensor | SparseRows, ...], inputs: GraphBatch | NodeBatch
    ) -> tuple[Any, tuple[Tensor | SparseRows, ...]]:
        """What a convolution reads: vectors and edges; of drawn neighbours those of its layer."""
        if not isinstance(inputs, SampledNodes):
            return x, edges
        messages = inputs.layer(layer)
        if self.family.conv == "gcn":
            return x, (messages,)
        return (x, x[: len(messages)]), (torch.stack([messages.columns, messages.rows]),)

    @property
    def n_convolutions(self) -> int:
        """As :class:`~erasure.training.neighbours.SumsNeighbours` says."""
        return self.family.layers

    @property
    def neighbour_sums(self) -> NeighbourSums | None:
        """As :class:`~erasure.training.neighbours.SumsNeighbours` says."""
        sums: dict[str, NeighbourSums] = {"gcn": "weighted", "sage": "mean"}
        return sums.get(self.family.conv)

    def layers(self, inputs: NodeBatch, between: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """As :class:`~erasure.training.node_operators.LayeredNetwork` says."""
        edges, found = self._edges(inputs), list[Tensor]()
        x: Any = self._features(inputs)

        def seen(layer: int, vectors: Tensor) -> Tensor:
            found.append(self.operators(layer, vectors, inputs))
            return found[-1]

        for layer, block in enumerate(self.blocks):
            x = between(block(x, edges, partial(seen, layer)))
        if not self.family.dense_layers:
            seen(len(self.blocks), self.head(x, *edges))
        return found

    def linearised(self, inputs: Any) -> LinearisedNetwork | None:
        """As :class:`~erasure.training.linearised.Linearisable` says: of a GCN of nodes without BatchNorm."""
        if self.training or self.family.conv != "gcn" or type(inputs) is not NodeBatch or any(self.operators.buffers()):
            return None
        if not all(
            type(each) in _LINEARISED and not each._forward_hooks and not each._forward_pre_hooks for each in self.modules()
        ):
            return None
        messages = inputs.messages()
        steps = [
            LinearStep(name, layer, messages if isinstance(layer, GraphConvolution) else None, rectified=layer is not self.head)
            for name, layer in self.named_modules()
            if type(layer) in {GraphConvolution, nn.Linear}
        ]
        return LinearisedNetwork(steps, self._features(inputs), inputs.rows)

    def _features(self, inputs: GraphBatch | NodeBatch) -> Tensor | SparseRows:
        """Features of the nodes, some dropped while training; those that are nearly all zero without their zeros, where that helps."""
        p = self.family.input_dropout if self.training else 0.0
        sparse = inputs.sparse() if isinstance(inputs, NodeBatch) else None
        if sparse is None or (self.family.conv != "gcn" and not p):
            return F.dropout(inputs.x, p, self.training)
        chosen = sparse.dropped_out(p) if p else sparse
        # Only a GCN multiplies the features by its weights first; the others add up those of the neighbours.
        return chosen if self.family.conv == "gcn" else chosen.dense()

    def _samples(self, x: Tensor | SparseRows, inputs: GraphBatch | NodeBatch) -> Tensor:
        """A row for each sample from a row for each node."""
        x = x.dense() if isinstance(x, SparseRows) else x
        return x.index_select(0, inputs.rows) if isinstance(inputs, NodeBatch) else self._pooled(x, inputs)

    def _edges(self, inputs: GraphBatch | NodeBatch) -> tuple[Tensor | SparseRows, ...]:
        """What each convolution is told of the edges."""
        family, edge_index, edge_attr = self.family, inputs.edge_index, inputs.edge_attr
        if family.conv == "gcn":
            # Normalised once for all layers.
            return (inputs.messages(),)
        if not family.edge_features:
            if isinstance(inputs, NodeBatch) and inputs.weighted:
                hint = "" if family.conv == "sage" else f', or let conv = "{family.conv}" read them as edge_features = 1'
                raise RequirementNotMet(
                    f'the edges have weights, which conv = "{family.conv}" does not multiply messages by; take "gcn"{hint}'
                )
            learns = self.training or torch.is_grad_enabled()
            view = inputs.view if isinstance(inputs, NodeBatch) and family.conv in {"sage", "gin"} and not learns else None
            if view is not None and not messages_fit(inputs.x, edge_index):
                return (view.arriving,)
            return (edge_index,)
        found = 0 if edge_attr is None else edge_attr.shape[1]
        if edge_attr is None or found != family.edge_features:
            raise RequirementNotMet(f"GNN.edge_features is {family.edge_features}, the data has edge features of width {found}")
        return edge_index, edge_attr

    def _pooled(self, x: Tensor, graphs: GraphBatch) -> Tensor:
        index = graphs.batch[:, None].expand_as(x)
        pooled = x.new_zeros(graphs.n_graphs, x.shape[1])
        if self.family.pool == "max":
            # Every graph has a node, so that the zeros are never the largest.
            return pooled.scatter_reduce(0, index, x, "amax", include_self=False)
        pooled = pooled.scatter_add(0, index, x)
        if self.family.pool == "sum":
            return pooled
        return pooled / torch.bincount(graphs.batch, minlength=graphs.n_graphs)[:, None]


_LINEARISED = frozenset(
    {
        _Network,
        _Block,
        GraphConvolution,
        FeatureLinear,
        NodeOperators,
        nn.Linear,
        nn.ReLU,
        nn.Sequential,
        nn.ModuleList,
        nn.Identity,
    }
)
"""Layers of a network whose first order is written out; a layer of a class of its own, such as an adapter, is none of them."""
