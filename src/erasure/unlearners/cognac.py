"""Cognac: neighbours are drawn away from what is forgotten, then ascent on it and descent on the rest take turns."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from erasure.training.batches import Batch
from erasure.training.calls import Optimizer
from erasure.training.forward import logits_of
from erasure.training.graph_requests import RequestedGraph, within_hops_of_each
from erasure.types import Fraction, NonNegativeFloat, NonNegativeInt, PositiveInt, Role, Source
from erasure.unlearners.contract import IterativeUnlearner, UnlearningTask
from erasure.unlearners.graph_reach import reached, seen_in
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["Cognac"]


class _Contrast(NamedTuple):
    """Which rows of one batch are drawn to which and pushed from which; pairs of rows, and the anchor of each by number."""

    anchors: Tensor
    near: Tensor
    near_of: Tensor
    far: Tensor
    far_of: Tensor


@dataclass(frozen=True, kw_only=True)
class Cognac(IterativeUnlearner):
    r"""Alternates between contrast on the nodes that a request affects most, and ascent on the forget set with descent on the rest.

    Affected are the ``share`` of kept training nodes within ``hops`` of the request whose predicted probabilities change most when the
    features of what is forgotten are inverted, :math:`x \to 1 - x`. For an affected node a with logits z, its kept neighbours P and what it
    is to lose, N (all forgotten nodes; of an edge request the other ends of its forgotten edges),

    .. math::
        \mathrm{mean}_a \, \mathrm{mean}_{p \in P_a} \lVert z_a - z_p \rVert
        + \bigl[\mathrm{mean}_a \bigl(m - \mathrm{mean}_{n \in N_a} \lVert z_a - z_n \rVert\bigr)\bigr]_+

    is minimised ``contrast_steps`` times on the graph before the request. Then, ``correction_steps`` times, one step up the loss of the
    forget set and one down that of the retain set. ``epochs`` such rounds are made. It is meant for corrective unlearning: what is
    forgotten is wrong, and is to leave its neighbours. Where samples do not depend on one another there is no contrast. An empty forget set
    leaves the model as it is.

    **Cost**: ``epochs`` times ``contrast_steps`` passes over affected nodes and their neighbours, and ``correction_steps`` passes each over
    forget and retain set.

    Args:
        optimizer: Of the contrast.
        ascent_optimizer: Of the steps on the forget set.
        descent_optimizer: Of the steps on the retain set.
        contrast_steps: Steps of the contrast in a round.
        correction_steps: Pairs of steps up and down in a round.
        share: Which part of the nodes in reach counts as affected.
        margin: Distance ``m`` beyond which nothing is pushed away.
        hops: Reach of the request, and of a node's neighbours.
    """

    source: ClassVar[Source | None] = Source(
        paper="Kolipaka, Sinha, Mishra, Kumar, Arun, Goel, Kumaraguru, ICML 2025, arXiv:2412.00789",
        code="varshitakolipaka/graph-unlearning-aaai at 8a19867",
        tested="the steps by plain formulas in float64 (tests/unit/unlearners/test_cognac.py); not run against the code",
        deviations=(
            "Affected nodes and neighbours are kept training nodes; in the code test nodes are among them.",
            "The code reads positions among the nodes in reach as numbers of nodes, so that other nodes are contrasted.",
            "Means are over affected nodes and their real neighbours; in the code they run over all nodes of the graph, and padding counts "
            "as a node at the origin.",
            "A node is no neighbour of itself.",
            "No distillation from the original is added to the descent, and the last model is returned, not the one that scored best.",
        ),
    )
    reads: ClassVar[frozenset[Role]] = frozenset({"forget", "retain"})
    defined_for = frozenset({"classification"})
    cost: ClassVar[str] = (
        "epochs rounds of contrast_steps passes nearby and correction_steps passes over the forget and the retain set"
    )
    search_space: ClassVar[SearchSpace] = {
        "epochs": Range(2, 20),
        "optimizer.lr": Range(1e-5, 1e-1, log=True),
        "ascent_optimizer.lr": Range(1e-6, 1e-2, log=True),
        "descent_optimizer.lr": Range(1e-5, 1e-1, log=True),
        "margin": Range(1.0, 100.0, log=True),
        "share": Range(0.01, 0.2),
    }

    epochs: NonNegativeInt = 10
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("Adam", lr=1e-2))
    ascent_optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("Adam", lr=1e-4))
    descent_optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("Adam", lr=1e-4))
    contrast_steps: NonNegativeInt = 5
    correction_steps: NonNegativeInt = 5
    share: Fraction = 0.1
    margin: NonNegativeFloat = 1.0
    hops: PositiveInt = 2

    def changes_nothing(self) -> bool:
        """Whether there is no step."""
        return self.epochs == 0 or self.contrast_steps + self.correction_steps == 0

    def unlearn(self, model: nn.Module, task: UnlearningTask) -> nn.Module:
        """Rounds of contrast and correction."""
        if not task.n_samples("forget") or self.changes_nothing():
            return model
        found = self._affected(model, task) if self.contrast_steps else None
        trainer = self.trainer(model, task)
        up, down = (
            replace(self, optimizer=optimizer).trainer(model, task)
            for optimizer in (self.ascent_optimizer, self.descent_optimizer)
        )
        forget, retain = task.batches("forget"), task.batches("retain")
        for _ in trainer.epochs():
            if found is not None:
                batch, pairs = found
                trainer.train_on([batch] * self.contrast_steps, lambda each: self._contrast(logits_of(model(each.x)), pairs))
            for _ in range(self.correction_steps):
                up.train_on(forget, lambda each: -task.loss(model, each))
                down.train_on(retain, lambda each: task.loss(model, each))
        return model

    def _affected(self, model: nn.Module, task: UnlearningTask) -> tuple[Batch, _Contrast] | None:
        """The batch of the contrast, and its pairs; None if no node is affected."""
        graph = task.x
        if not isinstance(graph, RequestedGraph):
            return None
        of_edges = graph.kind == "edges"
        wrong = torch.unique(graph.pairs) if of_edges else graph.nodes
        # The ends of forgotten edges are affected themselves; of nodes and features it is those around.
        candidates = graph.nodes_of(task.ids("retain") if of_edges else reached(task, self.hops))
        candidates = candidates[torch.isin(candidates, wrong) == of_edges]
        n_chosen = int(self.share * len(candidates))
        if not n_chosen:
            return None
        kept = graph.nodes_of(task.ids("retain"))
        with torch.no_grad():
            model.eval()
            column = graph.graph
            inverted = replace(column, x=column.x.index_copy(0, wrong, 1 - column.x.index_select(0, wrong)))
            other = RequestedGraph(inverted, graph.kind, graph.nodes, graph.pairs, graph.columns)
            ids = graph.seen_in(candidates, "before")
            now, then = (logits_of(model(each.gather(ids))).softmax(1) for each in (graph, other))
        anchors = candidates[(now - then).abs().mean(1).topk(n_chosen).indices]
        reach = within_hops_of_each(column.edge_index, anchors, self.hops, len(column))
        may = torch.zeros(len(column), dtype=torch.bool, device=task.device).index_fill(0, kept, True)
        if not of_edges:
            may = may.index_fill(0, wrong, False)
        near = reach & may
        far = torch.zeros_like(reach)
        if of_edges:
            for first, second in (graph.pairs.T, graph.pairs.T.flip(0)):
                hit = anchors[:, None] == first[None, :]
                row, pair = hit.nonzero(as_tuple=True)
                far[row, second[pair]] = True
            near &= ~far
        else:
            far[:, wrong] = True
        near[torch.arange(len(anchors), device=task.device), anchors] = False
        used = torch.unique(torch.cat([anchors, near.any(0).nonzero().flatten(), far.any(0).nonzero().flatten()]))
        place = torch.zeros(len(column), dtype=torch.int64, device=task.device)
        place[used] = torch.arange(len(used), device=task.device)
        (near_of, near_at), (far_of, far_at) = (mask.nonzero(as_tuple=True) for mask in (near, far))
        ids = seen_in(task, used, "before")
        batch = next(iter(task.batches("retain", shuffle=False, ids=ids, batch_size=len(ids))))
        return batch, _Contrast(place[anchors], place[near_at], near_of, place[far_at], far_of)

    def _contrast(self, z: Tensor, pairs: _Contrast) -> Tensor:
        """The loss of all affected nodes together."""
        closeness = _mean_distance(z, pairs.anchors, pairs.near, pairs.near_of)
        push = self.margin - _mean_distance(z, pairs.anchors, pairs.far, pairs.far_of)
        return closeness + push.clamp(min=0)


def _mean_distance(z: Tensor, anchors: Tensor, others: Tensor, owner: Tensor) -> Tensor:
    """Mean over anchors of the mean distance to their others, each by its row; an anchor without others counts as at distance 0."""
    distances = torch.linalg.vector_norm(z.index_select(0, anchors.index_select(0, owner)) - z.index_select(0, others), dim=1)
    counts = torch.bincount(owner, minlength=len(anchors)).to(z.dtype).clamp(min=1)
    mean: Tensor = (distances / counts.index_select(0, owner)).sum() / len(anchors)
    return mean
