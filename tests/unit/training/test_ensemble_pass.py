"""One pass of many models over the same samples says what each says alone."""

import pytest
import torch
from ensemble_cases import MODELS, SHAPES, built, data, recipe, together
from torch import nn

from erasure.errors import DataError, RequirementNotMet
from erasure.measures.contract import forward_pass
from erasure.models.mlp import MLP
from erasure.training.calls import Criterion, Loss
from erasure.training.ensemble import forward_together, refuse_pass

TASKS = ("classification", "binary", "multilabel")
IDS = torch.randperm(150, generator=torch.Generator().manual_seed(1))[:77]


def trained(name, n_models=3, task="classification", dtype=torch.float32):
    models = built(MODELS[name], n_models, task, dtype)
    return together(models, recipe(MODELS[name], epochs=1), (40,) * n_models, task)


def options(name, task="classification", dtype=torch.float32):
    return {**data(SHAPES[type(MODELS[name])], task, dtype), "ids": IDS, "criterion": Criterion(task), "task": task}


def assert_same(found, models, given):
    for number, model in enumerate(models):
        alone = forward_pass(model, **given)
        for name in ("ids", "labels"):
            assert torch.equal(getattr(found, name), getattr(alone, name))
        for name in ("logits", "losses", "features"):
            own, expected = getattr(found, name)[number], getattr(alone, name)
            assert own.shape == expected.shape
            assert own.dtype == expected.dtype
            assert torch.allclose(own, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", MODELS)
def test_a_pass_of_many_models_equals_a_pass_of_each(name, task, dtype):
    models, given = trained(name, task=task, dtype=dtype), options(name, task, dtype)
    assert_same(forward_together(models, **given), models, given)


@pytest.mark.parametrize("batch_size", [1, 9, 100, 10_000])
def test_the_batch_size_does_not_matter(batch_size):
    models, given = trained("CNN with BatchNorm"), options("CNN with BatchNorm")
    assert_same(forward_together(models, **given, batch_size=batch_size), models, given)


def test_one_model_is_a_pass_too():
    models, given = trained("CNN", n_models=1), options("CNN")
    assert_same(forward_together(models, **given), models, given)


def test_the_loss_is_that_of_the_recipe():
    models = trained("MLP", task="multilabel")
    given = {**options("MLP", "multilabel"), "criterion": Criterion("multilabel", Loss.of("MSELoss"))}
    assert_same(forward_together(models, **given), models, given)


class InPlace(nn.Module):
    """Overwrites its input with a function, not a layer."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(7, 3)

    def forward(self, x):
        return self.layer(nn.functional.relu(x, inplace=True))


@pytest.mark.parametrize(
    "build", [lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(7, 3)), InPlace], ids=["layer", "function"]
)
def test_networks_that_return_logits_alone_have_no_features_and_may_overwrite_their_input(build):
    torch.manual_seed(0)
    models = [build() for _ in range(2)]
    given = options("MLP")
    before = given["x"].values.clone()
    found = forward_together(models, **given)
    assert found.features is None
    assert torch.equal(given["x"].values, before)
    for number, model in enumerate(models):
        assert torch.allclose(found.logits[number], forward_pass(model, **given).logits, atol=1e-5)


def test_the_models_are_only_read():
    models, given = trained("CNN with BatchNorm"), options("CNN with BatchNorm")
    models[0].train()
    before = [{name: value.clone() for name, value in model.state_dict().items()} for model in models]
    forward_together(models, **given)
    assert [model.training for model in models] == [True, False, False]
    for model, state in zip(models, before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
        assert all(parameter.grad is None for parameter in model.parameters())


def test_dropout_does_not_stand_in_the_way_of_a_pass():
    models = built(MLP(hidden_sizes=(5,), dropout=0.5), 2, dtype=torch.float32)
    given = options("MLP")
    assert_same(forward_together(models, **given), models, given)


def test_networks_without_convolutions_are_evaluated_one_by_one():
    assert "without convolutions" in refuse_pass(trained("MLP"))
    assert refuse_pass(trained("CNN")) is None


def test_what_cannot_be_evaluated_together_is_refused():
    given = options("MLP")
    different = [*built(MODELS["MLP"], 1, dtype=torch.float32), *built(MODELS["linear"], 1, dtype=torch.float32)]
    assert "model 1 differs" in refuse_pass(different)
    with pytest.raises(RequirementNotMet, match="model 1 differs"):
        forward_together(different, **given)
    with pytest.raises(RequirementNotMet, match="no rule for Softmax"):
        forward_together([nn.Sequential(nn.Linear(7, 3), nn.Softmax(1))], **given)
    with pytest.raises(RequirementNotMet, match="there are none"):
        forward_together([], **given)
    with pytest.raises(DataError, match="no samples"):
        forward_together(trained("MLP"), **{**given, "ids": IDS[:0]})
