"""Cutting the training nodes of a graph into shards of about one size, so that neighbours stay together or nodes are alike."""

from __future__ import annotations

import math
from collections import deque
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from erasure.errors import RequirementNotMet
from erasure.training.batches import Column
from erasure.training.graphs import NodeColumn
from erasure.training.randomness import derive

__all__ = ["GraphPartition", "balanced_clusters", "balanced_labels", "capacity_of", "shards_of_nodes"]

GraphPartition: TypeAlias = Literal["blpa", "bekm"]
"""Balanced label propagation, or balanced k-means on features that are propagated."""

_SLACK = 0.005
_ROUNDS = 100


def capacity_of(n: int, k: int) -> int:
    """Most nodes of a shard: an equal share, and a little of what is left to it; GraphEraser's rule.

    Example:
        >>> capacity_of(1208, 10)
        127
    """
    return math.ceil(n / k + _SLACK * (n - n / k))


def shards_of_nodes(x: Column, ids: Tensor, k: int, how: GraphPartition, seed: int) -> Tensor:
    """The shard of each training node, by edges between training nodes alone; ``(N,)`` int64, -1 elsewhere.

    Args:
        x: A graph.
        ids: The training nodes.
        k: Shards.
        how: The partition.
        seed: Of what is drawn.

    Raises:
        RequirementNotMet: If the samples are not the nodes of one graph.
    """
    if not isinstance(x, NodeColumn):
        raise RequirementNotMet(
            f'the partition "{how}" cuts a graph, and the samples are not the nodes of one; leave partition out, or take the source '
            'Planetoid with "forgets": "node"'
        )
    # In an order of their own: the partition must not depend on that of the ids.
    nodes = ids.sort().values
    place = torch.full((len(x),), -1, dtype=torch.int64, device=ids.device)
    place[nodes] = torch.arange(len(nodes), device=ids.device)
    edges = place[x.edge_index]
    edges = edges[:, (edges >= 0).all(0) & (edges[0] != edges[1])].cpu()
    generator = torch.Generator().manual_seed(derive(seed, "partition"))
    if how == "blpa":
        found = balanced_labels(edges, len(nodes), k, generator)
    else:
        features = x.x[nodes].cpu()
        degrees = (torch.bincount(edges[1], minlength=len(nodes)) + 1)[:, None]
        for _ in range(2):
            features = features.index_add(0, edges[1], features[edges[0]]) / degrees
        found = balanced_clusters(features, k, generator)
    shards = torch.full((len(x),), -1, dtype=torch.int64, device=ids.device)
    shards[nodes] = found.to(ids.device)
    return shards


def balanced_labels(edge_index: Tensor, n: int, k: int, generator: torch.Generator) -> Tensor:
    """Balanced label propagation (BLPA): nodes move to the commonest label of their neighbours while it has room; ``(n,)`` int64.

    Nodes start with labels at random, each label as often. In a round each wishes the commonest label of its neighbours, its own if that
    is as common; those with the most such neighbours come first. A wish for a full label waits until somebody leaves it.

    Args:
        edge_index: Edges between the nodes, ``(2, m)``; in both directions if neighbours shall count for each other.
        n: Nodes.
        k: Labels.
        generator: Draws the start.

    Returns:
        A label in ``[0, k)`` for each node; none has more than :func:`capacity_of` nodes.

    Source:
        Chen et al., CCS 2022 (GraphEraser). There, nodes without neighbours wish the first label; here they stay.
    """
    capacity = capacity_of(n, k)
    label = torch.randperm(n, generator=generator) % k
    for _ in range(_ROUNDS):
        counts = torch.zeros(n * k)
        counts = counts.index_add(0, edge_index[1] * k + label[edge_index[0]], torch.ones(edge_index.shape[1])).reshape(n, k)
        counts[torch.arange(n), label] += 0.5
        wish, strength = counts.argmax(1), counts.amax(1)
        movers = (wish != label).nonzero().flatten()
        movers = movers[strength[movers].argsort(descending=True, stable=True)]
        n_moved = _moved(label, wish, movers.tolist(), capacity, k)
        if not n_moved:
            break
    return label


def _moved(label: Tensor, wish: Tensor, movers: list[int], capacity: int, k: int) -> int:
    """Let nodes move in their order; changes ``label``."""
    now, wanted = label.tolist(), wish.tolist()
    sizes = torch.bincount(label, minlength=k).tolist()
    waiting: list[deque[int]] = [deque() for _ in range(k)]
    n_moved = 0
    for node in movers:
        if sizes[wanted[node]] >= capacity:
            waiting[wanted[node]].append(node)
            continue
        while True:
            left = now[node]
            now[node] = wanted[node]
            sizes[wanted[node]] += 1
            sizes[left] -= 1
            n_moved += 1
            if not waiting[left]:
                break
            node = waiting[left].popleft()  # the place that was left goes to the first who waits for it
    label.copy_(torch.tensor(now))
    return n_moved


def balanced_clusters(features: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Balanced k-means (BEKM): the closest pairs of node and centre first, while the centre has room; ``(n,)`` int64.

    Args:
        features: ``(n, d)``.
        k: Clusters.
        generator: Draws the first centres.

    Source:
        Chen et al., CCS 2022 (GraphEraser), which clusters embeddings of a network.
    """
    n = len(features)
    capacity = capacity_of(n, k)
    centres = features[torch.randperm(n, generator=generator)[:k]]
    cluster = torch.full((n,), -1, dtype=torch.int64)
    for _ in range(_ROUNDS):
        order = torch.cdist(features, centres).flatten().argsort(stable=True).tolist()
        sizes, now, n_left = [0] * k, [-1] * n, n
        for pair in order:
            node, centre = divmod(pair, len(centres))
            if now[node] < 0 and sizes[centre] < capacity:
                now[node] = centre
                sizes[centre] += 1
                n_left -= 1
                if not n_left:
                    break
        found = torch.tensor(now)
        if torch.equal(found, cluster):
            break
        cluster = found
        totals = torch.zeros_like(centres).index_add(0, cluster, features)
        counts = torch.bincount(cluster, minlength=len(centres))[:, None]
        centres = torch.where(counts > 0, totals / counts.clamp(min=1), centres)
    return cluster
