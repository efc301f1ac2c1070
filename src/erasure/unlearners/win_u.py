"""WIN-U: a Newton step without retain data, by the curvature of the whole training set less that of the forget set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from erasure.errors import Diverged, RequirementNotMet
from erasure.training.batches import Batch
from erasure.training.calls import Criterion
from erasure.training.forward import logits_of
from erasure.training.jacobians import logit_jacobians, output_hessians
from erasure.types import NonNegativeFloat, PartitionRole, PositiveFloat, PositiveInt, Source
from erasure.unlearners.contract import Unlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["WINU"]


@dataclass(frozen=True, kw_only=True)
class WINU(Unlearner):
    r"""Takes the forget set out of a stored curvature, and the Newton step that is left; no retain data is read at a request.

    .. math::
        \theta_u = \theta_o + \alpha\, \Bigl(H - \sum_{i \in D_f} J_i^\top A_i J_i\Bigr)^{-1} \sum_{i \in D_f} \nabla \ell_i(\theta_o),
        \qquad H = \sum_{i \in D} J_i^\top A_i J_i + \lambda N I

    with the Jacobians ``J`` of the logits and the second derivatives ``A`` of the loss by them (the generalised Gauss-Newton matrix).
    ``H`` is computed once for a model, from the training set, before any request. For a linear model with a quadratic loss and the
    penalty ``lambda N / 2`` times the squared weights, the step gives the optimum without the forget set; for a generalised linear
    model it is the Newton step of certified removal. Model in eval mode; buffers are left alone. Inside ``LastLayers`` the curvature
    is that of the last layers alone. An empty forget set leaves the model unchanged.

    **Cost**: before any request the Jacobians of the training set and a matrix of squared size; then those of the forget set and one
    solution.

    Args:
        damping: ``lambda``, for each sample; keep it above 0 where weights outnumber samples.
        scale: ``alpha``: length of the step.
        max_weights: Weights that may be trained, at most: ``H`` has their squared number of entries.
    """

    source: ClassVar[Source | None] = Source(
        paper="WIN-U, 2026, arXiv:2604.13438",
        tested="the optimum of ridge regression without the samples, and the formula by plain loops in float64 "
        "(tests/unit/unlearners/test_curvature_steps.py)",
        deviations=(
            "Written from the description of the method and its formula; no code was compared, and the defaults are ours.",
            "The matrix is dense and solved directly, which is Woodbury's identity without its inverse of A, a matrix that is singular for "
            "softmax outputs; factored curvatures are left out, and so are larger models.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"forget", "train"})
    cost: ClassVar[str] = "Jacobians of the training set before any request, those of the forget set and one solution"
    search_space: ClassVar[SearchSpace] = {"damping": Range(1e-6, 1e-1, log=True), "scale": Range(0.1, 10.0, log=True)}

    damping: NonNegativeFloat = 1e-3
    scale: PositiveFloat = 1.0
    max_weights: PositiveInt = 4000

    def try_on(self, model: nn.Module, batch: Batch, criterion: Criterion) -> None:
        """The weights must be few enough, and their Jacobian must exist."""
        self._weights(model)
        n_outputs = logits_of(model(batch.x)).reshape(len(batch.y), -1).shape[1]
        logit_jacobians(model, batch, n_outputs)

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Subtract, solve, step."""
        if not context.n_samples("forget"):
            return model
        model.eval()
        weights = self._weights(model)
        kept = context.precomputed(
            "gauss_newton", model, ["train"], lambda: {"curvature": self._curvature(model, context, "train")[0]}
        )
        context.keeps(kept["curvature"].numel() * kept["curvature"].element_size())
        gone, gradient = self._curvature(model, context, "forget")
        left = kept["curvature"] - gone
        left.diagonal().add_(self.damping * context.n_samples("train"))
        factor, info = torch.linalg.cholesky_ex(left)
        if int(info):
            raise Diverged("WIN-U: the curvature that is left is not positive definite; raise damping")
        step = torch.cholesky_solve(gradient[:, None], factor)[:, 0]
        with torch.no_grad():
            for weight, piece in zip(weights, torch.split(step, [w.numel() for w in weights]), strict=True):
                weight.add_(piece.reshape(weight.shape).to(weight.dtype), alpha=self.scale)
        return model

    def _weights(self, model: nn.Module) -> list[nn.Parameter]:
        weights = [p for p in model.parameters() if p.requires_grad]
        n_weights = sum(w.numel() for w in weights)
        if n_weights > self.max_weights:
            raise RequirementNotMet(
                f"WIN-U keeps a matrix of the squared number of weights, and {type(model).__name__} has {n_weights:,} that may be trained "
                f"(max_weights={self.max_weights:,}); put it into LastLayers with n_layers=1"
            )
        return weights

    def _curvature(self, model: nn.Module, context: UnlearningContext, role: PartitionRole) -> tuple[Tensor, Tensor]:
        """Sum of the samples' curvatures and of their gradients, in double precision."""
        n_weights = sum(w.numel() for w in self._weights(model))
        total = torch.zeros(n_weights, n_weights, dtype=torch.float64, device=context.device)
        gradient = total.new_zeros(n_weights)
        for batch in context.batches(role, shuffle=False):
            logits = logits_of(model(batch.x)).detach()
            jacobians = logit_jacobians(model, batch, logits.reshape(len(batch.y), -1).shape[1]).double()
            hessians = output_hessians(context.criterion, logits, batch.y).double()
            total += jacobians.flatten(0, 1).T @ (hessians @ jacobians).flatten(0, 1)
            gradient += torch.einsum("bkp,bk->p", jacobians, _slopes(context.criterion, logits, batch.y).double())
        return total, gradient


def _slopes(criterion: Criterion, logits: Tensor, y: Tensor) -> Tensor:
    """Gradient of each sample's loss by its logits, ``(B, K)``."""
    leaf = logits.detach().requires_grad_(True)
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(criterion.per_sample(leaf, y).sum(), leaf)
    return slope.reshape(len(y), -1)
