"""Erase then rectify: weights that matter to what is forgotten are damped, then one gradient step on the graph that is left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from erasure.training.batches import Batch
from erasure.training.calls import Criterion
from erasure.training.forward import logits_of
from erasure.training.parametrized import require_assignable
from erasure.training.trial import require_gradients
from erasure.types import Fraction, NonNegativeFloat, NonNegativeInt, PartitionRole, Source
from erasure.unlearners.contract import Unlearner, UnlearningContext
from erasure.unlearners.graph_reach import reached, seen_in
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["EraseThenRectify"]


@dataclass(frozen=True, kw_only=True)
class EraseThenRectify(Unlearner):
    r"""Damps the weights that matter most to forgotten nodes and their neighbours, then takes one gradient step (ETR).

    With squared gradients :math:`I_S` of the mean loss over the training set, the forget set F and the kept training nodes N within reach
    of the request, all on the graph before it,

    .. math::
        \beta_1 = \min\left(\frac{I_{D}}{I_F}, 1\right), \qquad \beta_2 = \min\left(\frac{I_{D}^2}{I_F I_N}, 1\right)

    In each weight tensor, entries whose :math:`\beta_1` is at most its quantile q of order ``share`` are multiplied by
    :math:`\beta_1 / q`, and then likewise by :math:`\beta_2`. The step is :math:`\theta \leftarrow \theta - \eta \nabla \ell` with the
    mean loss of the retain set on the graph after the request, at the original's weights: it is what the paper puts together from the
    gradients of the whole training set, F and N. Nothing is trained. Where samples do not depend on one another N is empty, and
    :math:`\beta_2` is left out. An empty forget set leaves the model as it is.

    **Cost**: four gradients.

    Args:
        share: Share of each weight tensor that is damped, ``k``.
        step: Length of the gradient step, ``l``.
        hops: How far N reaches from what is forgotten.
    """

    source: ClassVar[Source | None] = Source(
        paper="Yang et al., AAAI 2025, arXiv:2409.16684",
        tested="the weights by plain gradients of a linear graph network in float64 (tests/unit/unlearners/test_graph_methods.py)",
        deviations=(
            "Written from a description of the update, not from the authors' code.",
            "The loss is the original's, without label smoothing, in eval mode.",
            "The gradient of the step is computed on the retain set at once, which is the same.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"forget", "retain", "train"})
    cost: ClassVar[str] = "one gradient of the training, forget and retain set each, and one of the forgotten nodes' neighbours"
    search_space: ClassVar[SearchSpace] = {"share": Range(1e-3, 0.2, log=True), "step": Range(1e-3, 1.0, log=True)}

    share: Fraction = 0.01
    step: NonNegativeFloat = 0.3
    hops: NonNegativeInt = 2

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Four gradients, then the weights."""
        forget = context.ids("forget")
        if not len(forget):
            return model
        model.eval()
        everyone, gone = self._gradient(model, context, context.ids("train")), self._gradient(model, context, forget)
        kept = self._gradient(model, context, context.ids("retain"))
        neighbours = seen_in(context, reached(context, self.hops), "before")
        near = self._gradient(model, context, neighbours) if len(neighbours) else None
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if name not in everyone:
                    continue
                whole, forgotten = everyone[name].square(), gone[name].square()
                weight.mul_(damping(_least(whole, forgotten), self.share))
                if near is not None:
                    weight.mul_(damping(_least(whole.square(), forgotten * near[name].square()), self.share))
                weight.sub_(kept[name], alpha=self.step)
        return model

    def try_on(self, model: nn.Module, batch: Batch, criterion: Criterion) -> None:
        """Weights must take what is assigned to them, and have gradients."""
        require_assignable(model, self.registered_name())
        require_gradients(model, logits_of(model(batch.x)))

    def _gradient(self, model: nn.Module, context: UnlearningContext, ids: Tensor) -> dict[str, Tensor]:
        """Gradient of the mean loss over some samples, by the name of the weight."""
        weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        totals = {name: torch.zeros_like(p) for name, p in weights.items()}
        for batch in context.batches("train", shuffle=False, ids=ids, batch_size=max(context.batch_size, 1024)):
            logits = logits_of(model(batch.x))
            require_gradients(model, logits)
            loss = context.criterion.over_samples(logits, batch.y) * (len(batch.y) / len(ids))
            gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True, materialize_grads=True)
            for name, gradient in zip(weights, gradients, strict=True):
                totals[name] += gradient
        return totals


def damping(ratios: Tensor, share: float) -> Tensor:
    """Factors of a weight tensor: the ratio over the tensor's quantile of order ``share`` where it is not above it, and 1 elsewhere.

    Example:
        >>> damping(torch.tensor([0.1, 0.2, 0.4, 0.8]), 1 / 3)
        tensor([0.5000, 1.0000, 1.0000, 1.0000])
    """
    ordered = ratios.flatten().sort().values
    place = share * (len(ordered) - 1)
    low = int(place)
    quantile = torch.lerp(ordered[low], ordered[min(low + 1, len(ordered) - 1)], place - low)
    return torch.where((ratios <= quantile) & (quantile > 0), ratios / quantile, torch.ones_like(ratios))


def _least(numerator: Tensor, denominator: Tensor) -> Tensor:
    """A ratio, at most 1; 1 where nothing is divided by nothing."""
    return torch.where(denominator > numerator, numerator / denominator, torch.ones_like(numerator))
