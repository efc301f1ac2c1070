"""A graph that somebody has in memory, by way of a file."""

import warnings

import numpy as np
import pytest
import torch
from graph_toys import blocks

from erasure.data.graph_splitters import GraphRequestSplitter
from erasure.data.partitions import build_partitions
from erasure.data.sources.graph_file import GraphFile
from erasure.data.splitters import ByZSplitter, ListSplitter
from erasure.errors import DataError, InvalidParameters, PartitionError

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    geometric = pytest.importorskip("torch_geometric.data")


def graph(**changed):
    data = blocks()
    masks = {f"{part}_mask": data.z == code for code, part in enumerate(("train", "val", "test"))}
    return {"x": data.x.x, "edge_index": data.x.edge_index, "y": data.y} | masks | changed


def saved(folder, **changed):
    named = {name: value for name, value in graph(**changed).items() if value is not None}
    torch.save(geometric.Data(**named).to_dict(), folder / "mine.pt")
    return GraphFile(path=str(folder / "mine.pt"), forgets="request")


def test_a_graph_in_memory_comes_back_from_its_file(tmp_path):
    found, base = saved(tmp_path).load(), blocks()
    assert found.name == "mine"
    assert found.n_classes == 3
    for ours, theirs in ((found.x.x, base.x.x), (found.x.edge_index, base.x.edge_index), (found.y, base.y), (found.z, base.z)):
        assert torch.equal(ours, theirs)
    np.savez(tmp_path / "mine.npz", **{name: value.numpy() for name, value in graph().items()})
    again = GraphFile(path=str(tmp_path / "mine.npz"), forgets="request").load()
    assert torch.equal(again.x.edge_index, base.x.edge_index)
    assert torch.equal(again.z, base.z)


def test_its_nodes_can_be_forgotten(tmp_path):
    data = saved(tmp_path).load()
    splitters = (
        ByZSplitter(parts_names=("train", "rest"), z_labels=("train",)),
        ByZSplitter(parts_names=("test", "-"), ref_data="rest", z_labels=("test",)),
        ListSplitter(parts_names=("gone", "-"), samples_ids=(1, 4)),
        GraphRequestSplitter(nodes="gone"),
    )
    partitions = build_partitions(data, splitters, 0)
    assert len(partitions["retain"]) == 22
    with pytest.raises(PartitionError, match="forgets"):
        build_partitions(GraphFile(path=str(tmp_path / "mine.pt")).load(), splitters, 0)


def test_weights_are_those_of_the_edges(tmp_path):
    weights = torch.linspace(0.5, 2, blocks().x.edge_index.shape[1])
    column = saved(tmp_path, edge_weight=weights).load().x
    assert column.weighted
    assert torch.equal(column.edge_attr[:, 0], weights)


def test_nodes_without_features_have_their_degree(tmp_path):
    column = saved(tmp_path, x=None).load().x
    assert column.counts_degrees
    assert torch.equal(column.x.argmax(1), torch.bincount(column.edge_index[1], minlength=40))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y": None}, 'no tensor "y"'),
        ({"y": torch.zeros(3, dtype=torch.int64)}, "40 nodes, and y has the classes of 3"),
        ({"edge_index": torch.tensor([[0], [40]])}, "an edge names node 40"),
        ({"edge_weight": torch.zeros(5)}, "5 numbers; one for each of the"),
        ({"train_mask": torch.ones(3, dtype=torch.bool)}, "train_mask has 3 values"),
    ],
)
def test_what_is_no_graph_is_said(tmp_path, changed, message):
    with pytest.raises(DataError, match=message):
        saved(tmp_path, **changed).load()


def test_several_kinds_of_nodes_are_refused(tmp_path):
    several = geometric.HeteroData()
    several["paper"].x, several["paper", "cites", "paper"].edge_index = torch.ones(2, 1), torch.tensor([[0], [1]])
    torch.save(several.to_dict(), tmp_path / "several.pt")
    with pytest.raises(DataError, match="one kind of nodes and of edges"):
        GraphFile(path=str(tmp_path / "several.pt")).load()
    with pytest.raises(InvalidParameters, match="propagated over the whole graph"):
        GraphFile(path="x", propagate=2)
