import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from erasure.errors import DataError
from erasure.functional.cka import alignment, gram


def _random(n, d, seed):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _feature_form(x, y):
    """Kornblith et al., on centred features."""
    x, y = x - x.mean(0), y - y.mean(0)
    return float((y.T @ x).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm()))


def _unbiased_hsic(k, m):
    """Song et al., equation (5), as it is printed."""
    n = len(k)
    k, m = k - torch.diag(torch.diag(k)), m - torch.diag(torch.diag(m))
    one = torch.ones(n, dtype=k.dtype)
    total = torch.trace(k @ m) + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ m @ one)
    return total / (n * (n - 3))


@pytest.mark.parametrize(("n", "d", "e"), [(20, 3, 5), (5, 40, 7), (8, 8, 8)])
def test_the_gram_form_is_the_feature_form(n, d, e):
    x, y = _random(n, d, 0), _random(n, e, 1)
    assert alignment(gram(x), gram(y)) == pytest.approx(_feature_form(x, y), abs=1e-12)


@pytest.mark.parametrize(("n", "d", "e"), [(20, 3, 5), (6, 40, 7)])
def test_the_unbiased_form_is_that_of_song_et_al(n, d, e):
    x, y = _random(n, d, 2), _random(n, e, 3)
    k, m = x @ x.T, y @ y.T
    expected = _unbiased_hsic(k, m) / (_unbiased_hsic(k, k) * _unbiased_hsic(m, m)).sqrt()
    assert alignment(gram(x), gram(y), unbiased=True) == pytest.approx(float(expected), abs=1e-10)


@settings(deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 10), st.booleans())
def test_rotation_scale_and_shift_change_nothing(seed, scale, unbiased):
    x, y = _random(12, 4, seed), _random(12, 6, seed + 1)
    rotation = torch.linalg.qr(_random(4, 4, seed + 2)).Q
    moved = scale * x @ rotation + 7
    assert alignment(gram(x), gram(moved), unbiased=unbiased) == pytest.approx(1.0)
    assert alignment(gram(moved), gram(y), unbiased=unbiased) == pytest.approx(alignment(gram(x), gram(y), unbiased=unbiased))


def test_the_unbiased_form_is_zero_on_average_for_unrelated_layers_and_the_biased_one_is_not():
    pairs = [(gram(_random(10, 50, seed)), gram(_random(10, 50, 1000 + seed))) for seed in range(200)]
    assert abs(sum(alignment(a, b, unbiased=True) for a, b in pairs) / 200) < 0.03
    assert sum(alignment(a, b) for a, b in pairs) / 200 > 0.7


def test_a_constant_layer_is_like_another_constant_one_only():
    constant, other = torch.full((6, 3), 0.1), _random(6, 3, 0)
    assert alignment(gram(constant), gram(constant * 2 + 1)) == 1.0
    assert alignment(gram(constant), gram(other)) == 0.0
    assert alignment(gram(other), gram(constant), unbiased=True) == 0.0


def test_too_few_samples_are_refused():
    with pytest.raises(DataError, match="at least 2"):
        alignment(gram(torch.ones(1, 2)), gram(torch.ones(1, 2)))
    with pytest.raises(DataError, match="at least 4"):
        alignment(gram(torch.eye(3)), gram(torch.eye(3)), unbiased=True)
