"""Averaged features that are kept up to date by pushing on only those changes that are large enough, with a bound on what is left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from erasure.training.graph_requests import RequestedGraph
from erasure.training.propagation import Propagation

__all__ = ["NodeRows", "PushedPropagation", "pushed_after"]


@dataclass(frozen=True, eq=False)
class NodeRows:
    """Some rows of a matrix whose other rows are 0.

    Args:
        nodes: Which rows, ``(k,)``, int64, ascending, each once.
        values: The rows, ``(k, F)``.
    """

    nodes: Tensor
    values: Tensor

    @classmethod
    def summed(cls, nodes: Tensor, values: Tensor) -> NodeRows:
        """Rows that may name a node several times, in any order: what they add up to."""
        there, places = torch.unique(nodes, return_inverse=True)
        return cls(there, values.new_zeros(len(there), values.shape[1]).index_add_(0, places, values))

    def plus(self, other: NodeRows) -> NodeRows:
        """The sum of both matrices."""
        if not len(other.nodes):
            return self
        return NodeRows.summed(torch.cat([self.nodes, other.nodes]), torch.cat([self.values, other.values]))

    def where(self, mask: Tensor) -> NodeRows:
        """Some of the rows, by a mask over them."""
        return NodeRows(self.nodes[mask], self.values[mask])

    def at(self, nodes: Tensor) -> Tensor:
        """Rows of the matrix by their numbers, ``(len(nodes), F)``."""
        found = self.values.new_zeros(len(nodes), self.values.shape[1])
        if len(self.nodes):
            places = torch.searchsorted(self.nodes, nodes).clamp_(max=len(self.nodes) - 1)
            there = self.nodes[places] == nodes
            found[there] = self.values[places[there]]
        return found


@dataclass(frozen=True, eq=False)
class PushedPropagation:
    r"""Features after some means, of which a change is passed on to neighbours only where it is longer than a threshold.

    Of each level l there are the features q that have been passed on and a residue r that has not. Level l + 1 is the mean of q over the
    neighbours and the node itself, so that after K means, with the mean P, no more is wrong than

    .. math:: P^K x - h_K = \sum_{l < K} P^{K - l} r_l

    Rows of P add up to 1: the error of a node's row is at most the same sum of the residues' lengths, and never more than K thresholds.
    Everything is kept as the difference to averages of the graph before any request, whose residues are 0.

    Args:
        base: Averages of the graph before any request, exactly.
        threshold: Length (Euclidean norm) of a change up to which it waits; at 0 none does, and nothing is wrong but for rounding.
        pushed: Of each level but the last, by how much q is not the base's.
        residues: Of each level but the last, r.
        arrived: Of the last level, by how much it is not the base's.
        rewired: Nodes that have lost edges that arrive at them, ``(k,)``, ascending.
        degrees: How many edges arrive at them by now, and 1 for themselves, ``(k,)``.
        gone: Which edges are gone by now, by the nodes that they come from and go to; None for none.
    """

    base: Propagation
    threshold: float
    pushed: tuple[NodeRows, ...]
    residues: tuple[NodeRows, ...]
    arrived: NodeRows
    rewired: Tensor
    degrees: Tensor
    gone: Callable[[Tensor, Tensor], Tensor] | None = None

    @classmethod
    def of(cls, base: Propagation, threshold: float) -> PushedPropagation:
        """The averages as they are before any request."""
        x = base.levels[0]
        none = torch.empty(0, dtype=torch.int64, device=x.device)
        zero = NodeRows(none, x[:0])
        levels = (zero,) * (len(base.levels) - 1)
        return cls(base, threshold, levels, levels, zero, none, x.new_empty(0))

    @property
    def n_means(self) -> int:
        """K."""
        return len(self.residues)

    @property
    def propagated(self) -> Tensor:
        """Features after the last mean, ``(n, F)``."""
        return self.base.propagated.index_add(0, self.arrived.nodes, self.arrived.values)

    def errors(self) -> Tensor:
        """How far, at most, each node's row is from the exact one, by the Euclidean norm; ``(n,)``.

        **Cost**: the edges that leave nodes within K - 1 hops of a residue, one number each.
        """
        waiting = [NodeRows(each.nodes, torch.linalg.vector_norm(each.values, dim=1, keepdim=True)) for each in self.residues]
        found = torch.zeros(len(self.base.messages), dtype=self.base.levels[0].dtype, device=self.rewired.device)
        if not waiting:
            return found
        error = waiting[0]
        for level in range(self.n_means):
            error = self._passed_on(error)
            if level + 1 < self.n_means:
                error = error.plus(waiting[level + 1])
        return found.index_add_(0, error.nodes, error.values.flatten())

    def after(
        self,
        *,
        rewired: Tensor,
        gone: Callable[[Tensor, Tensor], Tensor] | None = None,
        features: tuple[Tensor, Tensor] | None = None,
    ) -> PushedPropagation:
        """What is known once edges and features have changed.

        Args:
            rewired: Nodes that have lost edges that arrive at them, by all requests so far, ``(k,)``, int64.
            gone: Which of the edges to them are gone by now, bool, from the nodes that they come from and those that they go to.
            features: Nodes whose own features are others than the base's, ``(j,)``, and those, ``(j, F)``.

        **Cost**: the edges of the rewired nodes and of those whose residues pass the threshold.
        """
        rewired = torch.unique(rewired)
        arriving = self.base.messages.chosen(rewired)
        sources, rows = arriving.columns, arriving.rows
        if gone is not None:
            kept = ~gone(sources, rewired.index_select(0, rows))
            sources, rows = sources[kept], rows[kept]
        degrees = (torch.bincount(rows, minlength=len(rewired)) + 1).to(self.base.levels[0].dtype)
        now = PushedPropagation(
            self.base, self.threshold, self.pushed, self.residues, self.arrived, rewired, degrees, gone if len(rewired) else None
        )
        pushed, residues = list[NodeRows](), list[NodeRows]()
        residue = self.residues[0] if self.n_means else self.arrived
        if features is not None and len(features[0]):
            nodes, order = torch.unique(features[0]), features[0].argsort()
            known = self.base.levels[0].index_select(0, nodes) + (self.pushed[0] if self.n_means else self.arrived).at(nodes)
            change = NodeRows(nodes, features[1].index_select(0, order) - known)
            residue = change.plus(residue.where(~torch.isin(residue.nodes, nodes))) if self.n_means else residue.plus(change)
        for level in range(self.n_means):
            is_long = torch.linalg.vector_norm(residue.values, dim=1) > self.threshold
            push = residue.where(is_long)
            pushed.append(self.pushed[level].plus(push))
            residues.append(residue.where(~is_long))
            moved = now._passed_on(push, but=rewired)
            if len(rewired):
                own, theirs = (self._at(level, pushed[level], nodes) for nodes in (rewired, sources))
                means = own.index_add(0, rows, theirs) / degrees[:, None]
                is_last = level + 1 == self.n_means
                there = self.arrived if is_last else self.pushed[level + 1].plus(self.residues[level + 1])
                moved = moved.plus(NodeRows(rewired, means - self._at(level + 1, there, rewired)))
            residue = (self.residues[level + 1] if level + 1 < self.n_means else self.arrived).plus(moved)
        return PushedPropagation(self.base, self.threshold, tuple(pushed), tuple(residues), residue, rewired, degrees, now.gone)

    def _at(self, level: int, change: NodeRows, nodes: Tensor) -> Tensor:
        """Rows of a level that is the base's and a change."""
        return self.base.levels[level].index_select(0, nodes) + change.at(nodes)

    def _passed_on(self, rows: NodeRows, but: Tensor | None = None) -> NodeRows:
        """One mean of a matrix with these rows, in the graph as it is by now; without the rows of some nodes."""
        leaving = self.base.messages.transposed().chosen(rows.nodes)
        targets, owners = leaving.columns, leaving.rows
        if self.gone is not None:
            kept = ~(self.gone(rows.nodes.index_select(0, owners), targets) & torch.isin(targets, self.rewired))
            targets, owners = targets[kept], owners[kept]
        targets = torch.cat([targets, rows.nodes])
        owners = torch.cat([owners, torch.arange(len(rows.nodes), device=owners.device)])
        if but is not None and len(but):
            others = ~torch.isin(targets, but)
            targets, owners = targets[others], owners[others]
        pointers = self.base.messages.pointers
        degrees = (pointers[targets + 1] - pointers[targets] + 1).to(rows.values.dtype)
        if len(self.rewired):
            places = torch.searchsorted(self.rewired, targets).clamp_(max=len(self.rewired) - 1)
            degrees = torch.where(self.rewired[places] == targets, self.degrees[places], degrees)
        return NodeRows.summed(targets, rows.values.index_select(0, owners) / degrees[:, None])


def pushed_after(graph: RequestedGraph, threshold: float) -> PushedPropagation:
    """Averaged features in the graph after a request, pushed on from those after the request before; kept with the graph.

    Args:
        graph: Whose samples are rows of averaged features.
        threshold: As for :class:`PushedPropagation`.
    """
    known = graph.pushed
    if threshold not in known:
        earlier = graph.earlier
        before = PushedPropagation.of(graph.averages, threshold) if earlier is None else pushed_after(earlier, threshold)
        rewired, gone, features = graph.changes()
        known[threshold] = before.after(rewired=rewired, gone=gone, features=features)
    found = known[threshold]
    assert isinstance(found, PushedPropagation)  # noqa: S101 - narrows the type
    return found
