"""DeltaGrad: gradient descent without the forget set, from the gradients that descent with it has left behind."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.functional.quasi_newton import SecantCurvature
from erasure.training.batches import Batch
from erasure.training.calls import Criterion
from erasure.training.estimators import Estimator
from erasure.training.sharded import ShardedEnsemble
from erasure.training.trajectory import BatchGradient, DescentStep, descent_of
from erasure.types import PartitionRole, PositiveInt, Source
from erasure.unlearners.contract import Unlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["DeltaGrad"]


@dataclass(frozen=True, kw_only=True)
class DeltaGrad(Unlearner):
    r"""Replays the training without the forget set; most gradients are corrected from the kept ones, not computed.

    At the first ``burn_in`` updates and every ``period``-th after them the gradient of what is left of the batch is computed. At the others
    it is, with the kept weights :math:`w_t` and gradient :math:`g_t` of a batch of :math:`b` samples, of which :math:`r` are forgotten,

    .. math:: \frac{b\,(g_t + B(w^I_t - w_t)) - r\, g_R(w^I_t)}{b - r}

    with a BFGS curvature :math:`B` from the last ``memory`` computed ones. Approximate; with ``period = 1`` it is training without the
    forget set in the same batches. The original must have been trained by plain SGD on a network without dropout and BatchNorm, which is
    checked step by step. Buffers stay.

    **Cost**: forget samples at every update, whole batches at one in ``period``. Weights and gradients of all updates are kept.

    Args:
        period: Updates from one computed gradient to the next.
        burn_in: Updates at the start whose gradients are all computed.
        memory: Pairs of the curvature.
    """

    source: ClassVar[Source | None] = Source(
        paper="Wu, Dobriban, Davidson, ICML 2020, arXiv:2006.14755",
        code="thuwuyinjun/DeltaGrad at 2568c83",
        tested="retraining in the same batches, and the update by plain formulas (tests/unit/unlearners/test_training_time.py)",
        deviations=(
            "Weight decay is that of the current weights in both terms; the code has the kept weights in one of them.",
            "A batch that is all forgotten is left out, and every later update has its own history; the code goes on with a wrong one.",
            "Pairs without positive curvature are not taken.",
        ),
    )
    samples_apart: ClassVar[bool] = True
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"train", "forget"})
    at_training: ClassVar[bool] = True
    cost: ClassVar[str] = (
        "forget samples at every update, whole batches at one in period; the original's training as precomputation"
    )
    search_space: ClassVar[SearchSpace] = {"period": Range(1, 20), "burn_in": Range(5, 50)}

    period: PositiveInt = 5
    burn_in: PositiveInt = 20
    memory: PositiveInt = 2

    def try_on(self, model: nn.Module, batch: Batch, criterion: Criterion) -> None:
        """Gradients at other weights than the network's own, which was trained as one."""
        if isinstance(model, Estimator | ShardedEnsemble):
            raise RequirementNotMet(
                "DeltaGrad follows the updates of one network, and estimators and ensembles of shards have none; use ExactDeletion or SISA"
            )
        gradient = BatchGradient(model, _Given(batch), batch.y, criterion)
        gradient(gradient.flat(model), torch.arange(len(batch.y), device=batch.y.device))

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Replay, then descend without the forget set."""
        model.eval()
        gradient = BatchGradient(model, context.x, context.y, context.criterion)
        steps = descent_of(model, gradient, context.replay_training, self.registered_name())
        context.keeps(sum(step.n_bytes for step in steps))
        if steps and context.n_samples("forget"):
            gradient.assign(model, self._descended(steps, gradient, context.ids("forget")))
        return model

    def _descended(self, steps: list[DescentStep], gradient: BatchGradient, forget: Tensor) -> Tensor:
        pairs: deque[tuple[Tensor, Tensor]] = deque(maxlen=self.memory)
        curvature: SecantCurvature | None = None
        weights = steps[0].weights.clone()
        for number, step in enumerate(steps):
            is_gone = torch.isin(step.ids, forget)
            left, gone = step.ids[~is_gone], step.ids[is_gone]
            n, n_gone = len(step.ids), len(gone)
            if not len(left):
                continue
            moved = weights - step.weights
            is_computed = curvature is None or number < self.burn_in or (number - self.burn_in) % self.period == 0
            if is_computed:
                found = gradient(weights, left)
                whole = (found * len(left) + gradient(weights, gone) * n_gone) / n
                if _is_convex(moved, whole - step.gradient):
                    pairs.append((moved, whole - step.gradient))
                    curvature = SecantCurvature(*zip(*pairs, strict=True))
            else:
                assert curvature is not None  # noqa: S101 - narrows the type
                corrected = step.gradient + curvature(moved)
                found = (n * corrected - n_gone * gradient(weights, gone)) / len(left)
            weights = weights - step.rate * (found + step.decay * weights)
        return weights


def _is_convex(step: Tensor, difference: Tensor) -> bool:
    return float(step @ difference) > 1e-12 * float(step.norm() * difference.norm()) > 0


@dataclass(frozen=True)
class _Given:
    """The inputs of one batch as a column."""

    batch: Batch

    def __len__(self) -> int:
        return len(self.batch.y)

    def gather(self, ids: Tensor) -> object:
        """The batch itself."""
        del ids
        return self.batch.x

    def to(self, device: torch.device) -> _Given:
        """The same."""
        del device
        return self
