"""NTK forgetting: the difference between two solutions of the linearised network, with and without the forget set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.training.batches import Batch
from erasure.training.calls import Criterion
from erasure.training.forward import logits_of
from erasure.training.jacobians import logit_jacobians
from erasure.training.per_sample import per_sample_gradients
from erasure.types import NonNegativeFloat, PartitionRole, PositiveFloat, PositiveInt, Source
from erasure.unlearners.contract import Unlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["NTKForgetting"]

_LARGEST_JACOBIAN_GIB = 6.0


@dataclass(frozen=True, kw_only=True)
class NTKForgetting(Unlearner):
    r"""Moves the weights as ridge regression on the linearised network would move them if the forget set went.

    .. math::
        w(S) = -G_S \bigl(G_S^\top G_S + |S|\,\mu I\bigr)^{-1} (f_o(S) - y(S)), \qquad
        \theta_u = \theta_o + s\,\bigl(w(D_r) - w(D)\bigr)

    ``G_S`` holds the gradient of every logit of every sample at the original, in eval mode; ``y`` is one-hot. The kernel has one row for
    each sample and class, so this is a method for small data. Buffers are left alone. An empty forget set leaves the model as it is.

    **Cost**: all gradients of all logits of the training set in memory; one factorisation of a matrix of (samples × classes)².

    Args:
        weight_decay: ``mu``, the ridge.
        scale: ``s``; 0 changes nothing.
        max_samples: Refuse training sets larger than this.
    """

    source: ClassVar[Source | None] = Source(
        paper="Golatkar, Achille, Soatto, ECCV 2020, arXiv:2003.02960",
        code="meghdadk/SCRUB at 98ffb11; if-loops/selective-synaptic-dampening at cdfdc0e",
        tested="the difference of two ridge regressions (tests/unit/unlearners/test_second_order.py)",
        deviations=(
            "The scale is a parameter; the reference code fits it to the distance between the original and a retrained model.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"forget", "retain"})
    cost: ClassVar[str] = "gradients of all logits of the training set in memory, one factorisation of (samples x classes)^2"
    search_space: ClassVar[SearchSpace] = {
        "weight_decay": Range(1e-3, 10.0, log=True),
        "scale": Range(0.1, 10.0, log=True),
    }

    weight_decay: PositiveFloat = 0.1
    scale: NonNegativeFloat = 1.0
    max_samples: PositiveInt = 2000

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Solve with and without the forget set, step by the difference."""
        n_forget, n_retain = context.n_samples("forget"), context.n_samples("retain")
        if not n_forget or not n_retain:
            return model
        self._check_size(model, n_forget + n_retain, context.model_input.n_outputs)
        jacobians, residuals = zip(
            self._linearised(model, context, "retain"), self._linearised(model, context, "forget"), strict=True
        )
        jacobian, residual = torch.cat(jacobians), torch.cat(residuals)
        kernel = (jacobian @ jacobian.T).double()
        n_rows = len(residuals[0])
        without = self._coefficients(kernel[:n_rows, :n_rows], residual[:n_rows], n_retain)
        coefficients = -self._coefficients(kernel, residual, n_retain + n_forget)
        coefficients[:n_rows] += without
        change = -(jacobian.T @ coefficients.to(jacobian.dtype))
        with torch.no_grad():
            start = 0
            for weight in _weights(model).values():
                weight.add_(change[start : start + weight.numel()].reshape(weight.shape), alpha=self.scale)
                start += weight.numel()
        return model

    def try_on(self, model: nn.Module, batch: Batch, criterion: Criterion) -> None:
        """Gradients of a logit of single samples."""
        per_sample_gradients(model, batch.x, batch.y, _first_logit, parameters=list(_weights(model)))

    def _check_size(self, model: nn.Module, n_samples: int, n_outputs: int) -> None:
        if n_samples > self.max_samples:
            raise RequirementNotMet(
                f"NTKForgetting is not defined for {n_samples} samples: its kernel has (samples x classes)^2 entries; the limit is "
                f"max_samples={self.max_samples}"
            )
        rows = n_samples * n_outputs
        gib = (rows * sum(w.numel() * w.element_size() for w in _weights(model).values()) + 16 * rows**2) / 2**30
        if gib > _LARGEST_JACOBIAN_GIB:
            raise RequirementNotMet(
                f"NTKForgetting would need {gib:.1f} GiB for this model and data; at most {_LARGEST_JACOBIAN_GIB:g} are used"
            )

    def _coefficients(self, kernel: Tensor, residual: Tensor, n_samples: int) -> Tensor:
        regularised = kernel.clone()
        regularised.diagonal().add_(n_samples * self.weight_decay)
        return torch.cholesky_solve(residual.double()[:, None], torch.linalg.cholesky(regularised))[:, 0]

    def _linearised(self, model: nn.Module, context: UnlearningContext, role: PartitionRole) -> tuple[Tensor, Tensor]:
        """Gradients of all logits, ``(n * K, P)``, and logits minus targets, ``(n * K,)``."""
        rows, residuals = [], []
        n_outputs = context.model_input.n_outputs
        for batch in context.batches(role, shuffle=False):
            with torch.no_grad():
                logits = logits_of(model.eval()(batch.x)).reshape(len(batch.y), n_outputs)
            rows.append(logit_jacobians(model, batch, n_outputs).flatten(0, 1))
            residuals.append((logits - self._targets(context, batch.y, logits)).flatten())
        return torch.cat(rows), torch.cat(residuals)

    @staticmethod
    def _targets(context: UnlearningContext, y: Tensor, logits: Tensor) -> Tensor:
        if context.task == "classification":
            return F.one_hot(y, logits.shape[1]).to(logits.dtype)
        return y.reshape(logits.shape).to(logits.dtype)


def _first_logit(logits: Tensor, y: Tensor) -> Tensor:
    return logits.reshape(len(logits), -1)[:, 0]


def _weights(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}
