"""l1-sparse unlearning: fine-tuning with a penalty that makes the weights sparse."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from erasure.errors import Diagnostic, InvalidParameters
from erasure.training.batches import Batch
from erasure.training.calls import Optimizer
from erasure.training.parametrized import effective_weights
from erasure.types import ANY_TASK, NonNegativeFloat, NonNegativeInt, PartitionRole, Source, Task
from erasure.unlearners.contract import IterativeUnlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["L1Sparse"]


@dataclass(frozen=True, kw_only=True)
class L1Sparse(IterativeUnlearner):
    r"""Fine-tunes on the retain set with an l1 penalty that fades out.

    .. math::
        \min_\theta \; \mathbb{E}_{D_r} \, \ell(f_\theta(x), y) + \gamma_e \, \lVert\theta\rVert_1, \qquad
        \gamma_e = \gamma \, \Bigl(1 - \frac{e}{E - E_0}\Bigr) \;\text{for}\; e < E - E_0, \;\text{then}\; 0

    with epochs ``e`` from 0 to ``E - 1``. The penalty is followed by its subgradient (0 at 0), so weights come close to zero but not
    onto it. BatchNorm trains as in fine-tuning, and its scales and shifts are penalised too unless ``penalised="weights"``.

    **Cost**: ``epochs`` passes over the retain set.

    Args:
        gamma: Strength of the penalty in the first epoch (its peak where it grows).
        gamma_schedule: ``decreasing`` as above; ``constant``; ``increasing``, :math:`\gamma (e + 1) / (E - E_0)`.
        unpenalised_epochs: :math:`E_0`, epochs without penalty at the end.
        penalised: ``all`` parameters, or ``weights`` alone (tensors of two and more dimensions: no biases, no normalisation).
    """

    version: ClassVar[int] = 2
    source: ClassVar[Source | None] = Source(
        paper="Jia, Liu, Ram, Yao, Liu, Liu, Sharma, Liu, NeurIPS 2023, arXiv:2304.04934",
        code="OPTML-Group/Unlearn-Sparse at 80ba55d (FT_prune)",
        tested="the steps by plain formulas in float64 (tests/unit/unlearners/test_l1_sparse.py)",
        deviations=(
            "gamma is 5e-4, recalled from the paper and not checked against it; the reference code's flag defaults to 0.2, which it shares "
            "with other methods.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"retain"})
    defined_for: ClassVar[frozenset[Task]] = ANY_TASK
    cost: ClassVar[str] = "epochs passes over the retain set"
    search_space: ClassVar[SearchSpace] = {
        "epochs": Range(1, 15),
        "gamma": Range(1e-5, 1e-2, log=True),
        "optimizer.lr": Range(1e-4, 1e-1, log=True),
    }

    epochs: NonNegativeInt = 10
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("SGD", lr=0.01, momentum=0.9, weight_decay=5e-4))
    gamma: NonNegativeFloat = 5e-4
    gamma_schedule: Literal["decreasing", "constant", "increasing"] = "decreasing"
    unpenalised_epochs: NonNegativeInt = 0
    penalised: Literal["all", "weights"] = "all"

    def check(self) -> None:
        """Epochs without penalty are some of the epochs."""
        if self.unpenalised_epochs > self.epochs:
            raise InvalidParameters(
                [Diagnostic(f"unpenalised_epochs is {self.unpenalised_epochs}, more than the {self.epochs} epochs")]
            )

    def strength(self, epoch: int) -> float:
        """Weight of the penalty in epoch ``epoch``, counted from 0."""
        penalised_epochs = self.epochs - self.unpenalised_epochs
        if epoch >= penalised_epochs:
            return 0.0
        if self.gamma_schedule == "constant":
            return self.gamma
        share = (epoch + 1) / penalised_epochs if self.gamma_schedule == "increasing" else 1 - epoch / penalised_epochs
        return self.gamma * share

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Fine-tune with the penalty."""
        trainer = self.trainer(model, context)
        retain = context.batches("retain")
        computed = any(parametrize.is_parametrized(module) for module in model.modules())

        def penalised() -> list[Tensor]:
            weights = [w for w in effective_weights(model) if w.requires_grad] if computed else trainer.parameters
            return [weight for weight in weights if self.penalised == "all" or weight.ndim >= 2]

        some = bool(penalised())
        for epoch in context.epochs(self, trainer, retain):
            gamma = self.strength(epoch) if some else 0.0

            def loss(batch: Batch, gamma: float = gamma) -> Tensor:
                fit = context.loss(model, batch)
                return fit + gamma * torch.stack([p.abs().sum() for p in penalised()]).sum() if gamma else fit

            trainer.train_on(retain, loss)
        return model
