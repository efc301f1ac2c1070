"""What is seen of a graph before and after a request to forget something of it."""

import warnings

import pytest
import torch
from graph_toys import FORGOTTEN, N_NODES, blocks, dataset, requested, with_noise

from erasure.errors import PartitionError
from erasure.training.batches import Batches
from erasure.training.graph_requests import RequestedGraph, edge_pairs
from erasure.training.graphs import NodeColumn, one_hot
from erasure.training.predictor import ModelInput, build_model

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    pytest.importorskip("torch_geometric")

from erasure.models.graph import GNN

CPU = torch.device("cpu")
KINDS = ["nodes", "edges", "features"]


def network(conv="gcn", layers=2, **parameters):
    model = GNN(conv=conv, hidden=8, layers=layers, dense_layers=0, **({"batch_norm": False} | parameters))
    return build_model(model, ModelInput(x_shape=(5,), n_classes=3, task="classification", modality="graph"), 3, CPU)


def edges_of(batch, nodes_of_row):
    """Pairs of nodes that a batch's edges join."""
    return {(nodes_of_row[a], nodes_of_row[b]) for a, b in batch.edge_index.T.tolist()}


def test_the_training_set_sees_the_whole_graph():
    for kind in KINDS:
        data, partitions = requested(kind)
        batch = data.x.gather(partitions["train"])
        assert torch.equal(batch.x, data.x.graph.x)
        assert torch.equal(batch.edge_index, data.x.graph.edge_index)


def test_forgotten_nodes_are_nowhere_in_the_graph_after():
    data, partitions = requested("nodes")
    batch = data.x.gather(partitions["retain"])
    kept = [node for node in range(N_NODES) if node not in FORGOTTEN]
    assert torch.equal(batch.x, data.x.graph.x[kept])
    whole = {tuple(pair) for pair in data.x.graph.edge_index.T.tolist()}
    assert edges_of(batch, kept) == {pair for pair in whole if not set(pair) & set(FORGOTTEN)}


def test_forgotten_edges_go_in_both_directions_and_all_copies():
    column = NodeColumn(torch.randn(4, 5), torch.tensor([[0, 1, 1, 2, 0, 3, 2], [1, 0, 2, 1, 1, 3, 3]]))
    assert edge_pairs(column).tolist() == [[0, 1], [1, 2], [2, 3]]
    for pair in ([0, 1], [1, 0]):
        graph = RequestedGraph(column, "edges", torch.empty(0, dtype=torch.int64), torch.tensor([pair]))
        batch = graph.gather(torch.arange(4) + 4)
        assert batch.edge_index.T.tolist() == [[1, 2], [2, 1], [3, 3], [2, 3]]


def test_forgotten_features_are_zero_and_edges_stay():
    data, partitions = requested("features")
    batch = data.x.gather(partitions["retain"])
    assert not batch.x[list(FORGOTTEN)].any()
    others = [node for node in range(N_NODES) if node not in FORGOTTEN]
    assert torch.equal(batch.x[others], data.x.graph.x[others])
    assert torch.equal(batch.edge_index, data.x.graph.edge_index)


def test_some_columns_of_features_can_be_forgotten():
    data = blocks()
    graph = RequestedGraph(data.x, "features", torch.tensor([2]), torch.empty(0, 2, dtype=torch.int64), torch.tensor([1, 3]))
    seen = graph.gather(torch.tensor([N_NODES + 2])).x
    assert (seen[2] == 0).tolist() == [False, True, False, True, False]
    assert int((seen != data.x.x).sum()) == 2


def test_a_forgotten_node_that_is_asked_for_has_no_edges():
    data, partitions = requested("nodes")
    ids = data.x.seen_in(partitions["forget"], "after")
    batch = data.x.gather(ids)
    assert torch.equal(batch.x[batch.rows], data.x.graph.x[list(FORGOTTEN)])
    assert not torch.isin(batch.edge_index, batch.rows).any()


def test_nodes_alone_have_no_edges():
    data, _ = requested("edges")
    batch = data.x.gather(torch.tensor([3, 5]) + 2 * N_NODES)
    assert batch.edge_index.shape == (2, 0)
    assert torch.equal(batch.x[batch.rows], data.x.graph.x[[3, 5]])


@pytest.mark.parametrize("kind", KINDS)
def test_samples_of_several_graphs_are_computed_side_by_side(kind):
    data, partitions = requested(kind)
    model = network().eval()
    parts = [partitions["forget"], partitions["retain"], data.x.seen_in(partitions["forget"], "alone")]
    ids, apart = torch.cat(parts), torch.cat([model(data.x.gather(part))[1] for part in parts])
    assert torch.allclose(model(data.x.gather(ids))[1], apart, atol=1e-6)
    assert torch.allclose(torch.cat([model(b.x)[1] for b in Batches(data.x, data.y, ids, 7)]), apart, atol=1e-6)


def test_degrees_are_counted_in_each_graph():
    structure = blocks().x.edge_index
    degrees = torch.bincount(structure[1], minlength=N_NODES)
    x = one_hot(degrees[:, None], (int(degrees.max()) + 1,))
    base = blocks()
    data, partitions = requested("nodes", dataset(NodeColumn(x, structure, counts_degrees=True), base.y, base.z))
    batch = data.x.gather(partitions["retain"])
    assert torch.equal(batch.x.argmax(1), torch.bincount(batch.edge_index[1], minlength=len(batch.x)))
    assert torch.equal(data.x.gather(partitions["train"]).x, x)
    alone = data.x.gather(data.x.seen_in(partitions["test"], "alone"))
    assert not alone.x.argmax(1).any()


@pytest.mark.parametrize("graph", ["after", "alone"])
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("conv", ["gcn", "sage", "gin", "gat"])
def test_forgotten_nodes_change_no_bit_of_what_a_model_says_and_learns(conv, batch_norm, graph):
    found = []
    for noisy in (False, True):
        data = with_noise(blocks(), torch.tensor(FORGOTTEN)) if noisy else with_noise(blocks(), torch.tensor(FORGOTTEN), seed=6)
        data, partitions = requested("nodes", data)
        ids = data.x.seen_in(partitions["retain"], graph)
        model = network(conv, batch_norm=batch_norm, **({"heads": 2} if conv == "gat" else {})).train()
        logits = model(data.x.within(ids).gather(ids))[1]
        torch.nn.functional.cross_entropy(logits, data.y[ids]).backward()
        model.eval()
        found.append([model(data.x.gather(partitions["test"]))[1], *(p.grad for p in model.parameters()), *model.buffers()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize(
    ("conv", "kind", "hops"),
    [
        ("gcn", "nodes", 3),
        ("gcn", "edges", 2),
        ("gcn", "features", 2),
        *((conv, kind, hops) for conv in ("sage", "gin", "gat") for kind, hops in (("nodes", 2), ("edges", 1), ("features", 2))),
    ],
)
def test_outside_the_affected_nodes_nothing_changes(conv, kind, hops):
    base, steps = blocks(), torch.arange(N_NODES - 1)
    path = torch.cat([torch.stack([steps, steps + 1]), torch.stack([steps + 1, steps])], dim=1)
    data, _ = requested(kind, dataset(NodeColumn(base.x.x, path), base.y, base.z))
    model = network(conv, **({"heads": 2} if conv == "gat" else {})).eval()
    near = data.x.affected(hops)
    nodes = torch.arange(N_NODES)
    before, after = (model(data.x.gather(data.x.seen_in(nodes, name)))[1] for name in ("before", "after"))
    kept = ~data.x.is_forgotten
    assert (~near).any()
    assert torch.equal(before[kept & ~near], after[kept & ~near])
    inside = kept & near & ~data.x.affected(hops - 1)
    assert not torch.allclose(before[inside], after[inside])  # the last hop counts


def test_numbering_the_nodes_otherwise_changes_nothing_else():
    data, partitions = requested("nodes")
    order = torch.randperm(N_NODES, generator=torch.Generator().manual_seed(0))
    place = order.argsort()
    graph = data.x.graph
    moved = RequestedGraph(NodeColumn(graph.x[order], place[graph.edge_index]), "nodes", place[data.x.nodes], data.x.pairs)
    model, ids = network().eval(), partitions["retain"]
    again = place[data.x.nodes_of(ids)] + N_NODES
    assert torch.allclose(model(data.x.gather(ids))[1], model(moved.gather(again))[1], atol=1e-6)


def test_nothing_is_predicted_for_edges():
    data, partitions = requested("edges")
    with pytest.raises(PartitionError, match="these are edges"):
        Batches(data.x, data.y, partitions["gone"], 4)
    with pytest.raises(PartitionError, match="these are nodes"):
        data.x.ends_of(partitions["test"])


def test_a_graph_without_any_edge_left_is_still_a_graph():
    data = blocks()
    graph = RequestedGraph(data.x, "edges", torch.empty(0, dtype=torch.int64), edge_pairs(data.x))
    batch = graph.gather(torch.arange(N_NODES) + N_NODES)
    assert batch.edge_index.shape == (2, 0)
    for conv in ("gcn", "sage", "gin", "gat"):
        model = network(conv, **({"heads": 2} if conv == "gat" else {})).eval()
        alone = model(graph.gather(torch.arange(N_NODES) + 2 * N_NODES))[1]
        assert torch.equal(model(batch)[1], alone)


def test_a_view_is_made_once():
    data, partitions = requested("nodes")
    assert data.x.within(partitions["retain"]) is data.x.within(partitions["test"])
    data.x.graph.x[0, 0] += 1
    assert float(data.x.gather(partitions["retain"]).x[0, 0]) == float(data.x.graph.x[0, 0])
