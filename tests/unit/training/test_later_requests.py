"""Several requests of one graph after each other, and nodes that arrive after the training."""

import warnings
from dataclasses import replace

import pytest
import torch
from graph_toys import FORGOTTEN, N_CLASSES, N_NODES, REQUESTS, TRAIN_AND_TEST, Linear, Squares, blocks, task_on, with_noise

from erasure.data.graph_splitters import (
    AffectedSplitter,
    GraphEdgesSplitter,
    GraphNodesSplitter,
    GraphRequestSplitter,
    SeenInSplitter,
)
from erasure.data.inductive import InductiveSplitter
from erasure.data.partitions import build_partitions, inspect_partitions
from erasure.data.splitters import ListSplitter
from erasure.errors import PartitionError
from erasure.models.linear import Ridge
from erasure.training.calls import Optimizer
from erasure.training.estimators import samples_of
from erasure.training.graph_requests import edge_pairs, within_hops
from erasure.training.graphs import NodeColumn
from erasure.training.predictor import ModelInput, build_model
from erasure.training.propagation import propagation
from erasure.unlearners.cognac import Cognac
from erasure.unlearners.etr import EraseThenRectify
from erasure.unlearners.exact_deletion import ExactDeletion
from erasure.unlearners.finetuning import Finetuning
from erasure.unlearners.gnn_delete import GNNDelete
from erasure.unlearners.graph_influence import GraphInfluence
from erasure.unlearners.megu import MEGU
from erasure.unlearners.neighbour_relabelling import NeighbourRelabelling
from erasure.unlearners.sequential import Sequential
from erasure.unlearners.unlink import Unlink

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    pytest.importorskip("torch_geometric")

from erasure.models.graph import GNN

CPU = torch.device("cpu")
SECOND = (2, 9)
"""Training nodes that lose their features in the third request."""


def left_pair(data):
    """An edge between training nodes of which the other requests take nothing."""
    pairs = edge_pairs(data.x)
    taken = torch.tensor([*FORGOTTEN, *SECOND])
    free = (pairs < 24).all(1) & ~torch.isin(pairs, taken).any(1)
    return tuple(pairs[free][0].tolist())


def stream(data=None, *, inductive=False, pair=None):
    """Nodes, then an edge, then features."""
    data = blocks() if data is None else data
    first, second = pair or left_pair(data)
    splitters = (
        *TRAIN_AND_TEST,
        ListSplitter(parts_names=("gone 1", "-"), samples_ids=FORGOTTEN),
        *([InductiveSplitter()] if inductive else []),
        GraphRequestSplitter(parts_names=("forget 1", "retain 1"), nodes="gone 1"),
        SeenInSplitter(parts_names=("test 1", "-"), ref_data="test", graph="after"),
        GraphEdgesSplitter(parts_names=("gone 2", "-"), ref_data="retain 1", pairs=((second, first),)),
        GraphRequestSplitter(parts_names=("forget 2", "retain 2"), ref_data="retain 1", edges="gone 2"),
        GraphNodesSplitter(parts_names=("gone 3", "-"), ref_data="retain 2", nodes=SECOND),
        GraphRequestSplitter(parts_names=("forget", "retain"), ref_data="retain 2", features_of="gone 3"),
    )
    partitions = build_partitions(data, splitters, 0)
    for splitter in splitters:
        data = splitter.prepared(data, partitions)
    return data, partitions


def network(**parameters):
    model = GNN(**({"conv": "gcn", "hidden": 8, "layers": 2, "dense_layers": 0, "batch_norm": False} | parameters))
    return build_model(model, ModelInput(x_shape=(5,), n_classes=N_CLASSES, task="classification", modality="graph"), 3, CPU)


def plain_graph(column, *, nodes=(), pairs=(), features=(), only=None):
    """The features and edges that are left, by loops; with ``only`` some nodes are all there is."""
    kept = [node for node in range(len(column)) if node not in nodes and (only is None or node in only)]
    gone = {frozenset(pair) for pair in pairs}
    edges = [(u, v) for u, v in column.edge_index.T.tolist() if u in kept and v in kept and frozenset((u, v)) not in gone]
    x = column.x.clone()
    x[list(features)] = 0
    return x[kept], [(kept.index(u), kept.index(v)) for u, v in edges]


def assert_sees(batch, expected):
    x, edges = expected
    assert torch.equal(batch.x, x)
    assert sorted(map(tuple, batch.edge_index.T.tolist())) == sorted(edges)


def test_each_request_is_seen_in_what_the_ones_before_have_left():
    data, partitions = stream()
    graph, pair = data.x.graph, left_pair(blocks())
    taken = {
        "train": {},
        "retain 1": {"nodes": FORGOTTEN},
        "test 1": {"nodes": FORGOTTEN},
        "forget 2": {"nodes": FORGOTTEN},
        "retain 2": {"nodes": FORGOTTEN, "pairs": [pair]},
        "forget": {"nodes": FORGOTTEN, "pairs": [pair]},
        "retain": {"nodes": FORGOTTEN, "pairs": [pair], "features": SECOND},
        "test": {"nodes": FORGOTTEN, "pairs": [pair], "features": SECOND},
    }
    for name, gone in taken.items():
        assert_sees(data.x.gather(partitions[name]), plain_graph(graph, **gone))
    assert sorted((partitions["forget 2"] % N_NODES).tolist()) == sorted(pair)
    assert sorted((partitions["forget"] % N_NODES).tolist()) == sorted(SECOND)
    assert torch.equal(data.y[partitions["retain"]], data.y[partitions["retain"] % N_NODES])
    for number, names in enumerate((("forget 1", "retain 1", "train"), ("forget 2", "retain 2", "retain 1")), 1):
        forget, retain, train = names
        issues = inspect_partitions(partitions, data, forget=forget, retain=retain, train=train, held_out=(f"test {number}",))
        assert {issue.message for issue in issues} <= {"it is empty"}


def test_requests_add_up_in_the_rows_that_models_of_tables_read():
    column = replace(blocks().x, propagate=2)
    data, partitions = stream(replace(blocks(), x=column))
    pair = left_pair(blocks())
    x, edges = plain_graph(column, nodes=FORGOTTEN, pairs=[pair], features=SECOND)
    expected = propagation(x, torch.tensor(edges).T, 2).propagated
    kept = [node for node in range(N_NODES) if node not in FORGOTTEN]
    places = torch.tensor([kept.index(node) for node in (partitions["retain"] % N_NODES).tolist()])
    assert torch.allclose(data.x.gather(partitions["retain"]), expected[places], atol=1e-6)


def methods(role):
    """A method of each kind that asks something of a request."""
    one = Optimizer.of("SGD", lr=0.1)
    yield GraphInfluence(damping=0.1, **role)
    yield GNNDelete(epochs=3, **role)
    yield MEGU(epochs=2, **role)
    yield EraseThenRectify(**role)
    yield Cognac(epochs=1, share=0.5, **role)
    yield NeighbourRelabelling(epochs=2, optimizer=one, **role)
    yield Finetuning(epochs=2, optimizer=one, **role)


@pytest.mark.parametrize("inductive", [False, True])
def test_what_earlier_requests_took_and_later_nodes_have_reaches_no_method(inductive):
    pair = left_pair(blocks())
    hidden = torch.tensor([*FORGOTTEN, *range(24, N_NODES)] if inductive else FORGOTTEN)
    found = []
    for noisy in (False, True):
        data = blocks()
        kept = ~torch.isin(data.x.edge_index, hidden).any(0)
        if noisy:
            data = with_noise(data, hidden)
        assert noisy or bool((~kept).any())
        data, partitions = stream(data, inductive=inductive, pair=pair)
        bits = []
        for forget, retain, train in (("forget 2", "retain 2", "retain 1"), ("forget", "retain", "retain 2")):
            for method in methods({"forget": forget, "retain": retain, "train": train}):
                after = method.run(network(), task_on(data, partitions)).model
                bits += [t for name, t in after.state_dict().items() if "nodes_" not in name]
        retain = network()(data.x.gather(partitions["retain"]))[1]
        found.append([*bits, retain])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_method_is_shown_its_own_request():
    data, partitions = stream()
    task = task_on(data, partitions)
    kinds = [
        task.seen_by(Unlink(forget=f, retain=r, train=t)).x.kind
        for f, r, t in (
            ("forget 1", "retain 1", "train"),
            ("forget 2", "retain 2", "retain 1"),
            ("forget", "retain", "retain 2"),
        )
    ]
    assert kinds == ["nodes", "edges", "features"]
    with pytest.raises(PartitionError, match="after a later request"):
        task.seen_by(Unlink(forget="forget 1", retain="retain 1")).x.gather(partitions["test"])


def test_steps_of_a_stream_add_up_to_one_step_for_a_quadratic_loss():
    data = blocks(dtype=torch.float64)
    data, partitions = stream(data)
    task = replace(task_on(data, partitions), criterion=Squares())
    fields = {"damping": 0.0, "hessian_of": "retain", "tolerance": 1e-10}
    many = Sequential(
        method=GraphInfluence(**fields), requests=("forget 1", "forget 2", "forget"), remaining=("retain 1", "retain 2", "retain")
    )
    start = _fitted(Linear(), data, partitions["train"])
    after, gold = many.run(start, task).model, _fitted(Linear(), data, partitions["retain"])
    for a, b, before in zip(after.parameters(), gold.parameters(), start.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
        assert not torch.allclose(before, b, atol=1e-3)


def _fitted(model, data, ids):
    batch = data.x.gather(ids)
    rows = _rows(model, batch)
    design = torch.cat([rows, torch.ones(len(rows), 1, dtype=rows.dtype)], dim=1)
    solution = torch.linalg.lstsq(design, torch.eye(N_CLASSES, dtype=rows.dtype)[data.y[ids]]).solution
    with torch.no_grad():
        model.layer.weight.copy_(solution[:-1].T)
        model.layer.bias.copy_(solution[-1])
    return model


def _rows(model, batch):
    """What the linear layer reads."""
    seen = []
    hook = model.layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    model(batch)
    hook.remove()
    return seen[0]


def test_operators_of_two_requests_both_stay():
    data, partitions = stream()
    task = task_on(data, partitions)
    first = GNNDelete(epochs=2, forget="forget 1", retain="retain 1").run(network(), task).model
    second = GNNDelete(epochs=2, forget="forget 2", retain="retain 2", train="retain 1").run(first, task).model
    assert second.operators.count(0) == 2
    assert torch.equal(second.operators.matrix_0, first.operators.matrix_0)
    again = network()
    again.load_state_dict(second.state_dict())
    ids = partitions["retain"]
    assert torch.equal(again.eval()(data.x.gather(ids))[1], second.eval()(data.x.gather(ids))[1])


def test_edges_that_an_earlier_request_took_are_not_there_to_choose_from():
    data = blocks()
    pairs = edge_pairs(data.x)
    of_gone = next(tuple(pair) for pair in pairs.tolist() if pair[0] == FORGOTTEN[0])
    with pytest.raises(PartitionError, match="has no edge"):
        stream(data, pair=of_gone)
    with pytest.raises(PartitionError, match="an earlier one took them out"):
        build_partitions(
            data,
            [
                *TRAIN_AND_TEST,
                GraphEdgesSplitter(parts_names=("gone", "-"), ref_data="train", n=2),
                GraphRequestSplitter(parts_names=("forget 1", "retain 1"), edges="gone"),
                GraphRequestSplitter(ref_data="retain 1", edges="gone"),
            ],
            0,
        )


def test_nodes_that_arrive_later_are_seen_by_nobody_but_themselves():
    data, partitions = stream(inductive=True)
    graph, pair, trained = data.x.graph, left_pair(blocks()), set(range(24))
    assert_sees(data.x.gather(partitions["train"]), plain_graph(graph, only=trained))
    assert_sees(data.x.gather(partitions["retain 1"]), plain_graph(graph, nodes=FORGOTTEN, only=trained))
    assert_sees(data.x.gather(partitions["test 1"]), plain_graph(graph, nodes=FORGOTTEN))
    gone = {"nodes": FORGOTTEN, "pairs": [pair], "features": SECOND}
    assert_sees(data.x.gather(partitions["retain"]), plain_graph(graph, **gone, only=trained))
    assert_sees(data.x.gather(partitions["test"]), plain_graph(graph, **gone))
    back = data.x.asked_by(partitions["retain 1"]).seen_in(partitions["test"], "before")
    assert_sees(data.x.gather(back), plain_graph(graph))


def test_within_reach_among_trained_nodes_is_what_messages_over_trained_nodes_reach():
    data, partitions = stream(inductive=True)
    first = data.x.asked_by(partitions["retain 1"])
    start = torch.zeros(N_NODES, dtype=torch.bool).index_fill(0, torch.tensor(FORGOTTEN), True)
    edges = data.x.graph.edge_index
    inside = edges[:, (edges < 24).all(0)]
    found = first.affected(2)
    assert torch.equal(found[:24], within_hops(inside, start, 2)[:24])
    assert torch.equal(found[24:], within_hops(edges, start, 2)[24:])


def test_what_arrives_later_cannot_be_forgotten():
    held_out = ListSplitter(parts_names=("gone", "-"), samples_ids=(1, 38))
    for request in ({"nodes": "gone"}, {"features_of": "gone"}):
        with pytest.raises(PartitionError, match="arrive after the training"):
            build_partitions(blocks(), [*TRAIN_AND_TEST, InductiveSplitter(), held_out, GraphRequestSplitter(**request)], 0)
    for both_ends, n_expected in ((False, None), (True, int((edge_pairs(blocks().x) < 24).all(1).sum()))):
        edges = GraphEdgesSplitter(parts_names=("gone", "rest"), ref_data="train", n=1, both_ends=both_ends)
        found = build_partitions(blocks(), [*TRAIN_AND_TEST, edges], 0)
        n_there = len(found["gone"]) + len(found["rest"])
        assert n_there == n_expected if both_ends else n_there > 0


def test_without_a_request_those_trained_on_see_one_another_and_others_see_all():
    data = blocks()
    splitters = (*TRAIN_AND_TEST, InductiveSplitter())
    partitions = build_partitions(data, splitters, 0)
    data = splitters[-1].prepared(data, partitions)
    part = partitions["train"][:5]
    for ids in (partitions["train"], part):
        assert_sees(data.x.gather(ids), plain_graph(data.x, only=set(range(24))))
    assert_sees(data.x.to(CPU).gather(partitions["test"]), plain_graph(data.x))
    for splitter, message in (
        (InductiveSplitter(), "said already"),
        (InductiveSplitter(ref_data="all"), "all there is"),
    ):
        with pytest.raises(PartitionError, match=message):
            build_partitions(blocks(), [*(splitters if message == "said already" else ()), splitter], 0)
    with pytest.raises(PartitionError, match="stands before a GraphRequest"):
        build_partitions(blocks(), [*TRAIN_AND_TEST, *REQUESTS["nodes"], InductiveSplitter()], 0)


def test_the_affected_part_of_the_test_set_follows_the_last_request():
    data = blocks()
    reach = AffectedSplitter(parts_names=("near", "far"), ref_data="test", hops=1)
    gone = ListSplitter(parts_names=("gone", "-"), samples_ids=FORGOTTEN)
    partitions = build_partitions(
        data, [*TRAIN_AND_TEST, InductiveSplitter(), gone, GraphRequestSplitter(nodes="gone"), reach], 0
    )
    neighbours = {v for u, v in data.x.edge_index.T.tolist() if u in FORGOTTEN}
    assert {node % N_NODES for node in partitions["near"].tolist()} == neighbours & set(range(24, 36))


def test_a_graph_of_one_request_is_what_it_was():
    column = NodeColumn(torch.randn(4, 5), torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]))
    data = replace(blocks(), x=column, y=torch.tensor([0, 1, 2, 0]), z=torch.tensor([0, 0, 0, 2]))
    gone = ListSplitter(parts_names=("gone", "-"), samples_ids=(1,))
    partitions = build_partitions(data, [*TRAIN_AND_TEST, gone, GraphRequestSplitter(nodes="gone")], 0)
    assert partitions["retain"].tolist() == [4, 6]
    assert partitions["test"].tolist() == [7]
    assert partitions["forget"].tolist() == [1]


def test_a_stream_is_deleted_exactly_from_a_ridge_regression():
    data, partitions = stream(replace(blocks(), x=replace(blocks().x, propagate=2)))
    task = task_on(data, partitions)

    def fitted(name):
        model = Ridge().build(task.model_input)
        model.fit(samples_of(task.x, task.y, partitions[name]), seed=0)
        return model

    requests = {"requests": ("forget 1", "forget 2", "forget"), "remaining": ("retain 1", "retain 2", "retain")}
    original, gold = fitted("train"), fitted("retain")
    found = Sequential(method=ExactDeletion(), **requests).run(original, task).model
    assert float((original.weight - gold.weight).abs().max()) > 1e-3
    assert torch.allclose(found.weight, gold.weight, atol=1e-8)
