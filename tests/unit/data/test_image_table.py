"""Pictures listed in a table: read as they are, brought to one size, and named where they are wrong."""

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("PIL")
from PIL import Image

from erasure.component import canonical
from erasure.data.sources.image_table import ImageTable
from erasure.errors import DataError, InvalidParameters

SIZES = [(6, 5), (6, 5), (9, 4), (5, 6)]


def picture(seed, size=(6, 5), mode="RGB"):
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


@pytest.fixture
def write(tmp_path):
    """A table of pictures, given as (picture, label, group)."""

    def a_table(*rows, place=tmp_path):
        (place / "pictures").mkdir(parents=True, exist_ok=True)
        lines = ["path,label,person"]
        for i, (each, label, person) in enumerate(rows):
            each.save(place / "pictures" / f"{i}.png")
            lines.append(f"pictures/{i}.png,{label},{person}")
        (place / "people.csv").write_text("\n".join(lines) + "\n")
        return str(place / "people.csv")

    return a_table


def test_pictures_labels_and_groups_are_read(write):
    path = write((picture(0), "yes", "Ben"), (picture(1), "no", "Ann"), (picture(2), "yes", "Ann"))
    data = ImageTable(path=path, label="label", z="person").load()
    assert (data.y.tolist(), data.class_names) == ([1, 0, 1], ("no", "yes"))
    assert (data.z.tolist(), data.z_names) == ([1, 0, 0], ("Ann", "Ben"))
    assert (data.name, data.modality, data.x_shape) == ("people", "image", (3, 5, 6))
    assert torch.equal(data.x.values[2], torch.from_numpy(np.array(picture(2))).permute(2, 0, 1))
    assert torch.allclose(data.x.gather(torch.tensor([1]))[0], data.x.values[1] / 255)


def test_several_groups_never_share_a_code(write):
    path = write((picture(0), "yes", "Ben"), (picture(1), "no", "Ann"))
    data = ImageTable(path=path, label="label", z=["label", "person"]).load()
    assert data.z_names == ("label=no", "label=yes", "person=Ann", "person=Ben")
    assert data.z.tolist() == [[1, 3], [0, 2]]


def test_size_makes_all_pictures_the_same(write):
    path = write(*((picture(i, size), i, i) for i, size in enumerate(SIZES)))
    with pytest.raises(DataError, match=r'row 3 of people\.csv.*2\.png" has 4×9 pixels .* the first one 5×6; .*Resize'):
        ImageTable(path=path, label="label").load()
    data = ImageTable(path=path, label="label", size=(8, 7), transforms="CenterCrop((6, 7))").load()
    assert data.x_shape == (3, 6, 7)
    expected = picture(2, SIZES[2]).resize((7, 8), Image.Resampling.BILINEAR).crop((0, 1, 7, 7))
    assert torch.equal(data.x.values[2], torch.from_numpy(np.array(expected)).permute(2, 0, 1))


def test_colour_after_grey_is_refused_and_grey_after_colour_is_not(write):
    colour, grey = picture(0), picture(1, mode="L")
    assert ImageTable(path=write((colour, 0, 0), (grey, 1, 0)), label="label").load().x_shape == (3, 5, 6)
    path = write((grey, 0, 0), (colour, 1, 0))
    with pytest.raises(DataError, match=r'1\.png" is in colour, the first picture is grey; .*Grayscale'):
        ImageTable(path=path, label="label").load()
    assert ImageTable(path=path, label="label", channels=3).load().x_shape == (3, 5, 6)
    assert ImageTable(path=path, label="label", channels=1).load().x_shape == (1, 5, 6)
    assert ImageTable(path=path, label="label", transforms="Grayscale(1)").load().x_shape == (1, 5, 6)


@pytest.mark.parametrize("mode", ["RGBA", "P", "CMYK", "LA", "1"])
def test_other_kinds_of_pictures_become_grey_or_colour(write, tmp_path, mode):
    path = write((picture(0), 0, 0), (picture(1), 1, 0))
    for i in range(2):
        picture(i).convert(mode).save(tmp_path / "pictures" / f"{i}.tiff")
    table = tmp_path / "others.csv"
    table.write_text("path,label\npictures/0.tiff,0\npictures/1.tiff,1\n")
    data = ImageTable(path=str(table), label="label").load()
    assert data.x_shape == ((1 if mode in {"LA", "1"} else 3), 5, 6)
    assert path != str(table)


def test_pictures_of_16_bits_are_refused(write, tmp_path):
    path = write((picture(0), 0, 0))
    Image.fromarray(np.full((5, 6), 4000, dtype=np.uint16)).save(tmp_path / "pictures" / "0.png")
    with pytest.raises(DataError, match="more than 8 bits"):
        ImageTable(path=path, label="label").load()


def test_a_damaged_picture_is_named_with_its_row(write, tmp_path):
    path = write((picture(0), 0, 0), (picture(1), 1, 0))
    (tmp_path / "pictures" / "1.png").write_bytes(b"no picture at all")
    with pytest.raises(DataError, match=r'row 2 of people\.csv: ".*1\.png" cannot be decoded'):
        ImageTable(path=path, label="label").load()


def test_missing_pictures_and_values_are_named(write, tmp_path):
    path = write((picture(0), 0, "x"), (picture(1), 1, ""))
    with pytest.raises(
        DataError, match=r'missing values in "person" \(1, first in row 2 of people\.csv\); give missing = "drop"'
    ):
        ImageTable(path=path, label="label", z="person").load()
    with pytest.raises(DataError, match='no column "labell"; it has path, label, person; did you mean "label"'):
        ImageTable(path=path, label="labell").load()
    (tmp_path / "pictures" / "1.png").unlink()
    for action in (ImageTable(path=path, label="label").load, ImageTable(path=path, label="label").fingerprint):
        with pytest.raises(DataError, match=r"1 pictures are not there: row 2 of people\.csv.*give folder"):
            action()


def test_rows_without_a_picture_are_refused_in_words_or_left_out(write, tmp_path):
    path = Path(write(*((picture(i), label, i) for i, label in enumerate(("cat", "dog", "dog")))))
    path.write_text(path.read_text().replace("pictures/1.png", ""))
    with pytest.raises(DataError, match=r'missing values in "path" \(1, first in row 2 of people\.csv\); give missing = "drop"'):
        ImageTable(path=str(path), label="label").load()
    data = ImageTable(path=str(path), label="label", missing="drop").load()
    assert (data.y.tolist(), data.rows.tolist(), data.class_names) == ([0, 1], [0, 2], ("cat", "dog"))


def test_paths_may_be_relative_to_another_folder(write, tmp_path):
    path = write((picture(0), 0, 0), (picture(1), 1, 0))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "pictures").rename(tmp_path / "elsewhere" / "pictures")
    assert len(ImageTable(path=path, label="label", folder=str(tmp_path / "elsewhere")).load()) == 2


def test_more_labels_than_classes_are_refused(write):
    path = write(*((picture(i), f"c{i}", 0) for i in range(3)))
    with pytest.raises(DataError, match='"label" has 3 values, expected 2: c0, c1, c2'):
        ImageTable(path=path, label="label", task="binary").load()


def test_transforms_are_checked_at_once():
    with pytest.raises(InvalidParameters, match="RandomHorizontalFlip"):
        ImageTable(path="x.csv", label="y", transforms="RandomHorizontalFlip()")


def test_a_changed_picture_changes_the_fingerprint_and_nothing_else(write, tmp_path):
    path = write((picture(0), 0, 0), (picture(1), 1, 0))
    before = ImageTable(path=path, label="label").fingerprint()
    assert ImageTable(path=path, label="label", folder=str(tmp_path)).fingerprint() == before
    assert canonical(ImageTable(path=path, label="label", folder=str(tmp_path))) == canonical(
        ImageTable(path=path, label="label")
    )
    picture(5).save(tmp_path / "pictures" / "1.png")
    assert ImageTable(path=path, label="label").fingerprint() != before
