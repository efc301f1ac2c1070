"""The Python door on models and data of one's own."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

import erasure
from erasure.errors import DataError, InvalidParameters, RequirementNotMet, UnknownComponent
from erasure.unlearners.finetuning import Finetuning


class Samples(Dataset):
    """A map-style data set, as people write them."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], int(self.y[i])


@pytest.fixture
def own():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 5, generator=generator)
    y = (x[:, 0] > 0).long()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))
    return model, (x[:10], y[:10]), TensorDataset(x[10:], y[10:])


def state(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.filterwarnings("ignore::erasure.errors.UnlearningWarning")  # the network is untrained
@pytest.mark.parametrize(
    "method", ["SSD", "SCRUB", "NegGrad", "SalUn", "BadTeaching", "FisherForgetting", "InfluenceUnlearning", "EU-k"]
)
def test_a_method_gives_a_new_model_and_leaves_mine_alone(own, method):
    model, forget, retain = own
    model.train()
    before, random_state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    hyperparameters = {"SSD": {"selection_weighting": 1.0}, "EU-k": {"epochs": 2}}.get(method, {})
    unlearned = erasure.unlearn(model, method, forget=forget, retain=retain, **hyperparameters)
    assert unlearned is not model
    assert not torch.equal(state(unlearned), state(model))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert not unlearned.training
    assert torch.equal(torch.get_rng_state(), random_state)


def test_the_same_seed_gives_the_same_model(own):
    model, forget, retain = own
    first, again, other = (erasure.unlearn(model, "SCRUB", forget=forget, retain=retain, seed=s) for s in (1, 1, 2))
    assert torch.equal(state(first), state(again))
    assert not torch.equal(state(first), state(other))


def test_map_style_data_gives_what_tensors_give(own):
    model, (x, y), retain = own
    tensors = erasure.unlearn(model, "Finetuning", forget=(x, y), retain=retain)
    samples = erasure.unlearn(model, Finetuning(), forget=Samples(x, y), retain=Samples(*retain.tensors))
    assert torch.equal(state(tensors), state(samples))


def test_optimizers_are_given_by_name_or_as_in_a_configuration(own):
    model, forget, retain = own
    node = {"class": "SGD", "parameters": {"lr": 0.5}}
    fast = erasure.unlearn(model, "Finetuning", forget=forget, retain=retain, optimizer=node)
    plain = erasure.unlearn(model, "Finetuning", forget=forget, retain=retain, optimizer="SGD")
    assert not torch.equal(state(fast), state(plain))


@pytest.mark.filterwarnings("ignore::erasure.errors.UnlearningWarning")  # what is forgotten is retained
def test_binary_and_multilabel_models_are_recognised(own):
    _, (x, y), _ = own
    one_logit = nn.Linear(5, 1)
    assert erasure.unlearn(one_logit, "Finetuning", forget=(x, y), retain=(x, y))(x).shape == (10, 1)
    three_labels = nn.Linear(5, 3)
    labels = torch.stack([y, 1 - y, y], dim=1).float()
    assert erasure.unlearn(three_labels, "SSD", forget=(x, labels), retain=(x, labels), selection_weighting=1.0)(x).shape == (
        10,
        3,
    )


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"method": "SCRUBB"}, UnknownComponent, 'did you mean "SCRUB"?'),
        ({"method": "SCRUB", "retain": None}, RequirementNotMet, "retain="),
        ({"method": "SSD", "retain": None}, RequirementNotMet, "train"),
        ({"method": "SCRUB", "epoch": 1}, InvalidParameters, 'did you mean "epochs"?'),
        ({"method": "SCRUB", "epochs": -1}, InvalidParameters, "greater than or equal to 0"),
        ({"method": "SCRUB", "optimizer": {"class": "SGD", "parameters": {"lrr": 1}}}, InvalidParameters, 'did you mean "lr"?'),
        ({"method": "GoldModel"}, RequirementNotMet, "erasure.run"),
        ({"method": "Amnesiac"}, RequirementNotMet, "erasure.run"),
        ({"method": "SCRUB", "device": "cuda:99"}, RequirementNotMet, "not available"),
        ({"method": "SCRUB", "forget": (torch.zeros(3, 4), torch.zeros(3).long())}, DataError, "one shape"),
        ({"method": "NegGrad", "forget": (torch.zeros(3, 5), torch.tensor([0, 1, 7]))}, DataError, "out of range"),
        ({"method": "NegGrad", "forget": (torch.zeros(3, 9), torch.zeros(3).long()), "retain": None}, DataError, "does not take"),
    ],
    ids=lambda value: value["method"] if isinstance(value, dict) else "",
)
def test_a_bad_call_says_what_is_wrong(own, arguments, error, said):
    model, forget, retain = own
    with pytest.raises(error) as raised:
        erasure.unlearn(model, **{"forget": forget, "retain": retain, **arguments})
    assert said in str(raised.value)
