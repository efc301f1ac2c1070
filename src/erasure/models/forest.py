"""Forests whose every random choice is a hash of tree, node and sample: deleting samples gives the forest fitted without them."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Interval
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.functional.candidate_splits import mixed
from erasure.functional.hashed_trees import Trees
from erasure.training.batches import Batch
from erasure.training.estimators import Estimator, hashed, rows_of
from erasure.training.predictor import Model, ModelInput
from erasure.types import NonNegativeInt, PositiveInt, Source

__all__ = ["ExactForest"]

_REFIT_FROM = 64
"""Where more than one in so many samples goes, fitting to the others, which gives the same bits, costs less than mending."""

_PLACES = np.uint64(0x9FB21C651E98DF25)


@dataclass(frozen=True, kw_only=True)
class ExactForest(Model):
    """Trees whose splits are a function of the samples in their node, whatever was there before.

    Samples are ordered by hash, as in a ring, and each tree has a place in it: in a node, those come first that follow this place. The
    first ``split_samples`` of a node choose its split, all where there are fewer or where those are alike. Of these, the first lend their
    values, as the largest that goes left: four samples for each of ``thresholds`` different values. The features of the lowest hashes take
    part, as many as the square root of all; the best of all these splits by Gini impurity is taken. Near the root, above ``random_depth``,
    and where those that choose are of one class, a split is taken by hash, if there are any of those that leave a quarter of them on
    either side.
    Missing values (NaN) go right; in a run there are none, for its sources fill them or leave their rows out.

    Deleting subtracts the samples that go from the counts of nodes; a split is chosen again only where one goes that chose it, which seldom
    happens in large nodes, and only what hangs under a split that changed is grown again. The samples are kept. Where many go at once, all
    trees are grown again.

    Args:
        trees: How many.
        max_depth: Of a tree.
        thresholds: Candidates of each feature.
        split_samples: Of a node, that choose its split; more choose better, and cost more to delete.
        random_depth: Levels at the top that split at random; None for a fifth of ``max_depth``, 2 of 10.
    """

    version: ClassVar[int] = 4
    source: ClassVar[Source | None] = Source(
        paper="Brophy, Lowd, ICML 2021, arXiv:2009.05567",
        code="jjbrophy47/dare_rf at bd9e730",
        tested="fitting without the samples, bit for bit (tests/unit/models/test_exact_models.py)",
        deviations=(
            "Choices are hashed, so that a deletion gives the same bits as fitting, not the same distribution.",
            "Thresholds are values of the samples of lowest hashes, not of those next to which the class changes: a deletion then seldom "
            "changes which there are. In the code one whose last sample goes stays (0 / 0 counts as a change of class).",
            "Large nodes are split by their first samples alone, so that most deletions leave their splits as they are; nothing is kept of "
            "candidates, which are counted again.",
        ),
    )

    trees: PositiveInt = 50
    max_depth: Annotated[int, Interval(ge=1, le=14)] = 10
    thresholds: PositiveInt = 25
    split_samples: PositiveInt = 96
    random_depth: NonNegativeInt | None = None

    def build(self, data: ModelInput) -> nn.Module:
        """The forest before it is fitted."""
        if data.task == "multilabel":
            raise RequirementNotMet("ExactForest takes one class a sample, and the task is multilabel")
        return _Forest(math.prod(data.x_shape), data.n_classes, data.task == "binary", self)


@functools.lru_cache(maxsize=4)
def _salts(seed: int, n_trees: int) -> tuple[int, ...]:
    return tuple(hashed(seed, tree) for tree in range(n_trees))


class _Forest(Estimator):
    exactness: ClassVar[Literal["bits", "rounding", "none"]] = "bits"

    rows: Tensor
    labels: Tensor
    ids: Tensor
    seed: Tensor
    feature: Tensor
    threshold: Tensor
    counts: Tensor
    paths: Tensor
    last: Tensor

    def __init__(self, n_inputs: int, n_classes: int, is_binary: bool, options: ExactForest) -> None:
        super().__init__()
        self.n_classes, self.is_binary, self.options = n_classes, is_binary, options
        shape = (options.trees, 2 ** (options.max_depth + 1) - 1)
        self.register_buffer("rows", torch.zeros(0, n_inputs))
        self.register_buffer("labels", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("ids", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("seed", torch.zeros((), dtype=torch.int64))
        # Children of node i are 2 i + 1 and 2 i + 2; a leaf has feature -1, and so has what is not there.
        self.register_buffer("feature", torch.full(shape, -1, dtype=torch.int64))
        self.register_buffer("threshold", torch.zeros(shape))
        self.register_buffer("counts", torch.zeros(*shape, n_classes, dtype=torch.int64))
        self.register_buffer("paths", torch.zeros(options.trees, 0, dtype=torch.int16))
        self.register_buffer("last", torch.zeros(shape, dtype=torch.uint64))

    def fit(self, samples: Batch, seed: int) -> None:
        """Grow every tree."""
        self.seed.fill_(seed)
        order = torch.from_numpy(self._hashes(samples.ids).argsort())
        self.rows = rows_of(samples.x, torch.float32)[order] + 0.0  # negative zeros are zeros
        self.labels, self.ids = samples.y.long()[order], samples.ids[order]
        self.feature.fill_(-1)
        self.threshold.zero_()
        self.counts.zero_()
        self.paths = torch.zeros(self.options.trees, len(order), dtype=torch.int16)
        self.last.zero_()
        self._trees().grow()

    def n_fitted(self) -> int:
        """By what is kept."""
        return len(self.ids)

    def delete(self, gone: Batch, left: Callable[[], Batch]) -> None:
        """Mend every tree, or grow it again."""
        del left
        trees = self._trees()
        hashes = self._hashes(gone.ids)
        rows = trees.hashes.searchsorted(hashes)
        is_there = rows < len(trees.hashes)
        is_there[is_there] = trees.hashes[rows[is_there]] == hashes[is_there]
        rows = np.unique(rows[is_there])
        n = len(self.ids) - len(rows)
        if not len(rows):
            return
        if len(rows) * _REFIT_FROM > n:
            stays = torch.ones(len(self.ids), dtype=torch.bool)
            stays[torch.from_numpy(rows)] = False
            self.fit(Batch(self.rows[stays], self.labels[stays], self.ids[stays]), int(self.seed))
            return
        trees.delete(rows)
        ends = list(itertools.pairwise([-1, *rows.tolist(), n + len(rows)]))
        for name in ("rows", "labels", "ids"):
            setattr(self, name, torch.cat([getattr(self, name)[a + 1 : b] for a, b in ends]))
        self.paths = torch.cat([self.paths[:, a + 1 : b] for a, b in ends], dim=1)

    def statistics(self) -> list[Tensor]:
        """The samples, where they are in the trees, and on which of them splits depend."""
        return [self.rows, self.labels, self.ids, self.paths, self.last]

    def _hashes(self, ids: Tensor) -> Any:
        return mixed(ids.numpy().astype(np.uint64), np.uint64(hashed(int(self.seed), "sample")))

    def _trees(self) -> Trees:
        if self.feature.device.type != "cpu":
            raise RequirementNotMet("ExactForest grows on the CPU; use --device cpu")
        salts = np.array(_salts(int(self.seed), self.options.trees), dtype=np.uint64)
        return Trees(
            samples=self.rows.numpy(),
            labels=self.labels.numpy(),
            hashes=self._hashes(self.ids),
            places=mixed(salts, _PLACES),
            salts=salts,
            feature=self.feature.numpy(),
            threshold=self.threshold.numpy(),
            counts=self.counts.numpy(),
            paths=self.paths.numpy(),
            last=self.last.numpy(),
            max_depth=self.options.max_depth,
            n_thresholds=self.options.thresholds,
            n_split_samples=self.options.split_samples,
            random_depth=self.options.max_depth // 5 if self.options.random_depth is None else self.options.random_depth,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Log of the classes' mean shares in the leaves of a row."""
        rows = rows_of(x, torch.float32)
        trees = torch.arange(self.options.trees, device=rows.device)
        node = torch.zeros(len(rows), len(trees), dtype=torch.int64, device=rows.device)
        for _ in range(self.options.max_depth):
            feature = self.feature[trees, node]
            goes_right = ~(rows.gather(1, feature.clamp(min=0)) <= self.threshold[trees, node])
            node = torch.where(feature < 0, node, 2 * node + 1 + goes_right)
        found = self.counts[trees, node].float()
        share = (found / found.sum(2, keepdim=True).clamp(min=1)).mean(1)
        logits = ((share + 0.01) / (share + 0.01).sum(1, keepdim=True)).log()
        return logits[:, 1:] - logits[:, :1] if self.is_binary else logits
