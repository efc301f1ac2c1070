"""Every file of configs/ runs from its data to its table: on a little of the real data, for an epoch or two."""

import csv
import gzip
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from graph_files import cora_root, molecules_root
from test_upstream_style import small_encoder

from erasure.cli import _run
from erasure.data.language.vocabularies import BytePairs
from erasure.experiment.configuration import load_experiment
from erasure.models.text import library

CONFIGS = Path(__file__).parents[2] / "configs"
TEST_DATA = Path(os.environ.get("ERASURE_TEST_DATA", Path(__file__).parents[2] / "../shared/data")).resolve()
SOURCE = "data.parameters.data_source.parameters"
PUBLISHED_SOURCE = "data.parameters.DataSource.parameters"
ENCODER = "predictor.parameters.model.parameters.name_or_path"


def real(path):
    if not path.exists():
        pytest.skip(f"the real data of ERASURE_TEST_DATA is not there: {path}")
    return path


def lines_of(path, number):
    """The first lines of a compressed file."""
    with gzip.open(real(path), "rt", encoding="utf-8") as stream:
        return [line for line, _ in zip(stream, range(number), strict=False)]


def written(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines), encoding="utf-8")
    return str(path)


def bundled(_folder):
    return {}


def few_digits(_folder):
    """Digits come with scikit-learn: most of them are left to the test."""
    return {"data.parameters.partitions[0].parameters.percentage": 0.15}


def census(n_rows):
    """Both files of Adult, shortened."""

    def prepare(folder):
        parts = ("data", "test")
        lines = {part: lines_of(TEST_DATA / "tabular" / f"adult.{part}.gz", n_rows) for part in parts}
        return {f"{SOURCE}.path": [written(folder / f"adult.{part}", lines[part]) for part in parts]}

    return prepare


def published_census(folder):
    """Adult as the published files expect it: one table with a header."""
    columns = load_experiment(CONFIGS / "adult.jsonc").data.data_source.column_names
    rows = [line.replace(", ", ",") for line in lines_of(TEST_DATA / "tabular" / "adult.data.gz", 800)]
    written(folder / "uci" / "2" / "data.csv", [",".join(columns) + "\n", *rows])
    return {f"{PUBLISHED_SOURCE}.root": str(folder)}


def idx_files(folder, pictures):
    for part, (x, y) in pictures.items():
        for kind, values in (("images-idx3", x), ("labels-idx1", y)):
            shape = np.array(values.shape, dtype=">i4").tobytes()
            path = folder / "raw" / f"{part}-{kind}-ubyte"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes([0, 0, 8, values.ndim]) + shape + values.astype(np.uint8).tobytes())


def digits(folder):
    found = np.load(real(TEST_DATA / "images" / "mnist20k.npz"))
    parts = {"train": "train", "t10k": "test"}
    idx_files(folder / "MNIST", {name: (found[f"x_{part}"][:160], found[f"y_{part}"][:160]) for name, part in parts.items()})
    return {f"{SOURCE}.root": str(folder), f"{SOURCE}.download": False}


def clothes(folder, n=160):
    place = real(TEST_DATA / "images" / "fashion-mnist")
    pictures = {}
    for part in ("train", "t10k"):
        with (
            gzip.open(place / f"{part}-images-idx3-ubyte.gz") as images,
            gzip.open(place / f"{part}-labels-idx1-ubyte.gz") as labels,
        ):
            x = np.frombuffer(images.read(16 + n * 784), np.uint8)[16:].reshape(n, 28, 28)
            pictures[part] = (x, np.frombuffer(labels.read(8 + n), np.uint8)[8:])
    idx_files(folder / "FashionMNIST", pictures)
    return {f"{SOURCE}.root": str(folder), f"{SOURCE}.download": False}


def few_clothes(folder):
    sizes = {f"data.parameters.partitions[{i}].parameters.n_samples": n for i, n in ((1, 100), (3, 60))}
    return clothes(folder) | sizes


def few_users(_folder):
    return {f"{SOURCE}.n_users": 100, f"{SOURCE}.n_items": 12}


def few_students(folder):
    """Ratings of nobody, in the layout that examples/lecturers.py writes."""
    lines = [f"{s},{d},{1 + (s * d + s // 3) % 5}\n" for s in range(1, 61) for d in range(1, 16)]
    return {f"{SOURCE}.path": [written(folder / "ratings.csv", ["s,d,y\n", *lines])]}


def published_clothes(folder):
    clothes(folder, n=150)
    return {f"{PUBLISHED_SOURCE}.root_path": str(folder), "data.parameters.partitions[0].parameters.percentage": 0.5}


def photographs(folder):
    """CIFAR-10's pictures as JPEG, named in a table."""
    found = np.load(real(TEST_DATA / "images" / "cifar10_jpeg_12k.npz"))
    rows = ["path,label,part\n"]
    for part, number in (("train", 80), ("test", 40)):
        packed, offsets, labels = (found[f"{part}_{kind}"] for kind in ("bytes", "offsets", "labels"))
        for i in np.linspace(0, len(labels) - 1, number).astype(int):  # they lie class by class
            (folder / f"{part}{i}.jpg").write_bytes(packed[offsets[i] : offsets[i + 1]].tobytes())
            rows.append(f"{part}{i}.jpg,{labels[i]},{part}\n")
    table = written(folder / "labels.csv", rows)
    source = {"path": table, "label": "label", "z": "part", "mean": [0.491, 0.482, 0.447], "std": [0.247, 0.243, 0.262]}
    return {
        "data.parameters.data_source": {"class": "ImageTable", "parameters": source},
        "data.parameters.partitions[1].parameters.percentage": 0.2,
    }


def messages(folder):
    return {f"{SOURCE}.files": [written(folder / "sms.tsv", lines_of(TEST_DATA / "text" / "sms.tsv.gz", 150))]}


def articles(words, n_others=150):
    """Up to forty articles that say one of the words, and others."""
    lines = lines_of(TEST_DATA / "text" / "ag_news_test.csv.gz", 7600)
    found = [line for line in lines if any(word in line for word in words)]
    return found[:40] + [line for line in lines[: n_others + len(found)] if line not in found][:n_others]


def news(folder):
    return {f"{SOURCE}.files": [written(folder / "news.csv", articles(["Iraq"]))]}


def published_news(folder):
    rows = list(csv.reader(articles(["Arsenal", "Chelsea", "Manchester United", "Real Madrid", "Lakers"])))
    with (folder / "train.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["label", "title", "description"], *rows])
    encoder = small_encoder(folder.parent / "encoder", rows)
    tokenizer = f"{PUBLISHED_SOURCE}.preprocess[2].parameters.tokenizer.parameters"
    return {
        f"{PUBLISHED_SOURCE}.path": str(folder),
        f"{tokenizer}.tokenizer": encoder,
        f"{tokenizer}.max_length": 32,
        ENCODER: encoder,
    }


def reviews(folder):
    lines = lines_of(TEST_DATA / "text" / "sst2_train.tsv.gz", 300)
    encoder = small_encoder(folder / "encoder", [["", line, ""] for line in lines])
    return {
        f"{SOURCE}.files": [written(folder / "sst2.tsv", lines)],
        f"{SOURCE}.tokenizer": encoder,
        ENCODER: encoder,
        "data.parameters.partitions[0].parameters.n_samples": 240,
    }


def citations(folder):
    return {f"{SOURCE}.root": cora_root(folder), f"{SOURCE}.download": False}


def cited_edges(folder):
    """A few epochs know so little of edges that there is nothing that could be left of it."""
    return {**citations(folder), "predictor.parameters.epochs": 50}


def links(folder):
    inner = f"{SOURCE}.data_source.parameters"
    return {f"{inner}.root": cora_root(folder), f"{inner}.download": False}


def poisoned(folder):
    """A few epochs learn so little that planted edges do no harm, and then there is nothing to recover."""
    return {**links(folder), "predictor.parameters.epochs": 120}


def graphs(name):
    def prepare(folder):
        for path in real(TEST_DATA / "graphs" / "tu" / name / "raw").glob("*.gz"):
            target = folder / name / "raw" / path.name.removesuffix(".gz")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(gzip.decompress(path.read_bytes()))
        return {f"{SOURCE}.root": str(folder), f"{SOURCE}.download": False}

    return prepare


def molecules(name):
    return lambda folder: {f"{SOURCE}.root": molecules_root(folder, name, n_rows=150), f"{SOURCE}.download": False}


def published_molecules(name):
    return lambda folder: {f"{PUBLISHED_SOURCE}.datasource.parameters.root": molecules_root(folder, name, n_rows=150)}


def authors(_folder):
    """Three authors, of which one is forgotten and one is nobody's."""
    place = real(TEST_DATA / "llm" / "tofu")
    return {
        f"{SOURCE}.path": str(place),
        f"{SOURCE}.authors": [0, 180, 181],
        "data.parameters.partitions[0].parameters.z_labels": ["181"],
        f"{SOURCE}.vocabulary.parameters.vocabulary_size": 400,
        "predictor.parameters.model.parameters": {"width": 32, "n_layers": 2},
        **{f"evaluator.parameters.measures[{i}].parameters.max_new_tokens": 4 for i in (8, 9)},
        **{f"evaluator.parameters.measures[{i}].parameters.n_samples": 2 for i in (8, 9)},
    }


def pretrained_authors(folder):
    """The same authors for a small Llama in a folder with its tokenizer."""
    settings = authors(folder)
    place, path = settings[f"{SOURCE}.path"], folder / "pretrained"
    transformers = library("transformers", "a test")
    texts = (Path(place) / "full.json").read_text(encoding="utf-8").splitlines()[:200]
    tokenizer = BytePairs(vocabulary_size=600).encoder([*texts, "\nAnswer: A. B. C. D. E. F. G. H. I. J."]).tokenizer
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>").save_pretrained(path)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.LlamaConfig(vocab_size=600, max_position_embeddings=1024, **sizes)
    transformers.LlamaForCausalLM(config).save_pretrained(path)
    return {
        f"{SOURCE}.path": place,
        f"{SOURCE}.authors": [0, 180, 198],
        f"{SOURCE}.vocabulary.parameters.name_or_path": str(path),
        ENCODER: str(path),
        "predictor.parameters.model.parameters.dtype": "float32",
        "data.parameters.partitions[0].parameters.z_labels": ["180"],
        "data.parameters.partitions[1].parameters.z_labels": ["198"],
        "evaluator.parameters.measures[8].parameters.max_new_tokens": 4,
        "evaluator.parameters.measures[8].parameters.n_samples": 4,
        "evaluator.parameters.measures[9].parameters.n_samples": 4,
    }


def invented_documents(folder):
    """What examples/lume_style.py writes, to be read by a tiny network."""
    subprocess.run([sys.executable, CONFIGS.parent / "examples" / "lume_style.py", folder], check=True, capture_output=True)
    return {
        f"{SOURCE}.path": str(folder),
        "predictor.parameters.model.parameters": {"width": 16, "n_layers": 1, "n_heads": 2},
        "evaluator.parameters.measures[5].parameters.max_new_tokens": 4,
    }


@dataclass(frozen=True)
class Case:
    """How a file gets at a little of its data, which libraries it needs, and which usual methods it leaves out.

    Long ones run first; those of the night have a sibling by day.
    """

    data: Callable
    needs: tuple[str, ...] = ()
    slow: bool = False
    nightly: bool = False
    without: frozenset[str] = frozenset()


ELSEWHERE = {"audit_digits"}  # test_audits.py runs it, with more models
GRAPHS, MOLECULES = ("torch_geometric",), ("torch_geometric", "rdkit")
CASES = {
    "proof_of_concept": Case(few_digits, nightly=True),  # by day test_trace.py
    "digits_class": Case(few_digits, nightly=True),  # by day test_upstream_style.py forgets a class
    "newest_methods": Case(few_digits, slow=True),
    "iris": Case(bundled),
    "breast_cancer": Case(bundled),
    "adult": Case(census(400)),
    "exact": Case(census(400)),
    "audit_adult": Case(census(1000), nightly=True),  # by day test_audits.py
    "mnist": Case(digits, needs=("torchvision",), nightly=True),  # by day fashion_mnist has its source
    "fashion_mnist": Case(clothes, needs=("torchvision",)),
    "fashion_random": Case(few_clothes, needs=("torchvision",), nightly=True, without=frozenset({"Finetuning"})),
    "recommender": Case(few_users, without=frozenset({"Finetuning", "SSD", "SCRUB"})),
    "lecturers": Case(few_students, without=frozenset({"Finetuning", "SSD", "SCRUB"})),
    "cifar10": Case(photographs, needs=("PIL",)),
    "sms": Case(messages, needs=("datasets",)),
    "ag_news": Case(news, needs=("datasets",), nightly=True),  # by day sms has its source
    "sst2": Case(reviews, needs=("datasets", "transformers", "peft"), nightly=True),  # by day test_vision_and_text.py
    "tofu_small": Case(authors, needs=("transformers", "tokenizers"), nightly=True),  # by day test_language_models.py
    "tofu_smollm2": Case(
        pretrained_authors, needs=("transformers", "tokenizers", "peft"), nightly=True, without=frozenset({"GoldModel", "SSD"})
    ),
    "lume_style": Case(invented_documents, needs=("transformers", "tokenizers"), nightly=True),  # by day test_lume.py
    "cora": Case(citations, needs=GRAPHS, slow=True, nightly=True),  # by day test_graph_experiments.py forgets its nodes
    "cora_edges": Case(cited_edges, needs=GRAPHS, nightly=True),  # by day test_graph_experiments.py forgets edges
    "cora_links": Case(links, needs=GRAPHS, nightly=True),  # by day cora_poisoned has its source
    "cora_nodes": Case(citations, needs=GRAPHS, slow=True),
    "cora_poisoned": Case(poisoned, needs=GRAPHS, slow=True, without=frozenset({"SSD", "SCRUB"})),
    "cora_features": Case(citations, needs=GRAPHS, slow=True),
    "mutag": Case(graphs("MUTAG"), needs=GRAPHS),
    "proteins": Case(graphs("PROTEINS"), needs=GRAPHS, nightly=True),
    "bbbp": Case(molecules("bbbp"), needs=MOLECULES, nightly=True),  # by day test_upstream_style.py reads it
    "bace": Case(molecules("bace"), needs=MOLECULES, nightly=True),
    # By day test_upstream_style.py runs three of these, with data of its own.
    "upstream_style/adult": Case(published_census, nightly=True),
    "upstream_style/bbbp": Case(published_molecules("bbbp"), needs=MOLECULES, nightly=True),
    "upstream_style/bace": Case(published_molecules("bace"), needs=MOLECULES, nightly=True),
    "upstream_style/fashion_mnist": Case(published_clothes, needs=("torchvision",), nightly=True),
    "upstream_style/ag_news": Case(published_news, needs=("datasets", "transformers"), nightly=True),
}


def shorter(experiment):
    """Settings that leave every part of an experiment in its place and train each network for an epoch."""
    settings = {"predictor.parameters.epochs": 1, "evaluator.parameters.floor_repeats": 0}
    most = {"epochs": 1, "warm_up_epochs": 1, "repair_epochs": 1, "steps": 8}
    for i, entry in enumerate(experiment.unlearners):
        for parameter, number in most.items():
            given = getattr(entry.unlearner, parameter, None)
            if isinstance(given, int) and given > number:
                settings[f"unlearners[{i}].parameters.{parameter}"] = number
    for i, measure in enumerate(experiment.evaluator.measures):
        for parameter in ("n_shadows", "n_models"):
            if hasattr(measure, parameter):
                settings[f"evaluator.parameters.measures[{i}].parameters.{parameter}"] = 4
        if hasattr(measure, "relabellings"):
            settings[f"evaluator.parameters.measures[{i}].parameters.relabellings"] = 99
        if getattr(measure, "top", None) is not None:
            settings[f"evaluator.parameters.measures[{i}].parameters.top"] = 0.5
    return settings


def marked(name):
    missing = [library for library in CASES[name].needs if importlib.util.find_spec(library) is None]
    marks = [pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")]
    marks += [pytest.mark.slow] if CASES[name].slow else []
    marks += [pytest.mark.nightly] if CASES[name].nightly else []
    return pytest.param(name, marks=marks, id=name)


def test_each_file_has_a_case_here():
    assert {str(path.relative_to(CONFIGS).with_suffix("")) for path in CONFIGS.rglob("*.jsonc")} == {*CASES, *ELSEWHERE}


@pytest.mark.parametrize("name", [marked(name) for name in CASES])
def test_each_method_of_the_file_is_measured(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # the published files save masks and values below the working directory
    (tmp_path / "data").mkdir()
    experiment = load_experiment(CONFIGS / f"{name}.jsonc")
    settings = {**shorter(experiment), **CASES[name].data(tmp_path / "data")}
    options = [f"--set={path}={json.dumps(value)}" for path, value in settings.items()]
    code = _run(
        ["run", str(CONFIGS / f"{name}.jsonc"), *options, "--store=store", "--output=out", "--no-report", "--quiet", "--json"]
    )
    out, err = capsys.readouterr()
    assert code == 0, err
    rows = json.loads(out)
    rows = rows if isinstance(rows, list) else rows["rows"]
    assert not [row for row in rows if row["status"] == "failed"]
    assert any(row["model_role"] == "gold" for row in rows)
    expected = {entry.label for entry in experiment.unlearners}
    assert {"GoldModel", "Finetuning", "SSD"} - CASES[name].without <= expected
    assert {"SCRUB", "NPO"} & (expected | CASES[name].without)  # the latter for language models
    for label in expected:
        measured = [row for row in rows if row["model_role"] == "unlearned" and row["label"] == label]
        assert [row for row in measured if row["value"] is not None], f"nothing measured for {label}"
