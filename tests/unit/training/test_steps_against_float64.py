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

from erasure.models.graph import GNN
from erasure.models.mlp import MLP
from erasure.training.batches import TensorColumn
from erasure.training.calls import Criterion, Optimizer
from erasure.training.ensemble import train_together
from erasure.training.graphs import NodeColumn
from erasure.training.per_sample import squared_gradients
from erasure.training.predictor import ModelInput, Predictor, train
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
    "wide": (8, lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 2048), nn.ReLU(), nn.Linear(2048, 64), nn.ReLU(), nn.Linear(64, 4))),
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


def assert_as_near(start, exact, usual, in_double, found):
    """Holds a fast way to a plain loop: from the start, the loop's end in float64 and float32, and the fast way's in both."""
    for key, right in exact.items():
        stays = (right == start[key]) & (usual[key] == start[key])
        assert bool((found[key] == start[key])[stays].all()), f"weights of {key} moved whose gradient is zero"
        assert float((in_double[key] - right).abs().max()) < 1e-10, key
        allowed, off = (float((each[key] - right).abs().mean()) for each in (usual, found))
        assert off <= 5 * allowed + 3e-9, key


CASES = [*((network, "Adam") for network in NETWORKS), *(("dead units", name) for name in OPTIMIZERS if name != "Adam")]


@pytest.mark.parametrize("way", [together, alone], ids=["together", "alone"])
@pytest.mark.parametrize(("network", "name"), CASES)
def test_steps_are_as_near_to_float64_as_those_of_a_plain_loop(network, name, way):
    exact, usual = (plain(network, name, dtype) for dtype in (torch.float64, torch.float32))
    in_double, found = (fast(network, name, dtype, way) for dtype in (torch.float64, torch.float32))
    for start, *others in zip(map(tensors, initial(network)), exact, usual, in_double, found, strict=True):
        assert_as_near(start, *others)


def test_some_gradients_are_zero():
    for start, right in zip(map(tensors, initial("dead units")), plain("dead units", "Adam", torch.float64), strict=True):
        assert int((right["1.weight"] == start["1.weight"]).sum()) > 500


@functools.cache
def bags_of_words():
    """Features of 60 nodes, of which a sixth of the words are in no bag, the edges, and a matrix of their normalised weights."""
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(60, 48, generator=generator) < 0.06).float()
    x[:, ::6] = 0
    upper = (torch.rand(60, 60, generator=generator) < 0.05).triu(1)
    edges = (upper | upper.t()).double()
    with_loops = edges + torch.eye(60, dtype=torch.float64)
    scale = with_loops.sum(1).rsqrt()
    return x, edges.nonzero().t(), scale[:, None] * with_loops * scale, torch.randint(0, 4, (60,), generator=generator)


def convolved_densely(model, x, messages):
    convolution, head = model.blocks[0].conv, model.head
    hidden = (messages @ (x @ convolution.lin.weight.t()) + convolution.bias).relu()
    return messages @ (hidden @ head.lin.weight.t()) + head.bias


def test_steps_on_a_graph_with_sparse_features_are_as_near():
    x, edge_index, messages, y = bags_of_words()
    family = GNN(conv="gcn", hidden=8, layers=2, dense_layers=0, batch_norm=False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        start = family.build(ModelInput((48,), 4, modality="graph"))
    ids = torch.arange(40)

    def stepped(dtype):
        model = copy.deepcopy(start).to(dtype)
        optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, foreach=False)
        for _ in range(4):
            optimizer.zero_grad()
            F.cross_entropy(convolved_densely(model, x.to(dtype), messages.to(dtype))[ids], y[ids]).backward()
            optimizer.step()
        return tensors(model)

    def trained(dtype):
        predictor = Predictor(model=family, epochs=4, optimizer=Optimizer.of("Adam", lr=5e-3), schedule=None)
        options = {"criterion": Criterion("classification"), "batch_size": 40, "seed": 0}
        return tensors(
            train(copy.deepcopy(start).to(dtype), predictor, x=NodeColumn(x.to(dtype), edge_index), y=y, ids=ids, **options)
        )

    assert_as_near(tensors(start), stepped(torch.float64), stepped(torch.float32), trained(torch.float64), trained(torch.float32))
    assert bool((trained(torch.float32)["blocks.0.conv.lin.weight"] == tensors(start)["blocks.0.conv.lin.weight"])[:, ::6].all())


@pytest.mark.parametrize("network", ["dead units", "patches, then 4 x 4"])
def test_squared_gradients_are_zero_where_they_are_in_a_loop(network):
    x, y = pictures(NETWORKS[network][0])
    model = initial(network)[0]
    expected = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in model.named_parameters()}
    for k in range(16):
        gradients = torch.autograd.grad(F.cross_entropy(model(x[k : k + 1]), y[k : k + 1]), list(model.parameters()))
        for total, gradient in zip(expected.values(), gradients, strict=True):
            total += gradient.double().square()
    found = squared_gradients(
        model, [(x[:16], y[:16])], lambda logits, y: F.cross_entropy(logits, y, reduction="none"), normaliser="sum"
    )
    assert any(bool((right == 0).any()) for right in expected.values())
    for name, right in expected.items():
        assert torch.equal(found[name] == 0, right == 0), name
        assert torch.allclose(found[name], right, rtol=1e-4, atol=1e-9 * float(right.max())), name
