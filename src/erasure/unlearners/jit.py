"""Just in time: make the model smooth around the forget samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from erasure.training.batches import Batch
from erasure.training.calls import Optimizer
from erasure.training.forward import logits_of
from erasure.training.inputs import fixed, logits_on, values_of
from erasure.training.predictor import ModelInput
from erasure.types import NonNegativeInt, PartitionRole, PositiveFloat, PositiveInt, Source
from erasure.unlearners.contract import IterativeUnlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["JustInTime"]


@dataclass(frozen=True, kw_only=True)
class JustInTime(IterativeUnlearner):
    r"""Lowers the local Lipschitz constant of the model at the forget samples; it reads inputs, no labels and no retain data.

    .. math::
        \min_\theta \; \frac1N \sum_{j=1}^N \sum_{i \in B}
        \frac{\lVert f_\theta(x_i) - \mathrm{sg}\, f_\theta(x_i + \epsilon_{ij}) \rVert_2}{\lVert \epsilon_{ij} \rVert_2}, \qquad
        \epsilon_{ij} \sim \mathcal{N}(0, \sigma^2 I)

    The noisy inputs are cut to the range of the clean batch, and the perturbation counts as it is after the cut; a sample that does not
    move takes no part. The gradient flows through the clean answer only. The loss is a sum over the batch, so the useful rate depends
    on the batch size. Token inputs are perturbed in the space of the model's embeddings. A constant network has no loss and stays.

    **Cost**: ``epochs`` passes over the forget set, each with ``n_noises`` further forward passes.

    Args:
        n_noises: ``N``: noisy copies of each batch.
        noise_std: ``sigma``, in the unit of what the model reads.
        mode: Mode of dropout and BatchNorm for the clean answer: ``eval``, or ``train`` as in SUPREME.
    """

    source: ClassVar[Source | None] = Source(
        paper="Foster, Fogarty, Schoepf, Öztireli, Brintrup, 2024, arXiv:2402.01401",
        code="jwf40/Zeroshot-Unlearning-At-Scale at f7e3f20; pedroandreou/supreme-unlearning at 71877ad",
        tested="the steps by plain formulas in float64 (tests/unit/unlearners/test_forget_losses.py)",
        deviations=(
            "Gradients are cleared before each batch; in the authors' code they add up.",
            "The model is in eval mode, which the authors' code leaves open; mode=\"train\" is SUPREME's.",
            "The noisy answers are computed before the clean one, so that layers that work in place cannot disturb its gradient.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"forget"})
    cost: ClassVar[str] = "epochs passes over the forget set, each with n_noises further forward passes"
    search_space: ClassVar[SearchSpace] = {
        "epochs": Range(1, 5),
        "noise_std": Range(1e-3, 1.0, log=True),
        "optimizer.lr": Range(1e-5, 1.0, log=True),
    }

    epochs: NonNegativeInt = 1
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("SGD", lr=3e-4))
    n_noises: PositiveInt = 25
    noise_std: PositiveFloat = 0.5
    mode: Literal["eval", "train"] = "eval"

    def unsupported_reason(self, data: ModelInput) -> str | None:
        """Not for inputs that cannot be perturbed one by one."""
        if data.modality == "graph":
            return "JiT is not defined for graphs: its noise needs inputs in one tensor"
        return super().unsupported_reason(data)

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """One step per batch."""
        trainer = self.trainer(model, context if self.mode == "train" else context.with_frozen(model.modules()))
        forget = context.batches("forget")
        generator = context.generator("noise")

        def lipschitz(batch: Batch) -> Tensor:
            # Before the clean pass, whose graph no later pass can then disturb.
            with fixed(model), torch.no_grad():
                noisy = [self._noisy(model, batch, generator) for _ in range(self.n_noises)]
            answer = logits_of(model(batch.x)).reshape(len(batch.y), -1)
            total = torch.zeros((), device=context.device)
            for other, moved in noisy:
                ratio = torch.linalg.vector_norm(answer - other, dim=1) / torch.where(moved > 0, moved, 1.0)
                total = total + torch.where(moved > 0, ratio, 0.0).sum()
            return total / self.n_noises

        for _ in trainer.epochs():
            trainer.train_on(forget, lipschitz)
        return model

    def _noisy(self, model: nn.Module, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Answers to a noisy copy of a batch, and how far each sample has moved."""
        clean = values_of(model, batch.x)
        noise = torch.randn(clean.shape, generator=generator, dtype=clean.dtype).to(clean.device) * self.noise_std
        noisy = (clean + noise).clamp(clean.min(), clean.max())
        answer = logits_on(model, batch.x, noisy).reshape(len(batch.y), -1)
        return answer, torch.linalg.vector_norm((noisy - clean).flatten(1), dim=1)
