"""Training on a few neighbours of each node."""

from dataclasses import replace

import pytest
import torch
from graph_toys import FORGOTTEN, N_NODES, blocks, requested, with_noise

from erasure.errors import RequirementNotMet
from erasure.measures.contract import forward_pass
from erasure.models.graph import GNN
from erasure.training.calls import Criterion, Optimizer
from erasure.training.neighbours import sampled_column
from erasure.training.predictor import ModelInput, Predictor, build_model, train
from erasure.training.sparse_rows import SparseRows

chosen = SparseRows.chosen
INPUTS = ModelInput(x_shape=(5,), n_classes=3, task="classification", modality="graph")
CONVS = ["gcn", "sage"]
LINEAR = {"layers": 2, "dense_layers": 0, "batch_norm": False}


def network(conv, **fields):
    return build_model(GNN(conv=conv, hidden=8, **(LINEAR | fields)), INPUTS, 3, torch.device("cpu"))


def column(model, x, *fan_outs, seed=0):
    return sampled_column(model, x, fan_outs, torch.Generator().manual_seed(seed))


def trained(data, ids, conv="gcn", **fields):
    predictor = Predictor(
        model=GNN(conv=conv, hidden=8, **LINEAR), epochs=2, optimizer=Optimizer.of("Adam", lr=0.01), neighbours=(3, 2), **fields
    )
    model = build_model(predictor.model, INPUTS, 0, torch.device("cpu"))
    return train(model, predictor, x=data.x, y=data.y, ids=ids, criterion=Criterion("classification"), seed=1, batch_size=7)


@pytest.mark.parametrize("conv", CONVS)
@pytest.mark.parametrize("fields", [{}, {"dense_layers": 1}, {"layers": 1}, {"layers": 3}])
def test_with_as_many_as_there_are_it_is_the_whole_neighbourhood(conv, fields):
    data, ids = blocks(), torch.tensor([5, 2, 31, 17])
    model = network(conv, **fields).eval()
    batch = column(model, data.x, *[N_NODES] * model.n_convolutions).gather(ids)
    assert torch.allclose(model(batch)[1], model(data.x.gather(ids))[1], atol=1e-6)
    assert batch.counts[0] == len(ids)


@pytest.mark.parametrize("conv", CONVS)
def test_the_mean_of_many_draws_is_the_sum_over_all_neighbours(conv):
    data, ids = blocks(), torch.arange(N_NODES)
    model = network(conv, layers=1).eval()  # linear in the messages
    few = column(model, data.x, 2)
    drawn = torch.stack([model(few.gather(ids))[1].detach() for _ in range(600)])
    whole, spread = model(data.x.gather(ids))[1].detach(), drawn.std(0)
    assert (spread > 0.01).any()
    assert torch.all((drawn.mean(0) - whole).abs() < 5 * spread / 600**0.5 + 1e-5)


def test_no_more_are_drawn_than_asked_for_and_none_twice():
    data, ids = blocks(), torch.arange(6)
    few = column(network("sage"), data.x, 3, 2)
    degrees = torch.bincount(data.x.edge_index[1], minlength=N_NODES)
    known = {tuple(pair) for pair in data.x.edge_index.T.tolist()}
    for _ in range(20):
        batch = few.gather(ids)
        arriving = torch.bincount(batch.edge_index[1], minlength=batch.n_nodes)
        assert arriving[: len(ids)].tolist() == degrees[ids].clamp(max=3).tolist()
        assert int(arriving[len(ids) : batch.counts[1]].max()) <= 2
        assert not arriving[batch.counts[1] :].any()
        pairs = [tuple(pair) for pair in batch.edge_index.T.tolist()]
        assert len(pairs) == len(set(pairs))
        # Features tell which node of the graph each row is.
        node = (batch.x[:, None] == data.x.x[None]).all(2).float().argmax(1).tolist()
        assert {(node[a], node[b]) for a, b in pairs} <= known


def test_a_node_without_edges_is_itself():
    data = blocks()
    alone = replace(data.x, edge_index=data.x.edge_index[:, :0])
    for conv in CONVS:
        model = network(conv).eval()
        ids = torch.tensor([4, 9])
        assert torch.allclose(model(column(model, alone, 2, 2).gather(ids))[1], model(alone.gather(ids))[1], atol=1e-6)


@pytest.mark.parametrize("conv", CONVS)
def test_gold_does_not_see_what_is_forgotten(conv):
    found = []
    for seed in (5, 6):
        data, partitions = requested("nodes", with_noise(blocks(), torch.tensor(FORGOTTEN), seed=seed))
        found.append(
            (data, trained(data, partitions["retain"], conv).state_dict(), trained(data, partitions["train"], conv).state_dict())
        )
    (_, gold, original), (_, gold_again, original_again) = found
    assert all(torch.equal(gold[name], gold_again[name]) for name in gold)
    assert not all(torch.equal(original[name], original_again[name]) for name in original)  # who has trained on them does


def test_the_seed_decides_what_is_drawn():
    data = blocks()
    first, again, other = (column(network("gcn"), data.x, 2, 2, seed=seed).gather(torch.arange(9)) for seed in (0, 0, 1))
    assert torch.equal(first.edge_index, again.edge_index)
    assert first.edge_index.shape != other.edge_index.shape or not torch.equal(first.edge_index, other.edge_index)


def test_words_stay_sparse():
    data = blocks()
    x = torch.eye(N_NODES, 60)
    few = replace(data.x, x=x)
    model = build_model(GNN(conv="gcn", hidden=8, **LINEAR), replace(INPUTS, x_shape=(60,)), 0, torch.device("cpu")).eval()
    batch = column(model, few, N_NODES, N_NODES).gather(torch.arange(5))
    assert batch.sparse() is not None
    assert torch.allclose(model(batch)[1], model(few.gather(torch.arange(5)))[1], atol=1e-6)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (network("gcn", layers=3), "2 numbers, and the network 3 convolutions"),
        (network("gin"), 'whose conv is "gcn" or "sage"'),
        (torch.nn.Linear(5, 3), 'whose conv is "gcn" or "sage"'),
    ],
)
def test_what_cannot_be_trained_on_a_few_neighbours_is_refused(model, message):
    with pytest.raises(RequirementNotMet, match=message):
        column(model, blocks().x, 2, 2)
    with pytest.raises(RequirementNotMet, match="propagated already"):
        column(network("gcn"), replace(blocks().x, propagate=2), 2, 2)


@pytest.mark.parametrize("conv", ["sage", "gin"])
@pytest.mark.parametrize("fields", [{}, {"dense_layers": 1, "batch_norm": True}])
def test_messages_that_do_not_fit_are_added_up_part_by_part(conv, fields, monkeypatch):
    data = blocks()
    ids = torch.arange(N_NODES)
    model, sizes = network(conv, **fields).eval(), []
    with torch.no_grad():
        whole = model(data.x.gather(ids))[1]
        monkeypatch.setattr("erasure.training.neighbours._MAX_MESSAGE_BYTES", 400)
        monkeypatch.setattr(SparseRows, "chosen", lambda rows, nodes: sizes.append(len(nodes)) or chosen(rows, nodes))
        parts = model(data.x.gather(ids))[1]
    assert len(sizes) > 5
    assert max(sizes) < N_NODES
    assert torch.allclose(whole, parts, atol=1e-6)


def test_nodes_are_measured_in_one_pass_over_their_graph():
    data = blocks()
    model, passes = network("gcn").eval(), []
    model.register_forward_hook(lambda module, inputs, output: passes.append(len(inputs[0])))
    found = forward_pass(
        model,
        x=data.x,
        y=data.y,
        ids=torch.arange(30),
        criterion=Criterion("classification"),
        task="classification",
        batch_size=4,
    )
    assert passes == [30]
    assert torch.equal(found.logits, model(data.x.gather(torch.arange(30)))[1])
