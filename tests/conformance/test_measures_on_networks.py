"""Every measure and attack on networks that write over their input: the same numbers as on networks that do not."""

import copy
import dataclasses

import pytest
import torch
from test_measures import _WITH_A_BANK, _concrete_measures
from torch import nn

from erasure.errors import InvalidParameters, RequirementNotMet
from erasure.measures.contract import forward_pass
from erasure.models.mlp import MLP
from erasure.testing.evaluations import bench
from erasure.training.calls import Criterion, Optimizer
from erasure.training.graphs import NodeColumn
from erasure.training.predictor import Predictor, train


class WritesOver(nn.Module):
    """The same network, which writes over its input afterwards."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        logits = self.inner(x)
        (x if isinstance(x, torch.Tensor) else x.x).mul_(0.0).add_(7.0)
        return logits


class AllOfThem(nn.Linear):
    """One layer, named alike in both networks; the input is overwritten within the layer itself."""

    def forward(self, x):
        logits = super().forward(x)
        x.mul_(0.0).add_(7.0)
        return logits


def overwriting(model):
    layer = AllOfThem(model.in_features, model.out_features)
    layer.load_state_dict(model.state_dict())
    return layer.eval()


def values(measure, given):
    kind = "unlearned" if "unlearned" in measure.applies_to else "original"
    found = measure.measure(given.evaluation(measure, "fair", kind))
    return [(value.name, value.partition, value.value) for value in found]


@pytest.mark.parametrize(
    "cls", [cls for cls in _concrete_measures() if cls.__name__ not in _WITH_A_BANK], ids=lambda cls: cls.__name__
)
def test_a_network_that_writes_over_its_input_gets_the_same_number(cls):
    given = bench("classification")
    try:
        measure = cls()
        plain = values(measure, given)
    except (TypeError, InvalidParameters, RequirementNotMet):
        pytest.skip("asks for more than the toy has")
    x = given.x.clone()
    over = dataclasses.replace(given, models={name: overwriting(model) for name, model in given.models.items()})
    assert repr(values(measure, over)) == repr(plain)
    assert torch.equal(over.x, x)
    assert not any(model._forward_pre_hooks for model in over.models.values())


class Features(nn.Module):
    """A network on the features of nodes alone."""

    def __init__(self):
        super().__init__()
        self.read = nn.Linear(3, 2)

    def forward(self, x):
        return self.read(x.x.index_select(0, x.rows))


def nodes():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(12, 3, generator=generator), torch.arange(12) % 2
    return NodeColumn(x, torch.tensor([[0, 1], [1, 2]])), y


@pytest.mark.parametrize("wrap", [lambda model: model, WritesOver], ids=["plain", "writes over"])
def test_features_of_nodes_outlive_a_pass_and_a_training(wrap):
    torch.manual_seed(0)
    model, (column, y) = Features(), nodes()
    before, plain = column.x.clone(), copy.deepcopy(model)
    common = {"x": column, "y": y, "ids": torch.arange(12), "criterion": Criterion("classification")}
    recipe = Predictor(model=MLP(), epochs=3, optimizer=Optimizer.of("SGD", lr=0.1))
    over = train(wrap(model), recipe, seed=0, batch_size=5, **common)
    assert torch.equal(column.x, before)
    expected = train(plain, recipe, seed=0, batch_size=5, **common)
    found = forward_pass(over, task="classification", batch_size=5, **common)
    assert torch.equal(column.x, before)
    assert torch.equal(found.logits, forward_pass(expected, task="classification", batch_size=5, **common).logits)
