"""Kernels on arrays: the same function serves tensors, and NumPy where there is no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from erasure.types import Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["area_under_roc", "placements", "predicted", "rates"]

_Array = TypeVar("_Array", bound=Any)


def predicted(task: Task, logits: _Array) -> _Array:
    """Class that logits name for each sample: the largest one; of a single logit, or of each label, whether it is above 0.

    Args:
        task: How labels are read.
        logits: Tensor or array, ``(..., K)``; for ``binary`` ``(n,)`` or ``(n, 1)``.

    Returns:
        Whole numbers ``(...)`` for ``classification``, booleans ``(n,)`` for ``binary`` and ``(..., K)`` for ``multilabel``.
    """
    if task == "classification":
        return cast("_Array", logits.argmax(-1))
    positive = cast("_Array", logits > 0)
    return positive if task == "multilabel" else cast("_Array", positive.reshape(-1))


def placements(members: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
    """Share of the others that each member outranks, ties counting one half; float64.

    Args:
        members: Scores, ``(M,)``.
        others: Scores, ``(N,)``, ``N >= 1``.
    """
    import numpy as np

    ordered = np.sort(others)
    ranks = np.searchsorted(ordered, members, "left") + np.searchsorted(ordered, members, "right")
    return np.asarray(ranks / (2 * len(ordered)), dtype=np.float64)


def rates(scores: NDArray[Any], at: NDArray[Any]) -> NDArray[Any]:
    """Share of the scores that are at least each threshold, float64.

    Args:
        scores: ``(N,)``, ``N >= 1``.
        at: Thresholds, ``(T,)``.

    Example:
        >>> import numpy as np
        >>> rates(np.array([1.0, 2.0, 3.0]), np.array([2.0])).tolist()
        [0.6666666666666666]
    """
    import numpy as np

    ordered = np.sort(scores)
    return np.asarray((len(ordered) - np.searchsorted(ordered, at, "left")) / len(ordered))


def area_under_roc(members: NDArray[Any], others: NDArray[Any]) -> float:
    """How often a random member scores above a random other; ties count one half.

    Example:
        >>> import numpy as np
        >>> area_under_roc(np.array([0.9, 0.4]), np.array([0.4, 0.1]))
        0.875
    """
    return float(placements(members, others).mean())
