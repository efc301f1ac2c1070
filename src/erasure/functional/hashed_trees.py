"""Trees that are a function of the samples in them: grown, and mended where samples are deleted, many trees and nodes at once.

Nodes of a tree are numbered from the root, children of ``i`` being ``2 i + 1`` and ``2 i + 2``; those of tree ``t`` have ``t`` times the
width of a tree added. A path is the way from the root to a leaf in bits, the first the highest of as many as a tree can have levels.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from erasure.functional.candidate_splits import Candidates, Segments, candidates_again, candidates_of, first_features, mixed

__all__ = ["KEPT_FROM", "Kept", "Trees"]

KEPT_FROM = 192
"""Nodes with more samples, and more than thresholds, keep the counts of their candidates; in others they are counted again."""

_ROWS_AT_ONCE = 1 << 16
_PAIRS_AT_ONCE = 1 << 14
_SHARE = 16
"""A node that loses more than one of so many samples is counted again."""


def _placed(ascending: Any, values: Any) -> tuple[Any, Any]:
    """Where values are in an ascending array, and which of them are there at all."""
    places = np.minimum(ascending.searchsorted(values), max(len(ascending) - 1, 0))
    return places, ascending[places] == values if len(ascending) else np.zeros(len(values), dtype=bool)


def _by_number(numbers: Any, end: int) -> Any:
    """The order that sorts whole numbers below an end, of equals as they stand: with 16 bits a pass or two do it."""
    return numbers.astype(np.uint16 if end <= 1 << 16 else np.int64).argsort(kind="stable")


@dataclass(eq=False)
class Kept:
    """What large nodes keep of their candidates, ascending by node.

    Args:
        nodes: ``(M,)``, int64.
        last: ``(M,)``, uint64: the highest key of a sample that lends a value.
        features: ``(M, p)``, int64; as in :class:`Candidates`.
        thresholds: ``(M, p, k)``, float32.
        left: ``(M, p, k, C)``, int32.
    """

    nodes: Any
    last: Any
    features: Any
    thresholds: Any
    left: Any

    NAMES = ("nodes", "last", "features", "thresholds", "left")

    def candidates(self, places: Any) -> Candidates:
        """Those of some nodes.

        Args:
            places: Of the nodes, among all.
        """
        return Candidates(self.features[places], self.thresholds[places], self.left[places])

    def pick(self, is_wanted: Any) -> Kept:
        """What some of the nodes keep.

        Args:
            is_wanted: ``(M,)``, bool.
        """
        return Kept(*(getattr(self, name)[is_wanted] for name in self.NAMES))

    def replace(self, new: list[Kept], stays: Any) -> None:
        """Take in what was counted, in place of what there is, and drop what does not stay.

        Args:
            new: No node twice.
            stays: Which of those that are there do, if they are not counted anew.
        """
        nodes = np.concatenate([self.nodes[:0], *(each.nodes for each in new)])
        places, is_there = _placed(self.nodes, nodes)
        stays = stays.copy()
        stays[places[is_there]] = True
        if is_there.all() and stays.all():
            for each in new:
                places = self.nodes.searchsorted(each.nodes)
                for name in self.NAMES:
                    getattr(self, name)[places] = getattr(each, name)
            return
        stays[places[is_there]] = False
        old_places = np.flatnonzero(stays)
        nodes = np.sort(np.concatenate([self.nodes[old_places], nodes]))
        new_places = nodes.searchsorted(self.nodes[old_places])
        # Most nodes stay beside one another: they are copied in stretches.
        breaks = np.flatnonzero((np.diff(old_places) != 1) | (np.diff(new_places) != 1)) + 1
        ends = itertools.pairwise([0, *breaks.tolist(), len(old_places)])
        stretches = [(int(new_places[a]), int(old_places[a]), b - a) for a, b in ends if b > a]
        for name in self.NAMES:
            old = getattr(self, name)
            joined = np.empty((len(nodes), *old.shape[1:]), dtype=old.dtype)
            for to, first, n in stretches:
                joined[to : to + n] = old[first : first + n]
            for each in new:
                joined[nodes.searchsorted(each.nodes)] = getattr(each, name)
            setattr(self, name, joined)


class Trees:
    """Arrays of trees, which growing and mending write to.

    Args:
        samples: ``(n, P)``, float32, contiguous.
        labels: ``(n,)``, int64, in ``[0, C)``.
        ids: ``(n,)``, uint64.
        salts: ``(T,)``, uint64, of the trees.
        feature: ``(T, W)``, int64: of each node, -1 in leaves and where there is none.
        threshold: ``(T, W)``, float32: the largest value that goes left.
        counts: ``(T, W, C)``, int64: samples of each class.
        paths: ``(T, n)``, int16: of each sample.
        kept: Of large nodes.
        max_depth: Levels below the root, at most 14.
        n_thresholds: Of a feature.
        random_depth: Levels at the top that split at random.
    """

    def __init__(
        self,
        *,
        samples: Any,
        labels: Any,
        ids: Any,
        salts: Any,
        feature: Any,
        threshold: Any,
        counts: Any,
        paths: Any,
        kept: Kept,
        max_depth: int,
        n_thresholds: int,
        random_depth: int,
    ) -> None:
        self.samples: Any = samples
        self.labels: Any = labels
        self.ids: Any = ids
        self.salts: Any = salts
        self.paths: Any = paths
        self.kept: Kept = kept
        self.max_depth: int = max_depth
        self.n_thresholds: int = n_thresholds
        self.random_depth: int = random_depth
        self.n_trees: int = counts.shape[0]
        self.width: int = counts.shape[1]
        self.n_classes: int = counts.shape[2]
        self.n_features: int = max(1, int(samples.shape[1] ** 0.5))
        self.feature: Any = feature.reshape(-1)
        self.threshold: Any = threshold.reshape(-1)
        self.counts: Any = counts.reshape(-1, self.n_classes)
        self.kept_from: int = max(KEPT_FROM, n_thresholds)
        self.new: list[Kept] = []

    # Growing

    def grow(self) -> None:
        """All trees from all samples."""
        n = len(self.labels)
        step = max(1, _ROWS_AT_ONCE // max(n, 1))
        for first in range(0, self.n_trees if n else 0, step):
            trees = np.arange(first, min(first + step, self.n_trees))
            keys = mixed(self.ids, self.salts[trees][:, None])
            order = keys.argsort(axis=1)
            roots = Segments(
                nodes=trees * self.width,
                sizes=np.full(len(trees), n),
                rows=order.reshape(-1),
                keys=np.take_along_axis(keys, order, 1).reshape(-1),
            )
            while len(roots.nodes):
                roots = self._settled(roots)
        self.kept.replace(self.new, np.ones(len(self.kept.nodes), dtype=bool))
        self.new = []

    def _settled(self, segments: Segments) -> Segments:
        """Count and split nodes of which nothing is there yet; returns the children of those that are split."""
        nodes, totals = segments.nodes, segments.class_counts(self.labels, self.n_classes)
        self.counts[nodes] = totals
        return self._split(segments, *self._chosen(segments, totals, np.zeros(len(nodes), dtype=np.int8)))

    def _split(self, segments: Segments, feature: Any, threshold: Any) -> Segments:
        """Write down the splits of nodes, and where samples end in leaves; returns the children of the others."""
        nodes, is_leaf = segments.nodes, feature < 0
        self.feature[nodes], self.threshold[nodes] = feature, threshold
        owner = segments.owner
        ends = is_leaf[owner]
        if ends.any():
            tree, _, path, _ = self._places(nodes)
            last = owner[ends]
            self.paths[tree[last], segments.rows[ends]] = path[last]
        return self._children(segments.pick(~is_leaf), feature[~is_leaf], threshold[~is_leaf])

    def _places(self, nodes: Any) -> tuple[Any, Any, Any, Any]:
        """Tree and depth of nodes, and the lowest path of samples in them and how many there are."""
        tree, own = np.divmod(nodes, self.width)
        depth = np.frexp(own + 1.0)[1] - 1
        return tree, depth, (own + 1 - (1 << depth)) << (self.max_depth - depth), 1 << (self.max_depth - depth)

    def _can_split(self, totals: Any, nodes: Any) -> Any:
        _, depth, _, _ = self._places(nodes)
        return ((totals > 0).sum(1) >= 2) & (depth < self.max_depth)

    def _node_salts(self, nodes: Any) -> Any:
        tree = nodes // self.width
        return mixed((nodes - tree * self.width).astype(np.uint64), self.salts[tree] ^ np.uint64(0xA24BAED4963EE407))

    def _chosen(self, segments: Segments, totals: Any, told: Any) -> tuple[Any, Any]:
        """Feature and threshold of nodes, -1 and 0 of leaves; keeps the counts of large ones.

        Args:
            segments: The nodes.
            totals: ``(N, C)``, samples of each class.
            told: ``(N,)``, 0 where candidates are counted, 1 where the kept counts are right, 2 if a sample went that lent them values.
        """
        feature, threshold = np.full(len(totals), -1), np.zeros(len(totals), dtype=np.float32)
        can_split = self._can_split(totals, segments.nodes)
        is_told = can_split & (told > 0)
        if is_told.any():
            of_told = segments.pick(is_told)
            feature[is_told], threshold[is_told], is_right = self._told(of_told, totals[is_told], told[is_told] > 1)
            is_told[is_told] = is_right
        is_counted = can_split & ~is_told
        if is_counted.any():
            feature[is_counted], threshold[is_counted] = self._counted(segments.pick(is_counted), totals[is_counted])
        return feature, threshold

    def _told(self, segments: Segments, totals: Any, lost_lenders: Any) -> tuple[Any, Any, Any]:
        """Feature and threshold of nodes as their kept counts tell it, and whether these are still all that are to be looked at."""
        kept, at = self.kept, self.kept.nodes.searchsorted(segments.nodes)
        if lost_lenders.any():
            nodes, to = segments.pick(lost_lenders), at[lost_lenders]
            found, n_lent = candidates_again(nodes, self.samples, self.labels, kept.candidates(to), self.n_thresholds)
            kept.thresholds[to], kept.left[to] = found.thresholds, found.left
            kept.last[to] = nodes.keys[nodes.sizes.cumsum() - nodes.sizes + n_lent - 1]
        found = kept.candidates(at)
        is_valid = found.is_valid(totals)
        return *self._best(found, totals, is_valid, segments.nodes), found.all_part(is_valid)

    def _counted(self, segments: Segments, totals: Any) -> tuple[Any, Any]:
        salts = self._node_salts(segments.nodes)
        is_large = segments.sizes > self.kept_from
        found, is_valid, n_lent = candidates_of(
            segments,
            self.samples,
            self.labels,
            totals=totals,
            salts=salts,
            n_features=self.n_features,
            n_thresholds=self.n_thresholds,
        )
        if is_large.any():
            starts = (segments.sizes.cumsum() - segments.sizes)[is_large]
            counted = (each[is_large] for each in (found.features, found.thresholds, found.left))
            self.new.append(Kept(segments.nodes[is_large], segments.keys[starts + n_lent[is_large] - 1], *counted))
        return self._best(found, totals, is_valid, segments.nodes)

    def _best(self, found: Candidates, totals: Any, is_valid: Any, nodes: Any) -> tuple[Any, Any]:
        is_random = nodes % self.width < (1 << self.random_depth) - 1
        if not is_random.any():
            return found.best(totals, is_valid)
        if is_random.all():
            return found.random(totals, is_valid, self._node_salts(nodes))
        feature, threshold = np.empty(len(nodes), dtype=np.int64), np.empty(len(nodes), dtype=np.float32)
        for part in (is_random, ~is_random):
            of_part = Candidates(found.features[part], found.thresholds[part], found.left[part])
            feature[part], threshold[part] = self._best(of_part, totals[part], is_valid[part], nodes[part])
        return feature, threshold

    def _children(self, segments: Segments, feature: Any, threshold: Any) -> Segments:
        if not len(segments.nodes):
            return segments
        owner = segments.owner
        goes_right = ~(self.samples[segments.rows, feature[owner]] <= threshold[owner])
        child = 2 * owner + goes_right
        order = _by_number(child, 2 * len(segments.nodes))
        tree = segments.nodes // self.width
        left = 2 * (segments.nodes - tree * self.width) + 1 + tree * self.width
        sizes = np.bincount(child, minlength=2 * len(left))
        return Segments(np.stack([left, left + 1], 1).reshape(-1), sizes, segments.rows[order], segments.keys[order])

    def _clear(self, nodes: Any) -> None:
        """Empty nodes and all below them."""
        tree, first = np.divmod(nodes, self.width)
        width = 1
        while len(first):
            part = (tree[:, None] * self.width + first[:, None] + np.arange(width)).reshape(-1)
            self.feature[part], self.threshold[part], self.counts[part] = -1, 0, 0
            first, width = 2 * first + 1, 2 * width
            tree, first = (each[first < self.width] for each in (tree, first))

    # Deleting

    def delete(self, rows: Any) -> None:
        """Mend the trees where samples are deleted; the samples themselves stay in the arrays.

        Args:
            rows: Samples to delete, ascending.
        """
        stays = np.ones(len(self.labels), dtype=bool)
        stays[rows] = False
        step = max(1, _PAIRS_AT_ONCE // len(rows))
        for first in range(0, self.n_trees, step):
            self._mend(np.arange(first, min(first + step, self.n_trees)), rows, stays)
        counts = self.counts[self.kept.nodes]
        # Nothing below a leaf or a node of another split has counts.
        self.kept.replace(self.new, (counts.sum(1) > self.kept_from) & ((counts > 0).sum(1) >= 2))
        self.new = []

    def _mend(self, trees: Any, rows: Any, stays: Any) -> None:
        """All nodes on the way of deleted samples at once; then, level by level, what hangs under those that are split otherwise."""
        tree, row = (each.reshape(-1) for each in np.meshgrid(trees, rows, indexing="ij"))
        depths = np.arange(self.max_depth + 1)
        path = self.paths[tree, row].astype(np.int64)
        way = (tree * self.width)[:, None] + (1 << depths) - 1 + (path[:, None] >> (self.max_depth - depths))
        is_there = np.ones(way.shape, dtype=bool)
        is_there[:, 1:] = self.feature[way[:, :-1]] >= 0
        pair = np.nonzero(is_there)[0]
        nodes, place = np.unique(way[is_there], return_inverse=True)
        new = self._split_again(*self._updated(nodes, place, row[pair], mixed(self.ids[row], self.salts[tree])[pair]), stays)
        while len(new.nodes):
            new = self._settled(new)

    def _split_again(self, nodes: Any, told: Any, stays: Any) -> Segments:
        """Split nodes again; returns the children of those that are split otherwise now.

        Args:
            nodes: Ascending.
            told: As :meth:`_chosen` takes it.
            stays: Which samples do.
        """
        # Whole depths from the root on, as many as are counted at once: below a node that changes nothing has to be looked at.
        _, depth, _, _ = self._places(nodes)
        sizes = np.bincount(depth, self.counts[nodes].sum(1), self.max_depth + 1).cumsum()
        changed = nothing = np.zeros(0, dtype=np.int64)
        new = Segments(nothing, nothing, nothing, np.zeros(0, dtype=np.uint64))
        first = 0
        while first <= self.max_depth:
            last = max(first + 1, int(sizes.searchsorted((sizes[first - 1] if first else 0) + _ROWS_AT_ONCE, "right")))
            part = (depth >= first) & (depth < last)
            part[part] = ~self._is_below(nodes[part], changed)
            first = last
            if not part.any():
                continue
            n_new, segments = len(self.new), self._members(nodes[part], stays)
            feature, threshold = self._chosen(segments, self.counts[segments.nodes], told[part])
            is_changed = (feature != self.feature[segments.nodes]) | (threshold != self.threshold[segments.nodes])
            changed = np.sort(np.concatenate([changed, segments.nodes[is_changed]]))
            is_changed &= ~self._is_below(segments.nodes, changed)
            self.new[n_new:] = [each.pick(~self._is_below(each.nodes, changed)) for each in self.new[n_new:]]
            counts = self.counts[segments.nodes[is_changed]]
            self._clear(segments.nodes[is_changed])
            self.counts[segments.nodes[is_changed]] = counts
            new = new.joined(self._split(segments.pick(is_changed), feature[is_changed], threshold[is_changed]))
        return new

    def _is_below(self, nodes: Any, others: Any) -> Any:
        """Which nodes hang, over however many levels, under one of others, which ascend."""
        tree, own = np.divmod(nodes, self.width)
        is_below = np.zeros(len(nodes), dtype=bool)
        for _ in range(self.max_depth if len(others) else 0):
            has_parent, own = own > 0, np.maximum(own - 1, 0) >> 1
            is_below |= has_parent & _placed(others, tree * self.width + own)[1]
        return is_below

    def _updated(self, node: Any, place: Any, row: Any, key: Any) -> tuple[Any, Any]:
        """Take deleted samples out of the counts of nodes.

        Args:
            node: ``(N,)``, nodes, ascending.
            place: Of the node of each pair of a deleted sample and a node.
            row: The sample of each pair.
            key: Its key.

        Returns:
            Nodes that have to be split again, and what is told of their candidates as :meth:`_chosen` takes it.
        """
        label = self.labels[row]
        gone = np.bincount(place * self.n_classes + label, minlength=len(node) * self.n_classes).reshape(-1, self.n_classes)
        totals = self.counts[node] - gone
        self.counts[node] = totals
        n, can_split = totals.sum(1), self._can_split(totals, node)
        again = (can_split | (self.feature[node] >= 0)) & (n > 0)
        self._clear(node[(n == 0) & (self.feature[node] >= 0)])
        told = np.zeros(len(node), dtype=np.int8)
        if not len(self.kept.nodes):
            return node[again], told[again]
        at, is_kept = _placed(self.kept.nodes, node)
        is_known = is_kept & can_split & (n > self.kept_from) & (gone.sum(1) * _SHARE < n)
        lends = np.zeros(len(node), dtype=bool)
        lends[place[key <= self.kept.last[at][place]]] = True
        lends &= is_known
        first = first_features(self._node_salts(node[lends]), self.samples.shape[1], self.n_features)
        is_known[lends] = (self.kept.features[at[lends]] == first).all(1)
        told[is_known] = 1 + lends[is_known]
        if is_known.any():
            chosen = is_known[place]
            self._take_out(at[place[chosen]], row[chosen], label[chosen])
        quick = np.flatnonzero(told == 1)
        if len(quick):
            nodes, found, left = node[quick], self.kept.candidates(at[quick]), totals[quick]
            is_valid = found.is_valid(left)
            feature, threshold = self._best(found, left, is_valid, nodes)
            is_same = (feature == self.feature[nodes]) & (threshold == self.threshold[nodes])
            again[quick[is_same & found.all_part(is_valid)]] = False
        return node[again], told[again]

    def _take_out(self, at: Any, row: Any, label: Any) -> None:
        features = self.kept.features[at]
        goes_left = self.samples[row[:, None], features][:, :, None] <= self.kept.thresholds[at]
        goes_left &= (features >= 0)[:, :, None]
        group = at * self.n_classes + label
        order = group.argsort(kind="stable")
        group, starts = np.unique(group[order], return_index=True)
        self.kept.left[group // self.n_classes, :, :, group % self.n_classes] -= np.add.reduceat(
            goes_left[order], starts, axis=0, dtype=np.int32
        )

    def _members(self, nodes: Any, stays: Any) -> Segments:
        """The samples that stay in nodes, which ascend."""
        tree, depth, path, n_paths = self._places(nodes)
        trees, place = np.unique(tree, return_inverse=True)
        # In each tree those from the first to the last path of its nodes are looked at.
        starts = np.searchsorted(place, np.arange(len(trees)))
        low = np.minimum.reduceat(path, starts)
        n_looked_at = np.maximum.reduceat(path + n_paths, starts) - low
        parts, ways = [], []
        for t, first, n in zip(trees.tolist(), low.tolist(), n_looked_at.tolist(), strict=True):
            paths = self.paths[t]
            parts.append(np.flatnonzero((paths - np.int16(first)).view(np.uint16) < n))
            ways.append(paths[parts[-1]])
        of_tree = np.repeat(np.arange(len(trees)), [len(each) for each in parts])
        rows, own = np.concatenate(parts), np.concatenate(ways)
        is_left = stays[rows]
        of_tree, rows, own = of_tree[is_left], rows[is_left], own[is_left]
        keys = mixed(self.ids[rows], self.salts[trees][of_tree])
        order = keys.argsort()
        own, of_tree, rows, keys = own[order], of_tree[order], rows[order], keys[order]
        owners, members = [], []
        for d in np.unique(depth).tolist():
            at = np.flatnonzero(depth == d)
            of_path = np.full((len(trees), 1 << d), -1)
            of_path[place[at], path[at] >> (self.max_depth - d)] = at
            owner = of_path[of_tree, own >> (self.max_depth - d)]
            members.append(np.flatnonzero(owner >= 0))
            owners.append(owner[members[-1]])
        owner, member = np.concatenate(owners), np.concatenate(members)
        member = member[_by_number(owner, len(nodes))]
        return Segments(nodes, np.bincount(owner, minlength=len(nodes)), rows[member], keys[member])
