"""Whether the edges that were forgotten can be read off the predictions for the nodes at their ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from erasure.deferred import for_scikit_learn
from erasure.errors import RequirementNotMet
from erasure.functional.divergences import log_probabilities
from erasure.functional.membership import auc, auc_interval
from erasure.functional.pair_distances import PAIR_DISTANCES, pair_distances
from erasure.measures.contract import Evaluation, Measure, Outputs, Value
from erasure.training.graph_requests import RequestedGraph, pair_keys
from erasure.types import Indication, Partition, PositiveInt, Source, Task

__all__ = ["DeletedEdgeAUC", "EdgeMembership", "OfEdges", "OfPairs"]

_Distance: TypeAlias = Literal[
    "cosine", "euclidean", "correlation", "chebyshev", "braycurtis", "canberra", "cityblock", "sqeuclidean"
]


@dataclass(frozen=True, kw_only=True)
class OfPairs(Measure):
    """What is common to measures that look at pairs of nodes through the predictions for both."""

    version: ClassVar[int] = 2
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification"})

    forgotten: Partition = "forgotten_edges"
    nodes: Partition = "nodes_after"

    def graph(self, evaluation: Evaluation) -> RequestedGraph:
        """The graph of which something is forgotten.

        Raises:
            RequirementNotMet: If the data has none.
        """
        if not isinstance(evaluation.x, RequestedGraph):
            raise RequirementNotMet(
                f"{type(self).__name__} looks at edges of a graph, and the data has none; cut them with GraphEdges"
            )
        return evaluation.x

    def probabilities(self, outputs: Outputs, graph: RequestedGraph) -> tuple[Tensor, Tensor]:
        """Probabilities of each node in double precision, NaN where ``nodes`` lacks it, and which nodes it has.

        Raises:
            RequirementNotMet: If the nodes are seen in several graphs.
        """
        seen = outputs.ids // graph.n_nodes
        if len(torch.unique(seen)) > 1:
            raise RequirementNotMet(f'the nodes of "{self.nodes}" are seen in several graphs; edges are compared on one')
        rows = log_probabilities(outputs.task, outputs.logits).exp()
        probabilities = torch.full((graph.n_nodes, rows.shape[1]), torch.nan, dtype=torch.float64)
        probabilities[outputs.ids % graph.n_nodes] = rows
        return probabilities, ~torch.isnan(probabilities[:, 0])

    def pairs(self, evaluation: Evaluation, graph: RequestedGraph, name: str, there: Tensor) -> Tensor:
        """The edges of a partition whose ends are both among the nodes, in an order that does not depend on the partition's."""
        pairs = graph.ends_of(evaluation.ids(name).sort().values).cpu()
        pairs = pairs[there[pairs].all(1)]
        if not len(pairs):
            raise RequirementNotMet(f'no edge of "{name}" has both ends in "{self.nodes}"')
        return pairs


@dataclass(frozen=True, kw_only=True)
class OfEdges(OfPairs):
    """What is common to measures that compare forgotten edges with kept ones."""

    kept: Partition = "kept_edges"

    def of_edges(self) -> tuple[str, ...]:
        """Both partitions of edges."""
        return (self.forgotten, self.kept)


@dataclass(frozen=True, kw_only=True)
class _ByDistance(OfEdges):
    """What is common to measures by a distance of the predictions for both ends."""

    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    distance: _Distance = "cosine"

    def _closeness(self, probabilities: Tensor, pairs: Tensor) -> Tensor:
        """How alike the predictions for both ends are; higher is closer."""
        a, b = probabilities[pairs[:, 0]], probabilities[pairs[:, 1]]
        return -pair_distances(a, b)[:, PAIR_DISTANCES.index(self.distance)]


@dataclass(frozen=True, kw_only=True)
class DeletedEdgeAUC(_ByDistance):
    r"""How well forgotten edges are told from kept ones by the likeness of the predictions for both ends.

    .. math:: \Pr[s(\text{kept}) > s(\text{forgotten})] + \tfrac12 \Pr[=]

    In [0, 1]. Exact over all pairs of a kept and a forgotten edge, of which the usual average over random draws is an estimate. The ideal
    is gold's value and not 1: whoever overshoots it has pulled the ends of forgotten edges apart, which tells an attacker just as much.

    Args:
        forgotten: The forgotten edges.
        kept: Edges that stay.
        nodes: Nodes on the graph on which they are compared, ``SeenIn`` of ``all`` in the graph ``after``; edges with an end elsewhere
            are left out.
        distance: What likeness is: cosine, Euclidean, correlation, Chebyshev, Bray-Curtis, Canberra, city-block or squared Euclidean
            distance of the probabilities.
    """

    source: ClassVar[Source | None] = Source(
        paper="Cheng et al., ICLR 2023, arXiv:2302.13406 (GNNDelete)",
        tested="every pair of edges by a loop, and scipy's distances (tests/unit/measures/test_edge_membership.py)",
        deviations=(
            "All kept edges are compared with, not draws of as many as there are forgotten ones.",
            "The score is the likeness of class probabilities; the paper's is that of a link predictor.",
            "The ideal is gold's value; the paper prefers higher ones.",
        ),
    )
    indicates: ClassVar[Indication | None] = ""

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The area."""
        graph = self.graph(evaluation)
        probabilities, there = self.probabilities(evaluation.outputs(self.nodes), graph)
        kept, forgotten = (
            self._closeness(probabilities, self.pairs(evaluation, graph, name, there)) for name in (self.kept, self.forgotten)
        )
        low, high = auc_interval(kept, forgotten)
        return [Value(value=auc(kept, forgotten), partition=self.forgotten, low=low, high=high)]


@dataclass(frozen=True, kw_only=True)
class EdgeMembership(_ByDistance):
    r"""How well an attack tells forgotten edges from pairs of nodes that never were an edge, by the predictions for both ends.

    Answers: can somebody who sees what the model says of two nodes tell that it once knew of an edge between them? ``distance`` takes
    close predictions for a sign of an edge. ``trained`` learns the sign from kept edges and other pairs: a logistic regression on eight
    distances between the two predictions, and on the mean and the difference of their entropies.

    The value is the area under the ROC curve; 0.5 is chance. Neighbours resemble one another without any edge being known, so that gold's
    value is the ideal, and it is far above 0.5. Pairs without an edge are drawn at random, avoid all edges, forgotten ones included, and
    are the same for every model.

    Args:
        forgotten: The forgotten edges.
        kept: Edges that stay, from which the trained attack learns.
        nodes: Nodes on the graph on which they are attacked, ``SeenIn`` of ``all`` in the graph ``after``; edges with an end elsewhere are
            left out.
        distance: As for :class:`DeletedEdgeAUC`; for ``attack="distance"``.
        attack: ``distance`` or ``trained``.
        max_pairs: Kept edges that the attack learns from at most, and as many pairs without an edge.
    """

    source: ClassVar[Source | None] = Source(
        paper="He, Jia, Backes, Gong, Zhang, USENIX Security 2021, arXiv:2005.02131 (link stealing); Wu et al., KDD 2023 (CEU)",
        tested="scipy's distances and a plain area (tests/unit/measures/test_edge_membership.py)",
        deviations=(
            "The trained attack is a logistic regression and not a perceptron, and knows a part of the graph, not a shadow graph.",
            "Features of the nodes are not among what it sees: they are the same for all models.",
        ),
    )
    indicates: ClassVar[Indication | None] = "attack"
    chance_level: ClassVar[float | None] = 0.5

    attack: Literal["distance", "trained"] = "distance"
    max_pairs: PositiveInt = 2000

    @property
    def title(self) -> str:
        """The measure's name and its attack."""
        return f"EdgeMembership {self.attack if self.attack == 'trained' else self.distance}"

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The area."""
        graph = self.graph(evaluation)
        probabilities, there = self.probabilities(evaluation.outputs(self.nodes), graph)
        forgotten = self.pairs(evaluation, graph, self.forgotten, there)
        generator = evaluation.streams.numpy("pairs")
        others = _strangers(graph, there, max(len(forgotten), 1000), generator)
        if self.attack == "distance":
            members, nonmembers = (self._closeness(probabilities, pairs) for pairs in (forgotten, others))
        else:
            kept = self.pairs(evaluation, graph, self.kept, there)
            kept = kept[torch.from_numpy(np.sort(generator.permutation(len(kept))[: self.max_pairs]))]
            learned = _strangers(graph, there, len(kept), generator)
            members, nonmembers = _trained(probabilities, kept, learned, forgotten, others)
        low, high = auc_interval(members, nonmembers)
        return [Value(value=auc(members, nonmembers), partition=self.forgotten, low=low, high=high)]


def _strangers(graph: RequestedGraph, there: Tensor, n: int, generator: np.random.Generator) -> Tensor:
    """Pairs of different nodes without an edge in the whole graph, drawn with replacement; ``(n, 2)``."""
    nodes = there.nonzero().flatten()
    edges = torch.unique(pair_keys(graph.graph.edge_index.cpu(), graph.n_nodes))
    found = torch.empty(0, 2, dtype=torch.int64)
    for _ in range(100):
        drawn = nodes[torch.from_numpy(generator.integers(len(nodes), size=(2 * n, 2)))]
        keys = pair_keys(drawn.T, graph.n_nodes)
        found = torch.cat([found, drawn[(keys >= 0) & ~torch.isin(keys, edges)]])
        if len(found) >= n:
            return found[:n]
    raise RequirementNotMet("hardly any two nodes are without an edge between them, so that none can be drawn")


def _trained(probabilities: Tensor, kept: Tensor, learned: Tensor, forgotten: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of forgotten edges and of other pairs by a logistic regression."""
    with for_scikit_learn():
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

    def seen(pairs: Tensor) -> np.ndarray:
        a, b = probabilities[pairs[:, 0]], probabilities[pairs[:, 1]]
        entropies = torch.special.entr(torch.stack([a, b])).sum(2)
        found = torch.cat([pair_distances(a, b), entropies.mean(0)[:, None], entropies.diff(dim=0).abs().T], dim=1)
        features: np.ndarray = found.numpy()
        return features

    attack = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    attack.fit(np.concatenate([seen(kept), seen(learned)]), np.repeat([1, 0], [len(kept), len(learned)]))
    members, nonmembers = (torch.from_numpy(attack.decision_function(seen(pairs))) for pairs in (forgotten, others))
    return members, nonmembers
