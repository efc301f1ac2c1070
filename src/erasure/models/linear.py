"""Linear models with a unique optimum: ridge classification and logistic regression, exact after deletion."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from erasure.errors import Diverged, RequirementNotMet
from erasure.training.batches import Batch
from erasure.training.estimators import Estimator, require_finite, rows_of
from erasure.training.logistic import LogisticModel, NoisyLogisticModel, with_constant
from erasure.training.predictor import Model, ModelInput
from erasure.types import NonNegativeFloat, PositiveFloat, PositiveInt, Source

__all__ = ["LogisticRegression", "NoisyLogisticRegression", "Ridge"]

_LEVERAGE = 1e-8


@dataclass(frozen=True, kw_only=True)
class Ridge(Model):
    """Ridge regression on indicators of classes or labels, with an intercept that is not shrunk; the largest output is the class.

    Gram matrix and moments are kept; deleting subtracts from them and solves again, which equals fitting without the samples up to
    rounding (1e-10 relative).

    Args:
        l2: Shrinks the weights; added to the diagonal of the sum over samples.
    """

    source: ClassVar[Source | None] = Source(paper="Hoerl, Kennard, Technometrics 1970; deletion: Cao, Yang, S&P 2015")

    l2: PositiveFloat = 1.0

    def build(self, data: ModelInput) -> nn.Module:
        """The model before it is fitted."""
        return _Ridge(math.prod(data.x_shape), data.n_classes, data.task, self.l2)


class _Ridge(Estimator):
    exactness = "rounding"

    gram: Tensor
    moments: Tensor
    weight: Tensor

    def __init__(self, n_inputs: int, n_classes: int, task: str, l2: float) -> None:
        super().__init__()
        self.n_classes, self.l2 = n_classes, l2
        self.is_binary, self.is_multilabel = task == "binary", task == "multilabel"
        wide = torch.float64
        self.register_buffer("gram", torch.zeros(n_inputs + 1, n_inputs + 1, dtype=wide))
        self.register_buffer("moments", torch.zeros(n_inputs + 1, n_classes, dtype=wide))
        self.register_buffer("weight", torch.zeros(n_inputs + 1, n_classes, dtype=wide))

    def fit(self, samples: Batch, seed: int) -> None:
        """Sum and solve."""
        del seed
        self.gram.zero_()
        self.moments.zero_()
        self._add(samples, 1.0)
        self._solve()

    def delete(self, gone: Batch, left: Callable[[], Batch]) -> None:
        """Subtract and solve."""
        del left
        self._add(gone, -1.0)
        self._solve()

    def n_fitted(self) -> int:
        """By the constant's place in the Gram matrix."""
        return round(float(self.gram[-1, -1]))

    def exchange(self, gone: Batch, come: Batch) -> None:
        """Subtract, add and solve."""
        self._add(gone, -1.0)
        self._add(come, 1.0)
        self._solve()

    def _add(self, samples: Batch, sign: float) -> None:
        rows = with_constant(rows_of(samples.x))
        require_finite(rows, "Ridge")
        self.gram.add_(rows.T @ rows, alpha=sign)
        labels = samples.y if samples.y.ndim == 2 else one_hot(samples.y.long(), self.n_classes)
        self.moments.add_(rows.T @ labels.to(rows), alpha=sign)

    def _solve(self) -> None:
        if float(self.gram[-1, -1]) < 0.5:  # nobody is left
            self.gram.zero_()
            self.moments.zero_()
            self.weight.zero_()
            return
        shrunk = self.gram.clone()
        shrunk.diagonal()[:-1] += self.l2
        factor, failed = torch.linalg.cholesky_ex(shrunk)
        if int(failed):
            raise Diverged("the Gram matrix is no longer positive definite after these deletions; raise l2, or fit again")
        self.weight.copy_(torch.cholesky_solve(self.moments, factor))

    def statistics(self) -> list[Tensor]:
        """Gram matrix and moments."""
        return [self.gram, self.moments]

    def forward(self, x: Tensor) -> Tensor:
        """Predicted indicators as logits; of single labels half an indicator is 0."""
        logits = (with_constant(rows_of(x)) @ self.weight).to(torch.float32)
        if self.is_binary:
            return logits[:, 1:] - logits[:, :1]
        return logits - 0.5 if self.is_multilabel else logits


@dataclass(frozen=True, kw_only=True)
class LogisticRegression(Model):
    r"""Logistic regression to the exact optimum, one class against the others; the start of Newton removal and Descent-to-Delete.

    Each head minimises, in float64 by Newton's method to a gradient below 1e-10,

    .. math:: \sum_i \log(1 + e^{-y_i w^\top x_i}) + \tfrac{\lambda n}{2} \|w\|^2 + b^\top w, \qquad b \sim \mathcal{N}(0, s^2 I)

    where rows are scaled into a ball of radius ``row_norm`` and have a constant 1 behind. Two classes have one head. Deleting
    goes on from the weights to the optimum without the samples, which is unique: the model of fitting without them up to rounding.

    Args:
        l2: Lambda, strong convexity of the mean loss.
        perturbation: s, standard deviation of the noise in the objective; 0 for none. :class:`NewtonRemoval` needs it.
        row_norm: Rows longer than this are scaled down to it, the constant apart; no longer row is seen by any certificate.
    """

    source: ClassVar[Source | None] = Source(
        paper="Guo, Goldstein, Hannun, van der Maaten, ICML 2020, arXiv:1911.03030",
        code="facebookresearch/certified-removal",
        tested="the optimum by scipy's BFGS on the plain formula (tests/unit/unlearners/test_certified.py)",
        deviations=(
            "The optimum is found by Newton's method to a gradient of 1e-10; the code's L-BFGS closure takes stale gradients.",
        ),
    )

    l2: PositiveFloat = 1e-3
    perturbation: NonNegativeFloat = 0.0
    row_norm: PositiveFloat = 1.0

    def build(self, data: ModelInput) -> nn.Module:
        """The model before it is fitted."""
        if data.task == "multilabel":
            raise RequirementNotMet("LogisticRegression takes one class a sample, and the task is multilabel")
        return LogisticModel(
            math.prod(data.x_shape), data.n_classes, data.task, l2=self.l2, perturbation=self.perturbation, row_norm=self.row_norm
        )


@dataclass(frozen=True, kw_only=True)
class NoisyLogisticRegression(Model):
    """Logistic regression by projected noisy descent, which Langevin unlearning goes on with.

    Args:
        l2: Strong convexity of the mean loss.
        row_norm: Rows longer than this are scaled down to it.
        sd: Scale of the noise; a step of rate r adds ``sqrt(2 r) * sd``.
        radius: Norm of the weights at most.
        burn_in: Steps of the training. Nothing is certified where they are too few to forget the start.
    """

    source: ClassVar[Source | None] = Source(
        paper="Chien, Wang, Chen, Li, NeurIPS 2024, arXiv:2401.10371",
        code="Graph-COM/Langevin_unlearning at 5f8e712",
        tested="the steps by plain formulas (tests/unit/unlearners/test_certified.py)",
        deviations=(
            "Weights are projected into the ball, as the theory needs; the code does not project.",
            "Gradients are bounded by the rows' norm and not clipped; the code clips each with its share of the regulariser.",
            "Training starts at 0, not at a normal draw around 1000, and takes exactly as many steps as it says.",
        ),
    )

    l2: PositiveFloat = 0.01
    row_norm: PositiveFloat = 1.0
    sd: PositiveFloat = 0.03
    radius: PositiveFloat = 100.0
    burn_in: PositiveInt = 1000

    def build(self, data: ModelInput) -> nn.Module:
        """The model before it is fitted."""
        if data.task == "multilabel":
            raise RequirementNotMet("NoisyLogisticRegression takes one class a sample, and the task is multilabel")
        return NoisyLogisticModel(
            math.prod(data.x_shape),
            data.n_classes,
            data.task,
            l2=self.l2,
            row_norm=self.row_norm,
            sd=self.sd,
            radius=self.radius,
            burn_in=self.burn_in,
        )
