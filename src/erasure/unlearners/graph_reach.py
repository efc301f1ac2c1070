"""What methods for graphs ask of a request: kept training samples within reach of it, and the same ones in another graph."""

from __future__ import annotations

from torch import Tensor

from erasure.training.graph_requests import GraphName
from erasure.training.links import request_of
from erasure.unlearners.contract import UnlearningContext

__all__ = ["reached", "seen_in"]


def seen_in(context: UnlearningContext, ids: Tensor, graph: GraphName) -> Tensor:
    """The same nodes or links as samples of another graph; the ids themselves where nothing is forgotten of a graph."""
    requested = request_of(context.x)
    return ids if requested is None else requested.seen_in(ids, graph)


def reached(context: UnlearningContext, n_hops: int) -> Tensor:
    """Samples of the retain set within a number of hops of what is forgotten, but not of the forget set, as the retain set sees them.

    None where the samples do not depend on one another. Test nodes and links are never among them.
    """
    retain, requested = context.ids("retain"), request_of(context.x)
    if requested is None:
        return retain[:0]
    n = requested.n_samples
    chosen = requested.affected(n_hops).index_fill(0, context.ids("forget") % n, False)
    return retain[chosen[retain % n]]
