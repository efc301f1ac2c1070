"""Generated groups, lists, Hugging Face files, steps and folders of pictures: a request by what is written in the data gets these rows."""

import importlib.util
import json
import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from erasure.data.preprocess.moving import MoveInputs
from erasure.data.sources.hugging_face import HuggingFace
from erasure.data.sources.preprocessed import Preprocessed
from erasure.data.sources.table import TableFile
from erasure.data.sources.torchvision_dataset import TorchVision
from erasure.data.splitters import ByZSplitter, ClassSplitter, ListSplitter
from erasure.errors import DataError, ErasureError

N_EXAMPLES = int(os.environ.get("ERASURE_PROPERTY_EXAMPLES", "24"))
N = 16
FORMS = {
    "numbers": lambda k: k,
    "fractions": float,
    "from one": lambda k: k + 1,
    "gaps": lambda k: 7 + 3 * k,
    "negative": lambda k: k - 1,
    "texts": lambda k: ("nine", "Ten", "a b", "ü")[k],
    "padded": lambda k: f"00{k}",
    "long": lambda k: 1234567890123456780 + k,
    "dates": lambda k: f"2024-0{k + 1}-01",
    "truth values": lambda k: bool(k % 2),
}
"""How classes and groups are written."""

FOUND = settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


def drawn(seed, n_values):
    generator = np.random.default_rng(seed)
    return generator.permutation(np.concatenate([np.arange(n_values), generator.integers(0, n_values, N - n_values)])).tolist()


def table(folder, labels, groups, suffix):
    file = Path(folder) / f"people{suffix}"
    rows = {"a": [0.5 * i for i in range(N)], "b": [i % 5 for i in range(N)], "person": groups, "y": labels}
    frame = pd.DataFrame(rows)
    if suffix == ".parquet":
        frame.to_parquet(file, index=False)
    elif suffix == ".jsonl":
        file.write_text("".join(json.dumps({name: values[i] for name, values in rows.items()}) + "\n" for i in range(N)))
    else:
        frame.to_csv(file, index=False, sep="\t" if suffix == ".tsv" else ",")
    return str(file)


SOURCES = {
    "table": lambda file: TableFile(path=file, label="y", z="person"),
    "hub": lambda file: HuggingFace(files=file, columns=["a", "b"], label="y", z="person"),
    "steps": lambda file: Preprocessed(
        data_source=TableFile(path=file, label="y", categorical="person"), steps=(MoveInputs(move=["person"]),)
    ),
}


def requested(label):
    """How a configuration writes a value."""
    return int(label) if isinstance(label, float) else str(label) if isinstance(label, bool) else label


def rows_cut(splitter, data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a number is a name, and no code, is said
        return sorted(splitter.split(data, {"all": torch.arange(len(data))}, np.random.default_rng(0))[0].tolist())


@settings(FOUND, max_examples=N_EXAMPLES)
@given(
    source=st.sampled_from(sorted(SOURCES)),
    suffix=st.sampled_from([".csv", ".tsv", ".parquet", ".jsonl"]),
    label_form=st.sampled_from(sorted(FORMS)),
    group_form=st.sampled_from(sorted(FORMS)),
    n_values=st.integers(2, 4),
    seed=st.integers(0, 2**16),
)
def test_classes_and_groups_are_found_by_what_is_written(source, suffix, label_form, group_form, n_values, seed):
    if source == "hub":
        pytest.importorskip("datasets")
    labels = [FORMS[label_form](k) for k in drawn(seed, n_values)]
    groups = [FORMS[group_form](k) for k in drawn(seed + 1, n_values)]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            data = SOURCES[source](table(folder, labels, groups, suffix)).load()
        except ErasureError as error:
            assert suffix == ".jsonl" and source != "hub", error
            return
    assert data.x.gather(torch.arange(N))[:, 0].tolist() == [0.5 * i for i in range(N)]
    for value in dict.fromkeys(labels):
        forget = ClassSplitter(parts_names=("forget", "retain"), labels=requested(value))
        assert rows_cut(forget, data) == [i for i, each in enumerate(labels) if each == value], value
    for value in dict.fromkeys(groups):
        person = ByZSplitter(parts_names=("forget", "retain"), z_labels=requested(value))
        assert rows_cut(person, data) == [i for i, each in enumerate(groups) if each == value], value


@settings(FOUND, max_examples=N_EXAMPLES)
@given(
    gaps=st.sets(st.integers(0, N - 1), max_size=6),
    chosen=st.sets(st.integers(0, N - 1), min_size=1, max_size=5),
    suffix=st.sampled_from([".csv", ".parquet", ".jsonl"]),
)
def test_a_row_is_found_by_its_number_whatever_rows_were_left_out(gaps, chosen, suffix):
    source = "hub" if suffix == ".jsonl" else "table"
    if source == "hub":
        pytest.importorskip("datasets")
    with tempfile.TemporaryDirectory() as folder:
        file = table(folder, [i % 2 for i in range(N)], [None if i in gaps else i + 1 for i in range(N)], suffix)
        fields = {"label": "y", "z": "person", "missing": "drop"}
        data = (HuggingFace(files=file, columns=["a"], **fields) if source == "hub" else TableFile(path=file, **fields)).load()
    left = [i for i in range(N) if i not in gaps]
    splitter = ListSplitter(parts_names=("forget", "retain"), samples_ids=tuple(chosen), by="row")
    if chosen & gaps and len(left) < N and data.rows is not None:
        with pytest.raises(ErasureError, match="no samples of"):
            rows_cut(splitter, data)
        return
    if max(chosen) >= len(data) and data.rows is None:
        with pytest.raises(ErasureError, match="are not in"):
            rows_cut(splitter, data)
        return
    found = rows_cut(splitter, data)
    assert {left[i] for i in found} == chosen
    assert data.x.gather(torch.tensor(found))[:, 0].tolist() == [0.5 * row for row in sorted(chosen)]


@settings(FOUND, max_examples=max(5, N_EXAMPLES // 6))
@given(names=st.sampled_from([("cat", "dog"), ("1", "2", "10"), ("07", "7"), ("b", "A", "ü"), ("0", "1", "2"), ("2024", "2025")]))
def test_a_class_of_pictures_is_the_folder_that_is_called_so(names):
    image = pytest.importorskip("PIL.Image")
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(names):
            (Path(folder) / name).mkdir()
            for i in range(2):
                image.new("RGB", (4, 4), (20 * number + 1, 0, 0)).save(Path(folder) / name / f"{i}.png")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            data = TorchVision(dataset="ImageFolder", root=folder).load()
    for number, name in enumerate(names):
        for asked in {name, int(name)} if name.isdecimal() and not name.startswith("0") and len(name) > 1 else {name}:
            found = rows_cut(ClassSplitter(parts_names=("forget", "retain"), labels=asked), data)
            colours = {round(float(value) * 255) for value in data.x.gather(torch.tensor(found))[:, 0].flatten().unique()}
            assert colours == {20 * number + 1}, (name, asked)


NUMBERED = {
    "id": "numbers the rows and is left out",
    "Index": "numbers the rows and is left out",
    "day": "counts the rows and is a feature",
}


@pytest.mark.parametrize("name", NUMBERED)
def test_a_column_that_counts_the_rows_is_said_by_every_source(tmp_path, name):
    pytest.importorskip("datasets")
    lines = [f"{name},a,y", *(f"{i},{i * 7 % 5}.5,{['no', 'yes'][i % 2]}" for i in range(30))]
    (tmp_path / "train.csv").write_text("\n".join(lines) + "\n")
    kept = ("a",) if "left out" in NUMBERED[name] else (name, "a")
    for source in (TableFile(path=str(tmp_path / "train.csv"), label="y"), HuggingFace(path=str(tmp_path), label="y")):
        with pytest.warns(UserWarning, match=NUMBERED[name]):
            data = source.load()
        assert data.feature_names == kept
    # Who names it wants it; shuffled it is an identifier like any other column.
    assert TableFile(path=str(tmp_path / "train.csv"), label="y", features=(name, "a")).load().feature_names == (name, "a")
    (tmp_path / "train.csv").write_text("\n".join([lines[0], *lines[:0:-1]]) + "\n")
    assert TableFile(path=str(tmp_path / "train.csv"), label="y").load().feature_names == (name, "a")


@pytest.mark.parametrize(
    ("ending", "remedy"), [("jsonl", "HuggingFace"), ("xlsx", "CSV"), ("npz", "TensorFile"), ("pkl", "may run code")]
)
def test_a_file_of_another_kind_is_no_table_and_it_is_said_what_reads_it(tmp_path, ending, remedy):
    file = tmp_path / f"data.{ending}"
    file.write_text('{"a": 1, "y": 0}\n{"a": 2, "y": 1}\n')
    with pytest.raises(DataError, match=remedy):
        TableFile(path=str(file), label="y").load()


def test_truth_values_are_asked_for_as_json_writes_them(tmp_path):
    (tmp_path / "t.csv").write_text("a,y\n" + "".join(f"{i % 4}.5,{'True' if i % 3 else 'False'}\n" for i in range(12)))
    data = TableFile(path=str(tmp_path / "t.csv"), label="y").load()
    whole = {"all": torch.arange(12)}
    written, spelled = (
        ClassSplitter(parts_names=("forget", "-"), labels=labels).split(data, whole, np.random.default_rng(0))[0]
        for labels in (True, "True")
    )
    assert len(written) == 8 and torch.equal(written, spelled)
