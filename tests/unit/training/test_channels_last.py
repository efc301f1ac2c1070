from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from erasure.models.cnn import CNN
from erasure.training.batches import Batches, TensorColumn
from erasure.training.calls import Optimizer
from erasure.training.channels_last import channels_last_twins
from erasure.training.loop import Trainer
from erasure.training.predictor import ModelInput
from erasure.training.twins import replaced

SIDE = 17


class Viewed(nn.Module):
    """Takes what a block gives as it lies in memory."""

    def __init__(self, *layers, n_features):
        super().__init__()
        self.block = nn.Sequential(*layers)
        self.head = nn.Linear(n_features, 3)

    def forward(self, x):
        found = self.block(x)
        return self.head(found.view(len(found), -1))


def _with(relu):
    return Viewed(conv(3, 4), relu, nn.MaxPool2d(2), conv(4, 4), relu, nn.MaxPool2d(2), n_features=4 * 4 * 4)


def conv(n_inputs, n_outputs, **options):
    return nn.Conv2d(n_inputs, n_outputs, 3, padding=1, **options)


NETWORKS = {
    "one channel": lambda: Viewed(conv(1, 4), nn.ReLU(), nn.MaxPool2d(2), n_features=4 * 8 * 8),
    "one channel out": lambda: Viewed(conv(3, 1), nn.ReLU(), nn.MaxPool2d(2), n_features=8 * 8),
    "in place": lambda: Viewed(conv(3, 4), nn.ReLU(inplace=True), nn.MaxPool2d(2), n_features=4 * 8 * 8),
    "two blocks": lambda: Viewed(
        conv(3, 4), nn.ReLU(), nn.MaxPool2d(2), conv(4, 6, bias=False), nn.ReLU(), nn.MaxPool2d(3, 2, 1), n_features=6 * 4 * 4
    ),
    "no ReLU": lambda: Viewed(
        conv(3, 4, groups=1, padding_mode="reflect"), nn.MaxPool2d(2, ceil_mode=True), n_features=4 * 9 * 9
    ),
    "a ReLU of both": lambda: _with(nn.ReLU()),
    "goes on": lambda: Viewed(conv(3, 4), nn.ReLU(), nn.MaxPool2d(2), conv(4, 2), nn.Tanh(), n_features=2 * 8 * 8),
    "dropout between": lambda: Viewed(conv(3, 4), nn.Dropout(0.5), nn.ReLU(), nn.MaxPool2d(2), n_features=4 * 8 * 8),
}


def images(network, n=5):
    n_channels = network.block[0].in_channels
    return torch.randn(n, n_channels, SIDE, SIDE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def differentiated(network, x):
    torch.manual_seed(1)  # of dropout
    own = x.clone().requires_grad_()
    output = network(own)
    loss = (output * torch.arange(output.numel()).view(output.shape)).square().sum()
    return [output.detach(), *torch.autograd.grad(loss, [own, *network.parameters()])]


@pytest.mark.parametrize("name", NETWORKS)
def test_blocks_compute_what_they_compute_without(name):
    torch.manual_seed(0)
    network = NETWORKS[name]().double()
    x = images(network)
    expected = differentiated(copy.deepcopy(network), x)
    twins = channels_last_twins(network)
    with replaced(twins) as taken:
        found = differentiated(network, x)
    assert all(torch.allclose(a, b, rtol=1e-10, atol=1e-10) for a, b in zip(found, expected, strict=True))
    assert taken == set(twins) == ({network.block} if name != "dropout between" else set())


@pytest.mark.parametrize("watched", [1, 2])
def test_who_looks_between_sees_what_the_layers_would_give(watched):
    torch.manual_seed(0)
    network, seen = NETWORKS["two blocks"]().double(), []
    x = images(network)
    network.block[watched].register_forward_hook(lambda module, given, output: seen.append((given[0], output)))
    with replaced(channels_last_twins(network)):
        network(x)
    network(x)
    found, expected = seen
    assert all(torch.allclose(a, b, rtol=1e-12, atol=1e-12) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("shape", [(2, 3, 15, 17), (3, 17, 17)], ids=str)
def test_small_images_and_single_ones_are_left_to_the_layers(shape):
    block = nn.Sequential(conv(3, 4), nn.ReLU(), nn.MaxPool2d(2))
    x = torch.randn(shape)
    with replaced(channels_last_twins(block)):
        found = block(x)
    assert torch.equal(found, block(x))


def test_blocks_with_batch_norm_are_left_to_the_layers():
    """Its kernel for this layout loses digits; see test_steps_against_float64."""
    assert not channels_last_twins(nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)))


def test_layers_that_are_called_by_themselves_are_left_alone():
    block = nn.Sequential(conv(3, 4), nn.ReLU(), nn.MaxPool2d(2))
    with replaced(channels_last_twins(block)) as taken:
        assert block[0](torch.randn(2, 3, SIDE, SIDE)).is_contiguous()
    assert not taken


def test_training_goes_this_way_and_ends_where_it_ends_without(monkeypatch):
    shape = ModelInput((1, 28, 28), 3)
    torch.manual_seed(0)
    network = CNN(channels=(4, 6), hidden_sizes=(8,)).build(shape)
    x, y = torch.rand(64, 1, 28, 28), torch.randint(0, 3, (64,))
    seen = []

    def trained(model):
        network_ = copy.deepcopy(model)
        trainer = Trainer(network_, Optimizer.of("SGD", lr=0.1), epochs=1)
        conv2 = next(layer for layer in reversed(list(network_.modules())) if isinstance(layer, nn.Conv2d))
        handle = conv2.register_forward_hook(lambda module, given, output: seen.append(output.is_contiguous()))
        trainer.train_on(
            Batches(TensorColumn(x), y, torch.arange(64), 16),
            lambda batch: nn.functional.cross_entropy(network_(batch.x)[1], batch.y),
        )
        handle.remove()
        return torch.cat([weight.detach().reshape(-1) for weight in network_.parameters()])

    found = trained(network)
    monkeypatch.setattr("erasure.training.loop.channels_last_twins", lambda model: {})
    expected = trained(network)
    assert seen == [False] * 4 + [True] * 4
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert not torch.equal(expected, torch.cat([weight.detach().reshape(-1) for weight in network.parameters()]))
