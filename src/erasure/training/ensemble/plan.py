"""Which samples each model sees in each step, known before the training starts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from erasure.training.ensemble.layers import SampleRows

__all__ = ["EnsembleStep", "Epochs"]


@dataclass(frozen=True, eq=False)
class EnsembleStep:
    """One step of an epoch: the first ``n_models`` models take a batch of up to ``size`` samples.

    Args:
        n_models: Models that have a batch left; they come first.
        start: Where the batch begins in the epoch's table.
        size: Rows of the stacked batch.
        samples: Which rows are samples.
        weights: ``(n_models, size)``, what each row adds to its model's mean loss; None for a plain mean.
    """

    n_models: int
    start: int
    size: int
    samples: SampleRows
    weights: Tensor | None

    def part(self, first: int, last: int) -> EnsembleStep:
        """The step of the models from ``first`` to before ``last``."""
        if last - first == self.n_models:
            return self
        real, counts, weights = (
            None if t is None else t[first:last] for t in (self.samples.real, self.samples.counts, self.weights)
        )
        samples = SampleRows(real, counts)
        return EnsembleStep(last - first, self.start, self.size, samples, weights)


class Epochs:
    """The epochs of several models, side by side.

    Args:
        ids: Training ids of each model, none empty, those with the most batches first.
        generators: What shuffles each model's samples.
        batch_size: Samples per step.
        dtype: Type of the weights of rows.
    """

    def __init__(self, ids: Sequence[Tensor], generators: Sequence[torch.Generator], batch_size: int, dtype: torch.dtype) -> None:
        self.batch_size = batch_size
        self.ids: list[Tensor] = list(ids)
        self.sizes: list[int] = [len(own) for own in ids]
        self.generators: list[torch.Generator] = list(generators)
        self.n_batches: list[int] = [-(-size // batch_size) for size in self.sizes]
        self._ids = torch.nn.utils.rnn.pad_sequence(list(ids), batch_first=True)
        self.steps: list[EnsembleStep] = [self._step(number, dtype) for number in range(self.n_batches[0])]

    def runs(self) -> list[tuple[int, int]]:
        """Ranges of models with the same number of steps."""
        lengths = [len(list(members)) for _, members in itertools.groupby(self.n_batches)]
        ends = list(itertools.accumulate(lengths))
        return list(zip([0, *ends[:-1]], ends, strict=True))

    def _step(self, number: int, dtype: torch.dtype) -> EnsembleStep:
        start = number * self.batch_size
        sizes = [min(self.batch_size, size - start) for size in self.sizes if size > start]
        most = max(sizes)
        if min(sizes) == most > 1:
            return EnsembleStep(len(sizes), start, most, SampleRows(), None)
        counts = torch.tensor(sizes, dtype=dtype, device=self._ids.device)
        real = (torch.arange(most, device=counts.device) < counts.unsqueeze(1)).to(dtype)
        return EnsembleStep(len(sizes), start, most, SampleRows(real=real, counts=counts), real / counts.unsqueeze(1))

    def draw(self) -> Tensor:
        """Ids of a new epoch, one row a model, each newly shuffled; short rows repeat a sample of their own."""
        order = torch.zeros(self._ids.shape, dtype=torch.int64)
        for row, size, generator in zip(order, self.sizes, self.generators, strict=True):
            torch.randperm(size, generator=generator, out=row[:size])
        return self._ids.gather(1, order.to(self._ids.device))
