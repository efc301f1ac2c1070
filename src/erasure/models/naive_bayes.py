"""Naive Bayes by sums of whole numbers: deleting subtracts, and the bits are those of fitting without the samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.training.batches import Batch
from erasure.training.estimators import FIXED_POINT, Estimator, fixed_point, rows_of
from erasure.training.predictor import Model, ModelInput
from erasure.types import PositiveFloat, Source

__all__ = ["NaiveBayes"]

_ABSENT = -1e6
"""Logit of a class of which no sample is left."""
_UNIT = 2.0**-FIXED_POINT


@dataclass(frozen=True, kw_only=True)
class NaiveBayes(Model):
    """Classes by independent features: Gaussian ones, or counts (multinomial).

    Inputs are rounded to a millionth (``2 ** -20``) and summed as whole numbers, so that sums do not depend on their order. The variance
    that smooths all others is computed from what is left; a class of which nobody is left is never predicted.

    Args:
        distribution: Of each feature in a class; ``multinomial`` takes numbers of at least 0.
        smoothing: Share of the largest variance that is added to each (``gaussian``), or the count that is (``multinomial``).
    """

    source: ClassVar[Source | None] = Source(paper="Cao, Yang, S&P 2015 (summation form)")

    distribution: Literal["gaussian", "multinomial"] = "gaussian"
    smoothing: PositiveFloat = 1e-3

    def build(self, data: ModelInput) -> nn.Module:
        """The model before it is fitted."""
        if data.task == "multilabel":
            raise RequirementNotMet("NaiveBayes takes one class a sample, and the task is multilabel")
        is_binary = data.task == "binary"
        return _NaiveBayes(math.prod(data.x_shape), data.n_classes, is_binary, self.distribution, self.smoothing)


class _NaiveBayes(Estimator):
    exactness: ClassVar[Literal["bits", "rounding", "none"]] = "bits"

    counts: Tensor
    sums: Tensor
    squares: Tensor

    def __init__(self, n_inputs: int, n_classes: int, is_binary: bool, distribution: str, smoothing: float) -> None:
        super().__init__()
        self.is_binary, self.distribution, self.smoothing = is_binary, distribution, smoothing
        whole = torch.int64
        self.register_buffer("counts", torch.zeros(n_classes, dtype=whole))
        self.register_buffer("sums", torch.zeros(n_classes, n_inputs, dtype=whole))
        # Squares of 40 bits and more: the products of their upper and lower halves by themselves.
        self.register_buffer("squares", torch.zeros(3, n_classes, n_inputs, dtype=whole))

    def fit(self, samples: Batch, seed: int) -> None:
        """Sum."""
        del seed
        for total in (self.counts, self.sums, self.squares):
            total.zero_()
        self._add(samples, 1)

    def delete(self, gone: Batch, left: Callable[[], Batch]) -> None:
        """Subtract."""
        del left
        self._add(gone, -1)

    def n_fitted(self) -> int:
        """By the counts."""
        return int(self.counts.sum())

    def _add(self, samples: Batch, sign: int) -> None:
        rows = rows_of(samples.x)
        if self.distribution == "multinomial" and bool((rows < 0).any()):
            raise RequirementNotMet("multinomial naive Bayes takes counts, and an input is negative; set standardize to false")
        values, y = fixed_point(rows), samples.y.long()
        upper, lower = values >> FIXED_POINT, values & (2**FIXED_POINT - 1)
        self.counts.add_(torch.bincount(y, minlength=len(self.counts)), alpha=sign)
        self.sums.index_add_(0, y, values, alpha=sign)
        for number, product in enumerate((upper * upper, upper * lower, lower * lower)):
            self.squares[number].index_add_(0, y, product, alpha=sign)

    def _gaussian(self, rows: Tensor) -> Tensor:
        n = self.counts.clamp(min=1).double()[:, None]
        squares = self.squares.double()
        second = squares[0] + 2 * _UNIT * squares[1] + _UNIT**2 * squares[2]
        mean = self.sums.double() * _UNIT / n
        variance = (second / n - mean.square()).clamp(min=0)
        everyone = self.counts.sum().clamp(min=1).double()
        whole = second.sum(0) / everyone - (self.sums.sum(0).double() * _UNIT / everyone).square()
        variance = variance + self.smoothing * whole.max().clamp(min=1e-12)
        centred = (rows[:, None] - mean).square() / variance
        return -0.5 * (centred + torch.log(2 * math.pi * variance)).sum(2)

    def _multinomial(self, rows: Tensor) -> Tensor:
        smoothed = self.sums.double() * _UNIT + self.smoothing
        return rows @ (smoothed / smoothed.sum(1, keepdim=True)).log().T

    def forward(self, x: Tensor) -> Tensor:
        """Log of prior times likelihood."""
        rows = rows_of(x)
        likelihood = self._gaussian(rows) if self.distribution == "gaussian" else self._multinomial(rows)
        logits = likelihood + self.counts.clamp(min=1).double().log()
        logits = torch.where(self.counts > 0, logits - logits.max(1, keepdim=True).values, _ABSENT).to(torch.float32)
        return logits[:, 1:] - logits[:, :1] if self.is_binary else logits
