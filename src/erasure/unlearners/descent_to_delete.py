"""Descent-to-Delete and Langevin unlearning: steps towards the optimum without the samples, and noise that hides how far it still is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn

from erasure.accounting.events import ClippedSteps, LangevinRequests
from erasure.accounting.gaussian import noise_for
from erasure.accounting.guarantee import Guarantee
from erasure.accounting.sensitivity import descent_distance, descent_noise
from erasure.errors import RequirementNotMet
from erasure.training.batches import Batch
from erasure.training.calls import Criterion
from erasure.training.estimators import samples_of
from erasure.training.logistic import LogisticModel, NoisyLogisticModel
from erasure.training.noisy import add_noise
from erasure.types import OpenFraction, PartitionRole, PositiveFloat, PositiveInt, Source, Task
from erasure.unlearners.contract import Unlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["DescentToDelete", "LangevinUnlearning"]

_AT_OPTIMUM = 1e-6
_OF_THE_START = 0.1
"""Share of delta that may be due to where training began."""
_NOT_COVERED = "Statistics by which inputs were scaled are not covered."


@dataclass(frozen=True, kw_only=True)
class DescentToDelete(Unlearner):
    r"""Gradient descent on the retain set from the original's optimum, then Gaussian noise on what is published.

    Steps of :math:`2 / (L + m)` contract towards the new optimum by :math:`\gamma = (L - m) / (L + m)`; the published weights get noise for
    the distance that ``steps`` of them leave. The reference is the optimum of the retain set with the same noise. A second request
    cannot start from published weights, which are no optimum: forget both in one, or refit.

    **Cost**: ``steps`` passes over the retain set.

    Args:
        eps: Of the guarantee.
        delta: Of the guarantee.
        steps: Descent steps.
        noise: ``exact`` by the exact Gaussian mechanism, or ``published``: the paper's formula, at least twice as large.
    """

    source: ClassVar[Source | None] = Source(
        paper="Neel, Roth, Sharifi-Malvajerdi, ALT 2021, arXiv:2007.02923",
        code="baseline of Graph-COM/Langevin_unlearning at 5f8e712",
        tested="the steps and the noise by plain formulas, distances within their bound (tests/unit/unlearners/test_certified.py)",
        deviations=(
            "Samples are removed; the code replaces them by random ones, so that their number stays.",
            "Gradients are bounded by the rows' norm and not clipped; the code clips each with its share of the regulariser.",
            "The noise is that of the exact Gaussian mechanism by default.",
        ),
    )
    samples_apart: ClassVar[bool] = True
    needs_weights: ClassVar[bool] = False
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"forget", "retain"})
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification", "binary"})
    cost: ClassVar[str] = "steps passes over the retain set"
    search_space: ClassVar[SearchSpace] = {"steps": Range(1, 100)}

    eps: PositiveFloat = 1.0
    delta: OpenFraction = 1e-5
    steps: PositiveInt = 20
    noise: Literal["exact", "published"] = "exact"

    def try_on(self, model: nn.Module, batch: Batch, criterion: Criterion) -> None:
        """It must be strongly convex with bounded gradients."""
        _convex(model)

    def sd(self, model: LogisticModel, n_left: int, n_gone: int) -> float:
        """The noise for a request of ``n_gone`` samples."""
        bounds = {
            "n_samples": n_left,
            "convexity": model.l2,
            "smoothness": model.smoothness,
            "lipschitz": n_gone * model.lipschitz,
            "steps": self.steps,
        }
        distance = descent_distance(**bounds) + 2 * _AT_OPTIMUM / (model.l2 * n_left)  # type: ignore[arg-type]
        exact = noise_for(distance, self.eps, self.delta)
        if self.noise == "exact":
            return exact
        # The paper's formula takes fitting for exact, so that its noise vanishes after many steps.
        return max(exact, descent_noise(self.eps, self.delta, **bounds))  # type: ignore[arg-type]

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Descend, add noise."""
        logistic = _convex(model)
        n_gone, left = context.n_samples("forget"), samples_of(context.x, context.y, context.ids("retain"))
        if not n_gone:
            return model
        if not len(left.y):
            raise RequirementNotMet("DescentToDelete descends on the retain set, which is empty")
        if float(logistic.residual) > _AT_OPTIMUM:
            raise RequirementNotMet(
                f"DescentToDelete starts at an optimum, and the gradient there is {float(logistic.residual):.3g}: the weights were "
                "changed since they were fitted; forget both requests in one, or refit"
            )
        with torch.no_grad():
            gone = samples_of(context.x, context.y, context.ids("forget"))
            if not context.is_part:
                logistic.require_fitted_to(gone, left, "DescentToDelete")
            objective, rate = logistic.objective(left), 2 / (logistic.smoothness + logistic.l2)
            for _ in range(self.steps):
                logistic.weight.sub_(rate * objective.gradient(logistic.weight) / len(left.y))
            add_noise([logistic.weight], self.sd(logistic, len(left.y), n_gone), context.generator("noise"))
            logistic.residual.fill_(float(torch.linalg.vector_norm(objective.gradient(logistic.weight))))
        assumptions = (
            f"Rows are at most {logistic.largest_row:.3g} long, which the model sees to.",
            "Neither the original weights nor the seeds of the noise are released.",
            _NOT_COVERED,
        )
        context.promise(Guarantee(kind="certified", eps=self.eps, delta=self.delta, assumptions=assumptions))
        return model


@dataclass(frozen=True, kw_only=True)
class LangevinUnlearning(Unlearner):
    """More of the noisy descent that trained the model, on the retain set.

    The original is close to its stationary distribution; noisy steps on what is left bring it to that of the retain set, at a rate that
    Rényi divergences tell. The eps is computed for the given steps and delta, over all requests so far, which the model's state counts.
    A tenth of delta is for what training has left of its start; where it has left more, nothing is promised.

    **Cost**: ``steps`` passes over the retain set.

    Args:
        steps: Noisy steps.
        delta: Of the guarantee; by default one over the number of samples before.
    """

    source: ClassVar[Source | None] = Source(
        paper="Chien, Wang, Chen, Li, NeurIPS 2024, arXiv:2401.10371",
        code="Graph-COM/Langevin_unlearning at 5f8e712",
        tested="the steps by plain formulas (tests/unit/unlearners/test_certified.py)",
        deviations=(
            "The conversion of Rényi divergences is the tight one; the code's is up to 40 % above it.",
            "Samples are removed, not replaced by random ones.",
            "All samples take part in each step; the code's mini-batch is drawn once and kept.",
        ),
    )
    version: ClassVar[int] = 2
    samples_apart: ClassVar[bool] = True
    needs_weights: ClassVar[bool] = False
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"forget", "retain"})
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification", "binary"})
    at_training: ClassVar[bool] = True
    cost: ClassVar[str] = "steps passes over the retain set"
    search_space: ClassVar[SearchSpace] = {"steps": Range(1, 1000, log=True)}

    steps: PositiveInt = 10
    delta: OpenFraction | None = None

    def try_on(self, model: nn.Module, batch: Batch, criterion: Criterion) -> None:
        """It must have been trained by noisy descent."""
        _noisy(model)

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Go on with noise."""
        noisy = _noisy(model)
        n_gone, left = context.n_samples("forget"), samples_of(context.x, context.y, context.ids("retain"))
        if not n_gone:
            return model
        if not len(left.y):
            raise RequirementNotMet("LangevinUnlearning takes its steps on the retain set, which is empty")
        with torch.no_grad():
            noisy.descend(left, self.steps, context.generator("langevin"))
            noisy.past_steps = torch.cat([noisy.past_steps, noisy.past_steps.new_tensor([self.steps])])
            noisy.past_removed = torch.cat([noisy.past_removed, noisy.past_removed.new_tensor([n_gone])])
        event = LangevinRequests(
            steps=tuple(noisy.past_steps.tolist()),
            n_removed=int(noisy.past_removed.max()),
            n_samples=len(left.y) + n_gone,
            lipschitz=noisy.lipschitz,
            convexity=noisy.l2,
            rate=noisy.rate,
            sd=noisy.sd,
        )
        delta = self.delta or 1 / event.n_samples
        eps, start = event.epsilon((1 - _OF_THE_START) * delta), _trace_of_start(noisy)
        if start * (1 + math.exp(min(eps, 700.0))) > _OF_THE_START * delta:
            reason = (
                f"{noisy.burn_in:,} steps of training may not have reached the stationary distribution: within the radius {noisy.radius:g} "
                f"their start can be told by up to {start:.2g}, too much at an eps of {eps:.3g}. Raise burn_in of "
                "NoisyLogisticRegression, or lower its radius."
            )
            context.promise(Guarantee(assumptions=(reason,)))
            return model
        assumptions = (
            f"Rows are at most {noisy.largest_row:.3g} long, which the model sees to.",
            "Only the last iterate is released at each request, without the seeds of the noise, of which the model's state holds one.",
            _NOT_COVERED,
        )
        if math.isfinite(eps):
            context.promise(Guarantee(kind="certified", eps=eps, delta=delta, assumptions=assumptions))
        return model


def _convex(model: nn.Module) -> LogisticModel:
    if not isinstance(model, LogisticModel) or isinstance(model, NoisyLogisticModel):
        raise RequirementNotMet(
            f"DescentToDelete is for strongly convex losses of bounded gradients, the model LogisticRegression, and this is "
            f"{type(model).__name__.strip('_')}; CertifiedUnlearning makes no such assumption"
        )
    if model.perturbation:
        raise RequirementNotMet("DescentToDelete adds its noise to the weights; set perturbation of LogisticRegression to 0")
    return model


def _trace_of_start(model: NoisyLogisticModel) -> float:
    """How well, at most, the trained weights can be told from the stationary distribution: a delta at an eps of 0.

    Both lie in one ball, each step contracts by its rate times the convexity, and its noise hides the rest.
    """
    spread = math.sqrt(2 * model.rate) * model.sd
    steps = ClippedSteps(
        radius=model.radius / 2, clip=0.0, rate=model.rate, weight_decay=model.l2, steps=model.burn_in, sd=spread
    )
    return steps.delta(0.0)


def _noisy(model: nn.Module) -> NoisyLogisticModel:
    if not isinstance(model, NoisyLogisticModel):
        raise RequirementNotMet(
            "LangevinUnlearning goes on with noisy descent, by which the model NoisyLogisticRegression is trained, and this is "
            f"{type(model).__name__.strip('_')}"
        )
    return model
