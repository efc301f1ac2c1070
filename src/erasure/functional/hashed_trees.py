"""Trees that are a function of the samples in them: grown, and mended where samples are deleted, many trees and nodes at once.

Nodes of a tree are numbered from the root, children of ``i`` being ``2 i + 1`` and ``2 i + 2``; those of tree ``t`` have ``t`` times the
width of a tree added. A path is the way from the root to a leaf in bits, the first the highest of as many as a tree can have levels.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from erasure.functional.candidate_splits import Segments, candidates_of, counts_of, mixed

__all__ = ["Trees"]

_ROWS_AT_ONCE = 1 << 16
_PAIRS_AT_ONCE = 1 << 14
_PLACES_AT_ONCE = 1 << 20


def _by_number(numbers: Any, end: int) -> Any:
    """The order that sorts whole numbers below an end, of equals as they stand: with 16 bits a pass or two do it."""
    return numbers.astype(np.uint16 if end <= 1 << 16 else np.int64).argsort(kind="stable")


@functools.lru_cache(maxsize=4)
def _levels(max_depth: int) -> tuple[Any, Any, Any]:
    """Of each node of a tree its depth, the lowest path of samples in it, and how many paths there are."""
    own = np.arange(2 ** (max_depth + 1) - 1)
    depth = np.frexp(own + 1.0)[1].astype(np.int64) - 1
    return depth, (own + 1 - (1 << depth)) << (max_depth - depth), 1 << (max_depth - depth)


class Trees:
    """Arrays of trees, which growing and mending write to.

    Samples stand in the order of their hashes, and each tree has a place among them: in a tree, the first is the one that follows it, and
    after the last come those before. Which samples come first in a node is then told by the order in which they are stored.

    Args:
        samples: ``(n, P)``, float32, contiguous.
        labels: ``(n,)``, int64, in ``[0, C)``.
        hashes: ``(n,)``, uint64, ascending.
        places: ``(T,)``, uint64, of the trees, among hashes.
        salts: ``(T,)``, uint64, of the trees.
        feature: ``(T, W)``, int64: of each node, -1 in leaves and where there is none.
        threshold: ``(T, W)``, float32: the largest value that goes left.
        counts: ``(T, W, C)``, int64: samples of each class.
        paths: ``(T, n)``, int16: of each sample.
        last: ``(T, W)``, uint64: how far from the place of the tree the last sample is on which the split of a node depends, or that it has
            none; 0 where it cannot have any.
        max_depth: Levels below the root, at most 14.
        n_thresholds: Of a feature.
        n_split_samples: So many samples, the first, choose the split of a node.
        random_depth: Levels at the top that split at random.
    """

    def __init__(
        self,
        *,
        samples: Any,
        labels: Any,
        hashes: Any,
        places: Any,
        salts: Any,
        feature: Any,
        threshold: Any,
        counts: Any,
        paths: Any,
        last: Any,
        max_depth: int,
        n_thresholds: int,
        n_split_samples: int,
        random_depth: int,
    ) -> None:
        self.samples: Any = samples
        self.labels: Any = labels
        self.hashes: Any = hashes
        self.places: Any = places
        self.salts: Any = salts
        self.paths: Any = paths
        self.max_depth: int = max_depth
        self.n_thresholds: int = n_thresholds
        self.n_split_samples: int = n_split_samples
        self.random_depth: int = random_depth
        self.n_trees: int = counts.shape[0]
        self.width: int = counts.shape[1]
        self.n_classes: int = counts.shape[2]
        self.n_features: int = max(1, int(samples.shape[1] ** 0.5))
        self.feature: Any = feature.reshape(-1)
        self.threshold: Any = threshold.reshape(-1)
        self.counts: Any = counts.reshape(-1, self.n_classes)
        self.last: Any = last.reshape(-1)
        self.n_before: Any = hashes.searchsorted(places)

    # Growing

    def grow(self) -> None:
        """All trees from all samples."""
        n = len(self.labels)
        step = max(1, _ROWS_AT_ONCE // max(n, 1))
        for first in range(0, self.n_trees if n else 0, step):
            trees = np.arange(first, min(first + step, self.n_trees))
            rows = (np.arange(n) + self.n_before[trees][:, None]) % n
            totals = np.bincount(self.labels, minlength=self.n_classes)[None].repeat(len(trees), 0)
            roots = Segments(trees * self.width, np.full(len(trees), n), rows.reshape(-1), totals)
            while len(roots.nodes):
                roots = self._settled(roots)

    def _settled(self, segments: Segments) -> Segments:
        """Count and split nodes of which nothing is there yet; returns the children of those that are split."""
        self.counts[segments.nodes] = segments.totals
        return self._split(segments, *self._chosen(segments))

    def _split(self, segments: Segments, feature: Any, threshold: Any) -> Segments:
        """Write down the splits of nodes, and where samples end in leaves; returns the children of the others."""
        nodes, is_leaf = segments.nodes, feature < 0
        self.feature[nodes], self.threshold[nodes] = feature, threshold
        if is_leaf.any():
            tree, _, path, _ = self._places(nodes)
            ends = is_leaf.repeat(segments.sizes)
            last = segments.owner[ends]
            self.paths[tree[last], segments.rows[ends]] = path[last]
            segments, feature, threshold = segments.pick(~is_leaf), feature[~is_leaf], threshold[~is_leaf]
        return self._children(segments, feature, threshold)

    def _places(self, nodes: Any) -> tuple[Any, Any, Any, Any]:
        """Tree and depth of nodes, and the lowest path of samples in them and how many there are."""
        tree, own = np.divmod(nodes, self.width)
        depth, low, n_paths = _levels(self.max_depth)
        return tree, depth[own], low[own], n_paths[own]

    def _can_split(self, totals: Any, nodes: Any) -> Any:
        is_mixed = np.count_nonzero(totals, axis=1) >= 2
        return is_mixed & (nodes % self.width < self.width >> 1)

    def _chosen(self, segments: Segments) -> tuple[Any, Any]:
        """Feature and threshold of nodes, -1 and 0 of leaves; writes down which samples they depend on."""
        n = len(segments.nodes)
        feature, threshold, last = np.full(n, -1), np.zeros(n, dtype=np.float32), np.zeros(n, dtype=np.uint64)
        can_split = self._can_split(segments.totals, segments.nodes)
        if can_split.any():
            of_nodes = segments.pick(can_split).first(self.n_split_samples, self.labels)
            feature[can_split], threshold[can_split], last[can_split] = self._split_of(of_nodes)
            # Where the first samples are alike, all are looked at.
            rest = can_split & (feature < 0) & (segments.sizes > self.n_split_samples)
            if rest.any():
                feature[rest], threshold[rest], last[rest] = self._split_of(segments.pick(rest))
        self.last[segments.nodes] = last
        return feature, threshold

    def _split_of(self, segments: Segments) -> tuple[Any, Any, Any]:
        """Feature and threshold of nodes by samples of them, and how far the last of these is; -1 and 0 where none parts them."""
        tree, own = np.divmod(segments.nodes, self.width)
        salts = mixed(own.astype(np.uint64), self.salts[tree] ^ np.uint64(0xA24BAED4963EE407))
        found = candidates_of(
            segments, self.samples, self.labels, salts=salts, n_features=self.n_features, n_thresholds=self.n_thresholds
        )
        # Samples of one class cannot tell which split is good.
        is_random = (own < (1 << self.random_depth) - 1) | (np.count_nonzero(segments.totals, axis=1) < 2)
        far = self.hashes[segments.rows[segments.ends - 1]] - self.places[tree]
        if not is_random.any():
            feature, threshold = found.best()
        elif is_random.all():
            feature, threshold = found.random(salts)
        else:
            feature, threshold = np.empty(len(own), dtype=np.int64), np.empty(len(own), dtype=np.float32)
            feature[is_random], threshold[is_random] = found.pick(is_random).random(salts[is_random])
            feature[~is_random], threshold[~is_random] = found.pick(~is_random).best()
        return feature, threshold, far

    def _children(self, segments: Segments, feature: Any, threshold: Any) -> Segments:
        if not len(segments.nodes):
            return segments
        owner, rows = segments.owner, segments.rows
        own = self.samples.reshape(-1).take(rows * self.samples.shape[1] + feature.take(owner))
        child = 2 * owner + 1 - (own <= threshold.take(owner))
        totals = counts_of(child, self.labels[rows], (2 * len(segments.nodes), self.n_classes))
        tree, own = np.divmod(segments.nodes, self.width)
        left = 2 * own + 1 + tree * self.width
        nodes = np.stack([left, left + 1], 1).reshape(-1)
        return Segments(nodes, totals.sum(1), rows[_by_number(child, len(nodes))], totals)

    def _clear(self, nodes: Any) -> None:
        """Empty all below nodes."""
        tree, own = np.divmod(nodes, self.width)
        first, width = 2 * own + 1, 2
        while len(first):
            is_there = first < self.width
            tree, first = tree[is_there], first[is_there]
            part = (tree[:, None] * self.width + first[:, None] + np.arange(width)).reshape(-1)
            self.feature[part], self.threshold[part], self.counts[part], self.last[part] = -1, 0, 0, 0
            first, width = 2 * first + 1, 2 * width

    # Deleting

    def delete(self, rows: Any) -> None:
        """Mend the trees where samples are deleted; the samples themselves stay in the arrays.

        Args:
            rows: Samples to delete, ascending.
        """
        step = max(1, _PAIRS_AT_ONCE // len(rows))
        for first in range(0, self.n_trees, step):
            self._mend(np.arange(first, min(first + step, self.n_trees)), rows)

    def _mend(self, trees: Any, rows: Any) -> None:
        """All nodes on the way of deleted samples at once; then, level by level, what hangs under those that are split otherwise."""
        tree, row = trees.repeat(len(rows)), np.tile(rows, len(trees))
        depths = np.arange(self.max_depth + 1)
        path = self.paths[tree, row].astype(np.int64)
        self.paths[tree, row] = -1  # is in no node
        way = (tree * self.width)[:, None] + (1 << depths) - 1 + (path[:, None] >> (self.max_depth - depths))
        is_there = np.ones(way.shape, dtype=bool)
        is_there[:, 1:] = self.feature[way[:, :-1]] >= 0
        pair = np.nonzero(is_there)[0]
        nodes, place = np.unique(way[is_there], return_inverse=True)
        far = self.hashes[row] - self.places[tree]
        new = self._split_again(nodes[self._updated(nodes, place, row[pair], far[pair])])
        while len(new.nodes):
            new = self._settled(new)

    def _updated(self, nodes: Any, place: Any, row: Any, far: Any) -> Any:
        """Take deleted samples out of the counts of nodes; returns which have to be split again, shape ``(N,)``.

        Args:
            nodes: ``(N,)``, ascending.
            place: Of the node of each pair of a deleted sample and a node.
            row: The sample of each pair.
            far: How far it is from the place of its tree.
        """
        flat = place * self.n_classes + self.labels[row]
        self.counts[nodes] -= np.bincount(flat, minlength=len(nodes) * self.n_classes).reshape(-1, self.n_classes)
        is_again = ~self._can_split(self.counts[nodes], nodes) & (self.feature[nodes] >= 0)
        is_again[place[far <= self.last[nodes[place]]]] = True
        return is_again

    def _split_again(self, nodes: Any) -> Segments:
        """Split nodes, which ascend, again; returns the children of those that are split otherwise now."""
        # Whole depths from the root on, as many as are counted at once: below a node that changes nothing has to be looked at.
        _, depth, _, _ = self._places(nodes)
        sizes = np.bincount(depth, self.counts[nodes].sum(1), self.max_depth + 1).cumsum()
        changed = nothing = np.zeros(0, dtype=np.int64)
        new = Segments(nothing, nothing, nothing, nothing)
        first = 0
        while first <= self.max_depth:
            last = max(first + 1, int(sizes.searchsorted((sizes[first - 1] if first else 0) + _ROWS_AT_ONCE, "right")))
            part = (depth >= first) & (depth < last)
            part[part] = ~self._is_below(nodes[part], changed)
            first = last
            if not part.any():
                continue
            segments = self._members(nodes[part])
            feature, threshold = self._chosen(segments)
            is_changed = (feature != self.feature[segments.nodes]) | (threshold != self.threshold[segments.nodes])
            changed = np.concatenate([changed, segments.nodes[is_changed]])
            is_changed &= ~self._is_below(segments.nodes, changed)
            if is_changed.any():
                new = new.joined(self._split(segments.pick(is_changed), feature[is_changed], threshold[is_changed]))
                self._clear(segments.nodes[is_changed])
        return new

    def _is_below(self, nodes: Any, others: Any) -> Any:
        """Which nodes hang, over however many levels, under one of others."""
        tree, own = np.divmod(nodes, self.width)
        above = ((own[:, None] + 1) >> np.arange(1, self.max_depth + 1)) - 1  # -1 above the root
        is_other = np.isin(tree[:, None] * self.width + above, others)
        is_below: Any = (is_other & (above >= 0)).any(1)
        return is_below

    def _members(self, nodes: Any) -> Segments:
        """Nodes, which ascend, with their samples."""
        tree, depth, path, n_paths = self._places(nodes)
        trees, place = np.unique(tree, return_inverse=True)
        # In each tree those from the first to the last path of its nodes are looked at.
        starts = np.searchsorted(place, np.arange(len(trees)))
        low = np.minimum.reduceat(path, starts)
        end = (np.maximum.reduceat(path + n_paths, starts) - low).astype(np.uint16)[:, None]
        low = low.astype(np.int16)[:, None]
        n = len(self.labels)
        parts, step = [], max(1, _PLACES_AT_ONCE // n)
        for first in range(0, len(trees), step):
            some = slice(first, first + step)
            parts.append(np.flatnonzero((self.paths[trees[some]] - low[some]).view(np.uint16) < end[some]) + first * n)
        found = np.concatenate(parts)
        ends = found.searchsorted(np.arange(1, len(trees) + 1) * n)
        of_tree = np.repeat(np.arange(len(trees)), np.diff(ends, prepend=0))
        rows = found - of_tree * n
        way = (of_tree << self.max_depth) + self.paths[trees[of_tree], rows]
        # Depth by depth, from the root; those that are in no deeper node are left behind.
        owners, members, by_depth = [], [], depth.argsort(kind="stable")
        name = ((place << self.max_depth) + path)[by_depth]
        firsts = depth[by_depth].searchsorted(np.arange(self.max_depth + 2)).tolist()
        for d in range(self.max_depth + 1):
            if firsts[d] == firsts[d + 1]:
                continue
            of_way = np.full(len(trees) << d, -2)
            of_way[name[firsts[d + 1] :] >> (self.max_depth - d)] = -1
            of_way[name[firsts[d] : firsts[d + 1]] >> (self.max_depth - d)] = by_depth[firsts[d] : firsts[d + 1]]
            owner = of_way[way >> (self.max_depth - d)]
            inside = np.flatnonzero(owner > -2)
            if len(inside) < len(owner):
                rows, way, owner = rows[inside], way[inside], owner[inside]
            mine = owner >= 0
            owners.append(owner[mine])
            members.append(rows[mine])
        owner, rows = np.concatenate(owners), np.concatenate(members)
        totals = self.counts[nodes]
        after = 2 * owner + (rows < self.n_before[tree][owner])
        return Segments(nodes, totals.sum(1), rows[_by_number(after, 2 * len(nodes))], totals)
