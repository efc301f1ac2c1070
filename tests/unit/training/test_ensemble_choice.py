"""Which models are trained together is decided by architecture and recipe, with a reason."""

import pytest
import torch
from ensemble_cases import MODELS, built, recipe
from torch import nn

from erasure.models.cnn import CNN
from erasure.models.mlp import MLP
from erasure.training.calls import Loss, Optimizer
from erasure.training.ensemble import unsupported_reason
from erasure.training.ensemble.choice import impossible
from erasure.training.predictor import ModelInput, build_model

PLAIN = recipe(MODELS["MLP"])


def network(model, shape):
    return build_model(model, ModelInput(shape, 10), 0, torch.device("cpu"))


@pytest.mark.parametrize("name", MODELS)
def test_small_networks_of_our_families_are_trained_together(name):
    assert unsupported_reason(built(MODELS[name], 1)[0], recipe(MODELS[name])) is None


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"patience": 2, "validation_set": "test"}, "early stopping"),
        ({"optimizer": Optimizer.of("Adafactor", lr=0.1)}, "Adafactor does not treat every weight by itself"),
        ({"loss_fn": Loss.of("CrossEntropyLoss", weight=torch.ones(3))}, "CrossEntropyLoss is not known to be a plain mean"),
        ({"loss_fn": Loss.of("CrossEntropyLoss", ignore_index=1)}, "CrossEntropyLoss is not known to be a plain mean"),
        ({"loss_fn": Loss.of("MSELoss", reduction="none")}, "MSELoss is not known to be a plain mean"),
        ({"loss_fn": Loss.of("PoissonNLLLoss")}, "PoissonNLLLoss is not known to be a plain mean"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_recipe_that_needs_each_model_alone_is_refused(parameters, reason):
    assert reason in unsupported_reason(built(MODELS["MLP"], 1)[0], recipe(MODELS["MLP"], **parameters))


def test_bfloat16_is_refused():
    assert "bf16" in unsupported_reason(built(MODELS["MLP"], 1)[0], PLAIN, "bf16")


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(7, 3)

    def forward(self, x):
        return self.layer(x) if x.sum() > 0 else self.layer(-x)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(7, 7)

    def forward(self, x):
        return x + self.layer(x)


class Scaled(nn.Linear):
    pass


class Again(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(7, 7), nn.Linear(7, 3)

    def forward(self, x):
        return self.head(self.layer(self.layer(x).relu()).relu())


class Overwritten(nn.Module):
    """Its features are the outputs of the first layer after the second has written over them."""

    def __init__(self):
        super().__init__()
        self.layer, self.relu, self.head = nn.Linear(7, 7), nn.ReLU(inplace=True), nn.Linear(7, 3)

    def forward(self, x):
        features = self.layer(x)
        self.relu(features)
        return features, self.head(features)


def hooked():
    model = nn.Sequential(nn.Linear(7, 3))
    model[0].register_forward_hook(lambda module, inputs, output: None)
    return model


def tied():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    return model


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (nn.Sequential(nn.Linear(7, 3), nn.Dropout(0.1)), "dropout"),
        (nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3)), "no rule for Embedding"),
        (nn.Sequential(nn.Linear(7, 3), nn.Softmax(1)), "no rule for Softmax"),
        (nn.Sequential(Scaled(7, 3)), "weight outside a layer"),
        (nn.Sequential(nn.Flatten(0), nn.Linear(7, 3)), "Flatten"),
        (nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular")), "circular"),
        (nn.Sequential(nn.MaxPool2d(2, return_indices=True)), "no parameter"),
        (nn.Sequential(nn.Linear(7, 3), nn.BatchNorm1d(3, momentum=None)), "running statistics"),
        (Gated(), "cannot be traced"),
        (Residual(), "no rule for add"),
        (Again(), "called more than once"),
        (Overwritten(), "writes over what another reads"),
        (hooked(), "hooks"),
        (tied(), "share weights"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_network_that_has_no_rule_is_refused(model, reason):
    assert reason in unsupported_reason(model, PLAIN)


def test_a_frozen_batch_norm_is_trained_around_one_by_one():
    model = nn.Sequential(nn.Linear(7, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    assert unsupported_reason(model, PLAIN) is None
    model[1].requires_grad_(False)
    assert "a frozen BatchNorm keeps its statistics" in unsupported_reason(model, PLAIN)


class Beside(nn.Module):
    """A head of features that normalises, and that the loss does not see."""

    def __init__(self):
        super().__init__()
        self.norm, self.head = nn.BatchNorm1d(7), nn.Linear(7, 3)

    def forward(self, x):
        return self.norm(x), self.head(x)


def test_statistics_of_what_the_loss_does_not_see_are_refused():
    assert "keeps statistics" in unsupported_reason(Beside(), PLAIN)


def test_a_network_without_trainable_parameters_is_refused():
    model = built(MODELS["MLP"], 1)[0].requires_grad_(False)
    assert "no parameter that may be trained" in unsupported_reason(model, PLAIN)


@pytest.mark.parametrize(
    ("model", "shape"),
    [(MLP(hidden_sizes=(1024, 1024)), (64,)), (CNN(), (3, 32, 32)), (CNN(channels=(64, 128)), (1, 8, 8))],
    ids=["wide MLP", "CNN on larger images", "CNN with many channels"],
)
def test_large_networks_can_be_trained_together_but_are_not(model, shape):
    net = network(model, shape)
    assert "parameters is as fast one by one" in unsupported_reason(net, recipe(model))
    assert impossible(net, recipe(model)) is None


def test_images_of_unknown_size_are_refused():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    assert "pools whole images" in unsupported_reason(net, PLAIN)
    assert impossible(net, PLAIN) is None


def test_asking_leaves_the_model_as_it_was():
    model = built(MODELS["CNN with BatchNorm"], 1)[0]
    model.trunk[1].eval()
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    unsupported_reason(model, recipe(MODELS["CNN with BatchNorm"]))
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
