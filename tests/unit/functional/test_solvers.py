"""Damped linear systems whose damping is found on the way, against dense algebra."""

import pytest
import torch

from erasure.errors import Diverged
from erasure.functional.solvers import damped_conjugate_gradient


def symmetric(n=30, seed=0):
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))[0]
    return basis @ torch.diag(torch.logspace(-3, 2, n, dtype=torch.float64)) @ basis.T, torch.randn(
        n, generator=generator, dtype=torch.float64
    )


@pytest.mark.parametrize("power_steps", [1, 8, 30, 40])
def test_the_solution_is_that_of_dense_algebra(power_steps):
    matrix, b = symmetric()
    found = damped_conjugate_gradient(
        lambda x: matrix @ x, b, damping=0.01, power_steps=power_steps, max_steps=200, tolerance=1e-10
    )
    damped = matrix + found.shift * torch.eye(30, dtype=torch.float64)
    assert torch.allclose(found.solution, torch.linalg.solve(damped, b), atol=1e-8)
    assert found.residual <= 1e-10
    assert found.largest <= 100 + 1e-9
    assert power_steps == 1 or found.largest == pytest.approx(100, rel=0.01)


def test_the_first_steps_cost_no_further_products():
    matrix, b = symmetric()
    asked = []
    found = damped_conjugate_gradient(
        lambda x: asked.append(None) or matrix @ x, b, damping=1.0, power_steps=8, max_steps=200, tolerance=1e-2
    )
    assert found.residual <= 1e-2
    assert len(asked) == 8


def test_a_right_hand_side_in_an_invariant_subspace_is_solved_within_it():
    matrix = torch.diag(torch.tensor([1.0, 2.0, 5.0]))
    b = torch.tensor([3.0, 0.0, 4.0])
    found = damped_conjugate_gradient(lambda x: matrix @ x, b, damping=0.2, power_steps=8, max_steps=9, tolerance=1e-6)
    assert torch.allclose(found.solution, torch.tensor([1.5, 0.0, 2 / 3]), atol=1e-5)


def test_an_indefinite_matrix_is_refused_unless_the_damping_lifts_it():
    matrix, b = torch.diag(torch.tensor([4.0, -1.0])), torch.ones(2)

    def solved(damping):
        return damped_conjugate_gradient(
            lambda x: matrix @ x, b, damping=damping, power_steps=2, max_steps=9, tolerance=1e-6
        ).solution

    with pytest.raises(Diverged, match="raise damping"):
        solved(0.0)
    assert torch.allclose(solved(0.5), torch.tensor([1 / 6, 1.0]), atol=1e-5)
