"""Data that cannot be used: one error each that says what, where and what to do, before anything is trained."""

import importlib.util
import json
import pickle
import warnings

import numpy as np
import pytest
from small import command, small_experiment

from erasure.cli import _run

needs_pillow = pytest.mark.skipif(importlib.util.find_spec("PIL") is None, reason="Pillow is not installed")
needs_torchvision = pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed")
needs_graphs = pytest.mark.skipif(importlib.util.find_spec("torch_geometric") is None, reason="torch_geometric is not installed")
needs_text = pytest.mark.skipif(
    importlib.util.find_spec("datasets") is None or importlib.util.find_spec("transformers") is None,
    reason="datasets and transformers are not installed",
)


def experiment(source, parameters, model="MLP"):
    configuration = small_experiment(unlearners=["Identity"], predictor={"model": model, "epochs": 1})
    configuration["data"]["data_source"] = {"class": source, "parameters": parameters}
    configuration["evaluator"] = {"measures": ["Accuracy"], "floor_repeats": 0}
    return configuration


@pytest.fixture
def refused(capsys, write_config, tmp_path, monkeypatch):
    """What is said about an experiment that must not run, and about nothing else."""
    monkeypatch.chdir(tmp_path)

    def run(configuration):
        file = write_config(configuration)
        assert _run(["run", str(file), "--store", "store", "--output", "out"]) == 2
        errors = capsys.readouterr().err
        assert "Traceback" not in errors
        assert "1 problem" in errors
        assert "train original" not in errors
        return errors

    return run


def write_pictures(folder, n=6, broken=()):
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        Image.fromarray(np.full((8, 8, 3), i, dtype=np.uint8)).save(folder / f"{i}.png")
    for i in broken:
        whole = (folder / f"{i}.png").read_bytes()
        (folder / f"{i}.png").write_bytes(whole[: len(whole) // 2])


FILES = {
    "missing table": ("TableFile", {"path": "food.csv", "label": "y"}, 'there is no file "food.csv"; did you mean "good.csv"?'),
    "missing folder": ("TableFile", {"path": "no/good.csv", "label": "y"}, 'the folder "no" does not exist'),
    "missing tensors": ("TensorFile", {"path": "x.npz"}, 'there is no file "x.npz"'),
    "wrong label": ("TableFile", {"path": "good.csv", "label": "yy"}, 'good.csv has no column "yy"; it has a, b, y'),
    "wrong feature": ("TableFile", {"path": "good.csv", "label": "y", "features": ["a", "c"]}, 'good.csv has no column "c"'),
    "wrong group": ("TableFile", {"path": "good.csv", "label": "y", "z": "who"}, 'good.csv has no column "who"'),
    "ragged rows": ("TableFile", {"path": "ragged.csv", "label": "y"}, '"ragged.csv", line 3: 2 values, expected 3 (a, b, y)'),
    "no whole numbers": (
        "TableFile",
        {"path": "halves.csv", "label": "y"},
        'the label column "y" is not a class: 0.5 in row 2 of halves.csv; expected whole numbers or text',
    ),
    "text in a feature": (
        "TableFile",
        {"path": "colours.csv", "label": "y"},
        "text in the feature columns b (\"b\" has 'red' in row 1 of colours.csv); list them as categorical",
    ),
    "another separator": (
        "TableFile",
        {"path": "semicolons.csv", "label": "y"},
        'semicolons.csv has no column "y"; it has a;b;y; the values are probably separated otherwise: give separator = ";"',
    ),
    "another encoding": ("TableFile", {"path": "wide.csv", "label": "y"}, 'give its encoding, such as "utf-16"'),
    "no tensors": (
        "TensorFile",
        {"path": "good.csv"},
        '"good.csv" is damaged, or neither .safetensors, .npz nor a file that torch.save wrote; tables are read by TableFile',
    ),
    "too many labels": (
        "TableFile",
        {"path": "colours.csv", "label": "b", "features": ["a"], "n_classes": 1},
        'the label column "b" has 2 values, expected 1 classes: blue, red',
    ),
    "a pickle": (
        "TensorFile",
        {"path": "data.pkl"},
        '"data.pkl" is refused because unpickling it could run any program: it is no plain file of tensors',
    ),
    "pickled labels": ("TensorFile", {"path": "objects.npz"}, 'objects.npz": "y" holds pickled Python objects'),
}


@pytest.mark.parametrize(("source", "parameters", "said"), FILES.values(), ids=FILES)
def test_files_that_cannot_be_used_are_named(refused, tmp_path, source, parameters, said):
    (tmp_path / "good.csv").write_text("a,b,y\n" + "".join(f"{i},{2 * i},{i % 2}\n" for i in range(40)))
    (tmp_path / "ragged.csv").write_text("a,b,y\n1,2,0\n3,4\n5,6,1\n")
    (tmp_path / "halves.csv").write_text("a,b,y\n1,2,0\n3,4,0.5\n")
    (tmp_path / "colours.csv").write_text("a,b,y\n1,red,0\n3,blue,1\n")
    (tmp_path / "semicolons.csv").write_text("a;b;y\n1;2;0\n3;4;1\n")
    (tmp_path / "wide.csv").write_text("a,b,y\n1,2,0\n", encoding="utf-16")
    (tmp_path / "data.pkl").write_bytes(pickle.dumps({"x": np.zeros((4, 2)), "y": [0, 1, 1, 0]}))
    np.savez(tmp_path / "objects.npz", x=np.zeros((2, 2), np.float32), y=np.array(["yes", None], dtype=object))
    errors = refused(experiment(source, parameters))
    assert said in errors
    if source == "TensorFile" and parameters["path"] == "data.pkl":
        assert 'load it and save plain tensors: torch.save({"x": x, "y": y, "n_classes": k}, path)' in errors


@needs_pillow
def test_a_picture_that_does_not_decode_is_named_by_its_path(refused, tmp_path):
    write_pictures(tmp_path / "pictures", broken=[3, 4])
    (tmp_path / "list.csv").write_text("path,y\n" + "".join(f"pictures/{i}.png,{i % 2}\n" for i in range(6)))
    errors = refused(experiment("ImageTable", {"path": "list.csv", "label": "y"}, model="CNN"))
    assert 'row 4 of list.csv: "pictures/3.png" cannot be decoded as a picture' in errors
    (tmp_path / "list.csv").write_text("path,y\npictures/0.png,0\npictures/9.png,1\n")
    assert 'row 2 of list.csv: "pictures/9.png"' in refused(
        experiment("ImageTable", {"path": "list.csv", "label": "y"}, model="CNN")
    )


@needs_pillow
@needs_torchvision
def test_pictures_of_torchvision_that_are_missing_or_broken_are_named(refused, tmp_path):
    errors = refused(experiment("TorchVision", {"dataset": "FashionMNIST", "root": "here"}, model="CNN"))
    assert "expected raw/train-images-idx3-ubyte" in errors
    assert 'in the folder "here/FashionMNIST"' in errors
    write_pictures(tmp_path / "sorted" / "cat")
    write_pictures(tmp_path / "sorted" / "dog", broken=[2])
    errors = refused(experiment("TorchVision", {"dataset": "ImageFolder", "root": "sorted"}, model="CNN"))
    assert 'ImageFolder: "sorted/dog/2.png" cannot be decoded as a picture' in errors


@needs_graphs
def test_graphs_that_are_not_there_are_asked_for_by_file(refused):
    errors = refused(experiment("TUDataset", {"name": "MUTAG", "root": "here"}, model="GNN"))
    assert "expected MUTAG_A.txt, MUTAG_graph_indicator.txt (or the same as .gz) in the folder" in errors
    assert "here/MUTAG/raw" in errors


@needs_text
def test_text_that_is_longer_than_the_model_reads_is_refused(refused, tmp_path):
    from erasure.training.torchvision_operators import torchvision

    if importlib.util.find_spec("torchvision") is not None:
        torchvision("transforms", "a test")  # transformers imports it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import transformers
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.AutoConfig.for_model("bert", vocab_size=60, max_position_embeddings=16, **sizes)
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path / "bert")
    (tmp_path / "texts.csv").write_text("text,y\n" + "".join(f"word{i} and more,{i % 2}\n" for i in range(40)))
    model = {"class": "TextEncoder", "parameters": {"name_or_path": "bert"}}
    source = {"files": "texts.csv", "columns": "text", "label": "y", "max_length": 24, "vocabulary_size": 60}
    assert "bert reads 16 tokens, the data has rows of 24; cut them" in refused(experiment("HuggingFace", source, model=model))


@needs_graphs
def test_graphs_without_nodes_are_dropped_and_counted(tmp_path):
    raw = tmp_path / "TINY" / "raw"
    raw.mkdir(parents=True)
    # Graph 2 of 30 has no node: the indicator leaves it out.
    nodes = [graph for graph in range(1, 31) if graph != 2 for _ in range(2)]
    (raw / "TINY_graph_indicator.txt").write_text("".join(f"{graph}\n" for graph in nodes))
    (raw / "TINY_A.txt").write_text("".join(f"{2 * i + 1}, {2 * i + 2}\n{2 * i + 2}, {2 * i + 1}\n" for i in range(29)))
    (raw / "TINY_graph_labels.txt").write_text("".join(f"{graph % 2}\n" for graph in range(30)))
    file = tmp_path / "config.json"
    file.write_text(json.dumps(experiment("TUDataset", {"name": "TINY", "root": str(tmp_path)}, model="GNN")))
    done = command("run", file, "--store", tmp_path / "store", "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert '"TINY": 1 graphs without nodes are dropped, 29 are left' in done.stderr
