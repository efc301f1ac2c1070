"""Boundary Shrink: give each forget sample the class just across the decision boundary."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from erasure.functional.losses import per_sample_loss, predictions
from erasure.training.batches import Batch
from erasure.training.calls import Optimizer
from erasure.training.inputs import Bounds, logits_on, value_range, values_of
from erasure.training.predictor import ModelInput
from erasure.types import NonNegativeInt, PartitionRole, PositiveFloat, PositiveInt, Source, Task
from erasure.unlearners.contract import IterativeUnlearner, UnlearningContext, frozen_copy
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["BoundaryShrink"]


@dataclass(frozen=True, kw_only=True)
class BoundaryShrink(IterativeUnlearner):
    r"""Relabels each forget sample with the class that the original gives to its adversarial neighbour, and trains on that.

    .. math::
        x' = \mathrm{clip}\bigl(x + b\, \mathrm{sign}\, \nabla_x \ell(f_o(x), y)\bigr), \qquad
        y' = \arg\max f_o(x'), \qquad \min_\theta\; \mathbb{E}_{D_f}\, \ell(f_\theta(x), y')

    Where the attack fails, ``y' = y`` and the sample is trained on with its own label, as published. The clip is to the least and
    greatest value per channel of the forget images; tables and embeddings, which have no common range, are not clipped. Token inputs
    are perturbed in the space of the model's embeddings.

    BatchNorm's running statistics follow the forget batches; ``batch_norm="frozen"`` keeps them.

    **Cost**: one attack (two forward passes and one backward pass) over the forget set, then ``epochs`` passes over it; one model copy.

    Args:
        bound: ``b``, in the unit of the inputs before normalisation (0.1 is a tenth of the range of images in [0, 1]).
        exclude_own_class: Whether ``y'`` is the best class other than ``y``, so that no sample keeps its label.
    """

    source: ClassVar[Source | None] = Source(
        paper="Chen, Gao, Liu, Peng, Wang, CVPR 2023, arXiv:2303.11570",
        code="TY-LEE-KR/Boundary-Unlearning-Code at 86c2f1f",
        tested="the steps by plain formulas in float64 (tests/unit/unlearners/test_boundary.py)",
        deviations=(
            "The neighbours' classes are computed once: the original is fixed, so the code's repetition in each epoch gives the same.",
            "The adversarial images are not rounded to multiples of 1/255.",
            "Images are clipped to the range of the forget images; the code clips to [0, 1], with a wrong mean for blue.",
            "The optional curvature regulariser and confidence weighting are left out.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"forget"})
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification", "binary"})
    cost: ClassVar[str] = "one attack and epochs passes over the forget set, one model copy"
    search_space: ClassVar[SearchSpace] = {
        "epochs": Range(1, 20),
        "bound": Range(1e-2, 1.0, log=True),
        "optimizer.lr": Range(1e-6, 1e-2, log=True),
    }

    epochs: NonNegativeInt = 10
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("SGD", lr=1e-5, momentum=0.9))
    batch_size: PositiveInt | None = 64
    bound: PositiveFloat = 0.1
    exclude_own_class: bool = False

    def unsupported_reason(self, data: ModelInput) -> str | None:
        """Not for inputs that have no neighbours."""
        if data.modality == "graph":
            return "BoundaryShrink is not defined for graphs: an adversarial neighbour needs inputs in one tensor"
        return super().unsupported_reason(data)

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Find the neighbours' classes, then train on them."""
        if not context.n_samples("forget") or not self.epochs:
            return model
        nearest = self._nearest_classes(frozen_copy(model), context)
        trainer = self.trainer(model, context)
        forget = context.batches("forget")
        for _ in trainer.epochs():
            trainer.train_on(forget, lambda batch: context.loss(model, batch._replace(y=nearest[batch.ids])))
        return model

    def _nearest_classes(self, original: nn.Module, context: UnlearningContext) -> Tensor:
        """Labels of the whole data set, in which each forget sample has its neighbour's class."""
        forget = context.batches("forget", shuffle=False)
        bounds = value_range(original, forget) if context.model_input.modality == "image" else None
        labels = context.y.clone()
        for batch in forget:
            adversarial = self._adversarial(original, batch, context, bounds)
            with torch.no_grad():
                logits = logits_on(original, batch.x, adversarial)
            labels[batch.ids] = self._nearest_class(logits, batch.y, context).to(labels.dtype)
        return labels

    def _adversarial(self, original: nn.Module, batch: Batch, context: UnlearningContext, bounds: Bounds | None) -> Tensor:
        values = values_of(original, batch.x).clone().requires_grad_(True)
        with torch.enable_grad():
            loss = per_sample_loss(context.task, logits_on(original, batch.x, values), batch.y).sum()
        (gradient,) = torch.autograd.grad(loss, values)
        # A column that normalises knows the unit: one standard deviation of the model's input is `std` of the data's.
        std = getattr(context.x, "std", None)
        step = self.bound if not isinstance(std, Tensor) else self.bound / std
        adversarial = values.detach() + step * gradient.sign()
        return adversarial if bounds is None else adversarial.clamp(*bounds)

    def _nearest_class(self, logits: Tensor, y: Tensor, context: UnlearningContext) -> Tensor:
        if not self.exclude_own_class:
            return predictions(context.task, logits)
        if context.task == "binary":
            return 1 - y
        return logits.scatter(1, y[:, None], -torch.inf).argmax(1)
