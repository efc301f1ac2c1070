"""Training graphs with some of the forgotten edges and some that never were: what the shadow models of an attack on edges learn from."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from erasure.errors import RequirementNotMet
from erasure.training.batches import Column
from erasure.training.graph_requests import FIRST_PAIR, NO_SAMPLE, RequestedGraph, pair_keys

__all__ = ["has_edges", "pair_ids", "shadow_graph"]


def pair_ids(pairs: Tensor, n_nodes: int) -> Tensor:
    """Ids of pairs of nodes, with an edge or without; ``(k, 2)`` to ``(k,)``."""
    return FIRST_PAIR + pair_keys(pairs.T, n_nodes)


def has_edges(ids: Tensor) -> bool:
    """Whether there are edges or pairs of nodes among the ids."""
    return bool((ids >= NO_SAMPLE).any())


def shadow_graph(x: Column, ids: Tensor) -> tuple[Column, Tensor]:
    """A column whose graph after the request has some edges more, and the samples to train on.

    Args:
        x: A graph of which edges are forgotten.
        ids: Nodes, and the edges and pairs that are there in the graph after the request.

    Raises:
        RequirementNotMet: If it is no such graph, or its edges have features, which pairs without an edge do not.
    """
    edges = ids[ids >= NO_SAMPLE]
    if not isinstance(x, RequestedGraph) or x.kind != "edges" or x.earlier is not None:
        raise RequirementNotMet("shadow graphs have some of the forgotten edges: forget edges, by one GraphRequest")
    if x.graph.edge_attr is not None:
        raise RequirementNotMet("the edges have features, and nothing says what those of a pair without an edge are")
    pairs, n = x.ends_of(edges), x.n_nodes
    keys = pair_keys(pairs.T, n)
    new = pairs[~torch.isin(keys, pair_keys(x.graph.edge_index, n))].T
    graph = replace(x.graph, edge_index=torch.cat([x.graph.edge_index, new, new.flip(0)], dim=1), planted=None)
    gone = x.pairs[~torch.isin(pair_keys(x.pairs.T, n), keys)]
    return replace(x, graph=graph, pairs=gone), ids[ids < NO_SAMPLE]
