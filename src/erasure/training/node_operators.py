"""Matrices that the vectors of some nodes are multiplied by after a layer of a graph network: what GNNDelete leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.training.graphs import NodeBatch

__all__ = ["LayeredNetwork", "NodeOperators"]


class NodeOperators(nn.Module):
    """Matrices of each layer and the nodes that each applies to, whichever graph they are seen in; none at first.

    A request adds one a layer; those of several requests apply one after the other.

    They are buffers: part of what a model is, but not of what is trained. Loading a state that has some brings them back.
    """

    n_nodes: Tensor

    def count(self, layer: int) -> int:
        """Matrices of a layer."""
        return sum(f"{name}_".startswith(f"nodes_{layer}_") for name in self._buffers)

    def put(self, layer: int, number: int, nodes: Tensor, matrix: Tensor, n_nodes: int) -> None:
        """Multiply the vectors of nodes by a matrix after a layer.

        Args:
            layer: Number of the layer, from 0.
            number: Which of its matrices, from 0: :meth:`count` for a further one.
            nodes: Numbers of nodes in the whole graph, shape ``(k,)``, int64.
            matrix: Shape ``(d, d)``; the vector of a node, as a row, is multiplied by it.
            n_nodes: Nodes of the whole graph.
        """
        self.register_buffer(_called("nodes", layer, number), nodes)
        self.register_buffer(_called("matrix", layer, number), matrix)
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
        for number in range(self.count(layer)):
            rows = self._rows((layer, number), inputs)
            x = x.index_copy(0, rows, x.index_select(0, rows) @ getattr(self, _called("matrix", layer, number)))
        return x

    def _rows(self, place: tuple[int, int], inputs: object) -> Tensor:
        nodes: Tensor = getattr(self, _called("nodes", *place))
        if not isinstance(inputs, NodeBatch) or inputs.view is None:
            raise RequirementNotMet(
                "this network treats some nodes of its graph in a way of their own, and takes nodes of that graph only"
            )
        row_of = inputs.view.row_of
        if row_of is None:
            return nodes
        # Kept with the view: finding them waits for an accelerator, once a layer.
        kept: dict[tuple[int, int], tuple[Tensor, Tensor]] = vars(inputs.view).setdefault("_rows_of_operators", {})
        found = kept.get(place)
        if found is None or found[0] is not nodes:
            rows = row_of.reshape(-1, int(self.n_nodes))[:, nodes].reshape(-1)
            found = kept[place] = (nodes, rows[rows >= 0])
        return found[1]

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        for name in state_dict:
            if name.startswith(prefix):
                self.register_buffer(name.removeprefix(prefix), torch.empty_like(state_dict[name]))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _called(what: str, layer: int, number: int) -> str:
    """Name of a buffer; the first of a layer goes by the layer alone."""
    return f"{what}_{layer}_{number}" if number else f"{what}_{layer}"


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
