"""The written-out first order of a GCN is that of autograd."""

import pytest
import torch
from graph_toys import blocks
from torch.func import functional_call, jvp, vjp

from erasure.models.graph import GNN
from erasure.training.batches import Batch
from erasure.training.calls import Criterion, Loss
from erasure.training.curvature import Curvature
from erasure.training.graphs import NodeColumn
from erasure.training.linearised import curvature_of_loss, slope_of_loss
from erasure.training.predictor import ModelInput, build_model

IDS = torch.tensor([3, 0, 11, 25, 7])
SHAPES = [(1, 0), (2, 0), (3, 0), (1, 1), (2, 1), (2, 3)]


def network(data, **fields):
    inputs = ModelInput(data.x_shape, data.n_classes, "classification", "graph")
    model = build_model(GNN(conv="gcn", hidden=6, **{"batch_norm": False, **fields}), inputs, 0, torch.device("cpu"))
    return model.double().eval()


def sparse_blocks():
    data = blocks(dtype=torch.float64)
    x = torch.zeros(40, 30, dtype=torch.float64)
    x[torch.arange(40), torch.arange(40) % 30] = torch.linspace(0.5, 2, 40, dtype=torch.float64)
    return type(data)(**{**vars(data), "x": NodeColumn(x, data.x.edge_index), "x_shape": (30,)})


@pytest.mark.parametrize(("layers", "dense_layers"), SHAPES)
@pytest.mark.parametrize("sparse", [False, True])
def test_products_with_the_jacobian_and_its_transpose_are_those_of_autograd(layers, dense_layers, sparse):
    data = sparse_blocks() if sparse else blocks(dtype=torch.float64)
    model = network(data, layers=layers, dense_layers=dense_layers)
    batch = data.x.gather(IDS)
    assert (batch.sparse() is not None) == sparse
    weights = {name: p.detach() for name, p in model.named_parameters()}
    generator = torch.Generator().manual_seed(2)
    direction = {name: torch.randn(w.shape, generator=generator, dtype=w.dtype) for name, w in weights.items()}
    seed = torch.randn(len(IDS), data.n_classes, generator=generator, dtype=torch.float64)

    def logits_at(at):
        return functional_call(model, at, (batch,))[1]

    logits, moved = jvp(logits_at, (weights,), (direction,))
    pulled = vjp(logits_at, weights)[1](seed)[0]
    found = model.linearised(batch)
    torch.testing.assert_close(found.logits, logits)
    torch.testing.assert_close(found.along(direction), moved)
    torch.testing.assert_close(found.back(seed), pulled)


@pytest.mark.parametrize("loss", [None, Loss.of("CrossEntropyLoss", label_smoothing=0.2)])
def test_the_loss_by_the_logits_is_that_of_autograd(loss):
    criterion = Criterion("classification", loss)
    generator = torch.Generator().manual_seed(3)
    logits, moved = torch.randn(2, 6, 4, generator=generator, dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 3, 0, 1])

    def mean_loss(at):
        return criterion.over_samples(at, y)

    torch.testing.assert_close(slope_of_loss(logits, y, criterion), torch.func.grad(mean_loss)(logits))
    wanted = jvp(torch.func.grad(mean_loss), (logits,), (moved,))[1]
    torch.testing.assert_close(curvature_of_loss(logits, y, criterion)(moved), wanted)


@pytest.mark.parametrize("frozen", [(), ("blocks.0.conv.lin.weight",), ("head.bias",)])
def test_curvature_and_gradient_are_the_same_written_out_and_recorded(frozen, monkeypatch):
    data = blocks(dtype=torch.float64)
    model = network(data, layers=2, dense_layers=0)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    batch = Batch(data.x.gather(IDS), data.y[IDS], IDS)
    direction = torch.linspace(-1, 1, sum(p.numel() for p in model.parameters() if p.requires_grad), dtype=torch.float64)
    found = Curvature(model, [batch], Criterion("classification"), "gauss-newton", 0.1)
    product, gradient = found(direction), found.gradient()
    monkeypatch.setattr(type(model), "linearised", lambda self, inputs: None)
    recorded = Curvature(model, [batch], Criterion("classification"), "gauss-newton", 0.1)
    torch.testing.assert_close(product, recorded(direction))
    torch.testing.assert_close(gradient, recorded.gradient())


def test_what_is_not_written_out_is_left_to_autograd():
    data = blocks(dtype=torch.float64)
    batch = data.x.gather(IDS)
    assert network(data, batch_norm=True).linearised(batch) is None
    assert network(data).train().linearised(batch) is None
    hooked = network(data)
    hooked.blocks[0].conv.register_forward_hook(lambda module, inputs, output: 2 * output)
    assert hooked.linearised(batch) is None
    replaced = network(data)
    replaced.head = type("Adapter", (torch.nn.Linear,), {})(6, data.n_classes)
    assert replaced.linearised(batch) is None
    operated = network(data)
    operated.operators.put(0, 0, torch.tensor([1]), torch.eye(6, dtype=torch.float64), 40)
    assert operated.linearised(batch) is None
