"""Nearest neighbours and k-means as classifiers whose deletions are exact."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from erasure.errors import RequirementNotMet
from erasure.training.batches import Batch
from erasure.training.estimators import FIXED_POINT, Estimator, fixed_point, hashed, rows_of
from erasure.training.predictor import Model, ModelInput
from erasure.types import OpenFraction, PositiveFloat, PositiveInt, Source

__all__ = ["KMeans", "NearestNeighbours"]

_AT_ONCE = 256
_SCALE = 2**FIXED_POINT


@dataclass(frozen=True, kw_only=True)
class NearestNeighbours(Model):
    """The share of each class among the nearest samples; deleting drops rows.

    Distances are Euclidean; of equally far samples that with the lower id comes first.

    Args:
        k: Neighbours.
    """

    source: ClassVar[Source | None] = Source(paper="Cover, Hart, IEEE Transactions on Information Theory 1967")

    k: PositiveInt = 5

    def build(self, data: ModelInput) -> nn.Module:
        """The model before it is fitted."""
        _require_one_class(data, "NearestNeighbours")
        return _NearestNeighbours(math.prod(data.x_shape), data.n_classes, data.task == "binary", self.k)


class _NearestNeighbours(Estimator):
    exactness: ClassVar[Literal["bits", "rounding", "none"]] = "bits"

    rows: Tensor
    labels: Tensor
    ids: Tensor

    def __init__(self, n_inputs: int, n_classes: int, is_binary: bool, k: int) -> None:
        super().__init__()
        self.n_classes, self.is_binary, self.k = n_classes, is_binary, k
        self.register_buffer("rows", torch.zeros(0, n_inputs))
        self.register_buffer("labels", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("ids", torch.zeros(0, dtype=torch.int64))

    def fit(self, samples: Batch, seed: int) -> None:
        """Keep the samples."""
        del seed
        self.rows, self.labels = rows_of(samples.x, torch.float32).clone(), samples.y.long().clone()
        self.ids = samples.ids.clone()

    def delete(self, gone: Batch, left: Callable[[], Batch]) -> None:
        """Drop them."""
        del left
        stays = ~torch.isin(self.ids, gone.ids)
        self.rows, self.labels, self.ids = self.rows[stays], self.labels[stays], self.ids[stays]

    def n_fitted(self) -> int:
        """By what is kept."""
        return len(self.ids)

    def forward(self, x: Tensor) -> Tensor:
        """Log of the classes' shares among the neighbours, each class with a little of a vote."""
        rows = rows_of(x, torch.float32)
        votes = torch.zeros(len(rows), self.n_classes, device=rows.device)
        for first in range(0, len(rows) if len(self.rows) else 0, _AT_ONCE):
            part = rows[first : first + _AT_ONCE]
            far = torch.cdist(part, self.rows, compute_mode="donot_use_mm_for_euclid_dist")
            nearest = far.sort(dim=1, stable=True).indices[:, : self.k]
            votes[first : first + _AT_ONCE] = one_hot(self.labels[nearest], self.n_classes).sum(1).float()
        return _as_logits(votes, self.is_binary)


@dataclass(frozen=True, kw_only=True)
class KMeans(Model):
    """Clusters by quantised k-means, and the classes' shares in each.

    Centres are rounded to a lattice with a hashed phase, so that most deletions change none of them: then sums and counts of each iteration
    are all that changes. From the first iteration with another centre on, the iterations are made again on what is left. The first
    centres are the samples of the lowest hashes of their ids.

    Args:
        clusters: How many.
        iterations: How often centres are moved.
        lattice: Width of the lattice, in units of the inputs.
        smallest: A cluster with less than this share of the mean size keeps its centre.
    """

    source: ClassVar[Source | None] = Source(
        paper="Ginart, Guan, Valiant, Zou, NeurIPS 2019, arXiv:1907.05012",
        code="tginart/deletion-efficient-kmeans at 80681a5",
        tested="fitting without the samples, bit for bit (tests/unit/models/test_exact_models.py)",
        deviations=(
            "Centres are recounted exactly and compared iteration by iteration; the code's certificate passes deletions that change them.",
            "Phase and first centres come from hashes; k-means++ would draw centres that are samples.",
            "There is a fixed number of iterations, with one phase for all.",
        ),
    )

    clusters: PositiveInt = 8
    iterations: PositiveInt = 10
    lattice: PositiveFloat = 0.05
    smallest: OpenFraction = 0.2

    def build(self, data: ModelInput) -> nn.Module:
        """The model before it is fitted."""
        _require_one_class(data, "KMeans")
        return _KMeans(math.prod(data.x_shape), data.n_classes, data.task == "binary", self)


class _KMeans(Estimator):
    exactness: ClassVar[Literal["bits", "rounding", "none"]] = "bits"

    first: Tensor
    centres: Tensor
    sums: Tensor
    counts: Tensor
    classes: Tensor
    seed: Tensor

    def __init__(self, n_inputs: int, n_classes: int, is_binary: bool, options: KMeans) -> None:
        super().__init__()
        self.is_binary, self.options = is_binary, options
        k, t, whole = options.clusters, options.iterations, torch.int64
        self.register_buffer("first", torch.full((k,), -1, dtype=whole))
        self.register_buffer("centres", torch.zeros(t + 1, k, n_inputs, dtype=whole))
        self.register_buffer("sums", torch.zeros(t, k, n_inputs, dtype=whole))
        self.register_buffer("counts", torch.zeros(t, k, dtype=whole))
        self.register_buffer("classes", torch.zeros(k, n_classes, dtype=whole))
        self.register_buffer("seed", torch.zeros((), dtype=whole))

    def fit(self, samples: Batch, seed: int) -> None:
        """Iterate from the first centres."""
        self.seed.fill_(seed)
        for buffer in (self.centres, self.sums, self.counts, self.classes):
            buffer.zero_()
        self.first.fill_(-1)
        if not len(samples.y):
            return
        rows, order = fixed_point(rows_of(samples.x)), sorted(samples.ids.tolist(), key=lambda i: (hashed(seed, "first", i), i))
        chosen = torch.tensor(order[: self.options.clusters], device=rows.device)
        self.first[: len(chosen)] = chosen
        places = torch.searchsorted(samples.ids, chosen)
        self.centres[0, : len(chosen)] = self._rounded(rows[places].double())
        self._iterate(rows, samples.y.long(), 0)

    def n_fitted(self) -> int:
        """By the counts of the first iteration."""
        return int(self.counts[0].sum())

    def delete(self, gone: Batch, left: Callable[[], Batch]) -> None:
        """Recount; iterate again from where a centre changes."""
        if bool(torch.isin(gone.ids, self.first).any()):
            self.fit(left(), int(self.seed))
            return
        rows, y = fixed_point(rows_of(gone.x)), gone.y.long()
        for t in range(self.options.iterations):
            nearest = self._nearest(rows, t)
            self.sums[t].index_add_(0, nearest, rows, alpha=-1)
            self.counts[t].sub_(torch.bincount(nearest, minlength=len(self.counts[t])))
            if not torch.equal(self._moved(t), self.centres[t + 1]):
                others = left()
                self._iterate(fixed_point(rows_of(others.x)), others.y.long(), t)
                return
        self._count_classes(rows, y, -1)

    def _iterate(self, rows: Tensor, y: Tensor, start: int) -> None:
        for t in range(start, self.options.iterations):
            nearest = self._nearest(rows, t)
            self.sums[t].zero_().index_add_(0, nearest, rows)
            self.counts[t] = torch.bincount(nearest, minlength=self.options.clusters)
            self.centres[t + 1] = self._moved(t)
        self.classes.zero_()
        self._count_classes(rows, y, 1)

    def _count_classes(self, rows: Tensor, y: Tensor, sign: int) -> None:
        nearest = self._nearest(rows, self.options.iterations)
        n_classes = self.classes.shape[1]
        found = torch.bincount(nearest * n_classes + y, minlength=self.classes.numel())
        self.classes.add_(found.reshape(self.classes.shape), alpha=sign)

    def _nearest(self, rows: Tensor, t: int) -> Tensor:
        """Index of the nearest centre there is, each row by itself; the first of equally near ones."""
        centres = self.centres[t].double() / _SCALE
        parts = [
            torch.cdist(part.double() / _SCALE, centres, compute_mode="donot_use_mm_for_euclid_dist")
            for part in torch.split(rows, 4096)
        ]
        far = torch.cat(parts) if parts else centres.new_zeros(0, len(centres))
        far[:, self.first < 0] = math.inf
        return far.sort(dim=1, stable=True).indices[:, 0]

    def _moved(self, t: int) -> Tensor:
        """Centres after an iteration."""
        n = self.counts[t]
        mean = self._rounded(self.sums[t].double() / n.clamp(min=1)[:, None])
        is_small = n.double() < self.options.smallest * n.sum().double() / self.options.clusters
        return torch.where((is_small | (n == 0))[:, None], self.centres[t], mean)

    def _rounded(self, values: Tensor) -> Tensor:
        """Values, in fixed point, on the lattice, as whole numbers."""
        width = max(1.0, self.options.lattice * _SCALE)
        phase = hashed(int(self.seed), "phase") % 2**20 / 2**20
        rounded: Tensor = (((values / width - phase).round() + phase) * width).round().to(torch.int64)
        return rounded

    def forward(self, x: Tensor) -> Tensor:
        """Log of the classes' shares in the cluster of each row."""
        nearest = self._nearest(fixed_point(rows_of(x)), self.options.iterations) if int(self.counts.sum()) else None
        votes = self.classes[nearest] if nearest is not None else self.classes.new_zeros(len(x), self.classes.shape[1])
        return _as_logits(votes.float(), self.is_binary)


def _require_one_class(data: ModelInput, name: str) -> None:
    if data.task == "multilabel":
        raise RequirementNotMet(f"{name} takes one class a sample, and the task is multilabel")


def _as_logits(votes: Tensor, is_binary: bool) -> Tensor:
    logits = ((votes + 0.1) / (votes + 0.1).sum(1, keepdim=True)).log()
    return logits[:, 1:] - logits[:, :1] if is_binary else logits
