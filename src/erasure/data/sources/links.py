"""Links of a graph as samples: pairs of nodes, each with an edge or without."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import torch
from torch import Tensor

from erasure.data.checks import checked
from erasure.data.contract import DataSource
from erasure.data.dataset import Dataset
from erasure.data.graphs import nodes_from_tensors, nodes_to_tensors
from erasure.data.storage import ColumnFormat, register_column
from erasure.errors import DataError, Diagnostic, InvalidParameters
from erasure.training.graph_requests import edge_pairs, pair_keys
from erasure.training.graphs import NodeColumn
from erasure.training.links import LinkColumn
from erasure.training.randomness import Streams
from erasure.types import Fraction, Json, NonNegativeInt, PositiveFloat

__all__ = ["Links"]

_PARTS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class Links(DataSource):
    """Link prediction on the one graph of another source: which pairs of nodes have an edge.

    The edges are cut into ``train``, ``validation`` and ``test``, which are the groups ``z`` for the splitter ``ByZ``, and each part gets
    pairs of nodes that have no edge in the *whole* graph, each pair once, stored with the data. Messages run over the training edges alone.
    Both directions of an edge are one sample. The splitter ``LinkRequest`` says which edges are forgotten.

    Args:
        data_source: A source of one graph that everybody sees whole (``forgets`` of ``Planetoid``: ``request`` or ``label``).
        test: Share of the edges.
        validation: Share of the edges.
        negatives: Pairs without an edge for each training edge; held-out parts have one for each edge. They are the same in every epoch,
            so that with few of them a network learns them by heart: take ten, and a ``pos_weight`` of ten in the predictor's loss.
        seed: Of the cut and of the pairs without an edge; it does not follow the run's seed.
    """

    data_source: DataSource
    test: Fraction = 0.1
    validation: Fraction = 0.05
    negatives: PositiveFloat = 1.0
    seed: NonNegativeInt = 0

    def check(self) -> None:
        """Something must be left to train on."""
        if self.test + self.validation >= 1:
            raise InvalidParameters([Diagnostic("test and validation together must leave edges to train on", path="Links.test")])

    def fingerprint(self) -> Json:
        """The inner source's, and the version of the library that draws."""
        return {"numpy": version("numpy"), "of": self.data_source.fingerprint()}

    def load(self) -> Dataset:
        """Cut the edges and draw pairs without one."""
        inner = self.data_source.load()
        graph = inner.x
        if not isinstance(graph, NodeColumn) or graph.propagate:
            raise DataError(
                f'"{inner.name}" is not one graph whose edges could be predicted; give Links a source such as Planetoid'
            )
        if graph.background is not None:
            raise DataError(
                f'"{inner.name}" shows each partition its own nodes; links need the whole graph: give it "forgets": "request"'
            )
        generator = Streams(self.seed).numpy("links")
        edges = edge_pairs(graph)
        n_test, n_validation = (int(share * len(edges)) for share in (self.test, self.validation))
        edges = edges[torch.from_numpy(generator.permutation(len(edges)))]
        sizes = [len(edges) - n_validation - n_test, n_validation, n_test]
        if not len(edges):
            raise DataError(f'"{inner.name}" has no edges between two nodes')
        n_none = [round(self.negatives * sizes[0]), n_validation, n_test]
        pairs = torch.cat([edges, _strangers(graph, sum(n_none), inner.name, generator)])
        z = torch.cat([torch.repeat_interleave(torch.arange(3), torch.tensor(counts)) for counts in (sizes, n_none)])
        y = torch.cat([torch.ones(len(edges), dtype=torch.int64), torch.zeros(sum(n_none), dtype=torch.int64)])
        trained = torch.isin(pair_keys(graph.edge_index, len(graph)), pair_keys(edges[: sizes[0]].T, len(graph)))
        kept = trained | (graph.edge_index[0] == graph.edge_index[1])
        attributes = None if graph.edge_attr is None else graph.edge_attr[kept]
        messages = NodeColumn(
            graph.x, graph.edge_index[:, kept], attributes, counts_degrees=graph.counts_degrees, weighted=graph.weighted
        )
        return checked(
            Dataset(
                name=f"{inner.name} links",
                x=LinkColumn(messages, pairs),
                y=y,
                z=z,
                z_names=_PARTS,
                n_classes=2,
                task="binary",
                modality="graph",
                x_shape=messages.sample_shape,
                class_names=("no edge", "edge"),
            )
        )


def _strangers(graph: NodeColumn, n: int, name: str, generator: np.random.Generator) -> Tensor:
    """Different pairs of nodes without an edge, in random order; ``(n, 2)``, the smaller number first."""
    n_nodes = len(graph)
    taken = torch.unique(pair_keys(graph.edge_index, n_nodes))
    taken = taken[taken >= 0]
    free = n_nodes * (n_nodes - 1) // 2 - len(taken)
    if free < n:
        raise DataError(f'"{name}": {n} pairs without an edge are asked for, and there are {free}; lower negatives')
    if free < 4 * n:  # hardly more than are needed: list them
        low, high = torch.triu_indices(n_nodes, n_nodes, 1)
        keys = low * n_nodes + high
        keys = keys[~torch.isin(keys, taken)]
        keys = keys[torch.from_numpy(generator.permutation(len(keys))[:n])]
        return torch.stack([torch.div(keys, n_nodes, rounding_mode="floor"), keys % n_nodes], dim=1)
    found = torch.empty(0, dtype=torch.int64)
    while len(found) < n:
        drawn = pair_keys(torch.from_numpy(generator.integers(n_nodes, size=(2, 2 * n))), n_nodes)
        drawn = drawn[(drawn >= 0) & ~torch.isin(drawn, taken)]
        drawn = drawn[~torch.isin(drawn, found)]
        # The first of each, in the order in which they were drawn.
        first = np.sort(np.unique(drawn.numpy(), return_index=True)[1])
        found = torch.cat([found, drawn[torch.from_numpy(first)]])
    keys = found[:n]
    return torch.stack([torch.div(keys, n_nodes, rounding_mode="floor"), keys % n_nodes], dim=1)


def _links_to_tensors(column: LinkColumn) -> tuple[dict[str, Tensor], dict[str, Json]]:
    assert isinstance(column.graph, NodeColumn)  # noqa: S101 - a request is a splitter's, and no source's
    tensors, facts = nodes_to_tensors(column.graph)
    return {**tensors, "pairs": column.pairs}, facts


def _links_from_tensors(tensors: Mapping[str, Tensor], facts: Mapping[str, Json]) -> LinkColumn:
    return LinkColumn(nodes_from_tensors(tensors, facts), tensors["pairs"])


register_column("links", ColumnFormat(LinkColumn, _links_to_tensors, _links_from_tensors))
