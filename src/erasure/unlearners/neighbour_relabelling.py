"""Relabelling by the neighbours: forgotten nodes are taught what nodes around them, or another class, would say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from erasure.training.calls import Optimizer
from erasure.training.forward import logits_of
from erasure.training.graph_requests import RequestedGraph
from erasure.training.predictor import ModelInput
from erasure.types import NonNegativeInt, PartitionRole, Source, Task
from erasure.unlearners.contract import IterativeUnlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["NeighbourRelabelling"]


@dataclass(frozen=True, kw_only=True)
class NeighbourRelabelling(IterativeUnlearner):
    r"""Trains on with other targets for the forget set and the true labels of the retain set.

    .. math::
        \min_\theta \; -\mathbb{E}_{v \in D_f} \sum_k q_{v,k} \ln p_\theta(k \mid v) + \mathbb{E}_{D_r} \, \ell(f_\theta(x), y)

    ``targets`` says what :math:`q_v` is: another ``class``, drawn once and uniformly; the mean probabilities that the original gives to the
    node's kept ``neighbours``; or to those of the ``same-class``. Neighbours are nodes of the retain set with an edge to the node that is
    not forgotten, seen in the graph after the request. A node without any takes the mean over the whole retain set (of its class), and so
    do samples that do not depend on one another. A pass over the forget set is followed by one over the retain set. An empty forget set
    leaves the model as it is.

    **Cost**: ``epochs`` passes over the forget and the retain set, and one forward pass over the retain set.

    Args:
        targets: What forgotten nodes are taught.
    """

    source: ClassVar[Source | None] = Source(
        paper="Guan, Zhu, Wang, Ren, Zhou, 2025, arXiv:2509.04785",
        tested="targets and steps by plain formulas in float64 (tests/unit/unlearners/test_neighbour_relabelling.py)",
        deviations=(
            "Written from the paper's abstract, which names the three choices of targets; the rest is ours: who counts as a neighbour, "
            "what nodes without one are taught, the order of the passes and all settings.",
            "Neighbours are kept training nodes.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"forget", "retain"})
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification"})
    cost: ClassVar[str] = "epochs passes over the forget and the retain set, one forward pass over the retain set"
    search_space: ClassVar[SearchSpace] = {"epochs": Range(1, 50), "optimizer.lr": Range(1e-4, 1e-1, log=True)}

    epochs: NonNegativeInt = 10
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("Adam", lr=1e-3))
    targets: Literal["class", "neighbours", "same-class"] = "neighbours"

    def unsupported_reason(self, data: ModelInput) -> str | None:
        """There must be another class to draw."""
        if data.task == "classification" and self.targets == "class" and data.n_classes < 2:
            return f"{self.registered_name()} is not defined for a single class: there is no other one to draw"
        return super().unsupported_reason(data)

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Find the targets, then train."""
        forget = context.ids("forget")
        if not len(forget) or not self.epochs:
            return model
        q = torch.zeros(len(context.y), context.n_classes, dtype=next(model.parameters()).dtype, device=context.device)
        q[forget] = self._targets(model, context).to(q.dtype)
        trainer = self.trainer(model, context)
        gone, kept = context.batches("forget"), context.batches("retain")
        for _ in trainer.epochs():
            trainer.train_on(gone, lambda batch: F.cross_entropy(logits_of(model(batch.x)), q[batch.ids]))
            trainer.train_on(kept, lambda batch: context.loss(model, batch))
        return model

    def _targets(self, model: nn.Module, context: UnlearningContext) -> Tensor:
        """What each sample of the forget set is taught, ``(n, K)``."""
        forget, retain = context.ids("forget"), context.ids("retain")
        y, kept = context.y[forget], context.y[retain]
        if self.targets == "class":
            step = torch.randint(1, context.n_classes, (len(forget),), generator=context.generator("labels")).to(y)
            return F.one_hot((y + step) % context.n_classes, context.n_classes)
        with torch.no_grad():
            model.eval()
            batches = context.batches("retain", shuffle=False, batch_size=max(context.batch_size, 1024))
            p = torch.cat([logits_of(model(batch.x)).softmax(1) for batch in batches])
        node, neighbour = self._neighbours(context, forget, retain)
        everyone = p.mean(0).expand(len(forget), -1)
        if self.targets == "same-class":
            is_same = y[node] == kept[neighbour]
            node, neighbour = node[is_same], neighbour[is_same]
            of_class = _means(p, kept, context.n_classes, p.mean(0).expand(context.n_classes, -1))
            everyone = of_class[y]
        return _means(p.index_select(0, neighbour), node, len(forget), everyone)

    def _neighbours(self, context: UnlearningContext, forget: Tensor, retain: Tensor) -> tuple[Tensor, Tensor]:
        """Pairs of neighbours, each once: places in the forget and in the retain set, ``(k,)`` each."""
        none = forget[:0]
        if not isinstance(context.x, RequestedGraph):
            return none, none
        edges = context.x.edges_after if context.x.kind == "edges" else context.x.edges_before
        places = []
        for ids in (retain, forget):
            place = torch.full((context.x.n_nodes,), -1, dtype=torch.int64, device=context.device)
            place[context.x.nodes_of(ids)] = torch.arange(len(ids), device=context.device)
            places.append(place)
        source, target = places[0][edges[0]], places[1][edges[1]]
        there = (source >= 0) & (target >= 0) & (edges[0] != edges[1])
        node, neighbour = torch.unique(torch.stack([target[there], source[there]]), dim=1)
        return node, neighbour


def _means(values: Tensor, group: Tensor, n_groups: int, otherwise: Tensor) -> Tensor:
    """Mean of the rows of each group, ``(n_groups, K)``; ``otherwise`` for a group without any."""
    totals = values.new_zeros(n_groups, values.shape[1]).index_add(0, group, values)
    counts = torch.bincount(group, minlength=n_groups)[:, None]
    return torch.where(counts > 0, totals / counts.clamp(min=1), otherwise)
