"""Unlearning on a graph and a graph network of one's own."""

import warnings

import pytest
import torch
from graph_toys import N_NODES, blocks
from torch import nn
from torch_geometric.data import Data, HeteroData
from torch_geometric.nn import GCN, GCNConv, global_mean_pool

import erasure
from erasure.errors import DataError, ErasureError, PartitionError, RequirementNotMet, UnlearningWarning
from erasure.models.graph import GNN
from erasure.training.predictor import ModelInput
from erasure.training.randomness import isolated

PLAIN = {"method": "Finetuning", "epochs": 1}


def a_graph(**more):
    data = blocks()
    nodes = torch.arange(N_NODES)
    masks = {"train_mask": nodes < 24, "test_mask": (nodes >= 24) & (nodes < 36)}
    return Data(**{"x": data.x.x, "edge_index": data.x.edge_index, "y": data.y} | masks | more)


class Own(nn.Module):
    """Two convolutions, called with tensors."""

    def __init__(self, cached=False):
        super().__init__()
        with isolated(0):
            self.first, self.second = GCNConv(5, 8, cached=cached), GCNConv(8, 3, cached=cached)

    def forward(self, x, edge_index, edge_weight=None):
        return self.second(self.first(x, edge_index, edge_weight).relu(), edge_index, edge_weight)


class OfData(Own):
    """The same, called with a ``Data``."""

    def forward(self, data):
        return super().forward(data.x, data.edge_index, data.edge_weight)


def after_edges(graph, pairs):
    gone = torch.tensor([[*pair] for pair in pairs])
    keys = {tuple(sorted(pair)) for pair in gone.tolist()}
    kept = [tuple(sorted(edge)) not in keys for edge in graph.edge_index.T.tolist()]
    return graph.edge_index[:, kept]


def same(model, other):
    return all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize("kind", [Own, OfData])
def test_methods_for_graphs_run_on_a_network_of_ones_own_and_give_it_back(kind):
    model, graph = kind(), a_graph()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pair = graph.edge_index[:, graph.edge_index[0] < 24][:, 0].tolist()
    for forget in ({"nodes": [1, 4]}, {"edges": [pair]}, {"features_of": [3], "columns": [0]}):
        found = erasure.unlearn(model, "GIF", train=graph, forget=forget, damping=2.0)
        assert type(found) is kind
        assert list(found.state_dict()) == list(before)
        assert not same(found, model)
        assert set(found.unlearning.after) == {"forget", "retain", "test"}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_network_called_with_tensors_or_with_a_data_is_the_same_network():
    graph = a_graph(edge_weight=torch.rand(blocks().x.edge_index.shape[1]) + 0.5)
    found = [erasure.unlearn(kind(), train=graph, forget=[1, 4], **PLAIN) for kind in (Own, OfData)]
    assert same(*found)
    plain = erasure.unlearn(Own(), train=a_graph(), forget=[1, 4], **PLAIN)
    assert not same(found[0], plain)  # weights reach the network


def test_accuracies_are_those_of_the_graph_that_each_part_is_seen_in():
    model, graph = Own(), a_graph()
    pairs = graph.edge_index[:, (graph.edge_index[0] < 24) & (graph.edge_index[0] < graph.edge_index[1])].T[:6].tolist()
    found = erasure.unlearn(model, "Unlink", train=graph, forget={"edges": pairs}).unlearning
    cut = after_edges(graph, pairs)
    with torch.no_grad():
        there, gone = model(graph.x, graph.edge_index).argmax(1), model(graph.x, cut).argmax(1)
    ends = sorted({end for pair in pairs for end in pair if end < 24})
    assert found.sizes == {"forget": len(ends), "retain": 24, "test": 12}
    assert found.after["forget"] == pytest.approx(float((there == graph.y)[ends].float().mean()))
    assert found.after["retain"] == pytest.approx(float((gone == graph.y)[:24].float().mean()))
    assert found.after["test"] == pytest.approx(float((gone == graph.y)[24:36].float().mean()))


def test_what_is_forgotten_changes_no_bit_of_a_method_that_reads_what_is_kept():
    graph, noisy = a_graph(), a_graph()
    generator = torch.Generator().manual_seed(1)
    noisy.x = noisy.x.clone()
    noisy.x[[1, 4]] = 100 * torch.randn(2, 5, generator=generator)
    touched = torch.isin(graph.edge_index, torch.tensor([1, 4])).any(0)
    ends = torch.stack([torch.tensor([1, 4, 1]), torch.tensor([9, 20, 30])])
    noisy.edge_index = torch.cat([graph.edge_index[:, ~touched], ends, ends.flip(0)], 1)
    assert same(*(erasure.unlearn(Own(), train=each, forget={"nodes": [4, 1]}, **PLAIN) for each in (graph, noisy)))


def test_a_mask_numbers_and_either_direction_are_one_request():
    graph, mask = a_graph(), torch.arange(N_NODES) == 4
    pair = graph.edge_index[:, graph.edge_index[0] < 24][:, 0].tolist()
    nodes = [erasure.unlearn(Own(), train=graph, forget=each, **PLAIN) for each in (mask, [4], {"nodes": torch.tensor([4])})]
    edges = [erasure.unlearn(Own(), train=graph, forget={"edges": [each]}, **PLAIN) for each in (pair, pair[::-1])]
    assert same(nodes[0], nodes[1])
    assert same(nodes[0], nodes[2])
    assert same(*edges)


def test_convolutions_that_keep_the_graph_of_their_first_call_are_made_to_look():
    model, graph = Own(cached=True), a_graph()
    with torch.no_grad():
        model(graph.x, graph.edge_index)  # now it knows the graph with what is to be forgotten
    with pytest.warns(UnlearningWarning, match="cached=True go on with the edges of the first call"):
        found = erasure.unlearn(model, train=graph, forget=[1, 4], **PLAIN)
    assert model.first.cached
    assert not found.first.cached
    assert same(found, erasure.unlearn(Own(), train=graph, forget=[1, 4], **PLAIN))


def test_without_a_train_mask_all_nodes_that_are_not_tested_are_trained_on():
    graph = a_graph(train_mask=None)
    assert erasure.unlearn(Own(), train=graph, forget=[1, 30 - 1 - 24], **PLAIN).unlearning.sizes == {
        "forget": 2,
        "retain": N_NODES - 12 - 2,
        "test": 12,
    }
    tensors = {name: value for name, value in a_graph().to_dict().items() if value is not None}
    assert erasure.unlearn(Own(), train=tensors, forget=[1], **PLAIN).unlearning.sizes["retain"] == 23


def test_networks_of_the_library_itself_run():
    with isolated(0):
        model = GCN(5, 8, 2, 3)
    assert type(erasure.unlearn(model, train=a_graph(), forget=[1, 4], **PLAIN)) is GCN


N = N_NODES
EDGE = tuple(blocks().x.edge_index[:, 0].tolist())


@pytest.mark.parametrize(
    ("forget", "told"),
    [
        ({"nodes": [N]}, f"nodes: 1 of the positions are not in the data .0 to {N - 1}., the first is {N}"),
        ({"nodes": [-1]}, "the first is -1"),
        ({"nodes": [0.5]}, "positions of samples in the graph"),
        ({"nodes": []}, "nodes names nothing"),
        ({"nodes": [30]}, 'is no node of "train"'),
        ({"nodes": list(range(24))}, "nothing is left to train on"),
        (torch.ones(7, dtype=torch.bool), "is a mask of 7 samples"),
        ({"edges": [[0, 0]]}, "the same node at both ends"),
        ({"edges": [EDGE, EDGE[::-1]]}, "an edge is removed once, whichever way it is written"),
        ({"edges": [[0, N + 3]]}, f"has no node {N + 3}; the graph has the nodes 0 to {N - 1}"),
        ({"edges": [[0, -2]]}, "whole numbers from 0, and -2 is below"),
        ({"edges": [[0, 1, 2]]}, r"of shape .number of edges, 2., and these have the shape .1, 3."),
        ({"edges": [[0, 1], [2]]}, "each row with as many"),
        ({"edges": blocks().x.edge_index}, "of an edge_index give edge_index.T"),
        ({"edges": []}, "edges names nothing"),
        ({"edges": [["a", "b"]]}, "whole numbers from 0; these are"),
        ({"features_of": [3], "columns": [9]}, "has 5 features, there is no column 9"),
        ({"features_of": [3], "columns": []}, "columns names nothing"),
        ({"nodes": [1], "edges": [EDGE]}, "say what is forgotten of the graph"),
        ({"nodes": [1], "columns": [0]}, "say what is forgotten of the graph"),
        ({"knots": [1]}, "found knots"),
        ({}, "found nothing"),
        ("everything", "found 'everything'"),
        (None, "there is nothing to forget"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_in_words(forget, told):
    with pytest.raises(ErasureError, match=told):
        erasure.unlearn(Own(), train=a_graph(), forget=forget, **PLAIN)


def test_an_edge_that_is_not_there_is_refused():
    linked = {tuple(edge) for edge in blocks().x.edge_index.T.tolist()}
    absent = next((u, v) for u in range(24) for v in range(u + 1, 24) if (u, v) not in linked)
    with pytest.raises(PartitionError, match="has no edge"):
        erasure.unlearn(Own(), train=a_graph(), forget={"edges": [absent]}, **PLAIN)


@pytest.mark.parametrize(
    ("graph", "told"),
    [
        (a_graph(x=None), "has no features x"),
        (a_graph(y=None), "has no y, the class of each node"),
        (Data(x=torch.zeros(3, 5), y=torch.zeros(3).long()), "has no edge_index"),
        (a_graph(edge_index=torch.tensor([[0, -1], [1, 2]])), "an edge names node -1, but the nodes are 0 to 39"),
        (a_graph(edge_index=torch.tensor([[0, 1], [1, 40]])), "an edge names node 40"),
        (a_graph(edge_index=torch.rand(2, 4)), "its type is torch.float32"),
        (a_graph(x=torch.full((N_NODES, 5), float("nan"))), "NaN or infinite"),
        (a_graph(x=torch.zeros(N_NODES)), "expected a row of features for each node"),
        (a_graph(y=torch.zeros(7).long()), "features of 40 nodes, and classes of 7"),
        (a_graph(y=torch.full((N_NODES,), 5)), "label 5 is out of range: the model has 3 classes"),
        (a_graph(train_mask=torch.zeros(N_NODES, dtype=torch.bool)), "train"),
        (a_graph(edge_weight=torch.ones(3)), "edge_weight holds 3 numbers"),
        (a_graph(x=torch.zeros(N_NODES, 4)), "does not take this graph .4 features a node."),
        (HeteroData(), "several kinds of nodes or edges"),
    ],
)
def test_a_graph_that_cannot_be_used_is_refused_in_words(graph, told):
    with pytest.raises(ErasureError, match=told):
        erasure.unlearn(Own(), train=graph, forget=[1, 4], **PLAIN)


class Pooled(nn.Module):
    """A class for each graph."""

    def __init__(self):
        super().__init__()
        with isolated(0):
            self.conv, self.head = GCNConv(5, 8), nn.Linear(8, 2)

    def forward(self, x, edge_index, batch):
        return self.head(global_mean_pool(self.conv(x, edge_index).relu(), batch))


def some_graphs(n=8):
    generator = torch.Generator().manual_seed(0)
    return [
        Data(
            x=torch.randn(3 + i % 3, 5, generator=generator),
            edge_index=torch.tensor([[0, 1, 2], [1, 2, 0]]),
            y=torch.tensor([i % 2]),
        )
        for i in range(n)
    ]


def test_lists_of_graphs_are_samples_with_their_own_labels_or_in_pairs():
    graphs = some_graphs()
    pairs = [(graph, int(graph.y)) for graph in graphs]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnlearningWarning)
        found = [
            erasure.unlearn(Pooled(), forget=graphs[:2], retain=graphs[2:], **PLAIN),
            erasure.unlearn(Pooled(), forget=pairs[:2], retain=pairs[2:], **PLAIN),
            erasure.unlearn(Pooled(), forget=[0, 1], train=graphs, **PLAIN),
        ]
    assert same(found[0], found[1])
    assert same(found[0], found[2])
    assert type(found[0]) is Pooled
    assert found[0].unlearning.sizes == {"forget": 2, "retain": 6}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"forget": some_graphs()[:2], "retain": (torch.zeros(3, 5), torch.zeros(3).long())},
            "retain holds tuple, and the other parts",
        ),
        ({"forget": [(Data(x=torch.zeros(2, 5)), 0)], "retain": some_graphs()}, "forget: graph 0 needs edge_index"),
        (
            {"forget": [Data(x=torch.zeros(2, 5), edge_index=torch.tensor([[0], [1]]))], "retain": some_graphs()},
            "graph 0 has no label",
        ),
        ({"forget": [0], "train": [a_graph()]}, "give this graph by itself"),
        ({"forget": a_graph()}, "give the whole graph as train="),
        ({"forget": [1], "train": a_graph(), "test": [2]}, "leave test out"),
    ],
)
def test_graphs_that_cannot_be_used_are_refused_in_words(given, told):
    with pytest.raises(DataError, match=told):
        erasure.unlearn(Pooled(), **given, **PLAIN)


def test_methods_that_need_more_than_a_network_say_so():
    with pytest.raises(RequirementNotMet, match="val_mask"):
        erasure.unlearn(Own(), "SCRUB+R", train=a_graph(), forget=[1])
    with pytest.raises(RequirementNotMet, match="Own does not show its layers; take a GNN"):
        erasure.unlearn(Own(), "GNNDelete", train=a_graph(), forget=[1])
    with pytest.raises(RequirementNotMet, match="a row of logits for each node"):
        erasure.unlearn(OfGraph(), train=a_graph(), forget=[1], **PLAIN)


def test_a_network_of_this_package_is_called_as_in_a_run():
    with isolated(0):
        model = GNN(conv="gcn", hidden=8, layers=2, dense_layers=0, batch_norm=False).build(ModelInput((5,), 3, modality="graph"))
    for method, settings in (("GNNDelete", {"epochs": 2}), ("Finetuning", {"epochs": 1})):
        found = erasure.unlearn(model, method, train=a_graph(), forget=[1, 4], **settings)
        assert type(found) is type(model)
    assert not same(found, model)


def test_an_audit_says_of_graphs_who_takes_them():
    model = Pooled()
    for data, told in ((a_graph(), "a graph is not a set of samples"), (some_graphs(), "samples that are graphs are taken by")):
        with pytest.raises(DataError, match=told):
            erasure.audit(original=model, unlearned=model, data=data, forget=[0])
    pairs = [(graph, 0) for graph in some_graphs()]
    with pytest.raises(DataError, match="samples that are graphs are taken by"):
        erasure.audit(original=model, unlearned=model, data=pairs, forget=[0])


class OfGraph(Own):
    def forward(self, x, edge_index):
        return super().forward(x, edge_index).mean(0, keepdim=True)
