"""Feature unlearning: one step of first or second order towards the model trained on changed inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import MinLen
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.functional.solvers import conjugate_gradient
from erasure.training.batches import Batch
from erasure.training.calls import Criterion
from erasure.training.curvature import Curvature
from erasure.training.forward import logits_of
from erasure.training.predictor import ModelInput
from erasure.training.trial import require_gradients
from erasure.types import NonNegativeFloat, NonNegativeInt, PartitionRole, PositiveFloat, PositiveInt, Source
from erasure.unlearners.contract import Unlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["FeatureUnlearning"]


@dataclass(frozen=True, kw_only=True)
class FeatureUnlearning(Unlearner):
    r"""Moves the weights towards what training would have given, had some features of the forget set had another value.

    .. math::
        \theta_u = \theta_o - \tau\, G \quad\text{or}\quad \theta_u = \theta_o - (H + \lambda I)^{-1} \frac{G}{N}, \qquad
        G = \sum_{D_f} \bigl(\nabla \ell(\tilde z) - \nabla \ell(z)\bigr)

    with the Hessian ``H`` of the mean loss of all ``N`` samples, those of the forget set changed. The samples themselves are not forgotten:
    what the result is to be compared with is a model trained on the changed inputs, not one trained without them. The second order is
    exact for a quadratic loss at its optimum without damping; features that have the value already change nothing. Model in eval
    mode; buffers are left alone.

    **Cost**: two gradients of the forget set; for the second order, at most ``max_steps`` products with the curvature of
    ``max_samples`` samples.

    Args:
        features: Places of the features in a flattened input, from 0.
        value: What they become, in the unit of what the model reads.
        order: ``second``, or ``first``, which needs no curvature.
        rate: ``tau``, for the first order.
        damping: ``lambda``, for the second.
        curvature: ``gauss-newton``, or the ``hessian`` as published, which has to be positive definite and for networks seldom is; of a
            linear model they are the same.
        max_samples: Samples for the curvature, drawn at random.
        max_steps: Conjugate-gradient steps.
        tolerance: Relative residual at which they stop.
    """

    source: ClassVar[Source | None] = Source(
        paper="Warnecke, Pirch, Wressnegger, Rieck, NDSS 2023, arXiv:2108.11577",
        code="alewarne/MachineUnlearning at 10fadb2",
        tested="the exact step of a quadratic loss, and dense inverses in float64 (tests/unit/unlearners/test_curvature_steps.py)",
        deviations=(
            "The system is solved by conjugate gradients; the code inverts densely or by a truncated series (LiSSA).",
            "The curvature is Gauss and Newton's by default. Of a linear model, for which the paper proves bounds, that is the Hessian; "
            "that of most networks curves down in some directions, in which there is no such step.",
            "The damping is that of the mean loss; the code adds it to the Hessian of the sum.",
            "All weights that may be trained move; the code's networks move the last six tensors.",
            "There is no noise and no certificate.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"forget", "retain"})
    cost: ClassVar[str] = "two gradients of the forget set, then max_steps curvature products over max_samples samples"
    search_space: ClassVar[SearchSpace] = {"rate": Range(1e-5, 1.0, log=True), "damping": Range(1e-5, 1.0, log=True)}

    features: Annotated[tuple[NonNegativeInt, ...], MinLen(1)]
    value: float = 0.0
    order: Literal["first", "second"] = "second"
    rate: PositiveFloat = 1e-3
    damping: NonNegativeFloat = 0.01
    curvature: Literal["gauss-newton", "hessian"] = "gauss-newton"
    max_samples: PositiveInt = 1000
    max_steps: PositiveInt = 100
    tolerance: PositiveFloat = 1e-6

    def partitions(self) -> dict[PartitionRole, str]:
        """The first order needs the changed samples alone."""
        return {"forget": self.forget} if self.order == "first" else super().partitions()

    def unsupported_reason(self, data: ModelInput) -> str | None:
        """Not for inputs without these features."""
        if data.modality == "graph":
            return "FeatureUnlearning is not defined for graphs: features are places of one tensor"
        n_features = math.prod(data.x_shape)
        beyond = [place for place in self.features if place >= n_features]
        if beyond:
            return f"FeatureUnlearning is to change feature {beyond[0]}, and inputs have {n_features} (from 0)"
        return super().unsupported_reason(data)

    def try_on(self, model: nn.Module, batch: Batch, criterion: Criterion) -> None:
        """Gradients, and the curvature's products."""
        if self.order == "second":
            weights = [p.detach().flatten() for p in model.parameters() if p.requires_grad]
            Curvature(model, [batch], criterion, self.curvature)(torch.cat(weights))

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Find the difference of the gradients, solve, step."""
        if not context.n_samples("forget"):
            return model
        model.eval()
        difference = self._difference(model, context)
        step = self.rate * difference if self.order == "first" else self._solved(model, context, difference)
        weights = [p for p in model.parameters() if p.requires_grad]
        with torch.no_grad():
            for weight, piece in zip(weights, torch.split(step, [w.numel() for w in weights]), strict=True):
                weight.sub_(piece.reshape(weight.shape))
        return model

    def _difference(self, model: nn.Module, context: UnlearningContext) -> Tensor:
        """Sum of the gradients with the changed features minus that with the old ones."""
        weights = [p for p in model.parameters() if p.requires_grad]
        total = torch.zeros(sum(w.numel() for w in weights), dtype=weights[0].dtype, device=context.device)
        for batch in context.batches("forget", shuffle=False):
            for part, sign in ((self._changed(batch), 1), (batch, -1)):
                logits = logits_of(model(part.x))
                require_gradients(model, logits)
                loss = context.criterion.over_samples(logits, part.y) * (sign * len(part.y))
                found = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
                total += torch.cat([gradient.flatten() for gradient in found])
        return total

    def _changed(self, batch: Batch) -> Batch:
        """The samples with the new values."""
        if not isinstance(batch.x, Tensor):
            raise RequirementNotMet(f"FeatureUnlearning changes places of one tensor, and inputs are {type(batch.x).__name__}")
        x = batch.x.clone().flatten(1)
        x[:, list(self.features)] = self.value
        return batch._replace(x=x.reshape(batch.x.shape))

    def _solved(self, model: nn.Module, context: UnlearningContext, difference: Tensor) -> Tensor:
        ids = torch.cat([context.ids("forget"), context.ids("retain")])
        order = torch.randperm(len(ids), generator=context.generator("samples")).to(ids.device)
        chosen = ids[order[: self.max_samples].sort().values]
        is_changed = torch.isin(chosen, context.ids("forget"))
        batches = [self._changed(batch) for batch in context.batches("forget", shuffle=False, ids=chosen[is_changed])]
        batches += list(context.batches("retain", shuffle=False, ids=chosen[~is_changed]))
        product = Curvature(model, batches, context.criterion, self.curvature, self.damping)
        return conjugate_gradient(product, difference / len(ids), max_steps=self.max_steps, tolerance=self.tolerance)[0]
