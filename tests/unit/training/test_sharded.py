"""Sharded training: places follow from ids, and deleting is training without, bit for bit."""

import hashlib
import random

import pytest
import torch
from torch import nn

from erasure.errors import RequirementNotMet
from erasure.models.ensemble import Ensemble
from erasure.models.mlp import MLP
from erasure.testing.problems import TinyNetwork
from erasure.training.batches import TensorColumn
from erasure.training.calls import Criterion, Optimizer
from erasure.training.predictor import ModelInput, Predictor, build_model, train
from erasure.training.sharded import ShardedEnsemble, epochs_of_slice, place_of, train_shards

X = torch.randn(60, 6, generator=torch.Generator().manual_seed(2))
Y = torch.arange(60) % 3
DATA = ModelInput(x_shape=(6,), n_classes=3)
CPU = torch.device("cpu")


def recipe(shards=3, slices=3, form="table", **changes):
    model = Ensemble(model=TinyNetwork(form=form), shards=shards, slices=slices)
    return Predictor(model=model, **{"epochs": 4, "optimizer": Optimizer.of("Adam", lr=0.02), **changes})


def trained(predictor, ids, seed=5, **kept):
    model = build_model(predictor.model, DATA, seed, CPU)
    chosen = torch.as_tensor(ids, dtype=torch.int64)
    done = train_shards(
        model,
        predictor,
        x=TensorColumn(X),
        y=Y,
        ids=chosen,
        criterion=Criterion("classification"),
        seed=seed,
        batch_size=8,
        **kept,
    )
    return model, done


def digest(model):
    return hashlib.sha256(b"".join(value.numpy().tobytes() for value in model.state_dict().values())).hexdigest()


@pytest.mark.parametrize("optimizer", [Optimizer.of("Adam", lr=0.02), Optimizer.of("SGD", lr=0.1, momentum=0.9)])
def test_random_sequences_of_deletions_are_training_without(optimizer):
    # One at a time, in batches, in any order, a whole class, down to nothing.
    predictor, draw = recipe(optimizer=optimizer), random.Random(4)
    ids = list(range(60))
    _, done = trained(predictor, ids)
    of_class_1, others = ([i for i in ids if (i % 3 == 1) == is_one] for is_one in (True, False))
    for batch in ([7], [3, 30, 31], of_class_1, draw.sample(others, 12), ids):
        gone = torch.tensor([i for i in batch if i in ids])
        ids = [i for i in ids if i not in batch]
        shuffled = draw.sample(ids, len(ids))
        model, done = trained(predictor, shuffled, states=done.states, gone=gone)
        assert digest(model) == digest(trained(predictor, ids)[0])


def test_recommenders_forget_users_bit_for_bit():
    # A user is a sample: what it has, some of which its input lacks.
    has = torch.rand(40, 6, generator=torch.Generator().manual_seed(3)) < 0.4
    seen = (has & (torch.rand(40, 6, generator=torch.Generator().manual_seed(4)) < 0.7)).float()
    data = ModelInput(x_shape=(6,), n_classes=6, task="multilabel")
    predictor = Predictor(model=Ensemble(model=MLP(hidden_sizes=(8,)), shards=4, slices=2), epochs=3)

    def fitted(users, **kept):
        model = build_model(predictor.model, data, 5, CPU)
        given = {"x": TensorColumn(seen), "y": has.float(), "criterion": Criterion("multilabel"), "seed": 5, "batch_size": 8}
        return model, train_shards(model, predictor, ids=torch.tensor(users), **given, **kept)

    _, everyone = fitted(list(range(40)))
    left = [user for user in range(40) if user not in (3, 17)]
    model, done = fitted(left, states=everyone.states, gone=torch.tensor([3, 17]))
    assert digest(model) == digest(fitted(left)[0])
    assert done.n_trained < everyone.n_trained


def test_one_deletion_trains_one_shard_from_its_slice_on():
    predictor = recipe(shards=4, slices=3)
    before, done = trained(predictor, range(60))
    for gone in range(0, 60, 7):
        shard, part = (int(place_of(torch.tensor([gone]), 5, n, name)) for n, name in ((4, "shard"), (3, "slice")))
        after, again = trained(predictor, [i for i in range(60) if i != gone], states=done.states, gone=torch.tensor([gone]))
        assert again.n_trained == 3 - part
        for number, (one, other) in enumerate(zip(before.members, after.members, strict=True)):
            same = all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
            assert same == (number != shard)


def test_train_gives_the_same_ensemble_and_shards_differ_by_seed():
    predictor = recipe()
    model = build_model(predictor.model, DATA, 5, CPU)
    arguments = {"x": TensorColumn(X), "y": Y, "criterion": Criterion("classification"), "batch_size": 8}
    train(model, predictor, ids=torch.arange(60), seed=5, **arguments)
    assert digest(model) == digest(trained(predictor, range(60))[0])
    assert not torch.equal(place_of(torch.arange(60), 5, 3, "shard"), place_of(torch.arange(60), 6, 3, "shard"))
    with pytest.raises(RequirementNotMet, match="early stopping"):
        trained(recipe(patience=1, validation_set="validation"), range(60))


def test_places_are_even_and_do_not_depend_on_the_others():
    places = place_of(torch.arange(40000), 1, 8, "shard")
    counts = torch.bincount(places).double()
    assert float(((counts - 5000) ** 2 / 5000).sum()) < 30  # chi-square of 7 degrees of freedom, p > 1e-4
    assert torch.equal(place_of(torch.arange(100, 200), 1, 8, "shard"), places[100:200])


@pytest.mark.parametrize(("epochs", "slices"), [(20, 1), (20, 4), (7, 3), (3, 5)])
def test_epochs_of_slices_cost_as_much_as_the_recipes_on_the_shard(epochs, slices):
    each = [epochs_of_slice(number, epochs, slices) for number in range(slices)]
    assert max(each) - min(each) <= 1
    assert each == [int((s + 1) * 2 * epochs / (slices + 1)) - int(s * 2 * epochs / (slices + 1)) for s in range(slices)]
    assert sum(e * (i + 1) / slices for i, e in enumerate(each)) == pytest.approx(epochs, rel=0.35)
    if 2 * epochs % (slices + 1) == 0:
        assert sum(e * (i + 1) for i, e in enumerate(each)) == epochs * slices


class Fixed(nn.Module):
    def __init__(self, logits):
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, x):
        return self.logits.expand(len(x), *self.logits.shape)


def vote(*members, task="classification", rule="probabilities", voters=None):
    ensemble = ShardedEnsemble([Fixed(m) for m in members], 1, task, rule)
    if voters is not None:
        ensemble.voters.copy_(torch.tensor(voters))
    return ensemble(torch.zeros(2, 1))[0]


def test_the_vote_is_the_mean_of_probabilities_or_the_count_of_labels():
    one, two = [2.0, 0.0, 1.0], [0.0, 3.0, 1.0]
    mean = (torch.softmax(torch.tensor(one), 0) + torch.softmax(torch.tensor(two), 0)) / 2
    assert torch.allclose(torch.softmax(vote(one, two), 0), mean, atol=1e-6)
    assert int(vote(two, one, rule="labels").argmax()) == 0  # a tie
    assert int(vote(two, one, two, rule="labels").argmax()) == 1
    assert torch.allclose(torch.softmax(vote(one, two, voters=[0.0, 1.0]), 0), torch.softmax(torch.tensor(two), 0), atol=1e-6)
    yes = (torch.sigmoid(torch.tensor(2.0)) + torch.sigmoid(torch.tensor(-1.0))) / 2
    for task in ("binary", "multilabel"):
        assert torch.allclose(torch.sigmoid(vote([2.0], [-1.0], task=task)), yes, atol=1e-6)


def test_one_vote_more_wins_however_many_classes_there_are_and_a_tie_is_the_lowest():
    first, last = [1.0] + [0.0] * 999, [0.0] * 999 + [1.0]
    assert int(vote(*[first] * 24, *[last] * 25, rule="labels").argmax()) == 999
    assert int(vote(*[last] * 24, *[first] * 24, rule="labels").argmax()) == 0
    for n in range(1, 40):
        members = [[1.0]] * n + [[-1.0]] * n
        random.Random(n).shuffle(members)
        for task in ("binary", "multilabel"):
            assert vote(*members, task=task, rule="labels").item() <= 0  # of two classes the lower one
            assert vote(*members, [1.0], task=task, rule="labels").item() > 0


def test_a_shard_without_samples_has_no_vote():
    model, _ = trained(recipe(shards=12), range(5))
    assert 0 < float(model.voters.sum()) <= 5
