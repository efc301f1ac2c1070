"""Influence unlearning: one Newton step towards the model without the forget set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from erasure.errors import Diagnostic, InvalidParameters
from erasure.functional.solvers import conjugate_gradient
from erasure.training.batches import Batch
from erasure.training.calls import Criterion
from erasure.training.curvature import Curvature
from erasure.training.forward import logits_of
from erasure.training.per_sample import per_sample_gradients
from erasure.training.trial import require_gradients
from erasure.types import NonNegativeFloat, PartitionRole, PositiveFloat, PositiveInt, Source
from erasure.unlearners.contract import Unlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["InfluenceUnlearning", "inverse_fisher_product"]


def inverse_fisher_product(gradients: Tensor, v: Tensor, damping: float) -> Tensor:
    r"""Exact product of the inverse empirical Fisher information with a vector, by Woodbury's identity.

    .. math:: \Bigl(\lambda I + \tfrac1N G^\top G\Bigr)^{-1} v = \tfrac1\lambda\bigl(v - G^\top(\lambda N I + G G^\top)^{-1} G v\bigr)

    Args:
        gradients: ``G``, one row per sample, ``(N, P)``.
        v: ``(P,)``.
        damping: ``lambda > 0``.

    Returns:
        ``(P,)``: what WoodFisher's recursion gives when every vector of it is kept.

    Example:
        >>> inverse_fisher_product(torch.tensor([[1.0, 0.0]]), torch.tensor([2.0, 2.0]), damping=1.0)
        tensor([1., 2.])
    """
    gram = (gradients @ gradients.T).double()
    gram.diagonal().add_(damping * len(gradients))
    inner = torch.linalg.solve(gram, (gradients @ v).double()).to(v.dtype)
    product: Tensor = (v - gradients.T @ inner) / damping
    return product


@dataclass(frozen=True, kw_only=True)
class InfluenceUnlearning(Unlearner):
    r"""Moves the weights by the influence of deleting the forget set, with the retain set's curvature.

    .. math::
        \theta_u = \theta_o + \alpha H_r^{-1} v, \qquad
        v = \frac1N \sum_{D_f} \nabla \ell - \frac{n_f}{N n_r} \sum_{D_r} \nabla \ell

    Exact for a quadratic loss at its optimum with ``alpha = 1`` and no damping. Model in eval mode; buffers are left alone. An empty
    forget set leaves the model as it is. With class weights each sample's weighted loss counts alike, however the samples are batched.
    Attention is computed by its formula; a network without second derivatives (reentrant checkpoints) is refused, and can be moved with
    ``solver="woodfisher"``.

    **Cost**: one pass over both sets for ``v``; then ``max_steps`` products with the curvature of ``max_samples`` retain samples, or
    the gradients of ``max_samples`` samples in memory.

    Args:
        solver: ``cg`` solves with conjugate gradients; ``woodfisher`` inverts the damped empirical Fisher information of ``max_samples``
            samples exactly.
        curvature: For ``cg``: ``gauss-newton`` (positive semi-definite) or the ``hessian`` (exact, may be indefinite).
        alpha: Length of the step.
        damping: Added to the curvature's diagonal.
        max_samples: Retain samples for the curvature, drawn at random.
        max_steps: Conjugate-gradient steps.
        tolerance: Relative residual at which conjugate gradients stop.
    """

    version: ClassVar[int] = 2
    source: ClassVar[Source | None] = Source(
        paper="Koh & Liang, ICML 2017, arXiv:1703.04730; Izzo et al., AISTATS 2021, arXiv:2002.10077; WoodFisher: Singh & Alistarh, "
        "NeurIPS 2020, arXiv:2004.14340",
        code="OPTML-Group/Unlearn-Sparse at 80ba55d",
        tested="the exact Newton step of a quadratic loss, and dense inverses (tests/unit/unlearners/test_second_order.py)",
        deviations=(
            "The reference code's WoodFisher moves along the first sample's gradient only; here the inverse is exact.",
            "Conjugate gradients on the Gauss-Newton matrix are the default; the reference code has WoodFisher alone.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"forget", "retain"})
    cost: ClassVar[str] = "one pass over both sets, then max_steps curvature products over max_samples retain samples"
    search_space: ClassVar[SearchSpace] = {"alpha": Range(0.1, 30.0, log=True), "damping": Range(1e-4, 1.0, log=True)}

    solver: Literal["cg", "woodfisher"] = "cg"
    curvature: Literal["gauss-newton", "hessian"] = "gauss-newton"
    alpha: NonNegativeFloat = 1.0
    damping: NonNegativeFloat = 0.01
    max_samples: PositiveInt = 1000
    max_steps: PositiveInt = 50
    tolerance: PositiveFloat = 1e-6

    def check(self) -> None:
        """WoodFisher starts from the damping."""
        if self.solver == "woodfisher" and self.damping == 0:
            raise InvalidParameters(
                [Diagnostic("solver=woodfisher needs damping > 0, found 0", path="InfluenceUnlearning.damping")]
            )

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Find the direction, solve, step."""
        n_forget, n_retain = context.n_samples("forget"), context.n_samples("retain")
        if not n_forget or not n_retain:
            return model
        model.eval()
        n = n_forget + n_retain
        v = self._summed(model, context, "forget") / n - self._summed(model, context, "retain") * (n_forget / (n * n_retain))
        solution = self._solved(model, context, v)
        with torch.no_grad():
            start = 0
            for weight in _weights(model).values():
                piece = solution[start : start + weight.numel()].reshape(weight.shape)
                weight.add_(piece.to(weight.dtype), alpha=self.alpha)
                start += weight.numel()
        return model

    def try_on(self, model: nn.Module, batch: Batch, criterion: Criterion) -> None:
        """The curvature's products, or gradients of single samples."""
        if self.solver == "woodfisher":
            _flat_gradients(model, batch, criterion)
            return
        product = Curvature(model, [batch], criterion, self.curvature)
        product(torch.cat([w.detach().flatten() for w in _weights(model).values()]))

    def _summed(self, model: nn.Module, context: UnlearningContext, role: PartitionRole) -> Tensor:
        """Sum of the samples' loss gradients, flat."""
        weights = list(_weights(model).values())
        total = torch.zeros(sum(w.numel() for w in weights), dtype=weights[0].dtype, device=context.device)
        for batch in context.batches(role, shuffle=False):
            logits = logits_of(model(batch.x))
            require_gradients(model, logits)
            loss = context.criterion.over_samples(logits, batch.y) * len(batch.y)
            gradients = torch.autograd.grad(loss, weights, allow_unused=True)
            total += torch.cat(
                [torch.zeros_like(w).flatten() if g is None else g.flatten() for w, g in zip(weights, gradients, strict=True)]
            )
        return total

    def _solved(self, model: nn.Module, context: UnlearningContext, v: Tensor) -> Tensor:
        ids = context.ids("retain")
        if len(ids) > self.max_samples:
            order = torch.randperm(len(ids), generator=context.generator("samples"))[: self.max_samples]
            ids = ids[order.to(ids.device)]
        chosen = context.batches("retain", shuffle=False, ids=ids)
        if self.solver == "woodfisher":
            rows = [_flat_gradients(model, batch, context.criterion) for batch in chosen]
            return inverse_fisher_product(torch.cat(rows), v, self.damping)
        product = Curvature(model, list(chosen), context.criterion, self.curvature, self.damping)
        return conjugate_gradient(product, v, max_steps=self.max_steps, tolerance=self.tolerance)[0]


def _weights(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _flat_gradients(model: nn.Module, batch: Batch, criterion: Criterion) -> Tensor:
    found = per_sample_gradients(model, batch.x, batch.y, criterion.per_sample, parameters=list(_weights(model)))
    return torch.cat([found[name].flatten(1) for name in _weights(model)], dim=1)
