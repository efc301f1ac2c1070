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
        # Of kept nodes on the way of a deleted sample: 1 if their counts are right without it, 2 if it lent them values.
        self.mended: Any = None
        self.found: dict[int, tuple[int, int, Any]] = {}

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
            for depth in range(self.max_depth + 1):
                if not len(roots.nodes):
                    break
                roots, _ = self._settled(roots, depth, np.ones(len(roots.nodes), dtype=bool))
        self.kept.replace(self.new, np.ones(len(self.kept.nodes), dtype=bool))
        self.new = []

    def _settled(self, segments: Segments, depth: int, is_new: Any) -> tuple[Segments, Any]:
        """Count and split nodes of one depth.

        Args:
            segments: The nodes.
            depth: Theirs.
            is_new: Which have nothing below them yet that could stay.

        Returns:
            The children of nodes that were split, and which of the nodes have new children: those that are new or split otherwise now.
        """
        nodes, totals = segments.nodes, segments.class_counts(self.labels, self.n_classes)
        feature, threshold = np.full(len(nodes), -1), np.zeros(len(nodes), dtype=np.float32)
        can_split = self._can_split(totals, depth)
        if can_split.any():
            feature[can_split], threshold[can_split] = self._chosen(segments.pick(can_split), totals[can_split], depth)
        changes = is_new | (feature != self.feature[nodes]) | (threshold != self.threshold[nodes])
        for node in nodes[changes & ~is_new].tolist():
            self._clear(node)
        self.feature[nodes], self.threshold[nodes], self.counts[nodes] = feature, threshold, totals
        owner, tree = segments.owner, nodes // self.width
        is_leaf = feature < 0
        path = (nodes - tree * self.width + 1 - (1 << depth)) << (self.max_depth - depth)
        ends = is_leaf[owner]
        if ends.any():
            last = owner[ends]
            self.paths[tree[last], segments.rows[ends]] = path[last]
        return self._children(segments.pick(~is_leaf), feature[~is_leaf], threshold[~is_leaf]), changes

    def _can_split(self, totals: Any, depth: int) -> Any:
        return (totals > 0).sum(1) >= (2 if depth < self.max_depth else self.n_classes + 1)

    def _node_salts(self, nodes: Any) -> Any:
        tree = nodes // self.width
        return mixed((nodes - tree * self.width).astype(np.uint64), self.salts[tree] ^ np.uint64(0xA24BAED4963EE407))

    def _chosen(self, segments: Segments, totals: Any, depth: int) -> tuple[Any, Any]:
        """Feature and threshold of nodes that can be split; keeps the counts of large ones."""
        feature, threshold = np.full(len(totals), -1), np.zeros(len(totals), dtype=np.float32)
        is_told = np.zeros(len(totals), dtype=bool)
        if self.mended is not None and len(self.kept.nodes):
            at, is_kept = _placed(self.kept.nodes, segments.nodes)
            is_told = is_kept & (self.mended[at] > 0)
        if is_told.any():
            feature[is_told], threshold[is_told], is_right = self._told(
                segments.pick(is_told), at[is_told], totals[is_told], depth
            )
            is_told[is_told] = is_right
        if not is_told.all():
            feature[~is_told], threshold[~is_told] = self._counted(segments.pick(~is_told), totals[~is_told], depth)
        return feature, threshold

    def _told(self, segments: Segments, at: Any, totals: Any, depth: int) -> tuple[Any, Any, Any]:
        """Feature and threshold of nodes as their kept counts tell it, and whether these are still all that are to be looked at."""
        kept, lost_lenders = self.kept, self.mended[at] > 1
        if lost_lenders.any():
            nodes, to = segments.pick(lost_lenders), at[lost_lenders]
            found, n_lent = candidates_again(nodes, self.samples, self.labels, kept.candidates(to), self.n_thresholds)
            kept.thresholds[to], kept.left[to] = found.thresholds, found.left
            kept.last[to] = nodes.keys[nodes.sizes.cumsum() - nodes.sizes + n_lent - 1]
        found = kept.candidates(at)
        is_valid = found.is_valid(totals)
        return *self._best(found, totals, is_valid, segments.nodes, depth), found.all_part(is_valid)

    def _counted(self, segments: Segments, totals: Any, depth: int) -> tuple[Any, Any]:
        salts = self._node_salts(segments.nodes)
        is_large = segments.sizes > self.kept_from
        found, n_lent = candidates_of(
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
        return self._best(found, totals, found.is_valid(totals), segments.nodes, depth)

    def _best(self, found: Candidates, totals: Any, is_valid: Any, nodes: Any, depth: int) -> tuple[Any, Any]:
        if depth < self.random_depth:
            return found.random(totals, is_valid, self._node_salts(nodes))
        return found.best(totals, is_valid)

    def _children(self, segments: Segments, feature: Any, threshold: Any) -> Segments:
        if not len(segments.nodes):
            return segments
        owner = segments.owner
        goes_right = ~(self.samples[segments.rows, feature[owner]] <= threshold[owner])
        child = 2 * owner + goes_right
        order = child.argsort(kind="stable")
        tree = segments.nodes // self.width
        left = 2 * (segments.nodes - tree * self.width) + 1 + tree * self.width
        sizes = np.bincount(child, minlength=2 * len(left))
        return Segments(np.stack([left, left + 1], 1).reshape(-1), sizes, segments.rows[order], segments.keys[order])

    def _clear(self, node: int) -> None:
        start = node // self.width * self.width
        first, width = node - start, 1
        while first < self.width:
            part = slice(start + first, start + first + width)
            self.feature[part], self.threshold[part], self.counts[part] = -1, 0, 0
            first, width = 2 * first + 1, 2 * width

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
        """Level by level: nodes on the way of a deleted sample, and nodes below one whose split changes, which are new."""
        tree, row = (each.reshape(-1) for each in np.meshgrid(trees, rows, indexing="ij"))
        self.found = {}
        path = self.paths[tree, row].astype(np.int64)
        key = mixed(self.ids[row], self.salts[tree])
        below, is_new = self._members(np.zeros(0, dtype=np.int64), 0, stays), np.zeros(0, dtype=bool)
        for depth in range(self.max_depth + 1):
            if not len(tree) and not is_new.any():
                return
            node = tree * self.width + (1 << depth) - 1 + (path >> (self.max_depth - depth))
            node, place = np.unique(node, return_inverse=True)
            again = node[self._updated(node, place, row, key, depth)]
            goes_on = self.feature[node] >= 0
            # The samples of nodes below one that was counted again are known, those of others are looked for.
            places, is_again = _placed(again, below.nodes)
            counted, is_missing = is_new | is_again, np.ones(len(again), dtype=bool)
            is_missing[places[is_again]] = False
            missing = again[is_missing]
            segments = below.pick(counted).joined(self._members(missing, depth, stays))
            is_new = np.concatenate([is_new[counted], np.zeros(len(missing), dtype=bool)])
            if len(segments.nodes):
                below, changes = self._settled(segments, depth, is_new)
                places, is_there = _placed(node, segments.nodes[changes])
                goes_on[places[is_there]] = False
                is_new = np.repeat(changes[self.feature[segments.nodes] >= 0], 2)
            else:
                below = segments
            on = goes_on[place]
            tree, row, path, key = tree[on], row[on], path[on], key[on]

    def _updated(self, node: Any, place: Any, row: Any, key: Any, depth: int) -> Any:
        """Take deleted samples out of the counts of nodes.

        Args:
            node: ``(N,)``, nodes of one depth.
            place: Of the node of each pair of a deleted sample and a node.
            row: The sample of each pair.
            key: Its key.
            depth: Of the nodes.

        Returns:
            Which nodes have to be counted again.
        """
        if not len(node):
            return np.zeros(0, dtype=bool)
        label = self.labels[row]
        gone = np.bincount(place * self.n_classes + label, minlength=len(node) * self.n_classes).reshape(-1, self.n_classes)
        totals = self.counts[node] - gone
        self.counts[node] = totals
        n, can_split = totals.sum(1), self._can_split(totals, depth)
        again = can_split | (self.feature[node] >= 0)
        again &= n > 0
        for each in node[(n == 0) & (self.feature[node] >= 0)].tolist():
            self._clear(each)
        if not len(self.kept.nodes):
            return again
        at, is_kept = _placed(self.kept.nodes, node)
        self.mended = np.zeros(len(self.kept.nodes), dtype=np.int8)
        is_known = is_kept & can_split & (n > self.kept_from) & (gone.sum(1) * _SHARE < n)
        lends = np.zeros(len(node), dtype=bool)
        lends[place[key <= self.kept.last[at][place]]] = True
        first = first_features(self._node_salts(node[lends]), self.samples.shape[1], self.n_features)
        is_known[lends] &= (self.kept.features[at[lends]] == first).all(1)
        if is_known.any():
            chosen = is_known[place]
            self._take_out(at[place[chosen]], row[chosen], label[chosen])
            self.mended[at[is_known]] = 1 + lends[is_known]
            quick = np.flatnonzero(is_known & ~lends)
            if len(quick):
                nodes, found, left = node[quick], self.kept.candidates(at[quick]), totals[quick]
                is_valid = found.is_valid(left)
                feature, threshold = self._best(found, left, is_valid, nodes, depth)
                is_same = (feature == self.feature[nodes]) & (threshold == self.threshold[nodes])
                again[quick[is_same & found.all_part(is_valid)]] = False
        return again

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

    def _members(self, nodes: Any, depth: int, stays: Any) -> Segments:
        """The samples that stay in nodes of one depth."""
        tree = nodes // self.width
        path = (nodes - tree * self.width + 1 - (1 << depth)).astype(self.paths.dtype)
        rows = []
        for t, p in zip(tree.tolist(), path, strict=True):
            # Samples below a node that was looked for before are among its own.
            above, prefix, among = self.found.get(t, (0, 0, None))
            if among is None or p >> (depth - above) != prefix:
                first, width = p << (self.max_depth - depth), 1 << (self.max_depth - depth)
                among = np.flatnonzero((self.paths[t].view(np.uint16) - np.uint16(first)) < width)
                among = among[stays[among]]
            else:
                among = among[(self.paths[t][among] >> (self.max_depth - depth)) == p]
            self.found[t] = depth, p, among
            rows.append(among)
        sizes = np.array([len(each) for each in rows], dtype=np.int64)
        found = np.concatenate([np.zeros(0, dtype=np.int64), *rows])
        owner = np.repeat(np.arange(len(nodes)), sizes)
        keys = mixed(self.ids[found], self.salts[tree[owner]])
        order = np.lexsort((keys, owner))
        return Segments(nodes, sizes, found[order], keys[order])
