"""Features of nodes averaged over their neighbourhood a few times, and what of that a request changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from erasure.training.sparse_rows import SparseRows

__all__ = ["Propagation", "propagation"]


@dataclass(frozen=True, eq=False)
class Propagation:
    """Features after each of some means over the nodes with an edge to a node and the node itself.

    Args:
        messages: In row v a 1 for each edge to v, in the column of the node that it comes from; self-loops of the mean are not among them.
        levels: The features, and those after each mean; each ``(n, F)``.
    """

    messages: SparseRows
    levels: tuple[Tensor, ...]

    @property
    def propagated(self) -> Tensor:
        """Features after the last mean, ``(n, F)``."""
        return self.levels[-1]

    def after(
        self,
        *,
        rewired: Tensor,
        gone: Callable[[Tensor, Tensor], Tensor] | None = None,
        features: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Nodes whose propagated features are others after a request, and those features: what propagating anew would give, bit for bit.

        Args:
            rewired: Nodes that lose edges that arrive at them, shape ``(k,)``, int64.
            gone: Which of the edges to them are gone, bool, from the nodes that they come from and those that they go to.
            features: Nodes whose own features are others, ``(j,)``, and those, ``(j, F)``.

        Returns:
            Nodes ``(c,)`` and their features ``(c, F)``.

        **Cost**: the edges of nodes within ``len(levels) - 1`` hops of the request, and a few bytes a node.
        """
        n = len(self.messages)
        is_rewired = torch.zeros(n, dtype=torch.bool, device=rewired.device).index_fill(0, rewired, True)
        nodes, values = features if features is not None else (rewired[:0], self.levels[0][:0])
        for level in self.levels[:-1]:
            reached = is_rewired.index_fill(0, nodes, True).index_fill(0, self.messages.transposed().chosen(nodes).columns, True)
            targets = reached.nonzero().flatten()
            nodes, values = targets, self._averaged(level, targets, (nodes, values), is_rewired, gone)
        return nodes, values

    def _averaged(
        self,
        level: Tensor,
        nodes: Tensor,
        changed: tuple[Tensor, Tensor],
        is_rewired: Tensor,
        gone: Callable[[Tensor, Tensor], Tensor] | None,
    ) -> Tensor:
        """The means at some nodes, where some features of the level before are others."""
        n, edges = len(self.messages), self.messages.chosen(nodes)
        sources, rows = edges.columns, edges.rows
        if gone is not None:
            loses = is_rewired.index_select(0, nodes).index_select(0, rows).nonzero().flatten()
            targets = nodes.index_select(0, rows.index_select(0, loses))
            kept = torch.ones_like(sources, dtype=torch.bool)
            kept[loses] = ~gone(sources.index_select(0, loses), targets)
            sources, rows = sources[kept], rows[kept]
        # The features that are read, old or changed, are copied into a matrix of their own.
        is_read = torch.zeros(n, dtype=torch.bool, device=nodes.device).index_fill(0, sources, True).index_fill(0, nodes, True)
        read = is_read.nonzero().flatten()
        place = read.new_empty(n).index_copy_(0, read, torch.arange(len(read), device=nodes.device))
        there = is_read.index_select(0, changed[0])
        inputs = level.index_select(0, read).index_copy(0, place[changed[0][there]], changed[1][there])
        pointers = torch.nn.functional.pad(torch.bincount(rows, minlength=len(nodes)).cumsum(0), (1, 0))
        some = SparseRows(inputs.new_ones(len(sources)), place.index_select(0, sources), pointers, len(read))
        return _mean(some, inputs, inputs.index_select(0, place.index_select(0, nodes)))


def propagation(x: Tensor, edge_index: Tensor, n_steps: int) -> Propagation:
    """Propagate from scratch.

    Args:
        x: Features, ``(n, F)``.
        edge_index: From and to which node each edge goes, ``(2, m)``; each of several copies counts.
        n_steps: Means.
    """
    messages = SparseRows.of_edges(edge_index, x.new_ones(edge_index.shape[1]), len(x))
    levels = [x]
    for _ in range(n_steps):
        levels.append(_mean(messages, levels[-1], levels[-1]))
    return Propagation(messages, tuple(levels))


def _mean(messages: SparseRows, x: Tensor, own: Tensor) -> Tensor:
    degrees = (messages.pointers.diff() + 1).to(x.dtype)
    return (messages.times(x) + own) / degrees[:, None]
