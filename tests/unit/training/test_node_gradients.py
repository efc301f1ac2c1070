"""Squared gradients of nodes from their neighbourhoods are those of the whole graph, or the whole graph is taken."""

import warnings

import pytest
import torch
from torch import nn

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    pytest.importorskip("torch_geometric")
    from torch_geometric import nn as geometric

from erasure.models.graph import GNN
from erasure.models.links import LinkPredictor
from erasure.training.batches import Batches
from erasure.training.calls import Criterion
from erasure.training.graphs import NodeColumn
from erasure.training.links import LinkColumn
from erasure.training.neighbourhoods import neighbourhoods, sorted_edges
from erasure.training.per_sample import squared_gradients, true_fisher
from erasure.training.per_sample.nodes import NodeSquares
from erasure.training.predictor import ModelInput
from erasure.training.trial import keep_inputs

LOSS = nn.CrossEntropyLoss(reduction="none")
N, N_CLASSES = 40, 3


def column(sparse=False, seed=0, n_features=30):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(N, n_features, generator=generator)
    if sparse:
        x = x * (torch.rand(x.shape, generator=generator) < 0.06)
    edges = torch.randint(0, N, (2, 60), generator=generator)  # directed, with loops, repetitions and isolated nodes
    return NodeColumn(x, edges, background=torch.arange(N) >= 30)


def batches(nodes, size=8):
    return Batches(nodes, torch.arange(N) % N_CLASSES, torch.arange(30), size)


class Layers(nn.Module):
    """A network of a user's own."""

    def __init__(self, *layers, before=None):
        super().__init__()
        self.layers, self.before = nn.ModuleList(layers), before

    def forward(self, nodes):
        x = nodes.x if self.before is None else self.before(nodes.x)
        for layer in self.layers[:-1]:
            x = layer(x, nodes.edge_index).tanh()
        return self.layers[-1](x, nodes.edge_index)[nodes.rows]


def accepted(monkeypatch):
    answers = []
    of = NodeSquares.of

    def watched(self, *args):
        answers.append(of(self, *args))
        return answers[-1]

    monkeypatch.setattr(NodeSquares, "of", watched)
    return answers


def assert_same(model, nodes):
    found = squared_gradients(model, batches(nodes), LOSS)
    expected = squared_gradients(model, batches(nodes), LOSS, method="loop")
    for name, value in expected.items():
        assert torch.allclose(found[name], value, rtol=1e-3, atol=1e-6 * float(value.max()) + 1e-12), name


def in_a_method(model):
    """As a method gets it: foreign networks read copies of their inputs."""
    return keep_inputs(model.eval())


@pytest.mark.parametrize("conv", ["gcn", "sage", "gin", "gat"])
@pytest.mark.parametrize("sparse", [False, True])
def test_every_network_of_ours_has_the_gradients_of_the_whole_graph(monkeypatch, conv, sparse):
    torch.manual_seed(0)
    nodes, answers = column(sparse), accepted(monkeypatch)
    data = ModelInput((30,), N_CLASSES, modality="graph")
    model = GNN(conv=conv, hidden=8, layers=2, dense_layers=2 if sparse else 0, heads=2).build(data)
    assert_same(in_a_method(model), nodes)
    assert all(answers[:4])


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [geometric.SGConv(30, N_CLASSES, K=3)],
        lambda: [geometric.TAGConv(30, 6, K=2), geometric.TAGConv(6, N_CLASSES, K=1)],
        lambda: [geometric.GCNConv(30, 6), geometric.GCNConv(6, N_CLASSES)],
        lambda: [geometric.GraphConv(30, 6), geometric.APPNP(K=2, alpha=0.1), geometric.SAGEConv(6, N_CLASSES)],
        lambda: [geometric.GATv2Conv(30, 4, heads=2), geometric.GINConv(nn.Linear(8, N_CLASSES), train_eps=True)],
    ],
)
def test_hops_are_counted_in_networks_of_a_users_own(monkeypatch, layers):
    torch.manual_seed(1)
    answers = accepted(monkeypatch)
    assert_same(in_a_method(Layers(*layers())), column(seed=3))
    assert all(answers[:4])


class OverTheGraph(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


def test_a_network_that_looks_at_all_nodes_is_run_on_the_whole_graph(monkeypatch):
    torch.manual_seed(2)
    answers = accepted(monkeypatch)
    model = Layers(geometric.SAGEConv(30, N_CLASSES), before=OverTheGraph()).eval()
    assert_same(model, column())
    assert not any(answers)


class OfWholeBatches(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = geometric.SAGEConv(30, N_CLASSES)

    def forward(self, nodes):
        return self.conv(nodes.view.x, nodes.view.edge_index)[nodes.rows]


def test_a_network_that_reads_more_than_a_part_has_is_run_on_the_whole_graph(monkeypatch):
    torch.manual_seed(2)
    answers = accepted(monkeypatch)
    assert_same(OfWholeBatches().eval(), column())
    assert not any(answers)


class FailsOnSomeParts(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = geometric.SAGEConv(30, N_CLASSES)

    def forward(self, nodes):
        if len(nodes.rows) == 6 and len(nodes.x) < N:  # the last batch
            raise KeyError("six")
        return self.conv(nodes.x, nodes.edge_index)[nodes.rows]


def test_a_part_on_which_a_network_fails_is_run_on_the_whole_graph(monkeypatch):
    torch.manual_seed(2)
    answers = accepted(monkeypatch)
    assert_same(FailsOnSomeParts().eval(), column())
    assert [answer is not None for answer in answers] == [True, True, True, False]


def test_a_fault_of_our_own_is_no_reason_for_the_slow_way(monkeypatch):
    def faulty(*_):
        raise TypeError("one argument too few")

    monkeypatch.setattr("erasure.training.per_sample.nodes._summed", faulty)
    model = GNN(conv="gcn", hidden=6, layers=1).build(ModelInput((30,), N_CLASSES, modality="graph")).eval()
    with pytest.raises(TypeError, match="one argument too few"):
        squared_gradients(model, batches(column()), LOSS)


def test_the_true_fisher_of_nodes_is_that_of_the_whole_graph():
    torch.manual_seed(0)
    model = GNN(conv="gcn", hidden=6, layers=2, dense_layers=0).build(ModelInput((30,), N_CLASSES, modality="graph")).eval()
    found = true_fisher(model, batches(column(True), 16), N_CLASSES)
    for name, value in true_fisher(model, batches(column(True), 16), N_CLASSES, method="loop").items():
        assert torch.allclose(found[name], value, rtol=1e-3, atol=1e-6 * float(value.max())), name


def test_parameters_are_back_in_their_places_afterwards():
    model = GNN(conv="gat", hidden=6, layers=1, heads=2).build(ModelInput((30,), N_CLASSES, modality="graph")).eval()
    before = {name: (p, p.detach().clone()) for name, p in model.named_parameters()}
    squared_gradients(model, batches(column()), LOSS)
    assert all(p is before[name][0] and torch.equal(p, before[name][1]) for name, p in model.named_parameters())


@pytest.mark.parametrize("hops", [1, 2, 3])
def test_a_neighbourhood_is_what_can_be_reached_against_the_edges(hops):
    view = column().within(torch.arange(30))
    rows = torch.tensor([4, 17, 4, 0])
    parts = neighbourhoods(sorted_edges(view), rows, hops)
    reach = torch.zeros(len(view.x), len(view.x))
    reach[view.edge_index[1], view.edge_index[0]] = 1
    reach = torch.linalg.matrix_power(reach + torch.eye(len(reach)), hops) > 0
    for i, row in enumerate(rows.tolist()):
        assert parts.nodes[parts.owners == i].tolist() == reach[row].nonzero().flatten().tolist()
    assert parts.nodes[parts.rows].tolist() == rows.tolist()
    assert torch.equal(parts.owners[parts.edge_index[0]], parts.owners[parts.edge_index[1]])
    assert torch.equal(parts.x, view.x[parts.nodes])


@pytest.mark.parametrize("conv", ["gcn", "gat"])
@pytest.mark.parametrize("sparse", [False, True])
def test_links_have_the_gradients_of_the_whole_graph_from_the_neighbourhoods_of_both_ends(monkeypatch, conv, sparse):
    answers = accepted(monkeypatch)
    nodes = column(sparse)
    low, high = torch.triu_indices(N, N, 1)
    pairs = torch.stack([low, high], dim=1)[::17]
    links = LinkColumn(NodeColumn(nodes.x, nodes.edge_index), pairs)
    family = LinkPredictor(size=4, encoder=GNN(conv=conv, hidden=8, layers=2, dense_layers=0, batch_norm=False))
    model = family.build(ModelInput((30,), 2, task="binary", modality="graph")).eval()
    y = torch.arange(len(pairs)) % 2
    loss = Criterion("binary").per_sample

    def squares(method):
        return squared_gradients(model, Batches(links, y, torch.arange(len(pairs)), 16), loss, method=method)

    found, expected = squares("auto"), squares("loop")
    assert all(answers) and answers
    for name, value in expected.items():
        assert torch.allclose(found[name], value, rtol=1e-3, atol=1e-6 * float(value.max()) + 1e-12), name
