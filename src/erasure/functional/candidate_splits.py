"""Candidate splits of many nodes of decision trees at once: which there are, how the classes fall, which one is best.

Everything random is a hash, and what it picks depends on the samples in a node alone, so that a node is split as it would be if the
samples that have been deleted had never been there.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["LENDERS", "Candidates", "Segments", "candidates_of", "counts_of", "mixed"]

LENDERS = 4
"""So many samples for each threshold lend their values, of which those that differ count."""

_MAX = np.finfo(np.float32).max
"""The threshold where there is none: what is kept has to be finite."""
_FEATURES = np.uint64(0xD1B54A32D192ED03)
_SPLITS = np.uint64(0x8CB92BA72F3D8DD7)


def mixed(values: Any, salt: Any) -> Any:
    """The finaliser of SplitMix64 on values and a salt, both uint64 arrays that broadcast: evenly spread, and no two values alike."""
    z = values * np.uint64(0x9E3779B97F4A7C15) + salt
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


@dataclass(eq=False)
class Segments:
    """Nodes with their samples, node after node, in the order of the tree: those that come first lend their values.

    Args:
        nodes: ``(N,)``, numbers of the nodes.
        sizes: ``(N,)``, samples of each, at least 1.
        rows: ``(M,)``, samples.
        totals: ``(N, C)``, samples of each class.
    """

    nodes: Any
    sizes: Any
    rows: Any
    totals: Any

    @functools.cached_property
    def owner(self) -> Any:
        """Place of the node of each sample, shape ``(M,)``."""
        return np.repeat(np.arange(len(self.nodes)), self.sizes)

    @functools.cached_property
    def ends(self) -> Any:
        """Where the samples of each node end, shape ``(N,)``."""
        return self.sizes.cumsum()

    def pick(self, is_wanted: Any) -> Segments:
        """Some of the nodes.

        Args:
            is_wanted: ``(N,)``, bool.
        """
        if is_wanted.all():
            return self
        rows = self.rows[is_wanted.repeat(self.sizes)]
        return Segments(self.nodes[is_wanted], self.sizes[is_wanted], rows, self.totals[is_wanted])

    def first(self, n: int, labels: Any) -> Segments:
        """The nodes with the first samples of each alone.

        Args:
            n: At most so many.
            labels: Of all samples.
        """
        sizes = np.minimum(self.sizes, n)
        if sizes.sum() == len(self.rows):
            return self
        ends = sizes.cumsum()
        rows = self.rows[np.arange(ends[-1]) + (self.ends - self.sizes - ends + sizes).repeat(sizes)]
        found = Segments(self.nodes, sizes, rows, self.totals)
        found.totals = counts_of(found.owner, labels[rows], self.totals.shape)
        return found

    def joined(self, other: Segments) -> Segments:
        """These and other nodes."""
        if not len(self.nodes) or not len(other.nodes):
            return self if len(self.nodes) else other
        names = ("nodes", "sizes", "rows", "totals")
        return Segments(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in names))


def counts_of(owner: Any, labels: Any, shape: tuple[int, int]) -> Any:
    """Samples of each class in each node.

    Args:
        owner: ``(M,)``, places of nodes.
        labels: ``(M,)``.
        shape: ``(N, C)``.
    """
    return np.bincount(owner * shape[1] + labels, minlength=shape[0] * shape[1]).reshape(shape)


@dataclass(eq=False)
class Candidates:
    """Splits that nodes may take: a sample goes left if its value is at most the threshold; what is missing (NaN) goes right.

    Args:
        features: ``(N, p)``, in the order of their hashes; -1 where a node has fewer with a split that parts its samples.
        thresholds: ``(N, p, k)``, float32, ascending.
        left: ``(N, C, p, k)``: samples of each class that go left.
        totals: ``(N, C)``, samples of each class.
    """

    features: Any
    thresholds: Any
    left: Any
    totals: Any

    def pick(self, is_wanted: Any) -> Candidates:
        """Those of some nodes.

        Args:
            is_wanted: ``(N,)``, bool.
        """
        if is_wanted.all():
            return self
        return Candidates(*(each[is_wanted] for each in (self.features, self.thresholds, self.left, self.totals)))

    @functools.cached_property
    def _sizes(self) -> tuple[Any, Any]:
        """Samples that go left, ``(N, p, k)``, and those of the smaller side; 0 for candidates that are none."""
        n_left, n = self.left.sum(1), self.totals.sum(1)[:, None, None]
        return n_left, np.minimum(n_left, n - n_left)

    def part(self) -> Any:
        """With which features a candidate parts the samples, shape ``(N, p)``."""
        return self._sizes[1].any(2)

    def best(self) -> tuple[Any, Any]:
        """Feature and threshold of the candidate of least Gini impurity; of equals the first feature, then the lowest threshold.

        Returns:
            Features ``(N,)``, -1 where no candidate is valid, and thresholds ``(N,)``, 0 there.
        """
        n_left, least = self._sizes
        right = self.totals[:, :, None, None] - self.left
        squares, other = (self.left * self.left).sum(1), (right * right).sum(1)
        is_valid = least > 0
        n_right = self.totals.sum(1)[:, None, None] - n_left
        with np.errstate(divide="ignore", invalid="ignore"):
            score = squares / n_left + other / n_right
        return self._at(np.where(is_valid, score, -np.inf))

    def random(self, salts: Any) -> tuple[Any, Any]:
        """Feature and threshold of the candidate of the lowest hash, of those that leave a quarter on either side if there are any.

        Args:
            salts: ``(N,)``, uint64, of the nodes.

        Returns:
            As :meth:`best`.
        """
        names = self.thresholds.view(np.uint32) | self.features.astype(np.uint64)[:, :, None] << np.uint64(32)
        hashes = mixed(names, (salts ^ _SPLITS)[:, None, None])
        least = self._sizes[1]
        is_valid = 4 * least >= np.maximum(self.totals.sum(1), 1)[:, None, None]
        is_valid = np.where(is_valid.any((1, 2), keepdims=True), is_valid, least > 0)
        return self._at(np.where(is_valid, -hashes.astype(np.float64), -np.inf))

    def _at(self, score: Any) -> tuple[Any, Any]:
        flat, each = score.reshape(len(score), -1), np.arange(len(score))
        place = flat.argmax(1)
        exists = flat[each, place] > -np.inf
        feature = self.features[each, place // score.shape[2]]
        threshold = self.thresholds.reshape(flat.shape)[each, place]
        return np.where(exists, feature, -1), np.where(exists, threshold, np.float32(0))


def candidates_of(segments: Segments, samples: Any, labels: Any, *, salts: Any, n_features: int, n_thresholds: int) -> Candidates:
    """The candidates of nodes.

    The first samples lend their values, as the largest that goes left; of each feature the first that differ are taken. Of the features,
    those of the lowest hashes take part with which such a split parts the samples.

    Args:
        segments: The nodes.
        samples: ``(n, P)``, float32, contiguous.
        labels: ``(n,)``, whole numbers below ``C``.
        salts: ``(N,)``, uint64, of the nodes.
        n_features: At most so many features, ``p``.
        n_thresholds: So many thresholds of each, ``k``; where all nodes have fewer samples, one more than the largest has.
    """
    n_nodes, n_all = len(segments.nodes), samples.shape[1]
    k = min(n_thresholds, int(segments.sizes.max()) + 1)  # which there are must not depend on other nodes
    priority = _priority(salts, n_all)
    block = _lowest(priority, n_features)
    found = _counted(segments, samples, labels, block, n_thresholds, k)
    parts = found.part()
    if parts.all():
        return found
    features = np.full((n_nodes, n_features), -1)
    thresholds = np.full_like(found.thresholds, _MAX)
    left = np.zeros_like(found.left)
    n_chosen = np.zeros(n_nodes, dtype=np.int64)
    pending, order, start = np.arange(n_nodes), None, 0
    while True:
        rank = n_chosen[pending, None] + parts.cumsum(1) - 1
        node, column = np.nonzero(parts & (rank < n_features))
        to = pending[node], rank[node, column]
        features[to], thresholds[to] = block[node, column], found.thresholds[node, column]
        left[to[0], :, to[1]] = found.left[node, :, column]
        n_chosen[pending] = np.minimum(n_chosen[pending] + parts.sum(1), n_features)
        is_pending = n_chosen < n_features
        start += block.shape[1]
        if start >= n_all or not is_pending.any():
            return Candidates(features, thresholds, left, segments.totals)
        if order is None:
            order = priority.argsort(1)
        pending = np.flatnonzero(is_pending)
        block = order[pending, start : start + n_features]
        found = _counted(segments.pick(is_pending), samples, labels, block, n_thresholds, k)
        parts = found.part()


def _priority(salts: Any, n_all: int) -> Any:
    return mixed(np.arange(n_all, dtype=np.uint64), (salts ^ _FEATURES)[:, None])


def _lowest(priority: Any, n: int) -> Any:
    """Columns of the ``n`` lowest numbers of each row, ascending."""
    if n >= priority.shape[1]:
        return priority.argsort(1)
    each = np.arange(len(priority))[:, None]
    places = priority.argpartition(n - 1, axis=1)[:, :n]
    return places[each, priority[each, places].argsort(1)]


def _counted(segments: Segments, samples: Any, labels: Any, features: Any, n_thresholds: int, k: int) -> Candidates:
    """Candidates ``(N, w, k)`` with features ``(N, w)``, whether they part the samples or not."""
    values = _lent(segments, samples, features, n_thresholds, k)
    n_tried, n_classes, owner = features.shape[1], segments.totals.shape[1], segments.owner
    own = samples.reshape(-1).take(segments.rows * samples.shape[1] + features.T.take(owner, 1))
    place, n_places = _placed_between(own, values, owner)
    place += (owner * (n_classes - 1) + labels[segments.rows]) * (n_tried * n_places)
    between = np.bincount(place.reshape(-1), minlength=len(features) * n_classes * n_tried * n_places)
    left = between.reshape(-1, n_classes, n_tried, n_places)[:, :, :, :k].cumsum(3)
    return Candidates(features, values, left, segments.totals)


def _lent(segments: Segments, samples: Any, features: Any, n_thresholds: int, k: int) -> Any:
    """Thresholds ``(N, w, k)`` of features ``(N, w)``."""
    flat, n_all, sizes = samples.reshape(-1), samples.shape[1], segments.sizes

    def read(nodes: Any, n_lenders: int) -> Any:
        within, size = np.arange(n_lenders), sizes[nodes][:, None]
        places = (segments.ends - sizes)[nodes][:, None] + np.minimum(within, size - 1)
        found = flat.take((segments.rows * n_all).take(places)[:, None, :] + features[nodes][:, :, None])
        is_none = np.isnan(found)
        is_none |= (within >= size)[:, None, :]
        found[is_none] = _MAX
        return np.clip(found, -_MAX, _MAX, out=found)

    values = read(slice(None), k)
    values.sort(axis=2)
    if k == n_thresholds:
        # Mostly no two are alike in the first samples that are read.
        more = np.flatnonzero((sizes > n_thresholds) & ~(values[:, :, 1:] > values[:, :, :-1]).all((1, 2)))
        if len(more):
            values[more] = _first_distinct(read(more, min(LENDERS * n_thresholds, int(sizes.max()))), k)
    return values


def _first_distinct(values: Any, k: int) -> Any:
    """The first ``k`` different numbers of each row, ascending, and the highest of all where there are fewer."""
    bits = values.view(np.uint32)
    in_order = bits ^ ((np.uint32(0) - (bits >> np.uint32(31))) | np.uint32(0x80000000))
    packed = in_order.astype(np.uint64) << np.uint64(32) | np.arange(values.shape[2], dtype=np.uint64)
    packed.sort(axis=2)
    is_first = np.ones(values.shape, dtype=bool)
    is_first[:, :, 1:] = packed[:, :, 1:] >> np.uint64(32) != packed[:, :, :-1] >> np.uint64(32)
    is_chosen = np.empty_like(is_first)
    np.put_along_axis(is_chosen, (packed & np.uint64(0xFFFFFFFF)).astype(np.int64), is_first, axis=2)
    rank = is_chosen.cumsum(2, dtype=np.int32)
    is_chosen &= rank <= k
    return np.sort(np.where(is_chosen, values, _MAX), axis=2)[:, :, :k]


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
    padded = padded.reshape(-1)
    np.copyto(own, np.inf, where=np.isnan(own))
    place = owner * (n_tried * n_places) + np.arange(0, n_tried * n_places, n_places)[:, None]
    step, dtype = n_places >> 1, np.min_scalar_type(n_places)
    while step:
        # Halving without branches, all values in step: their thresholds are few, and stay in the processor's cache.
        is_above = padded[step - 1 :].take(place, mode="clip") < own
        place += is_above.view(np.uint8) * dtype.type(step)
        step >>= 1
    return place, n_places
