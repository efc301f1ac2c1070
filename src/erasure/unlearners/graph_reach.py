"""What methods for graphs ask of a request: kept training nodes within reach of it, and the same nodes in another graph."""

from __future__ import annotations

from torch import Tensor

from erasure.training.graph_requests import GraphName, RequestedGraph
from erasure.unlearners.contract import UnlearningTask

__all__ = ["reached", "seen_in"]


def seen_in(task: UnlearningTask, ids: Tensor, graph: GraphName) -> Tensor:
    """The same nodes as samples of another graph; the ids themselves where nothing is forgotten of a graph."""
    return task.x.seen_in(ids, graph) if isinstance(task.x, RequestedGraph) else ids


def reached(task: UnlearningTask, n_hops: int) -> Tensor:
    """Samples of the retain set within a number of hops of what is forgotten, but not of the forget set, as the retain set sees them.

    None where the samples do not depend on one another. Test nodes are never among them.
    """
    retain = task.ids("retain")
    if not isinstance(task.x, RequestedGraph):
        return retain[:0]
    nodes = task.x.nodes_of(retain)
    chosen = task.x.affected(n_hops).index_fill(0, task.x.nodes_of(task.ids("forget")), False)
    return retain[chosen[nodes]]
