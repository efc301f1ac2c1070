"""Choosing nodes and edges of a graph, and partitions that see the graph without them."""

import pytest
import torch
from graph_toys import FORGOTTEN, N_NODES, REQUESTS, TRAIN_AND_TEST, blocks, requested
from hypothesis import given
from hypothesis import strategies as st

from erasure.data.graph_splitters import (
    AffectedSplitter,
    GraphEdgesSplitter,
    GraphNodesSplitter,
    GraphRequestSplitter,
    SeenInSplitter,
)
from erasure.data.graph_strata import bridges, cut_nodes
from erasure.data.partitions import build_partitions, inspect_partitions
from erasure.data.sources.synthetic import SyntheticTable
from erasure.data.splitters import ClassSplitter, ConcatSplitter, ListSplitter
from erasure.errors import InvalidParameters, PartitionError
from erasure.training.graph_requests import NO_SAMPLE, edge_pairs


def n_parts(pairs, n_nodes, without=()):
    """Connected parts of a graph by repeated merging; nodes ``without`` are not there."""
    label = list(range(n_nodes))
    for a, b in pairs:
        if a not in without and b not in without:
            old, new = label[a], label[b]
            label = [new if each == old else each for each in label]
    return len({label[node] for node in range(n_nodes) if node not in without})


@given(
    st.integers(2, 9).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)))))
)
def test_bridges_and_cut_nodes_are_those_without_which_the_graph_falls_apart(case):
    n, drawn = case
    pairs = sorted({(min(pair), max(pair)) for pair in drawn if pair[0] != pair[1]})
    tensor = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)
    whole = n_parts(pairs, n)
    assert bridges(tensor, n).tolist() == [n_parts(pairs[:i] + pairs[i + 1 :], n) > whole for i in range(len(pairs))]
    isolated = [all(node not in pair for pair in pairs) for node in range(n)]
    expected = [n_parts(pairs, n, {node}) > whole - isolated[node] for node in range(n)]
    assert cut_nodes(tensor, n).tolist() == expected


def test_what_each_partition_is():
    _, nodes = requested("nodes")
    assert nodes["forget"].tolist() == list(FORGOTTEN)
    assert nodes["retain"].tolist() == [N_NODES + node for node in range(24) if node not in FORGOTTEN]
    assert nodes["test"].tolist() == [N_NODES + node for node in range(24, 36)]
    data, edges = requested("edges")
    ends = set(data.x.ends_of(edges["gone"]).flatten().tolist())
    assert edges["forget"].tolist() == [node for node in range(24) if node in ends]
    assert edges["retain"].tolist() == [N_NODES + node for node in range(24)]
    _, features = requested("features")
    assert features["forget"].tolist() == list(FORGOTTEN)
    assert features["retain"].tolist() == [N_NODES + node for node in range(24)]


@pytest.mark.parametrize("kind", ["nodes", "edges", "features"])
def test_the_partitions_of_a_request_are_sound(kind):
    data, partitions = requested(kind)
    assert inspect_partitions(partitions, data) == []


def test_a_test_set_that_is_not_deployed_is_warned_of():
    splitters = (*TRAIN_AND_TEST, REQUESTS["nodes"][0], GraphRequestSplitter(nodes="gone", deployed=()))
    data = blocks()
    partitions = build_partitions(data, splitters, 0)
    (issue,) = inspect_partitions(partitions, splitters[-1].prepared(data, partitions))
    assert (issue.severity, issue.partition) == ("warning", "test")
    assert "deployed" in issue.message


def test_later_splitters_cut_samples_of_any_graph():
    data, partitions = requested(
        "nodes",
        None,
        ClassSplitter(parts_names=("one", "others"), ref_data="retain", labels=(1,)),
        SeenInSplitter(parts_names=("put_back", "-"), ref_data="test", graph="before"),
        SeenInSplitter(parts_names=("features", "-"), ref_data="test", graph="alone"),
        AffectedSplitter(parts_names=("near", "far"), ref_data="test", hops=1),
    )
    assert set(data.y[partitions["one"]].tolist()) == {1}
    assert partitions["put_back"].tolist() == list(range(24, 36))
    assert partitions["features"].tolist() == [2 * N_NODES + node for node in range(24, 36)]
    neighbours = {b for a, b in data.x.graph.edge_index.T.tolist() if a in FORGOTTEN}
    assert partitions["near"].tolist() == [N_NODES + node for node in range(24, 36) if node in neighbours]
    assert len(partitions["far"]) == 12 - len(partitions["near"])


def test_strata_of_edges_and_nodes():
    data = blocks()
    pairs = edge_pairs(data.x)
    degrees = torch.bincount(pairs.flatten(), minlength=N_NODES)

    def chosen(splitter):
        return build_partitions(data, [splitter], 0)

    popular = chosen(GraphEdgesSplitter(parts_names=("a", "b"), stratum="high-degree", n=5))
    score = degrees[pairs].min(1).values
    assert sorted(score[popular["a"] - NO_SAMPLE].tolist()) == sorted(score.tolist())[-5:]
    rare = chosen(GraphNodesSplitter(parts_names=("a", "b"), stratum="low-degree", percentage=0.2))
    assert sorted(degrees[rare["a"]].tolist()) == sorted(degrees.tolist())[:8]
    assert len(rare["a"]) + len(rare["b"]) == N_NODES
    bridging = bridges(pairs, N_NODES)
    held = chosen(GraphEdgesSplitter(parts_names=("a", "b"), stratum="bridge", n=1))
    assert bridging[held["a"] - NO_SAMPLE].all()
    with pytest.raises(PartitionError, match="hold parts of the graph together"):
        chosen(GraphEdgesSplitter(parts_names=("a", "b"), stratum="bridge", n=int(bridging.sum()) + 1))
    with pytest.raises(PartitionError, match="1000 nodes asked for"):
        chosen(GraphNodesSplitter(parts_names=("a", "b"), n=1000))


def test_edges_by_name_in_either_direction():
    data = blocks()
    pair = tuple(edge_pairs(data.x)[3].tolist())
    for given_pair in (pair, pair[::-1]):
        found = build_partitions(data, [GraphEdgesSplitter(parts_names=("a", "b"), pairs=(given_pair,))], 0)
        assert found["a"].tolist() == [NO_SAMPLE + 3]
        assert len(found["b"]) == len(edge_pairs(data.x)) - 1


def test_edges_of_some_nodes_and_of_edges():
    data = blocks()
    some = ListSplitter(parts_names=("some", "-"), samples_ids=(0, 2))
    splitters = [
        some,
        GraphEdgesSplitter(parts_names=("theirs", "-"), ref_data="some", percentage=0.999),
        GraphEdgesSplitter(parts_names=("few", "rest"), ref_data="theirs", n=2),
    ]
    found = build_partitions(data, splitters, 0)
    ends = edge_pairs(data.x)[found["theirs"] - NO_SAMPLE]
    assert torch.isin(ends, torch.tensor([0, 2])).any(1).all()
    assert torch.isin(found["few"], found["theirs"]).all()


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (((0, 39), (0, 99)), "has no node 99"),
        (((3, 3),), "same node at both ends"),
        ("twice", "removed once, whichever way"),
        ("absent", "has no edge"),
    ],
)
def test_edges_that_cannot_be_removed_are_refused(pairs, message):
    data = blocks()
    there = [tuple(pair) for pair in edge_pairs(data.x).tolist()]
    absent = next((a, b) for a in range(N_NODES) for b in range(a + 1, N_NODES) if (a, b) not in there)
    pairs = {"twice": (there[0], there[0][::-1]), "absent": (there[0], absent)}.get(pairs, pairs)
    with pytest.raises(PartitionError, match=message):
        build_partitions(data, [GraphEdgesSplitter(parts_names=("a", "b"), pairs=pairs)], 0)


def refused(*splitters, data=None):
    with pytest.raises(PartitionError) as error:
        build_partitions(blocks() if data is None else data, [*TRAIN_AND_TEST, *splitters], 0)
    return str(error.value)


def test_requests_without_an_answer_are_refused_in_words():
    gone = REQUESTS["nodes"][0]
    everyone = ConcatSplitter(parts_names=("gone", "-"), concat_splits=("train",))
    tested = ListSplitter(parts_names=("gone", "-"), samples_ids=(1, 30))
    unlabelled = ListSplitter(parts_names=("gone", "-"), samples_ids=(38,))
    edges = REQUESTS["edges"][0]
    assert "nothing is left to train on" in refused(everyone, GraphRequestSplitter(nodes="gone"))
    assert '1 of the forgotten nodes are in "test"' in refused(tested, GraphRequestSplitter(nodes="gone"))
    assert "forgetting is measured on those" in refused(unlabelled, GraphRequestSplitter(nodes="gone"))
    assert "is a partition of nodes" in refused(gone, GraphRequestSplitter(edges="gone"))
    assert "is a partition of edges" in refused(edges, GraphRequestSplitter(nodes="gone"))
    twice = refused(gone, GraphRequestSplitter(nodes="gone"), GraphRequestSplitter(ref_data="retain", features_of="gone"))
    assert "an earlier one took them out" in twice
    other = GraphEdgesSplitter(parts_names=("other", "-"), ref_data="train", n=2)
    assert "takes the retain set" in refused(gone, GraphRequestSplitter(nodes="gone"), other, GraphRequestSplitter(edges="other"))
    assert "there is no column 9" in refused(gone, GraphRequestSplitter(features_of="gone", columns=(9,)))
    assert "give the new one another name" in refused(gone, GraphRequestSplitter(nodes="gone"), tested)
    assert "needs a GraphRequest before it" in refused(SeenInSplitter(parts_names=("a", "-"), graph="alone"))
    table = SyntheticTable().load()
    with pytest.raises(PartitionError, match="are not the nodes of one graph"):
        build_partitions(table, [GraphEdgesSplitter(parts_names=("a", "b"), n=1)], 0)


def test_a_request_says_one_thing():
    with pytest.raises(InvalidParameters, match="say what is forgotten"):
        GraphRequestSplitter()
    with pytest.raises(InvalidParameters, match="say what is forgotten"):
        GraphRequestSplitter(nodes="a", edges="b")
    with pytest.raises(InvalidParameters, match="columns are those of features_of"):
        GraphRequestSplitter(nodes="a", columns=(1,))
    with pytest.raises(InvalidParameters, match="either n or percentage"):
        GraphEdgesSplitter(parts_names=("a", "b"))
