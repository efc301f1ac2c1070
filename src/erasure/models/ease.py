"""EASE: a linear item-to-item recommender in closed form, from which users can be deleted exactly."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.training.batches import Batch
from erasure.training.estimators import Estimator, rows_of
from erasure.training.predictor import Model, ModelInput
from erasure.types import PositiveFloat, Source

__all__ = ["EASE"]


@dataclass(frozen=True, kw_only=True)
class EASE(Model):
    r"""Scores items for a user by the items that the user has, by weights in closed form.

    .. math:: B = I - P\, \mathrm{diag}(1 / P_{ii}), \qquad P = (X^\top X + \lambda I)^{-1}.

    A sample is a user: its input the interactions with each item, its labels as many. Deleting users subtracts their rows from the Gram
    matrix and solves again: for whole numbers the bits of fitting without them, else the same up to rounding.

    Args:
        l2: Lambda.
    """

    source: ClassVar[Source | None] = Source(paper="Steck, WWW 2019, arXiv:1905.03375")

    l2: PositiveFloat = 100.0

    def build(self, data: ModelInput) -> nn.Module:
        """The model before it is fitted."""
        n_items = math.prod(data.x_shape)
        if data.task != "multilabel" or data.n_classes != n_items:
            raise RequirementNotMet(
                f"EASE scores as many items as a user's input has: the task is multilabel with {n_items} labels, found {data.task} with "
                f"{data.n_classes}"
            )
        return _Ease(n_items, self.l2)


class _Ease(Estimator):
    exactness: ClassVar[Literal["bits", "rounding", "none"]] = "rounding"

    gram: Tensor
    weight: Tensor

    def __init__(self, n_items: int, l2: float) -> None:
        super().__init__()
        self.l2 = l2
        self.register_buffer("gram", torch.zeros(n_items, n_items, dtype=torch.float64))
        self.register_buffer("weight", torch.zeros(n_items, n_items, dtype=torch.float64))

    def fit(self, samples: Batch, seed: int) -> None:
        """Sum and solve."""
        del seed
        rows = rows_of(samples.x)
        self.gram.copy_(rows.T @ rows)
        self._solve()

    def delete(self, gone: Batch, left: Callable[[], Batch]) -> None:
        """Subtract and solve."""
        del left
        rows = rows_of(gone.x)
        self.gram.sub_(rows.T @ rows)
        self._solve()

    def statistics(self) -> list[Tensor]:
        """The Gram matrix."""
        return [self.gram]

    def _solve(self) -> None:
        eye = torch.eye(len(self.gram), dtype=torch.float64, device=self.gram.device)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(self.gram + self.l2 * eye))
        self.weight.copy_(eye - inverse / inverse.diagonal())

    def forward(self, x: Tensor) -> Tensor:
        """A score for each item."""
        return (rows_of(x) @ self.weight).to(torch.float32)
