"""A graph from two files: names, directions, copies, loops, and requests by name."""

import pytest
import torch

from erasure.data.graph_splitters import GraphEdgesSplitter, GraphNodesSplitter
from erasure.data.partitions import build_partitions
from erasure.data.sources.edge_list import EdgeList
from erasure.data.sources.table import TableFile
from erasure.data.splitters import ByZSplitter
from erasure.data.storage import from_artifact, to_artifact
from erasure.errors import DataError, InvalidParameters, PartitionError

NODES = """paper,f1,f2,topic,split
p10,1,0,a,train
7,0,1,b,train
x 3,1,1,a,train
p5,1,0,a,test
lone,1,1,b,train
"""
EDGES = """from,to
p10,7
7,p10
x 3,p10
x 3,x 3
p5,x 3
p5,x 3
"""
ONCE = {(0, 1), (0, 2), (2, 3)}


def files(folder, nodes=NODES, edges=EDGES):
    (folder / "nodes.csv").write_text(nodes)
    (folder / "edges.csv").write_text(edges)


def source(folder, index_column="paper", **parameters):
    table = TableFile(path=(str(folder / "nodes.csv"),), label="topic", z=("split",), index_column=index_column)
    return EdgeList(nodes=table, edges=(str(folder / "edges.csv"),), **parameters)


def loaded(folder, *, nodes=NODES, edges=EDGES, **parameters):
    files(folder, nodes, edges)
    return source(folder, **parameters).load()


def pairs(graph):
    return sorted(map(tuple, graph.edge_index.T.tolist()))


def test_edges_run_in_both_directions_once_and_loops_and_lonely_nodes_stay(tmp_path):
    data = loaded(tmp_path)
    assert pairs(data.x) == sorted(ONCE | {(v, u) for u, v in ONCE} | {(2, 2)})
    assert data.x.names == ("p10", "7", "x 3", "p5", "lone")
    assert data.x.x.tolist() == [[1, 0], [0, 1], [1, 1], [1, 0], [1, 1]]
    assert [data.z_names[z] for z in data.z.tolist()] == ["train", "train", "train", "test", "train"]


def test_directed_edges_keep_their_direction_and_copies_are_counted(tmp_path):
    with pytest.warns(UserWarning, match="1 of 6 edges"):
        data = loaded(tmp_path, directed=True)
    assert pairs(data.x) == [(0, 1), (1, 0), (2, 0), (2, 2), (3, 2)]


def test_without_names_nodes_are_called_by_their_rows(tmp_path):
    data = loaded(
        tmp_path,
        nodes=NODES.replace("paper,", "")
        .replace("p10,", "")
        .replace("x 3,", "")
        .replace("lone,", "")
        .replace("p5,", "")
        .replace("\n7,", "\n"),
        edges="0,1\n4,0\n",
        header=False,
        index_column=None,
    )
    assert pairs(data.x) == [(0, 1), (0, 4), (1, 0), (4, 0)]
    assert data.x.names == ()


def test_the_graph_survives_storage(tmp_path):
    data = loaded(tmp_path)
    again = from_artifact(*to_artifact(data))
    assert again.x.names == data.x.names
    assert torch.equal(again.x.edge_index, data.x.edge_index)


def test_training_nodes_are_seen_by_their_own_partition_alone_where_nodes_are_forgotten_so(tmp_path):
    assert loaded(tmp_path, forgets="node").x.background.tolist() == [False, False, False, True, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"edges": "a,b\np10,zz\n"}, 'row 1 of edges.csv: "zz" in "b" is no node; 1 of 1 edges'),
        ({"edges": "a,b\np10,7\np10,\n"}, "row 2 of edges.csv: the edge has no end"),
        ({"edges": "a;b\np10;7\n"}, "an edge has two ends; set separator"),
        ({"nodes": NODES + "p5,1,1,a,train\n"}, "more than once: p5"),
        ({"nodes": NODES + ",1,1,a,train\n"}, "the node has no name"),
        ({"ends": ("frm", "to")}, 'did you mean "from"'),
    ],
)
def test_files_that_do_not_fit_are_refused_with_the_place(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        loaded(tmp_path, **change)


def test_parameters_that_contradict_one_another_are_refused(tmp_path):
    files(tmp_path)
    for parameters in ({"propagate": 2, "forgets": "node"}, {"header": False, "ends": ("a", "b")}):
        with pytest.raises(InvalidParameters):
            source(tmp_path, **parameters)


def cut(data, *splitters):
    return build_partitions(data, (ByZSplitter(parts_names=("train", "test"), z_labels=("train",)), *splitters), 0)


def test_nodes_and_edges_are_requested_by_their_names(tmp_path):
    data = loaded(tmp_path)
    nodes = GraphNodesSplitter(parts_names=("gone", "-"), ref_data="train", nodes=("x 3", 7))
    edges = GraphEdgesSplitter(parts_names=("edge", "-"), pairs=(("p5", "x 3"),))
    other_way = GraphEdgesSplitter(parts_names=("edge", "-"), pairs=(("x 3", "p5"),))
    partitions = cut(data, nodes, edges)
    assert partitions["gone"].tolist() == [1, 2]
    assert partitions["edge"].tolist() == cut(data, nodes, other_way)["edge"].tolist() == [3 * 5 + 2]


@pytest.mark.parametrize(
    ("splitter", "message"),
    [
        (
            GraphNodesSplitter(parts_names=("g", "-"), ref_data="train", nodes=("x 4",)),
            "has no node x 4; its nodes are called p10",
        ),
        (GraphNodesSplitter(parts_names=("g", "-"), ref_data="train", nodes=("p5",)), 'p5 is no node of "train"'),
        (GraphEdgesSplitter(parts_names=("g", "-"), pairs=(("7", "lone"),)), r"has no edge \(7, lone\)"),
        (GraphEdgesSplitter(parts_names=("g", "-"), pairs=(("7", "p10"), ("p10", "7"))), "removed once"),
        (GraphEdgesSplitter(parts_names=("g", "-"), pairs=(("x 3", "x 3"),)), "same node at both ends"),
    ],
)
def test_requests_of_what_is_not_there_are_refused_by_name(tmp_path, splitter, message):
    with pytest.raises(PartitionError, match=message):
        cut(loaded(tmp_path), splitter)
