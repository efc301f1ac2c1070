"""Where two models name the same class and where they do not. Pure: arrays in, plain values out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["confusion", "disagreements", "shown_classes"]

_MAX_CLASSES = 20


def confusion(labels: NDArray[Any], predictions: NDArray[Any], n_classes: int) -> NDArray[Any]:
    """How often each class (row) was called each class (column).

    Args:
        labels: ``(n,)`` whole numbers.
        predictions: ``(n,)`` whole numbers.
        n_classes: Number of classes; must be above every label and prediction.
    """
    flat = labels.astype(np.int64) * n_classes + predictions.astype(np.int64)
    return np.bincount(flat, minlength=n_classes * n_classes).reshape(n_classes, n_classes)


def shown_classes(first: NDArray[Any], second: NDArray[Any], most: int = _MAX_CLASSES) -> list[int]:
    """Classes that a figure has room for: all that occur, or those in which two confusion matrices differ most.

    Args:
        first: ``(K, K)`` counts.
        second: The same of another model on the same samples.
        most: How many there is room for.
    """
    occurs = first.sum(0) + first.sum(1) + second.sum(0)
    kept = np.flatnonzero(occurs)
    if len(kept) > most:
        change = np.abs(first - second)
        weight = change.sum(0) + change.sum(1)
        # What both models confuse alike comes after what they do not, and rare classes last.
        order = np.lexsort((-occurs[kept], -weight[kept]))
        kept = np.sort(kept[order[:most]])
    return [int(k) for k in kept]


def disagreements(
    ids: NDArray[Any],
    labels: NDArray[Any],
    first: NDArray[Any],
    second: NDArray[Any],
    name: Callable[[int], str],
    most: int = 200,
) -> dict[str, Any]:
    """How two models disagree: how often, in which pairs of classes, and on which samples.

    Args:
        ids: Position of each sample in the data set.
        labels: Class of each sample.
        first: Class that the first model names.
        second: Class that the second model names.
        name: What a class is called.
        most: Samples and pairs that are listed.
    """
    apart = np.flatnonzero(first != second)
    pairs, counts = np.unique(np.stack([first[apart], second[apart]], 1), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:most]
    return {
        "n": len(ids),
        "n_apart": len(apart),
        "right_first": int((first == labels).sum()),
        "right_second": int((second == labels).sum()),
        "only_first_right": int(((first == labels) & (second != labels)).sum()),
        "only_second_right": int(((second == labels) & (first != labels)).sum()),
        "pairs": [{"first": name(int(pairs[i][0])), "second": name(int(pairs[i][1])), "n": int(counts[i])} for i in order],
        "samples": [_sample(int(i), ids, labels, first, second, name) for i in apart[:most]],
    }


def _sample(
    i: int, ids: NDArray[Any], labels: NDArray[Any], first: Sequence[Any] | NDArray[Any], second: Any, name: Callable[[int], str]
) -> dict[str, Any]:
    return {"id": int(ids[i]), "label": name(int(labels[i])), "first": name(int(first[i])), "second": name(int(second[i]))}
