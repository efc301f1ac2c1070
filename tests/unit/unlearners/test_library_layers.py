"""Layers of other libraries that keep data or change flags by themselves: nothing forgotten stays, nothing frozen moves."""

import copy
import importlib.util

import pytest
import torch
from torch import nn

import erasure
from erasure.measures.contract import forward_pass
from erasure.training.calls import Criterion
from erasure.training.graphs import NodeColumn
from erasure.training.torchvision_operators import torchvision
from erasure.training.trial import inputs_kept, keep_inputs, release_inputs

EDGES = torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2]])


def has(name):
    return importlib.util.find_spec(name) is not None


class Cached(nn.Module):
    """One convolution that keeps what it has read, unless told otherwise."""

    def __init__(self, kind, cached, **settings):
        super().__init__()
        from torch_geometric import nn as layers

        torch.manual_seed(0)
        self.layer = getattr(layers, kind)(3, 2, cached=cached, **settings)

    def forward(self, batch):
        return self.layer(batch.x, batch.edge_index).index_select(0, batch.rows)


def column(first):
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    x[0] = first
    return NodeColumn(x, EDGES)


def logits(model, nodes):
    common = {"y": torch.zeros(4, dtype=torch.int64), "ids": torch.arange(4), "criterion": Criterion("classification")}
    return forward_pass(model, x=nodes, task="classification", **common).logits


@pytest.mark.skipif(not has("torch_geometric"), reason="torch_geometric is not installed")
@pytest.mark.parametrize(("kind", "settings"), [("SGConv", {}), ("SSGConv", {"alpha": 0.1}), ("GCNConv", {})])
def test_a_layer_that_caches_answers_from_the_graph_that_it_is_given(kind, settings):
    model, plain = Cached(kind, True, **settings), Cached(kind, False, **settings)
    for nodes in (column(5.0), column(0.0)):
        assert torch.equal(logits(model, nodes), logits(plain, nodes))


@pytest.mark.skipif(not has("torch_geometric"), reason="torch_geometric is not installed")
def test_no_features_of_forgotten_nodes_leave_with_a_model():
    model = Cached("SGConv", True)
    model(column(5.0).gather(torch.arange(4)))
    assert model.layer._cached_x is not None
    private = keep_inputs(copy.deepcopy(model))
    private(column(0.0).gather(torch.arange(4)))
    released = release_inputs(private)
    assert released.layer._cached_x is None
    assert not released._forward_pre_hooks
    assert released.layer.cached
    assert model.layer._cached_x is not None  # the given model is the caller's
    with inputs_kept(model):
        pass
    assert not model._forward_pre_hooks


class Compared(nn.Module):
    """A network that asks its own base model for a second opinion, as preference losses do."""

    def __init__(self, adapted):
        super().__init__()
        self.adapted = adapted
        self.head = nn.Linear(3, 3)

    def forward(self, x):
        with self.adapted.disable_adapter():
            self.adapted(x)
        return self.head(self.adapted(x))


@pytest.mark.skipif(not has("peft"), reason="peft is not installed")
@pytest.mark.parametrize("method", ["Finetuning", "NegGrad", "SCRUB", "SSD", "SalUn"])
def test_frozen_adapters_stay_frozen_though_peft_sets_their_flags(method):
    if has("torchvision"):
        torchvision("transforms", "a test")
    import peft

    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    model = Compared(peft.get_peft_model(base, peft.LoraConfig(target_modules=["0"], r=2)))
    for parameter in model.adapted.parameters():
        parameter.requires_grad_(False)
    x, y = torch.randn(18, 4), torch.arange(18) % 3
    given = {"selection_weighting": 0.5} if method == "SSD" else {}
    new = erasure.unlearn(model, method, forget=(x[:6], y[:6]), retain=(x[6:], y[6:]), device="cpu", **given)
    before, flags = dict(model.named_parameters()), {name: p.requires_grad for name, p in model.named_parameters()}
    for name, parameter in new.named_parameters():
        if name.startswith("adapted."):
            assert torch.equal(parameter, before[name]), name
    assert {name for name, on in flags.items() if on} == {"head.weight", "head.bias"}
    assert {name for name, p in new.named_parameters() if p.requires_grad} == {"head.weight", "head.bias"}
    assert not torch.equal(new.head.weight, model.head.weight)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in new.modules())
