"""Forests whose every random choice is a hash of tree, node and value: deleting samples gives the forest fitted without them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Interval
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.training.batches import Batch
from erasure.training.estimators import Estimator, hashed, rows_of
from erasure.training.predictor import Model, ModelInput
from erasure.types import NonNegativeInt, PositiveInt, Source

__all__ = ["ExactForest"]

_Split = tuple[int, float]
"""Feature, and the largest value that goes left."""


@dataclass(frozen=True, kw_only=True)
class ExactForest(Model):
    """Trees whose splits are a function of the samples in their node, whatever was there before.

    In a node the features of the lowest hashes take part, as many as the square root of all; of each, ``thresholds`` values between
    which the classes change, again those of the lowest hashes; the best by Gini impurity splits. Nodes above ``random_depth`` split at
    random (by hash) within the feature's range, which few deletions change. Deleting walks down the trees with the samples that go,
    chooses again in each node that they pass, and grows again only what hangs under a choice that changed. The samples are kept.

    Args:
        trees: How many.
        max_depth: Of a tree.
        thresholds: Candidates of each feature.
        random_depth: Levels at the top that split at random.
    """

    source: ClassVar[Source | None] = Source(
        paper="Brophy, Lowd, ICML 2021, arXiv:2009.05567",
        code="jjbrophy47/dare_rf at bd9e730",
        tested="fitting without the samples, bit for bit (tests/unit/models/test_exact_models.py)",
        deviations=(
            "Choices are hashed, so that a deletion gives the same bits as fitting, not the same distribution.",
            "All valid thresholds can enter a node after a deletion; in the code a new one enters only when an old one has gone, and a "
            "threshold whose last sample goes stays valid (0 / 0 counts as a change of class).",
            "Statistics of candidates are not cached but counted again in the nodes on the way.",
        ),
    )

    trees: PositiveInt = 50
    max_depth: Annotated[int, Interval(ge=1, le=14)] = 10
    thresholds: PositiveInt = 25
    random_depth: NonNegativeInt = 0

    def build(self, data: ModelInput) -> nn.Module:
        """The forest before it is fitted."""
        if data.task == "multilabel":
            raise RequirementNotMet("ExactForest takes one class a sample, and the task is multilabel")
        return _Forest(math.prod(data.x_shape), data.n_classes, data.task == "binary", self)


class _Forest(Estimator):
    exactness: ClassVar[Literal["bits", "rounding", "none"]] = "bits"

    rows: Tensor
    labels: Tensor
    ids: Tensor
    seed: Tensor
    feature: Tensor
    threshold: Tensor
    counts: Tensor

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

    def fit(self, samples: Batch, seed: int) -> None:
        """Grow every tree."""
        self.seed.fill_(seed)
        self.rows, self.labels = rows_of(samples.x, torch.float32).clone(), samples.y.long().clone()
        self.ids = samples.ids.clone()
        self.feature.fill_(-1)
        self.threshold.zero_()
        self.counts.zero_()
        for tree in range(self.options.trees):
            self._tree(tree).grow(0, np.arange(len(self.labels)))

    def delete(self, gone: Batch, left: Callable[[], Batch]) -> None:
        """Walk down with what goes, grow again what changes."""
        del left
        stays = ~torch.isin(self.ids, gone.ids)
        everyone = np.arange(len(self.ids))
        kept, dropped = everyone[stays.cpu().numpy()], everyone[~stays.cpu().numpy()]
        for tree in range(self.options.trees):
            self._tree(tree).prune(0, kept, dropped)
        self.rows, self.labels, self.ids = self.rows[stays], self.labels[stays], self.ids[stays]

    def statistics(self) -> list[Tensor]:
        """The samples."""
        return [self.rows, self.labels, self.ids]

    def _tree(self, tree: int) -> _Tree:
        if self.feature.device.type != "cpu":
            raise RequirementNotMet("ExactForest grows on the CPU; use --device cpu")
        return _Tree(
            rows=self.rows.numpy(),
            labels=self.labels.numpy(),
            feature=self.feature[tree].numpy(),
            threshold=self.threshold[tree].numpy(),
            counts=self.counts[tree].numpy(),
            seed=hashed(int(self.seed), tree),
            options=self.options,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Log of the classes' mean shares in the leaves of a row."""
        rows = rows_of(x, torch.float32)
        trees = torch.arange(self.options.trees, device=rows.device)
        node = torch.zeros(len(rows), len(trees), dtype=torch.int64, device=rows.device)
        for _ in range(self.options.max_depth):
            feature = self.feature[trees, node]
            goes_right = rows.gather(1, feature.clamp(min=0)) > self.threshold[trees, node]
            node = torch.where(feature < 0, node, 2 * node + 1 + goes_right)
        found = self.counts[trees, node].float()
        share = (found / found.sum(2, keepdim=True).clamp(min=1)).mean(1)
        logits = ((share + 0.01) / (share + 0.01).sum(1, keepdim=True)).log()
        return logits[:, 1:] - logits[:, :1] if self.is_binary else logits


class _Tree:
    """One tree in arrays that it writes to.

    Args:
        rows: All samples, ``(n, d)``.
        labels: Of the samples.
        feature: Of each node.
        threshold: Of each node.
        counts: Samples of each class in each node.
        seed: Of the tree's hashes.
        options: The forest's parameters.
    """

    def __init__(
        self, rows: Any, labels: Any, feature: Any, threshold: Any, counts: Any, seed: int, options: ExactForest
    ) -> None:
        self.rows, self.labels, self.seed, self.options = rows, labels, seed, options
        self.feature, self.threshold, self.counts = feature, threshold, counts
        self.n_features = max(1, math.isqrt(rows.shape[1]))

    def grow(self, node: int, members: Any) -> None:
        """A node and all below it from its samples."""
        self.counts[node] = self._classes(members)
        split = self._split(node, members)
        self.feature[node], self.threshold[node] = split or (-1, 0.0)
        if split is not None:
            goes_left = self.rows[members, split[0]] <= split[1]
            self.grow(2 * node + 1, members[goes_left])
            self.grow(2 * node + 2, members[~goes_left])

    def prune(self, node: int, kept: Any, dropped: Any) -> None:
        """A node and all below it without some of its samples."""
        if not len(dropped):
            return
        split = self._split(node, kept)
        feature, threshold = split or (-1, 0.0)
        if (feature, np.float32(threshold)) != (self.feature[node], self.threshold[node]):
            self._clear(node)
            self.grow(node, kept)
            return
        self.counts[node] = self._classes(kept)
        if split is not None:
            left, goes = self.rows[kept, feature] <= threshold, self.rows[dropped, feature] <= threshold
            self.prune(2 * node + 1, kept[left], dropped[goes])
            self.prune(2 * node + 2, kept[~left], dropped[~goes])

    def _clear(self, node: int) -> None:
        first, width = node, 1
        while first < len(self.feature):
            for part, empty in ((self.feature, -1), (self.threshold, 0), (self.counts, 0)):
                part[first : first + width] = empty
            first, width = 2 * first + 1, 2 * width

    def _classes(self, members: Any) -> Any:
        return np.bincount(self.labels[members], minlength=self.counts.shape[1])

    def _split(self, node: int, members: Any) -> _Split | None:
        depth = (node + 1).bit_length() - 1
        classes = self._classes(members)
        if depth >= self.options.max_depth or (classes > 0).sum() < 2:
            return None
        values = self.rows[members]
        low, high = values.min(0), values.max(0)
        varying = np.flatnonzero(low < high)
        priority = _mixed(varying.astype(np.uint64), hashed(self.seed, node))
        chosen = varying[np.lexsort((varying, priority))]
        if not len(chosen):
            return None
        if depth < self.options.random_depth:
            f = int(chosen[0])
            share = np.float32(hashed(self.seed, node, "threshold") % 2**20 / 2**20)
            return f, float(min(low[f] + share * (high[f] - low[f]), np.nextafter(high[f], low[f])))
        labels, best = self.labels[members], None
        for f in map(int, chosen[: self.n_features]):
            found = self._best(f, node, values[:, f], labels)
            if found is not None and (best is None or found[0] < best[0]):
                best = (found[0], f, found[1])
        return None if best is None else best[1:]

    def _best(self, feature: int, node: int, values: Any, labels: Any) -> tuple[float, float] | None:
        """Impurity and threshold of the best candidate of a feature; None where the classes change nowhere."""
        distinct, index = np.unique(values, return_inverse=True)
        n_classes = self.counts.shape[1]
        table = np.bincount(index * n_classes + labels, minlength=len(distinct) * n_classes).reshape(len(distinct), n_classes)
        pure = np.where((table > 0).sum(1) == 1, table.argmax(1), -1)
        valid = np.flatnonzero((pure[:-1] != pure[1:]) | (pure[:-1] < 0))
        if len(valid) > self.options.thresholds:
            keys = _mixed(distinct[valid].view(np.uint32).astype(np.uint64), hashed(self.seed, node, feature))
            valid = np.sort(valid[np.lexsort((valid, keys))[: self.options.thresholds]])
        if not len(valid):
            return None
        left = np.cumsum(table, 0)[valid].astype(np.float64)
        right = table.sum(0) - left
        impurity = sum(side.sum(1) - (side**2).sum(1) / side.sum(1) for side in (left, right))
        place = int(np.argmin(impurity))
        return float(impurity[place]), float(distinct[valid[place]])


def _mixed(values: Any, salt: int) -> Any:
    """The finaliser of SplitMix64 on values and a salt."""
    with np.errstate(over="ignore"):
        z = values * np.uint64(0x9E3779B97F4A7C15) + np.uint64(salt)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
