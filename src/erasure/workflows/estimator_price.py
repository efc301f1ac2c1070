"""What a deletion request for an estimator of scikit-learn will cost: fits and scores on parts of the data, and a rehearsed answer."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["fitting_seconds", "scoring_seconds"]

_SHARES = (8, 4)
"""One sample in so many is fitted to, to learn how the time grows with their number."""
_WHOLE_S = 0.5
"""Seconds below which everything is fitted rather than foretold."""
_STEEPEST = 3.0
"""Largest power of the number of samples that a fit grows with."""
_SCORED = (256, 2048)
"""Samples that are scored to learn what one takes, and what does not grow with them."""


def fitting_seconds(estimator: Any, x: Any, y: Any) -> float:
    """Seconds of fitting an estimator from scratch: all of it where that is quick, else by the power law through two parts of the data.

    Args:
        estimator: It is not changed.
        x: Samples.
        y: Labels, or None.
    """
    from sklearn.base import clone
    from sklearn.utils import _safe_indexing

    n = x.shape[0] if hasattr(x, "shape") else len(x)
    order = np.random.default_rng(0).permutation(n)

    def fitted(share: int) -> float:
        some = np.sort(order[: n // share])
        given = [_safe_indexing(each, some) for each in (x, y) if each is not None]
        start = time.perf_counter()
        clone(estimator).fit(*given)
        return time.perf_counter() - start

    try:
        few = min(fitted(_SHARES[0]), fitted(_SHARES[0]))  # the first one loads what a fit needs
        if few * _SHARES[0] > _WHOLE_S:
            more = fitted(_SHARES[1])
            power = math.log(max(more / few, 1.0)) / math.log(_SHARES[0] / _SHARES[1])
            return float(more * _SHARES[1] ** min(power, _STEEPEST))
    except ValueError:  # a part may lack a class
        pass
    return fitted(1)


def scoring_seconds(score: Callable[[Any, Any], Any], x: Any, y: Any, wanted: int) -> float:
    """Seconds of scoring many samples, by the line through two parts of them.

    Args:
        score: ``estimator.score``.
        x: Samples.
        y: Labels.
        wanted: How many are to be scored.
    """
    from sklearn.utils import _safe_indexing

    n = x.shape[0] if hasattr(x, "shape") else len(x)
    sizes, took = [min(n, size) for size in _SCORED], []
    for size in (sizes[0], *sizes):  # the first time loads what a score needs
        some = np.arange(size)
        given = _safe_indexing(x, some), _safe_indexing(y, some)
        start = time.perf_counter()
        score(*given)
        took.append(time.perf_counter() - start)
    each = (took[2] - took[1]) / (sizes[1] - sizes[0]) if sizes[1] > sizes[0] else 0.0
    each = min(max(each, 0.0), took[2] / sizes[1])
    return took[2] + each * (wanted - sizes[1])
