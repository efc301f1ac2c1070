"""What is accepted is what was meant, or is said: classes by number, equal values, row numbers, axes and labels."""

import numpy as np
import pandas as pd
import pytest
import torch

from erasure.data.arrays import dataset_from, datasets_from
from erasure.data.dataset import Dataset
from erasure.data.reading.held import held_columns
from erasure.data.reading.table_advice import looks_like
from erasure.data.sources.table import TableFile
from erasure.data.sources.tensor_file import TensorFile
from erasure.data.splitters import ByZSplitter, ClassSplitter, NSamplesOfClassSplitter, ZRangeSplitter
from erasure.errors import DataError, PartitionError
from erasure.training.batches import TensorColumn

PARTS = ("forget", "rest")


def data(y, class_names=(), z=None, z_names=()):
    y = torch.tensor(y)
    return Dataset(
        name="ratings",
        x=TensorColumn(torch.zeros(len(y), 2)),
        y=y,
        n_classes=max(len(class_names), int(y.max()) + 1),
        x_shape=(2,),
        class_names=class_names,
        z=None if z is None else torch.tensor(z),
        z_names=z_names,
    )


def cut(splitter, of):
    chosen, _ = splitter.split(of, {"all": torch.arange(len(of))}, np.random.default_rng(0))
    return chosen.tolist()


def test_a_number_is_the_class_that_the_data_call_so():
    stars = data([0, 1, 2, 1, 0], ("1", "2", "3"))
    with pytest.warns(UserWarning, match='class 1 is taken for the one that the data call "1"; the class with the code 1 is "2"'):
        assert cut(ClassSplitter(parts_names=PARTS, labels=1), stars) == [0, 4]
    with pytest.warns(UserWarning, match="class 2"):
        assert cut(NSamplesOfClassSplitter(parts_names=PARTS, label=2, n_samples=2, shuffle=False), stars) == [1, 3]
    assert cut(ClassSplitter(parts_names=PARTS, labels=3), stars) == [2]
    assert cut(ClassSplitter(parts_names=PARTS, labels="3.0"), stars) == [2]
    with pytest.raises(PartitionError, match="no class 0; it has 1, 2, 3"):
        cut(ClassSplitter(parts_names=PARTS, labels=0), stars)
    assert cut(ClassSplitter(parts_names=PARTS, labels=1), data([0, 1, 2], ("cat", "dog", "owl"))) == [1]


def test_groups_are_cut_by_the_values_in_the_data():
    people = data([0, 1, 0], z=[0, 1, 2], z_names=("10", "20", "30"))
    assert cut(ByZSplitter(parts_names=PARTS, z_labels=20), people) == [1]
    assert cut(ZRangeSplitter(parts_names=PARTS, z_labels=(15, 30)), people) == [1, 2]
    two = data([0, 1], z=[[0, 2], [1, 3]], z_names=("age=7", "age=8", "town=Rome", "town=Bonn"))
    assert cut(ByZSplitter(parts_names=PARTS, z_labels=8), two) == [1]
    assert cut(ZRangeSplitter(parts_names=PARTS, z_labels=(7, 7)), two) == [0]


def table(tmp_path, text, name="rows.csv", **parameters):
    (tmp_path / name).write_text(text)
    return TableFile(path=str(tmp_path / name), label="y", **parameters)


def test_equal_numbers_are_one_class_and_other_texts_are_not(tmp_path):
    (tmp_path / "more.csv").write_text("a,y\n4,1.0\n5,2.0\n6,3.0\n")
    source = table(tmp_path, "a,y\n1,1\n2,2\n3,3\n")
    both = source.replace(path=(str(tmp_path / "rows.csv"), str(tmp_path / "more.csv"))).load()
    assert both.class_names == ("1", "2", "3")
    assert both.y.tolist() == [0, 1, 2, 0, 1, 2]
    with pytest.warns(UserWarning, match='"007" and "7", which are written otherwise'):
        assert table(tmp_path, "a,y\n1,007\n2,7\n3,8\n").load().class_names == ("007", "7", "8")


def test_long_identifiers_stay_apart(tmp_path):
    rows = "".join(f"{k},{1234567890123456780 + k % 3},{k % 2}\n" for k in range(6))
    found = table(tmp_path, f"a,who,y\n{rows}", z=("who",)).load()
    assert len(found.z.unique()) == 3
    assert found.z_names[1] == "1234567890123456781"
    assert cut(ByZSplitter(parts_names=PARTS, z_labels=1234567890123456781), found) == [1, 4]


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "__index_level_0__", "index"])
def test_row_numbers_that_programs_write_are_no_features(tmp_path, name):
    with pytest.warns(UserWarning, match="numbers the rows and is left out"):
        assert table(tmp_path, f"{name},a,y\n0,5,0\n2,6,1\n1,7,0\n").load().feature_names == ("a",)


def test_a_column_without_a_name_that_holds_values_is_refused_with_its_place(tmp_path):
    with pytest.raises(DataError, match=r"column 1 has no name.*index_column = 1"):
        table(tmp_path, "a,,y\n0,0.5,0\n2,0.5,1\n").load()


def test_truth_values_in_text_are_numbers(tmp_path):
    assert table(tmp_path, "a,y\nTrue,0\nfalse,1\n").load().x.values.flatten().tolist() == [1.0, 0.0]


def test_a_decimal_comma_is_read_where_it_is_said(tmp_path):
    text = 'a,y\n"1.234,5",0\n"0,25",1\n'
    with pytest.raises(DataError, match='decimal = ","'):
        table(tmp_path, text).load()
    assert table(tmp_path, text, decimal=",").load().x.values.flatten().tolist() == [1234.5, 0.25]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["1,204", "99", "31,500"], "thousands separator.*RemoveCharacter"),
        (["1\u202f204", "31\u202f500"], r'thousands separator.*"\\u202f"'),
        (["1\u2019204", "31\u2019500"], "thousands separator"),
        (["\u22124.5", "3"], "minus sign.*hyphen"),
        (["(4.5)", "3", "12"], "negative ones in brackets"),
        (["$1,200.50", "$3.00"], "currency.*thousands"),
        (["4.5%", "10%"], "percent sign.*RemoveCharacter"),
        (["0,13", "7,5"], "decimal comma"),
        (["2024-02-29", "2023-01-01"], "dates"),
        (["1", "2", "n/a", "4"], "na_values"),
        (["red", "blue", "red", "blue", "red"], "categorical"),
        (["[1, 2]", "[3]"], "ParseLists"),
        (["CCO", "c1ccccc1", "CC(=O)O"], "SMILES"),
        (["it was fine", "not so good", "a long day"], "free text"),
        (["10:30", "9:05", "23:59:59"], "times of the day"),
        (["0x1f", "0xA0", "0x00"], "hexadecimal"),
        (['{"a": 1}', '{"a": 2}', "{}"], "JSON objects"),
        (["1.5 kg", "20 kg", "7 kg"], 'unit "kg".*"character": " kg"'),
        (["1 kg", "20 g", "7 kg", "8 t"], "free text"),
    ],
)
def test_advice_fits_what_was_found(values, said):
    import re

    assert re.search(said, looks_like(values, "column"))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (("1.5 kg", "20 kg", "7 kg"), [1.5, 20.0, 7.0]),
        (("1\u202f500", "20", "7\u202f000.5"), [1500.0, 20.0, 7000.5]),  # what looks like a space is shown to be copied
        (("1\u00a0500", "20\u00a0000", "7\u00a0000"), [1500.0, 20000.0, 7000.0]),
    ],
)
def test_characters_are_taken_off_as_advised(tmp_path, written, meant):
    import json
    import re

    from erasure.cli.prose import printable
    from erasure.data.preprocess.values import RemoveCharacter
    from erasure.data.sources.preprocessed import Preprocessed

    source = table(tmp_path, "a,y\n" + "".join(f"{each},{i % 2}\n" for i, each in enumerate(written)))
    with pytest.raises(DataError, match="RemoveCharacter") as caught:
        source.load()
    step = json.loads(re.search(r"{.*}}", printable(str(caught.value)))[0])
    made = Preprocessed(data_source=source, steps=(RemoveCharacter(**step["parameters"]),))
    assert made.load().x.values.flatten().tolist() == meant


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,y\n1,0.5\n2,1.25\n", "expected whole numbers or text; classes are learned: cut amounts"),
        ("a,y\n1,no\n2,\n", r'missing values in "y" \(1, first in row 2 of .*\); give missing = "drop"$'),
    ],
)
def test_labels_that_are_none_are_told_what_to_do(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        table(tmp_path, text).load()


def test_lists_of_one_length_become_columns(tmp_path):
    frame = pd.DataFrame({"e": [[1.0, 2.0], [3.0, 4.0]], "y": [0, 1]})
    frame.to_parquet(tmp_path / "t.parquet")
    found = TableFile(path=str(tmp_path / "t.parquet"), label="y").load()
    assert found.feature_names == ("e[0]", "e[1]")
    assert found.x.values.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    pd.DataFrame({"e": [[1.0], [3.0, 4.0]], "y": [0, 1]}).to_parquet(tmp_path / "u.parquet")
    with pytest.raises(DataError, match=r"different lengths.*ParseLists"):
        TableFile(path=str(tmp_path / "u.parquet"), label="y").load()


def pictures(tmp_path, x, **parameters):
    np.savez(tmp_path / "p.npz", x=x, y=np.arange(len(x)) % 2)
    return TensorFile(path=str(tmp_path / "p.npz"), **parameters)


def test_channels_are_recognised_or_asked_for(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
    with pytest.warns(UserWarning, match="3 channels and 6x5 pixels"):
        found = pictures(tmp_path, x).load()
    assert found.x_shape == (3, 6, 5)
    assert torch.equal(found.x.values, torch.from_numpy(x).permute(0, 3, 1, 2))
    assert pictures(tmp_path, x.transpose(0, 3, 1, 2)).load().x_shape == (3, 6, 5)
    with pytest.warns(UserWarning, match="grey"):
        assert pictures(tmp_path, x[..., 0]).load().x_shape == (1, 6, 5)
    for odd in (x[:, :3, :3], x[:, :3, :5]):
        with pytest.raises(DataError, match=r"two ways.*axes"):
            pictures(tmp_path, odd).load()
        assert pictures(tmp_path, odd, axes="channels_last").load().x_shape[0] == 3
    assert pictures(tmp_path, x[..., 0], axes="as_they_are").load().x_shape == (6, 5)


def test_pictures_of_sixteen_bits_are_no_tokens(tmp_path):
    with pytest.raises(DataError, match="more than 8 bits"):
        pictures(tmp_path, np.full((3, 1, 4, 4), 40_000, dtype=np.uint16)).load()


def test_rows_with_one_one_are_classes_unless_they_are_said_to_be_labels():
    x, hot = torch.zeros(3, 2), torch.eye(3)
    with pytest.warns(UserWarning, match="taken for classes"):
        assert dataset_from((x, hot)).y.tolist() == [0, 1, 2]
    assert dataset_from((x, hot), task="multilabel").task == "multilabel"
    several = torch.tensor([[1, 1, 0], [0, 0, 0], [1, 0, 0]])
    # One part alone would look like classes.
    parts = datasets_from({"forget": (x, hot), "retain": (x, several)})
    assert {part.task for part in parts.values()} == {"multilabel"}


def test_texts_of_all_parts_share_one_table_of_codes():
    x = torch.zeros(2, 2)
    parts = datasets_from({"forget": (x, np.array(["owl", "owl"])), "retain": (x, np.array(["ant", "bee"]))})
    assert parts["forget"].y.tolist() == [2, 2]
    assert parts["retain"].class_names == ("ant", "bee", "owl")
    with pytest.raises(DataError, match=r"forget has texts.*retain has numbers"):
        datasets_from({"forget": (x, np.array(["owl", "owl"])), "retain": (x, torch.tensor([0, 1]))})


@pytest.mark.parametrize(
    "held",
    [
        (pd.DataFrame({"a": [1.5, 2.5], "b": [True, False]}), pd.Series(["u", "v"], dtype="category")),
        (pd.DataFrame({"a": pd.array([1, 2], dtype="Int64")}), pd.Series([0, 1], dtype="Int64")),
        [
            {"input_ids": [1, 2], "attention_mask": [1, 0], "labels": 1},
            {"input_ids": [3, 4], "attention_mask": [1, 1], "labels": 0},
        ],
        torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.zeros(2, 3), torch.tensor([0, 1])), shuffle=True),
        (np.zeros((2, 3), dtype=np.float16), np.array([b"x", b"y"])),
    ],
    ids=["frame", "nullable", "dicts", "loader", "bytes"],
)
def test_forms_that_people_hold_are_read(held):
    found = held_columns(held)
    assert len(found.x) == len(found.y) == 2


def test_forms_that_cannot_be_read_say_what_to_give():
    samples = torch.utils.data.TensorDataset(torch.zeros(4, 3), torch.zeros(4).long())
    weighted = torch.utils.data.WeightedRandomSampler([1.0] * 4, 4)
    with pytest.raises(DataError, match=r"WeightedRandomSampler.*loader.dataset"):
        held_columns(torch.utils.data.DataLoader(samples, sampler=weighted))
    with pytest.raises(DataError, match=r"collate_fn.*loader.dataset"):
        held_columns(torch.utils.data.DataLoader(samples, collate_fn=list))
    with pytest.raises(DataError, match="keys words, label"):
        held_columns([{"words": "so", "label": 1}])
    with pytest.raises(DataError, match="sample 1 is nan"):
        dataset_from((torch.zeros(2, 1), pd.Series([1, None], dtype="Int64")))
