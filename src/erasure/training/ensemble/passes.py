"""One pass of many models over the same samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from erasure.errors import DataError, RequirementNotMet
from erasure.training.batches import Batches, Column
from erasure.training.calls import Criterion
from erasure.training.ensemble.layers import SampleRows
from erasure.training.ensemble.program import Program, difference
from erasure.training.ensemble.stack import Stack
from erasure.training.forward import features_of, logits_of
from erasure.types import Task

__all__ = ["StackedOutputs", "forward_together", "refuse_pass"]


@dataclass(frozen=True, eq=False)
class StackedOutputs:
    """What ``M`` models say about ``N`` samples, on the CPU.

    Args:
        ids: The samples, ``(N,)``.
        logits: ``(M, N, K)``, float32.
        losses: ``(M, N)``, float32.
        labels: ``(N,)`` or ``(N, C)``.
        features: ``(M, N, d)``, float32, or None where the models return logits alone.
        task: How labels are read.
    """

    ids: Tensor
    logits: Tensor
    losses: Tensor
    labels: Tensor
    features: Tensor | None
    task: Task


def refuse_pass(models: Sequence[nn.Module]) -> str | None:
    """Why ``models`` are better evaluated one by one, or None; decided by their architecture alone.

    What :func:`forward_together` cannot do comes first. A pass has little to share but the layout of images: dense layers are as fast
    one by one.
    """
    reason = _impossible(models)
    if reason is None and not any(isinstance(module, nn.Conv2d) for module in models[0].modules()):
        return "a network without convolutions is evaluated as fast one by one"
    return reason


def _impossible(models: Sequence[nn.Module]) -> str | None:
    if not models:
        return "there are none"
    try:
        Program(models[0], training=False)
    except RequirementNotMet as error:
        return str(error)
    return difference(models)


@torch.no_grad()
def forward_together(
    models: Sequence[nn.Module],
    *,
    x: Column,
    y: Tensor,
    ids: Tensor,
    criterion: Criterion,
    task: Task,
    batch_size: int = 1024,
) -> StackedOutputs:
    """One pass of ``models`` in eval mode over the samples ``ids``; the models are only read.

    **Memory**: the weights of all models once more, and their activations for ``batch_size`` samples in all.

    Args:
        models: Networks of one architecture, on the device of ``x``.
        x: Inputs of the whole data set.
        y: Labels of the whole data set.
        ids: Samples to look at, int64, on the same device.
        criterion: The loss.
        task: How labels are read.
        batch_size: Samples at a time, counted over all models.

    Raises:
        RequirementNotMet: If the models cannot be evaluated together; the message says why.
        DataError: If there are no samples.
    """
    reason = _impossible(models)
    if reason is not None:
        raise RequirementNotMet(f"the models cannot be evaluated together: {reason}")
    if len(ids) == 0:
        raise DataError("there is nothing to evaluate on: no samples are given")
    program, tensors = Program(models[0], training=False), Stack(models).tensors
    chunk = max(1, batch_size // len(models))
    logits, losses, features = _Rows(len(ids)), _Rows(len(ids)), _Rows(len(ids))
    for number, batch in enumerate(Batches(x, y, ids, chunk)):
        inputs: Any = batch.x
        if not isinstance(inputs, Tensor):
            raise RequirementNotMet(
                f"the models cannot be evaluated together: their input is a {type(inputs).__name__}, not a tensor"
            )
        output = program.run(inputs.expand(len(models), *inputs.shape), tensors, SampleRows(training=False))
        each, found = logits_of(output).float(), features_of(output)
        repeated = batch.y.expand(len(models), *batch.y.shape).flatten(0, 1)
        logits.put(number * chunk, each)
        losses.put(number * chunk, criterion.per_sample(each.flatten(0, 1), repeated).view(len(models), -1))
        if found is not None:
            features.put(number * chunk, found.flatten(2))
    return StackedOutputs(
        ids=ids.cpu(),
        logits=logits.values.cpu(),
        losses=losses.values.cpu(),
        labels=y.index_select(0, ids).cpu(),
        features=features.values.cpu() if features.is_filled else None,
        task=task,
    )


class _Rows:
    """``(M, N, …)`` filled chunk by chunk, float32."""

    def __init__(self, n_rows: int) -> None:
        self.n_rows, self.is_filled = n_rows, False
        self.values = torch.empty(0)

    def put(self, start: int, rows: Tensor) -> None:
        if not self.is_filled:
            shape = (rows.shape[0], self.n_rows, *rows.shape[2:])
            self.values, self.is_filled = torch.empty(shape, device=rows.device), True
        self.values[:, start : start + rows.shape[1]] = rows
