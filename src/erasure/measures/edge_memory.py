"""How much of what the original knew about the forgotten edges a model still knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from erasure.errors import DataError, Diagnostic, InvalidParameters, RequirementNotMet
from erasure.functional.residual_memory import memory_left
from erasure.intervals import student_quantile
from erasure.measures.contract import Evaluation, ModelRole, Outputs, Value
from erasure.measures.edge_membership import OfEdges
from erasure.measures.requested_models import FIRST_FITTED, ModelRequest, Original, Retrained
from erasure.training.graph_requests import RequestedGraph
from erasure.types import Indication, PositiveInt, Source, Statistic

__all__ = ["EdgeMemory", "agreement_odds"]

_MIN = 3


def agreement_odds(probabilities: Tensor, pairs: Tensor) -> Tensor:
    r"""Log-odds that two nodes are of one class by their predictions: :math:`\log q - \log(1 - q)`, :math:`q = \sum_c p_u(c)\, p_v(c)`.

    Args:
        probabilities: Of each node, ``(N, K)``, float64.
        pairs: ``(k, 2)``.

    Returns:
        ``(k,)``; q is kept 1e-12 away from 0 and 1, where its log-odds would be lost in rounding.

    Example:
        >>> p = torch.tensor([[0.5, 0.5], [0.9, 0.1]], dtype=torch.float64)
        >>> agreement_odds(p, torch.tensor([[0, 1]])).tolist()
        [0.0]
    """
    return (probabilities[pairs[:, 0]] * probabilities[pairs[:, 1]]).sum(1).logit(1e-12)


@dataclass(frozen=True, kw_only=True)
class EdgeMemory(OfEdges):
    r"""Share of what the original knew about the forgotten edges that is left: 0 as in retrained models, 1 as in the original.

    Answers: do the weights still know that these edges were there? Neighbours resemble one another in every model, so that an attack that
    looks at one model (``EdgeMembership``) finds forgotten edges in gold as well. Here the predictions for both ends of each edge are
    compared with those of ``n_models`` retrained models and as many originals, none of them judged, on one graph without the edges: all
    models are given the same inputs, and what differs is what they have learned. As in ``ResidualMemory``, with the log-odds that both ends
    are of one class (:func:`agreement_odds`) in the place of margins, and kept edges in the place of unseen samples.

    **Cost**: ``n_models`` retrainings and ``n_models`` originals, trained in blocks and shared by all methods and with
    ``ResidualMemory``.

    Args:
        forgotten: The forgotten edges.
        kept: Edges that stay, whose change is taken out.
        nodes: Nodes on the graph on which they are looked at, ``SeenIn`` of ``all`` in the graph ``after``; edges with an end elsewhere are
            left out.
        n_models: Golds, and as many originals, that are the ruler; at least 3.
    """

    source: ClassVar[Source | None] = Source(
        paper="ERASURE, 2026; the links are those that He et al., USENIX Security 2021, arXiv:2005.02131, steal",
        tested="planted memory of a half and of all of it (tests/unit/measures/test_edge_memory.py)",
    )
    version: ClassVar[int] = 4
    indicates: ClassVar[Indication | None] = "knowledge"

    n_models: PositiveInt = 8

    @property
    def statistic(self) -> Statistic:
        """What is left of the original's memory."""
        return "memory"

    def check(self) -> None:
        """Fewer rulers cannot be measured by one another."""
        if self.n_models < _MIN:
            message = f"found {self.n_models} models on either side; at least {_MIN} are needed"
            raise InvalidParameters([Diagnostic(message, path="n_models")])

    def requests(self, subject: ModelRole) -> Sequence[tuple[ModelRequest, tuple[str, ...]]]:
        """The rulers."""
        return [(request, (self.nodes,)) for request in (*self._numbered(Retrained), *self._numbered(Original))]

    def _numbered(self, kind: type[Retrained] | type[Original]) -> list[ModelRequest]:
        return [kind(number=FIRST_FITTED + k) for k in range(self.n_models)]

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The share, with the interval in which 95 % of ruler golds are expected around it."""
        graph, models = self.graph(evaluation), evaluation.models()
        subject = evaluation.outputs(self.nodes)
        _, there = self.probabilities(subject, graph)
        forgotten, kept = (self.pairs(evaluation, graph, name, there) for name in (self.forgotten, self.kept))
        pairs = torch.cat([forgotten, kept])

        def rulers(kind: type[Retrained] | type[Original]) -> Tensor:
            said = [models.outputs(request, self.nodes) for request in self._numbered(kind)]
            if any(outputs.diverged for outputs in said):
                raise RequirementNotMet("what a ruler says of the nodes is not finite: its training diverged")
            return torch.stack([self._odds(outputs, graph, pairs) for outputs in said])

        is_forgotten = torch.arange(len(pairs)) < len(forgotten)
        try:
            found = memory_left(self._odds(subject, graph, pairs), rulers(Retrained), rulers(Original), is_forgotten)
        except DataError as error:
            raise RequirementNotMet(f'memory of edges is not defined on "{self.forgotten}": {error}') from error
        half = student_quantile(self.n_models - 1, 0.975) * found.spread
        return [Value(value=found.share, partition=self.forgotten, low=found.share - half, high=found.share + half)]

    def _odds(self, outputs: Outputs, graph: RequestedGraph, pairs: Tensor) -> Tensor:
        return agreement_odds(self.probabilities(outputs, graph)[0], pairs)
