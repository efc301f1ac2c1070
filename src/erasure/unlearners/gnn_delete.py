"""GNNDelete: the weights stay, and after each layer the vectors of nodes around the request go through a matrix that is learned."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.training.batches import Batch, Column
from erasure.training.calls import Criterion, Optimizer
from erasure.training.graph_requests import RequestedGraph, within_hops
from erasure.training.graphs import NodeBatch
from erasure.training.links import LinkColumn, request_of
from erasure.training.node_operators import LayeredNetwork, NodeOperators
from erasure.types import Fraction, NonNegativeInt, PartitionRole, Source, Task
from erasure.unlearners.contract import Unlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["GNNDelete"]

_EPOCHS_DRAWN = 64
"""Epochs whose random pairs are drawn together; they are those that would be drawn one by one."""


class _Layer(NamedTuple):
    """What the operator of a layer is learned from."""

    matrix: nn.Parameter
    nodes: Tensor
    around: Tensor
    wanted: Tensor
    """Vectors of all nodes before the request, which those around are to keep and random pairs are drawn from."""


@dataclass(frozen=True, kw_only=True)
class GNNDelete(Unlearner):
    r"""Learns a matrix W for each layer l, which the vectors of the nodes within l hops of the deleted edges are multiplied by.

    With vectors h of the original on the graph before the request and :math:`h'` of the operators on the graph after it,

    .. math::
        \alpha\, \mathrm{MSE}\bigl([h'_u; h'_v]_{(u,v) \in E_f},\; [h_p; h_q]_{\text{random } p, q}\bigr)
        + (1 - \alpha)\, \mathrm{MSE}\bigl(h'_w,\; h_w\bigr)_{w \in S_l \setminus \text{ends}}

    is minimised layer by layer: deleted edges shall look like any two nodes, and the neighbourhood :math:`S_l` shall stay as it was. Random
    pairs are drawn again in each epoch. Of a request for nodes or features the edges of those nodes are what is deleted. No label is read.
    The operators become part of the model; its weights are those of the original and still hold what they have learned, which somebody who
    has them can use by leaving the operators out. For a thousand epochs and more it over-forgets, since the operators start near zero. From
    the identity it is after a few hundred where that ends; on classifiers the loss itself asks for more than retraining does.

    **Cost**: ``epochs`` passes over the graph without gradients for the weights, and one before.

    Args:
        epochs: Steps; each sees the whole graph.
        optimizer: Of the operators.
        alpha: Weight of the deleted edges.
        start: Every entry of the matrices at the start; ``identity`` starts from what :class:`Unlink` gives.
    """

    source: ClassVar[Source | None] = Source(
        paper="Cheng, Dasoulas, He, Agarwal, Zitnik, ICLR 2023, arXiv:2302.13406",
        code="mims-harvard/GNNDelete at d5a79da",
        tested="losses and steps by plain formulas in float64, and Unlink with the identity (tests/unit/unlearners/test_gnn_delete.py)",
        deviations=(
            "Operators are learned on the graph on which they are used, without the deleted edges; in the code messages run over them.",
            "What stays is compared with the original before the request; in the code with the original after it.",
            "Random pairs are drawn in each epoch; in the code once.",
            "Neighbourhoods follow edges in both directions.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"forget"})
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification", "binary", "multilabel"})
    cost: ClassVar[str] = "epochs passes over the graph, the weights fixed"
    search_space: ClassVar[SearchSpace] = {
        "epochs": Range(100, 1500, log=True),
        "optimizer.lr": Range(1e-4, 1e-1, log=True),
        "alpha": Range(0.1, 0.9),
    }

    epochs: NonNegativeInt = 1500
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("Adam", lr=1e-3))
    alpha: Fraction = 0.5
    start: float | Literal["identity"] = 1e-3

    def refuse_inputs(self, x: Column) -> str | None:
        """Something must be forgotten of a graph."""
        if request_of(x) is None:
            return "GNNDelete forgets nodes, edges or features of a graph; it needs a GraphRequest or a LinkRequest among the partitions"
        return super().refuse_inputs(x)

    def try_on(self, model: nn.Module, batch: Batch, criterion: Criterion) -> None:
        """The network must show its layers."""
        _layered(model)

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Put the operators in and learn them."""
        network, requested = _layered(model), _graph(context.x)
        context.ids("forget")
        pairs = _deleted(requested)
        if not len(pairs):
            return model
        n, there = requested.n_nodes, requested.nodes_before
        everyone = torch.arange(n, device=context.device)
        before, after = (requested.gather(requested.seen_in(everyone, graph)) for graph in ("before", "after"))
        assert isinstance(before, NodeBatch)  # noqa: S101 - narrows the type
        assert isinstance(after, NodeBatch)  # noqa: S101 - narrows the type
        model.eval()
        with torch.no_grad():
            wanted = [vectors.index_select(0, before.rows) for vectors in network.layers(before, lambda x: x)]
        layers = self._layers(requested, pairs, wanted)
        places = [network.operators.count(number) for number in range(len(layers))]
        for number, layer in enumerate(layers):
            network.operators.put(number, places[number], layer.nodes, layer.matrix, n)
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        optimizer = self.optimizer.build([layer.matrix for layer in layers])
        generator = context.generator("pairs")
        for epoch in range(self.epochs):
            if epoch % _EPOCHS_DRAWN == 0:  # many at once: each copy to an accelerator waits for it
                n_drawn = min(_EPOCHS_DRAWN, self.epochs - epoch)
                of_epochs = there[torch.randint(len(there), (n_drawn, *pairs.shape), generator=generator).to(context.device)]
            drawn = of_epochs[epoch % _EPOCHS_DRAWN]
            optimizer.zero_grad()
            found = network.layers(after, torch.Tensor.detach)
            losses = [
                self._loss(layer, vectors.index_select(0, after.rows), pairs, drawn)
                for layer, vectors in zip(layers, found, strict=True)
            ]
            torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if context.on_epoch is not None:
                context.on_epoch(epoch + 1, self.epochs, model)
        for number, layer in enumerate(layers):
            network.operators.put(number, places[number], layer.nodes, layer.matrix.detach(), n)
        return model

    def _layers(self, requested: RequestedGraph, pairs: Tensor, wanted: list[Tensor]) -> list[_Layer]:
        ends = torch.zeros(requested.n_nodes, dtype=torch.bool, device=pairs.device).index_fill(0, pairs.flatten(), True)
        layers = []
        for number, vectors in enumerate(wanted):
            reach = within_hops(requested.edges_before, ends, number + 1)
            size = vectors.shape[1]
            matrix = nn.Parameter(
                torch.eye(size, dtype=vectors.dtype, device=vectors.device)
                if self.start == "identity"
                else vectors.new_full((size, size), self.start)
            )
            around = (reach & ~ends).nonzero().flatten()
            layers.append(_Layer(matrix, reach.nonzero().flatten(), around, vectors))
        return layers

    def _loss(self, layer: _Layer, found: Tensor, pairs: Tensor, drawn: Tensor) -> Tensor:
        deleted = F.mse_loss(found[pairs].flatten(1), layer.wanted[drawn].flatten(1))
        if not len(layer.around):
            alone: Tensor = self.alpha * deleted
            return alone
        kept = F.mse_loss(found.index_select(0, layer.around), layer.wanted.index_select(0, layer.around))
        total: Tensor = self.alpha * deleted + (1 - self.alpha) * kept
        return total


def _layered(model: nn.Module) -> LayeredNetwork:
    for module in model.modules():
        # A check of the protocol itself would not see submodules from Python 3.12 on.
        if isinstance(getattr(module, "operators", None), NodeOperators) and hasattr(module, "layers"):
            return cast(LayeredNetwork, module)
    raise RequirementNotMet(
        f"GNNDelete puts operators between the layers of a graph network, and {type(model).__name__} does not show its layers; take a GNN"
    )


def _graph(x: Column) -> RequestedGraph:
    requested = request_of(x)
    graph = requested.graph if isinstance(requested, LinkColumn) else requested
    assert isinstance(graph, RequestedGraph)  # noqa: S101 - inputs without a request have been refused
    return graph


def _deleted(requested: RequestedGraph) -> Tensor:
    """The edges that are gone, each once, ``(k, 2)``: those asked for, or those of the nodes in question."""
    if requested.kind == "edges":
        return requested.pairs
    edges = requested.edges_before.T
    hit = torch.isin(edges, requested.nodes).any(1) & (edges[:, 0] != edges[:, 1])
    once: Tensor = torch.unique(edges[hit].sort(1).values, dim=0)
    return once
