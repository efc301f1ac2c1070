"""Rewind-to-Delete: the last epochs of the training are taken back and made again without the forget set."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from erasure.accounting.gaussian import noise_for
from erasure.accounting.guarantee import Guarantee
from erasure.accounting.sensitivity import rewind_distance
from erasure.errors import Diagnostic, InvalidParameters, RequirementNotMet
from erasure.training.noisy import add_noise, buffers_of_training, require_single_precision
from erasure.training.trajectory import BatchGradient, DescentStep, descent_of
from erasure.types import NonNegativeInt, OpenFraction, PartitionRole, PositiveFloat, Source
from erasure.unlearners.contract import Unlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["RewindToDelete"]

_ROUNDING = 1e-3
"""Part of a gradient that rounding may change."""


@dataclass(frozen=True, kw_only=True)
class RewindToDelete(Unlearner):
    r"""Goes back to the checkpoint of some epochs ago, optimizer and all, and trains on from there on the retain set.

    Any recipe can be rewound. With ``eps`` the weights get Gaussian noise for how far they can be from retraining's,

    .. math:: \Delta = \frac{2 m G}{n L} \bigl((1 + \eta L)^{T - K} - 1\bigr) (1 + \eta L)^K,

    which holds for full-batch gradient descent of a constant rate on a loss that is ``smoothness``-smooth with gradients of at most
    ``lipschitz``. Steps that are none, whose gradients are larger, or between which they change faster, are refused. Going back to the
    start is retraining.

    **Cost**: ``epochs`` epochs on the retain set. One checkpoint is kept, the optimizer's state included.

    Args:
        epochs: K, epochs that are taken back.
        eps: Of the guarantee; None for no noise and no guarantee.
        delta: Of the guarantee.
        smoothness: L, of every sample's loss; only that the mean loss keeps to it along the way is checked.
        lipschitz: G, norm of every sample's gradient along the way at most; checked of the means of all and of the forgotten samples.
    """

    source: ClassVar[Source | None] = Source(
        paper="Mu, Klabjan, NeurIPS 2025, arXiv:2409.09778",
        tested="the recipe taken up and the noise by plain formulas (tests/unit/unlearners/test_training_time.py)",
        deviations=(
            "The distance is our own derivation for full-batch descent, and the noise that of the exact Gaussian mechanism.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"train", "retain"})
    at_training: ClassVar[bool] = True
    cost: ClassVar[str] = "epochs epochs on the retain set; the original's training as precomputation"
    search_space: ClassVar[SearchSpace] = {"epochs": Range(1, 20)}

    epochs: NonNegativeInt = 5
    eps: PositiveFloat | None = None
    delta: OpenFraction = 1e-5
    smoothness: PositiveFloat | None = None
    lipschitz: PositiveFloat | None = None

    def check(self) -> None:
        """A guarantee needs to know the loss."""
        if self.eps is not None and (self.smoothness is None or self.lipschitz is None):
            raise InvalidParameters([Diagnostic("eps needs smoothness and lipschitz of the loss", path="RewindToDelete.eps")])

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Rewind, train on, add noise if a guarantee is asked for."""
        if self.eps is None:
            return context.resumed(model, "retain", self.epochs)
        require_single_precision(model, "RewindToDelete")
        buffers = buffers_of_training(model, context.fresh_model("untrained"))
        if buffers:
            raise RequirementNotMet(
                f"RewindToDelete adds noise to weights alone, and the buffer {buffers[0]} is not as it was before training, which computed "
                "it from forgotten samples too; use a network without such statistics, or leave eps out"
            )
        gradient = BatchGradient(model.eval(), context.x, context.y, context.criterion)
        steps = descent_of(model, gradient, context.replay_training, self.registered_name())
        self._require_full_descent(steps)
        self._require_bounds(steps, gradient, context.ids("train")[~torch.isin(context.ids("train"), context.ids("retain"))])
        unlearned = context.resumed(model, "retain", self.epochs)
        n, n_left = len(steps[0].ids), context.n_samples("retain")
        assert self.smoothness is not None  # noqa: S101 - check() has seen to it
        assert self.lipschitz is not None  # noqa: S101 - as above
        distance = rewind_distance(
            n_samples=n,
            n_removed=n - n_left,
            smoothness=self.smoothness,
            lipschitz=self.lipschitz,
            rate=steps[0].rate,
            steps=len(steps),
            rewound=min(self.epochs, len(steps)),
        )
        with torch.no_grad():
            add_noise(unlearned.parameters(), noise_for(distance, self.eps, self.delta), context.generator("noise"))
        assumptions = (
            f"Every sample's loss is {self.smoothness:g}-smooth, with gradients of at most {self.lipschitz:g}, along both trainings.",
            "The reference is retraining with the same noise; neither the original nor the seeds of the noise are released.",
            "Statistics by which inputs were scaled are not covered.",
        )
        context.promise(Guarantee(kind="certified", eps=self.eps, delta=self.delta, assumptions=assumptions))
        return unlearned

    def _require_full_descent(self, steps: list[DescentStep]) -> None:
        first = steps[0]
        is_full = all(
            len(step.ids) == len(first.ids) and torch.equal(step.ids.sort().values, first.ids.sort().values) for step in steps
        )
        if not is_full or any(step.rate != first.rate or step.decay for step in steps):
            raise RequirementNotMet(
                "RewindToDelete promises eps for full-batch descent of a constant rate without weight decay only; train with batch_size of "
                "the whole training set and schedule null, or leave eps out"
            )

    def _require_bounds(self, steps: list[DescentStep], gradient: BatchGradient, gone: Tensor) -> None:
        """What can be seen of the bounds must hold: gradients of all and of the forgotten samples, and how fast the former change."""
        assert self.smoothness is not None  # noqa: S101 - check() has seen to it
        assert self.lipschitz is not None  # noqa: S101 - as above
        largest = max(float(torch.maximum(step.gradient.norm(), gradient(step.weights, gone).norm())) for step in steps)
        if largest > self.lipschitz:
            raise RequirementNotMet(
                f"a mean gradient had norm {largest:.3g} in training, and lipschitz is {self.lipschitz:g}: the guarantee would not hold"
            )
        for one, other in itertools.pairwise(steps):
            moved, turned = float((other.weights - one.weights).norm()), float((other.gradient - one.gradient).norm())
            if turned > (1 + _ROUNDING) * self.smoothness * moved + _ROUNDING * float(one.gradient.norm()):
                raise RequirementNotMet(
                    f"the mean gradient changed {turned / moved:.3g} times as much as the weights in a step of the training, and "
                    f"smoothness is {self.smoothness:g}: the guarantee would not hold"
                )
