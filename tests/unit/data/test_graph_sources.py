"""The graph sources read the real files through the library's own classes, and say clearly what is wrong with bad ones."""

import gzip
import json
import pickle
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    pytest.importorskip("torch_geometric")
    from torch_geometric.data import Data

from graph_files import GRAPHS, cora_root, molecules_root, real, tu_root

from erasure.component import canonical
from erasure.data.graphs import _mask, class_labels, graph_dataset, node_column
from erasure.data.sources.geometric import GeometricDataset, GraphDataset, MoleculeNet, Planetoid, TUDataset
from erasure.data.splitters import ClassSplitter, ListSplitter
from erasure.data.storage import from_artifact, to_artifact
from erasure.errors import DataError, InvalidParameters, PartitionError

DROPPED = "graphs without nodes are dropped"


def any_dataset(cls, /, **parameters):
    return GraphDataset(dataset=GeometricDataset(path=f"torch_geometric.datasets.{cls}", parameters=parameters), download=False)


def edge(n_nodes=2, **features):
    return Data(edge_index=torch.tensor([[0], [n_nodes - 1]]), num_nodes=n_nodes, **features)


# Real files


@pytest.mark.parametrize(
    ("name", "counts", "n_features", "n_edge_features"),
    [("MUTAG", [63, 125], 7, 4), ("PROTEINS", [663, 450], 3, 0), ("ENZYMES", [100] * 6, 3, 0)],
)
def test_tu_collections_are_read_as_they_are(name, counts, n_features, n_edge_features):
    data = TUDataset(name=name, root=tu_root(), download=False).load()
    assert data.y.bincount().tolist() == counts
    assert (data.x_shape, data.x.n_edge_features, data.modality) == ((n_features,), n_edge_features, "graph")
    with gzip.open(GRAPHS / "tu" / name / "raw" / f"{name}_graph_indicator.txt.gz", "rt") as stream:
        sizes = torch.tensor([int(line) for line in stream]).bincount()[1:]
    assert torch.equal(data.x.node_ptr.diff(), sizes)
    assert bool((data.x.x.sum(1) == 1).all())  # node labels are one-hot


def test_continuous_attributes_are_features_where_they_are_asked_for():
    assert TUDataset(name="ENZYMES", root=tu_root(), node_attributes=True, download=False).load().x_shape == (21,)


def test_nothing_is_written_beside_the_files(tmp_path):
    folder = tmp_path / "MUTAG" / "raw"
    shutil.copytree(Path(tu_root()) / "MUTAG" / "raw", folder)
    before = sorted(tmp_path.rglob("*"))
    TUDataset(name="MUTAG", root=str(tmp_path), download=False).load()
    assert sorted(tmp_path.rglob("*")) == before


def test_molecules_are_one_hot_atoms_and_bonds(tmp_path):
    root = molecules_root(tmp_path, "bace", 20)
    data = MoleculeNet(name="BACE", root=root, download=False).load()
    first = data.x.gather(torch.tensor([0]))
    assert (len(data), data.task, data.n_classes, data.x_shape, data.x.n_edge_features) == (20, "classification", 2, (177,), 30)
    assert first.x.shape == (32, 177)
    assert bool((first.x.sum(1) == 9).all())
    assert bool((first.edge_attr.sum(1) == 3).all())
    assert first.x[:, 8].sum() == 2  # two atoms of oxygen, the element number 8
    numbers = MoleculeNet(name="bace", root=root, encoding="numbers", download=False).load()
    assert numbers.x_shape == (9,)
    assert numbers.x.x[0, 0] == 8


@pytest.mark.nightly  # by day parts of four files are read, and molecules that cannot be read are counted
def test_all_of_bbbp_is_read(tmp_path):
    data = MoleculeNet(name="bbbp", root=molecules_root(tmp_path, "bbbp"), download=False).load()
    assert (len(data), data.y.sum().item()) == (2039, 1560)


def test_several_targets_are_a_multilabel_task_without_the_molecules_that_lack_one(tmp_path):
    root = molecules_root(tmp_path, "tox21", 60)
    with pytest.warns(UserWarning, match=r"of 60 graphs lack one of its labels and are dropped") as said:
        data = MoleculeNet(name="tox21", root=root, download=False).load()
    n_dropped = int(str(said[0].message).split(": ")[1].split(" ")[0])
    assert (data.task, data.n_classes, data.y.shape) == ("multilabel", 12, (60 - n_dropped, 12))
    with pytest.warns(UserWarning, match=r"lack its label"):
        one = MoleculeNet(name="tox21", root=root, target=2, download=False).load()
    assert (one.task, one.n_classes) == ("classification", 2)
    assert len(one) > len(data)
    with pytest.raises(DataError, match=r'lack one of its labels; choose one target or give missing = "drop"'):
        MoleculeNet(name="tox21", root=root, missing="error", download=False).load()
    with pytest.raises(DataError, match=r"has the targets 0 to 11, there is no target 12"):
        MoleculeNet(name="tox21", root=root, target=12, download=False).load()


def test_molecules_that_cannot_be_read_are_dropped_and_counted(tmp_path):
    root = molecules_root(tmp_path, "bace", 5)
    with (tmp_path / "bace" / "raw" / "bace.csv").open("a") as stream:
        stream.write("no molecule,-,1,-\n")
    with pytest.warns(UserWarning, match=rf'"bace": 1 {DROPPED} \(row 5\), 5 are left'):
        assert len(MoleculeNet(name="bace", root=root, download=False).load()) == 5


@pytest.mark.parametrize("row", ["CCO,-,yes,-", "CCO"])
def test_a_row_that_is_laid_out_otherwise_is_named_by_its_number(tmp_path, row):
    root = molecules_root(tmp_path, "bace", 5)
    with (tmp_path / "bace" / "raw" / "bace.csv").open("a") as stream:
        stream.write(f"{row}\n")
    with pytest.raises(DataError, match=r"row 5 \(from 0, without the header\): its raw files are not laid out as those"):
        MoleculeNet(name="bace", root=root, download=False).load()


def test_a_row_is_asked_for_by_its_number_whatever_rows_cannot_be_read(tmp_path):
    root = molecules_root(tmp_path, "bace", 5)
    file = tmp_path / "bace" / "raw" / "bace.csv"
    head, *rows = file.read_text().splitlines()
    whole = MoleculeNet(name="bace", root=root, download=False).load()
    assert whole.rows is None
    file.write_text("\n".join([head, rows[0], "no molecule,-,1,-", "", *rows[1:3], "nor this,-,0,-", *rows[3:]]))
    with pytest.warns(UserWarning, match=rf'"bace": 2 {DROPPED} \(rows 1, 4\), 5 are left'):
        data = MoleculeNet(name="bace", root=root, download=False).load()
    assert data.rows.tolist() == [0, 2, 3, 5, 6] and data.y.tolist() == whole.y.tolist()
    chosen = ListSplitter(parts_names=("forget", "retain"), samples_ids=(6, 2), by="row")
    forget, retain = chosen.split(data, {"all": torch.arange(5)}, None)
    assert (forget.tolist(), retain.tolist()) == ([1, 4], [0, 2, 3])
    stored = from_artifact(*to_artifact(data))
    assert torch.equal(stored.rows, data.rows)
    with pytest.raises(PartitionError, match=r'1 of the listed rows are no samples of "bace": 4; they were left out'):
        ListSplitter(parts_names=("forget", "retain"), samples_ids=(4, 2), by="row").split(data, {"all": torch.arange(5)}, None)
    with pytest.warns(UserWarning, match='counts the samples that are left; give by = "row"'):
        by_sample = ListSplitter(parts_names=("forget", "retain"), samples_ids=(1,)).split(data, {"all": torch.arange(5)}, None)
    assert by_sample[0].tolist() == [1]


def test_molecules_without_a_label_leave_the_rows_of_the_others(tmp_path):
    root = molecules_root(tmp_path, "tox21", 60)
    with pytest.warns(UserWarning):
        data = MoleculeNet(name="tox21", root=root, target=2, download=False).load()
    table = (tmp_path / "tox21" / "raw" / "tox21.csv").read_text().splitlines()[1:]
    assert len(data.rows) == len(data) < 60
    assert [table[row].split(",")[2] for row in data.rows.tolist()] == [str(y) for y in data.y.tolist()]


@pytest.mark.parametrize("packed", [False, True])
def test_the_last_molecule_counts_also_without_a_line_feed_behind_it(tmp_path, packed):
    root = molecules_root(tmp_path, "bace", 5)
    file = tmp_path / "bace" / "raw" / "bace.csv"
    whole = MoleculeNet(name="bace", root=root, download=False).load()
    content = file.read_bytes().rstrip(b"\r\n")
    file.write_bytes(content)
    if packed:
        file.unlink()
        file.with_name("bace.csv.gz").write_bytes(gzip.compress(content))
    data = MoleculeNet(name="bace", root=root, download=False).load()
    assert data.y.tolist() == whole.y.tolist()
    assert packed or file.read_bytes() == content


def test_cora_is_the_public_benchmark(tmp_path):
    root = cora_root(tmp_path)
    data = Planetoid(name="Cora", root=root, download=False).load()
    assert (len(data), data.n_classes, data.x_shape, data.x.edge_index.shape[1]) == (2708, 7, (1433,), 10556)
    assert data.z.bincount().tolist() == [140, 500, 1000, 1068]
    assert data.z_names == ("train", "validation", "test", "unlabelled")
    assert torch.equal(data.x.background, data.z != 0)
    assert torch.allclose(data.x.x.sum(1), torch.ones(2708))
    full = Planetoid(name="Cora", root=root, split="full", forgets="label", normalize_features=False, download=False).load()
    assert full.z.bincount().tolist() == [1208, 500, 1000]
    assert full.x.background is None
    assert set(full.x.x.unique().tolist()) == {0.0, 1.0}


def test_any_class_of_the_library_is_read_as_its_own_source_reads_it(tmp_path):
    named, other = TUDataset(name="MUTAG", root=tu_root(), download=False), any_dataset("TUDataset", root=tu_root(), name="MUTAG")
    assert torch.equal(named.load().x.x, other.load().x.x)
    # The library knows numbers of classes, the file their names.
    assert named.fingerprint() == {**other.fingerprint(), "labels": ["-1", "1"]}
    assert (named.load().class_names, other.load().class_names) == (("-1", "1"), ())
    nodes = any_dataset("Planetoid", root=cora_root(tmp_path), name="Cora").load()
    assert torch.equal(nodes.x.background, nodes.z != 0)


# Storage and addresses


def test_graphs_and_nodes_are_the_same_after_a_round_trip(tmp_path):
    molecules = MoleculeNet(name="bace", root=molecules_root(tmp_path, "bace", 10), download=False).load()
    for number, data in enumerate((molecules, Planetoid(name="Cora", root=cora_root(tmp_path), download=False).load())):
        tensors, facts = to_artifact(data)
        save_file(tensors, tmp_path / f"{number}.safetensors")
        again = from_artifact(load_file(tmp_path / f"{number}.safetensors"), json.loads(json.dumps(facts)))
        ids = torch.tensor([7, 2])
        found, expected = again.x.gather(ids), data.x.gather(ids)
        assert vars(found).keys() == vars(expected).keys()
        assert all(
            torch.equal(vars(found)[name], value) for name, value in vars(expected).items() if isinstance(value, torch.Tensor)
        )
        assert (again.x_shape, again.z_names, again.modality) == (data.x_shape, data.z_names, "graph")


def test_the_address_follows_the_content_and_not_the_place(tmp_path):
    first, second = (molecules_root(tmp_path / place, "bace", 5) for place in ("a", "b"))
    one, other = (MoleculeNet(name="bace", root=root, download=False) for root in (first, second))
    assert (canonical(one), one.fingerprint()) == (canonical(other), other.fingerprint())
    with (Path(second) / "bace" / "raw" / "bace.csv").open("a") as stream:
        stream.write("CCO,-,1,-\n")
    assert one.fingerprint() != other.fingerprint()


# Bad input


def test_missing_files_are_named_with_the_folder_they_belong_to(tmp_path):
    source = TUDataset(name="MUTAG", root=str(tmp_path), download=False)
    with pytest.raises(DataError, match=r"no raw files in the folder .*MUTAG/raw"):
        source.fingerprint()
    with pytest.raises(
        DataError, match=r"expected MUTAG_A.txt, MUTAG_graph_indicator.txt .*MUTAG/raw.*get the raw files from http"
    ):
        source.load()


def test_without_a_network_the_error_says_what_to_put_where(tmp_path):
    source = MoleculeNet(name="bbbp", root=str(tmp_path))
    assert source.fingerprint()["files"] is None
    with pytest.raises(DataError, match=r"expected BBBP.csv .*bbbp/raw.*downloading failed .*put them there"):
        source.load()


def tu_files(folder, labels):
    """A collection of two-node graphs with these labels."""
    folder.mkdir(parents=True)
    n = len(labels)
    lines = {
        "A": [f"{2 * g + 1}, {2 * g + 2}\n{2 * g + 2}, {2 * g + 1}" for g in range(n)],
        "graph_indicator": [str(g + 1) for g in range(n) for _ in range(2)],
        "graph_labels": [str(each) for each in labels],
        "node_labels": ["0"] * (2 * n),
    }
    for name, content in lines.items():
        (folder / f"PAIRS_{name}.txt").write_text("\n".join(content) + "\n")


@pytest.mark.parametrize(
    ("labels", "names"), [([2, 1, 1, 4], ("1", "2", "4")), ([1, -1, 1, -1], ("-1", "1")), ([0, 1, 2, 0], ())]
)
def test_a_number_of_a_class_is_the_one_in_the_file(tmp_path, labels, names):
    tu_files(tmp_path / "PAIRS" / "raw", labels)
    source = TUDataset(name="PAIRS", root=str(tmp_path), download=False)
    data = source.load()
    assert data.class_names == names
    assert ("labels" in source.fingerprint()) == bool(names)
    ids = {"all": torch.arange(4)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parts = ClassSplitter(parts_names=("a", "b"), labels=1).split(data, ids, None)
    assert parts[0].tolist() == [i for i, each in enumerate(labels) if each == 1]


def test_a_damaged_archive_is_named(tmp_path):
    folder = tmp_path / "MUTAG" / "raw"
    shutil.copytree(Path(tu_root()) / "MUTAG" / "raw", folder)
    (folder / "MUTAG_A.txt.gz").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"MUTAG_A.txt.gz.* cannot be unpacked"):
        TUDataset(name="MUTAG", root=str(tmp_path), download=False).load()


def test_a_damaged_file_is_an_error_of_the_data(tmp_path):
    folder = tmp_path / "MUTAG" / "raw"
    shutil.copytree(Path(tu_root()) / "MUTAG" / "raw", folder)
    (folder / "MUTAG_A.txt").write_text("one, two\n")
    with pytest.raises(DataError, match=r'TUDataset "MUTAG" in .* cannot be read: its raw files are not laid out as those'):
        TUDataset(name="MUTAG", root=str(tmp_path), download=False).load()


class Program:
    def __reduce__(self):
        return (Path.touch, (Path("ran"),))


def test_a_pickled_program_in_the_place_of_an_array_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "Cora" / "raw"
    shutil.copytree(real(GRAPHS / "planetoid" / "cora"), folder)
    for protocol in (2, 4):
        (folder / "ind.cora.tx").write_bytes(pickle.dumps(Program(), protocol=protocol))
        with pytest.raises(DataError, match=r'"ind.cora.tx" is refused because unpickling it could run any program'):
            Planetoid(name="Cora", root=str(tmp_path), download=False).load()
    assert not (tmp_path / "ran").exists()


def test_parameters_that_the_library_does_not_know_are_refused(tmp_path):
    with pytest.raises(InvalidParameters, match=r"the parameter root is missing"):
        any_dataset("TUDataset", name="MUTAG")
    with pytest.raises(DataError, match=r"TUDataset does not accept its parameters: .*nome"):
        any_dataset("TUDataset", root=str(tmp_path), name="MUTAG", nome=1).load()


def test_labels_that_are_no_classes_are_refused(tmp_path):
    folder = tmp_path / "esol" / "raw"
    folder.mkdir(parents=True)
    (folder / "delaney-processed.csv").write_text("a,y,smiles\n-,-0.77,CCO\n-,1.0,CC\n")
    with pytest.raises(DataError, match=r'"esol": the label of sample 0 is -0.7\d+, expected a class'):
        any_dataset("MoleculeNet", root=str(tmp_path), name="esol").load()


# Graphs in memory


def test_graphs_without_nodes_are_dropped_and_counted():
    graphs = [
        edge(x=torch.ones(2, 3)),
        Data(x=torch.ones(0, 3), edge_index=torch.zeros(2, 0, dtype=torch.int64)),
        edge(x=torch.ones(2, 3)),
    ]
    with pytest.warns(UserWarning, match=f'"toy": 1 {DROPPED}, 2 are left'):
        data = graph_dataset("toy", graphs, torch.tensor([1, 0, 0]))
    assert data.y.tolist() == [1, 0]
    with pytest.warns(UserWarning, match=DROPPED), pytest.raises(DataError, match="has no graph with nodes"):
        graph_dataset("toy", graphs[1:2], torch.tensor([0]))


def test_nodes_without_features_have_their_degree_or_a_constant():
    graphs, y = [edge(2), edge(3)], torch.tensor([0, 1])
    by_degree = graph_dataset("toy", graphs, y)
    assert by_degree.x.gather(torch.tensor([1])).x.tolist() == [[1, 0], [1, 0], [0, 1]]
    constant = graph_dataset("toy", graphs, y, missing_features="constant")
    assert constant.x.gather(torch.tensor([0])).x.tolist() == [[1], [1]]
    assert node_column("toy", edge(3), None).gather(torch.tensor([2])).x.tolist() == [[1, 0], [1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (Data(x=torch.ones(2, 3), edge_index=torch.tensor([[0], [2]])), "an edge names node 2, but the nodes are 0 to 1"),
        (Data(x=torch.ones(2, 3), edge_index=torch.zeros(3, 1).long()), r"edge_index has shape \(3, 1\)"),
        (edge(x=torch.ones(2, 4)), "node features of different widths, 3 and 4"),
        (edge(), "1 of 2 graphs have no node features"),
        (edge(x=torch.full((2, 3), float("nan"))), "the node features are NaN or infinite in 2 rows, first in row 2"),
        (edge(x=torch.ones(2, 3), edge_attr=torch.ones(2, 1)), "graph 1 has 1 edges, but features of 2"),
    ],
)
def test_graphs_that_make_no_sense_are_refused(graph, message):
    with pytest.raises(DataError, match=message):
        graph_dataset("toy", [edge(x=torch.ones(2, 3)), graph], torch.tensor([0, 1]))


def test_codes_out_of_range_are_refused():
    with pytest.raises(DataError, match="code 3 in row 0, column 1, expected 0 to 2"):
        graph_dataset("toy", [edge(x=torch.tensor([[0, 3], [1, 0]]))], torch.tensor([0]), categories=(2, 3))
    with pytest.raises(DataError, match="have 2 columns, expected 1 codes"):
        graph_dataset("toy", [edge(x=torch.tensor([[0, 3], [1, 0]]))], torch.tensor([0]), categories=(2,))


def test_labels_are_whole_numbers_from_zero():
    assert class_labels("toy", torch.tensor([[1.0], [0.0]])).tolist() == [1, 0]
    for bad, found in (([0.0, float("nan")], "nan"), ([0.0, 0.5], "0.5"), ([0, -1], "-1")):
        with pytest.raises(DataError, match=f"the label of sample 1 is {found}, expected a class"):
            class_labels("toy", torch.tensor(bad))
    with pytest.raises(DataError, match="a label of each sample is expected, found 2"):
        class_labels("toy", torch.zeros(3, 2))


@pytest.mark.parametrize(
    "mask",
    [
        torch.tensor([True, False, True, False]),
        torch.tensor([1, 0, 1, 0], dtype=torch.uint8),
        torch.tensor([1, 0, 1, 0]),
        torch.tensor([2, 0]),
        torch.tensor([[True, False], [False, True], [True, True], [False, False]]),
    ],
    ids=["bool", "uint8", "0 and 1", "numbers", "several"],
)
def test_a_split_is_read_whichever_way_it_is_written(mask):
    graph = SimpleNamespace(train_mask=mask, num_nodes=4)
    assert _mask("toy", graph, "train").tolist() == [True, False, True, False]
    assert _mask("toy", graph, "val") is None


@pytest.mark.parametrize("mask", [torch.tensor([True, False]), torch.tensor([0, 4]), torch.tensor([0.5, 1, 0, 0])])
def test_a_split_of_other_nodes_is_refused(mask):
    with pytest.raises(DataError, match="train_mask"):
        _mask("toy", SimpleNamespace(train_mask=mask, num_nodes=4), "train")
