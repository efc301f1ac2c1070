"""A likelihood-ratio attack on edges, calibrated on models of shadow graphs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from erasure.errors import Diagnostic, InvalidParameters, RequirementNotMet
from erasure.functional.membership_scores import gaussian_fits, online_score
from erasure.measures.attacks.shadow_game import least_models, outcome
from erasure.measures.contract import Evaluation, ModelRole, Outputs, Value
from erasure.measures.edge_membership import OfPairs
from erasure.measures.edge_memory import agreement_odds
from erasure.measures.requested_models import ModelRequest, Shadow
from erasure.training.graph_requests import RequestedGraph
from erasure.types import Indication, Partition, PositiveInt, Source

__all__ = ["EdgeLiRA"]


@dataclass(frozen=True, kw_only=True)
class EdgeLiRA(OfPairs):
    r"""Was there an edge in the graph that a model was trained on? A likelihood-ratio test for each edge, by models of shadow graphs.

    Members are the forgotten edges, non-members pairs of nodes that never had an edge. A shadow graph has all kept edges and a random half
    of both; a model is trained on each. Whoever is asked, shadow or attacked model, predicts the nodes on one graph with none of the pairs
    in it: all are given the same messages. The statistic of a pair is the log-odds that both ends are of one class
    (:func:`~erasure.measures.edge_memory.agreement_odds`), and each pair is compared with itself in shadow graphs with and without it, so
    that neighbours resemble one another in all of them. So 0.5, chance, is also what a retrained model has but for luck; and a model that
    has become surer everywhere is so about members and non-members alike.

    The rows are those of ``LiRA``.

    **Cost**: trains ``n_shadows`` models on about the original's training graph, shared by all methods.

    Args:
        forgotten: The forgotten edges.
        nodes: Nodes on the graph on which all are asked, ``SeenIn`` of ``all`` in the graph ``after``; pairs with an end elsewhere are left
            out.
        strangers: Pairs without an edge, as ``GraphStrangers`` draws them.
        retain: The nodes that every shadow is trained on.
        n_shadows: Shadow graphs, even and at least 4.
    """

    source: ClassVar[Source | None] = Source(
        paper="Carlini, Chien, Nasr, Song, Terzis, Tramer, IEEE S&P 2022, arXiv:2112.03570 (the test); He, Jia, Backes, Gong, Zhang, "
        "USENIX Security 2021, arXiv:2005.02131 (links as members, shadow graphs)",
        tested="planted knowledge of edges, and gold's value on shadow graphs of a toy (tests/unit/measures/test_edge_lira.py)",
        deviations=(
            "A member is an edge and not a sample.",
            "Shadow graphs have the same nodes; those of link stealing are other graphs.",
            "One variance for all pairs on either side.",
        ),
    )
    indicates: ClassVar[Indication | None] = "attack"
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    strangers: Partition = "strangers"
    retain: Partition = "retain"
    n_shadows: PositiveInt = 16

    def check(self) -> None:
        """Halves come in pairs, and either side needs two models."""
        if self.n_shadows < 4 or self.n_shadows % 2:
            message = f"found {self.n_shadows} shadow graphs; an even number from 4 on is needed"
            raise InvalidParameters([Diagnostic(message, path="n_shadows")])

    def of_edges(self) -> tuple[str, ...]:
        """Members and non-members."""
        return (self.forgotten, self.strangers)

    @property
    def shadows(self) -> tuple[Shadow, ...]:
        """The models of shadow graphs, by number."""
        pool = (self.forgotten, self.strangers)
        return tuple(Shadow(number=k, pool=pool, always=(self.retain,)) for k in range(self.n_shadows))

    def requests(self, subject: ModelRole) -> Sequence[tuple[ModelRequest, tuple[str, ...]]]:
        """The shadows, on the common graph."""
        return [(request, (self.nodes,)) for request in self.shadows]

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """AUC, balanced accuracy and true positive rates at small false positive rates."""
        graph, models = self.graph(evaluation), evaluation.models()
        subject = evaluation.outputs(self.nodes)
        _, there = self.probabilities(subject, graph)
        ids = [self._ids(evaluation, graph, name, there) for name in self.of_edges()]
        pairs, n_members = graph.ends_of(torch.cat(ids)).cpu(), len(ids[0])
        said = torch.stack([self._odds(models.outputs(shadow, self.nodes), graph, pairs) for shadow in self.shadows])
        inside = torch.stack([torch.isin(torch.cat(ids), models.seen(shadow)) for shadow in self.shadows])
        least_models("in the graph", inside)
        least_models("left out of the graph", ~inside)
        fits = [gaussian_fits(said, counted, pooled=True) for counted in (inside, ~inside)]
        scores = online_score(self._odds(subject, graph, pairs), *fits)
        return outcome("EdgeLiRA", scores[:n_members], scores[n_members:], self.forgotten)

    def _ids(self, evaluation: Evaluation, graph: RequestedGraph, name: str, there: Tensor) -> Tensor:
        """Pairs whose ends are both among the nodes, in an order that does not depend on the partition's."""
        ids = evaluation.ids(name).cpu().sort().values
        ids = ids[there[graph.ends_of(ids).cpu()].all(1)]
        if not len(ids):
            raise RequirementNotMet(f'no pair of "{name}" has both ends in "{self.nodes}"')
        return ids

    def _odds(self, outputs: Outputs, graph: RequestedGraph, pairs: Tensor) -> Tensor:
        if outputs.diverged:
            raise RequirementNotMet("what a model says of the nodes is not finite: its training or unlearning diverged")
        return agreement_odds(self.probabilities(outputs, graph)[0], pairs)
