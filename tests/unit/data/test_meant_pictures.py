"""Folders of pictures: what is no class is none, and what one source refuses, no other reads wrongly."""

import numpy as np
import pytest
from PIL import Image

from erasure.data.sources.torchvision_dataset import TorchVision
from erasure.errors import DataError


def folder(root, dtype=np.uint8):
    for k, name in enumerate(("ant", "bee")):
        (root / name).mkdir(parents=True)
        for number in range(2):
            Image.fromarray(np.full((4, 4), 40 * k + number, dtype=dtype)).save(root / name / f"{number}.png")
    return TorchVision(dataset="ImageFolder", root=str(root))


@pytest.mark.parametrize("empty", [True, False])
def test_hidden_folders_are_no_classes(tmp_path, empty):
    source = folder(tmp_path / "all")
    hidden = tmp_path / "all" / ".ipynb_checkpoints"
    hidden.mkdir()
    (tmp_path / "all" / "ant" / "._0.png").write_bytes(b"no picture")
    if not empty:
        Image.new("L", (4, 4)).save(hidden / "copy.png")
    found = source.load()
    assert found.class_names == ("ant", "bee")
    assert found.y.tolist() == [0, 0, 1, 1]


def test_parts_of_the_data_are_no_classes(tmp_path):
    source = folder(tmp_path / "all")
    for old, new in (("ant", "train"), ("bee", "test")):
        (tmp_path / "all" / old).rename(tmp_path / "all" / new)
    with pytest.raises(DataError, match="holds test and train, which are parts of the data"):
        source.load()
    (tmp_path / "all" / "train").rename(tmp_path / "all" / "ant")
    with pytest.warns(UserWarning, match='"test" is read as a class'):
        assert source.load().class_names == ("ant", "test")


def test_pictures_of_sixteen_bits_are_refused_by_name(tmp_path):
    with pytest.raises(DataError, match=r"0\.png.*more than 8 bits"):
        folder(tmp_path / "all", np.uint16).load()
