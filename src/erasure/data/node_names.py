"""Nodes and edges by what the data calls them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from erasure.data.selection import shown
from erasure.errors import PartitionError
from erasure.training.graphs import NodeColumn
from erasure.types import NonNegativeInt

__all__ = ["NodeName", "called", "numbers_of", "written"]

NodeName: TypeAlias = NonNegativeInt | str
"""A node by what the data calls it, or by its number."""


def numbers_of(asked: Sequence[NodeName], graph: NodeColumn, data: str) -> Tensor:
    """The nodes that are meant: by their names where the data has some, otherwise by their numbers."""
    if not graph.names:
        found = [int(node) if isinstance(node, int) or node.isdecimal() else -1 for node in asked]
        there = f"the graph has the nodes 0 to {len(graph) - 1}"
    else:
        number_of = {name: number for number, name in enumerate(graph.names)}
        found = [number_of.get(str(node), -1) for node in asked]
        there = f"its nodes are called {shown(list(graph.names))}"
    unknown = [str(node) for node, number in zip(asked, found, strict=True) if not 0 <= number < len(graph)]
    if unknown:
        raise PartitionError(f'"{data}" has no node {shown(unknown)}; {there}')
    return torch.tensor(found, dtype=torch.int64)


def called(nodes: Tensor, graph: NodeColumn) -> str:
    """Nodes as the data calls them, a few of many."""
    return shown([graph.names[node] if graph.names else node for node in nodes.tolist()])


def written(pairs: Tensor, graph: NodeColumn) -> str:
    """Edges as the data calls both ends, a few of many."""
    ends = [[graph.names[node] if graph.names else str(node) for node in pair] for pair in pairs.tolist()]
    return shown([f"({first}, {second})" for first, second in ends])
