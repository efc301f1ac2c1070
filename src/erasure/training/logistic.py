"""The regularised logistic loss of several heads at once, in float64, and the models at its optimum or near it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from erasure.errors import Diverged, RequirementNotMet
from erasure.training.batches import Batch
from erasure.training.estimators import Estimator, require_finite, rows_of
from erasure.training.randomness import Streams

__all__ = ["LogisticModel", "LogisticObjective", "NoisyLogisticModel", "with_constant"]

_TOLERANCE = 1e-10
_MAX_STEPS = 100
_UNSEEN = 1e-6
"""Norm of a gradient that may be due to rounding."""


@dataclass(frozen=True, eq=False)
class LogisticObjective:
    r"""Sum of logistic losses with a quadratic and a linear term, for each of H heads by itself.

    Args:
        rows: Inputs, ``(n, d)``, float64.
        targets: Labels of each head, plus or minus one, ``(H, n)``.
        noise: Linear term, ``(H, d)``.
        l2: Strong convexity of the mean loss; the quadratic term of the sum is ``l2 * n / 2``.
    """

    rows: Tensor
    targets: Tensor
    noise: Tensor
    l2: float

    @property
    def strength(self) -> float:
        """Strong convexity of the sum."""
        return self.l2 * len(self.rows)

    def value(self, weight: Tensor) -> Tensor:
        """Of each head, ``(H,)``."""
        losses = softplus(-self.targets * (weight @ self.rows.T)).sum(1)
        return losses + (self.strength / 2 * weight + self.noise).mul(weight).sum(1)

    def gradient(self, weight: Tensor) -> Tensor:
        """Of each head, ``(H, d)``."""
        slopes = -self.targets * torch.sigmoid(-self.targets * (weight @ self.rows.T))
        return slopes @ self.rows + self.strength * weight + self.noise

    def newton(self, weight: Tensor, right: Tensor) -> Tensor:
        """The Hessian's inverse at ``weight`` applied to ``right``, ``(H, d)``."""
        shares = torch.sigmoid(weight @ self.rows.T)
        eye = self.strength * torch.eye(self.rows.shape[1], dtype=self.rows.dtype, device=self.rows.device)
        hessians = torch.stack([self.rows.T @ (s[:, None] * self.rows) + eye for s in shares * (1 - shares)])
        return torch.cholesky_solve(right.unsqueeze(-1), torch.linalg.cholesky(hessians)).squeeze(-1)

    def minimised(self, start: Tensor) -> tuple[Tensor, Tensor]:
        """The optimum from ``start`` by damped Newton steps, and the norm of the gradient of all heads there.

        Raises:
            Diverged: If it is not reached.
        """
        weight = start.clone()
        scale = max(1.0, float(len(self.rows)) ** 0.5)
        for _ in range(_MAX_STEPS):
            gradient = self.gradient(weight)
            size = torch.linalg.vector_norm(gradient)
            if float(size) <= _TOLERANCE:
                return weight, size
            step = self.newton(weight, gradient)
            before, decrease = self.value(weight), (gradient * step).sum(1)
            length = torch.ones_like(before)
            for _ in range(40):
                after = self.value(weight - length[:, None] * step)
                # Near the optimum the values are equal up to rounding, and the whole step is right.
                is_short = after <= before - 1e-4 * length * decrease + 1e-12 * before.abs()
                if bool(is_short.all()):
                    break
                length = torch.where(is_short, length, length / 2)
            moved = weight - length[:, None] * step
            if torch.equal(moved, weight):
                break
            weight = moved
        size = torch.linalg.vector_norm(self.gradient(weight))
        if float(size) <= 1e-12 * scale + 100 * _TOLERANCE:
            return weight, size
        raise Diverged(f"the optimum was not reached: the gradient's norm is {float(size):.3g}; raise l2")


class LogisticModel(Estimator):
    """Heads against the others, with what certificates need to know of them.

    Args:
        n_inputs: Width of a row.
        n_classes: Classes; two have one head.
        task: How labels are read.
        l2: As in :class:`LogisticRegression`.
        perturbation: As there.
        row_norm: As there.
    """

    exactness: ClassVar[Literal["bits", "rounding", "none"]] = "rounding"

    weight: Tensor
    noise: Tensor
    residual: Tensor
    seed: Tensor
    n_fits: Tensor

    def __init__(self, n_inputs: int, n_classes: int, task: str, *, l2: float, perturbation: float, row_norm: float) -> None:
        super().__init__()
        self.n_classes: int = n_classes
        self.is_binary: bool = task == "binary"
        self.l2: float = l2
        self.perturbation: float = perturbation
        self.row_norm: float = row_norm
        n_heads, wide = 1 if n_classes == 2 else n_classes, torch.float64
        self.register_buffer("weight", torch.zeros(n_heads, n_inputs + 1, dtype=wide))
        self.register_buffer("noise", torch.zeros(n_heads, n_inputs + 1, dtype=wide))
        self.register_buffer("residual", torch.zeros((), dtype=wide))
        self.register_buffer("seed", torch.zeros((), dtype=torch.int64))
        self.register_buffer("n_fits", torch.zeros((), dtype=torch.int64))

    def objective(self, samples: Batch) -> LogisticObjective:
        """What the weights are the optimum of, on some samples."""
        rows = self.rows(samples.x)
        require_finite(rows, "logistic regression")
        return LogisticObjective(rows, self.targets(samples.y), self.noise, self.l2)

    def fit(self, samples: Batch, seed: int) -> None:
        """Draw the objective's noise, go to the optimum."""
        self.seed.fill_(seed)
        self.n_fits.zero_()
        self.weight.zero_()
        self.refit(samples, fresh_noise=True)

    def refit(self, samples: Batch, *, fresh_noise: bool) -> None:
        """Go to the optimum of some samples from the weights as they are, with the noise as it is or redrawn."""
        if fresh_noise:
            self.n_fits += 1
            generator = Streams(int(self.seed)).torch("perturbation", int(self.n_fits))
            drawn = torch.randn(self.noise.shape, generator=generator, dtype=torch.float64)
            self.noise.copy_(self.perturbation * drawn)
        if not len(samples.y):
            self.weight.zero_()
            self.residual.zero_()
            return
        weight, gradient = self.objective(samples).minimised(self.weight)
        self.weight.copy_(weight)
        self.residual.fill_(float(gradient))

    def delete(self, gone: Batch, left: Callable[[], Batch]) -> None:
        """Go on to the optimum without the samples."""
        del gone
        self.refit(left(), fresh_noise=False)

    def require_fitted_to(self, gone: Batch, left: Batch, method: str) -> None:
        """Refuse samples that the weights were not fitted to: a promise is about these.

        Args:
            gone: Samples to forget.
            left: The others.
            method: Who asks, for the error.

        Raises:
            RequirementNotMet: If the gradient of all of them is larger than what fitting left.
        """
        known = self.objective(gone).gradient(self.weight) + self.objective(left).gradient(self.weight) - self.noise
        size = float(torch.linalg.vector_norm(known))
        if not size <= float(self.residual) + _UNSEEN:
            raise RequirementNotMet(
                f"{method} starts at the optimum for the samples to forget and to keep together, and there is a gradient of {size:.3g}: "
                "the model was fitted to other samples, or its weights were changed since; refit it"
            )

    def rows(self, x: Tensor) -> Tensor:
        """Rows in the ball, with a constant behind."""
        rows = rows_of(x)
        lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        return with_constant(rows * (self.row_norm / lengths.clamp(min=self.row_norm)))

    def targets(self, y: Tensor) -> Tensor:
        """Labels of each head, plus or minus one, shape ``(H, n)``."""
        classes = [1] if self.n_classes == 2 else range(self.n_classes)
        return torch.stack([torch.where(y == c, 1.0, -1.0).to(torch.float64) for c in classes])

    @property
    def largest_row(self) -> float:
        """Length of a row with its constant at most."""
        return math.hypot(self.row_norm, 1.0)

    @property
    def smoothness(self) -> float:
        """Largest curvature of the mean loss."""
        return self.largest_row**2 / 4 + self.l2

    @property
    def lipschitz(self) -> float:
        """Norm of the gradient of one sample's loss in all heads together at most."""
        return math.sqrt(len(self.weight)) * self.largest_row

    def forward(self, x: Tensor) -> Tensor:
        """Margins of the heads as logits; of two classes the first has 0."""
        margins = (self.rows(x) @ self.weight.T).to(torch.float32)
        if self.n_classes != 2 or self.is_binary:
            return margins
        return torch.cat([torch.zeros_like(margins), margins], 1)


class NoisyLogisticModel(LogisticModel):
    r"""The same loss, learned by projected noisy descent: the last iterate is released, and noisy steps go on after a request.

    .. math:: w \leftarrow \Pi_R\bigl[w - \eta \nabla F(w) + \sqrt{2 \eta}\, s\, \mathcal{N}(0, I)\bigr]

    with the mean loss F and the rate 1 / (its smoothness). Rows in a ball bound every gradient, so that none has to be clipped.

    Args:
        n_inputs: As in :class:`LogisticModel`.
        n_classes: As there.
        task: As there.
        l2: As there.
        row_norm: As there.
        sd: s.
        radius: R, norm of the weights of all heads at most.
        burn_in: Steps of the training.
    """

    exactness: ClassVar[Literal["bits", "rounding", "none"]] = "none"

    past_steps: Tensor
    past_removed: Tensor

    def __init__(
        self, n_inputs: int, n_classes: int, task: str, *, l2: float, row_norm: float, sd: float, radius: float, burn_in: int
    ) -> None:
        super().__init__(n_inputs, n_classes, task, l2=l2, perturbation=0.0, row_norm=row_norm)
        self.sd: float = sd
        self.radius: float = radius
        self.burn_in: int = burn_in
        self.register_buffer("past_steps", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("past_removed", torch.zeros(0, dtype=torch.int64))

    @property
    def rate(self) -> float:
        """Of every step."""
        return 1 / self.smoothness

    def fit(self, samples: Batch, seed: int) -> None:
        """Descend from 0 with noise."""
        self.seed.fill_(seed)
        self.weight.zero_()
        self.past_steps, self.past_removed = self.past_steps[:0], self.past_removed[:0]
        self.descend(samples, self.burn_in, Streams(seed).torch("langevin"))

    def delete(self, gone: Batch, left: Callable[[], Batch]) -> None:
        """Not exact: noisy steps certify it."""
        del gone, left
        raise RequirementNotMet("a model of noisy descent is not deleted from exactly; use LangevinUnlearning")

    def descend(self, samples: Batch, steps: int, generator: torch.Generator) -> None:
        """Noisy steps on some samples, each with noise of its own."""
        objective, weight = self.objective(samples), self.weight.clone()
        n = max(1, len(samples.y))
        for _ in range(steps):
            noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64).to(weight.device)
            weight = weight - self.rate * objective.gradient(weight) / n + math.sqrt(2 * self.rate) * self.sd * noise
            # Into the ball, never out to its surface.
            weight = weight * (self.radius / torch.linalg.vector_norm(weight).clamp(min=self.radius))
        self.weight.copy_(weight)


def with_constant(rows: Tensor) -> Tensor:
    """Rows with a constant 1 behind."""
    return torch.cat([rows, torch.ones(len(rows), 1, dtype=rows.dtype, device=rows.device)], 1)
