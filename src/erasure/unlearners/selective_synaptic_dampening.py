"""Selective Synaptic Dampening: shrink the weights that matter far more to the forget set than to the training set."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from erasure.training.batches import Batch, Batches
from erasure.training.calls import Criterion
from erasure.training.forward import logits_of
from erasure.training.parametrized import plain_weights, require_assignable
from erasure.training.per_sample import batch_squared_gradients, squared_gradients
from erasure.training.trial import require_gradients
from erasure.types import ANY_TASK, NonNegativeFloat, PartitionRole, PositiveFloat, Source, Task
from erasure.unlearners.contract import Unlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["SelectiveSynapticDampening", "adaptive_weighting", "dampened"]

Importances = Callable[[nn.Module, Batches], dict[str, Tensor]]


def dampened(weight: Tensor, forget: Tensor, train: Tensor, *, alpha: float, strength: float) -> Tensor:
    r"""A weight after dampening.

    .. math:: \theta_i \leftarrow \min(\lambda I_{D,i} / I_{f,i},\, 1)\,\theta_i \quad\text{where}\quad I_{f,i} > \alpha I_{D,i}

    Args:
        weight: Any shape.
        forget: ``I_f``, same shape, at least 0.
        train: ``I_D``, same shape, at least 0.
        alpha: Selection weighting; infinity selects nothing.
        strength: Dampening constant ``lambda``.

    Returns:
        The weight's shape and type; magnitudes never grow and signs stay.

    Example:
        >>> dampened(torch.tensor([1.0, 1.0]), torch.tensor([20.0, 5.0]), torch.tensor([1.0, 1.0]), alpha=10.0, strength=1.0)
        tensor([0.0500, 1.0000])
    """
    # alpha = inf times an importance of 0 is not a number, and selects nothing either.
    selected = forget > (alpha * train).nan_to_num_(nan=float("inf"))
    ratio = (strength * train).div_(torch.where(forget > 0, forget, 1.0)).clamp_(max=1.0)
    return torch.where(selected, ratio.to(weight.dtype) * weight, weight)


def adaptive_weighting(forget: Mapping[str, Tensor], train: Mapping[str, Tensor], share: float) -> float:
    r"""A selection weighting that depends on how much is to be forgotten: Adaptive SSD.

    .. math:: \alpha = \max\bigl(1,\; \text{the percentile } q \text{ of } I_f / I_D\bigr), \qquad q = 100 - \ln(1 + 100\, n_f / n)

    Args:
        forget: ``I_f`` by parameter.
        train: ``I_D`` by parameter.
        share: ``n_f / n`` in [0, 1].

    Returns:
        The percentile, between neighbours linearly interpolated, over the finite ratios of all parameters; at least 1, as anything
        below would dampen weights that matter more to the training set. Infinity if no ratio is finite.

    Example:
        >>> ratios = torch.arange(101.0)
        >>> round(adaptive_weighting({"w": ratios}, {"w": torch.ones(101)}, share=0.1), 4)
        97.6021
    """
    ratios = torch.cat([(forget[name] / train[name]).flatten() for name in forget])
    ratios = ratios[ratios.isfinite()].sort().values
    if not len(ratios):
        return math.inf
    place = (100 - math.log1p(100 * share)) / 100 * (len(ratios) - 1)
    # Not torch.quantile, which refuses more than 2**24 numbers.
    below, above = ratios[math.floor(place)], ratios[math.ceil(place)]
    return max(1.0, float(torch.lerp(below, above, place - math.floor(place))))


@dataclass(frozen=True, kw_only=True)
class SelectiveSynapticDampening(Unlearner):
    r"""Dampens the weights that are disproportionately important to the forget set; nothing is trained.

    .. math::
        \theta_i \leftarrow \beta_i \theta_i, \quad \beta_i = \min\!\left(\frac{\lambda I_{D,i}}{I_{f,i}}, 1\right)
        \quad\text{if}\quad I_{f,i} > \alpha I_{D,i}

    Importances are mean squared gradients of the loss at the original, in eval mode, summed in float64. Buffers are left alone;
    BatchNorm's weights are dampened like any other. Frozen weights (of an encoder under LoRA, say) have not learned the forget set and are
    left alone, unless the whole model is frozen. A weight that is computed from others (weight norm) is dampened itself. An empty
    forget set leaves the model as it is.

    **Cost**: one pass over the training set, which can be done before any request, and one over the forget set.

    Args:
        selection_weighting: ``alpha``: how many times more important a weight must be; infinity changes nothing. ``adaptive`` takes
            the percentile of the ratios of importances that the size of the forget set asks for (Adaptive SSD).
        dampening_constant: ``lambda``: how strongly selected weights are kept.
        importance: ``sample`` squares the gradient of each sample, the diagonal of the empirical Fisher information of the paper,
            which no batching changes (SSD-Det).
            ``batch`` squares the gradient of each minibatch's mean loss, as the authors' code does; it shrinks with the batch size,
            so both sets are read in minibatches of one size, and a short last minibatch of the forget set biases the ratio.
    """

    version: ClassVar[int] = 2
    source: ClassVar[Source | None] = Source(
        paper="Foster, Schoepf, Brintrup, AAAI 2024, arXiv:2308.07707; adaptive: Schoepf, Foster, Brintrup, 2024, arXiv:2402.10098",
        code="if-loops/selective-synaptic-dampening at cdfdc0e; pedroandreou/supreme-unlearning at 71877ad",
        tested="the formula with gradients of single samples, by a loop "
        "(tests/unit/unlearners/test_second_order.py, tests/unit/unlearners/test_ssd_options.py)",
        deviations=(
            "Importances are per sample by default, as the paper defines them; the authors' code takes them per minibatch.",
            "An adaptive weighting is at least 1; in the reference code it can fall below, where all weights are dampened.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"forget", "train"})
    defined_for: ClassVar[frozenset[Task]] = ANY_TASK
    cost: ClassVar[str] = "one pass over the training set (once, before any request) and one over the forget set"
    search_space: ClassVar[SearchSpace] = {
        "selection_weighting": Range(0.1, 100.0, log=True),
        "dampening_constant": Range(0.1, 5.0, log=True),
    }

    selection_weighting: PositiveFloat | Literal["adaptive"] = 10.0
    dampening_constant: NonNegativeFloat = 1.0
    importance: Literal["sample", "batch"] = "sample"

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Compare the importances, dampen."""
        if not context.n_samples("forget"):
            return model
        with plain_weights(model):
            train, forget = self._shared_importances(model, context, "train"), self._shared_importances(model, context, "forget")
            strength, alpha = self.dampening_constant, self.selection_weighting
            if alpha == "adaptive":
                alpha = adaptive_weighting(forget, train, context.n_samples("forget") / context.n_samples("train"))
            with torch.no_grad():
                for name, weight in model.named_parameters():
                    if name in forget:
                        weight.copy_(dampened(weight, forget[name], train[name], alpha=alpha, strength=strength))
        return model

    def try_on(self, model: nn.Module, batch: Batch, criterion: Criterion) -> None:
        """Weights must take what is assigned to them, and all have gradients."""
        require_assignable(model, self.registered_name())
        require_gradients(model, logits_of(model(batch.x)))

    def _shared_importances(self, model: nn.Module, context: UnlearningContext, role: PartitionRole) -> dict[str, Tensor]:
        """Importances from the store, where another setting of the method has left them."""
        name = f"{self.importance}_importances"
        return context.precomputed(name, model, [role], lambda: self._importances(model, context, role), loss=self._kind())

    def _kind(self) -> str:
        return "loss"

    def _importances(self, model: nn.Module, context: UnlearningContext, role: PartitionRole) -> dict[str, Tensor]:
        batches = context.batches(role, shuffle=False)
        if self.importance == "batch":
            return batch_squared_gradients(model, batches, context.criterion)
        return squared_gradients(model, batches, context.criterion.per_sample)
