"""Generated files: whatever numbers and labels are written how, what is read is what was meant, or one clear error says why not."""

import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from erasure.data.sources.table import TableFile
from erasure.data.sources.tensor_file import TensorFile
from erasure.data.splitters import ClassSplitter
from erasure.errors import ErasureError

N_EXAMPLES = int(os.environ.get("ERASURE_PROPERTY_EXAMPLES", "300"))
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
"""How the classes 0, 1, 2, … are written."""


def rows_of(draw_dtype, n_rows, n_classes, seed):
    generator = np.random.default_rng(seed)
    x = generator.integers(0, 2 if draw_dtype == "bool" else 100, (n_rows, 3)).astype(draw_dtype)
    classes = np.concatenate([np.arange(n_classes), generator.integers(0, n_classes, n_rows - n_classes)])
    return x, generator.permutation(classes)


def saved(folder, source, x, labels):
    """The file, and the source that reads it."""
    file = Path(folder) / f"data.{source}"
    if source == "npz":
        np.savez(file, x=x, y=np.array(labels))
        return TensorFile(path=str(file))
    table = pd.DataFrame({f"x{k}": x[:, k] for k in range(3)} | {"y": labels})
    if source == "parquet":
        table.to_parquet(file, index=False)
    else:
        table.to_csv(file, index=source == "indexed.csv", encoding="utf-8")
    return TableFile(path=str(file), label="y")


@settings(max_examples=N_EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    dtype=st.sampled_from(DTYPES),
    form=st.sampled_from(sorted(LABELS)),
    source=st.sampled_from(["csv", "indexed.csv", "parquet", "npz"]),
    n_classes=st.integers(2, 4),
    n_rows=st.integers(8, 30),
    seed=st.integers(0, 2**16),
)
def test_what_is_read_is_what_was_written(dtype, form, source, n_classes, n_rows, seed):
    x, classes = rows_of(dtype, n_rows, n_classes, seed)
    labels = [LABELS[form](int(k)) for k in classes]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what is said is tested with each source
        try:
            data = saved(folder, source, x, labels).load()
        except ErasureError as error:
            # Tensors hold whole numbers from 0 as labels; everything else is refused in words of our own.
            assert source == "npz", error
            assert str(error)
            return
    rows = data.x.gather(torch.arange(n_rows))
    assert rows.shape == (n_rows, 3)
    assert torch.equal(rows, torch.from_numpy(x.astype(np.float32)))
    codes = data.y.tolist()
    assert len(set(zip(codes, labels, strict=True))) == len(set(codes)) == len(set(labels)) == n_classes
    called = {label: data.class_names[code] if data.class_names else str(code) for code, label in zip(codes, labels, strict=True)}
    for label, name in called.items():
        assert name == (str(int(label)) if isinstance(label, float) else str(label))
        cut = ClassSplitter(parts_names=("forget", "retain"), labels=label if isinstance(label, int | str) else int(label))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that a number is a name, and no code, is said
            forgotten, _ = cut.split(data, {"all": torch.arange(n_rows)}, np.random.default_rng(0))
        assert sorted(forgotten.tolist()) == [i for i, each in enumerate(labels) if each == label]
