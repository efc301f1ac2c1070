"""Exact models: what they compute, and that deleting is fitting without the samples."""

import hashlib
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier

from erasure.errors import RequirementNotMet
from erasure.models import forest
from erasure.models.ease import EASE
from erasure.models.forest import ExactForest
from erasure.models.linear import LogisticRegression, Ridge
from erasure.models.naive_bayes import NaiveBayes
from erasure.models.neighbours import KMeans, NearestNeighbours
from erasure.testing.problems import problem
from erasure.training.batches import Batch
from erasure.training.estimators import hashed
from erasure.training.predictor import ModelInput, Predictor
from erasure.unlearners.exact_deletion import ExactDeletion

N = 90
DATA = ModelInput(x_shape=(5,), n_classes=3)
BITS = {
    "gaussian": NaiveBayes(),
    "multinomial": NaiveBayes(distribution="multinomial"),
    "neighbours": NearestNeighbours(k=3),
    "k-means": KMeans(clusters=4, iterations=6),
    "forest": ExactForest(trees=3, max_depth=5, thresholds=4),
    "random forest": ExactForest(trees=3, max_depth=5, thresholds=4, random_depth=2),
    "forest of few": ExactForest(trees=3, max_depth=5, thresholds=4, split_samples=9),
}


@pytest.fixture(autouse=True, scope="module")
def trees_are_mended_however_many_samples_go():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forest, "_REFIT_FROM", 0)
        yield


def table(seed=0, *, ties=False):
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 3, (N,), generator=generator)
    x = (torch.randn(3, 5, generator=generator)[y] + torch.randn(N, 5, generator=generator)).abs()
    return ((x * 2).round() / 2 if ties else x), y


def fitted(model, x, y, ids, seed=11, data=DATA):
    made = model.build(data).eval()
    ids = torch.as_tensor(sorted(ids), dtype=torch.int64)
    made.fit(Batch(x[ids], y[ids], ids), seed)
    return made


def deleted(made, x, y, gone, left):
    gone, left = (torch.as_tensor(sorted(ids), dtype=torch.int64) for ids in (gone, left))
    made.delete(Batch(x[gone], y[gone], gone), lambda: Batch(x[left], y[left], left))


def digest(model):
    return hashlib.sha256(b"".join(v.contiguous().numpy().tobytes() for v in model.state_dict().values())).hexdigest()


@pytest.mark.parametrize("name", BITS)
@pytest.mark.parametrize("ties", [False, True])
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_any_sequence_of_deletions_is_fitting_without_the_samples_bit_for_bit(name, ties, seed):
    # One by one, in batches, a whole class, down to nothing.
    x, y = table(seed % 7, ties=ties)
    draw = random.Random(seed)
    left = list(range(N))
    model = fitted(BITS[name], x, y, left)
    label = draw.randrange(3)
    batches = [[draw.choice(left)], draw.sample(left, 7), [i for i in left if int(y[i]) == label], draw.sample(left, 20), left]
    for batch in batches:
        gone = [i for i in left if i in set(batch)]
        left = [i for i in left if i not in set(batch)]
        deleted(model, x, y, gone, left)
        assert digest(model) == digest(fitted(BITS[name], x, y, left))
        assert bool(torch.isfinite(model(x[:4])).all())


@pytest.mark.parametrize("model", [Ridge(l2=0.5), LogisticRegression(l2=0.01, perturbation=0.5)])
def test_models_that_solve_equations_are_equal_up_to_rounding(model):
    x, y = table()
    left, draw = list(range(N)), random.Random(3)
    made = fitted(model, x, y, left)
    for size in (1, 5, 30):
        gone = draw.sample(left, size)
        left = [i for i in left if i not in gone]
        deleted(made, x, y, gone, left)
        other = fitted(model, x, y, left)
        assert float((made.weight - other.weight).abs().max()) <= 1e-10 * float(other.weight.abs().max())
    deleted(made, x, y, left, [])
    assert float(made.weight.abs().max()) == 0


@pytest.mark.parametrize("model", [Ridge(), LogisticRegression(), NaiveBayes()])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_rows_that_are_no_finite_numbers_are_refused(model, value):
    x, y = table()
    x[3, 2] = value
    with pytest.raises(RequirementNotMet, match="finite"):
        fitted(model, x, y, range(N))


def test_order_of_deletions_does_not_matter():
    x, y = table()
    for model in BITS.values():
        found = set()
        for order in ([3, 40, 77], [77, 3, 40], [40, 77, 3]):
            made, left = fitted(model, x, y, range(N)), list(range(N))
            for gone in order:
                left.remove(gone)
                deleted(made, x, y, [gone], left)
            found.add(digest(made))
        assert len(found) == 1


# What they compute


def test_naive_bayes_is_that_of_scikit_learn():
    x, y = table()
    ours = torch.softmax(fitted(NaiveBayes(smoothing=1e-3), x, y, range(N))(x), 1)
    assert np.abs(ours.numpy() - GaussianNB(var_smoothing=1e-3).fit(x.double(), y).predict_proba(x.double())).max() < 1e-4
    ours = torch.softmax(fitted(NaiveBayes(distribution="multinomial", smoothing=0.5), x, y, range(N))(x), 1)
    assert np.abs(ours.numpy() - MultinomialNB(alpha=0.5).fit(x.double(), y).predict_proba(x.double())).max() < 1e-4
    with pytest.raises(RequirementNotMet, match="negative"):
        fitted(NaiveBayes(distribution="multinomial"), -x, y, range(N))


def test_a_class_of_which_nobody_is_left_is_never_predicted():
    x, y = table()
    made = fitted(NaiveBayes(), x, y, [i for i in range(N) if int(y[i]) != 1])
    assert 1 not in made(x).argmax(1).tolist()


def test_neighbours_are_those_of_scikit_learn():
    x, y = table()
    ours = fitted(NearestNeighbours(k=3), x, y, range(N))(x + 0.01).argmax(1)
    assert torch.equal(ours, torch.from_numpy(KNeighborsClassifier(3).fit(x, y).predict(x + 0.01)))


def test_ridge_is_that_of_scikit_learn():
    x, y = table()
    made = fitted(Ridge(l2=0.5), x, y, range(N))
    other = SklearnRidge(alpha=0.5).fit(x.double(), torch.nn.functional.one_hot(y, 3))
    assert np.abs(made(x).numpy() - other.predict(x.double())).max() < 1e-5


def test_k_means_is_lloyds_on_a_lattice():
    x, y = table()
    made = fitted(KMeans(clusters=4, iterations=5, lattice=1e-5, smallest=1e-9), x, y, range(N))
    first = sorted(range(N), key=lambda i: hashed(11, "first", i))[:4]
    centres = x[first].double()
    for _ in range(5):
        nearest = (x.double()[:, None] - centres).square().sum(2).argmin(1)
        centres = torch.stack([x[nearest == k].double().mean(0) if (nearest == k).any() else centres[k] for k in range(4)])
    assert float((made.centres[-1].double() / 2**20 - centres).abs().max()) < 1e-3
    assert int(made.counts[-1].sum()) == N


def test_a_tree_splits_where_impurity_is_least():
    # All features and thresholds take part: the root split is the best of all.
    x, y = table()
    x = x[:, :1]
    made = fitted(ExactForest(trees=1, max_depth=1, thresholds=1000), x, y, range(N), data=ModelInput(x_shape=(1,), n_classes=3))

    def impurity(cut):
        sides = (y[x[:, 0] <= cut], y[x[:, 0] > cut])
        return sum(len(s) - float((torch.bincount(s, minlength=3).double() ** 2).sum()) / len(s) for s in sides)

    best = min(sorted(x[:, 0].tolist())[:-1], key=impurity)
    assert float(made.threshold[0, 0]) == pytest.approx(best)
    assert made.counts[0, 0].tolist() == torch.bincount(y, minlength=3).tolist()


def test_a_threshold_whose_last_sample_goes_is_gone():
    # Values 0 to 4 with alternating labels and one candidate: the published code keeps a split that no retraining makes.
    x, y = torch.arange(5.0)[:, None], torch.tensor([0, 1, 0, 1, 0])
    data = ModelInput(x_shape=(1,), n_classes=2)
    for seed in range(60):
        made = fitted(ExactForest(trees=1, max_depth=1, thresholds=1), x, y, range(5), seed, data)
        deleted(made, x, y, [2], [0, 1, 3, 4])
        assert digest(made) == digest(fitted(ExactForest(trees=1, max_depth=1, thresholds=1), x, y, [0, 1, 3, 4], seed, data))
        assert float(made.threshold[0, 0]) != 2


def test_a_forest_learns():
    x, y = table()
    made = fitted(ExactForest(trees=20, max_depth=6), x, y, range(60))
    assert float((made(x[60:]).argmax(1) == y[60:]).float().mean()) > 0.5
    assert float((made(x[:60]).argmax(1) == y[:60]).float().mean()) > 0.9
    assert torch.allclose(made.predict_proba(x).sum(1), torch.ones(N))


def test_ease_recommends_by_the_closed_form_and_forgets_users():
    generator = torch.Generator().manual_seed(1)
    x = (torch.rand(40, 12, generator=generator) < 0.3).float()
    data = ModelInput(x_shape=(12,), n_classes=12, task="multilabel")
    made = fitted(EASE(l2=2.0), x, x, range(40), data=data)
    # Each item's weights by themselves: a ridge regression on all others.
    for item in range(12):
        others = [i for i in range(12) if i != item]
        a = x[:, others].double()
        b = torch.linalg.solve(a.T @ a + 2.0 * torch.eye(11, dtype=torch.float64), a.T @ x[:, item].double())
        assert float((made.weight[others, item] - b).abs().max()) < 1e-10
        assert float(made.weight[item, item].abs()) < 1e-12
    deleted(made, x, x, [3, 4, 17], [i for i in range(40) if i not in {3, 4, 17}])
    other = fitted(EASE(l2=2.0), x, x, [i for i in range(40) if i not in {3, 4, 17}], data=data)
    assert digest(made) == digest(other)
    real = torch.rand(40, 12, generator=generator)
    made, left = fitted(EASE(l2=2.0), real, real, range(40), data=data), [i for i in range(40) if i % 3]
    deleted(made, real, real, [i for i in range(40) if i % 3 == 0], left)
    assert float((made.weight - fitted(EASE(l2=2.0), real, real, left, data=data).weight).abs().max()) < 1e-10
    with pytest.raises(RequirementNotMet, match="multilabel with 12 labels"):
        EASE().build(ModelInput(x_shape=(12,), n_classes=3))


# As models of the package


@pytest.mark.parametrize("name", BITS)
@pytest.mark.parametrize("task", ["classification", "binary"])
def test_exact_deletion_is_gold_and_states_are_read_back(name, task):
    if name == "multinomial":
        pytest.skip("it takes counts")
    found = problem(forget="some", task=task, recipe=Predictor(model=BITS[name]))
    result = ExactDeletion().run(found.model, found.context)
    gold = found.models.trained("retain")
    assert digest(result.model) == digest(gold)
    assert result.guarantee.kind == "exact"
    again = found.models.fresh(0)
    again.load_state_dict(result.model.state_dict())
    x = found.context.x.gather(found.context.partitions["test"])
    assert torch.equal(again(x), gold(x))
    assert gold(x).shape == (12, 1 if task == "binary" else 3)


def test_networks_are_not_deleted_from():
    found = problem()
    with pytest.raises(RequirementNotMet, match="ExactForest or Ridge"):
        ExactDeletion().run(found.model, found.context)


@pytest.mark.parametrize("model", [*(BITS[name] for name in BITS if name != "multinomial"), Ridge(l2=1.0)], ids=repr)
def test_samples_that_are_deleted_already_are_not_deleted_twice(model):
    found = problem(forget="some", recipe=Predictor(model=model))
    once = ExactDeletion().run(found.model, found.context).model
    with pytest.raises(RequirementNotMet, match="none was deleted before"):
        ExactDeletion().run(once, found.context)
