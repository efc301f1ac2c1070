"""A map of what two networks make of the same samples: both in one common basis of principal components."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["common_map", "evenly"]


def evenly(n: int, most: int) -> NDArray[Any]:
    """Positions of at most ``most`` of ``n`` samples, evenly spaced, the first and the last among them.

    Example:
        >>> evenly(5, 3).tolist()
        [0, 2, 4]
    """
    return np.unique(np.linspace(0, max(n - 1, 0), min(n, most)).round().astype(np.int64))


def common_map(first: NDArray[Any], second: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], tuple[float, float]]:
    """Two sets of vectors, projected onto the two directions in which both together vary most.

    Each is moved to its own mean first: how far apart two networks are says little, and would hide how each orders its samples. A
    direction points to where its largest component is positive, so that the same vectors always give the same map.

    Args:
        first: ``(n, d)``, finite, ``n >= 1``.
        second: ``(m, d)``, finite, ``m >= 1``.

    Returns:
        ``(n, 2)``, ``(m, 2)``, and the share of all variance along each of the two directions.

    Raises:
        ValueError: If the two have different widths, or one is empty.
    """
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"vectors of {first.shape[1]} and of {second.shape[1]} numbers have no common basis")
    if not len(first) or not len(second):
        raise ValueError("there are no vectors of finite numbers")
    centred = np.concatenate([first - first.mean(0), second - second.mean(0)])
    n, d = centred.shape
    if d <= n:
        basis = np.linalg.eigh(centred.T @ centred)[1]
        basis = basis[:, ::-1][:, :2]
    else:  # fewer vectors than numbers in each: the same directions from the smaller matrix
        weights = np.linalg.eigh(centred @ centred.T)[1]
        basis = centred.T @ weights[:, ::-1][:, :2]
        basis /= np.maximum(np.linalg.norm(basis, axis=0), 1e-300)
    if basis.shape[1] < 2:
        basis = np.hstack([basis, np.zeros((d, 2 - basis.shape[1]))])
    largest = np.abs(basis).argmax(0)
    basis = basis * np.where(basis[largest, [0, 1]] < 0, -1.0, 1.0)
    total = float((centred**2).sum())
    projected = centred @ basis
    shares = tuple(float((projected[:, k] ** 2).sum()) / total if total else 0.0 for k in (0, 1))
    return projected[: len(first)], projected[len(first) :], (shares[0], shares[1])
