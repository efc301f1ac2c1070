"""GNNDelete: losses and steps by plain formulas in float64, what it leaves alone, and how its operators travel."""

import warnings
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from graph_toys import N_FEATURES, N_NODES, blocks, requested, task_on

from erasure.errors import RequirementNotMet
from erasure.models.graph import GNN
from erasure.training.calls import Optimizer
from erasure.training.graph_requests import within_hops
from erasure.training.predictor import ModelInput, build_model
from erasure.unlearners.gnn_delete import GNNDelete

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    pytest.importorskip("torch_geometric")

DATA = ModelInput(x_shape=(N_FEATURES,), n_classes=3, modality="graph")
EVERYONE = torch.arange(N_NODES)


def network(conv="gcn", dense_layers=0):
    family = GNN(conv=conv, hidden=4, layers=2, dense_layers=dense_layers, batch_norm=False)
    return build_model(family, DATA, 3, torch.device("cpu")).double().eval()


def setting(kind):
    return task_on(*requested(kind, blocks(dtype=torch.float64)))


def deleted(graph):
    if graph.kind == "edges":
        return graph.pairs
    gone = set(graph.nodes.tolist())
    edges = {tuple(sorted(pair)) for pair in graph.graph.edge_index.T.tolist() if gone & set(pair)}
    return torch.tensor(sorted(edges))


def by_hand(model, batch, matrices, reach):
    """Vectors after both convolutions of a GCN, with operators."""
    first, second = model.blocks[0].conv, model.head
    edges = batch.messages()
    rows = batch.rows
    a = first(batch.x, edges)[rows]
    a = torch.where(reach[0][:, None], a @ matrices[0], a)
    hidden = torch.zeros(len(batch.x), a.shape[1], dtype=a.dtype).index_copy(0, rows, a).relu()
    b = second(hidden.detach(), edges)[rows]
    return a, torch.where(reach[1][:, None], b @ matrices[1], b)


@pytest.mark.parametrize("kind", ["nodes", "edges", "features"])
def test_steps_by_plain_formulas(kind):
    task, model, lr, alpha = setting(kind), network(), 0.5, 0.3
    method = GNNDelete(epochs=3, alpha=alpha, start=0.2, optimizer=Optimizer.of("SGD", lr=lr))
    found = method.run(model, task).model
    pairs, graph = deleted(task.x), task.x.graph
    ends = torch.zeros(N_NODES, dtype=torch.bool).index_fill(0, pairs.flatten(), True)
    reach = [within_hops(graph.edge_index, ends, hops) for hops in (1, 2)]
    sizes = (4, 3)
    matrices = [torch.full((size, size), 0.2, dtype=torch.float64, requires_grad=True) for size in sizes]
    same = [torch.eye(size, dtype=torch.float64) for size in sizes]
    with torch.no_grad():
        wanted = by_hand(model, task.x.gather(EVERYONE), same, reach)
    generator = task.seen_by(method).generator("pairs")
    for _ in range(3):
        drawn = torch.randint(N_NODES, pairs.shape, generator=generator)
        now = by_hand(model, task.x.gather(EVERYONE + N_NODES), matrices, reach)
        for h, old, matrix, near in zip(now, wanted, matrices, reach, strict=True):
            gone = torch.stack(
                [
                    (h[p] - old[q]) ** 2
                    for pair, others in zip(pairs, drawn, strict=True)
                    for p, q in zip(pair, others, strict=True)
                ]
            )
            around = near & ~ends
            loss = alpha * gone.mean() + ((1 - alpha) * F.mse_loss(h[around], old[around]) if bool(around.any()) else 0.0)
            (gradient,) = torch.autograd.grad(loss, matrix, retain_graph=True)
            matrix.data -= lr * gradient
    for number, matrix in enumerate(matrices):
        assert torch.allclose(getattr(found.operators, f"matrix_{number}"), matrix, atol=1e-12)
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), model.parameters(), strict=True))


def test_nodes_out_of_reach_stay_as_they_are():
    task = setting("nodes")
    first = task.x.nodes[:1]
    task = replace(task, x=replace(task.x, nodes=first))
    found = GNNDelete(epochs=1).run(network(), task).model
    reach = torch.zeros(N_NODES, dtype=torch.bool).index_fill(0, deleted(task.x).flatten(), True)
    reach = within_hops(task.x.graph.edge_index, reach, 3)
    after = task.x.gather(EVERYONE + N_NODES)
    changed = (found(after)[1] != network()(after)[1]).any(1)
    assert bool(changed.any())
    assert not bool((changed & ~reach).any())


@pytest.mark.parametrize("conv", ["gcn", "sage", "gin"])
def test_with_the_identity_it_is_unlink(conv):
    task, model = setting("edges"), network(conv, dense_layers=1)
    found = GNNDelete(epochs=0, start="identity").run(model, task).model
    assert found.operators.count(0) == 1
    for graph in range(3):
        batch = task.x.gather(EVERYONE + graph * N_NODES)
        assert torch.allclose(found(batch)[1], model(batch)[1], atol=1e-12)


def test_operators_come_back_with_the_weights_and_find_their_nodes_in_any_batch():
    task = setting("nodes")
    found = GNNDelete(epochs=2).run(network(), task).model
    again = network()
    again.load_state_dict(found.state_dict())
    whole = found(task.x.gather(torch.arange(3 * N_NODES)))[1]
    some = torch.tensor([N_NODES + 5, 2, 2 * N_NODES + 9])
    assert torch.allclose(again(task.x.gather(some))[1], whole[some], atol=1e-12)


def test_labels_change_nothing():
    task = setting("edges")
    found, other = (GNNDelete(epochs=2).run(network(), each).model for each in (task, replace(task, y=(task.y + 1) % 3)))
    assert all(torch.equal(a, b) for a, b in zip(found.buffers(), other.buffers(), strict=True))


def test_what_it_cannot_be_applied_to_is_said():
    assert "GraphRequest or a LinkRequest" in GNNDelete().refuse_inputs(blocks().x)
    task = setting("nodes")
    with pytest.raises(RequirementNotMet, match="does not show its layers"):
        GNNDelete().try_on(torch.nn.Linear(2, 2), None, task.criterion)
