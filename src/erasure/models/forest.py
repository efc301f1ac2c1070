"""Forests whose every random choice is a hash of tree, node and sample: deleting samples gives the forest fitted without them."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Interval
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.functional.hashed_trees import Kept, Trees
from erasure.training.batches import Batch
from erasure.training.estimators import Estimator, hashed, rows_of
from erasure.training.predictor import Model, ModelInput
from erasure.types import NonNegativeInt, PositiveInt, Source

__all__ = ["ExactForest"]

_REFIT_FROM = 64
"""Where more than one in so many samples goes, fitting to the others, which gives the same bits, costs less than mending."""


@dataclass(frozen=True, kw_only=True)
class ExactForest(Model):
    """Trees whose splits are a function of the samples in their node, whatever was there before.

    In a node the samples of the lowest hashes in the tree lend their values, as the largest that goes left: four samples for each of
    ``thresholds`` different values. The features of the lowest hashes take part, as many as the square root of all; the best of all these
    splits by Gini impurity is taken. Near the root, above ``random_depth``, one is taken by hash, if there are any of those that leave a
    quarter of the samples on either side: few deletions change it, and what hangs under it is costly to grow again.
    Missing values (NaN) go right; in a run there are none, for its sources fill them or leave their rows out.

    Deleting subtracts the samples that go from the counts that large nodes keep of their candidates; where one goes that lent its values,
    the thresholds that come instead are counted. Small nodes are counted again, and only what hangs under a split that changed is grown
    again. The samples are kept. Where many go at once, all trees are grown again.

    Args:
        trees: How many.
        max_depth: Of a tree.
        thresholds: Candidates of each feature.
        random_depth: Levels at the top that split at random; None for two fifths of ``max_depth``, 4 of 10.
    """

    version: ClassVar[int] = 3
    source: ClassVar[Source | None] = Source(
        paper="Brophy, Lowd, ICML 2021, arXiv:2009.05567",
        code="jjbrophy47/dare_rf at bd9e730",
        tested="fitting without the samples, bit for bit (tests/unit/models/test_exact_models.py)",
        deviations=(
            "Choices are hashed, so that a deletion gives the same bits as fitting, not the same distribution.",
            "Thresholds are values of the samples of lowest hashes, not of those next to which the class changes: a deletion then seldom "
            "changes which there are. In the code one whose last sample goes stays (0 / 0 counts as a change of class).",
            "Small nodes keep no counts of their candidates.",
        ),
    )

    trees: PositiveInt = 50
    max_depth: Annotated[int, Interval(ge=1, le=14)] = 10
    thresholds: PositiveInt = 25
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
        self._keep(self._nothing_kept())

    def fit(self, samples: Batch, seed: int) -> None:
        """Grow every tree."""
        self.seed.fill_(seed)
        self.rows, self.labels = rows_of(samples.x, torch.float32).contiguous().clone(), samples.y.long().clone()
        self.ids = samples.ids.clone()
        self.feature.fill_(-1)
        self.threshold.zero_()
        self.counts.zero_()
        self.paths = torch.zeros(self.options.trees, len(self.ids), dtype=torch.int16)
        trees = self._trees(self._nothing_kept())
        trees.grow()
        self._keep(trees.kept)

    def n_fitted(self) -> int:
        """By what is kept."""
        return len(self.ids)

    def delete(self, gone: Batch, left: Callable[[], Batch]) -> None:
        """Mend every tree, or grow it again."""
        del left
        stays = ~torch.isin(self.ids, gone.ids)
        kept, n_gone = stays.nonzero().reshape(-1), int((~stays).sum())
        if not n_gone:
            return
        if n_gone * _REFIT_FROM > len(kept):
            self.fit(Batch(self.rows[kept], self.labels[kept], self.ids[kept]), int(self.seed))
            return
        trees = self._trees(Kept(**{name: getattr(self, f"kept_{name}").numpy() for name in Kept.NAMES}))
        trees.delete((~stays).nonzero().reshape(-1).numpy())
        self._keep(trees.kept)
        self.rows, self.labels, self.ids = self.rows[kept], self.labels[kept], self.ids[kept]
        ends = [-1, *(~stays).nonzero().reshape(-1).tolist(), len(stays)]
        self.paths = torch.cat([self.paths[:, a + 1 : b] for a, b in itertools.pairwise(ends)], dim=1)

    def statistics(self) -> list[Tensor]:
        """The samples, where they are in the trees, and the counts of candidates."""
        return [self.rows, self.labels, self.ids, self.paths, *(getattr(self, f"kept_{name}") for name in Kept.NAMES)]

    def _nothing_kept(self) -> Kept:
        shape = (0, max(1, math.isqrt(self.rows.shape[1])), self.options.thresholds)
        return Kept(
            nodes=np.zeros(0, dtype=np.int64),
            last=np.zeros(0, dtype=np.uint64),
            features=np.zeros(shape[:2], dtype=np.int64),
            thresholds=np.zeros(shape, dtype=np.float32),
            left=np.zeros((*shape, self.n_classes), dtype=np.int32),
        )

    def _keep(self, kept: Kept) -> None:
        for name in Kept.NAMES:
            self.register_buffer(f"kept_{name}", torch.from_numpy(getattr(kept, name)))

    def _trees(self, kept: Kept) -> Trees:
        if self.feature.device.type != "cpu":
            raise RequirementNotMet("ExactForest grows on the CPU; use --device cpu")
        return Trees(
            samples=self.rows.numpy(),
            labels=self.labels.numpy(),
            ids=self.ids.numpy().astype(np.uint64),
            salts=np.array(_salts(int(self.seed), self.options.trees), dtype=np.uint64),
            feature=self.feature.numpy(),
            threshold=self.threshold.numpy(),
            counts=self.counts.numpy(),
            paths=self.paths.numpy(),
            kept=kept,
            max_depth=self.options.max_depth,
            n_thresholds=self.options.thresholds,
            random_depth=self.options.max_depth * 2 // 5 if self.options.random_depth is None else self.options.random_depth,
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
