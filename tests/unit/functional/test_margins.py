import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import entropy

from erasure.errors import DataError
from erasure.functional.margins import class_margin, histogram_divergence


def _normal(n, samples, seed=0, shift=0.0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, samples, generator=generator, dtype=torch.float64) * scale + shift


def _by_hand(mine, other, n_bins=20):
    """One sample at a time, by numpy's histogram and scipy's relative entropy."""
    found = []
    for a, b in zip(np.clip(mine.T, -100, 100), np.clip(other.T, -100, 100), strict=True):
        low, high = min(a.min(), b.min()), max(a.max(), b.max())
        p, q = (np.histogram(each, bins=n_bins, range=(low, high))[0] / len(each) for each in (a, b))
        found.append(entropy(p, np.where(p > 0, np.maximum(q, 1e-5), q)))
    return np.array(found)


def test_margin_is_the_log_odds_of_the_right_class():
    logits, labels = _normal(50, 5), torch.arange(50) % 5
    others = [[z for k, z in enumerate(row) if k != label] for row, label in zip(logits.tolist(), labels.tolist(), strict=True)]
    expected = logits.numpy()[np.arange(50), labels] - logsumexp(np.array(others), axis=1)
    np.testing.assert_allclose(class_margin("classification", logits, labels), expected)
    p = logits.softmax(1)[torch.arange(50), labels]
    np.testing.assert_allclose(class_margin("classification", logits, labels), torch.logit(p))


def test_margin_keeps_apart_what_rounds_to_certainty():
    found = class_margin("classification", torch.tensor([[60.0, 0.0], [80.0, 0.0]]), torch.tensor([0, 0]))
    assert found.tolist() == [60.0, 80.0]


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_binary_margin_is_the_signed_logit(shape):
    logits = torch.tensor([1.0, 2.0, -3.0, -4.0]).reshape(shape)
    assert class_margin("binary", logits, torch.tensor([1, 0, 1, 0])).tolist() == [1.0, -2.0, -3.0, 4.0]


def test_margins_of_one_class_or_of_many_labels_are_refused():
    with pytest.raises(DataError, match="one class only"):
        class_margin("classification", torch.zeros(2, 1), torch.tensor([0, 0]))
    with pytest.raises(DataError, match="several labels"):
        class_margin("multilabel", torch.zeros(2, 3), torch.zeros(2, 3))


@pytest.mark.parametrize("scale", [1.0, 1e-3, 60.0])
def test_divergence_is_that_of_numpy_histograms_and_scipy_entropy(scale):
    mine, other = _normal(37, 80, scale=scale), _normal(23, 80, seed=1, shift=0.3, scale=1.4 * scale)
    np.testing.assert_allclose(histogram_divergence(mine, other), _by_hand(mine.numpy(), other.numpy()), atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-8, 8), min_size=2, max_size=12), st.lists(st.integers(-8, 8), min_size=1, max_size=12))
def test_divergence_of_values_on_bin_edges_is_that_of_numpy(mine, other):
    a, b = (torch.tensor(each, dtype=torch.float64).unsqueeze(1) for each in (mine, other))
    np.testing.assert_allclose(histogram_divergence(a, b), _by_hand(a.numpy(), b.numpy()), atol=1e-12)


def test_a_population_that_lies_on_the_last_edge_counts():
    # The authors' code drops the largest value, so that this case scored 0.
    top, low = torch.full((8, 1), 5.0), torch.zeros(8, 1)
    assert histogram_divergence(top, low).item() == pytest.approx(np.log(1 + 1e5))
    assert histogram_divergence(low, top).item() == pytest.approx(np.log(1 + 1e5))


def test_equal_populations_do_not_diverge():
    mine = _normal(20, 30)
    assert histogram_divergence(mine, mine.flip(0)).max() < 1e-12
    constant = torch.ones(5, 2)
    assert histogram_divergence(constant, constant).tolist() == [0.0, 0.0]


def test_margins_are_clipped():
    apart = torch.full((4, 1), 150.0), torch.full((4, 1), 1e9)
    assert histogram_divergence(*apart).item() == 0
    assert histogram_divergence(torch.full((4, 1), float("inf")), torch.full((4, 1), 100.0)).item() == 0


@pytest.mark.parametrize(("n", "expected"), [(32, 1.68), (100, 0.35), (200, 0.15), (500, 0.05)])
def test_null_value_of_two_populations_of_one_normal_distribution(n, expected):
    found = histogram_divergence(_normal(n, 2000), _normal(n, 2000, seed=1))
    error = float(found.std()) / 2000**0.5
    assert abs(float(found.mean()) - expected) < 3 * error + 0.006


def test_a_shift_of_one_sample_shows_in_that_sample():
    mine, other = _normal(200, 3), _normal(200, 3, seed=1)
    mine[:, 1] += 3
    assert histogram_divergence(mine, other).argmax() == 1
    assert histogram_divergence(mine, other)[1] > 2


def test_bad_populations_are_refused():
    with pytest.raises(DataError, match=r"found shapes \[3, 2\] and \[3, 4\]"):
        histogram_divergence(torch.zeros(3, 2), torch.zeros(3, 4))
    with pytest.raises(DataError, match="one side has none"):
        histogram_divergence(torch.zeros(0, 2), torch.zeros(3, 2))
    with pytest.raises(DataError, match="not numbers"):
        histogram_divergence(torch.full((3, 2), float("nan")), torch.zeros(3, 2))
