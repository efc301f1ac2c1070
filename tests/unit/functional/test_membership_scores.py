"""Scores from shadow models against loops, scipy and closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from erasure.errors import DataError
from erasure.functional.membership import auc, balanced_accuracy
from erasure.functional.membership_scores import (
    Gaussians,
    gaussian_fits,
    kernel_log_density,
    log_mean_probability,
    most_separated,
    offline_prior,
    offline_score,
    online_score,
    pairwise_rank,
)


def _random(*shape, seed=0):
    return torch.as_tensor(np.random.default_rng(seed).normal(size=shape))


def _halves(n_models, n, seed=0):
    """Masks of complementary pairs."""
    first = torch.as_tensor(np.random.default_rng(seed).random((n_models // 2, n)) < 0.5)
    return torch.stack([first, ~first], 1).reshape(n_models, n)


def test_fits_are_those_of_a_loop_over_samples():
    said, mask = _random(12, 9), _halves(12, 9)
    own, pooled = gaussian_fits(said, mask), gaussian_fits(said, mask, pooled=True)
    squares, freedom = 0.0, 0
    for i in range(9):
        values = said[mask[:, i], i].numpy()
        assert float(own.mean[i]) == pytest.approx(values.mean())
        assert float(own.std[i]) == pytest.approx(values.std(ddof=1))
        squares, freedom = squares + ((values - values.mean()) ** 2).sum(), freedom + len(values) - 1
    torch.testing.assert_close(pooled.mean, own.mean)
    assert pooled.std.tolist() == pytest.approx([math.sqrt(squares / freedom)] * 9)


def test_counting_a_model_twice_is_having_it_twice():
    said, mask = _random(6, 4), torch.ones(6, 4)
    twice = gaussian_fits(said, torch.cat([2 * mask[:1], mask[1:]]))
    stacked = gaussian_fits(torch.cat([said[:1], said]), torch.ones(7, 4))
    torch.testing.assert_close(twice.mean, stacked.mean)
    torch.testing.assert_close(twice.std, stacked.std)


def test_models_that_agree_leave_a_finite_score():
    fit = gaussian_fits(torch.zeros(4, 2), torch.ones(4, 2))
    assert bool((fit.std > 0).all())
    assert bool(online_score(torch.tensor([0.0, 1.0]), fit, fit).isfinite().all())


def test_a_distribution_of_one_value_is_refused():
    mask = torch.tensor([[True, True], [True, False]])
    with pytest.raises(DataError, match="1 of 2 samples have fewer than two"):
        gaussian_fits(_random(2, 2), mask)


def test_the_online_score_is_scipys_log_ratio_and_flips_its_sign():
    phi, spread = _random(7), _random(2, 7, seed=1).exp()
    inside, outside = Gaussians(_random(7, seed=2), spread[0]), Gaussians(_random(7, seed=3), spread[1])
    expected = stats.norm.logpdf(phi, inside.mean, inside.std) - stats.norm.logpdf(phi, outside.mean, outside.std)
    np.testing.assert_allclose(online_score(phi, inside, outside), expected)
    torch.testing.assert_close(online_score(phi, outside, inside), -online_score(phi, inside, outside))


def test_the_offline_score_ranks_as_the_p_value_and_further():
    outside = Gaussians(_random(50, seed=1), _random(50, seed=2).exp())
    score = offline_score(_random(50), outside)
    tail = stats.norm.cdf(_random(50), outside.mean, outside.std)
    assert (np.diff(tail[torch.argsort(score).numpy()]) >= 0).all()  # tails of 1 are ties
    one = Gaussians(torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    low, high = offline_score(torch.tensor([40.0, 41.0]), one)
    assert high > low


@pytest.mark.parametrize("distance", [0.0, 0.8, 2.0])
@pytest.mark.parametrize("variant", ["online", "fixed-variance", "offline"])
def test_gaussians_of_known_distance_have_the_known_area(distance, variant):
    # Each sample has a level of its own, so that only a per-sample attack sees the distance.
    n, n_models = 6000, 128
    level = 3 * _random(n, seed=5)
    mask = _halves(n_models, n, seed=6)
    said = level + _random(n_models, n, seed=7) + distance * mask
    member = torch.arange(n) < n // 2
    phi = level + _random(n, seed=8) + distance * member
    pooled = variant == "fixed-variance"
    inside, outside = gaussian_fits(said, mask, pooled=pooled), gaussian_fits(said, ~mask, pooled=pooled)
    score = offline_score(phi, outside) if variant == "offline" else online_score(phi, inside, outside)
    expected = stats.norm.cdf(distance / math.sqrt(2))
    assert auc(score[member], score[~member]) == pytest.approx(expected, abs=0.03)
    assert auc(phi[member], phi[~member]) < max(0.51, expected - 0.05)
    if distance and variant != "offline":
        expected = stats.norm.cdf(distance / 2)
        assert balanced_accuracy(score[member], score[~member]) == pytest.approx(expected, abs=0.03)


def test_a_larger_distance_gives_a_larger_area():
    areas = []
    for distance in (0.0, 0.5, 1.0, 2.0):
        mask = _halves(32, 400)
        said, phi = _random(32, 400, seed=1) + distance * mask, _random(400, seed=2)
        phi[:200] += distance
        score = online_score(phi, gaussian_fits(said, mask, pooled=True), gaussian_fits(said, ~mask, pooled=True))
        areas.append(auc(score[:200], score[200:]))
    assert areas == sorted(areas)


def test_kernel_densities_are_scipys_with_scotts_rule():
    said, mask, at = _random(20, 6), _halves(20, 6), _random(6, seed=3)
    found = kernel_log_density(at, said, mask)
    for i in range(6):
        kernel = stats.gaussian_kde(said[mask[:, i], i].numpy(), bw_method="scott")
        assert float(found[i]) == pytest.approx(float(kernel.logpdf(float(at[i]))[0]))


def test_kernel_densities_do_not_depend_on_the_scale():
    # A bandwidth fixed at 1 in units of the statistic would.
    said, at = _random(20, 3), _random(3, seed=1)
    mask = torch.ones(20, 3, dtype=torch.bool)
    small = kernel_log_density(0.01 * at, 0.01 * said, mask)
    torch.testing.assert_close(small + math.log(0.01), kernel_log_density(at, said, mask))


def test_mean_probabilities_count_the_chosen_models_only():
    p = torch.tensor([[0.1, 0.9], [0.5, 0.3], [0.3, 0.8]])
    mask = torch.tensor([[True, True], [False, True], [True, False]])
    torch.testing.assert_close(log_mean_probability(p.log(), mask).exp(), torch.tensor([0.2, 0.6]).double(), rtol=1e-6, atol=0)
    with pytest.raises(DataError, match="1 of 2 samples have no reference"):
        log_mean_probability(p.log(), torch.tensor([[True, False]] * 3))


def test_the_offline_prior_lies_between_what_was_seen_and_certainty():
    outside = torch.tensor([0.01, 0.3, 0.9]).double()
    torch.testing.assert_close(offline_prior(outside.log(), 1.0).exp(), outside)
    torch.testing.assert_close(offline_prior(outside.log(), 0.0).exp(), (outside + 1) / 2)


@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_ranks_are_those_of_a_loop_over_pairs(gamma):
    x, z = _random(8), _random(11, seed=1)
    found = pairwise_rank(x, z, gamma=gamma)
    for i in range(8):
        assert float(found[i]) == np.mean([float(x[i]) - float(each) >= math.log(gamma) for each in z])


def test_ranks_within_ones_own_population_keep_the_order_of_the_ratios():
    # Leaving the sample itself out of the denominator would favour the population over others of the same ratio.
    x, z = _random(300), _random(200, seed=1)
    found, own = pairwise_rank(x, z, gamma=2.0), pairwise_rank(z, z, gamma=2.0)
    both, ratios = torch.cat([found, own]), torch.cat([x, z])
    assert bool((both[ratios.argsort()].diff() >= 0).all())


def test_an_empty_population_ranks_nothing():
    with pytest.raises(DataError, match="has none"):
        pairwise_rank(torch.zeros(1), torch.zeros(0), gamma=2.0)


def test_the_most_separated_samples_are_those_that_models_remember():
    mask = _halves(40, 30)
    said = 0.1 * _random(40, 30)
    said[:, 10:13] += 3.0 * mask[:, 10:13]
    assert most_separated(said, mask, ~mask, 0.1).tolist() == [10, 11, 12]
    assert len(most_separated(said, mask, ~mask, 0.001)) == 1


def test_a_probability_too_small_for_a_number_keeps_its_logarithm_in_the_prior():
    log_outside = torch.tensor([-1e4, -800.0, -1.0], dtype=torch.float64)
    assert offline_prior(log_outside, 1.0).tolist() == pytest.approx(log_outside.tolist())
    for a in (0.0, 0.3):
        expected = np.log(((1 + a) * np.exp(log_outside.numpy()) + 1 - a) / 2)
        np.testing.assert_allclose(offline_prior(log_outside, a), expected)
