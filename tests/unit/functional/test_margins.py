import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from erasure.errors import DataError
from erasure.functional.margins import epsilons, forgetting_scores, histogram_divergence


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


def _judged(wrong_mine, wrong_other, delta=1e-5):
    """ε of one threshold from its two error rates, or None if it cannot be judged."""
    if wrong_mine == 0 and wrong_other == 0:
        return 50.0
    if wrong_mine == 0 or wrong_other == 0:
        return None
    found = [0.0]
    for room, rate in ((1 - delta - wrong_other, wrong_mine), (1 - delta - wrong_mine, wrong_other)):
        if room > 0:
            found.append(np.log(room / rate))
    return max(found)


def _searched(mine, other, step, families="both"):
    """ε by trying every threshold of a grid, one sample, as the paper describes the attacks."""
    ranges = sorted([np.ptp(mine), np.ptp(other)])
    if ranges[0] < 0.01 * ranges[1]:
        return 50.0
    high, low = (mine, other) if np.median(mine) >= np.median(other) else (other, mine)
    pool = np.concatenate([mine, other])
    found = [((high < t).mean(), (low >= t).mean()) for t in np.arange(pool.min(), pool.max() + step, step)]
    inside, outside = (mine, other) if np.ptp(mine) <= np.ptp(other) else (other, mine)
    if families == "both":
        for right in np.arange(inside.max() - 2, inside.max() + 2 + step / 2, step):
            for left in np.arange(right - ranges[0] - 2, right - ranges[0] + 2 + step / 2, step):
                said = [(left <= each) & (each <= right) for each in (inside, outside)]
                found.append(((~said[0]).mean(), said[1].mean()))
    judged = [each for each in (_judged(*rates) for rates in found) if each is not None]
    if judged:
        return min(50.0, max(judged))
    return 50.0 if any(sum(rates) < 1 for rates in found) else 0.0


@pytest.mark.parametrize("families", ["both", "single"])
def test_epsilon_is_that_of_a_search_over_a_grid_that_misses_no_threshold(families):
    # All values are multiples of 1/2, so that a grid of step 1/4 has a threshold at and between any two; ties are frequent.
    generator = torch.Generator().manual_seed(3)
    for n, m, spread in ((5, 5, 6), (9, 6, 8), (6, 9, 20), (16, 16, 5), (3, 3, 2)):
        mine = (torch.randn(n, 12, generator=generator, dtype=torch.float64) * spread).round() / 2
        other = (torch.randn(m, 12, generator=generator, dtype=torch.float64) * spread * 0.6).round() / 2 + 1
        found = epsilons(mine, other, families=families)
        expected = [_searched(a, b, 0.25, families) for a, b in zip(mine.T.numpy(), other.T.numpy(), strict=True)]
        np.testing.assert_allclose(found, expected)


def test_epsilon_is_never_below_and_rarely_above_that_of_a_coarse_grid():
    mine, other = _normal(24, 6), _normal(24, 6, seed=1, shift=0.4)
    coarse = np.array([_searched(a, b, 0.04) for a, b in zip(mine.T.numpy(), other.T.numpy(), strict=True)])
    gap = epsilons(mine, other).numpy() - coarse
    assert gap.min() > -1e-9
    assert gap.mean() < 0.15


def test_populations_that_do_not_overlap_have_the_largest_epsilon_and_no_score():
    found = epsilons(_normal(16, 40), _normal(16, 40, seed=1, shift=20.0))
    assert found.tolist() == [50.0] * 40
    assert forgetting_scores(found, 512).sum() == 0


@pytest.mark.parametrize(
    ("families", "mean_epsilon", "score"), [("single", (1.1, 1.25), (0.31, 0.37)), ("both", (1.5, 1.65), (0.15, 0.21))]
)
def test_null_value_of_64_models_of_one_normal_distribution(families, mean_epsilon, score):
    found = epsilons(_normal(64, 800), _normal(64, 800, seed=1), families=families)
    assert mean_epsilon[0] < float(found.mean()) < mean_epsilon[1]
    assert score[0] < float(forgetting_scores(found, 64).mean()) < score[1]


def test_a_shift_of_half_a_standard_deviation_lowers_the_score():
    same = forgetting_scores(epsilons(_normal(64, 300), _normal(64, 300, seed=1)), 64).mean()
    shifted = forgetting_scores(epsilons(_normal(64, 300, shift=0.5), _normal(64, 300, seed=1)), 64).mean()
    assert shifted < same - 0.04


def test_constant_populations():
    # Equal ones cannot be told apart; different ones always; one that never varies stands out from one that does.
    ones = torch.ones(8, 1)
    assert epsilons(ones, ones).item() == 0
    assert epsilons(ones, 2 * ones).item() == 50
    assert epsilons(ones, _normal(8, 1, shift=1.0)).item() == 50


def test_which_population_comes_first_does_not_matter():
    mine, other = _normal(20, 100), _normal(20, 100, seed=1, scale=2.0)
    np.testing.assert_allclose(epsilons(mine, other), epsilons(other, mine))


def test_many_samples_are_handled_in_parts():
    # Some 9,500 samples of 10 + 10 models are handled at once.
    mine, other = _normal(10, 20_000), _normal(10, 20_000, seed=1)
    each = [epsilons(*parts) for parts in zip(mine.split(4000, 1), other.split(4000, 1), strict=True)]
    torch.testing.assert_close(epsilons(mine, other), torch.cat(each))


@pytest.mark.parametrize(("n_models", "n_bins"), [(512, 14), (64, 10), (32, 8), (3, 2), (2, 0)])
def test_scores_halve_with_every_half_and_end_where_the_models_cannot_resolve(n_models, n_bins):
    lower = torch.arange(20) / 2
    expected = [0.5**k if k < n_bins else 0.0 for k in range(20)]
    assert forgetting_scores(lower, n_models).tolist() == expected
    assert forgetting_scores(lower + 0.499, n_models).tolist() == expected
