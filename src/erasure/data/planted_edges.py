"""A graph made wrong on purpose: edges between nodes that do not belong together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from erasure.data.corruption import Corruption
from erasure.data.dataset import Dataset
from erasure.data.selection import portion
from erasure.errors import DataError, Diagnostic, InvalidParameters
from erasure.training.graph_requests import edge_pairs, pair_keys
from erasure.training.graphs import NodeColumn
from erasure.training.randomness import Streams
from erasure.types import Fraction, PositiveFloat, PositiveInt, Source

__all__ = ["PlantEdges"]

_TRIES = 100


@dataclass(frozen=True, kw_only=True)
class PlantEdges(Corruption):
    """Edges between nodes of different classes, drawn at random, in both directions; each is new.

    They make neighbours unlike, which graph networks suffer from. ``GraphEdges`` with the stratum ``planted`` finds them, to be forgotten
    wholly or, where only some are known, in part. The measure ``Recovery`` says how much of the accuracy comes back.

    Args:
        n_edges: How many.
        percentage: In its place, as a multiple of the edges that there are; may be above 1.
        training: Share of the edges that have a training node at one end at least; with 0 all ends are drawn from all nodes.
    """

    source: ClassVar[Source | None] = Source(paper="Kolipaka et al., ICML 2025, arXiv:2412.00789 (corrective unlearning)")

    n_edges: PositiveInt | None = None
    percentage: PositiveFloat | None = None
    training: Fraction = 1.0

    def check(self) -> None:
        """One of the two sizes."""
        if (self.n_edges is None) == (self.percentage is None):
            raise InvalidParameters([Diagnostic("give either n_edges or percentage", path="PlantEdges.n_edges")])

    def corrupt(self, data: Dataset, streams: Streams) -> Dataset:
        """Draw pairs of nodes and put edges between them."""
        graph = data.x
        if not isinstance(graph, NodeColumn):
            raise DataError(f'edges are planted in one graph, and the samples of "{data.name}" are not the nodes of one')
        if graph.edge_attr is not None:
            raise DataError(f'the edges of "{data.name}" have features, and nothing says what those of a planted edge are')
        if data.task == "multilabel" or data.n_classes < 2:
            raise DataError(f'edges are planted between nodes of different classes, and those of "{data.name}" have no two')
        there = edge_pairs(graph)
        n = self.n_edges or (portion(len(there), self.percentage) if self.percentage is not None else 0)
        pairs = self._drawn(data, graph, n, streams.numpy("edges"))
        planted = torch.cat([pairs.T, pairs.T.flip(0)], dim=1)
        known = torch.zeros(graph.edge_index.shape[1], dtype=torch.bool) if graph.planted is None else graph.planted
        column = replace(
            graph,
            edge_index=torch.cat([graph.edge_index, planted], dim=1),
            planted=torch.cat([known, torch.ones(planted.shape[1], dtype=torch.bool)]),
        )
        return replace(data, name=f"{data.name} (edges planted)", x=column)

    def _drawn(self, data: Dataset, graph: NodeColumn, n: int, generator: np.random.Generator) -> Tensor:
        """Different pairs without an edge, of nodes of different classes; ``(n, 2)``."""
        n_nodes, trained = len(graph), self._trained(data)
        n_trained = round(self.training * n) if len(trained) else 0
        if self.training and not len(trained):
            raise DataError(f'"{data.name}" does not say which nodes are for training; give PlantEdges "training": 0')
        taken = torch.unique(pair_keys(graph.edge_index, n_nodes))
        found = torch.empty(0, dtype=torch.int64)
        for wanted, first_ends in ((n_trained, trained), (n, torch.arange(n_nodes))):
            for _ in range(_TRIES):
                missing = wanted - len(found)
                if missing <= 0:
                    break
                first = first_ends[torch.from_numpy(generator.integers(len(first_ends), size=2 * missing))]
                second = torch.from_numpy(generator.integers(n_nodes, size=2 * missing))
                keys = pair_keys(torch.stack([first, second]), n_nodes)[data.y[first] != data.y[second]]
                keys = keys[~torch.isin(keys, taken) & ~torch.isin(keys, found)]
                once = np.sort(np.unique(keys.numpy(), return_index=True)[1])
                found = torch.cat([found, keys[torch.from_numpy(once)][:missing]])
        if not 0 < n == len(found):
            raise DataError(
                f'{n} edges between classes shall be planted in "{data.name}", and {len(found)} pairs of nodes were found that have none'
            )
        return torch.stack([torch.div(found, n_nodes, rounding_mode="floor"), found % n_nodes], dim=1)

    @staticmethod
    def _trained(data: Dataset) -> Tensor:
        if data.z is None or data.z.ndim != 1 or "train" not in data.z_names:
            return torch.empty(0, dtype=torch.int64)
        return (data.z == data.z_names.index("train")).nonzero().flatten()
