"""Pairs of nodes that have no edge, for attacks on edges to tell forgotten ones from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from erasure.data.contract import Splitter
from erasure.data.dataset import Dataset
from erasure.data.partitions import ids_of
from erasure.errors import PartitionError
from erasure.training.graph_requests import NO_SAMPLE, RequestedGraph, pair_keys
from erasure.training.graphs import NodeColumn
from erasure.training.shadow_graphs import pair_ids
from erasure.types import PositiveInt

__all__ = ["GraphStrangersSplitter"]

_TRIES = 100


@dataclass(frozen=True, kw_only=True)
class GraphStrangersSplitter(Splitter):
    """Pairs of different nodes that have no edge and never had one, drawn at random. The second part is empty.

    Args:
        parts_names: Name of the pairs, and ``-``.
        ref_data: The nodes to draw from.
        n: How many; none is drawn twice.
    """

    n: PositiveInt

    def split(self, data: Dataset, partitions: Mapping[str, Tensor], generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Draw pairs."""
        graph = data.x.graph if isinstance(data.x, RequestedGraph) else data.x
        if not isinstance(graph, NodeColumn):
            raise PartitionError(f'the samples of "{data.name}" are not the nodes of one graph')
        if graph.edge_attr is not None:
            raise PartitionError(
                f'the edges of "{data.name}" have features, and nothing says what those of a pair without an edge are'
            )
        ids = ids_of(partitions, self.ref_data)
        if len(ids) and int(ids.max()) >= NO_SAMPLE:
            raise PartitionError(f'"{self.ref_data}" is a partition of edges, and nodes are asked for')
        nodes, n_nodes = torch.unique(ids % len(graph)), len(graph)
        taken, found = torch.unique(pair_keys(graph.edge_index, n_nodes)), torch.empty(0, dtype=torch.int64)
        for _ in range(_TRIES):
            drawn = nodes[torch.from_numpy(generator.integers(max(1, len(nodes)), size=(2, 2 * self.n)))]
            keys = pair_keys(drawn, n_nodes)
            keys = keys[(keys >= 0) & ~torch.isin(keys, taken) & ~torch.isin(keys, found)]
            once = np.sort(np.unique(keys.numpy(), return_index=True)[1])
            found = torch.cat([found, keys[torch.from_numpy(once)]])[: self.n]
            if len(found) == self.n:
                pairs = torch.stack([torch.div(found, n_nodes, rounding_mode="floor"), found % n_nodes], dim=1)
                return pair_ids(pairs, n_nodes), ids[:0]
        raise PartitionError(f'{self.n} pairs without an edge are asked for, and {len(found)} were found in "{self.ref_data}"')
