"""Models trained together end where they end one by one."""

import copy

import pytest
import torch
from ensemble_cases import (
    EQUAL,
    MODELS,
    OPTIMIZERS,
    UNEQUAL,
    built,
    data,
    distance,
    drawn,
    has_moved,
    one_by_one,
    recipe,
    together,
)
from torch import nn

from erasure.errors import DataError, Diverged, RequirementNotMet
from erasure.models.cnn import CNN
from erasure.models.mlp import MLP
from erasure.training.batches import TensorColumn
from erasure.training.calls import Criterion, Loss, Optimizer, Schedule
from erasure.training.ensemble import train_together
from erasure.training.ensemble.stack import ELEMENTWISE
from erasure.training.forward import FeaturesAndHead
from erasure.training.predictor import ModelInput, build_model, train

TOLERANCE = 1e-5


def assert_equal_to_one_by_one(predictor, sizes, task="classification", change=lambda model: None):
    models = built(predictor.model, len(sizes), task)
    for model in models:
        change(model)
    found, expected = together(models, predictor, sizes, task), one_by_one(models, predictor, sizes, task)
    assert not any(model.training for model in found)
    for number, (own, alone) in enumerate(zip(found, expected, strict=True)):
        assert distance(own, alone) < TOLERANCE, f"model {number}"
    return models, found


@pytest.mark.parametrize("sizes", [EQUAL, UNEQUAL], ids=["equal", "unequal"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", MODELS)
def test_models_trained_together_end_where_they_end_alone(name, optimizer, sizes):
    models, found = assert_equal_to_one_by_one(recipe(MODELS[name], optimizer=OPTIMIZERS[optimizer]), sizes)
    assert all(has_moved(before, after) for before, after in zip(models, found, strict=True)) or "BatchNorm" in name


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_every_elementwise_optimizer_leaves_out_the_models_that_have_no_batch(name):
    parameters = {} if name == "Adadelta" else {"lr": 1e-3}
    assert_equal_to_one_by_one(recipe(MODELS["MLP"], optimizer=Optimizer.of(name, **parameters)), UNEQUAL)


@pytest.mark.parametrize("name", ["MLP", "CNN with BatchNorm"])
def test_gradients_are_clipped_for_each_model_alone(name):
    models, found = assert_equal_to_one_by_one(recipe(MODELS[name], max_grad_norm=0.05), UNEQUAL)
    free = together(models, recipe(MODELS[name]), UNEQUAL)
    assert all(distance(a, b) > TOLERANCE for a, b in zip(found, free, strict=True))


@pytest.mark.parametrize(
    "schedule",
    [None, Schedule.of("StepLR", step_size=1, gamma=0.1), Schedule.of("CosineAnnealingLR")],
    ids=["none", "step", "cosine"],
)
def test_the_schedule_steps_once_an_epoch(schedule):
    assert_equal_to_one_by_one(recipe(MODELS["MLP"], schedule=schedule, optimizer=OPTIMIZERS["Adam"]), UNEQUAL)


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_every_task_is_trained_on_its_own_loss(task):
    assert_equal_to_one_by_one(recipe(MODELS["MLP"]), UNEQUAL, task)


@pytest.mark.parametrize(
    ("loss", "task"),
    [
        (Loss.of("CrossEntropyLoss", label_smoothing=0.2), "classification"),
        (Loss.of("MultiMarginLoss", margin=0.5), "classification"),
        (Loss.of("MSELoss"), "multilabel"),
        (Loss.of("HuberLoss", delta=0.3), "multilabel"),
        (Loss.of("BCEWithLogitsLoss"), "binary"),
    ],
    ids=lambda value: getattr(value, "path", value),
)
def test_losses_of_torch_that_are_means_over_the_samples(loss, task):
    assert_equal_to_one_by_one(recipe(MODELS["MLP"], loss_fn=loss), UNEQUAL, task)


def test_gradients_below_the_norm_are_not_stretched_to_it():
    models, found = assert_equal_to_one_by_one(recipe(MODELS["MLP"], max_grad_norm=1e6), UNEQUAL)
    free = together(models, recipe(MODELS["MLP"]), UNEQUAL)
    assert all(distance(a, b) < TOLERANCE for a, b in zip(found, free, strict=True))


def test_the_batch_size_of_the_recipe_comes_first():
    assert_equal_to_one_by_one(recipe(MODELS["CNN"], batch_size=5), (23, 31, 6))


def test_weights_whose_gradient_is_zero_stay_in_float32_as_well():
    """Rounding where a gradient is exactly zero would be divided by itself in a step of Adam."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(64, 1, 8, 8, generator=generator) * (torch.rand(64, 1, 8, 8, generator=generator) < 0.1)
    y = torch.randint(0, 10, (64,), generator=generator)
    predictor = recipe(CNN(), epochs=1, optimizer=Optimizer.of("Adam", lr=2e-3))
    initial = [build_model(CNN(), ModelInput((1, 8, 8), 10), seed, torch.device("cpu")) for seed in range(2)]
    options = {"x": TensorColumn(x), "y": y, "criterion": Criterion("classification"), "batch_size": 32}
    alone = [train(copy.deepcopy(each), predictor, ids=torch.arange(64), seed=k, **options) for k, each in enumerate(initial)]
    found = train_together(copy.deepcopy(initial), predictor, ids=[torch.arange(64)] * 2, seeds=range(2), **options)
    for before, after, expected in zip(initial, found, alone, strict=True):
        for start, here, there in zip(before.parameters(), after.parameters(), expected.parameters(), strict=True):
            assert int((here == start).sum()) == pytest.approx(int((there == start).sum()), rel=0.01)
        assert any(
            bool((there == start).sum() > 100) for start, there in zip(before.parameters(), expected.parameters(), strict=True)
        )


def test_layers_that_are_frozen_stay_as_they_are():
    def freeze(model):
        model.trunk[1].requires_grad_(False)

    models, found = assert_equal_to_one_by_one(recipe(MODELS["MLP"]), UNEQUAL, change=freeze)
    assert all(torch.equal(a.trunk[1].weight, b.trunk[1].weight) for a, b in zip(models, found, strict=True))


class Mixed(nn.Module):
    """Layers and functions that neither of our families uses."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2, bias=False)
        self.pool = nn.AvgPool2d(2)
        self.norm = nn.BatchNorm2d(4, affine=False)
        self.rows = nn.Linear(2, 3)
        self.layer_norm = nn.LayerNorm((2, 3))
        self.head = nn.Linear(24, 3, bias=False)

    def forward(self, x):
        x = nn.functional.leaky_relu(self.norm(self.pool(self.conv(x.relu()))), 0.1)
        return self.head(torch.flatten(self.layer_norm(self.rows(x)).tanh(), 1))


class Pooled(nn.Module):
    """Windows and paddings that our CNN has not, and a second head that the loss does not see."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 3, 3, padding="same")
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.second = nn.Conv2d(3, 4, (2, 1), padding="valid", dilation=(2, 1))
        self.features, self.head = nn.Linear(32, 5), nn.Linear(32, 3)

    def forward(self, x):
        x = nn.functional.relu(self.pool(self.first(x).relu()))
        x = self.second(x).flatten(1)
        return self.features(x), self.head(x)


class InPlace(nn.Module):
    """Layers and functions that write over their input."""

    def __init__(self):
        super().__init__()
        self.rows = nn.Sequential(nn.LeakyReLU(0.1, inplace=True), nn.Flatten(), nn.Linear(128, 6), nn.ReLU6(inplace=True))
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(nn.functional.elu(self.rows(x), 1.0, True))


@pytest.mark.parametrize("network", [Mixed, Pooled, InPlace])
def test_layers_and_functions_of_other_networks(network):
    predictor = recipe(CNN(), optimizer=OPTIMIZERS["Adam"])
    torch.manual_seed(0)
    models = [network().double() for _ in UNEQUAL]
    for own, alone in zip(together(models, predictor, UNEQUAL), one_by_one(models, predictor, UNEQUAL), strict=True):
        assert distance(own, alone) < TOLERANCE


@pytest.mark.parametrize("name", ["MLP", "CNN with BatchNorm"])
def test_the_company_does_not_matter(name):
    predictor = recipe(MODELS[name], optimizer=OPTIMIZERS["Adam"])
    models = built(predictor.model, len(UNEQUAL))
    every = together(models, predictor, UNEQUAL)
    for members in ([3, 0], [5, 4, 1], [2]):
        some = together(models, predictor, UNEQUAL, members=members)
        assert all(distance(own, every[k]) < TOLERANCE for own, k in zip(some, members, strict=True))


@pytest.mark.parametrize("name", ["MLP", "CNN with BatchNorm"])
def test_the_same_call_gives_the_same_bytes_and_draws_nothing_from_the_global_generator(name):
    predictor = recipe(MODELS[name], optimizer=OPTIMIZERS["Adam"])
    models = built(predictor.model, len(UNEQUAL), dtype=torch.float32)
    first = together(models, predictor, UNEQUAL)
    torch.rand(7)
    state = torch.get_rng_state()
    second = together(models, predictor, UNEQUAL)
    assert torch.equal(state, torch.get_rng_state())
    for a, b in zip(first, second, strict=True):
        assert all(torch.equal(u, v) for u, v in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_the_listener_hears_of_each_epoch_and_sees_the_first_model_as_it_stands():
    heard = []
    predictor = recipe(MODELS["MLP"], schedule=None)
    models = built(predictor.model, len(UNEQUAL))
    together(models, predictor, UNEQUAL, on_epoch=lambda *seen: heard.append((*seen[:2], seen[2].head.weight.detach().clone())))
    assert [seen[:2] for seen in heard] == [(1, 3), (2, 3), (3, 3)]
    for epochs, (_, _, weight) in enumerate(heard, start=1):
        alone = one_by_one(models, recipe(MODELS["MLP"], schedule=None, epochs=epochs), UNEQUAL)[0]
        assert torch.allclose(weight, alone.head.weight, rtol=0, atol=TOLERANCE)


def test_no_epochs_leave_the_initial_weights_and_no_models_are_no_work():
    predictor = recipe(MODELS["MLP"], epochs=0)
    models = built(predictor.model, 2)
    found = together(models, predictor, (0, 4))
    assert [distance(a, b) for a, b in zip(found, models, strict=True)] == [0, 0]
    options = {**data((7,)), "criterion": Criterion("classification"), "batch_size": 4}
    assert train_together([], recipe(MODELS["MLP"]), **options, ids=[], seeds=[]) == []


def test_an_empty_training_set_is_refused_by_the_number_of_its_model():
    with pytest.raises(DataError, match="of model 1 is empty"):
        together(built(MODELS["MLP"], 2), recipe(MODELS["MLP"]), (4, 0))


def test_the_models_that_diverge_are_named():
    models = built(MODELS["MLP"], 3)
    for k in (0, 2):
        models[k].head.weight.data.fill_(float("inf"))
    with pytest.raises(Diverged, match=r"training of models 0, 2 diverged in epoch 1 of 3"):
        together(models, recipe(MODELS["MLP"]), (10, 10, 40))


def test_a_model_whose_weights_run_away_is_named_while_they_are_still_finite():
    models = built(MODELS["MLP"], 3)
    models[1].head.weight.data.fill_(1e12)
    with pytest.raises(Diverged, match=r"training of model 1 diverged in epoch 1 of 3"):
        together(models, recipe(MODELS["MLP"]), (10, 10, 40))


def test_models_that_differ_in_more_than_their_weights_are_refused():
    options = {**data((7,)), "criterion": Criterion("classification"), "batch_size": 4, "ids": drawn((8, 8)), "seeds": (0, 1)}
    first, second = built(MODELS["MLP"], 2)
    relu = FeaturesAndHead(nn.Sequential(*second.trunk[:2], nn.ReLU(), *second.trunk[3:]), second.head)
    with pytest.raises(RequirementNotMet, match=r"model 1 differs from the first in trunk\.2"):
        train_together([first, relu], recipe(MODELS["MLP"]), **options)
    second.head.requires_grad_(False)
    with pytest.raises(RequirementNotMet, match="different parameters to train"):
        train_together([first, second], recipe(MODELS["MLP"]), **options)
    wide = built(MLP(hidden_sizes=(12, 6), activation="tanh"), 1)
    with pytest.raises(RequirementNotMet, match="model 1 differs"):
        train_together([first, *wide], recipe(MODELS["MLP"]), **options)
    with pytest.raises(RequirementNotMet, match="1 models, 2 sets of ids and 2 seeds"):
        train_together([first], recipe(MODELS["MLP"]), **options)


def test_a_refused_recipe_is_not_trained():
    model = MLP(hidden_sizes=(4,), dropout=0.5)
    with pytest.raises(RequirementNotMet, match="cannot be trained together: dropout"):
        together(built(model, 2), recipe(model), (8, 8))
