"""Where nodes and edges are in a graph: how many neighbours, and whether it falls apart without them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["bridges", "cut_nodes", "foreign_neighbours", "undirected_degrees"]


def undirected_degrees(pairs: Tensor, n_nodes: int) -> Tensor:
    """Neighbours of each node, ``(n_nodes,)``, by edges that are there once each, ``(E, 2)``."""
    return torch.bincount(pairs.flatten(), minlength=n_nodes)


def foreign_neighbours(pairs: Tensor, y: Tensor) -> Tensor:
    """Share of each node's neighbours that are of another class, ``(n_nodes,)``; 0 without neighbours.

    Example:
        >>> foreign_neighbours(torch.tensor([[0, 1], [0, 2]]), torch.tensor([0, 0, 1, 1]))
        tensor([0.5000, 0.0000, 1.0000, 0.0000], dtype=torch.float64)
    """
    other = (y[pairs[:, 0]] != y[pairs[:, 1]]).double().repeat_interleave(2)
    counts = y.new_zeros(len(y), dtype=torch.float64).index_add(0, pairs.flatten(), other)
    return counts / undirected_degrees(pairs, len(y)).clamp(min=1)


def bridges(pairs: Tensor, n_nodes: int) -> Tensor:
    """Which edges are the only way between two parts of the graph, ``(E,)``, bool.

    Example:
        >>> bridges(torch.tensor([[0, 1], [0, 2], [1, 2], [2, 3]]), 4)
        tensor([False, False, False,  True])
    """
    return torch.from_numpy(_search(pairs, n_nodes)[0])


def cut_nodes(pairs: Tensor, n_nodes: int) -> Tensor:
    """Which nodes hold two parts of the graph together, ``(n_nodes,)``, bool.

    Example:
        >>> cut_nodes(torch.tensor([[0, 1], [0, 2], [1, 2], [2, 3]]), 4)
        tensor([False, False,  True, False])
    """
    return torch.from_numpy(_search(pairs, n_nodes)[1])


def _search(pairs: Tensor, n_nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """One depth-first search with the lowest number that each subtree reaches (Tarjan 1972), without recursion."""
    ends = pairs.numpy()
    both = np.concatenate([ends, ends[:, ::-1]])
    number = np.concatenate([np.arange(len(ends))] * 2)
    order = np.argsort(both[:, 0], kind="stable")
    targets, edges = both[order, 1].tolist(), number[order].tolist()
    pointers = np.concatenate([[0], np.cumsum(np.bincount(both[:, 0], minlength=n_nodes))]).tolist()
    is_bridge, is_cut = np.zeros(len(ends), dtype=bool), np.zeros(n_nodes, dtype=bool)
    found, low, via, at = [-1] * n_nodes, [0] * n_nodes, [-1] * n_nodes, pointers[:-1]
    clock = 0
    for root in range(n_nodes):
        if found[root] >= 0:
            continue
        found[root] = low[root] = clock
        clock, children, stack = clock + 1, 0, [root]
        while stack:
            node = stack[-1]
            if at[node] < pointers[node + 1]:
                target, edge = targets[at[node]], edges[at[node]]
                at[node] += 1
                if found[target] < 0:
                    found[target] = low[target] = clock
                    clock, via[target] = clock + 1, edge
                    children += node == root
                    stack.append(target)
                elif edge != via[node]:
                    low[node] = min(low[node], found[target])
                continue
            stack.pop()
            if stack:
                parent = stack[-1]
                low[parent] = min(low[parent], low[node])
                is_bridge[via[node]] = low[node] > found[parent]
                is_cut[parent] |= parent != root and low[node] >= found[parent]
        is_cut[root] = children > 1
    return is_bridge, is_cut
