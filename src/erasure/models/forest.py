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

_SIGN = 0x80000000
_MANY = 16
"""A node with more than one part in so many of all samples finds their order in that of all."""

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
        columns = self._columns()
        for tree in range(self.options.trees):
            self._tree(tree, columns).grow(0, np.arange(len(self.labels)))

    def delete(self, gone: Batch, left: Callable[[], Batch]) -> None:
        """Walk down with what goes, grow again what changes."""
        del left
        stays = ~torch.isin(self.ids, gone.ids)
        everyone = np.arange(len(self.ids))
        kept, dropped = everyone[stays.cpu().numpy()], everyone[~stays.cpu().numpy()]
        columns = self._columns()
        for tree in range(self.options.trees):
            self._tree(tree, columns).prune(0, kept, dropped)
        self.rows, self.labels, self.ids = self.rows[stays], self.labels[stays], self.ids[stays]

    def statistics(self) -> list[Tensor]:
        """The samples."""
        return [self.rows, self.labels, self.ids]

    def _columns(self) -> _Columns:
        if self.feature.device.type != "cpu":
            raise RequirementNotMet("ExactForest grows on the CPU; use --device cpu")
        return _Columns(self.rows.numpy(), self.labels.numpy())

    def _tree(self, tree: int, columns: _Columns) -> _Tree:
        return _Tree(
            columns=columns,
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


class _Columns:
    """The samples, column by column: their values as whole numbers in the same order, and the order of the samples by value and label.

    Args:
        rows: ``(n, d)``, float32.
        labels: Class of each row.
    """

    def __init__(self, rows: Any, labels: Any) -> None:
        self.n_features = rows.shape[1]
        self.labels = labels.astype(np.min_scalar_type(int(labels.max(initial=0))))  # the smaller, the faster
        bits = np.ascontiguousarray(rows.T + np.float32(0)).view(np.uint32)  # of both zeros the positive one
        self.values = np.where(bits >> 31 == 1, ~bits, bits | np.uint32(_SIGN))
        self.has_gaps = np.isnan(rows).any(0)
        packed = self.values.astype(np.uint64) << np.uint64(32) | labels.astype(np.uint64)
        self.order = np.argsort(packed, axis=1).astype(np.int32)
        self.values_in_order = np.take_along_axis(self.values, self.order, axis=1)
        self.labels_in_order = self.labels[self.order]

    def among(self, members: Any) -> Any:
        """Which of all samples are members, where these are many; None otherwise."""
        if _MANY * len(members) <= len(self.labels):
            return None
        taking_part = np.zeros(len(self.labels), dtype=bool)
        taking_part[members] = True
        return taking_part

    def sorted(self, feature: int, members: Any, among: Any) -> tuple[Any, Any] | None:
        """Values as :func:`_decoded` takes them, ascending, and their labels, of equal values ascending too.

        Args:
            feature: The column.
            members: Samples.
            among: As :meth:`among` gives it.

        Returns:
            None if the members do not differ in the feature.
        """
        if among is not None:
            chosen = among[self.order[feature]]
            values, labels = self.values_in_order[feature][chosen], self.labels_in_order[feature][chosen]
        else:
            packed = self.values[feature][members].astype(np.uint64) << np.uint64(32) | self.labels[members].astype(np.uint64)
            packed.sort()
            values, labels = (packed >> np.uint64(32)).astype(np.uint32), packed.astype(self.labels.dtype)
        if values[0] == values[-1] or (self.has_gaps[feature] and np.isnan(_decoded(values)).any()):
            return None
        return values, labels

    def goes_left(self, feature: int, members: Any, threshold: float) -> Any:
        """Whether the value of each member is at most the threshold."""
        bits = np.array([threshold + 0.0], dtype=np.float32).view(np.uint32)
        bound = ~bits if bits[0] >> 31 else bits | np.uint32(_SIGN)
        return self.values[feature][members] <= bound


def _decoded(ordered: Any) -> Any:
    """The floating-point numbers that whole numbers stand for, as :class:`_Columns` orders them."""
    return _bits(ordered).view(np.float32)


def _bits(ordered: Any) -> Any:
    """The bits of these numbers."""
    # All ones for what was negative, the sign bit alone for the others.
    return ordered ^ (((ordered >> np.uint32(31)) - np.uint32(1)) | np.uint32(_SIGN))


class _Tree:
    """One tree in arrays that it writes to.

    Args:
        columns: All samples.
        feature: Of each node.
        threshold: Of each node.
        counts: Samples of each class in each node.
        seed: Of the tree's hashes.
        options: The forest's parameters.
    """

    def __init__(self, columns: _Columns, feature: Any, threshold: Any, counts: Any, seed: int, options: ExactForest) -> None:
        self.columns, self.seed, self.options = columns, seed, options
        self.feature, self.threshold, self.counts = feature, threshold, counts
        self.features = np.arange(columns.n_features)
        self.n_chosen = max(1, math.isqrt(columns.n_features))

    def grow(self, node: int, members: Any) -> None:
        """A node and all below it from its samples."""
        classes = self._classes(members)
        split = self._split(node, members, classes)
        self.counts[node] = classes
        self.feature[node], self.threshold[node] = split or (-1, 0.0)
        if split is not None:
            goes_left = self.columns.goes_left(split[0], members, split[1])
            self.grow(2 * node + 1, members[goes_left])
            self.grow(2 * node + 2, members[~goes_left])

    def prune(self, node: int, kept: Any, dropped: Any) -> None:
        """A node and all below it without some of its samples."""
        if not len(dropped):
            return
        classes = self._classes(kept)
        split = self._split(node, kept, classes)
        feature, threshold = split or (-1, 0.0)
        if (feature, np.float32(threshold)) != (self.feature[node], self.threshold[node]):
            self._clear(node)
            self.grow(node, kept)
            return
        self.counts[node] = classes
        if split is not None:
            left, goes = (self.columns.goes_left(feature, ids, threshold) for ids in (kept, dropped))
            self.prune(2 * node + 1, kept[left], dropped[goes])
            self.prune(2 * node + 2, kept[~left], dropped[~goes])

    def _clear(self, node: int) -> None:
        first, width = node, 1
        while first < len(self.feature):
            for part, empty in ((self.feature, -1), (self.threshold, 0), (self.counts, 0)):
                part[first : first + width] = empty
            first, width = 2 * first + 1, 2 * width

    def _classes(self, members: Any) -> Any:
        return np.bincount(self.columns.labels[members], minlength=self.counts.shape[1])

    def _split(self, node: int, members: Any, classes: Any) -> _Split | None:
        depth = (node + 1).bit_length() - 1
        if depth >= self.options.max_depth or (classes > 0).sum() < 2:
            return None
        # Features in the order of their hashes, of which those take part first in which the members differ.
        priority = _mixed(self.features.astype(np.uint64), hashed(self.seed, node))
        among = self.columns.among(members)
        n_chosen, best = 0, None
        for feature in map(int, priority.argsort(kind="stable")):
            found = self.columns.sorted(feature, members, among)
            if found is None:
                continue
            if depth < self.options.random_depth:
                return feature, self._random_threshold(node, *_decoded(found[0][[0, -1]]))
            candidate = self._best(feature, node, *found, classes)
            if candidate is not None and (best is None or candidate[0] < best[0]):
                best = (candidate[0], feature, candidate[1])
            n_chosen += 1
            if n_chosen == self.n_chosen:
                break
        return None if best is None else best[1:]

    def _random_threshold(self, node: int, low: Any, high: Any) -> float:
        share = np.float32(hashed(self.seed, node, "threshold") % 2**20 / 2**20)
        return float(min(low + share * (high - low), np.nextafter(high, low)))

    def _best(self, feature: int, node: int, values: Any, labels: Any, classes: Any) -> tuple[float, float] | None:
        """Impurity and threshold of the best candidate of a feature; None where the classes change nowhere."""
        ends = np.flatnonzero(values[1:] != values[:-1])
        if len(ends) + 1 == len(values):
            valid = np.flatnonzero(labels[1:] != labels[:-1])
        else:
            # Of equal values the labels ascend, so that the first and the last tell whether there are several.
            first, last = labels[np.concatenate(([0], ends + 1))], labels[np.concatenate((ends, [len(labels) - 1]))]
            valid = ends[(last[:-1] != first[1:]) | (first[:-1] != last[:-1]) | (first[1:] != last[1:])]
        if not len(valid):
            return None
        if len(valid) > self.options.thresholds:
            keys = _mixed(_bits(values[valid]).astype(np.uint64), hashed(self.seed, node, feature))
            valid = np.sort(valid[_lowest(keys, self.options.thresholds)])
        left = np.empty((len(valid), len(classes)))
        for c in range(1, len(classes)):
            left[:, c] = (labels == c).cumsum()[valid]
        left[:, 0] = valid + 1 - left[:, 1:].sum(1)
        right = classes - left
        impurity = sum(side.sum(1) - (side**2).sum(1) / side.sum(1) for side in (left, right))
        place = int(np.argmin(impurity))
        return float(impurity[place]), float(_decoded(values[valid[place : place + 1]])[0])


def _lowest(keys: Any, n: int) -> Any:
    """Places of the ``n`` lowest of more than ``n`` keys, in any order; keys of :func:`_mixed` are spread evenly, and no two are equal."""
    places = np.arange(len(keys))
    few = np.flatnonzero(keys < np.uint64(min(2**64 - 1, 4 * n * 2**64 // len(keys))))
    if len(few) >= n:
        places, keys = few, keys[few]
    return places[np.argpartition(keys, n - 1)[:n]]


def _mixed(values: Any, salt: int) -> Any:
    """The finaliser of SplitMix64 on values and a salt."""
    with np.errstate(over="ignore"):
        z = values * np.uint64(0x9E3779B97F4A7C15) + np.uint64(salt)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
