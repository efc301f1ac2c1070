"""Generated files and cuts: whatever numbers, labels and groups are written how, what is read and what is cut is what was meant, or one
clear error says why not."""

import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from erasure.data.sources.table import TableFile
from erasure.data.sources.tensor_file import TensorFile
from erasure.data.splitters import ByZSplitter, ClassSplitter, ListSplitter, NSamplesOfClassSplitter, ZRangeSplitter
from erasure.errors import ErasureError

N_EXAMPLES = int(os.environ.get("ERASURE_PROPERTY_EXAMPLES", "150"))
DTYPES = ("float64", "float32", "float16", "int64", "int32", "int8", "uint16", "bool")
LABELS = {
    "numbers": lambda k: k,
    "fractions": float,
    "from one": lambda k: k + 1,
    "gaps": lambda k: 5 + 2 * k,
    "negative": lambda k: k - 1,
    "texts": lambda k: ("nine", "Ten", "a b", "ü")[k],
    "padded": lambda k: f"00{k}",
    "long": lambda k: 1234567890123456780 + k,
}
"""How the classes or groups 0, 1, 2, … are written."""
NUMERIC = ("numbers", "fractions", "from one", "gaps", "negative")
TENSORS = ("npz", "safetensors", "pt")
PARTS = {"parts_names": ("forget", "retain")}


def drawn(dtype, n_rows, n_classes, seed):
    """Inputs, classes and groups."""
    generator = np.random.default_rng(seed)
    x = generator.integers(0, 2 if dtype == "bool" else 100, (n_rows, 3)).astype(dtype)
    codes = (np.concatenate([np.arange(n_classes), generator.integers(0, n_classes, n_rows - n_classes)]) for _ in range(2))
    classes, groups = (generator.permutation(each) for each in codes)
    return x, classes, groups


def saved(folder, source, x, labels, groups):
    """The file, and the source that reads it."""
    file = Path(folder) / f"data.{source}"
    if source in TENSORS:
        arrays = {"x": x, "y": np.array(labels), "z": np.array(groups)}
        if source == "npz":
            np.savez(file, **arrays)
        else:
            tensors = {name: torch.from_numpy(values) for name, values in arrays.items()}
            torch.save(tensors, file) if source == "pt" else safetensors.torch.save_file(tensors, file)
        return TensorFile(path=str(file))
    table = pd.DataFrame({f"x{k}": x[:, k] for k in range(3)} | {"y": labels, "z": groups})
    if source == "two.csv":
        return TableFile(path=tuple(halves(Path(folder), table)), label="y", z="z")
    if source.startswith("hf."):
        written(file, table)
        from erasure.data.sources.hugging_face import HuggingFace

        return HuggingFace(files=str(file), columns=("x0", "x1", "x2"), label="y", z="z", modality="table")
    written(file, table, index=source == "indexed.csv")
    return TableFile(path=str(file), label="y", z="z")


def written(file, table, *, index=False):
    if file.suffix == ".parquet":
        table.to_parquet(file, index=False)
    elif file.suffix == ".jsonl":
        table.to_json(file, orient="records", lines=True, force_ascii=False)
    else:
        table.to_csv(file, index=index, sep="\t" if file.suffix == ".tsv" else ",", encoding="utf-8")


def halves(folder, table):
    """Two files; in the second one whole numbers stand as pandas writes them once a column has had a gap: 1.0."""
    middle = len(table) // 2
    second = table.iloc[middle:].copy()
    for name in ("y", "z"):
        if second[name].dtype == "int64" and second[name].abs().max() < 1000:
            second[name] = second[name].astype(float)
    for number, part in enumerate((table.iloc[:middle], second)):
        part.to_csv(folder / f"{number}.csv", index=False, encoding="utf-8")
        yield str(folder / f"{number}.csv")


def value(written):
    return int(written) if isinstance(written, float) else written


def cut_of(kind, labels, groups, first):
    """A splitter that names what is written in the row ``first``, and the rows that it means."""
    label, group = labels[first], groups[first]
    of_class = [i for i, each in enumerate(labels) if each == label]
    if kind == "Class":
        return ClassSplitter(**PARTS, labels=value(label)), of_class
    if kind == "NSamplesOfClass":
        return NSamplesOfClassSplitter(**PARTS, label=value(label), n_samples=1, shuffle=False), of_class[:1]
    if kind == "ByZ":
        return ByZSplitter(**PARTS, z_labels=value(group)), [i for i, each in enumerate(groups) if each == group]
    if kind == "ZRange":
        low = min(groups)
        return ZRangeSplitter(**PARTS, z_labels=(value(low), value(group))), [
            i for i, each in enumerate(groups) if low <= each <= group
        ]
    return ListSplitter(**PARTS, samples_ids=(first, 0)), sorted({first, 0})


def check(dtype, form, group_form, source, partition, n_classes, n_rows, seed):
    x, classes, z = drawn(dtype, n_rows, n_classes, seed)
    labels, groups = ([LABELS[how](int(k)) for k in codes] for how, codes in ((form, classes), (group_form, z)))
    if source in ("safetensors", "pt") and not {form, group_form} <= {*NUMERIC, "long"}:
        return  # tensors hold no text
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what is said is tested with each source
        try:
            data = saved(folder, source, x, labels, groups).load()
        except ErasureError as error:
            # Tensors hold whole numbers from 0 as labels; everything else is refused in words of our own.
            assert source in TENSORS and (form != "numbers" or group_form not in ("numbers", "from one", "gaps")), error
            assert str(error)
            return
    rows = data.x.gather(torch.arange(n_rows))
    assert rows.shape == (n_rows, 3)
    assert torch.equal(rows, torch.from_numpy(x.astype(np.float32)))
    codes = data.y.tolist()
    assert len(set(zip(codes, labels, strict=True))) == len(set(codes)) == len(set(labels)) == n_classes
    for label, code in zip(labels, codes, strict=True):
        assert (data.class_names[code] if data.class_names else str(code)) == str(value(label))
    if partition == "ZRange" and group_form not in NUMERIC:
        return  # words have no order but that of their codes
    splitter, meant = cut_of(partition, labels, groups, seed % n_rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a number is a name, and no code, is said
        forgotten, kept = splitter.split(data, {"all": torch.arange(n_rows)}, np.random.default_rng(0))
    assert sorted(forgotten.tolist()) == meant
    assert sorted([*forgotten.tolist(), *kept.tolist()]) == list(range(n_rows))


GENERATED = {
    "dtype": st.sampled_from(DTYPES),
    "form": st.sampled_from(sorted(LABELS)),
    "group_form": st.sampled_from(sorted(LABELS)),
    "partition": st.sampled_from(["Class", "NSamplesOfClass", "ByZ", "ZRange", "List"]),
    "n_classes": st.integers(2, 4),
    "n_rows": st.integers(8, 30),
    "seed": st.integers(0, 2**16),
}
FOUND = settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@settings(FOUND, max_examples=N_EXAMPLES)
@given(source=st.sampled_from(["csv", "indexed.csv", "tsv", "two.csv", "parquet", *TENSORS]), **GENERATED)
def test_what_is_read_and_cut_is_what_was_written(source, **drawn_values):
    check(source=source, **drawn_values)


@settings(FOUND, max_examples=max(1, N_EXAMPLES // 10))
@given(source=st.sampled_from(["hf.csv", "hf.jsonl", "hf.parquet"]), **GENERATED)
def test_what_the_library_of_data_sets_reads_is_what_was_written(source, **drawn_values):
    pytest.importorskip("datasets")
    check(source=source, **drawn_values)
