"""Training models of one architecture together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from erasure.errors import DataError, Diverged, RequirementNotMet
from erasure.functional.diverged import OUTPUT_BOUND, WEIGHT_BOUND
from erasure.training.anatomy import tensors_of
from erasure.training.batches import Column
from erasure.training.calls import Criterion
from erasure.training.devices import Precision
from erasure.training.ensemble.choice import written_down
from erasure.training.ensemble.losses import StackedLoss
from erasure.training.ensemble.patches import Patches
from erasure.training.ensemble.plan import EnsembleStep, Epochs
from erasure.training.ensemble.program import difference
from erasure.training.ensemble.stack import Stack, StackedOptimizer
from erasure.training.ensemble.tape import Tape
from erasure.training.loop import EpochListener
from erasure.training.predictor import Predictor
from erasure.training.randomness import Streams

__all__ = ["train_together"]


def train_together(
    models: Sequence[nn.Module],
    predictor: Predictor,
    *,
    x: Column,
    y: Tensor,
    ids: Sequence[Tensor],
    criterion: Criterion,
    seeds: Sequence[int] | None = None,
    generators: Sequence[torch.Generator] | None = None,
    batch_size: int,
    ascends: bool = False,
    precision: Precision = "fp32",
    on_epoch: EpochListener | None = None,
) -> list[nn.Module]:
    """Train ``models`` in place by the recipe, each on its own samples, and return them in eval mode.

    Each ends where :func:`~erasure.training.predictor.train` would take it alone, up to the rounding of sums.

    **Memory**: weights, gradients and optimizer state of all models, and the activations of one batch of each.

    Args:
        models: Freshly built networks of one architecture, on the device of ``x``.
        predictor: The recipe.
        x: Inputs of the whole data set.
        y: Labels of the whole data set.
        ids: Samples to train each model on, int64, on the same device.
        criterion: The loss, made from the recipe's.
        seeds: Seed of each model's training; its samples are shuffled as :func:`~erasure.training.predictor.train` does.
        generators: What shuffles each model's samples, instead of ``seeds``.
        batch_size: Used where the recipe does not set its own.
        ascends: Whether the loss is climbed.
        precision: Must be ``fp32``.
        on_epoch: Called after each epoch, once for all models, with the first model as it is then.

    Raises:
        RequirementNotMet: If they cannot be trained together; the message says why.
        DataError: If one of them has nothing to train on.
        Diverged: If the loss or a weight of one is not finite, or beyond its bound; the models are then unfinished and must be rebuilt.
    """
    if not models:
        return []
    shuffles = generators if generators is not None else [Streams(seed).torch("shuffle") for seed in seeds or ()]
    if not len(models) == len(ids) == len(shuffles):
        raise RequirementNotMet(
            f"there are {len(models)} models, {len(ids)} sets of ids and {len(shuffles)} seeds; give one for each"
        )
    if predictor.epochs == 0:
        return [model.eval() for model in models]
    tape = _common(models, predictor, precision)
    empty = [number for number, own in enumerate(ids) if len(own) == 0]
    if empty:
        raise DataError(f"there is nothing to train on: the training partition of model {empty[0]} is empty")
    models[0].train()
    size = predictor.batch_size or batch_size
    # The longest epoch first: whoever has no batch left is at the end, and the others are a prefix.
    order = sorted(range(len(models)), key=lambda k: -(-len(ids[k]) // size), reverse=True)
    session = _Session(
        tape,
        [models[k] for k in order],
        predictor,
        [ids[k] for k in order],
        [shuffles[k] for k in order],
        size,
        StackedLoss(criterion, -1.0 if ascends else 1.0),
    )
    inputs = session.inputs(x)
    for epoch in range(predictor.epochs):
        bad = session.epoch(inputs, y)
        if bad:
            raise Diverged(
                f"the training of {_named([order[row] for row in bad])} diverged in epoch {epoch + 1} of {predictor.epochs}; "
                "lower the learning rate"
            )
        if on_epoch is not None:
            session.stack.write(order.index(0), models[0])
            on_epoch(epoch + 1, predictor.epochs, models[0])
    for row, k in enumerate(order):
        session.stack.write(row, models[k])
    return [model.eval() for model in models]


class _Session:
    """One training: the stacked weights, who sees what, and the optimizer."""

    def __init__(
        self,
        tape: Tape,
        models: Sequence[nn.Module],
        predictor: Predictor,
        ids: Sequence[Tensor],
        generators: Sequence[torch.Generator],
        batch_size: int,
        loss: StackedLoss,
    ) -> None:
        self.tape, self.loss = tape, loss
        self.stack = Stack(models, self.tape.learnt)
        self.epochs = Epochs(ids, generators, batch_size, self.stack.tensors[self.stack.trained[0]].dtype)
        self.optimizer = StackedOptimizer(predictor.optimizer, self.stack, self.epochs.runs(), predictor.max_grad_norm)
        schedule = predictor.schedule
        self.schedule = schedule.build(self.optimizer.torch, predictor.epochs) if schedule is not None else None

    def inputs(self, x: Column) -> Column | Patches:
        """What the first layer takes."""
        layer = self.tape.convolves()
        patches = Patches.of(x, self.epochs.ids, layer) if layer is not None else None
        if patches is None:
            return x
        self.tape.take_patches()
        return patches

    def epoch(self, x: Column | Patches, y: Tensor) -> list[int]:
        """One pass of every model; returns the models whose training has diverged."""
        table = self.epochs.draw()
        total = torch.zeros(len(table), device=table.device)
        for step in self.epochs.steps:
            self._differentiate(step, table, x, y, total)
            self.optimizer.step(step.n_models)
        if self.schedule is not None:
            self.schedule.step()
        lost = ~(total.abs() / len(self.epochs.steps) <= OUTPUT_BOUND)
        ran_away = ~(self.stack.largest() <= WEIGHT_BOUND)
        return [row for row, diverged in enumerate((lost | ran_away).tolist()) if diverged]

    def _differentiate(self, step: EnsembleStep, table: Tensor, x: Column | Patches, y: Tensor, total: Tensor) -> None:
        """Leave the gradients of a step in the stack, and add the losses to ``total``."""
        chosen = table[: step.n_models, step.start : step.start + step.size].flatten()
        inputs: Any = x.gather(chosen)
        if not isinstance(inputs, Tensor):
            raise RequirementNotMet(
                f"the models cannot be trained together: their input is a {type(inputs).__name__}, not a tensor"
            )
        inputs = inputs.view(step.n_models, step.size, *inputs.shape[1:])
        labels = y.index_select(0, chosen)
        labels = labels.view(step.n_models, step.size, *labels.shape[1:])
        at_a_time = self.tape.at_a_time(inputs)
        for first in range(0, step.n_models, at_a_time):
            last = min(first + at_a_time, step.n_models)
            part, (tensors, gradients) = step.part(first, last), self.stack.views(first, last)
            total[first:last] += self.tape.differentiate(
                inputs[first:last], tensors, part.samples, gradients, partial(self.loss, labels[first:last], part.weights)
            )


def _common(models: Sequence[nn.Module], predictor: Predictor, precision: Precision) -> Tape:
    """The layers that all models have."""
    try:
        tape = written_down(models[0], predictor, precision)
    except RequirementNotMet as error:
        raise RequirementNotMet(f"the models cannot be trained together: {error}") from error
    reason = difference(models) or _frozen_otherwise(models)
    if reason is not None:
        raise RequirementNotMet(f"the models cannot be trained together: {reason}")
    return tape


def _frozen_otherwise(models: Sequence[nn.Module]) -> str | None:
    flags = [[tensor.requires_grad for tensor in tensors_of(model).values()] for model in models]
    return None if all(own == flags[0] for own in flags) else "they have different parameters to train (requires_grad)"


def _named(numbers: Sequence[int]) -> str:
    return f"model {numbers[0]}" if len(numbers) == 1 else f"models {', '.join(map(str, sorted(numbers)))}"
