"""OrthoGrad: forget only along directions that leave each retain sample's loss as it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from erasure.functional.projections import orthogonal_part
from erasure.training.batches import Batch
from erasure.training.calls import Optimizer
from erasure.training.loop import paired
from erasure.training.per_sample import per_sample_gradients
from erasure.types import ANY_TASK, NonNegativeFloat, NonNegativeInt, PartitionRole, PositiveInt, Source, Task
from erasure.unlearners.contract import IterativeUnlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["OrthoGrad"]


@dataclass(frozen=True, kw_only=True)
class OrthoGrad(IterativeUnlearner):
    r"""Climbs the forget loss along what is left of its gradient across the gradients of single retain samples.

    .. math::
        \theta \leftarrow \theta + \eta\, \bigl(g_f - Q Q^\top g_f\bigr) - \eta\, \beta\, \bar g_r, \qquad
        \mathrm{span}\, Q = \mathrm{span}\{g_{r,1}, \dots, g_{r,B}\}

    To first order no loss in the retain batch changes. With a retain batch of one sample this is the projection of A-GEM for a single
    constraint. Each forget batch has a retain batch beside it, which starts over (newly shuffled) as often as needed. Retain gradients
    are those in eval mode, of the weights that may change. Gradient ascent has no end: ``max_grad_norm`` and few epochs keep it in
    bounds. An empty forget or retain set leaves the model unchanged.

    **Cost**: ``epochs`` passes over the forget set, each step with the gradients of ``retain_batch_size`` samples in memory and their
    singular value decomposition.

    Args:
        retain_batch_size: ``B``: retain samples whose losses each step leaves as they are.
        retain_weight: ``beta``: weight of a descent on the retain batch's mean loss beside the ascent.
        per: Whether the span is taken over the whole ``model``, or within each ``parameter``, which needs less memory and takes out
            more.
    """

    source: ClassVar[Source | None] = Source(
        paper="Shamsian, Shaar, Navon, Chechik, Fetaya, 2025, arXiv:2503.02312; the same projection as in Zhou et al., 2025, "
        "arXiv:2511.17100",
        deviations=(
            "Written from the description of the method: its code is not public. Defaults are ours.",
            "The span is found by singular values, not by QR, so that samples with dependent gradients take nothing else out.",
            "Retain gradients are taken in eval mode, where each sample's is its own under BatchNorm.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"retain", "forget"})
    defined_for: ClassVar[frozenset[Task]] = ANY_TASK
    cost: ClassVar[str] = "epochs passes over the forget set, each step with single gradients of a retain batch in memory"
    search_space: ClassVar[SearchSpace] = {
        "epochs": Range(1, 10),
        "retain_weight": Range(0.0, 2.0),
        "optimizer.lr": Range(1e-5, 1e-1, log=True),
    }

    epochs: NonNegativeInt = 5
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("SGD", lr=0.001))
    retain_batch_size: PositiveInt = 32
    retain_weight: NonNegativeFloat = 0.0
    per: Literal["model", "parameter"] = "model"

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Project, then climb."""
        trainer = self.trainer(model, context)
        retain, forget = context.batches("retain", batch_size=self.retain_batch_size), context.batches("forget")

        def climb(pair: tuple[Batch, Batch]) -> Tensor:
            forgotten, kept = pair
            loss, ascent = trainer.gradient(forgotten, lambda batch: -context.loss(model, batch))
            single = self._single_gradients(model, kept, context)
            steps = self._projected(ascent, single)
            if self.retain_weight:
                steps = [step + self.retain_weight * rows.mean(0).view_as(step) for step, rows in zip(steps, single, strict=True)]
            trainer.set_gradients(steps)
            return loss

        for _ in context.epochs(self, trainer, retain, forget):
            pairs: Iterable[tuple[Batch, Batch]] = paired(forget, retain)
            trainer.step_on(pairs, climb)
        return model

    def _single_gradients(self, model: nn.Module, batch: Batch, context: UnlearningContext) -> list[Tensor]:
        """Gradient of each retain sample's loss, by parameter, each ``(B, ...)``."""
        names = [name for name, p in model.named_parameters() if p.requires_grad]
        found = per_sample_gradients(model, batch.x, batch.y, context.criterion.per_sample, parameters=names)
        shown = dict(model.named_parameters())
        return [found[name].to(shown[name].dtype).flatten(1) for name in names]

    def _projected(self, ascent: list[Tensor], single: list[Tensor]) -> list[Tensor]:
        if self.per == "parameter":
            return [
                orthogonal_part(gradient.flatten(), rows).view_as(gradient) for gradient, rows in zip(ascent, single, strict=True)
            ]
        sizes = [gradient.numel() for gradient in ascent]
        whole = orthogonal_part(torch.cat([gradient.flatten() for gradient in ascent]), torch.cat(single, dim=1))
        return [part.view_as(gradient) for part, gradient in zip(torch.split(whole, sizes), ascent, strict=True)]
