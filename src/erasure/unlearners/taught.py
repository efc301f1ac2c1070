"""Batches with what frozen teachers answer to them, asked before the training so that nobody has to hold the teachers during it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from erasure.training.batches import Batch, Batches, TensorColumn
from erasure.training.devices import autocast
from erasure.training.predictor import global_generators
from erasure.unlearners.contract import UnlearningContext

__all__ = ["TaughtBatches"]


class TaughtBatches:
    """The batches of one partition, each with a function that gives its answers; every pass over them is a new epoch.

    Teachers are asked in the very batches that come later, so the answers are the same bytes as if they were asked then. They are asked
    ahead of all epochs, and not held any longer, where the answers take less memory than the teachers; but not where inputs are read from
    the disk or depend on other samples, or where a teacher draws random numbers.

    Args:
        batches: The batches.
        epochs: Passes that there will be.
        teachers: Who is asked; in eval mode, without gradients.
        ask: Answers to a batch, shape ``(B, …)``; the only one to hold the teachers.
        context: The task.
    """

    def __init__(
        self,
        batches: Batches,
        epochs: int,
        teachers: Sequence[nn.Module],
        ask: Callable[[Batch], Tensor],
        context: UnlearningContext,
    ) -> None:
        def quietly(batch: Batch) -> Tensor:
            with torch.no_grad(), autocast(context.device, context.precision):
                return ask(batch)

        self.batches: Batches = batches
        n_bytes = sum(weight.nbytes for teacher in teachers for weight in teacher.parameters())
        self._answers: deque[Tensor] | None = _ahead(batches, epochs, n_bytes, quietly)
        self._ask: Callable[[Batch], Tensor] | None = quietly if self._answers is None else None

    def __iter__(self) -> Iterator[tuple[Batch, Callable[[], Tensor]]]:
        for batch in self.batches:
            yield batch, self._answers_to(batch)

    def _answers_to(self, batch: Batch) -> Callable[[], Tensor]:
        if self._ask is not None:
            ask = self._ask
            return lambda: ask(batch)
        answers = self._answers.popleft() if self._answers else None
        if answers is None:
            raise RuntimeError("more epochs than teachers were asked for")
        return lambda: answers


def _ahead(batches: Batches, epochs: int, n_bytes: int, ask: Callable[[Batch], Tensor]) -> deque[Tensor] | None:
    """The answers of all epochs in the order of their batches; None where they are not to be asked ahead. Draws nothing."""
    if not isinstance(batches.x, TensorColumn) or batches.x.reads_ahead or not batches.n_samples:
        return None
    shuffle, chance = batches.generator, global_generators(batches.ids.device).values()
    order, before = None if shuffle is None else shuffle.get_state(), [generator.get_state() for generator in chance]
    answers: deque[Tensor] = deque()
    try:
        for batch in (batch for _ in range(epochs) for batch in batches):
            answers.append(ask(batch))
            row_bytes = answers[-1].nbytes // len(batch.ids)
            drew = any(not torch.equal(state, generator.get_state()) for state, generator in zip(before, chance, strict=True))
            if drew or row_bytes * batches.n_samples * epochs > n_bytes:
                return None
        return answers
    finally:
        if shuffle is not None and order is not None:
            shuffle.set_state(order)
        for state, generator in zip(before, chance, strict=True):
            generator.set_state(state)
