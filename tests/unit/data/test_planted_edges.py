"""Planted edges are new, between classes, in both directions, remembered, and forgotten to the edge."""

import pytest
import torch
from graph_toys import N_NODES, TRAIN_AND_TEST, blocks, requested

import erasure.data.graphs  # noqa: F401 - registers how graphs are stored
from erasure.data.graph_splitters import GraphEdgesSplitter, GraphNodesSplitter, GraphRequestSplitter
from erasure.data.partitions import build_partitions
from erasure.data.planted_edges import PlantEdges
from erasure.data.storage import from_artifact, to_artifact
from erasure.errors import DataError, InvalidParameters, PartitionError
from erasure.training.graph_requests import NO_SAMPLE, edge_pairs, pair_keys
from erasure.training.randomness import Streams


def planted(seed=0, **how):
    return PlantEdges(**(how or {"n_edges": 12})).corrupt(blocks(), Streams(seed))


def pairs_of(data):
    graph = data.x
    return graph.edge_index[:, graph.planted]


def test_planted_edges_are_new_between_classes_and_run_in_both_directions():
    before, data = blocks(), planted()
    found = pairs_of(data)
    keys = pair_keys(found, N_NODES)
    assert len(keys.unique()) == 12
    assert found.shape[1] == 24
    assert not torch.isin(keys, pair_keys(before.x.edge_index, N_NODES)).any()
    assert (data.y[found[0]] != data.y[found[1]]).all()
    assert (data.z[found] == 0).any(0).all()  # a training node is at one end
    assert torch.equal(data.x.edge_index[:, ~data.x.planted], before.x.edge_index)


def test_a_seed_draws_the_same_edges_and_planting_twice_remembers_both():
    assert torch.equal(pairs_of(planted(3)), pairs_of(planted(3)))
    assert not torch.equal(pairs_of(planted(3)), pairs_of(planted(4)))
    twice = PlantEdges(percentage=0.1, training=0.0).corrupt(planted(), Streams(9))
    assert len(pair_keys(pairs_of(twice), N_NODES).unique()) > 12


def test_planted_edges_survive_storage():
    data = planted()
    again = from_artifact(*to_artifact(data))
    assert torch.equal(again.x.planted, data.x.planted)
    assert torch.equal(again.x.edge_index, data.x.edge_index)


def forgotten(data, **which):
    cut = GraphEdgesSplitter(parts_names=("gone", "kept"), stratum="planted", **which)
    return build_partitions(data, (*TRAIN_AND_TEST, cut), 0)


def test_forgetting_the_planted_edges_gives_the_clean_graph_back():
    data = planted()
    partitions = build_partitions(
        data,
        (
            *TRAIN_AND_TEST,
            GraphEdgesSplitter(parts_names=("gone", "-"), stratum="planted"),
            GraphRequestSplitter(edges="gone"),
        ),
        0,
    )
    graph = GraphRequestSplitter(edges="gone").prepared(data, partitions).x
    assert torch.equal(graph.within(partitions["retain"]).edge_index, blocks().x.edge_index)


def test_a_part_of_them_may_be_known():
    data = planted()
    partitions = forgotten(data, percentage=0.25)
    assert len(partitions["gone"]) == 3
    ends = edge_pairs(data.x)[partitions["gone"] - NO_SAMPLE]
    assert torch.isin(pair_keys(ends.T, N_NODES), pair_keys(pairs_of(data), N_NODES)).all()
    assert len(partitions["kept"]) == len(edge_pairs(data.x)) - 3


def test_what_cannot_be_is_refused_in_words():
    with pytest.raises(InvalidParameters, match="either n_edges or percentage"):
        PlantEdges()
    with pytest.raises(DataError, match="pairs of nodes were found"):
        planted(n_edges=5000)
    with pytest.raises(PartitionError, match="no planted edges"):
        forgotten(blocks())
    with pytest.raises(PartitionError, match="has 12"):
        forgotten(planted(), n=13)


def test_strata_by_class():
    data, _ = requested("edges")
    graph, y = data.x.graph, data.y[:N_NODES]
    cut = GraphEdgesSplitter(parts_names=("gone", "-"), stratum="between-classes", n=10)
    partitions = build_partitions(blocks(), (*TRAIN_AND_TEST, cut), 0)
    ends = edge_pairs(graph)[partitions["gone"] - NO_SAMPLE]
    assert (y[ends[:, 0]] != y[ends[:, 1]]).all()
    nodes = GraphNodesSplitter(parts_names=("odd", "plain"), ref_data="train", stratum="between-classes", n=6)
    partitions = build_partitions(blocks(), (*TRAIN_AND_TEST, nodes), 0)

    def share(node):
        source, target = graph.edge_index
        others = y[source[target == node]]
        return float((others != y[node]).float().mean()) if len(others) else 0.0

    least = min(share(node) for node in partitions["odd"].tolist())
    assert least >= max(share(node) for node in partitions["plain"].tolist())
