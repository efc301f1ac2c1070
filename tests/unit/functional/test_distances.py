"""The reference implementation's formulas, written out with scipy on matrices that are really built."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import directed_hausdorff, jensenshannon
from scipy.special import kl_div

from erasure.functional.distances import DISTANCES, hausdorff

_SHAPES = [(4, 3), (4, 1), (2, 4), (2, 1), (1, 1)]


def _matrices(seed, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(shape, generator=generator, dtype=torch.float64) for shape in _SHAPES]


def _softmax(matrix):
    return torch.clamp(torch.softmax(matrix.flatten(), dim=0), 1e-5).numpy()


_UPSTREAM = {
    "l2norm": lambda a, b: float(torch.norm(a - b)),
    "hausdorff": lambda a, b: directed_hausdorff(a.numpy(), b.numpy())[0],
    "kldivergence": lambda a, b: kl_div(_softmax(a), _softmax(b)).sum(),
    "jsdistance": lambda a, b: jensenshannon(_softmax(a), _softmax(b)),
}


@pytest.mark.parametrize("scale", [0.1, 1.0, 6.0])
@pytest.mark.parametrize("name", DISTANCES)
def test_the_mean_over_matrices_is_upstreams(name, scale):
    first, second = _matrices(0, scale), _matrices(1, scale)
    expected = np.mean([_UPSTREAM[name](a, b) for a, b in zip(first, second, strict=True)])
    found = DISTANCES[name]([a[None] for a in first], [b[None] for b in second])
    assert found.shape == (1,) and float(found) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("scale", [0.1, 1.0, 6.0])
@pytest.mark.parametrize("name", DISTANCES)
def test_the_block_diagonal_form_is_upstreams_on_the_matrix_that_it_builds(name, scale):
    first, second = _matrices(2, scale), _matrices(3, scale)
    expected = _UPSTREAM[name](torch.block_diag(*first), torch.block_diag(*second))
    found = DISTANCES[name]([a[None] for a in first], [b[None] for b in second], block_diagonal=True)
    assert float(found) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("block_diagonal", [False, True])
@pytest.mark.parametrize("name", DISTANCES)
def test_a_batch_is_compared_one_by_one(name, block_diagonal):
    pairs = [(_matrices(seed), _matrices(10 + seed)) for seed in range(3)]
    alone = [
        float(DISTANCES[name]([a[None] for a in first], [b[None] for b in second], block_diagonal=block_diagonal))
        for first, second in pairs
    ]
    together = DISTANCES[name](
        *([torch.stack(each) for each in zip(*side, strict=True)] for side in zip(*pairs, strict=True)),
        block_diagonal=block_diagonal,
    )
    assert together.tolist() == pytest.approx(alone)


@pytest.mark.parametrize("name", DISTANCES)
def test_equal_matrices_have_no_distance(name):
    same = [m[None] for m in _matrices(4)]
    assert float(DISTANCES[name](same, same)) == pytest.approx(0.0, abs=1e-8)
    assert float(DISTANCES[name](same, same, block_diagonal=True)) == pytest.approx(0.0, abs=1e-8)


def test_many_rows_are_compared_in_parts():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(600, 5, generator=generator), torch.randn(700, 5, generator=generator)
    assert float(hausdorff([a[None]], [b[None]])) == pytest.approx(directed_hausdorff(a.double(), b.double())[0])


def test_a_single_matrix_is_its_own_block_diagonal():
    first, second = [torch.randn(1, 3, 2)], [torch.randn(1, 3, 2)]
    for distance in DISTANCES.values():
        assert float(distance(first, second, block_diagonal=True)) == pytest.approx(float(distance(first, second)), abs=1e-9)
