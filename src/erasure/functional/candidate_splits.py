"""Candidate splits of many nodes of decision trees at once: which there are, how the classes fall, which one is best.

Everything random is a hash, and what it picks depends on the samples in a node alone, so that a node is split as it would be if the
samples that have been deleted had never been there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["LENDERS", "Candidates", "Segments", "candidates_again", "candidates_of", "first_features", "mixed"]

LENDERS = 4
"""So many samples for each threshold lend their values, of which those that differ count."""

_MAX = np.finfo(np.float32).max
"""The threshold where there is none: what is kept has to be finite."""
_FEATURES = np.uint64(0xD1B54A32D192ED03)
_SPLITS = np.uint64(0x8CB92BA72F3D8DD7)


def mixed(values: Any, salt: Any) -> Any:
    """The finaliser of SplitMix64 on values and a salt, both uint64 arrays that broadcast: evenly spread, and no two values alike."""
    with np.errstate(over="ignore"):
        z = values * np.uint64(0x9E3779B97F4A7C15) + salt
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


@dataclass(frozen=True, eq=False)
class Segments:
    """Nodes with their samples, node after node, in the order of the samples' keys.

    Args:
        nodes: ``(N,)``, numbers of the nodes.
        sizes: ``(N,)``, samples of each, at least 1.
        rows: ``(M,)``, samples.
        keys: ``(M,)``, uint64, ascending in each node, no two alike.
    """

    nodes: Any
    sizes: Any
    rows: Any
    keys: Any

    @property
    def owner(self) -> Any:
        """Place of the node of each sample, shape ``(M,)``."""
        return np.repeat(np.arange(len(self.nodes)), self.sizes)

    def pick(self, is_wanted: Any) -> Segments:
        """Some of the nodes.

        Args:
            is_wanted: ``(N,)``, bool.
        """
        if is_wanted.all():
            return self
        chosen = np.repeat(is_wanted, self.sizes)
        return Segments(self.nodes[is_wanted], self.sizes[is_wanted], self.rows[chosen], self.keys[chosen])

    def joined(self, other: Segments) -> Segments:
        """These and other nodes."""
        if not len(self.nodes) or not len(other.nodes):
            return self if len(self.nodes) else other
        names = ("nodes", "sizes", "rows", "keys")
        return Segments(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in names))

    def class_counts(self, labels: Any, n_classes: int) -> Any:
        """Samples of each class in each node, shape ``(N, C)``."""
        flat = self.owner * n_classes + labels[self.rows]
        return np.bincount(flat, minlength=len(self.nodes) * n_classes).reshape(-1, n_classes)


@dataclass(frozen=True, eq=False)
class Candidates:
    """Splits that nodes may take: a sample goes left if its value is at most the threshold; what is missing (NaN) goes right.

    Args:
        features: ``(N, p)``, in the order of their hashes; -1 where a node has fewer with a split that parts its samples.
        thresholds: ``(N, p, k)``, float32, ascending.
        left: ``(N, p, k, C)``, int32: samples of each class that go left.
    """

    features: Any
    thresholds: Any
    left: Any

    def is_valid(self, totals: Any) -> Any:
        """Which candidates leave a sample on either side, shape ``(N, p, k)``.

        Args:
            totals: ``(N, C)``, samples of each class.
        """
        n_left = _over_classes(self.left)
        return (n_left > 0) & (n_left < totals.sum(1)[:, None, None]) & (self.features >= 0)[:, :, None]

    def all_part(self, is_valid: Any) -> Any:
        """Whether with each feature a split parts the samples, shape ``(N,)``.

        Args:
            is_valid: As :meth:`is_valid` gives it.
        """
        return (is_valid.any(2) == (self.features >= 0)).all(1)

    def best(self, totals: Any, is_valid: Any) -> tuple[Any, Any]:
        """Feature and threshold of the candidate of least Gini impurity; of equals the first feature, then the lowest threshold.

        Args:
            totals: ``(N, C)``, samples of each class.
            is_valid: As :meth:`is_valid` gives it.

        Returns:
            Features ``(N,)``, -1 where no candidate is valid, and thresholds ``(N,)``, 0 there.
        """
        # Class by class, side by side in memory: whole numbers, so that the order of sums does not matter.
        left = np.ascontiguousarray(np.moveaxis(self.left, 3, 0), dtype=np.float64)
        total = totals.T[:, :, None, None].astype(np.float64)
        n_left, n = left.sum(0), totals.sum(1)[:, None, None]
        squares, right = (left * left).sum(0), total - left
        with np.errstate(divide="ignore", invalid="ignore"):
            score = squares / n_left + (right * right).sum(0) / (n - n_left)
        return self._at(np.where(is_valid, score, -np.inf))

    def random(self, totals: Any, is_valid: Any, salts: Any) -> tuple[Any, Any]:
        """Feature and threshold of the candidate of the lowest hash, of those that leave a quarter on either side if there are any.

        Args:
            totals: ``(N, C)``, samples of each class.
            is_valid: As :meth:`is_valid` gives it.
            salts: ``(N,)``, uint64, of the nodes.

        Returns:
            As :meth:`best`.
        """
        names = self.thresholds.view(np.uint32) | self.features.astype(np.uint64)[:, :, None] << np.uint64(32)
        hashes = mixed(names, (salts ^ _SPLITS)[:, None, None])
        n_left, n = _over_classes(self.left), totals.sum(1)[:, None, None]
        is_even = is_valid & (4 * np.minimum(n_left, n - n_left) >= n)
        is_valid = np.where(is_even.any((1, 2), keepdims=True), is_even, is_valid)
        return self._at(np.where(is_valid, -hashes.astype(np.float64), -np.inf))

    def _at(self, score: Any) -> tuple[Any, Any]:
        flat, each = score.reshape(len(score), -1), np.arange(len(score))
        place = flat.argmax(1)
        exists = flat[each, place] > -np.inf
        feature = self.features[each, place // score.shape[2]]
        threshold = self.thresholds.reshape(flat.shape)[each, place]
        return np.where(exists, feature, -1), np.where(exists, threshold, np.float32(0))


def candidates_of(
    segments: Segments, samples: Any, labels: Any, *, totals: Any, salts: Any, n_features: int, n_thresholds: int
) -> tuple[Candidates, Any, Any]:
    """The candidates of nodes, which are valid, and how many samples of a node, from its first, they depend on by more than their counts.

    The samples of the lowest keys lend their values, as the largest that goes left; of each feature the first that differ are taken. Of
    the features, those of the lowest hashes take part with which such a split parts the samples.

    Args:
        segments: The nodes.
        samples: ``(n, P)``, float32, contiguous.
        labels: ``(n,)``, whole numbers below ``C``.
        totals: ``(N, C)``, samples of each class in each node.
        salts: ``(N,)``, uint64, of the nodes.
        n_features: At most so many features, ``p``.
        n_thresholds: So many thresholds of each, ``k``; where all nodes have fewer samples, as many as the largest has.
    """
    n_nodes, n_all, n_classes = len(segments.nodes), samples.shape[1], totals.shape[1]
    priority = _priority(salts, n_all)
    block = _lowest(priority, n_features)
    *counted, n_lent = _counted(segments, samples, labels, block, n_thresholds, n_classes)
    found = Candidates(block, *counted)
    is_valid = found.is_valid(totals)
    parts = is_valid.any(2)
    if parts.all():
        return found, is_valid, n_lent
    features = np.full((n_nodes, n_features), -1)
    thresholds = np.full_like(found.thresholds, _MAX)
    left = np.zeros_like(found.left)
    n_chosen = np.zeros(n_nodes, dtype=np.int64)
    pending, order, start = np.arange(n_nodes), None, 0
    while True:
        rank = n_chosen[pending, None] + parts.cumsum(1) - 1
        node, column = np.nonzero(parts & (rank < n_features))
        to = pending[node], rank[node, column]
        features[to], thresholds[to], left[to] = block[node, column], found.thresholds[node, column], found.left[node, column]
        n_chosen[pending] = np.minimum(n_chosen[pending] + parts.sum(1), n_features)
        is_pending = n_chosen < n_features
        start += block.shape[1]
        if start >= n_all or not is_pending.any():
            found = Candidates(features, thresholds, left)
            return found, found.is_valid(totals), n_lent
        if order is None:
            order = priority.argsort(1)
        pending = np.flatnonzero(is_pending)
        block = order[pending, start : start + n_features]
        *counted, more = _counted(segments.pick(is_pending), samples, labels, block, n_thresholds, n_classes, left.shape[2])
        n_lent[pending] = np.maximum(n_lent[pending], more)
        found = Candidates(block, *counted)
        parts = found.is_valid(totals[pending]).any(2)


def first_features(salts: Any, n_all: int, n_features: int) -> Any:
    """The features that nodes look at first, and alone if with each of them a split parts the samples, shape ``(N, p)``.

    Args:
        salts: ``(N,)``, uint64, of the nodes.
        n_all: Of how many.
        n_features: ``p``.
    """
    return _lowest(_priority(salts, n_all), n_features)


def candidates_again(
    segments: Segments, samples: Any, labels: Any, known: Candidates, n_thresholds: int
) -> tuple[Candidates, Any]:
    """The candidates of nodes that lost samples which lend values: only thresholds that are new are counted.

    Args:
        segments: The nodes; each with more than ``n_thresholds`` samples.
        samples: ``(n, P)``, float32, contiguous.
        labels: ``(n,)``, whole numbers.
        known: Candidates before, of :func:`first_features`, without the lost samples in the counts.
        n_thresholds: ``k``.

    Returns:
        As :func:`candidates_of`, if with each of these features a split parts the samples.
    """
    thresholds, n_lent = _lent(segments, samples, known.features, n_thresholds, n_thresholds)
    is_known = thresholds[:, :, :, None] == known.thresholds[:, :, None, :]
    left = np.take_along_axis(known.left, is_known.argmax(3)[:, :, :, None], 2)
    node, column, place = np.nonzero(~is_known.any(3))
    sizes = segments.sizes[node]
    pair = np.repeat(np.arange(len(node)), sizes)
    starts = (segments.sizes.cumsum() - segments.sizes)[node] - (sizes.cumsum() - sizes)
    rows = segments.rows[np.arange(len(pair)) + starts[pair]]
    goes_left = samples[rows, known.features[node, column][pair]] <= thresholds[node, column, place][pair]
    n_classes = left.shape[3]
    counts = np.bincount((pair * n_classes + labels[rows])[goes_left], minlength=len(node) * n_classes)
    left[node, column, place] = counts.reshape(-1, n_classes)
    return Candidates(known.features, thresholds, left), n_lent


def _over_classes(values: Any) -> Any:
    """Sums over the last axis, which is short: whole numbers, so that their order does not matter."""
    total = values[..., 0].copy()
    for k in range(1, values.shape[-1]):
        total += values[..., k]
    return total


def _priority(salts: Any, n_all: int) -> Any:
    return mixed(np.arange(n_all, dtype=np.uint64), (salts ^ _FEATURES)[:, None])


def _lowest(priority: Any, n: int) -> Any:
    """Columns of the ``n`` lowest numbers of each row, ascending."""
    if n >= priority.shape[1]:
        return priority.argsort(1)
    places = np.argpartition(priority, n - 1, axis=1)[:, :n]
    order = np.take_along_axis(priority, places, 1).argsort(1)
    return np.take_along_axis(places, order, 1)


def _counted(
    segments: Segments, samples: Any, labels: Any, features: Any, n_thresholds: int, n_classes: int, width: int | None = None
) -> tuple[Any, Any, Any]:
    """Thresholds ``(N, w, k)`` of features ``(N, w)``, the classes that go left ``(N, w, k, C)``, and how many samples lend values."""
    n_nodes, n_tried = features.shape
    k = width or min(n_thresholds, int(segments.sizes.max()))
    values, n_lent = _lent(segments, samples, features, n_thresholds, k)
    owner = segments.owner
    own = samples.reshape(-1)[segments.rows * samples.shape[1] + features.T[:, owner]]
    place, n_places = _placed_between(own, values, owner)
    place *= n_classes
    place += labels[segments.rows]
    between = np.bincount(place.reshape(-1), minlength=n_nodes * n_tried * n_places * n_classes)
    between = between.reshape(n_nodes, n_tried, n_places, n_classes)
    return values, between[:, :, :k].cumsum(2, dtype=np.int32), n_lent


def _lent(segments: Segments, samples: Any, features: Any, n_thresholds: int, k: int) -> tuple[Any, Any]:
    """Thresholds ``(N, w, k)`` of features ``(N, w)``, and how many samples lend values."""
    flat, n_all = samples.reshape(-1), samples.shape[1]
    sizes = segments.sizes
    starts, n_lent = sizes.cumsum() - sizes, np.minimum(sizes, k)

    def read(nodes: Any, n_lenders: int) -> Any:
        places = starts[nodes][:, None] + np.minimum(np.arange(n_lenders), sizes[nodes][:, None] - 1)
        found = flat[segments.rows[places][:, None, :] * n_all + features[nodes][:, :, None]] + np.float32(0)
        found[np.isnan(found) | (np.arange(n_lenders) >= sizes[nodes][:, None])[:, None, :]] = _MAX
        return np.clip(found, -_MAX, _MAX)

    values = np.sort(read(slice(None), k), axis=2)
    # Mostly no two are alike in the first samples that are read.
    more = np.flatnonzero((sizes > n_thresholds) & ~(values[:, :, 1:] > values[:, :, :-1]).all((1, 2)))
    if len(more):
        values[more], n_read = _first_distinct(read(more, min(LENDERS * n_thresholds, int(sizes.max()))), k)
        n_lent[more] = np.minimum(sizes[more], n_read.max(1))
    return values, n_lent


def _first_distinct(values: Any, k: int) -> tuple[Any, Any]:
    """The first ``k`` different numbers of each row, ascending, and the highest of all where there are fewer; and how many were read."""
    bits = values.view(np.uint32)
    in_order = bits ^ ((np.uint32(0) - (bits >> np.uint32(31))) | np.uint32(0x80000000))
    packed = in_order.astype(np.uint64) << np.uint64(32) | np.arange(values.shape[2], dtype=np.uint64)
    packed.sort(axis=2)
    is_first = np.ones(values.shape, dtype=bool)
    is_first[:, :, 1:] = packed[:, :, 1:] >> np.uint64(32) != packed[:, :, :-1] >> np.uint64(32)
    is_chosen = np.empty_like(is_first)
    np.put_along_axis(is_chosen, (packed & np.uint64(0xFFFFFFFF)).astype(np.int64), is_first, axis=2)
    rank = is_chosen.cumsum(2, dtype=np.int32)
    n_read = np.where(rank[:, :, -1] < k, values.shape[2], (rank < k).sum(2) + 1)
    is_chosen &= rank <= k
    return np.sort(np.where(is_chosen, values, _MAX), axis=2)[:, :, :k], n_read


def _placed_between(own: Any, values: Any, owner: Any) -> tuple[Any, int]:
    """Where values are between the thresholds of their nodes, shape ``(w, M)``: how many are below, from the first place of the feature on.

    Args:
        own: ``(w, M)``, of each feature the values of all samples; is written to.
        values: ``(N, w, k)``, ascending and finite.
        owner: ``(M,)``, the node of each sample.

    Returns:
        The places, and how many each feature of a node has; what is missing is above all thresholds.
    """
    n_nodes, n_tried, k = values.shape
    n_places = 1 << k.bit_length()
    padded = np.full((n_nodes, n_tried, n_places), np.inf, dtype=np.float32)
    padded[:, :, :k] = values
    padded, own[np.isnan(own)] = padded.reshape(-1), np.inf
    place = (owner * n_tried + np.arange(n_tried)[:, None]) * n_places
    step, dtype = n_places >> 1, np.min_scalar_type(n_places)
    while step:
        # Halving without branches, all values in step: their thresholds are few, and stay in the processor's cache.
        is_above = padded[step - 1 :].take(place, mode="clip") < own
        place += is_above.view(np.uint8) * dtype.type(step)
        step >>= 1
    return place, n_places
