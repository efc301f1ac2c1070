"""Graph influence functions: one Newton step for what a removal changes in the loss, neighbours included."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from erasure.errors import Diverged
from erasure.functional.solvers import damped_conjugate_gradient
from erasure.training.batches import Batch
from erasure.training.calls import Criterion
from erasure.training.curvature import Curvature, CurvatureKind
from erasure.types import NonNegativeFloat, PartitionRole, PositiveFloat, PositiveInt, Source
from erasure.unlearners.contract import Unlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["GraphInfluence", "loss_gradient"]


def loss_gradient(model: nn.Module, context: UnlearningContext, role: PartitionRole) -> Tensor:
    """Gradient of the summed loss over a partition, each sample in the graph that it is seen in; flat, ``(P,)``."""
    return context.n_samples(role) * _mean_loss(model, context, role).gradient()


def _mean_loss(
    model: nn.Module, context: UnlearningContext, role: PartitionRole, kind: CurvatureKind = "gauss-newton", damping: float = 0.0
) -> Curvature:
    """What is known of the mean loss over a partition around the weights, all samples in one batch."""
    batches = list(context.batches(role, shuffle=False, batch_size=max(1, context.n_samples(role))))
    return Curvature(model, batches, context.criterion, kind, damping)


@dataclass(frozen=True, kw_only=True)
class GraphInfluence(Unlearner):
    r"""Moves the weights by the influence of what is removed, on the removed samples and on all whose messages change (GIF).

    .. math::
        \theta_u = \theta_o + (H + \lambda I)^{-1} v, \qquad
        v = \nabla \sum_{D_{tr}} \ell(\theta; G) - \nabla \sum_{D_r} \ell(\theta; G')

    with the Hessian :math:`H` of the training set's summed loss on G. The training set sees the graph as it was and the retain set the
    graph after the request, so that the difference of the two gradients is what the request changes: only nodes within reach of it count,
    and no label of a test node. A request that changes nothing leaves the model as it is. On samples that do not depend on one another it
    is the influence of the forget set. For a quadratic loss on a linear network the step with the retain set's Hessian is exact.

    The system is solved by conjugate gradients to ``tolerance``; if the steps do not suffice, or the curvature is not positive at this
    damping, the method says so instead of taking a step of unknown length.

    **Cost**: a gradient on each graph, and as many products with the curvature as the solution takes steps, at least ``power_steps`` and at
    most ``max_steps``.

    Args:
        influence: ``removal``: as above. ``forget``: the gradient of the forget set's own loss on G (IF), which leaves its neighbours out.
        curvature: ``gauss-newton`` (positive semi-definite) or the ``hessian`` (exact; of a network it is indefinite and needs damping).
        hessian_of: Whose curvature: the training set's on G, as in the papers, or the retain set's on G'.
        damping: ``lambda`` as a multiple of the largest eigenvalue of the curvature, so that it means the same for every recipe.
        weight_decay: L2 penalty of the original's training, which is part of its mean loss: ``weight_decay`` of its optimizer.
        tolerance: Relative residual at which conjugate gradients stop.
        max_steps: Steps at most.
        power_steps: Products with the curvature from which its largest eigenvalue is found; the first steps of the solution need no others.
        noise_std: Standard deviation of Gaussian noise that is added to the weights (IDEA); the bound that goes with it needs a convex
            loss and is not claimed.
    """

    source: ClassVar[Source | None] = Source(
        paper="Wu et al., WWW 2023, arXiv:2304.02835 (GIF); Wu et al., KDD 2023 (CEU); Dong et al., KDD 2024, arXiv:2407.19398 (IDEA); "
        "Koh & Liang, ICML 2017, arXiv:1703.04730 (IF)",
        code="wujcan/GIF-torch at 9fe4294",
        tested="plain gradients and Hessians of a linear graph network in float64, and gold for a quadratic loss "
        "(tests/unit/unlearners/test_graph_influence.py)",
        deviations=(
            "Conjugate gradients to a stated residual with damping relative to the curvature, instead of a fixed number of Richardson "
            "steps at a fixed scale, which diverge or do nothing where the scale does not fit the network.",
            "The Gauss-Newton matrix is the default; the Hessian, which the papers have, is indefinite on a network.",
            "Only training nodes count; the reference code takes the true labels of test nodes within reach into the update.",
            "All edges of forgotten nodes are removed; the reference code removes others.",
            "IDEA's and CEU's bounds are not computed: they need a convex loss, which a network of two layers does not have.",
        ),
    )
    version: ClassVar[int] = 2
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"forget", "retain", "train"})
    cost: ClassVar[str] = "a gradient on each graph, then at most max_steps curvature products over the training set"
    search_space: ClassVar[SearchSpace] = {"damping": Range(1e-3, 1.0, log=True)}

    influence: Literal["removal", "forget"] = "removal"
    curvature: Literal["gauss-newton", "hessian"] = "gauss-newton"
    hessian_of: Literal["train", "retain"] = "train"
    damping: NonNegativeFloat = 0.01
    weight_decay: NonNegativeFloat = 0.0
    tolerance: PositiveFloat = 1e-4
    max_steps: PositiveInt = 500
    power_steps: PositiveInt = 8
    noise_std: NonNegativeFloat = 0.0

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Find what the request changes, solve, step."""
        model.eval()
        mean_loss = _mean_loss(model, context, self.hessian_of, self.curvature, self.weight_decay)
        v = self._change(model, context, mean_loss)
        delta = self._solved(mean_loss, v) if float(v.norm()) > 0 else v
        if self.noise_std:
            drawn = torch.randn(len(delta), generator=context.generator("noise")).to(delta)
            delta = delta + self.noise_std * drawn
        with torch.no_grad():
            start = 0
            for weight in (p for p in model.parameters() if p.requires_grad):
                weight.add_(delta[start : start + weight.numel()].reshape(weight.shape))
                start += weight.numel()
        return model

    def try_on(self, model: nn.Module, batch: Batch, criterion: Criterion) -> None:
        """The curvature's products."""
        product = Curvature(model, [batch], criterion, self.curvature)
        product(torch.cat([w.detach().flatten() for w in model.parameters() if w.requires_grad]))

    def _change(self, model: nn.Module, context: UnlearningContext, mean_loss: Curvature) -> Tensor:
        if self.influence == "forget":
            return loss_gradient(model, context, "forget")

        def gradient(role: PartitionRole) -> Tensor:
            # The partition whose curvature is asked for has been looked at already.
            known = role == self.hessian_of
            return mean_loss.n_samples * mean_loss.gradient() if known else loss_gradient(model, context, role)

        change = gradient("train") - gradient("retain")
        n_gone = context.n_samples("train") - context.n_samples("retain")
        weights = torch.cat([w.detach().flatten() for w in model.parameters() if w.requires_grad])
        # The mean loss has the penalty once, so the summed one has it as often as there are samples.
        return change + n_gone * self.weight_decay * weights

    def _solved(self, mean_loss: Curvature, v: Tensor) -> Tensor:
        def product(direction: Tensor) -> Tensor:
            return mean_loss.n_samples * mean_loss(direction)

        found = damped_conjugate_gradient(
            product, v, damping=self.damping, power_steps=self.power_steps, max_steps=self.max_steps, tolerance=self.tolerance
        )
        if not found.residual <= self.tolerance or not math.isfinite(found.residual):
            raise Diverged(
                f"conjugate gradients have a relative residual of {found.residual:.1e} after {self.max_steps} steps, and "
                f"{self.tolerance:.0e} was asked for (largest eigenvalue {found.largest:.3g}, damping {found.shift:.3g}); raise damping "
                "or max_steps"
            )
        return found.solution
