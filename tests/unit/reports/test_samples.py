"""Samples come from the store, and only those that the report names."""

import base64
import io

import numpy as np
import pytest
import torch
from report_rows import evidence, method

import erasure.data.graphs  # noqa: F401 - makes graphs storable
from erasure.data.dataset import Dataset
from erasure.data.storage import to_artifact
from erasure.errors import StoreError
from erasure.records.evidence import RunRecord
from erasure.records.run_folder import RunFolder
from erasure.reports.samples import samples_of
from erasure.store import Store, address
from erasure.training.batches import TensorColumn
from erasure.training.graphs import GraphColumn, NodeColumn


def stored(tmp_path, x, modality, **changes):
    """A store with a data set of six samples, and a run that names samples 4 and 1."""
    column = TensorColumn(x) if isinstance(x, torch.Tensor) else x
    facts = {"y": torch.tensor([0, 1] * 3), "x_shape": column.sample_shape, "class_names": ("cat", "dog")} | changes
    dataset = Dataset(name="toys", x=column, n_classes=2, modality=modality, **facts)
    store, content = Store(tmp_path / "store"), {"modality": modality}
    where = address("data", content)
    tensors, facts = to_artifact(dataset)
    with store.publish(where, "data", content) as writer:
        writer.save_tensors("columns", tensors)
        writer.save_json("dataset", facts)
        if dataset.token_names:
            writer.save_json("tokens", list(dataset.token_names))
    kept = evidence("a")
    kept["dataset"]["address"] = where
    kept["groups"][0]["samples"] = [
        {"label": "a", "side": "least", "ids": [4, 1], "loss": [0, 0], "gold": [1, 1], "original": [0, 0]}
    ]
    return RunFolder(method("a"), RunRecord.of(kept)), store


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_becomes_a_picture_of_its_pixels(tmp_path, channels):
    image = pytest.importorskip("PIL.Image", reason="the extra vision is not installed")
    x = torch.randint(0, 17, (6, channels, 5, 7), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    first, second = samples_of(*stored(tmp_path, x, "image"))
    assert (first["id"], second["id"]) == (4, 1)
    png = base64.b64decode(first["image"].removeprefix("data:image/png;base64,"))
    pixels = np.asarray(image.open(io.BytesIO(png))).reshape(5, 7, channels)
    wanted = x[4].numpy().transpose(1, 2, 0).astype(float)
    wanted = (wanted - wanted.min()) * 255 / (wanted.max() - wanted.min())
    assert np.abs(pixels - wanted).max() <= 0.5


def test_a_row_of_a_table_is_text_with_names(tmp_path):
    x = torch.arange(12.0).reshape(6, 2)
    first, second = samples_of(*stored(tmp_path, x, "table", feature_names=("age", "size")))
    assert first["text"] == "label cat: age 8, size 9"
    assert second["text"] == "label dog: age 2, size 3"


def test_of_a_category_the_column_that_is_set_is_shown(tmp_path):
    x = torch.tensor([[30.0, 0.0, 1.0]] * 6)
    first, _ = samples_of(*stored(tmp_path, x, "table", feature_names=("age", "work=none", "work=some")))
    assert first["text"] == "label cat: age 30, work=some"


def test_numbers_of_a_table_are_those_that_were_read_and_codes_are_what_they_stand_for(tmp_path):
    x = torch.tensor([[226802.0, 0.1, 1.0, 1e-7, 1e20, 2.5]] * 6)
    named = {
        "feature_names": ("weight", "share", "sex", "small", "large", "kind"),
        "value_names": {"sex": ("f", "m"), "kind": ("a",)},
    }
    first, _ = samples_of(*stored(tmp_path / "known", x, "table", **named))
    assert first["text"] == "label cat: weight 226802, share 0.1, sex=m, small 1e-07, large 1e+20, kind 2.5"
    older, _ = samples_of(*stored(tmp_path / "older", x, "table", feature_names=named["feature_names"]))
    assert "share 0.1, sex 1, small" in older["text"]
    wide, _ = samples_of(*stored(tmp_path / "wide", torch.arange(300.0).repeat(6, 1), "table"))
    assert wide["text"].endswith("column 38 38, column 39 39, … (300 columns)")


def test_groups_and_several_labels_are_named(tmp_path):
    x, several = torch.zeros(6, 1), torch.tensor([[1.0, 1.0], [0.0, 0.0]] * 3)
    groups = torch.tensor([[0, 1]] * 6)
    found = samples_of(*stored(tmp_path, x, "table", y=several, task="multilabel", z=groups, z_names=("<b>", "old")))
    assert [sample["text"] for sample in found] == [
        "labels cat, dog, group <b>, old: column 0 0",
        "labels none, group <b>, old: column 0 0",
    ]
    unnamed, _ = samples_of(*stored(tmp_path / "unnamed", x, "table", z=groups[:, 0]))
    assert unnamed["text"] == "label cat: column 0 0"


def test_a_graph_is_its_size_and_a_node_its_edges(tmp_path):
    graphs = GraphColumn(
        x=torch.zeros(12, 1),
        node_ptr=torch.tensor([0, 1, 4, 6, 8, 10, 12]),
        edge_index=torch.tensor([[0, 1, 0], [1, 2, 1]]),
        edge_ptr=torch.tensor([0, 0, 2, 2, 2, 3, 3]),
    )
    first, second = samples_of(*stored(tmp_path / "graphs", graphs, "graph"))
    assert first["text"] == "label cat: 2 nodes, 1 edges (each direction is one)"
    assert second["text"] == "label dog: 3 nodes, 2 edges (each direction is one)"
    nodes = NodeColumn(torch.zeros(6, 2), torch.tensor([[0, 2, 3], [4, 4, 1]]))
    first, second = samples_of(*stored(tmp_path / "nodes", nodes, "graph"))
    assert (first["text"], second["text"]) == ("label cat: node 4, 2 incoming edges", "label dog: node 1, 1 incoming edge")


def test_a_text_is_its_tokens_without_what_fills_it_up(tmp_path):
    x = torch.tensor([[5, 6, 7, 0]] * 4 + [[9, 8, 0, 0]] * 2)
    first, second = samples_of(*stored(tmp_path, x, "text"))
    assert first["text"] == "label cat: tokens 9, 8"
    assert second["text"] == "label dog: tokens 5, 6, 7"


def test_a_text_is_its_words_where_they_are_known(tmp_path):
    names = ("", "", " go", " away", "!", " <b>now", " |")
    x = torch.tensor([[2, 3, 4, 0]] * 4 + [[5, 6, 0, 0]] * 2)
    first, second = samples_of(*stored(tmp_path / "ids", x, "text", token_names=names))
    assert (first["text"], second["text"]) == ("label cat: <b>now |", "label dog: go away!")
    masked = torch.stack([x, (x != 0).long()], dim=1)
    again, _ = samples_of(*stored(tmp_path / "mask", masked, "text", token_names=names))
    assert again["text"] == first["text"]
    long = torch.full((6, 60), 2)
    cut, _ = samples_of(*stored(tmp_path / "long", long, "text", token_names=names))
    assert cut["text"] == "label cat: " + "go " * 48 + "… (60 tokens)"


def test_what_cannot_be_shown_is_a_clear_error(tmp_path):
    folder, store = stored(tmp_path, torch.zeros(6, 4), "graph")
    with pytest.raises(StoreError, match="leave out --with-samples"):
        samples_of(folder, store)
    with pytest.raises(StoreError, match=r"no report\.json"):
        samples_of(RunFolder(method("a")), store)
    with pytest.raises(StoreError, match=r"name the store that it ran with \(--store\)"):
        samples_of(folder, Store(tmp_path / "another"))
