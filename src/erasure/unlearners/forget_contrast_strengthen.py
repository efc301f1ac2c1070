"""The challenge's winner: forget samples become uncertain, then unlike every retain sample, while the retain set repairs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from erasure.functional.losses import distillation_divergence
from erasure.training.batches import Batch
from erasure.training.calls import Optimizer, Schedule
from erasure.training.forward import logits_of
from erasure.types import NonNegativeInt, PartitionRole, PositiveFloat, PositiveInt, Source
from erasure.unlearners.contract import IterativeUnlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["ForgetContrastStrengthen", "contrast"]


def contrast(forget: Tensor, retain: Tensor, temperature: float) -> Tensor:
    r"""Contrastive loss that spreads each forget sample's similarity evenly over retain samples.

    .. math:: -\frac{1}{B_f B_r} \sum_{i,j} \log \frac{\exp(z_i \cdot z_j / \tau)}{\sum_k \exp(z_i \cdot z_k / \tau)}

    Args:
        forget: ``z_i``, ``(B_f, ...)``; gradients flow here.
        retain: ``z_j``, ``(B_r, ...)``, taken as constants.
        temperature: ``tau > 0``.

    Returns:
        A scalar, at least ``log B_r``, which it is if every forget sample is as similar to all retain samples.

    Example:
        >>> contrast(torch.zeros(2, 3), torch.ones(4, 3), 1.15).exp()
        tensor(4.0000)
    """
    similarity = forget.reshape(len(forget), -1) @ retain.detach().reshape(len(retain), -1).T / temperature
    return -similarity.log_softmax(1).mean()


@dataclass(frozen=True, kw_only=True)
class ForgetContrastStrengthen(IterativeUnlearner):
    r"""Makes predictions on the forget set uniform, then alternates a contrast against the retain set with fine-tuning.

    .. math::
        \min_\theta \mathbb{E}_{D_f} \mathrm{KL}\bigl(\mathcal{U} \,\|\, p_\theta(x)\bigr); \quad\text{then, epoch by epoch,}\quad
        \min_\theta \; \mathbb{E}_{i \in D_f,\, j \in D_r}\bigl[-\log \mathrm{softmax}_j(z_i \cdot z_j / \tau)\bigr]
        \;\text{ and }\; \min_\theta \mathbb{E}_{D_r} \ell(f_\theta(x), y)

    The first pass goes over the forget set once. In a contrast round every forget batch meets a retain batch, and the round ends with
    the shorter set; the forget batch goes through the network first, and BatchNorm's running statistics follow both. Each of the three
    objectives has an optimizer with momentum of its own; the contrast's rate falls along a cosine from step to step. No labels of the
    forget set are used. ``epochs = 0`` changes nothing; an empty forget set leaves fine-tuning.

    **Cost**: ``epochs + 1`` passes over the forget set, ``epochs`` over the retain set, and as many retain batches as forget batches.

    Args:
        temperature: ``tau`` of the contrast.
        uniform_optimizer: Optimizer of the first pass.
        contrast_optimizer: Optimizer of the contrast.
        contrast_schedule: Its learning-rate schedule, stepped with every batch.
    """

    source: ClassVar[Source | None] = Source(
        paper="First of the NeurIPS 2023 unlearning challenge (fanchuan): Triantafillou et al., 2024, arXiv:2406.09073; benchmarked by "
        "Cadet et al., 2024, arXiv:2410.01276",
        code="xcadet/deepunlearn at 6830ff6 (kgltop1)",
        tested="the steps by plain formulas in float64 (tests/unit/unlearners/test_forget_losses.py)",
        deviations=(
            "The cosine of the contrast's rate ends with the last step that is taken; the code counts on one step per forget batch, of "
            "which fewer are taken where the retain set is the smaller one.",
            "Weights, buffers and modes are handed back in eval mode; the code returns the network as the last pass left it.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"retain", "forget"})
    cost: ClassVar[str] = "epochs + 1 passes over the forget set, epochs over the retain set"
    search_space: ClassVar[SearchSpace] = {
        "epochs": Range(1, 10),
        "optimizer.lr": Range(1e-4, 1e-1, log=True),
        "uniform_optimizer.lr": Range(1e-5, 1e-1, log=True),
        "contrast_optimizer.lr": Range(1e-5, 1e-2, log=True),
    }

    epochs: NonNegativeInt = 8
    # 0.001 for 64 samples, in proportion to the batch size.
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("SGD", lr=0.004, momentum=0.9, weight_decay=0.01))
    batch_size: PositiveInt | None = 256
    temperature: PositiveFloat = 1.15
    uniform_optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("SGD", lr=0.005, momentum=0.9))
    contrast_optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("SGD", lr=3e-4, momentum=0.9))
    contrast_schedule: Schedule | None = field(default_factory=lambda: Schedule.of("CosineAnnealingLR", eta_min=1e-6))

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """One uniform pass, then contrast and repair in turn."""
        if not self.epochs:
            return model
        forget, retain = context.batches("forget"), context.batches("retain")
        steps = self.epochs * min(len(forget), len(retain))

        def uniform(batch: Batch) -> Tensor:
            logits = logits_of(model(batch.x))
            return distillation_divergence(logits, torch.zeros_like(logits), task=context.task).mean()

        def contrasted(pair: tuple[Batch, Batch]) -> Tensor:
            forgotten, kept = pair
            logits = logits_of(model(forgotten.x))
            with torch.no_grad():
                others = logits_of(model(kept.x))
            return contrast(logits, others, self.temperature)

        self.replace(optimizer=self.uniform_optimizer, schedule=None).trainer(model, context).train_on(forget, uniform)
        contrasting = self.replace(optimizer=self.contrast_optimizer, schedule=self.contrast_schedule)
        apart = contrasting.trainer(model, context, schedule_steps=max(1, steps))
        trainer = self.trainer(model, context)
        for _ in trainer.epochs():
            pairs: Iterable[tuple[Batch, Batch]] = zip(forget, retain, strict=False)
            apart.train_on(pairs, contrasted)
            trainer.train_on(retain, lambda batch: context.loss(model, batch))
        return model
