"""A graph from two files: names, directions, copies, loops, and requests by name."""

import pytest
import torch

from erasure.data.graph_splitters import GraphEdgesSplitter, GraphNodesSplitter, GraphRequestSplitter
from erasure.data.partitions import build_partitions
from erasure.data.sources.edge_list import EdgeList
from erasure.data.sources.table import TableFile
from erasure.data.splitters import ByZSplitter
from erasure.data.storage import from_artifact, to_artifact
from erasure.errors import DataError, InvalidParameters, PartitionError, RequirementNotMet
from erasure.models.graph import GNN
from erasure.training.graph_requests import NO_SAMPLE
from erasure.training.predictor import ModelInput

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
        (
            {"edges": "a,b,w\np10,7,0\n", "weight": "w"},
            'row 1 of edges.csv: "0" in "w" is no weight; weights are numbers above 0',
        ),
        ({"edges": "a,b,w\np10,7,1\np5,7,much\n", "weight": "w"}, 'row 2 of edges.csv: "much" in "w" is no weight'),
        ({"edges": "a,b,w\np10,7,1\np5,7,\n", "weight": "w"}, "row 2 of edges.csv: the edge has no weight"),
        ({"edges": "a,b,w\np10,7,1\n7,p10,2\n", "weight": "w"}, "row 2 of edges.csv: the edge has the weight 2, and 1 in row 1"),
        ({"edges": "a,b,w\np10,7,1\n", "weight": "v"}, '"v"'),
        ({"edges": "a,w\np10,1\n", "weight": "w"}, "an edge has two ends"),
    ],
)
def test_files_that_do_not_fit_are_refused_with_the_place(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        loaded(tmp_path, **change)


def test_parameters_that_contradict_one_another_are_refused(tmp_path):
    files(tmp_path)
    contradictions = (
        {"propagate": 2, "forgets": "node"},
        {"header": False, "ends": ("a", "b")},
        {"header": False, "weight": "w"},
        {"propagate": 2, "weight": "w"},
    )
    for parameters in contradictions:
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
    assert partitions["edge"].tolist() == cut(data, nodes, other_way)["edge"].tolist() == [NO_SAMPLE + 2]


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


WEIGHTED = """w,from,to
2,p10,7
2.0,7,p10
0.5,x 3,p10
3,x 3,x 3
1.5,p5,x 3
"""


def test_weights_are_read_for_both_directions_and_multiply_the_messages_of_a_gcn(tmp_path):
    data = loaded(tmp_path, edges=WEIGHTED, weight="w")
    said = dict(zip(map(tuple, data.x.edge_index.T.tolist()), data.x.edge_attr[:, 0].tolist(), strict=True))
    assert said == {(0, 1): 2, (1, 0): 2, (2, 0): 0.5, (0, 2): 0.5, (2, 2): 3, (3, 2): 1.5, (2, 3): 1.5}
    again = from_artifact(*to_artifact(data)).x
    assert again.weighted and torch.equal(again.edge_attr, data.x.edge_attr)
    dense = torch.eye(5)
    dense[2, 2] = 0
    for (u, v), weight in said.items():
        dense[v, u] += weight
    scale = dense.sum(1).rsqrt()
    batch = again.to(torch.device("cpu")).gather(torch.arange(5))
    for messages in (batch.messages(), batch.to("cpu").messages()):
        assert torch.allclose(messages.dense(), scale[:, None] * dense * scale, atol=1e-6)


def test_after_a_request_the_weights_of_the_edges_that_stay_are_left(tmp_path):
    data = loaded(tmp_path, edges=WEIGHTED, weight="w")
    splitters = (
        GraphEdgesSplitter(parts_names=("gone", "-"), pairs=(("7", "p10"),)),
        GraphRequestSplitter(ref_data="all", edges="gone", deployed=()),
    )
    partitions = build_partitions(data, splitters, 0)
    for splitter in splitters:
        data = splitter.prepared(data, partitions)
    seen = data.x.gather(partitions["retain"])
    (tmp_path / "never").mkdir()
    never = loaded(tmp_path / "never", edges="w,from,to\n0.5,x 3,p10\n3,x 3,x 3\n1.5,p5,x 3\n", weight="w").x.gather(
        torch.arange(5)
    )
    assert torch.equal(seen.messages().dense(), never.messages().dense())
    both = data.x.gather(torch.cat([partitions["retain"], partitions["forget"]]))
    assert torch.equal(both.messages().dense()[5:, 5:], never.messages().dense())


def test_networks_that_would_leave_weights_out_say_so(tmp_path):
    batch = loaded(tmp_path, edges=WEIGHTED, weight="w").x.gather(torch.arange(5))
    inputs = ModelInput(x_shape=(2,), n_classes=2, task="classification", modality="graph")
    for conv, message in (("sage", 'take "gcn"$'), ("gat", "edge_features = 1")):
        with pytest.raises(RequirementNotMet, match=message):
            GNN(conv=conv, hidden=4).build(inputs).eval()(batch)
    GNN(conv="gat", hidden=4, edge_features=1).build(inputs).eval()(batch)
