"""The complete experiments in the published format run: fourteen methods on images, texts, tables and graphs."""

import csv
import gzip
import importlib.util
import json
import os
import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from graph_files import molecules_root

from erasure.cli import _run

STYLE = Path(__file__).parents[2] / "configs" / "upstream_style"
TEST_DATA = Path(os.environ.get("ERASURE_TEST_DATA", Path(__file__).parents[2] / "../shared/data")).resolve()
SOURCE = "data.parameters.DataSource.parameters"
HEADER = (
    "age,workclass,fnlwgt,education,education-num,marital-status,occupation,relationship,race,sex,capital-gain,capital-loss,"
    "hours-per-week,native-country,income"
)


def real(path):
    if not path.exists():
        pytest.skip(f"the real data of ERASURE_TEST_DATA is not there: {path}")
    return path


def needs(*libraries):
    missing = [name for name in libraries if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


@pytest.fixture
def tested(tmp_path, monkeypatch, capsys):
    """Runs a file with settings; accuracy by partition and label."""
    monkeypatch.chdir(tmp_path)  # masks are saved below the working directory

    def run(name, undefined=(), **settings):
        chosen = [
            f"--set={path}={json.dumps(value)}" for path, value in {**settings, "evaluator.parameters.floor_repeats": 0}.items()
        ]
        options = [f"--store={tmp_path / 'store'}", f"--output={tmp_path / 'out'}", "--no-report", "--quiet", "--json"]
        code = _run(["run", str(STYLE / name), *chosen, *options])
        out, err = capsys.readouterr()
        rows = json.loads(out)
        rows = rows if isinstance(rows, list) else rows["rows"]
        failed = {row["measure"] for row in rows if row["status"] == "failed"}
        assert failed == set(undefined), err
        measured = [row for row in rows if row["measure"] == "accuracy (target=unlearned)"]
        assert code in {0, 1}, err
        assert len({row["label"] for row in rows if row["model_role"] == "unlearned"}) == 14
        return {(row["partition"], row["label"]): row["value"] for row in measured}

    return run


def test_a_table_with_eight_one_hot_columns(tested, tmp_path):
    packed = real(TEST_DATA / "tabular")
    rows = gzip.decompress((packed / "adult.data.gz").read_bytes()).decode().strip().splitlines()[:2000]
    folder = tmp_path / "data" / "uci" / "2"
    folder.mkdir(parents=True)
    (folder / "data.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    found = tested("adult.jsonc", **{f"{SOURCE}.root": str(tmp_path / "data"), "predictor.parameters.epochs": 3})
    poor = sum("<=50K" in row for row in rows) / len(rows)  # as often right is who says so of everybody
    assert min(found["retain", "Identity"], found["retain", "GoldModel"]) > poor - 0.02
    assert max(found["retain", "Identity"], found["retain", "GoldModel"]) > poor


@needs("torch_geometric", "rdkit")
@pytest.mark.parametrize("name", ["bbbp", pytest.param("bace", marks=pytest.mark.nightly)])  # its file is run as it is shipped
def test_molecules(tested, tmp_path, name):
    root = molecules_root(tmp_path / "data", name, n_rows=150)
    settings = {f"{SOURCE}.datasource.parameters.root": root, "predictor.parameters.epochs": 3}
    assert 0 < tested(f"{name}.jsonc", **settings)["test", "Identity"] <= 1


@needs("torchvision")
def test_a_class_of_images(tested, tmp_path):
    raw = tmp_path / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    draw = np.random.default_rng(0)
    for part, size in (("train", 100), ("t10k", 50)):
        labels = (np.arange(size) % 10).astype(np.uint8)
        pictures = draw.integers(0, 100, (size, 28, 28), dtype=np.uint8)
        pictures[np.arange(size), labels * 2 + 2] = 250  # a bright line, lower for each class
        for kind, values in (("images-idx3", pictures), ("labels-idx1", labels)):
            shape = np.array(values.shape, dtype=">i4").tobytes()
            (raw / f"{part}-{kind}-ubyte").write_bytes(bytes([0, 0, 8, values.ndim]) + shape + values.tobytes())
    settings = {f"{SOURCE}.root_path": str(tmp_path / "data"), "predictor.parameters.epochs": 5}
    settings |= {"data.parameters.batch_size": 32, "data.parameters.partitions[0].parameters.percentage": 0.5}
    # All forgotten samples are of one class.
    found = tested("fashion_mnist.jsonc", **settings)
    assert found["retain", "Identity"] > 0.4  # of ten classes
    assert found["forget", "GoldModel"] == 0  # of a class that it has never seen


@needs("datasets", "transformers")
@pytest.mark.nightly  # by day tests/compat/test_published_runs.py forgets texts in this format
def test_texts_with_the_encoder_of_a_folder(tested, tmp_path):
    draw = random.Random(0)
    rows = []
    for number in range(240):
        filler = [draw.choice(("today", "again", "after", "said", "the", "a", "new")) for _ in range(6)]
        club = ["Arsenal"] if number % 7 == 0 else []
        rows.append(
            [number % 4 + 1, draw.choice(filler), " ".join([*filler, ["war", "goal", "stock", "chip"][number % 4], *club])]
        )
    (tmp_path / "news").mkdir()
    with (tmp_path / "news" / "train.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["label", "title", "description"], *rows])
    encoder = small_encoder(tmp_path / "encoder", rows)
    found = tested(
        "ag_news.jsonc",
        **{
            f"{SOURCE}.path": str(tmp_path / "news"),
            f"{SOURCE}.preprocess[2].parameters.tokenizer.parameters.tokenizer": encoder,
            f"{SOURCE}.preprocess[2].parameters.tokenizer.parameters.max_length": 32,
            "predictor.parameters.model.parameters.name_or_path": encoder,
            "predictor.parameters.optimizer.parameters.lr": 0.002,
            "predictor.parameters.epochs": 8,
        },
    )
    assert found["retain", "Identity"] > 0.4  # of four classes


def small_encoder(folder, rows):
    """A folder with a tokenizer that knows the words of the rows and a DistilBERT of one layer."""
    from erasure.training.torchvision_operators import torchvision

    if importlib.util.find_spec("torchvision") is not None:
        torchvision("transforms", "a test")
    from erasure.models.text import library as of_hugging_face

    transformers = of_hugging_face("transformers", "the test")

    counts = Counter(word for row in rows for word in re.findall("[a-z]+", f"{row[1]} {row[2]}".lower()))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(word for word, _ in counts.most_common(2000))]
    vocabulary = {word: number for number, word in enumerate(words)}
    transformers.BertTokenizerFast(vocab=vocabulary, do_lower_case=True).save_pretrained(folder)
    sizes = {"dim": 32, "hidden_dim": 64, "n_layers": 1, "n_heads": 2, "max_position_embeddings": 64}
    transformers.DistilBertModel(transformers.DistilBertConfig(vocab_size=len(words), **sizes)).save_pretrained(folder)
    return str(folder)
