"""Streams of requests of one graph: the short form, and that numbering the nodes otherwise changes nothing else."""

import warnings

import pytest
import torch
from graph_toys import N_CLASSES, N_NODES, TRAIN_AND_TEST, blocks, dataset, task_on

from erasure.data.graph_splitters import GraphEdgesSplitter, GraphNodesSplitter, GraphRequestSplitter
from erasure.data.graph_streams import GraphRequestsSplitter
from erasure.data.inductive import InductiveSplitter
from erasure.data.partitions import build_partitions, inspect_partitions
from erasure.errors import InvalidParameters, PartitionError
from erasure.training.calls import Optimizer
from erasure.training.graph_requests import pair_keys
from erasure.training.graphs import NodeColumn
from erasure.training.predictor import ModelInput, build_model
from erasure.unlearners.etr import EraseThenRectify
from erasure.unlearners.finetuning import Finetuning
from erasure.unlearners.graph_influence import GraphInfluence
from erasure.unlearners.megu import MEGU
from erasure.unlearners.neg_grad_plus import NegGradPlus
from erasure.unlearners.sequential import Sequential
from erasure.unlearners.unlink import Unlink

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    pytest.importorskip("torch_geometric")

from erasure.models.graph import GNN

KINDS = ("nodes", "edges", "features")


def made(*splitters, data=None):
    data = blocks() if data is None else data
    splitters = (*TRAIN_AND_TEST, *splitters)
    partitions = build_partitions(data, splitters, 0)
    for splitter in splitters:
        data = splitter.prepared(data, partitions)
    return data, partitions


def long_form(gone, edges, blanked):
    """A stream of nodes, edges and features, by their numbers."""
    return (
        GraphNodesSplitter(parts_names=("gone 1", "-"), ref_data="train", nodes=tuple(gone)),
        GraphRequestSplitter(parts_names=("forget 1", "retain 1"), nodes="gone 1"),
        GraphEdgesSplitter(parts_names=("gone 2", "-"), ref_data="retain 1", pairs=tuple(map(tuple, edges))),
        GraphRequestSplitter(parts_names=("forget 2", "retain 2"), ref_data="retain 1", edges="gone 2"),
        GraphNodesSplitter(parts_names=("gone 3", "-"), ref_data="retain 2", nodes=tuple(blanked)),
        GraphRequestSplitter(parts_names=("forget 3", "retain 3"), ref_data="retain 2", features_of="gone 3"),
    )


def in_numbers(data, partitions):
    """What is gone in each request of the short form."""
    gone, blanked = (data.x.nodes_of(partitions[name]) for name in ("gone 1", "gone 3"))
    return gone, data.x.ends_of(partitions["gone 2"]), blanked


SHORT = GraphRequestsSplitter(requests=KINDS, n=3)


def test_the_short_form_is_the_long_one():
    data, partitions = made(SHORT)
    assert [name for name in partitions if name[-1].isdigit()] == [
        f"{name} {k}" for k in (1, 2, 3) for name in ("forget", "retain", "gone")
    ]
    again, named = made(*long_form(*(each.tolist() for each in in_numbers(data, partitions))))
    for name in ("test", *(f"{part} {k}" for k in (1, 2, 3) for part in ("forget", "retain", "gone"))):
        assert torch.equal(partitions[name].sort().values, named[name].sort().values), name
    for name in ("train", "retain 1", "forget 2", "retain 2", "retain 3", "test"):
        one, other = data.x.gather(partitions[name]), again.x.gather(named[name])
        assert torch.equal(one.x, other.x)
        assert torch.equal(one.edge_index, other.edge_index)
    assert not [
        issue for issue in inspect_partitions(partitions, data, forget="forget 3", retain="retain 3") if issue.severity == "error"
    ]


def test_each_request_takes_what_is_left():
    data, partitions = made(GraphRequestsSplitter(requests=("edges", "edges", "nodes", "nodes"), n=4, stratum="high-degree"))
    edges = torch.cat([data.x.ends_of(partitions[f"gone {k}"]) for k in (1, 2)])
    assert len(torch.unique(pair_keys(edges.T, N_NODES))) == 8
    nodes = torch.cat([data.x.nodes_of(partitions[f"gone {k}"]) for k in (3, 4)])
    assert len(torch.unique(nodes)) == 8
    assert not torch.isin(data.x.nodes_of(partitions["retain 4"]), nodes).any()
    assert len(partitions["retain 4"]) == 24 - 8


def test_it_works_where_nodes_arrive_later():
    data, partitions = made(InductiveSplitter(), GraphRequestsSplitter(requests=("edges", "nodes"), n=2, both_ends=True))
    assert (data.x.ends_of(partitions["gone 1"]) < 24).all()


def test_what_makes_no_stream_is_said():
    for fields in (
        {},
        {"n": 2, "percentage": 0.1},
        {"n": 2, "stratum": "planted"},
        {"n": 2, "stratum": "all", "requests": ("edges",)},
    ):
        with pytest.raises(InvalidParameters, match=r"either n or percentage|stratum"):
            GraphRequestsSplitter(**fields)
    with pytest.raises(PartitionError, match="asked for"):
        made(GraphRequestsSplitter(requests=("nodes", "nodes"), n=20))


PLAIN = Optimizer.of("SGD", lr=0.05)
METHODS = [
    Unlink(),
    GraphInfluence(damping=0.1, tolerance=1e-6),
    EraseThenRectify(),
    MEGU(epochs=3),
    Finetuning(epochs=3, optimizer=PLAIN),
    NegGradPlus(epochs=2, optimizer=PLAIN),
]


def network():
    model = GNN(conv="gcn", hidden=8, layers=2, dense_layers=0, batch_norm=False)
    inputs = ModelInput(x_shape=(5,), n_classes=N_CLASSES, task="classification", modality="graph")
    return build_model(model, inputs, 3, torch.device("cpu"))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_numbering_the_nodes_otherwise_changes_nothing_of_a_stream(method):
    data, partitions = made(SHORT)
    order = torch.randperm(N_NODES, generator=torch.Generator().manual_seed(0))
    place, base, plain = order.argsort(), data.x.graph, blocks()
    renumbered = dataset(NodeColumn(base.x[order], place[base.edge_index]), plain.y[order], plain.z[order])
    moved, named = made(*long_form(*(place[each].tolist() for each in in_numbers(data, partitions))), data=renumbered)
    numbers = (1, 2, 3)
    stream = Sequential(
        method=method,
        requests=tuple(f"forget {k}" for k in numbers),
        remaining=tuple(f"retain {k}" for k in numbers),
        forget="forget 3",
        retain="retain 3",
    )
    one, other = (stream.run(network(), task_on(*each)).model for each in ((data, partitions), (moved, named)))
    for name, weight in one.state_dict().items():
        assert torch.allclose(weight, other.state_dict()[name], atol=2e-5), name
    nodes = torch.arange(36)[24:]
    logits, again = (
        model(column.gather(column.seen_in(ids, "after")))[1]
        for model, column, ids in ((one, data.x, nodes), (other, moved.x, place[nodes]))
    )
    assert torch.allclose(logits, again, atol=2e-4)
