"""Targets and steps of relabelling by plain formulas in float64."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from graph_toys import FORGOTTEN, N_NODES, Linear, blocks, requested, task_on

from erasure.training.calls import Optimizer
from erasure.unlearners.neighbour_relabelling import NeighbourRelabelling

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    pytest.importorskip("torch_geometric")


def setting(kind):
    return task_on(*requested(kind, blocks(dtype=torch.float64)))


def neighbours(task, node):
    """Kept training nodes with an edge to a node that stays, walked by hand."""
    kept = {i - N_NODES for i in task.partitions["retain"].tolist()}
    gone = {tuple(sorted(pair)) for pair in task.x.pairs.tolist()}
    edges = task.x.graph.edge_index.T.tolist()
    return sorted({u for u, v in edges if v == node and u in kept and u != v and tuple(sorted((u, v))) not in gone})


def expected(task, model, targets):
    retain = task.partitions["retain"]
    with torch.no_grad():
        p = dict(zip((retain - N_NODES).tolist(), model(task.x.gather(retain)).softmax(1), strict=True))
    rows = []
    for node in task.partitions["forget"].tolist():
        near = neighbours(task, node)
        everyone = list(p)
        if targets == "same-class":
            near, everyone = ([u for u in nodes if task.y[u] == task.y[node]] for nodes in (near, everyone))
        rows.append(torch.stack([p[u] for u in near or everyone]).mean(0))
    return torch.stack(rows)


@pytest.mark.parametrize("targets", ["neighbours", "same-class"])
@pytest.mark.parametrize("kind", ["nodes", "edges", "features"])
def test_targets_and_steps_by_plain_formulas(kind, targets):
    task, model, lr = setting(kind), Linear(), 0.2
    method = NeighbourRelabelling(epochs=2, targets=targets, optimizer=Optimizer.of("SGD", lr=lr))
    found = dict(method.run(model, task).model.named_parameters())
    q = expected(task, model, targets)
    forget, retain = task.partitions["forget"], task.partitions["retain"]
    for _ in range(2):
        for ids, labels in ((forget, q), (retain, task.y[retain])):
            model.zero_grad()
            log_p = model(task.x.gather(ids)).log_softmax(1)
            wanted = labels if labels.ndim == 2 else F.one_hot(labels, 3).double()
            (-(wanted * log_p).sum(1).mean()).backward()
            for parameter in model.parameters():
                parameter.data -= lr * parameter.grad
    for name, parameter in model.named_parameters():
        assert torch.allclose(found[name], parameter, atol=1e-12)


def test_another_class_is_drawn_once_and_never_the_own():
    task, model = setting("nodes"), Linear()
    method = NeighbourRelabelling(targets="class")
    seen = task.seen_by(method)
    drawn = method._targets(model, seen)
    assert torch.equal(drawn, method._targets(model, seen))
    assert drawn.sum(1).tolist() == [1] * len(FORGOTTEN)
    assert not bool((drawn.argmax(1) == task.y[task.partitions["forget"]]).any())


def test_what_forgotten_nodes_are_like_reaches_no_target():
    task, model = setting("nodes"), Linear()
    nodes = torch.tensor(FORGOTTEN)
    noisy = blocks(dtype=torch.float64)
    noisy.x.x[nodes] = 50.0
    other = task_on(*requested("nodes", noisy))
    method = NeighbourRelabelling()
    assert torch.equal(method._targets(model, task.seen_by(method)), method._targets(model, other.seen_by(method)))
