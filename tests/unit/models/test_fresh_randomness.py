"""What draws again after a deletion has the distribution of what is fitted without the samples: chi-square over 4,000 seeds."""

import copy

import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency, chisquare, norm

from erasure.models import forest
from erasure.models.forest import ExactForest
from erasure.models.linear import LogisticRegression
from erasure.training.batches import Batch
from erasure.training.noisy import add_noise
from erasure.training.predictor import ModelInput
from erasure.training.randomness import Streams

N_SEEDS, TOO_UNLIKELY = 4000, 1e-6
DATA = ModelInput(x_shape=(1,), n_classes=2)


@pytest.fixture(autouse=True, scope="module")
def trees_are_mended_however_many_samples_go():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forest, "_REFIT_FROM", 0)
        yield


def batch(x, y, ids):
    ids = torch.tensor(ids)
    return Batch(x[ids], y[ids], ids)


def same_distribution(one, other):
    """p of one table of counts against another; categories that neither has are left out."""
    table = np.array([one, other])
    return chi2_contingency(table[:, table.sum(0) > 0]).pvalue


@pytest.mark.nightly
def test_the_root_of_a_tree_after_a_deletion_is_drawn_like_that_of_a_tree_without_the_sample():
    # Five values with alternating labels and one candidate: the published code keeps a split in half of the trees that none should have.
    x, y = torch.arange(5.0)[:, None], torch.tensor([0, 1, 0, 1, 0])
    counts = np.zeros((2, 5), dtype=int)
    options = ExactForest(trees=1, max_depth=1, thresholds=1)
    for seed in range(N_SEEDS):
        made = options.build(DATA)
        made.fit(batch(x, y, range(5)), seed)
        made.delete(batch(x, y, [2]), lambda: None)
        again = options.build(DATA)
        again.fit(batch(x, y, [0, 1, 3, 4]), N_SEEDS + seed)
        for row, model in zip(counts, (made, again), strict=True):
            row[int(model.threshold[0, 0])] += 1
    assert counts[:, 2].tolist() == [0, 0]
    assert (counts > 0).sum() >= 4  # both have at least two roots
    assert same_distribution(*counts) > TOO_UNLIKELY


@pytest.mark.nightly
def test_fresh_noise_of_an_objective_is_drawn_like_that_of_a_first_fit():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(12, 1, generator=generator)
    y = (x[:, 0] + 0.5 * torch.randn(12, generator=generator) > 0).long()
    left = batch(x, y, range(2, 12))
    options = LogisticRegression(l2=0.1, perturbation=1.0)
    found = np.zeros((2, N_SEEDS))
    made = options.build(DATA)
    made.fit(batch(x, y, range(12)), 0)
    for seed in range(N_SEEDS):
        made.seed.fill_(seed)
        made.n_fits.fill_(1)
        made.refit(left, fresh_noise=True)
        again = options.build(DATA)
        again.fit(left, N_SEEDS + seed)
        found[:, seed] = float(made.weight[0, 0]), float(again.weight[0, 0])
    edges = np.quantile(found[1], np.linspace(0, 1, 11))[1:-1]
    counts = [np.bincount(np.searchsorted(edges, row), minlength=10) for row in found]
    assert same_distribution(*counts) > TOO_UNLIKELY
    kept = copy.deepcopy(made)
    kept.refit(left, fresh_noise=False)
    assert torch.equal(kept.noise, made.noise)


@pytest.mark.nightly
def test_released_noise_is_normal_and_of_the_stated_size():
    drawn = []
    for seed in range(N_SEEDS):
        weight = torch.zeros(3, dtype=torch.float64)
        add_noise([weight], 0.7, Streams(seed).torch("noise"))
        drawn.append(weight)
    cells = np.searchsorted(0.7 * norm.ppf(np.linspace(0, 1, 21)[1:-1]), torch.stack(drawn).numpy())
    for column in cells.T:
        assert chisquare(np.bincount(column, minlength=20)).pvalue > TOO_UNLIKELY
    assert np.abs(np.corrcoef(torch.stack(drawn).numpy().T) - np.eye(3)).max() < 5 / N_SEEDS**0.5
