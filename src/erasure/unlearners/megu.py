"""Mutual evolution: a linear operator learns to forget on the logits while the network keeps what it predicts nearby."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from erasure.functional.divergences import kullback_leibler
from erasure.training.batches import Batch
from erasure.training.calls import Optimizer
from erasure.training.forward import logits_of
from erasure.training.graph_requests import RequestedGraph
from erasure.types import NonNegativeFloat, NonNegativeInt, PartitionRole, PositiveFloat, Source, Task
from erasure.unlearners.contract import IterativeUnlearner, UnlearningContext
from erasure.unlearners.graph_reach import reached, seen_in
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["MEGU"]


@dataclass(frozen=True, kw_only=True)
class MEGU(IterativeUnlearner):
    r"""Trains the network with a linear operator O on its logits, which is to unlearn the forget set F and keep its neighbours N.

    With :math:`z = f_\theta(G')`, :math:`\hat z = O z` and the original's predictions :math:`\tilde y`,

    .. math::
        \kappa \bigl[\mathrm{KL}(\hat z_F \| z_F) - \mathrm{CE}(\hat z_F, \tilde y_F)\bigr]
        + \mathrm{KL}(z_N \| \hat z_N) + \mathrm{CE}(z_N, \tilde y_N)

    where divergences are at temperature T, without the factor :math:`T^2`, and their first argument is a constant. O starts as the
    identity and is thrown away. N are kept training nodes within ``hops`` of the request; no label is read. F is seen on the graph after
    the request, too. An empty forget set leaves the model as it is.

    **Cost**: two passes of the network a step, over F and N.

    Args:
        kappa: Weight of the forget set.
        temperature: ``T``.
        hops: How far N reaches from what is forgotten.
    """

    source: ClassVar[Source | None] = Source(
        paper="Li et al., AAAI 2024, arXiv:2401.11760",
        tested="the steps by plain formulas in float64 (tests/unit/unlearners/test_graph_methods.py)",
        deviations=(
            "Written from a description of the losses, not from the authors' code.",
            "N are kept training nodes; in the authors' code test nodes are among them.",
            "No Correct & Smooth follows: it would anchor the predictions in those of the original, and what is judged is the network.",
            "Where samples do not depend on one another N is the retain set.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"forget", "retain"})
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification"})
    cost: ClassVar[str] = "epochs passes over the forgotten nodes and their neighbours"
    search_space: ClassVar[SearchSpace] = {
        "epochs": Range(5, 100),
        "kappa": Range(1e-3, 1.0, log=True),
        "optimizer.lr": Range(1e-3, 0.5, log=True),
    }

    epochs: NonNegativeInt = 30
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("SGD", lr=0.05))
    kappa: NonNegativeFloat = 0.01
    temperature: PositiveFloat = 1.5
    hops: NonNegativeInt = 2

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Train network and operator together, one step an epoch."""
        forget = context.ids("forget")
        near = reached(context, self.hops) if isinstance(context.x, RequestedGraph) else context.ids("retain")
        if not len(forget) or not self.epochs:
            return model
        sides = [self._whole(context, seen_in(context, forget, "after")), self._whole(context, near)]
        with torch.no_grad():
            model.eval()
            before = [self._whole(context, forget), self._whole(context, seen_in(context, near, "before"))]
            predicted = [None if batch is None else logits_of(model(batch.x)).argmax(1) for batch in before]
        dtype = next(p.dtype for p in model.parameters() if p.requires_grad)
        operator = nn.Parameter(torch.eye(context.n_classes, dtype=dtype, device=context.device))
        own = self.optimizer.build([operator])
        trainer = self.trainer(model, context)

        def differentiate(_: int) -> Tensor:
            own.zero_grad()
            losses = [
                loss(logits_of(model(batch.x)), operator, labels)
                for loss, batch, labels in zip((self._forgetting, self._keeping), sides, predicted, strict=True)
                if batch is not None and labels is not None
            ]
            total = torch.stack(losses).sum()
            total.backward()  # type: ignore[no-untyped-call]
            own.step()
            return total.detach()

        for epoch in trainer.epochs():
            trainer.step_on([epoch], differentiate)
        return model

    def _whole(self, context: UnlearningContext, ids: Tensor) -> Batch | None:
        """All of some samples in one batch, None of none."""
        return next(iter(context.batches("forget", shuffle=False, ids=ids, batch_size=max(1, len(ids)))), None)

    def _divergence(self, fixed: Tensor, other: Tensor) -> Tensor:
        log_p, log_q = (F.log_softmax(z / self.temperature, dim=1) for z in (fixed.detach(), other))
        return kullback_leibler(log_p, log_q).mean()

    def _forgetting(self, z: Tensor, operator: Tensor, labels: Tensor) -> Tensor:
        moved = z @ operator.T
        return self.kappa * (self._divergence(moved, z) - F.cross_entropy(moved, labels))

    def _keeping(self, z: Tensor, operator: Tensor, labels: Tensor) -> Tensor:
        return self._divergence(z, z @ operator.T) + F.cross_entropy(z, labels)
