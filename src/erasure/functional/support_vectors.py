"""A support vector machine with a radial kernel on single numbers, step by step as libsvm finds it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["Machine", "support_vectors"]

_LEAST_CURVATURE = 1e-12
_STEPS_BETWEEN = 1000
"""Steps after which samples are looked for that will not move again."""

Numbers = NDArray[np.float64]


class Machine(NamedTuple):
    r"""A machine that decides by the sign of :math:`b + \sum_i a_i e^{-(x - s_i)^2}`.

    Args:
        support: Positions of the support vectors among the samples, ascending.
        coefficients: Their coefficients, ``(s,)``.
        intercept: What is added.
    """

    support: NDArray[np.int64]
    coefficients: Numbers
    intercept: float


def support_vectors(x: Numbers, is_second: NDArray[np.bool_], *, penalty: float, tolerance: float = 1e-3) -> Machine:
    r"""The machine that libsvm finds with the kernel :math:`e^{-(x_i - x_j)^2}`, to the last bit, in half of its time.

    It makes the same steps: of all pairs that violate the conditions most, the one that gains most, and samples that will not move any
    more are left out for as long. A row of the kernel is computed when a step asks for it, in single precision as there, so that memory
    grows with the number of samples and not with its square.

    Args:
        x: The samples, ``(n,)``.
        is_second: Which of them are of the class that positive decisions mean, ``(n,)``; either class has one.
        penalty: C, the largest absolute coefficient.
        tolerance: By how much the conditions may be violated in the end.

    Raises:
        ValueError: If a sample is not finite, or a class has none.

    Source:
        Fan, Chen & Lin, JMLR 6 (2005), algorithm 2; Chang & Lin, LIBSVM (2011), sections 4 and 5.

    Example:
        >>> found = support_vectors(np.array([0.0, 1.0, 3.0]), np.array([False, False, True]), penalty=1.0)
        >>> found.support, found.coefficients.round(3)
        (array([0, 1, 2]), array([-0.486, -0.514,  1.   ]))
    """
    if not np.isfinite(x).all() or is_second.all() or not is_second.any():
        raise ValueError("samples must be finite, and of two classes")
    search = _Search(x, is_second, penalty, tolerance)
    search.run()
    return search.machine()


class _Search:
    r"""The state of a search. All arrays are in the reverse of libsvm's order, in which the last of equal values is chosen.

    ``violation`` is :math:`-y_i \nabla_i`; samples that may go up or down have 0 in ``up`` and ``down``, others minus infinity. Those
    that are left out for now are the first ``n_left_out``, and have no valid violation: ``of_bound`` has what those at their bound
    contribute to everybody's.
    """

    def __init__(self, x: Numbers, is_second: NDArray[np.bool_], penalty: float, tolerance: float) -> None:
        self.penalty, self.tolerance = penalty, tolerance
        # libsvm takes one class after the other; scikit-learn turns the sign, so that the second is positive.
        self.order = np.concatenate([np.flatnonzero(~is_second), np.flatnonzero(is_second)])[::-1].copy()
        self.y = np.where(is_second, -1.0, 1.0)[self.order]
        self.x = x[self.order]
        n = len(x)
        self.alpha, self.violation, self.of_bound = np.zeros(n), self.y.copy(), np.zeros(n)
        self.up, self.down = np.where(self.y > 0, 0.0, -np.inf), np.where(self.y > 0, -np.inf, 0.0)
        self.n_left_out, self.has_taken_back = 0, False
        self.buffers, self.rows = np.empty((3, n)), np.empty((2, n))
        self.exponents, self.rounded = np.empty(n), np.empty(n, np.float32)
        self.in_torch = torch.from_numpy(self.exponents)
        self._ordered()

    def _ordered(self) -> None:
        """What belongs to the samples in their present order, and views of those that take part."""
        self.squares, self.doubles = self.x * self.x, 2 * self.x
        part = slice(self.n_left_out, None)
        self.part = (self.violation[part], self.up[part], self.down[part], *(each[part] for each in (*self.buffers, *self.rows)))

    def row(self, number: int, out: Numbers) -> Numbers:
        """A row of the kernel in single precision."""
        np.add(self.squares, self.squares[number], out=self.exponents)
        np.multiply(self.doubles, self.x[number], out=out)
        np.subtract(out, self.exponents, out=self.exponents)
        torch.exp(self.in_torch, out=self.in_torch)
        np.copyto(self.rounded, self.exponents, casting="same_kind")
        np.copyto(out, self.rounded)
        return out

    def run(self) -> None:
        """Step until no pair violates the conditions by more than the tolerance."""
        left = min(len(self.x), _STEPS_BETWEEN) + 1
        while True:
            left -= 1
            if left == 0:
                left = min(len(self.x), _STEPS_BETWEEN)
                self.leave_out()
            pair = self.pair()
            if pair is None:
                self.take_back()
                pair = self.pair()
                if pair is None:
                    return
                left = 1
            self.step(*pair)

    def pair(self) -> tuple[int, int] | None:
        """The pair to move, and in ``rows`` the first one's row of the kernel; None if there is none."""
        violation, up, down, differences, gains, curvature, of_first, _ = self.part
        i = int(np.add(violation, up, out=differences).argmax())
        largest = differences[i]
        np.subtract(largest, violation, out=differences)
        np.add(differences, down, out=differences)
        if not np.isfinite(largest) or differences.max() < self.tolerance:
            return None
        i += self.n_left_out
        self.row(i, self.rows[0])
        np.maximum(np.subtract(1.0, of_first, out=curvature), _LEAST_CURVATURE / 2, out=curvature)  # half of it, which is exact
        np.maximum(differences, 0.0, out=differences)
        np.multiply(differences, differences, out=gains)
        return i, self.n_left_out + int(np.divide(gains, curvature, out=gains).argmax())

    def step(self, i: int, j: int) -> None:
        """Move a pair as far as their sum or difference and the bounds allow."""
        alpha, y, largest = self.alpha, self.y, self.penalty
        of_i, of_j = self.rows[0], self.row(j, self.rows[1])
        before_i, before_j = float(alpha[i]), float(alpha[j])
        curvature = max(2.0 - 2.0 * float(of_i[j]), _LEAST_CURVATURE)
        move = float(self.violation[i] - self.violation[j]) / curvature
        if y[i] != y[j]:
            after_i, after_j = _with_difference(before_i, before_j, float(y[i]) * move, largest)
        else:
            after_i, after_j = _with_sum(before_i, before_j, -float(y[i]) * move, largest)
        alpha[i], alpha[j] = after_i, after_j

        violation, _, _, change, other, _, of_i_part, of_j_part = self.part
        np.multiply(of_i_part, float(y[i]) * (after_i - before_i), out=change)
        np.multiply(of_j_part, float(y[j]) * (after_j - before_j), out=other)
        np.subtract(violation, np.add(change, other, out=change), out=violation)
        for number, row, before, after in ((i, of_i, before_i, after_i), (j, of_j, before_j, after_j)):
            if (before >= largest) != (after >= largest):
                np.multiply(row, float(y[number]) * (-largest if after < largest else largest), out=self.buffers[0])
                np.subtract(self.of_bound, self.buffers[0], out=self.of_bound)
            may_rise, may_fall = (after < largest, after > 0) if y[number] > 0 else (after > 0, after < largest)
            self.up[number], self.down[number] = 0.0 if may_rise else -np.inf, 0.0 if may_fall else -np.inf

    def leave_out(self) -> None:
        """Leave out samples at a bound that nothing pulls away from it."""
        first = self.n_left_out
        violation = self.violation[first:]
        highest, lowest = (violation + self.up[first:]).max(), (self.down[first:] - violation).max()
        if not self.has_taken_back and highest + lowest <= 10 * self.tolerance:
            self.has_taken_back = True
            self.take_back()
            first, violation = 0, self.violation
        is_out = (self.up[first:] < 0) & (violation > highest) | (self.down[first:] < 0) & (-violation > lowest)
        n, places = len(self.x), list(range(len(self.x)))
        out = [*is_out[::-1].tolist()]  # in libsvm's order, as these positions
        active, at = len(out), 0
        while at < active:
            if out[at]:
                active -= 1
                while active > at:
                    if not out[active]:
                        places[n - 1 - at], places[n - 1 - active] = places[n - 1 - active], places[n - 1 - at]
                        out[at], out[active] = False, True
                        break
                    active -= 1
            at += 1
        self.n_left_out = n - active
        for name in ("order", "y", "x", "alpha", "violation", "of_bound", "up", "down"):
            setattr(self, name, getattr(self, name)[places])
        self._ordered()

    def take_back(self) -> None:
        """Take everybody back in, with violations as they are now."""
        out = slice(0, self.n_left_out)
        if not self.n_left_out:
            return
        self.violation[out] = self.of_bound[out] + self.y[out]
        is_free = (self.alpha > 0) & (self.alpha < self.penalty)
        for number in np.flatnonzero(is_free[self.n_left_out :])[::-1] + self.n_left_out:
            row = self.row(int(number), self.rows[0])
            self.violation[out] -= self.y[number] * self.alpha[number] * row[out]
        self.n_left_out = 0
        self._ordered()

    def machine(self) -> Machine:
        """What was found."""
        is_free = (self.alpha > 0) & (self.alpha < self.penalty)
        if is_free.any():
            offset = -sum(self.violation[is_free][::-1].tolist()) / int(is_free.sum())
        else:
            offset = float((self.down - self.violation).max() - (self.up + self.violation).max()) / 2
        coefficients = np.zeros(len(self.x))
        coefficients[self.order] = -self.y * self.alpha
        support = np.flatnonzero(coefficients)
        return Machine(support, coefficients[support], offset)


def _with_difference(i: float, j: float, move: float, largest: float) -> tuple[float, float]:
    difference = i - j
    i, j = i + move, j + move
    if difference > 0 and j < 0:
        i, j = difference, 0.0
    elif difference <= 0 and i < 0:
        i, j = 0.0, -difference
    if difference > 0 and i > largest:
        i, j = largest, largest - difference
    elif difference <= 0 and j > largest:
        i, j = largest + difference, largest
    return i, j


def _with_sum(i: float, j: float, move: float, largest: float) -> tuple[float, float]:
    total = i + j
    i, j = i - move, j + move
    if total > largest and i > largest:
        i, j = largest, total - largest
    elif total <= largest and j < 0:
        i, j = total, 0.0
    if total > largest and j > largest:
        i, j = total - largest, largest
    elif total <= largest and i < 0:
        i, j = 0.0, total
    return i, j
