"""Fast ways of training in float32, held to a plain loop: it says how far float32 may be from float64, and which weights stay.

Adam divides a gradient by its own size, so that a step shows what tolerances on gradients do not: rounding where a gradient is exactly
zero, and sums that lose digits.
"""

import copy
import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from erasure.models.mlp import MLP
from erasure.training.batches import TensorColumn
from erasure.training.calls import Criterion, Optimizer
from erasure.training.ensemble import train_together
from erasure.training.predictor import Predictor, train
from erasure.training.randomness import Streams

BATCH_SIZE = 16
SIZES = (48, 33)
"""Three batches each, of which the last has 16 samples or one."""

OPTIMIZERS = {
    "Adam": Optimizer.of("Adam", lr=2e-3),
    "AMSGrad": Optimizer.of("Adam", lr=2e-3, amsgrad=True),
    "AdamW": Optimizer.of("AdamW", lr=2e-3, weight_decay=0.1),
    "Nesterov": Optimizer.of("SGD", lr=0.05, momentum=0.9, nesterov=True),
    "RMSprop": Optimizer.of("RMSprop", lr=1e-3),
}


def conv(n_inputs, n_outputs, **options):
    return nn.Conv2d(n_inputs, n_outputs, 3, **{"padding": 1, **options})


def with_dead_units():
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 4))
    with torch.no_grad():
        network[1].bias[::3] = -50.0
    return network


NETWORKS = {
    "dead units": (8, with_dead_units),
    "LayerNorm": (8, lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 4))),
    "patches, then 4 x 4": (
        8,
        lambda: nn.Sequential(
            conv(1, 16), nn.ReLU(), nn.MaxPool2d(2), conv(16, 8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32, 4)
        ),
    ),
    "strides and groups": (
        8,
        lambda: nn.Sequential(
            conv(1, 8, stride=2), nn.Tanh(), conv(8, 8, groups=4, bias=False), nn.GELU(), conv(8, 8, dilation=2, padding=2),
            nn.AvgPool2d(2, ceil_mode=True), nn.Flatten(), nn.Linear(32, 4),
        ),
    ),
    "BatchNorm": (
        32,
        lambda: nn.Sequential(
            conv(1, 8, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), conv(8, 8, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.MaxPool2d(4), nn.Flatten(), nn.Linear(128, 4),
        ),
    ),
}  # fmt: skip


@functools.cache
def pictures(side):
    """Noise on a third of the pixels, and black borders."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(64, 1, side, side, generator=generator)
    x *= torch.rand(x.shape, generator=generator) < 0.3
    x[..., : side // 4] = 0
    return x, torch.randint(0, 4, (64,), generator=generator)


@functools.cache
def initial(network):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return [NETWORKS[network][1]() for _ in SIZES]


def in_a_plain_loop(model, optimizer, x, y, size, seed):
    order = torch.randperm(size, generator=Streams(seed).torch("shuffle"))
    stepping = getattr(torch.optim, optimizer.name)(model.parameters(), foreach=False, **optimizer.parameters)
    model.train()
    for batch in torch.split(order, BATCH_SIZE):
        stepping.zero_grad()
        F.cross_entropy(model(x[batch]), y[batch]).backward()
        stepping.step()
    return tensors(model)


def tensors(model):
    return {name: value.detach().double() for name, value in model.state_dict().items()}


@functools.cache
def plain(network, name, dtype):
    x, y = pictures(NETWORKS[network][0])
    copies = [copy.deepcopy(model).to(dtype) for model in initial(network)]
    return [in_a_plain_loop(model, OPTIMIZERS[name], x.to(dtype), y, SIZES[k], k) for k, model in enumerate(copies)]


def together(models, ids, **options):
    return train_together(models, ids=ids, seeds=range(len(models)), **options)


def alone(models, ids, **options):
    return [train(model, ids=own, seed=k, **options) for k, (model, own) in enumerate(zip(models, ids, strict=True))]


def fast(network, name, dtype, way):
    x, y = pictures(NETWORKS[network][0])
    found = way(
        [copy.deepcopy(model).to(dtype) for model in initial(network)],
        ids=[torch.arange(size) for size in SIZES],
        predictor=Predictor(model=MLP(), epochs=1, optimizer=OPTIMIZERS[name], schedule=None),
        x=TensorColumn(x.to(dtype)),
        y=y,
        criterion=Criterion("classification"),
        batch_size=BATCH_SIZE,
    )
    return [tensors(model) for model in found]


CASES = [*((network, "Adam") for network in NETWORKS), *(("dead units", name) for name in OPTIMIZERS if name != "Adam")]


@pytest.mark.parametrize("way", [together, alone], ids=["together", "alone"])
@pytest.mark.parametrize(("network", "name"), CASES)
def test_steps_are_as_near_to_float64_as_those_of_a_plain_loop(network, name, way):
    exact, usual = (plain(network, name, dtype) for dtype in (torch.float64, torch.float32))
    in_double, found = (fast(network, name, dtype, way) for dtype in (torch.float64, torch.float32))
    for model, start in enumerate(map(tensors, initial(network))):
        for key, right in exact[model].items():
            stays = (right == start[key]) & (usual[model][key] == start[key])
            assert bool((found[model][key] == start[key])[stays].all()), f"weights of {key} moved whose gradient is zero"
            assert float((in_double[model][key] - right).abs().max()) < 1e-10, key
            allowed, off = (float((each[model][key] - right).abs().mean()) for each in (usual, found))
            assert off <= 5 * allowed + 3e-9, key


def test_some_gradients_are_zero():
    for start, right in zip(map(tensors, initial("dead units")), plain("dead units", "Adam", torch.float64), strict=True):
        assert int((right["1.weight"] == start["1.weight"]).sum()) > 500
