"""Batches of graphs are what PyTorch Geometric's own collation makes; batches of nodes see what their partition may see."""

import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from erasure.training.batches import Batches
from erasure.training.graphs import GraphColumn, NodeColumn, one_hot
from erasure.training.per_sample import per_sample_gradients, squared_gradients

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    pytest.importorskip("torch_geometric")
    from torch_geometric.data import Batch, Data

from erasure.data.graphs import graph_column
from erasure.models.graph import GNN
from erasure.training.predictor import ModelInput


def random_graphs(seed, n_graphs, n_features=3, n_edge_features=2):
    """Graphs of 1 to 5 nodes and 0 to 8 edges."""
    generator = torch.Generator().manual_seed(seed)
    graphs = []
    for _ in range(n_graphs):
        n = int(torch.randint(1, 6, (), generator=generator))
        m = int(torch.randint(0, 9, (), generator=generator))
        graphs.append(
            Data(
                x=torch.randn(n, n_features, generator=generator),
                edge_index=torch.randint(0, n, (2, m), generator=generator),
                edge_attr=torch.randn(m, n_edge_features, generator=generator),
            )
        )
    return graphs


def same(found, expected):
    pairs = [(getattr(found, name), getattr(expected, name)) for name in ("x", "edge_index", "edge_attr", "batch")]
    return all(torch.equal(a, b) for a, b in pairs)


@given(seed=st.integers(0, 2**31), chosen=st.lists(st.integers(0, 11), min_size=1, max_size=20))
def test_a_batch_is_what_pytorch_geometric_collates(seed, chosen):
    graphs = random_graphs(seed, 12)
    found = graph_column("toy", graphs).gather(torch.tensor(chosen))
    assert same(found, Batch.from_data_list([graphs[i] for i in chosen]))
    assert len(found) == len(chosen)


@given(seed=st.integers(0, 2**31), cuts=st.lists(st.integers(-9, 9), min_size=2, max_size=2))
def test_a_slice_of_a_batch_is_the_batch_of_fewer_graphs(seed, cuts):
    column = graph_column("toy", random_graphs(seed, 8))
    ids = torch.tensor([3, 1, 7, 7, 0, 2])
    part = slice(*cuts)
    found, expected = column.gather(ids)[part], column.gather(ids[part])
    assert same(found, expected)
    assert len(found) == len(expected)


def test_a_batch_of_no_graphs_is_empty():
    batch = graph_column("toy", random_graphs(0, 3)).gather(torch.zeros(0, dtype=torch.int64))
    assert len(batch) == 0
    assert batch.x.shape == (0, 3)
    assert batch.edge_index.shape == (2, 0)


def test_an_epoch_has_every_graph_once():
    graphs = random_graphs(1, 10)
    column, y = graph_column("toy", graphs), torch.arange(10)
    seen = list(Batches(column, y, torch.arange(10), 4, torch.Generator().manual_seed(0)))
    assert [len(batch.x) for batch in seen] == [4, 4, 2]
    assert sorted(torch.cat([batch.y for batch in seen]).tolist()) == list(range(10))
    assert all(same(batch.x, Batch.from_data_list([graphs[i] for i in batch.ids])) for batch in seen)


def test_codes_become_one_hot_columns():
    column = GraphColumn(
        x=torch.tensor([[1, 0], [0, 2], [1, 1]], dtype=torch.int16),
        node_ptr=torch.tensor([0, 2, 3]),
        edge_index=torch.tensor([[0], [1]]),
        edge_ptr=torch.tensor([0, 1, 1]),
        categories=(2, 3),
    )
    assert column.sample_shape == (5,)
    assert column.gather(torch.tensor([1, 0])).x.tolist() == [[0, 1, 0, 1, 0], [0, 1, 1, 0, 0], [1, 0, 0, 0, 1]]
    codes = torch.randint(0, 4, (50, 1))
    assert torch.equal(one_hot(codes, (4,)), nn.functional.one_hot(codes[:, 0], 4).float())


# Nodes


def ring(n=8, seed=0, background=None):
    """Nodes in a circle, each joined to the next in both directions."""
    here = torch.arange(n)
    there = (here + 1) % n
    edges = torch.stack([torch.cat([here, there]), torch.cat([there, here])])
    return NodeColumn(torch.randn(n, 4, generator=torch.Generator().manual_seed(seed)), edges, background=background)


def network(data_shape=(4,), **parameters):
    parameters = {"conv": "gcn", "hidden": 5, "layers": 2} | parameters
    torch.manual_seed(0)
    return GNN(**parameters).build(ModelInput(data_shape, 3, modality="graph")).eval()


def mask(n, *ids):
    return torch.zeros(n, dtype=torch.bool).index_fill(0, torch.tensor(ids, dtype=torch.int64), True)


def test_without_a_background_the_graph_is_whole_for_everyone():
    column, model = ring(), network()
    everything = model(column.gather(torch.arange(8)))[1]
    assert torch.allclose(model(column.gather(torch.tensor([5, 2])))[1], everything[[5, 2]], atol=1e-6)


@pytest.mark.parametrize("conv", ["gcn", "gin", "sage", "gat"])
def test_a_forgotten_node_leaves_no_trace_in_what_the_retain_set_gives(conv):
    background, retain, forget = mask(8, 4, 5, 6, 7), torch.tensor([0, 2, 3]), 1
    column, model = ring(background=background), network(conv=conv, hidden=8)
    before = model(column.gather(retain))[1]
    with_it = model(column.gather(torch.tensor([0, 1, 2, 3])))[1]
    assert not torch.allclose(with_it[0], before[0])
    column.x[forget] += 100.0
    column.edge_index[:, (column.edge_index == forget).any(0)] = torch.tensor([[forget], [4]])
    assert torch.equal(model(column.gather(retain))[1], before)


def test_batches_of_a_partition_see_the_whole_partition_whatever_their_size():
    column, model = ring(background=mask(8, 4, 5)), network()
    partition = torch.tensor([3, 0, 1])
    view = column.within(partition)
    whole = model(view.gather(partition))[1]
    one_by_one = torch.cat([model(view.gather(partition[i : i + 1]))[1] for i in range(3)])
    assert torch.allclose(one_by_one, whole, atol=1e-6)
    assert len(view) == len(column)


def test_the_subgraph_is_the_one_that_pytorch_geometric_cuts():
    from torch_geometric.utils import subgraph

    column = ring(background=mask(8, 4, 5))
    batch = column.gather(torch.tensor([3, 0]))
    edges, _ = subgraph(mask(8, 0, 3, 4, 5), column.edge_index, relabel_nodes=True)
    assert torch.equal(batch.edge_index, edges)
    assert torch.equal(batch.x, column.x[[0, 3, 4, 5]])
    assert batch.rows.tolist() == [1, 0]


def test_every_node_outside_the_training_set_becomes_the_background():
    column = ring(background=mask(8)).trained_on(torch.tensor([0, 1]))
    assert column.background.tolist() == [False, False, *[True] * 6]
    assert ring().trained_on(torch.tensor([0])).background is None


# Single samples


@pytest.mark.parametrize("conv", ["gcn", "gin", "sage", "gat"])
@pytest.mark.parametrize("kind", ["graphs", "nodes"])
def test_squared_gradients_are_those_of_single_samples(kind, conv):
    column = graph_column("toy", random_graphs(3, 7, n_features=4)) if kind == "graphs" else ring(7, background=mask(7, 5, 6))
    y, model = torch.arange(len(column)) % 3, network(conv=conv, hidden=8, batch_norm=True)
    loss = nn.CrossEntropyLoss(reduction="none")
    x = column.gather(torch.arange(5))
    expected = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for i in range(5):
        model.zero_grad()
        loss(model(x[i : i + 1])[1], y[i : i + 1]).sum().backward()
        for name, parameter in model.named_parameters():
            expected[name] += parameter.grad**2 / 5
    found = squared_gradients(model, [(x, y[:5])], loss)
    for name, squares in found.items():
        assert torch.allclose(squares.float(), expected[name], rtol=1e-4, atol=1e-9), name
    single = per_sample_gradients(model, x, y[:5], loss)
    assert torch.allclose(single["head.weight"].square().mean(0), expected["head.weight"], rtol=1e-4, atol=1e-9)


def test_columns_and_batches_can_be_moved():
    for column in (graph_column("toy", random_graphs(0, 3)), ring(background=mask(8, 1))):
        batch = column.to(torch.device("cpu")).gather(torch.tensor([2, 0])).to("meta")
        assert {t.device.type for t in vars(batch).values() if isinstance(t, torch.Tensor)} == {"meta"}
        assert len(batch) == 2


def test_degrees_are_counted_in_the_graph_that_a_partition_sees():
    edges = torch.tensor([[0, 1, 0, 2, 1, 3], [1, 0, 2, 0, 3, 1]])
    whole = one_hot(torch.tensor([[2], [2], [1], [1]]), (3,))
    column = NodeColumn(whole, edges, background=torch.zeros(4, dtype=torch.bool), counts_degrees=True)
    retain = column.within(torch.tensor([0, 1, 2]))
    # Without node 3 the second node has one neighbour less.
    assert retain.x.argmax(1).tolist() == [2, 1, 1]
    assert column.within(torch.arange(4)).x.argmax(1).tolist() == [2, 2, 1, 1]
    assert column.to(torch.device("cpu")).counts_degrees
