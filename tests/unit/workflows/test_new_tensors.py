"""Which tensors of a file, and which files of a folder, ``erasure new`` takes for inputs and labels."""

import numpy as np
import pytest

from erasure.errors import ConfigError, MissingDependency
from erasure.workflows.new_data import chosen_data

X, Y = np.random.default_rng(0).random((12, 4), dtype=np.float32), np.arange(12) % 3


def chosen(path, given="", **arrays):
    """Names of inputs and labels, and the notices."""
    np.savez(path / "t.npz", **arrays)

    def ask(columns, likely=""):
        return given or likely or pytest.fail(f"asked for one of {', '.join(columns)}")

    found = chosen_data(str(path / "t.npz"), ask)
    return found.source["parameters"].get("x", "x"), found.source["parameters"].get("y", "y"), found.notices


@pytest.mark.parametrize(
    ("names", "x", "y"),
    [
        (("images", "labels"), "images", "labels"),
        (("X", "y"), "X", "y"),
        (("XTrain", "yTrain", "XTest", "yTest"), "XTrain", "yTrain"),
        (("x_test", "y_test", "x_train", "y_train"), "x_train", "y_train"),
        (("train_features", "train_targets", "val_features", "val_targets"), "train_features", "train_targets"),
        (("embeddings", "label"), "embeddings", "label"),
    ],
)
def test_inputs_and_labels_are_told_by_their_names(tmp_path, names, x, y):
    arrays = {name: Y if i % 2 else X for i, name in enumerate(names)}
    given = "label" if "embeddings" in names else ""  # no name says that embeddings are the inputs
    found_x, found_y, notices = chosen(tmp_path, given, **arrays)
    assert (found_x, found_y) == (x, y)
    assert bool(notices) == (len(names) > 2)


def test_the_label_that_is_named_is_taken(tmp_path):
    assert chosen(tmp_path, "fine", x=X, y=Y, fine=Y[::-1])[:2] == ("x", "fine")
    assert chosen(tmp_path, "kind", emb=X, kind=Y, ids=np.arange(12))[:2] == ("emb", "kind")
    with pytest.raises(ConfigError, match=r'has no tensor "fien"; there are x, fine; did you mean "fine"\?'):
        chosen(tmp_path, "fien", x=X, fine=Y)


def test_inputs_that_cannot_be_told_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r'which of a, b, kind are the inputs to the labels "kind" cannot be told'):
        chosen(tmp_path, "kind", a=X, b=X, kind=Y)


def test_pictures_are_those_that_the_source_reads(tmp_path):
    from erasure.training.torchvision_operators import torchvision
    from erasure.workflows import new_data

    try:
        folder = torchvision("datasets", "the test").folder
    except MissingDependency:
        pytest.skip("torchvision is not installed")
    assert set(folder.IMG_EXTENSIONS) == new_data._PICTURES
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.gif").write_bytes(b"GIF89a")
    with pytest.raises(ConfigError, match="one folder of pictures for each of two or more classes; without pictures: a, b"):
        chosen_data(str(tmp_path), lambda columns, likely="": likely)
