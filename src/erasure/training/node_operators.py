"""Matrices that the vectors of some nodes are multiplied by after a layer of a graph network: what GNNDelete leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.training.graphs import NodeBatch

__all__ = ["LayeredNetwork", "NodeOperators"]


class NodeOperators(nn.Module):
    """One matrix a layer and the nodes that it applies to, whichever graph they are seen in; none at first.

    They are buffers: part of what a model is, but not of what is trained. Loading a state that has some brings them back.
    """

    n_nodes: Tensor

    def put(self, layer: int, nodes: Tensor, matrix: Tensor, n_nodes: int) -> None:
        """Multiply the vectors of nodes by a matrix after a layer.

        Args:
            layer: Number of the layer, from 0.
            nodes: Numbers of nodes in the whole graph, shape ``(k,)``, int64.
            matrix: Shape ``(d, d)``; the vector of a node, as a row, is multiplied by it.
            n_nodes: Nodes of the whole graph.
        """
        self.register_buffer(f"nodes_{layer}", nodes)
        self.register_buffer(f"matrix_{layer}", matrix)
        self.register_buffer("n_nodes", torch.tensor(n_nodes))

    def forward(self, layer: int, x: Tensor, inputs: object) -> Tensor:
        """The vectors after a layer.

        Args:
            layer: Its number.
            x: A row for each node of the graph at hand, ``(n, d)``.
            inputs: What the network was given.

        Raises:
            RequirementNotMet: If it cannot be told which node a row is.
        """
        nodes = self._buffers.get(f"nodes_{layer}")
        if nodes is None:
            return x
        rows = self._rows(layer, nodes, inputs)
        return x.index_copy(0, rows, x.index_select(0, rows) @ getattr(self, f"matrix_{layer}"))

    def _rows(self, layer: int, nodes: Tensor, inputs: object) -> Tensor:
        if not isinstance(inputs, NodeBatch) or inputs.view is None:
            raise RequirementNotMet(
                "this network treats some nodes of its graph in a way of their own, and takes nodes of that graph only"
            )
        row_of = inputs.view.row_of
        if row_of is None:
            return nodes
        # Kept with the view: finding them waits for an accelerator, once a layer.
        kept: dict[int, tuple[Tensor, Tensor]] = vars(inputs.view).setdefault("_rows_of_operators", {})
        found = kept.get(layer)
        if found is None or found[0] is not nodes:
            rows = row_of.reshape(-1, int(self.n_nodes))[:, nodes].reshape(-1)
            found = kept[layer] = (nodes, rows[rows >= 0])
        return found[1]

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        for name in state_dict:
            if name.startswith(prefix):
                self.register_buffer(name.removeprefix(prefix), torch.empty_like(state_dict[name]))
        super()._load_from_state_dict(state_dict, prefix, *rest)


@runtime_checkable
class LayeredNetwork(Protocol):
    """A graph network whose vectors after each layer can be seen, and changed by operators."""

    operators: NodeOperators

    def layers(self, inputs: NodeBatch, between: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """The vectors of all nodes after each convolution and its operator, before anything follows.

        Args:
            inputs: Nodes of one graph.
            between: Applied to what a layer hands to the next one.
        """
        ...
