"""Every unlearner on networks as people have them: it works as on a plain one, or refuses in our words."""

import copy
import dataclasses
import functools
import itertools
import warnings

import pytest
import torch
from test_unlearners import FACTS, small
from test_unlearners import unlearners as all_unlearners
from torch import nn
from torch.nn.utils import parametrizations

from erasure.errors import RequirementNotMet
from erasure.testing.problems import problem
from erasure.training.forward import logits_of
from erasure.unlearners.contract import model_digest


@functools.cache
def unlearners():
    """Those that are defined for the networks here, which classify."""
    return {name: cls for name, cls in all_unlearners().items() if cls.defined_for != {"generation"}}


class WritesOver(nn.Module):
    """The same network, which writes over its input."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        y = x.clone()
        x.mul_(0.0).add_(7.0)
        return self.inner(y)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.read, self.head = nn.LSTM(2, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.read(x.reshape(len(x), 3, 2))[0][:, -1])


class Attentive(nn.Module):
    """A class token, positions and attention, as in a vision transformer."""

    def __init__(self):
        super().__init__()
        self.token, self.positions = nn.Parameter(torch.randn(1, 1, 4)), nn.Parameter(torch.randn(1, 4, 4))
        self.embed = nn.Linear(2, 4)
        self.encode = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        patches = self.embed(x.reshape(len(x), 3, 2))
        states = torch.cat([self.token.expand(len(x), -1, -1), patches], 1) + self.positions
        return self.head(self.encode(states)[:, 0])


class Named(nn.Module):
    """A mapping of outputs."""

    def __init__(self):
        super().__init__()
        self.body = dense()

    def forward(self, x):
        return {"logits": self.body(x), "note": "more"}


def dense(first=None):
    return nn.Sequential(first or nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def half_frozen():
    model = dense()
    model[0].requires_grad_(False)
    return model


def old_weight_norm():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return dense(nn.utils.weight_norm(nn.Linear(6, 8)))


NETWORKS = {
    "attention": Attentive,
    "LSTM": Recurrent,
    "mapping": Named,
    "frozen layer": half_frozen,
    "weight norm": lambda: dense(parametrizations.weight_norm(nn.Linear(6, 8))),
    "older weight norm": old_weight_norm,
    "spectral norm": lambda: dense(parametrizations.spectral_norm(nn.Linear(6, 8))),
    "lazy": lambda: dense(nn.LazyLinear(8)),
}


class Bank:
    """Networks of one kind; nothing is trained."""

    def __init__(self, make):
        self.make = make

    def fresh(self, seed):
        torch.manual_seed(seed)
        return self.make().eval()

    def retrained(self, partition):
        return self.fresh(1), 0.0

    def replay(self, on_step):
        raise RequirementNotMet("nothing was logged in this test")

    def resumed(self, original, partition, epochs):
        raise RequirementNotMet("nothing was logged in this test")

    def cached(self, name, content, compute):
        return compute(), 0.0


def given(name, cls):
    facts = FACTS.get(name, {})
    return small(cls), problem(facts.get("kind", "table"), forget=facts.get("forget", "some"))


def pairs():
    """Every method with a third of the networks and every network with a third of the methods; the others are for the night."""
    for (i, name), (j, network) in itertools.product(enumerate(unlearners()), enumerate(NETWORKS)):
        marks = [] if (i + j) % 3 == 0 else [pytest.mark.nightly]
        yield pytest.param(name, network, marks=marks, id=f"{name}-{network}")


@pytest.mark.parametrize(("name", "network"), list(pairs()))
def test_a_method_works_on_a_network_or_refuses_it_in_our_words(name, network):
    cls = unlearners()[name]
    method, found = given(name, cls)
    if FACTS.get(name, {}).get("kind") == "image":
        pytest.skip("it needs convolutions, which these networks do not have")
    if cls.at_training or "recipe" in FACTS.get(name, {}):
        with pytest.raises(
            RequirementNotMet, match=r"was logged|ExactDeletion|CertifiedUnlearning|NoisyLogistic|for linear models"
        ):
            method.run(NETWORKS["mapping"](), dataclasses.replace(found.context, models=Bank(NETWORKS["mapping"])))
        return
    torch.manual_seed(0)
    bank = Bank(NETWORKS[network])
    model = bank.fresh(0)
    task = dataclasses.replace(found.context, models=bank)
    try:
        result = method.run(model, task).model
    except RequirementNotMet as refusal:
        assert network in {"lazy", "spectral norm"}, refusal
        return
    assert network != "lazy"
    logits = logits_of(result(found.context.x.gather(torch.arange(4))))
    assert bool(torch.isfinite(logits).all())
    assert result.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize(("name", "cls"), unlearners().items(), ids=unlearners())
def test_a_network_that_writes_over_its_input_gives_the_same_model(name, cls):
    method, found = given(name, cls)
    if cls.at_training or "recipe" in FACTS.get(name, {}):
        pytest.skip("it needs the recipe's own network, or an estimator")
    plain = method.run(found.model, found.context).model
    wrapped = copy.deepcopy(found.models)
    wrapped.fresh = lambda seed: WritesOver(found.models.fresh(seed)).eval()
    retrained = found.models.retrained
    wrapped.retrained = lambda partition: (WritesOver(retrained(partition)[0]).eval(), 0.0)
    over = method.run(WritesOver(found.model), dataclasses.replace(found.context, models=wrapped)).model
    assert not over._forward_pre_hooks
    assert model_digest(over.inner) == model_digest(plain)
