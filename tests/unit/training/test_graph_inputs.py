"""Noise for graphs is made in the features of their nodes; edges and other nodes stay."""

import warnings

import pytest
import torch
from torch import nn

from erasure.training.batches import Batches
from erasure.training.graphs import GraphBatch, NodeBatch
from erasure.training.inputs import logits_on, optimised, value_range, values_of

EDGES = torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2]])


class Neighbours(nn.Module):
    """The mean of each node and what points at it, then a linear layer, then the mean over each graph."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 3)

    def forward(self, x):
        summed = x.x.index_add(0, x.edge_index[1], x.x.index_select(0, x.edge_index[0])) / 2
        logits = self.layer(summed)
        if isinstance(x, NodeBatch):
            return logits.index_select(0, x.rows)
        pooled = torch.zeros(len(x), 3).index_add(0, x.batch, logits)
        return pooled / x.batch.bincount(minlength=len(x)).unsqueeze(1)


@pytest.fixture
def graphs():
    features = torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]])
    return GraphBatch(features, EDGES, None, torch.tensor([0, 0, 1, 1]), 2)


@pytest.fixture
def nodes(graphs):
    return NodeBatch(graphs.x, EDGES, None, torch.tensor([3, 1]))


def test_the_values_of_graphs_are_the_features_of_all_their_nodes(graphs):
    assert torch.equal(values_of(Neighbours(), graphs), graphs.x)


def test_the_values_of_nodes_are_their_own_features(nodes):
    assert values_of(Neighbours(), nodes).tolist() == [[6.0, 7.0], [2.0, 3.0]]


@pytest.mark.parametrize("kind", ["graphs", "nodes"])
def test_logits_on_the_values_themselves_are_the_models(kind, request):
    batch, model = request.getfixturevalue(kind), Neighbours()
    assert torch.equal(logits_on(model, batch, values_of(model, batch)), model(batch))


def test_other_nodes_of_the_graph_keep_their_features(nodes):
    model = Neighbours()
    logits = logits_on(model, nodes, torch.zeros(2, 2))
    left = torch.tensor([[0.0, 1.0], [0.0, 0.0], [4.0, 5.0], [0.0, 0.0]])
    assert torch.equal(logits, model(NodeBatch(left, EDGES, None, nodes.rows)))


def test_noise_moves_the_logits_and_neither_the_graphs_nor_the_model(graphs):
    torch.manual_seed(0)
    model = Neighbours()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    target = model(graphs).detach()
    found = optimised(
        model,
        graphs,
        graphs.x,
        lambda logits, _: -(logits - target - 0.1).square().sum(),
        steps=20,
        lr=0.5,
        bounds=(graphs.x - 1, graphs.x + 1),
    )
    assert (logits_on(model, graphs, found) - target).abs().max() > 0.1
    assert (found - graphs.x).abs().max() <= 1
    assert graphs.x[0].tolist() == [0.0, 1.0]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_range_of_graphs_is_that_of_the_columns_of_their_nodes(graphs):
    class Column:
        def __len__(self):
            return 2

        def gather(self, ids):
            return graphs

    low, high = value_range(Neighbours(), Batches(Column(), torch.zeros(2), torch.arange(2), 2))
    assert (low.tolist(), high.tolist()) == ([[0.0, 1.0]], [[6.0, 7.0]])


def test_a_gnn_is_impaired_by_noise_on_its_graphs():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pytest.importorskip("torch_geometric")
    from erasure.models.graph import GNN
    from erasure.training.predictor import ModelInput

    model = GNN(conv="gcn", hidden=8, layers=2, batch_norm=False).build(ModelInput((2,), 3, modality="graph")).eval()
    graphs = GraphBatch(torch.rand(4, 2), EDGES, None, torch.tensor([0, 0, 1, 1]), 2)
    target = model(graphs)[1].detach()
    found = optimised(model, graphs, torch.rand(4, 2), lambda logits, _: -(logits - target).square().sum(), steps=10, lr=0.1)
    assert found.shape == graphs.x.shape
    assert (logits_on(model, graphs, found) - target).abs().max() > 0
