"""PRMQ, the fourth of the unlearning challenge: prune nearly everything, draw it again, match the original's entropy."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.functional.losses import class_logits
from erasure.training.batches import Batch
from erasure.training.calls import Criterion, Optimizer
from erasure.training.forward import logits_of
from erasure.training.layer_inputs import WeightedLayer, weighted_layers
from erasure.training.loop import frozen_norms
from erasure.training.parametrized import may_be_trained, plain_weights, require_assignable
from erasure.types import Fraction, NonNegativeInt, PartitionRole, PositiveInt, Source, Task
from erasure.unlearners.contract import IterativeUnlearner, UnlearningContext, frozen_copy
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["PruneAndRedraw"]

_COUNT_POWER = -0.1


@dataclass(frozen=True, kw_only=True)
class PruneAndRedraw(IterativeUnlearner):
    r"""Draws the smallest weights again, all but a few, and trains on the retain set with the original's entropy as a second aim.

    .. math::
        \min_\theta \; \frac{\sum_i w_{y_i} \ell_i}{\sum_i w_{y_i}} + \mathbb{E}_{D_r}\bigl(H(p_\theta) - H(p_o)\bigr)^2, \qquad
        w_c = n_c^{-0.1}, \quad w_{jk} \sim \mathcal{U}(-1, 1) / \sqrt{\mathrm{fan}_{in}}

    The share ``amount`` of smallest absolute values is pruned over the weights and biases of all linear maps and two-dimensional
    convolutions together; every weight that is 0 then is drawn again, pruned biases stay 0. Training lasts ``epochs`` passes and
    ``partial_epoch`` of one more. At last all numbers are rounded to half precision. The forget set is not looked at. Frozen layers
    are left alone; ``epochs = partial_epoch = 0`` redraws and does not repair.

    **Cost**: ``epochs + partial_epoch`` passes over the retain set with a forward pass of the original each; one model copy.

    Args:
        amount: Share of weights and biases that is pruned.
        partial_epoch: Share of a last epoch.
        round_to_half: Whether weights and buffers that are not frozen end as numbers of half precision.
    """

    source: ClassVar[Source | None] = Source(
        paper="Fourth of the NeurIPS 2023 unlearning challenge: Triantafillou et al., 2024, arXiv:2406.09073; benchmarked by Cadet et al., "
        "2024, arXiv:2410.01276",
        code="xcadet/deepunlearn at 6830ff6 (kgltop4)",
        tested="the steps by plain formulas in float64 (tests/unit/unlearners/test_perturb_and_repair.py)",
        deviations=(
            "The code takes one step more than its 3.2 epochs have.",
            "Among equal sizes the earlier weight is pruned.",
            "Numbers beyond half precision become its largest, not infinite.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"retain"})
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification", "binary"})
    cost: ClassVar[str] = "epochs + partial_epoch passes over the retain set, one model copy"
    search_space: ClassVar[SearchSpace] = {
        "epochs": Range(1, 10),
        "amount": Range(0.3, 0.999),
        "optimizer.lr": Range(1e-4, 1e-1, log=True),
    }

    epochs: NonNegativeInt = 3
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("SGD", lr=5e-4, momentum=0.9, weight_decay=5e-4))
    batch_size: PositiveInt | None = 64
    amount: Fraction = 0.99
    partial_epoch: Fraction = 0.2
    round_to_half: bool = True

    def try_on(self, model: nn.Module, batch: Batch, criterion: Criterion) -> None:
        """There must be layers to prune, and they must take what is assigned to them."""
        require_assignable(model, self.registered_name())
        _trained_layers(model)

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Prune, redraw, train, round."""
        original = frozen_copy(model)
        with plain_weights(model, pruned=True):
            self._prune(_trained_layers(model), context)
            self._repair(model, original, context)
            if self.round_to_half:
                _round_to_half(model)
        return model

    @torch.no_grad()
    def _prune(self, layers: list[WeightedLayer], context: UnlearningContext) -> None:
        tensors = [p for layer in layers for p in (layer.weight, layer.bias) if p is not None and p.requires_grad]
        sizes = torch.cat([tensor.abs().flatten() for tensor in tensors])
        pruned = torch.zeros_like(sizes, dtype=torch.bool)
        pruned[sizes.argsort(stable=True)[: round(self.amount * len(sizes))]] = True
        for tensor, part in zip(tensors, torch.split(pruned, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.masked_fill_(part.view(tensor.shape), 0.0)
        generator = context.generator("redraw")
        for layer in layers:
            weight = layer.weight
            drawn = torch.rand(weight.shape, generator=generator, dtype=weight.dtype) * 2 - 1
            drawn *= weight[0].numel() ** -0.5
            weight.copy_(torch.where(weight == 0, drawn.to(weight.device), weight))

    def _repair(self, model: nn.Module, original: nn.Module, context: UnlearningContext) -> None:
        retain = context.batches("retain")
        n_steps = int((self.epochs + self.partial_epoch) * len(retain))
        counts = torch.bincount(context.y[context.ids("retain")].long(), minlength=context.n_classes).clamp(min=1)
        weights = counts.to(next(model.parameters()).dtype) ** _COUNT_POWER

        def loss(batch: Batch) -> Tensor:
            with torch.no_grad():
                target = _entropy(class_logits(context.task, logits_of(original(batch.x))))
            logits = class_logits(context.task, logits_of(model(batch.x)))
            return F.cross_entropy(logits, batch.y.long(), weight=weights.to(logits.dtype)) + F.mse_loss(_entropy(logits), target)

        trainer = self.replace(epochs=-(-n_steps // len(retain)) if len(retain) else 0).trainer(model, context)
        for epoch in trainer.epochs():
            left = n_steps - epoch * len(retain)
            batches: Iterator[Batch] = itertools.islice(retain, left)
            trainer.train_on(batches, loss)


def _trained_layers(model: nn.Module) -> list[WeightedLayer]:
    found = [layer for layer in weighted_layers(model).values() if may_be_trained(layer)]
    if not found:
        raise RequirementNotMet(
            f"PRMQ needs linear maps or two-dimensional convolutions that may be trained; {type(model).__name__} has none"
        )
    return found


def _entropy(logits: Tensor) -> Tensor:
    log_p = logits.log_softmax(1)
    return -(log_p.exp() * log_p).sum(1)


@torch.no_grad()
def _round_to_half(model: nn.Module) -> None:
    limit = torch.finfo(torch.half).max
    kept = {id(tensor) for norm in frozen_norms(model) for tensor in norm.buffers()}
    kept |= {id(tensor) for tensor in model.parameters() if not tensor.requires_grad}
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point() and id(tensor) not in kept:
            tensor.copy_(tensor.clamp(-limit, limit).half().to(tensor.dtype))
