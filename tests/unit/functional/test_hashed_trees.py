"""Trees whose nodes are split by some of their samples: deleting is growing without them, and costs a fraction of it."""

import numpy as np
import pytest
import torch

from erasure.functional import hashed_trees
from erasure.functional.candidate_splits import Segments, candidates_of
from erasure.models import forest
from erasure.models.forest import ExactForest
from erasure.training.batches import Batch
from erasure.training.predictor import ModelInput
from erasure.unlearners.contract import model_digest

N = 300


@pytest.fixture(autouse=True, scope="module")
def trees_are_mended_however_many_samples_go():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forest, "_REFIT_FROM", 0)
        yield


def table(seed, *, gaps=False, ties=False):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N, 5)).astype(np.float32)
    if ties:
        x[:, :3] = x[:, :3].round()
        x[:, 4] = rng.random(N) < 0.97  # the most frequent value is the highest
    y = (x[:, 0] + x[:, 1] * x[:, 2] > 0).astype(np.int64) + (rng.random(N) < 0.2)
    if gaps:
        x[rng.random(x.shape) < 0.2] = np.nan
    return torch.from_numpy(x), torch.from_numpy(y)


def batch(x, y, ids):
    ids = torch.as_tensor(sorted(ids), dtype=torch.int64)
    return Batch(x[ids], y[ids], ids)


def fitted(options, x, y, ids):
    made = options.build(ModelInput(x_shape=(x.shape[1],), n_classes=3))
    made.fit(batch(x, y, ids), 5)
    return made


@pytest.mark.parametrize("kind", [{}, {"ties": True}, {"gaps": True}])
@pytest.mark.parametrize("options", [{}, {"random_depth": 2}, {"thresholds": 40}, {"split_samples": 3}])
def test_mended_trees_are_those_of_growing_without_the_samples(kind, options):
    model = ExactForest(**{"trees": 4, "max_depth": 7, "thresholds": 6, "split_samples": 20} | options)
    x, y = table(len(options), **kind)
    rng, left = np.random.default_rng(1), list(range(N))
    made = fitted(model, x, y, left)
    assert bool(made.last.any())
    for size in (1, 1, 1, 1, 4, 15, 60):
        gone = set(rng.choice(left, size, replace=False).tolist())
        left = [i for i in left if i not in gone]
        made.delete(batch(x, y, gone), lambda: None)
        assert model_digest(made) == model_digest(fitted(model, x, y, left))


def any_table(rng, n, n_features):
    x = rng.normal(size=(n, n_features)).astype(np.float32)
    kind = rng.integers(5)
    if kind == 1:
        x = x.round()
    elif kind == 2:
        x[rng.random(x.shape) < 0.3] = np.nan
    elif kind == 3:
        x = (x > 1.2).astype(np.float32)
    elif kind == 4:
        x = x[rng.integers(0, max(1, n // 5), n)]
        x[rng.random(x.shape) < 0.1] = rng.choice([np.inf, -np.inf])
    y = ((x[:, 0] > 0) + (rng.random(n) < 0.3) * rng.integers(0, 3, n)) % 3
    return torch.from_numpy(x), torch.from_numpy(y.astype(np.int64))


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(k, marks=pytest.mark.nightly) for k in range(4, 150))])
def test_mending_is_growing_again_for_any_table_and_options(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 400))
    x, y = any_table(rng, n, int(rng.integers(1, 12)))
    names = ("trees", "max_depth", "thresholds", "split_samples", "random_depth")
    options = ExactForest(**dict(zip(names, rng.integers((1, 1, 1, 1, 0), (4, 11, 30, 100, 4)).tolist(), strict=True)))
    left = list(range(n))
    made = fitted(options, x, y, left)
    while left:
        label = rng.integers(3)
        n_gone = min(len(left), int(rng.choice([1, 1, 1, 12, max(1, len(left) // 3)])))
        gone = [i for i in left if y[i] == label] if rng.random() < 0.1 else rng.choice(left, n_gone, replace=False).tolist()
        left = sorted(set(left) - set(gone))
        made.delete(batch(x, y, gone), lambda: None)
        if rng.random() < 0.4 or not left:
            assert model_digest(made) == model_digest(fitted(options, x, y, left))


def test_where_many_samples_go_trees_are_grown_again_and_are_the_same(monkeypatch):
    x, y = table(1)
    options = ExactForest(trees=3, max_depth=5, thresholds=6)
    mended, grown = fitted(options, x, y, range(N)), fitted(options, x, y, range(N))
    mended.delete(batch(x, y, range(30)), lambda: None)
    monkeypatch.setattr(forest, "_REFIT_FROM", 64)
    monkeypatch.setattr(hashed_trees.Trees, "delete", None)
    grown.delete(batch(x, y, range(30)), lambda: None)
    assert model_digest(grown) == model_digest(mended)


def test_deleting_one_sample_counts_few_samples_again(monkeypatch):
    counted = []
    split_of = hashed_trees.Trees._split_of
    monkeypatch.setattr(hashed_trees.Trees, "_split_of", lambda self, s: counted.append(len(s.rows)) or split_of(self, s))
    x, y = table(3)
    made = fitted(ExactForest(trees=10, max_depth=6, thresholds=6, split_samples=20), x, y, range(N))
    growing, counted[:] = sum(counted), []
    for gone in range(10):
        made.delete(batch(x, y, [gone]), lambda: None)
    assert sum(counted) / 10 < 0.2 * growing


def test_candidates_are_counted_right_and_the_best_is_that_of_brute_force():
    x, y = (each.numpy() for each in table(4, gaps=True, ties=True))
    rng = np.random.default_rng(2)
    sizes = np.array([3, 40, 200])
    rows = rng.permutation(N)[: sizes.sum()]
    totals = np.stack([np.bincount(y[members], minlength=3) for members in np.split(rows, sizes.cumsum()[:-1])])
    segments = Segments(np.arange(3), sizes, rows, totals)
    found = candidates_of(segments, x, y, salts=np.arange(3, dtype=np.uint64), n_features=2, n_thresholds=12)
    feature, threshold = found.best()
    for node, members in enumerate(np.split(rows, sizes.cumsum()[:-1])):
        labels, best = y[members], (-np.inf, None)
        for f, thresholds, left in zip(
            found.features[node], found.thresholds[node], found.left[node].transpose(1, 2, 0), strict=True
        ):
            for t, counts in zip(thresholds, left, strict=True):
                goes_left = x[members, f] <= t
                assert (counts == np.bincount(labels[goes_left], minlength=3)).all()
                if 0 < goes_left.sum() < len(members):
                    sides = (np.bincount(labels[side], minlength=3) for side in (goes_left, ~goes_left))
                    score = sum((side**2).sum() / side.sum() for side in sides)
                    best = max(best, (score, (f, t)), key=lambda pair: pair[0])
        assert (feature[node], threshold[node]) == best[1]


def test_values_that_differ_are_candidates_though_one_is_far_more_frequent():
    x = torch.zeros(400, 1)
    x[:32, 0] = torch.arange(1.0, 33.0)
    y = (x[:, 0] > 16).long()
    made = fitted(ExactForest(trees=20, max_depth=1, thresholds=8), x, y, range(400))
    assert int((made.threshold[:, 0] > 0).sum()) >= 15  # of 32 samples 2.6 are not zero on average


def test_random_levels_leave_a_quarter_on_either_side_where_a_split_does():
    x, y = table(5)
    made = fitted(ExactForest(trees=30, max_depth=3, random_depth=2, split_samples=N), x, y, range(N))
    sizes = made.counts.sum(2)
    least = torch.minimum(sizes[:, 1::2], sizes[:, 2::2])[:, :3]  # children of the root and of its own
    assert bool((4 * least >= sizes[:, :3]).all())
    x[:, :] = (torch.arange(N) < 10)[:, None].float()  # no even split: any is taken
    made = fitted(ExactForest(trees=3, max_depth=3, random_depth=2), x, y, range(N))
    assert made.counts[:, 1:3].sum(2).tolist() == [[290, 10]] * 3


def test_first_samples_that_are_alike_leave_the_split_to_all():
    x, y = torch.zeros(N, 2), torch.zeros(N, dtype=torch.int64)
    x[:8, 0], y[:8] = 1, 1
    options = ExactForest(trees=20, max_depth=2, split_samples=10)
    made, left = fitted(options, x, y, range(N)), list(range(N))
    assert made.feature[:, 0].tolist() == [0] * 20
    for gone in (3, 200, 0):
        left.remove(gone)
        made.delete(batch(x, y, [gone]), lambda: None)
        assert model_digest(made) == model_digest(fitted(options, x, y, left))


def test_a_leaf_is_split_as_soon_as_other_samples_lend_values_that_part_it():
    # The highest value parts nothing, and nearly all have it.
    x, y = (torch.arange(40) >= 4)[:, None].float(), torch.arange(40) % 2
    options = ExactForest(trees=20, max_depth=2, thresholds=1)
    made, left = fitted(options, x, y, range(40)), list(range(40))
    n_leaves = int((made.feature[:, 0] < 0).sum())
    for gone in range(39, 4, -1):
        left.remove(gone)
        made.delete(batch(x, y, [gone]), lambda: None)
        assert model_digest(made) == model_digest(fitted(options, x, y, left))
    assert 0 < int((made.feature[:, 0] < 0).sum()) < n_leaves


def test_missing_values_go_right():
    x = torch.tensor([[float("nan")], [1.0], [float("nan")], [2.0]]).repeat(10, 1)
    y = x[:, 0].isnan().long()
    made = fitted(ExactForest(trees=3, max_depth=3), x, y, range(40))
    assert made(torch.tensor([[float("nan")], [1.5]])).argmax(1).tolist() == [1, 0]
