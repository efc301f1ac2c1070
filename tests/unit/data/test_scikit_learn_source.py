"""The data sets that scikit-learn ships, beside what its own loaders return."""

import numpy as np
import pytest
import torch
from sklearn import datasets

from erasure.data.sources import scikit_learn
from erasure.data.sources.scikit_learn import Sklearn


@pytest.mark.parametrize("name", ["digits", "breast_cancer", "iris", "wine"])
@pytest.mark.parametrize("way", ["from the files", "by the library"])
def test_values_labels_and_names_are_those_of_the_librarys_loader(name, way, monkeypatch):
    wanted = getattr(datasets, f"load_{name}")()
    if way == "from the files":
        monkeypatch.delattr(datasets, f"load_{name}")
    else:
        monkeypatch.setattr(scikit_learn, "find_spec", lambda library: None)
    found = Sklearn(name=name).load()
    values = wanted.images[:, None].astype(np.uint8) if name == "digits" else wanted.data.astype(np.float32)
    assert torch.equal(found.x.values, torch.from_numpy(values))
    assert found.y.tolist() == wanted.target.tolist()
    assert found.class_names == tuple(map(str, wanted.target_names))
    assert found.feature_names == (() if name == "digits" else tuple(map(str, wanted.feature_names)))


def test_a_file_of_another_size_is_left_to_the_library(tmp_path):
    (tmp_path / "iris.csv").write_text("151,4,a,b,c\n5.1,3.5,1.4,0.2,0\n")
    assert scikit_learn._read("iris", tmp_path / "iris.csv") is None
