"""Cognac by plain formulas in float64: who is affected, who is drawn to whom, and the steps."""

import warnings
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from graph_toys import N_NODES, Linear, blocks, requested, task_on

from erasure.training.calls import Optimizer
from erasure.training.graphs import NodeColumn
from erasure.unlearners.cognac import Cognac

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    pytest.importorskip("torch_geometric")


def within(edges, start, hops):
    found = set(start)
    for _ in range(hops):
        found |= {v for u, v in edges if u in found}
    return found


def pairs_of(task, model, share, hops):
    """Affected nodes, the nodes each is drawn to, and those it is pushed from."""
    graph, kind = task.x.graph, task.x.kind
    edges = graph.edge_index.T.tolist()
    gone = [tuple(pair) for pair in task.x.pairs.tolist()]
    wrong = {node for pair in gone for node in pair} if kind == "edges" else set(task.x.nodes.tolist())
    kept = {i - N_NODES for i in task.partitions["retain"].tolist()}
    reach = wrong if kind == "edges" else within(edges, wrong, hops) - wrong
    candidates = sorted(reach & kept)
    x = graph.x.clone()
    x[sorted(wrong)] = 1 - x[sorted(wrong)]
    with torch.no_grad():
        ids = torch.arange(N_NODES)
        change = model(NodeColumn(x, graph.edge_index).gather(ids)).softmax(1) - model(graph.gather(ids)).softmax(1)
    change = change.abs().mean(1)
    affected = sorted(candidates, key=lambda v: -float(change[v]))[: int(share * len(candidates))]
    near, far = {}, {}
    for a in affected:
        lost = {v for u, v in gone if u == a} | {u for u, v in gone if v == a} if kind == "edges" else wrong
        far[a] = sorted(lost)
        near[a] = sorted((within(edges, {a}, hops) & kept) - {a} - (lost if kind == "edges" else wrong))
    return affected, near, far


@pytest.mark.parametrize("kind", ["nodes", "edges", "features"])
def test_rounds_by_plain_formulas(kind):
    task, model, margin = task_on(*requested(kind, blocks(dtype=torch.float64))), Linear(), 0.5
    rates = {"optimizer": 0.3, "ascent_optimizer": 0.02, "descent_optimizer": 0.1}
    optimizers = {name: Optimizer.of("SGD", lr=lr) for name, lr in rates.items()}
    method = Cognac(epochs=2, contrast_steps=2, correction_steps=1, share=0.5, margin=margin, hops=1, **optimizers)
    found = dict(method.run(model, task).model.named_parameters())
    affected, near, far = pairs_of(task, model, 0.5, 1)
    assert affected
    everyone, forget, retain = torch.arange(N_NODES), task.partitions["forget"], task.partitions["retain"]

    def contrast():
        z = model(task.x.gather(everyone))
        close = [torch.stack([(z[a] - z[p]).norm() for p in near[a]]).mean() for a in affected if near[a]]
        away = [margin - torch.stack([(z[a] - z[n]).norm() for n in far[a]]).mean() for a in affected]
        return sum(close) / len(affected) + F.relu(sum(away) / len(affected))

    def step(loss, lr):
        model.zero_grad()
        loss.backward()
        for parameter in model.parameters():
            parameter.data -= lr * parameter.grad

    for _ in range(2):
        for _ in range(2):
            step(contrast(), rates["optimizer"])
        step(-F.cross_entropy(model(task.x.gather(forget)), task.y[forget]), rates["ascent_optimizer"])
        step(F.cross_entropy(model(task.x.gather(retain)), task.y[retain]), rates["descent_optimizer"])
    for name, parameter in model.named_parameters():
        assert torch.allclose(found[name], parameter, atol=1e-12)


def test_labels_of_test_nodes_change_nothing():
    task = task_on(*requested("nodes"))
    other = task.y.clone()
    for graph in range(3):
        held = task.x.nodes_of(task.partitions["test"]) + graph * N_NODES
        other[held] = (other[held] + 1) % 3
    found = [Cognac(epochs=1).run(Linear(torch.float32), each).model.state_dict() for each in (task, replace(task, y=other))]
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
