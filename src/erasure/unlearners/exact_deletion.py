"""Exact deletion: models that can forget samples by themselves are asked to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from erasure.accounting.guarantee import Guarantee
from erasure.errors import RequirementNotMet
from erasure.training.batches import Batch
from erasure.training.calls import Criterion
from erasure.training.estimators import Estimator, samples_of
from erasure.training.graph_requests import RequestedGraph
from erasure.types import PartitionRole, Source
from erasure.unlearners.contract import Unlearner, UnlearningContext
from erasure.unlearners.search import SearchSpace

__all__ = ["ExactDeletion"]


@dataclass(frozen=True, kw_only=True)
class ExactDeletion(Unlearner):
    """Deletes the forget set from a model that was made for it, such as an exact forest; the result is the model fitted without it.

    Where a ``GraphRequest`` says what is forgotten, the rows of kept nodes change with their neighbourhoods: the old ones are taken out
    with the forgotten ones, and the new ones put in (GraphEditor). ``Ridge`` can do that.

    The model says how exact it is: some give the same bits, those that solve equations the same numbers up to rounding. The retain set
    is read by models that need it only.

    **Cost**: as the model says; a fraction of fitting again.
    """

    source: ClassVar[Source | None] = Source(
        paper="Cao, Yang, S&P 2015; Cong, Mahdavi, 2022 (GraphEditor); Brophy, Lowd, ICML 2021, arXiv:2009.05567; "
        "Ginart, Guan, Valiant, Zou, NeurIPS 2019, arXiv:1907.05012"
    )
    needs_weights: ClassVar[bool] = False
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"forget", "retain"})
    cost: ClassVar[str] = "as the model says; a fraction of fitting again"

    search_space: ClassVar[SearchSpace] = {}

    def try_on(self, model: nn.Module, batch: Batch, criterion: Criterion) -> None:
        """The model must be able to delete."""
        _deletable(model)

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Ask the model."""
        estimator = _deletable(model)
        forget, retain = context.ids("forget"), context.ids("retain")
        if isinstance(context.x, RequestedGraph):
            with torch.no_grad():
                gone, come = _changed(context.x, forget, retain)
                estimator.exchange(samples_of(context.x, context.y, gone), samples_of(context.x, context.y, come))
        elif len(forget):
            n, n_known = estimator.n_fitted(), len(forget) + len(retain)
            if n is not None and n != n_known and not context.is_part:
                raise RequirementNotMet(
                    f"the model was fitted to {n:,} samples, and forget and retain hold {n_known:,}: deleting is exact only if these are "
                    "all that it was fitted to and none was deleted before; give those, or fit it again"
                )
            with torch.no_grad():
                estimator.delete(samples_of(context.x, context.y, forget), lambda: samples_of(context.x, context.y, retain))
        context.keeps(sum(b.numel() * b.element_size() for b in estimator.statistics()))
        how = "the same bits" if estimator.exactness == "bits" else "the same numbers up to rounding"
        sentence = f"Fitting {type(estimator).__name__.strip('_')} without the samples gives {how}."
        context.promise(
            Guarantee(kind="exact", assumptions=(sentence, "Statistics by which inputs were scaled are not covered."))
        )
        return model


def _changed(graph: RequestedGraph, forget: Tensor, retain: Tensor) -> tuple[Tensor, Tensor]:
    """Training nodes that are forgotten or seen otherwise after the request: as they were, and those that stay as they are now."""
    before = graph.seen_in(retain, "before")
    old, new = graph.gather(before), graph.gather(retain)
    if not isinstance(old, Tensor) or not isinstance(new, Tensor):
        raise RequirementNotMet(
            "ExactDeletion takes rows of numbers, and the inputs are graphs; give the source propagate = 2, say"
        )
    is_other = (old != new).any(1)
    lost = forget[~torch.isin(forget, before)]
    return torch.cat([graph.seen_in(lost, "before"), before[is_other]]), retain[is_other]


def _deletable(model: nn.Module) -> Estimator:
    if isinstance(model, Estimator) and model.exactness != "none":
        return model
    raise RequirementNotMet(
        f"ExactDeletion needs a model that deletes exactly, such as ExactForest or Ridge, and this is {type(model).__name__.strip('_')}; "
        "use another method"
    )
