"""Linear systems and eigenvalues of matrices that are known by their products with a vector."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from erasure.errors import Diverged

__all__ = ["DampedSolution", "conjugate_gradient", "damped_conjugate_gradient"]

_CANCELLED = 0.1
"""Share of a product outside the vectors so far below which rounding makes it worth while to take out twice what is inside."""

_SPANNED = 1e-6
"""Share of a product outside the vectors so far below which there is nothing outside but rounding."""


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
        Diverged: If ``A`` turns out not to be positive definite, or a product with it is not finite.

    Example:
        >>> conjugate_gradient(lambda x: 2 * x, torch.ones(3), max_steps=5, tolerance=1e-6)[0]
        tensor([0.5000, 0.5000, 0.5000])
    """
    size = float(b.norm())
    if size == 0.0:
        return torch.zeros_like(b), 0.0
    end = _steps(product, _State(torch.zeros_like(b), b.clone(), b.clone()), max_steps, tolerance * size)
    return end.x, float(end.residual.norm()) / size


class _State(NamedTuple):
    """Where conjugate gradients have got to."""

    x: Tensor
    residual: Tensor
    direction: Tensor


def _steps(product: Callable[[Tensor], Tensor], state: _State, max_steps: int, smallest: float) -> _State:
    """Steps until the residual is small."""
    x, residual, direction = state
    squared = residual.dot(residual)
    for _ in range(max_steps):
        if float(squared.sqrt()) <= smallest:
            break
        image = product(direction)
        curvature = direction.dot(image)
        if not math.isfinite(float(curvature)):
            raise Diverged(
                "the curvature along some direction is not finite: the model, or its loss on these samples, has diverged"
            )
        if not float(curvature) > 0:
            raise Diverged("the curvature is not positive along some direction; raise damping, or use curvature=gauss-newton")
        step = squared / curvature
        x, residual = x + step * direction, residual - step * image
        new = residual.dot(residual)
        direction, squared = residual + (new / squared) * direction, new
    return _State(x, residual, direction)


def damped_conjugate_gradient(
    product: Callable[[Tensor], Tensor], b: Tensor, *, damping: float, power_steps: int, max_steps: int, tolerance: float
) -> DampedSolution:
    r"""Solves :math:`(A + \lambda I) x = b` with lambda a multiple of the largest eigenvalue of ``A``, which is found on the way.

    The first products make an orthonormal basis in which ``A`` is tridiagonal (Lanczos). Its largest eigenvalue there is the damping's
    measure, and conjugate gradients of the damped matrix take their first steps in those coordinates, without another product.

    Args:
        product: ``x`` to ``A x``; ``A`` symmetric, shape ``(P, P)``.
        b: Right-hand side, ``(P,)``; what is orthogonal to it is found neither in the eigenvalue nor in the solution.
        damping: Multiple of the largest absolute eigenvalue.
        power_steps: Products for the eigenvalue at least, and vectors of length P that are kept.
        max_steps: Steps of conjugate gradients at most, those in coordinates among them.
        tolerance: Relative residual at which to stop.

    Raises:
        Diverged: If the damped matrix turns out not to be positive definite.

    Example:
        >>> found = damped_conjugate_gradient(
        ...     lambda x: 2 * x, torch.ones(3), damping=0.5, power_steps=2, max_steps=5, tolerance=1e-6
        ... )
        >>> found.largest, found.solution
        (2.0, tensor([0.3333, 0.3333, 0.3333]))
    """
    size = float(b.norm())
    if size == 0.0:
        return DampedSolution(torch.zeros_like(b), 0.0, 0.0, 0.0)
    basis, tridiagonal = _lanczos(product, b / size, power_steps)
    n_known = len(tridiagonal)
    largest = float(torch.linalg.eigvalsh(tridiagonal[:n_known, :n_known]).abs().max())
    shift = damping * largest
    # A direction after j steps lies in the first j + 1 vectors, and its product in one more, which is known too.
    small = torch.zeros(len(basis), len(basis), dtype=torch.float64)
    small[:n_known, :n_known] = tridiagonal[:n_known, :n_known]
    if len(basis) > n_known:
        small[n_known, n_known - 1] = tridiagonal[n_known - 1, n_known]
    start = torch.zeros(len(basis), dtype=torch.float64)
    start[0] = size
    n_steps = min(max_steps, n_known)
    state = _steps(lambda c: small @ c + shift * c, _State(torch.zeros_like(start), start, start), n_steps, tolerance * size)
    x, residual, direction = (each.to(b) @ basis for each in state)
    end = _steps(lambda each: product(each) + shift * each, _State(x, residual, direction), max_steps - n_steps, tolerance * size)
    return DampedSolution(end.x, float(end.residual.norm()) / size, largest, shift)


class DampedSolution(NamedTuple):
    """What :func:`damped_conjugate_gradient` finds.

    Args:
        solution: Shape ``(P,)``.
        residual: Relative to the right-hand side.
        largest: Largest absolute eigenvalue; from below.
        shift: ``lambda``.
    """

    solution: Tensor
    residual: float
    largest: float
    shift: float


def _lanczos(product: Callable[[Tensor], Tensor], start: Tensor, n_steps: int) -> tuple[Tensor, Tensor]:
    """Orthonormal vectors ``(k, P)``, and the matrix in them: ``(m, m + 1)``, float64, k being m + 1, or m if they span all there is."""
    basis, rows = start.new_empty(n_steps + 1, len(start)), torch.zeros(n_steps, n_steps + 1, dtype=torch.float64)
    basis[0] = start
    for j in range(n_steps):
        image, known = product(basis[j]), basis[: j + 1]
        size, inside = float(image.norm()), known @ image
        rest = torch.addmv(image, known.T, inside, alpha=-1)
        left = float(rest.norm())
        if left < _CANCELLED * size:
            rest = torch.addmv(rest, known.T, known @ rest, alpha=-1)
            left = float(rest.norm())
        rows[j, j] = float(inside[j])
        if left <= _SPANNED * size:
            return known, rows[: j + 1, : j + 2]
        rows[j, j + 1] = left
        if j + 1 < n_steps:
            rows[j + 1, j] = left
        torch.div(rest, left, out=basis[j + 1])
    return basis, rows
