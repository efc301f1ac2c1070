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
from erasure.types import Fraction, NonNegativeFloat, NonNegativeInt, PartitionRole, PositiveInt, Source, Task
from erasure.unlearners.contract import IterativeUnlearner, UnlearningContext
from erasure.unlearners.graph_reach import reached, seen_in
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["Cognac"]


class _Contrast(NamedTuple):
    """The batch of the contrast, and which of its rows are drawn to which and pushed from which.

    Args:
        batch: Affected nodes and all they are compared with, seen in the graph before the request.
        anchors: Rows of the affected nodes.
        near: Rows that they are drawn to, and of which anchor each is one.
        far: Rows that they are pushed from, likewise.
    """

    batch: Batch
    anchors: Tensor
    near: tuple[Tensor, Tensor]
    far: tuple[Tensor, Tensor]

    def distance(self, z: Tensor, others: Tensor, owner: Tensor) -> Tensor:
        """Mean over anchors of the mean distance to their others; an anchor without others counts as at distance 0."""
        between = z.index_select(0, self.anchors.index_select(0, owner)) - z.index_select(0, others)
        distances = torch.linalg.vector_norm(between, dim=1)
        counts = torch.bincount(owner, minlength=len(self.anchors)).to(z.dtype).clamp(min=1)
        mean: Tensor = (distances / counts.index_select(0, owner)).sum() / len(self.anchors)
        return mean


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
        tested="the steps by plain formulas in float64 (tests/unit/unlearners/test_cognac.py)",
        deviations=(
            "Affected nodes and neighbours are kept training nodes; in the code test nodes are among them.",
            "The code reads positions among the nodes in reach as numbers of nodes, so that other nodes are contrasted.",
            "Means are over affected nodes and their real neighbours; in the code they run over all nodes of the graph, and padding counts "
            "as a node at the origin.",
            "A node is no neighbour of itself.",
            "No distillation from the original is added to the descent, and the last model is returned, not the one that scored best.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"forget", "retain"})
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification"})
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

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Rounds of contrast and correction."""
        if not context.n_samples("forget") or self.changes_nothing():
            return model
        contrast = self._contrast(model, context)
        trainer = self.trainer(model, context)
        up, down = (
            replace(self, optimizer=optimizer).trainer(model, context)
            for optimizer in (self.ascent_optimizer, self.descent_optimizer)
        )
        forget, retain = context.batches("forget"), context.batches("retain")

        def apart(pairs: _Contrast) -> Tensor:
            z = logits_of(model(pairs.batch.x))
            return pairs.distance(z, *pairs.near) + (self.margin - pairs.distance(z, *pairs.far)).clamp(min=0)

        for _ in trainer.epochs():
            if contrast is not None:
                trainer.train_on([contrast] * self.contrast_steps, apart)
            for _ in range(self.correction_steps):
                up.train_on(forget, lambda batch: -context.loss(model, batch))
                down.train_on(retain, lambda batch: context.loss(model, batch))
        return model

    def _contrast(self, model: nn.Module, context: UnlearningContext) -> _Contrast | None:
        """Who is drawn to whom; None if no node is affected."""
        graph = context.x
        if not isinstance(graph, RequestedGraph):
            return None
        wrong = torch.unique(graph.pairs) if graph.kind == "edges" else graph.nodes
        anchors = self._affected(model, context, graph, wrong)
        if not len(anchors):
            return None
        n = graph.n_nodes
        may = torch.zeros(n, dtype=torch.bool, device=context.device).index_fill(0, graph.nodes_of(context.ids("retain")), True)
        far = torch.zeros(len(anchors), n, dtype=torch.bool, device=context.device)
        if graph.kind == "edges":
            for first, second in (graph.pairs.T, graph.pairs.T.flip(0)):
                row, pair = (anchors[:, None] == first[None, :]).nonzero(as_tuple=True)
                far[row, second[pair]] = True
        else:
            far[:, wrong] = True
        near = within_hops_of_each(graph.edges_before, anchors, self.hops, n) & may & ~far
        near[torch.arange(len(anchors), device=context.device), anchors] = False
        used = (near | far).any(0).index_fill(0, anchors, True)
        place = used.cumsum(0) - 1
        ids = seen_in(context, used.nonzero().flatten(), "before")
        batch = next(iter(context.batches("retain", shuffle=False, ids=ids, batch_size=len(ids))))
        sides = [(place[other], owner) for owner, other in (mask.nonzero(as_tuple=True) for mask in (near, far))]
        return _Contrast(batch, place[anchors], *sides)

    @torch.no_grad()
    def _affected(self, model: nn.Module, context: UnlearningContext, graph: RequestedGraph, wrong: Tensor) -> Tensor:
        """The nodes whose predictions change most when the features of the nodes ``wrong`` are inverted."""
        if graph.kind == "edges":  # the ends are affected themselves
            kept = graph.nodes_of(context.ids("retain"))
            candidates = kept[torch.isin(kept, wrong)]
        else:
            near = graph.nodes_of(reached(context, self.hops))
            candidates = near[~torch.isin(near, wrong)]
        n_chosen = int(self.share * len(candidates))
        if not n_chosen:
            return candidates[:0]
        x = graph.graph.x
        other = graph.with_features(x.index_copy(0, wrong, 1 - x.index_select(0, wrong)))
        model.eval()
        ids = graph.seen_in(candidates, "before")
        now, then = (logits_of(model(each.gather(ids))).softmax(1) for each in (graph, other))
        return candidates[(now - then).abs().mean(1).topk(n_chosen).indices]
