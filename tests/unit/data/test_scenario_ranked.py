"""Memorised and vulnerable samples are found where they were planted."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from torch import nn

from erasure.data.corruption import Mislabel
from erasure.data.dataset import Dataset
from erasure.data.scenarios import ranked
from erasure.data.scenarios.ranked import MemorisedSplitter, VulnerableSplitter
from erasure.data.scenarios.ranking_models import Predictions, RankingModels, RankingRecipe, balanced, folds
from erasure.data.sources.poisoned import Poisoned
from erasure.data.sources.scikit_learn import Sklearn
from erasure.data.standardise import standardised
from erasure.errors import InvalidParameters, PartitionError
from erasure.models.mlp import MLP
from erasure.training.batches import TensorColumn
from erasure.training.calls import Optimizer
from erasure.training.predictor import Model, Predictor

PARTS = ("first", "rest")
SMALL = Predictor(model=MLP(hidden_sizes=()), epochs=2, optimizer=Optimizer.of("SGD", lr=0.1))
ABLE = Predictor(model=MLP(hidden_sizes=(64,)), epochs=40, optimizer=Optimizer.of("Adam", lr=0.02), schedule=None)
KINDS = {
    "memorisation": lambda **options: MemorisedSplitter(parts_names=PARTS, n_models=12, **options),
    "held-out-loss": lambda **options: MemorisedSplitter(parts_names=PARTS, by="held-out-loss", **options),
    "learning-speed": lambda **options: MemorisedSplitter(parts_names=PARTS, by="learning-speed", **options),
    "separation": lambda **options: VulnerableSplitter(parts_names=PARTS, n_models=12, **options),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def blobs(n=60, n_classes=2, task="classification"):
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(n) % n_classes
    x = 3 * nn.functional.one_hot(y, 5).float() + torch.randn(n, 5, generator=generator)
    if task == "multilabel":
        y = nn.functional.one_hot(y, n_classes).float()
    return Dataset(name="blobs", x=TensorColumn(x), y=y, n_classes=n_classes, x_shape=(5,), task=task)


def cut(splitter, data, ids=None, seed=0, **others):
    reference = torch.arange(len(data)) if ids is None else torch.as_tensor(ids)
    first, rest = splitter.split(data, {"all": reference, **others}, np.random.default_rng(seed))
    assert first.dtype == rest.dtype == torch.int64
    return first.tolist(), rest.tolist()


# Closed forms


def said(right, confidence=None):
    right = torch.tensor(right, dtype=torch.float64)
    confidence = right if confidence is None else torch.tensor(confidence, dtype=torch.float64)
    return Predictions(right, -confidence.log(), torch.zeros_like(right))


def test_memorisation_is_feldman_and_zhangs_difference_of_accuracies():
    seen = torch.tensor([[1, 1], [1, 0], [0, 1], [0, 0]], dtype=torch.bool)
    bank = RankingModels(seen, (said([1, 1]), said([1, 0]), said([0, 1]), said([0, 1])))
    # The first sample is right exactly where it was seen; of the second, both that saw it and one of the two others are right.
    assert bank.difference(lambda each: each.right).tolist() == [1.0, 0.5]


@pytest.mark.parametrize("task", ["classification", "binary"])
def test_the_separation_is_the_shift_of_the_logit_of_the_labels_probability(task):
    data = replace(blobs(12), task=task)
    recipe = RankingRecipe(data=data, ids=torch.arange(12), predictor=SMALL, batch_size=4, seed=0)
    models = recipe.bank(balanced(4, 12, 2, np.random.default_rng(0)))
    for each in models.said:
        assert torch.allclose(each.margin, torch.logit(each.confidence), atol=1e-6)
        assert torch.equal(each.right, (each.margin > 0).double())


@given(st.integers(2, 9), st.integers(1, 40), st.data())
def test_each_sample_is_seen_by_as_many_models(n_models, n_samples, drawn):
    n_seen = drawn.draw(st.integers(1, n_models - 1))
    seen = balanced(n_models, n_samples, n_seen, np.random.default_rng(drawn.draw(st.integers(0, 9))))
    assert seen.shape == (n_models, n_samples)
    assert seen.sum(0).tolist() == [n_seen] * n_samples


@given(st.integers(2, 9), st.integers(9, 40), st.integers(0, 9))
def test_each_sample_is_held_out_once_from_folds_of_one_size(n_folds, n_samples, seed):
    missed = ~folds(n_folds, n_samples, np.random.default_rng(seed))
    assert missed.sum(0).tolist() == [1] * n_samples
    assert int(missed.sum(1).max() - missed.sum(1).min()) <= 1


def test_tables_are_standardised_by_the_given_samples():
    data = replace(blobs(20), x=TensorColumn(torch.rand(20, 5) * torch.tensor([1, 10, 100, 1000, 0.0]) + 7))
    ids = torch.arange(5, 15)
    scaled = standardised(data, ids).gather(ids)
    assert torch.allclose(scaled.mean(0), torch.zeros(5), atol=1e-4)
    assert torch.allclose(scaled.std(0, correction=0), torch.tensor([1.0, 1, 1, 1, 0]), atol=1e-4)
    images = replace(data, modality="image")
    assert standardised(images, ids) is images.x


# Planted samples


@every_kind
def test_a_planted_outlier_is_ranked_first(kind):
    data = blobs(60)
    x, y = data.x.values.clone(), data.y.clone()
    x[17], y[17] = torch.tensor([3.0, 0, 0, 0, 4]), 1  # in the other class's cluster, with a feature of its own
    able = ABLE.replace(epochs=60) if kind == "memorisation" else ABLE
    first, rest = cut(KINDS[kind](predictor=able, n_samples=1, batch_size=16), replace(data, x=TensorColumn(x), y=y))
    assert first == [17]
    assert rest == [i for i in range(60) if i != 17]


@pytest.fixture(scope="module")
def mislabelled_digits():
    source = Poisoned(data_source=Sklearn(name="digits"), corruption=Mislabel(n_samples=15))
    data = source.load()
    return data, torch.cat([data.corrupted.nonzero().flatten(), (~data.corrupted).nonzero().flatten()[:285]])


@every_kind
def test_mislabelled_digits_rank_at_the_top(kind, mislabelled_digits):
    data, ids = mislabelled_digits
    ranking, _ = cut(KINDS[kind](predictor=ABLE, n_samples=300), data, ids)
    found = data.corrupted[torch.tensor(ranking)]
    assert roc_auc_score(found, -np.arange(300)) > 0.85
    assert found[:15].double().mean() >= 0.4  # 0.05 by chance


def test_data_that_is_not_scaled_is_ranked_too(mislabelled_digits):
    data, ids = mislabelled_digits
    huge = replace(data, modality="table", x=TensorColumn(data.x.values.float() * 1e5))
    first, _ = cut(KINDS["held-out-loss"](predictor=ABLE, n_samples=15), huge, ids)
    assert data.corrupted[torch.tensor(first)].double().mean() >= 0.4


# The cut


@settings(max_examples=15)
@given(st.sampled_from(sorted(KINDS)), st.integers(0, 20), st.sampled_from(["most", "least", "middle"]), st.integers(0, 9))
def test_a_ranking_partitions_its_reference_data_whatever_its_order(kind, n_samples, order, seed):
    data, reference = blobs(30), np.random.default_rng(seed).permutation(30)[:20]
    splitter = KINDS[kind](predictor=SMALL, n_samples=n_samples, order=order)
    first, rest = cut(splitter, data, reference, seed)
    assert len(first) == n_samples
    assert sorted(first + rest) == sorted(reference.tolist())
    assert rest == [i for i in reference.tolist() if i in set(rest)]
    assert (first, sorted(rest)) == cut(splitter, blobs(30), np.sort(reference), seed)


@every_kind
def test_most_middle_and_least_are_places_of_one_ranking(kind):
    data = blobs(30)
    whole, _ = cut(KINDS[kind](predictor=SMALL, n_samples=30, seed=5), data)
    places = {"most": whole[:6], "middle": whole[12:18], "least": whole[24:]}
    for order, expected in places.items():
        assert cut(KINDS[kind](predictor=SMALL, percentage=0.2, order=order, seed=5), data)[0] == expected


def test_splitters_with_one_seed_and_population_share_their_scores():
    options = {"predictor": SMALL, "population": "train", "seed": 5}
    train = torch.arange(24)
    high, rest = cut(KINDS["separation"](n_samples=5, **options), blobs(30), train, train=train)
    low, _ = cut(KINDS["separation"](n_samples=5, order="least", **options), blobs(30), rest, seed=1, train=train)
    whole, _ = cut(KINDS["separation"](n_samples=24, **options), blobs(30), train, train=train)
    assert (high, low) == (whole[:5], whole[-5:])
    variants = [{}, {"n_samples": 7, "order": "least"}, {"seed": 6}, {"predictor": SMALL.replace(epochs=1)}, {"seed": None}]
    splitters = [KINDS["separation"](**(options | {"n_samples": 5} | changes)) for changes in variants]
    one, same, *others = (json.dumps(splitter.scores_content(0)) for splitter in splitters)
    assert one == same
    assert len({one, *others}) == 4


def test_without_a_seed_the_splitters_own_stream_decides():
    data = blobs(30)
    splitter = KINDS["separation"](predictor=SMALL, n_samples=30)
    assert cut(splitter, data, seed=0) == cut(splitter, blobs(30), seed=0)
    assert cut(splitter, data, seed=0) != cut(splitter, data, seed=1)


def test_global_generators_and_the_number_of_threads_are_left_alone():
    torch.set_num_threads(2)
    try:
        state = torch.get_rng_state()
        first = cut(KINDS["memorisation"](predictor=ABLE, n_samples=10), blobs(40))
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert first == cut(KINDS["memorisation"](predictor=ABLE, n_samples=10), blobs(40))


@dataclass(frozen=True, kw_only=True)
class Squared(Model):
    """A network that can only be trained one by one."""

    def build(self, data):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.linear = nn.Linear(5, data.n_outputs)

            def forward(self, x):
                return self.linear(x * x)

        return Net()


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_networks_of_any_kind_and_several_labels_can_be_ranked(task):
    predictor = SMALL.replace(model=Squared())
    for by in ("memorisation", "held-out-loss", "learning-speed"):
        splitter = MemorisedSplitter(parts_names=PARTS, predictor=predictor, by=by, n_models=3, n_samples=4)
        assert len(cut(splitter, blobs(20, task=task))[0]) == 4


def test_nothing_is_trained_for_an_empty_part(monkeypatch):
    monkeypatch.setattr(ranked, "RankingRecipe", None)
    assert cut(KINDS["separation"](predictor=SMALL, n_samples=0), blobs(5)) == ([], [0, 1, 2, 3, 4])


# Refusals


def test_what_cannot_be_ranked_is_refused_with_what_there_is():
    separation = KINDS["separation"]
    with pytest.raises(PartitionError, match='9 samples asked for, but "all" has 8'):
        cut(separation(predictor=SMALL, n_samples=9), blobs(8))
    with pytest.raises(PartitionError, match='3 of the 8 samples of "all" are not in the population "train"'):
        cut(separation(predictor=SMALL, n_samples=2, population="train"), blobs(8), train=torch.arange(5))
    with pytest.raises(PartitionError, match="several labels each"):
        cut(separation(predictor=SMALL, n_samples=2), blobs(8, task="multilabel"))
    with pytest.raises(PartitionError, match="3 samples cannot be held out in 5 folds"):
        cut(KINDS["held-out-loss"](predictor=SMALL, n_samples=1), blobs(3))
    with pytest.raises(PartitionError, match="1 samples are too few to train 12 models"):
        cut(KINDS["memorisation"](predictor=SMALL, n_samples=1), blobs(8), [3])
    with pytest.raises(
        PartitionError, match=r"models that rank the samples cannot be trained: .*made for 7 inputs, the data has 5"
    ):
        cut(separation(predictor=SMALL.replace(model=MLP(n_inputs=7)), n_samples=1), blobs(8))
    with pytest.raises(PartitionError, match=r"cannot be trained: .*diverged"):
        wild = SMALL.replace(model=MLP(hidden_sizes=(8,)), optimizer=Optimizer.of("SGD", lr=1e30), epochs=1)
        cut(separation(predictor=wild, n_samples=1), blobs(8))


def test_parameters_that_make_no_sense_are_refused():
    with pytest.raises(InvalidParameters, match="either n_samples or percentage"):
        VulnerableSplitter(parts_names=PARTS, predictor=SMALL)
    with pytest.raises(InvalidParameters, match="have no validation set"):
        VulnerableSplitter(parts_names=PARTS, predictor=SMALL.replace(patience=1, validation_set="v"), n_samples=1)
    with pytest.raises(InvalidParameters, match="not trained cannot rank"):
        VulnerableSplitter(parts_names=PARTS, predictor=SMALL.replace(epochs=0), n_samples=1)
    with pytest.raises(InvalidParameters, match="expected 2 or more, found 1"):
        VulnerableSplitter(parts_names=PARTS, predictor=SMALL, n_samples=1, n_models=1)
    with pytest.raises(InvalidParameters, match="memorisation compares"):
        MemorisedSplitter(parts_names=PARTS, predictor=SMALL, n_samples=1, n_models=1)
    assert MemorisedSplitter(parts_names=PARTS, predictor=SMALL, n_samples=1, n_models=1, by="learning-speed")
