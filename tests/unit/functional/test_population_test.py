"""Populations of models by relabelling: the fast ways are the slow ones, and equal populations are told apart as often as promised."""

import numpy as np
import pytest
import torch

from erasure.functional.margins import epsilons, histogram_divergence
from erasure.functional.population_test import divergence_by_labelling, epsilon_by_labelling, labellings_of, p_value


def populations(seed, shift=0.0, n=8, n_samples=13):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, n_samples, generator=generator) + shift, torch.randn(n, n_samples, generator=generator)


def relabelled(mine, golds, players):
    models = torch.cat([mine, golds])
    return [(models[each], models[~each]) for each in players]


def test_divergences_under_all_labellings_are_those_of_each_alone():
    mine, golds = populations(1, 0.5)
    players = labellings_of(8, 8, 40, np.random.default_rng(0))
    expected = [float(histogram_divergence(a, b).mean()) for a, b in relabelled(mine, golds, players)]
    assert divergence_by_labelling(mine, golds, players).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("families", ["both", "single"])
def test_epsilons_under_all_labellings_are_those_of_each_alone(families):
    mine, golds = populations(2, 0.5)
    players = labellings_of(8, 8, 20, np.random.default_rng(0))
    expected = [float(epsilons(a, b, families=families).mean()) for a, b in relabelled(mine, golds, players)]
    assert epsilon_by_labelling(mine, golds, players, families=families).tolist() == pytest.approx(expected)


def test_the_observed_labelling_comes_first_and_all_have_as_many_players():
    players = labellings_of(3, 5, 50, np.random.default_rng(0))
    assert players[0].tolist() == [True] * 3 + [False] * 5
    assert players.sum(1).tolist() == [3] * 51
    assert len({tuple(each.tolist()) for each in players}) > 30


def test_equal_populations_have_small_p_values_as_rarely_as_they_may_and_others_always():
    found, apart = [], []
    for seed in range(120):
        players = labellings_of(8, 8, 99, np.random.default_rng(seed))
        found.append(p_value([divergence_by_labelling(*populations(seed), players)]))
        if seed < 20:
            apart.append(p_value([divergence_by_labelling(*populations(seed, 3.0), players)]))
    assert np.mean(np.array(found) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 120)
    assert 0.35 < np.mean(found) < 0.65
    assert max(apart) <= 0.05


def test_of_several_statistics_the_most_telling_counts():
    quiet, loud = torch.tensor([0.0, 1.0, -1.0, 0.0]), torch.tensor([9.0, 1.0, 2.0, 0.0]) * 1000
    assert p_value([quiet, loud]) == 0.25
    assert p_value([torch.ones(4)]) == 1.0
