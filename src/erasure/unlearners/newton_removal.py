"""Certified removal from logistic regression by a Newton step, within a budget that the objective's noise pays for."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from erasure.accounting.gaussian import epsilon_of_mu
from erasure.accounting.guarantee import Guarantee
from erasure.accounting.sensitivity import newton_budget_exact
from erasure.errors import RequirementNotMet
from erasure.training.batches import Batch, Column
from erasure.training.calls import Criterion
from erasure.training.estimators import samples_of
from erasure.training.graph_requests import RequestedGraph
from erasure.training.logistic import LogisticModel, LogisticObjective, NoisyLogisticModel
from erasure.training.pushed_propagation import PushedPropagation, pushed_after
from erasure.types import NonNegativeFloat, OpenFraction, PartitionRole, PositiveFloat, PositiveInt, Source, Task
from erasure.unlearners.contract import Unlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["NewtonRemoval", "propagation_bound", "removal_bound"]

_CURVATURE = 0.25
"""Second derivative of the logistic loss by the margin, at most."""
_CHANGE_OF_CURVATURE = 1 / (6 * math.sqrt(3))
"""Its third derivative, at most."""


def removal_bound(objective: LogisticObjective, step: Tensor) -> Tensor:
    r"""Norm of the gradient that a Newton step leaves behind, at most; of all heads together.

    .. math:: \lVert X \rVert_2\, \Bigl\lVert m_i \min\bigl(\tfrac14,\; \tfrac{|m_i|}{12 \sqrt 3}\bigr) \Bigr\rVert, \qquad m = X s

    for a head, with the margins m that its step s adds: on the way a sample's curvature changes by no more.

    Args:
        objective: On the samples that stay.
        step: By which the weights move, ``(H, d)``.
    """
    size = torch.linalg.matrix_norm(objective.rows, 2) if len(objective.rows) else objective.rows.new_zeros(())
    moved = step @ objective.rows.T
    bound: Tensor = size * torch.linalg.vector_norm(moved * (_CHANGE_OF_CURVATURE / 2 * moved.abs()).clamp(max=_CURVATURE))
    return bound


def propagation_bound(objective: LogisticObjective, weight: Tensor, errors: Tensor) -> Tensor:
    r"""How far, at most, the gradient of all heads together is from that on the exact rows.

    With rows z that are wrong by e, slopes s and heads w, each sample adds at most :math:`|e| (|s| + |w| (|z| + |e|) / 4)` for a head.

    Args:
        objective: On rows that are not exact.
        weight: Where, ``(H, d)``; the last column multiplies the constant, which is exact.
        errors: Euclidean distance of each row to the exact one at most, ``(n,)``.
    """
    slopes = torch.sigmoid(-objective.targets * (weight @ objective.rows.T))
    lengths = torch.linalg.vector_norm(objective.rows, dim=1) + errors
    heads = torch.linalg.vector_norm(weight[:, :-1], dim=1)
    each = errors * (slopes + _CURVATURE * heads[:, None] * lengths)
    bound: Tensor = torch.linalg.vector_norm(each, dim=0).sum()
    return bound


@dataclass(frozen=True, kw_only=True)
class NewtonRemoval(Unlearner):
    r"""Moves the weights by one Newton step towards the optimum without the forget set, or refits where the budget is spent.

    .. math:: w \leftarrow w + H^{-1} \sum_{i \in D_f} \bigl(\nabla \ell_i(w) + \lambda w\bigr)

    with the Hessian of the retain set. What gradient is left is bounded by the data and added up over requests, in the model's state; while
    it is within what the objective's noise ``perturbation`` hides, the model is (eps, delta)-certified, with the eps that was really used.
    Otherwise it is fitted to the retain set again with fresh noise, which is exact and says so.

    Where a ``GraphRequest`` says what is forgotten, the rows of kept nodes change as well, and the step goes along the gradient of the
    retain set on the graph after it, of which the bound holds by itself (certified graph unlearning, CGU). With ``push`` the rows of that
    graph are those of earlier requests with only the changes passed on that are longer than it, and what they may be wrong by is added to
    the bound (ScaleGUN); a refit takes exact rows.

    **Cost**: a Hessian and its factorisation, one spectral norm of the retain set.

    Args:
        eps: Of the guarantee, at most.
        delta: Of the guarantee.
        steps: Newton steps; those after the first are taken along the whole gradient and bounded by themselves.
        push: On a graph with ``propagate``, the length (Euclidean norm) up to which a change of a node's features is not passed on to its
            neighbours; None averages exactly.
    """

    source: ClassVar[Source | None] = Source(
        paper="Guo, Goldstein, Hannun, van der Maaten, ICML 2020, arXiv:1911.03030; graphs: Chien, Pan, Milenkovic, ICLR 2023; "
        "push: Yi et al., arXiv:2408.09212 (ScaleGUN)",
        code="facebookresearch/certified-removal",
        tested="the steps by plain formulas, and the true residual within its bound (tests/unit/unlearners/test_certified.py)",
        deviations=(
            "The budget follows from the exact trade-off of two Gaussians, which is larger than the paper's bound.",
            "The residual is bounded by how far each sample's curvature changes; the paper's bound is for rows of length 1 at most, and "
            "wrong for long ones.",
            "The spectral norm is exact; the code's 20 power iterations can only be below it.",
            "The gradient that training leaves is added to the bound; the code takes it for 0.",
            "Heads of several classes share one budget by the norm of their residuals, not a part of eps each.",
            "push passes on whole rows by their length; ScaleGUN pushes each column and adds up its signed residues, which cancel.",
            "push starts from exact averages, so that only what requests change is approximate.",
        ),
    )
    version: ClassVar[int] = 2
    needs_weights: ClassVar[bool] = False
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"forget", "retain"})
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification", "binary"})
    at_training: ClassVar[bool] = True
    cost: ClassVar[str] = "one Hessian of the retain set and its factorisation"

    search_space: ClassVar[SearchSpace] = {"steps": Range(1, 3)}

    eps: PositiveFloat = 1.0
    delta: OpenFraction = 1e-5
    steps: PositiveInt = 1
    push: NonNegativeFloat | None = field(default=None, metadata={"address": "changed"})

    def refuse_inputs(self, x: Column) -> str | None:
        """Nothing is passed on where nothing is averaged."""
        if self.push is not None and not (isinstance(x, RequestedGraph) and x.graph.is_averaged):
            return (
                "push is for a request on a graph whose samples are averaged features; give the source propagate and node features, "
                "without Inductive, or leave push out"
            )
        return super().refuse_inputs(x)

    def try_on(self, model: nn.Module, batch: Batch, criterion: Criterion) -> None:
        """It must be logistic regression with noise in its objective."""
        _perturbed(model)

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Step within the budget, or refit."""
        logistic = _perturbed(model)
        gone, left = (samples_of(context.x, context.y, context.ids(role)) for role in ("forget", "retain"))
        with torch.no_grad():
            is_graph, errors = isinstance(context.x, RequestedGraph), None
            if not (is_graph or context.is_part):
                logistic.require_fitted_to(gone, left, "NewtonRemoval")
            shown = left
            if self.push is not None:
                shown, errors = _approximate(context.x, left, self.push)
            residual = self._stepped(logistic, gone, shown, is_graph) if len(gone.y) and len(left.y) else float(logistic.residual)
            if errors is not None:
                residual += float(propagation_bound(logistic.objective(shown), logistic.weight, errors))
            budget = newton_budget_exact(logistic.perturbation, self.eps, self.delta)
            if residual > budget or not len(left.y):
                logistic.refit(left, fresh_noise=True)
                reason = f"A residual of {residual:.3g} would have been above the budget of {budget:.3g}"
                context.promise(
                    Guarantee(kind="exact", assumptions=(f"{reason}: the model was fitted again to the kept samples.",))
                )
                return model
            logistic.residual.fill_(residual)
        eps = epsilon_of_mu(residual / logistic.perturbation, self.delta) if residual else 0.0
        context.promise(
            Guarantee(
                kind="certified",
                eps=eps,
                delta=self.delta,
                assumptions=(
                    "The residual is hidden by the objective's noise, which was drawn once and is kept secret.",
                    f"The residual's bound is {residual:.3g} of {budget:.3g}; rows are at most {logistic.largest_row:.3g} long.",
                    "Requests do not depend on the weights released before.",
                    "Statistics by which inputs were scaled are not covered.",
                ),
            )
        )
        return model

    def _stepped(self, model: LogisticModel, gone: Batch, left: Batch, is_graph: bool) -> float:
        """Take the steps; a bound on the gradient that is left."""
        objective, n_steps, residual = model.objective(left), self.steps, 0.0
        if not is_graph:
            pull = model.objective(gone).gradient(model.weight) - model.noise  # the samples that go, each with its share of l2
            step = objective.newton(model.weight, pull)
            residual = float(model.residual) + float(removal_bound(objective, step))
            model.weight.add_(step)
            n_steps -= 1
        # Kept nodes of a graph change, too: what is left of their gradient is all that there is to go by.
        for _ in range(n_steps):
            step = -objective.newton(model.weight, objective.gradient(model.weight))
            residual = float(removal_bound(objective, step))
            model.weight.add_(step)
        return residual


def _approximate(x: Column, left: Batch, threshold: float) -> tuple[Batch, Tensor]:
    """Kept samples with the rows that are left of earlier ones by pushing, and how far each is from its exact row at most."""
    assert isinstance(x, RequestedGraph)  # noqa: S101 - refuse_inputs has asked
    graph = x.asked_by(left.ids)
    known: PushedPropagation = pushed_after(graph, threshold)
    nodes = graph.nodes_of(left.ids)
    rows = known.propagated.index_select(0, nodes)
    return left._replace(x=rows), known.errors().index_select(0, nodes).to(torch.float64)


def _perturbed(model: nn.Module) -> LogisticModel:
    if not isinstance(model, LogisticModel) or isinstance(model, NoisyLogisticModel):
        raise RequirementNotMet(
            f"NewtonRemoval is for the model LogisticRegression, and this is {type(model).__name__.strip('_')}; networks are not convex, "
            "and CertifiedUnlearning makes no such assumption"
        )
    if not model.perturbation:
        raise RequirementNotMet(
            "NewtonRemoval promises only what the objective's noise hides, and the model was trained without; set perturbation of "
            "LogisticRegression, or delete exactly with ExactDeletion"
        )
    return model
