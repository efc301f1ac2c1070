"""Methods made for graphs: values by plain formulas in float64, identities, and what they must not look at."""

import math
import warnings
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from graph_toys import FORGOTTEN, N_NODES, TRAIN_AND_TEST, Linear, blocks, requested, task_on, with_noise

from erasure.data.graph_splitters import GraphEdgesSplitter, GraphNodesSplitter, GraphRequestSplitter
from erasure.data.partitions import build_partitions
from erasure.models.graph import GNN
from erasure.training.calls import Optimizer
from erasure.training.graphs import NodeColumn
from erasure.training.predictor import Predictor, train
from erasure.unlearners.etr import EraseThenRectify
from erasure.unlearners.finetuning import Finetuning
from erasure.unlearners.graph_influence import GraphInfluence
from erasure.unlearners.graph_reach import reached
from erasure.unlearners.megu import MEGU

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    pytest.importorskip("torch_geometric")

KINDS = ["nodes", "edges", "features"]


def setting(kind, data=None):
    data, partitions = requested(kind, blocks(dtype=torch.float64) if data is None else data)
    return task_on(data, partitions)


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def near(task, hops):
    """Kept training nodes within so many hops, by walking from node to node."""
    edges = task.x.graph.edge_index.T.tolist()
    found = set(task.x.pairs.flatten().tolist()) | set(task.x.nodes.tolist())
    for _ in range(hops):
        found |= {b for a, b in edges if a in found}
    forget = set(task.partitions["forget"].tolist())
    return [
        node + N_NODES for node in range(24) if node in found - forget and node + N_NODES in task.partitions["retain"].tolist()
    ]


@pytest.mark.parametrize("hops", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_within_reach_are_kept_training_nodes_alone(kind, hops):
    task = setting(kind)
    assert reached(task.seen_by(MEGU()), hops).tolist() == near(task, hops)


def gradients(model, task, ids):
    model.zero_grad()
    F.cross_entropy(model(task.x.gather(ids)), task.y[ids]).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def damped(ratio, share):
    values = sorted(ratio.flatten().tolist())
    place = share * (len(values) - 1)
    low = math.floor(place)
    q = values[low] + (place - low) * (values[min(low + 1, len(values) - 1)] - values[low])
    return torch.tensor([r / q if r <= q else 1.0 for r in ratio.flatten().tolist()], dtype=torch.float64).reshape(ratio.shape)


@pytest.mark.parametrize("kind", KINDS)
def test_erase_then_rectify_by_plain_formulas(kind):
    task, model, share, step = setting(kind), Linear(), 0.3, 0.2
    kept = torch.tensor(near(task, 2))
    parts = [task.partitions["train"], task.partitions["forget"], kept - N_NODES, task.partitions["retain"]]
    whole, gone, around, left = (gradients(model, task, ids) for ids in parts)
    expected = {}
    for name, weight in weights(model).items():
        first = (whole[name] ** 2 / gone[name] ** 2).clamp(max=1)
        second = (whole[name] ** 4 / (gone[name] ** 2 * around[name] ** 2)).clamp(max=1)
        expected[name] = weight * damped(first, share) * damped(second, share) - step * left[name]
    found = weights(EraseThenRectify(share=share, step=step).run(model, task).model)
    for name, weight in expected.items():
        assert torch.allclose(found[name], weight, atol=1e-12)


def test_the_rectifying_gradient_is_what_the_paper_puts_together():
    """With N as far as the network reaches: n g - |F| g_F - |N| g_N + |N| g_N' is the gradient on the graph that is left."""
    task, model = setting("nodes"), Linear()
    kept = torch.tensor(near(task, 4))
    sums = {
        "n": (task.partitions["train"], 1),
        "F": (task.partitions["forget"], -1),
        "N": (kept - N_NODES, -1),
        "N'": (kept, 1),
    }
    left = gradients(model, task, task.partitions["retain"])
    for name, gradient in left.items():
        total = sum(sign * len(ids) * gradients(model, task, ids)[name] for ids, sign in sums.values())
        assert torch.allclose(total / len(task.partitions["retain"]), gradient, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_mutual_evolution_by_plain_formulas(kind):
    task, model, kappa, lr = setting(kind), Linear(), 0.3, 0.1
    found = weights(MEGU(epochs=3, kappa=kappa, optimizer=Optimizer.of("SGD", lr=lr)).run(model, task).model)
    kept = torch.tensor(near(task, 2))
    forget = task.partitions["forget"]
    with torch.no_grad():
        old_forget, old_near = (model(task.x.gather(ids)).argmax(1) for ids in (forget, kept - N_NODES))
    operator = torch.eye(3, dtype=torch.float64, requires_grad=True)
    trained = [*model.parameters(), operator]

    def divergence(fixed, other):
        p = (fixed.detach() / 1.5).softmax(1)
        return (p * (p.log() - (other / 1.5).log_softmax(1))).sum(1).mean()

    for _ in range(3):
        gone, around = (model(task.x.gather(ids)) for ids in (forget + N_NODES, kept))
        moved, carried = gone @ operator.T, around @ operator.T
        loss = kappa * (divergence(moved, gone) - F.cross_entropy(moved, old_forget))
        loss = loss + divergence(around, carried) + F.cross_entropy(around, old_near)
        for parameter, gradient in zip(trained, torch.autograd.grad(loss, trained), strict=True):
            parameter.data -= lr * gradient
    for name, weight in weights(model).items():
        assert torch.allclose(found[name], weight, atol=1e-12)


def test_without_weight_on_the_forget_set_it_is_self_training_on_the_neighbours():
    task, model = setting("nodes"), Linear()
    found = weights(MEGU(epochs=1, kappa=0.0).run(model, task).model)
    kept = torch.tensor(near(task, 2))
    with torch.no_grad():
        labels = model(task.x.gather(kept - N_NODES)).argmax(1)
    model.zero_grad()
    F.cross_entropy(model(task.x.gather(kept)), labels).backward()
    for name, parameter in model.named_parameters():
        assert torch.allclose(found[name], parameter.detach() - 0.05 * parameter.grad, atol=1e-12)


@pytest.mark.parametrize(
    "method", [GraphInfluence(), EraseThenRectify(), MEGU(epochs=2)], ids=lambda method: type(method).__name__
)
def test_labels_of_test_nodes_change_nothing(method):
    task = setting("nodes")
    held = task.x.nodes_of(task.partitions["test"])
    other = task.y.clone()
    for graph in range(3):
        other[held + graph * N_NODES] = (other[held] + 1) % 3
    found, again = (weights(method.run(Linear(), each).model) for each in (task, replace(task, y=other)))
    assert all(torch.equal(found[name], again[name]) for name in found)


def test_what_is_trained_on_the_graph_after_sees_nothing_of_forgotten_nodes():
    """Gold, and a method that reads the retain set alone: not a bit depends on features and edges of forgotten nodes."""
    found = []
    for seed in (5, 6):
        task = setting("nodes", with_noise(blocks(dtype=torch.float64), torch.tensor(FORGOTTEN), seed))
        tuned = Finetuning(epochs=2).run(Linear(), task).model
        gold = train(
            Linear(),
            Predictor(model=GNN(), epochs=3),
            x=task.x,
            y=task.y,
            ids=task.partitions["retain"],
            criterion=task.criterion,
            seed=0,
            batch_size=8,
        )
        found.append([*weights(tuned).values(), *weights(gold).values(), gold(task.x.gather(task.partitions["test"]))])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("kind", ["nodes", "edges"])
@pytest.mark.parametrize(
    "method", [GraphInfluence(damping=1.0), EraseThenRectify(), Finetuning(epochs=1)], ids=lambda method: type(method).__name__
)
def test_numbering_the_nodes_otherwise_changes_no_method(method, kind):
    data = blocks(dtype=torch.float64)
    # Training nodes keep their order, in which batches are drawn; all numbers are others.
    order = torch.cat([torch.arange(N_NODES - 1, 23, -1), torch.arange(24)])
    place = order.argsort()
    moved = replace(data, x=NodeColumn(data.x.x[order], place[data.x.edge_index]), y=data.y[order], z=data.z[order])
    pairs = tuple((int(u), int(v)) for u, v in data.x.edge_index.T.tolist() if u < v < 24)[:4]
    found = []
    for each, names in ((data, torch.arange(N_NODES)), (moved, place)):
        named = {
            "nodes": GraphNodesSplitter(parts_names=("gone", "-"), nodes=tuple(names[list(FORGOTTEN)].tolist())),
            "edges": GraphEdgesSplitter(parts_names=("gone", "-"), pairs=tuple((int(names[u]), int(names[v])) for u, v in pairs)),
        }
        splitters = (*TRAIN_AND_TEST, named[kind].replace(ref_data="train"), GraphRequestSplitter(**{kind: "gone"}))
        partitions = build_partitions(each, splitters, 0)
        for splitter in splitters:
            each = splitter.prepared(each, partitions)
        found.append(weights(method.run(Linear(), task_on(each, partitions)).model))
    assert not torch.allclose(found[0]["layer.weight"], Linear().layer.weight)
    assert all(torch.allclose(found[0][name], found[1][name], rtol=0, atol=1e-9) for name in found[0])
