import copy
from dataclasses import replace

import pytest
from torch import nn
from toys import distance, norm_net, same_model, sgd, tiny_net, tiny_task, unlearned, weights

from erasure.training.forward import FeaturesAndHead
from erasure.unlearners import frozen_prefix
from erasure.unlearners.cf_k import CFk
from erasure.unlearners.eu_k import EUk
from erasure.unlearners.finetuning import Finetuning
from erasure.unlearners.last_layers import LastLayers

PLAIN = {"epochs": 4, "optimizer": sgd(0.1, momentum=0.9), "schedule": None, "max_grad_norm": None}


class Counting(nn.Module):
    """Passes on what it gets, and counts the samples."""

    seen = 0

    def forward(self, x):
        type(self).seen += len(x)
        return x


class Drifting(nn.Module):
    """Gives something else in every call."""

    n_calls = 0

    def forward(self, x):
        type(self).n_calls += 1
        return x + 1e-3 * self.n_calls


class Wrapped(nn.Module):
    """Layers that run one after the other, which cannot be told from outside."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def headed():
    return FeaturesAndHead(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5)), nn.Linear(5, 3)).double()


def counted(method, network, monkeypatch, context=None):
    """What a method makes of a network that counts, how many samples ran through its beginning, and how many without this."""
    monkeypatch.setattr(Counting, "seen", 0)
    context = context or tiny_task()
    found = unlearned(method, copy.deepcopy(network), context)
    n_seen, Counting.seen = Counting.seen, 0
    with monkeypatch.context() as patch:
        patch.setattr(frozen_prefix, "MAX_BYTES", 0)
        expected = unlearned(method, copy.deepcopy(network), context)
    return found, expected, n_seen, Counting.seen


@pytest.mark.parametrize("method", [CFk, EUk])
@pytest.mark.parametrize("build", [tiny_net, norm_net, headed])
@pytest.mark.parametrize("k", [1, 2])
def test_the_frozen_beginning_runs_once_for_all_epochs(method, build, k, monkeypatch):
    network = build()
    beginning = network.trunk if isinstance(network, FeaturesAndHead) else network
    beginning.insert(0, Counting())
    found, expected, n_seen, n_otherwise = counted(method(k=k, **PLAIN), network, monkeypatch)
    assert distance(weights(found), [*expected.parameters()]) < 1e-12
    is_all_trained = k == 2 and build is tiny_net
    assert n_otherwise >= 4 * 18
    assert n_seen == n_otherwise if is_all_trained else n_seen < 2 * 18


def test_any_plain_training_of_the_last_layers_profits(monkeypatch):
    network = nn.Sequential(Counting(), *tiny_net())
    found, expected, n_seen, _ = counted(LastLayers(inner=Finetuning(**PLAIN), n_layers=1), network, monkeypatch)
    assert distance(weights(found), [*expected.parameters()]) < 1e-12
    assert n_seen < 2 * 18


def test_what_changes_between_epochs_is_run_in_each_of_them(monkeypatch):
    monkeypatch.setattr(Drifting, "n_calls", 0)
    first, *rest = tiny_net()
    changing = {
        "dropout": nn.Dropout(0.5),
        "statistics of the batch": nn.BatchNorm1d(6, affine=False, track_running_stats=False),
        "something else in every call": Drifting(),
    }
    for layer in changing.values():
        network = nn.Sequential(Counting(), first, layer, *rest).double()
        # What comes before it is computed once all the same.
        _, _, n_seen, n_otherwise = counted(CFk(**PLAIN | {"epochs": 8}), network, monkeypatch)
        assert 2 * n_seen < n_otherwise
        inside = FeaturesAndHead(Wrapped(Counting(), first, layer), rest[-1]).double()
        _, _, n_seen, _ = counted(CFk(**PLAIN), inside, monkeypatch)
        assert n_seen >= 4 * 18


def test_a_dropout_between_draws_as_it_did(monkeypatch):
    first, *rest = tiny_net()
    network = nn.Sequential(Counting(), first, nn.Dropout(0.5), *rest)
    found, expected, _, _ = counted(CFk(**PLAIN), network, monkeypatch)
    assert distance(weights(found), [*expected.parameters()]) < 1e-12


def test_listeners_get_the_whole_network():
    seen = []
    model = tiny_net()
    context = tiny_task()
    context = replace(context, on_epoch=lambda epoch, epochs, network: seen.append((epoch, copy.deepcopy(network))))
    found = unlearned(CFk(**PLAIN), model, context)
    assert [epoch for epoch, _ in seen] == [1, 2, 3, 4]
    assert same_model(seen[-1][1], found)
    assert not same_model(seen[0][1], found)


def test_who_listens_to_the_network_hears_every_pass():
    heard = []
    model = tiny_net()
    model.register_forward_hook(lambda module, given, output: heard.append(len(output)))
    unlearned(CFk(**PLAIN), model, tiny_task())
    assert sum(heard) >= 4 * 18
