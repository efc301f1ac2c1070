"""Tensor files of every format are read, and nothing in them is ever run."""

import collections
import contextlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from erasure.data.sources.tensor_file import TensorFile
from erasure.errors import DataError

X, Y, Z = torch.arange(12.0).reshape(6, 2), torch.tensor([0, 1, 2, 0, 1, 2]), torch.arange(6)


def with_classes(dataset, n_classes):
    dataset.n_classes = n_classes
    return dataset


def a_torch_file(content, folder, **options):
    torch.save(content, folder / "data.pt", **options)
    return TensorFile(path=str(folder / "data.pt"))


@pytest.mark.parametrize(
    "content",
    [
        {"x": X, "y": Y},
        (X, Y),
        [X, Y],
        collections.OrderedDict(x=X, y=Y),
        TensorDataset(X, Y),
        Subset(TensorDataset(torch.cat([X, X]), torch.cat([Y, Y])), range(6)),
        ConcatDataset([TensorDataset(X[:2], Y[:2]), TensorDataset(X[2:], Y[2:])]),
    ],
    ids=lambda content: type(content).__name__,
)
def test_what_torch_saved_is_read(content, tmp_path):
    data = a_torch_file(content, tmp_path).load()
    assert torch.equal(data.x.values, X)
    assert torch.equal(data.y, Y)
    assert (data.name, data.n_classes) == ("data", 3)


def test_the_old_torch_format_is_read_as_safely(tmp_path):
    assert len(a_torch_file({"x": X, "y": Y}, tmp_path, _use_new_zipfile_serialization=False).load()) == 6


def test_safetensors_are_read(tmp_path):
    save_file({"x": X, "y": Y, "z": Z, "n_classes": torch.tensor(4)}, tmp_path / "d.safetensors")
    data = TensorFile(path=str(tmp_path / "d.safetensors")).load()
    assert (data.n_classes, data.z.tolist()) == (4, Z.tolist())


def test_npz_archives_are_read(tmp_path):
    np.savez_compressed(tmp_path / "d.npz", x=X.numpy().astype(np.float64), y=Y.numpy(), n_classes=5)
    data = TensorFile(path=str(tmp_path / "d.npz")).load()
    assert (data.n_classes, data.x.values.dtype, data.z) == (5, torch.float32, None)


def test_the_attribute_n_classes_is_used_and_a_parameter_wins_over_it(tmp_path):
    source = a_torch_file(with_classes(TensorDataset(X, Y), 7), tmp_path)
    assert source.load().n_classes == 7
    assert source.replace(n_classes=9).load().n_classes == 9


def test_columns_have_the_names_they_are_given(tmp_path):
    np.savez(tmp_path / "d.npz", x_train=X, y_train=Y, x_test=X[:3], y_test=Y[:3], person=Z)
    source = TensorFile(path=str(tmp_path / "d.npz"), x="x_test", y="y_test")
    assert len(source.load()) == 3
    assert source.replace(x="x_train", y="y_train", z="person").load().z.tolist() == Z.tolist()


def test_images_can_be_scaled_as_asked(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.full((2, 1, 8, 8), 16, dtype=np.uint8), y=[0, 1])
    data = TensorFile(path=str(tmp_path / "d.npz"), scale=1 / 16).load()
    assert data.modality == "image"
    assert data.x.gather(torch.arange(2)).max() == 1


class Malicious:
    """Leaves a file behind if it is ever unpickled."""

    def __init__(self, evidence):
        self.evidence = evidence

    def __reduce__(self):
        return Path.touch, (self.evidence,)


class Custom:
    """A data set class of somebody's own."""


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize(
    "wrap", [lambda bomb: bomb, lambda bomb: {"x": X, "y": Y, "extra": bomb}], ids=["bare", "beside tensors"]
)
def test_a_malicious_pickle_is_refused_and_never_run(tmp_path, new_format, wrap):
    evidence = tmp_path / "evidence"
    source = a_torch_file(wrap(Malicious(evidence)), tmp_path, _use_new_zipfile_serialization=new_format)
    with pytest.raises(DataError, match="refused because unpickling it could run any program"):
        source.load()
    assert not evidence.exists()


def test_a_plain_pickle_is_refused_and_never_run(tmp_path):
    evidence = tmp_path / "evidence"
    (tmp_path / "data.pkl").write_bytes(pickle.dumps(Malicious(evidence)))
    with pytest.raises(DataError, match="refused"):
        TensorFile(path=str(tmp_path / "data.pkl")).load()
    assert not evidence.exists()


def test_pickled_objects_in_an_npz_archive_are_refused_and_never_run(tmp_path):
    evidence = tmp_path / "evidence"
    np.savez(tmp_path / "d.npz", x=np.array([Malicious(evidence)], dtype=object), y=[0])
    with pytest.raises(DataError, match='"x" holds pickled Python objects'):
        TensorFile(path=str(tmp_path / "d.npz")).load()
    assert not evidence.exists()


def test_a_class_of_ones_own_is_named_with_the_way_to_convert_it(tmp_path):
    with pytest.raises(DataError) as error:
        a_torch_file(Custom(), tmp_path).load()
    assert f"it needs {Custom.__module__}.Custom" in str(error.value)
    assert "allowed are tensors and TensorDataset, Subset, ConcatDataset, range" in str(error.value)
    assert 'torch.save({"x": x, "y": y, "n_classes": k}, path)' in str(error.value)


def test_reading_leaves_the_list_of_safe_classes_as_it_was(tmp_path):
    before = torch.serialization.get_safe_globals()
    a_torch_file(TensorDataset(X, Y), tmp_path).load()
    assert set(torch.serialization.get_safe_globals()) == set(before)


def test_a_missing_tensor_suggests_the_nearest_name(tmp_path):
    with pytest.raises(DataError, match='no tensor "y"; it has x, labels'):
        a_torch_file({"x": X, "labels": Y}, tmp_path).load()
    with pytest.raises(DataError, match='did you mean "labels"'):
        a_torch_file({"x": X, "labels": Y}, tmp_path).replace(y="label").load()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (X, "holds one tensor"),
        ((X, Y, Z, Z), "found 4"),
        ({"x": X, "y": 3}, '"y" is a int, expected a tensor'),
        ({"x": X, "y": Y[:2]}, "x has 6 samples, but y has 2"),
        ({"x": X / 0, "y": Y}, "NaN or infinite"),
        ({"x": X, "y": Y + 0.5}, "label of sample 0 is 0.5"),
        (3, "found int"),
    ],
)
def test_content_that_is_no_data_set_is_refused(content, said, tmp_path):
    with pytest.raises(DataError, match=said) as error:
        a_torch_file(content, tmp_path).load()
    assert "data.pt" in str(error.value)


@pytest.mark.parametrize("name", ["d.pt", "d.npz", "d.safetensors"])
@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"hello, this is text", b"PK\x03\x04" + b"x" * 50])
def test_an_unreadable_file_is_named(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        TensorFile(path=str(tmp_path / name)).load()


@pytest.mark.parametrize("suffix", ["pt", "npz", "safetensors"])
def test_a_truncated_file_is_named(suffix, tmp_path):
    file = tmp_path / f"d.{suffix}"
    contents = {"x": torch.randn(100, 100), "y": torch.zeros(100, dtype=torch.int64)}
    {"pt": torch.save, "safetensors": save_file, "npz": lambda c, f: np.savez(f, **{k: v.numpy() for k, v in c.items()})}[suffix](
        contents, file
    )
    file.write_bytes(file.read_bytes()[:20_000])
    with pytest.raises(DataError, match="d." + suffix):
        TensorFile(path=str(file)).load()


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}], ids=["new format", "old format"])
def test_damaged_bytes_are_either_read_or_refused(options, tmp_path):
    source = a_torch_file({"x": X, "y": Y}, tmp_path, **options)
    file, generator = Path(source.path), np.random.default_rng(0)
    content = file.read_bytes()
    for _ in range(150):
        damaged = bytearray(content)
        for position in generator.integers(0, len(content), size=3):
            damaged[position] = generator.integers(0, 256)
        file.write_bytes(damaged)
        with contextlib.suppress(DataError):
            source.load()


def test_a_single_array_is_not_an_archive(tmp_path):
    np.save(tmp_path / "d.npy", X.numpy())
    (tmp_path / "d.npy").rename(tmp_path / "d.npz")
    with pytest.raises(DataError, match="holds one array"):
        TensorFile(path=str(tmp_path / "d.npz")).load()


def test_a_missing_file_suggests_the_nearest_name(tmp_path):
    a_torch_file((X, Y), tmp_path)
    with pytest.raises(DataError, match=r'did you mean "data\.pt"'):
        TensorFile(path=str(tmp_path / "dta.pt")).load()
    with pytest.raises(DataError, match="does not exist"):
        TensorFile(path=str(tmp_path / "nowhere" / "data.pt")).fingerprint()
    with pytest.raises(DataError, match="is a folder"):
        TensorFile(path=str(tmp_path)).load()


def test_the_fingerprint_follows_the_content_and_not_the_name(tmp_path):
    first = a_torch_file((X, Y), tmp_path)
    before = first.fingerprint()
    (tmp_path / "data.pt").rename(tmp_path / "other.pt")
    assert TensorFile(path=str(tmp_path / "other.pt")).fingerprint() == before
    assert a_torch_file((X + 1, Y), tmp_path).fingerprint() != before
