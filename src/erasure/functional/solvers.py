"""Linear systems and eigenvalues of matrices that are known by their products with a vector."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from erasure.errors import Diverged

__all__ = ["conjugate_gradient", "largest_eigenvalue"]


def conjugate_gradient(
    product: Callable[[Tensor], Tensor], b: Tensor, *, max_steps: int, tolerance: float
) -> tuple[Tensor, float]:
    """Solves ``A x = b`` for a positive definite ``A`` that is known by its products.

    Args:
        product: ``x`` to ``A x``.
        b: Right-hand side, ``(P,)``.
        max_steps: Steps at most; stopping early keeps the solution in the directions of large curvature.
        tolerance: Relative residual at which to stop.

    Returns:
        The solution and its relative residual.

    Raises:
        Diverged: If ``A`` turns out not to be positive definite.

    Example:
        >>> conjugate_gradient(lambda x: 2 * x, torch.ones(3), max_steps=5, tolerance=1e-6)[0]
        tensor([0.5000, 0.5000, 0.5000])
    """
    x, residual = torch.zeros_like(b), b.clone()
    direction, squared = residual.clone(), residual.dot(residual)
    size = float(b.norm())
    if size == 0.0:
        return x, 0.0
    for _ in range(max_steps):
        image = product(direction)
        curvature = direction.dot(image)
        if not float(curvature) > 0:
            raise Diverged("the curvature is not positive along some direction; raise damping, or use curvature=gauss-newton")
        step = squared / curvature
        x, residual = x + step * direction, residual - step * image
        new = residual.dot(residual)
        if float(new.sqrt()) <= tolerance * size:
            squared = new
            break
        direction, squared = residual + (new / squared) * direction, new
    return x, float(squared.sqrt()) / size


def largest_eigenvalue(product: Callable[[Tensor], Tensor], start: Tensor, *, steps: int) -> float:
    """Largest absolute eigenvalue of a symmetric matrix, by power iteration; from below.

    Args:
        product: ``x`` to ``A x``.
        start: The first vector, ``(P,)``; what is orthogonal to it is not found.
        steps: Products.

    Returns:
        The norm of the last product with a unit vector.

    Example:
        >>> largest_eigenvalue(lambda x: -3 * x, torch.ones(4), steps=2)
        3.0
    """
    vector, found = start, 0.0
    for _ in range(steps):
        size = float(vector.norm())
        if size == 0.0:
            return 0.0
        vector = product(vector / size)
        found = float(vector.norm())
    return found
