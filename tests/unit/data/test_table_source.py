"""Tables from CSV, TSV and Parquet: stable codes, and a clear word about everything that is wrong."""

import gzip
import os
import tempfile
import warnings
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from erasure.data.preprocess.moving import MoveLabels
from erasure.data.preprocess.values import ParseLists
from erasure.data.reading import table_columns, table_spool
from erasure.data.sources.preprocessed import Preprocessed
from erasure.data.sources.table import TableFile
from erasure.errors import DataError, InvalidParameters

TEST_DATA = Path(os.environ.get("ERASURE_TEST_DATA", Path(__file__).parents[3] / "../shared/data"))

CSV = """age, job , city,label
20, cook, Rome,yes
30, "smith, black", Oslo,no
40.5, cook, Oslo,yes
"""


@pytest.fixture(autouse=True, params=["in memory", "in a file"])
def place(request, monkeypatch):
    """Every table is read twice: as a small one, and as one that is too large for memory, three rows at a time."""
    if request.param == "in a file":
        monkeypatch.setattr(table_spool, "_IN_MEMORY", 0)
        if "original" not in request.node.name:
            monkeypatch.setattr(table_columns, "CHUNK_ROWS", 3)
    return request.param


@pytest.fixture
def write(tmp_path):
    def a_file(text, name="people.csv", **encoding):
        file = tmp_path / name
        file.write_text(text, newline="", **encoding)
        return str(file)

    return a_file


def numbers(*rows, header="a,b,y"):
    return "\n".join([header, *rows]) + "\n"


def test_text_becomes_stable_codes_and_numbers_stay(write):
    data = TableFile(path=write(CSV), label="label", categorical=["job"], z=["city"]).load()
    assert data.feature_names == ("age", "job=cook", "job=smith, black")
    assert data.x.values.tolist() == [[20, 1, 0], [30, 0, 1], [40.5, 1, 0]]
    assert data.x.values.dtype == torch.float32
    assert (data.y.tolist(), data.class_names) == ([1, 0, 1], ("no", "yes"))
    assert (data.z.tolist(), data.z_names) == ([1, 0, 0], ("Oslo", "Rome"))
    assert (data.name, data.modality, data.x_shape) == ("people", "table", (3,))


def test_no_file_is_left_behind(write, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    source = TableFile(path=write(CSV + ", cook, Bonn,no\n"), label="label", categorical=["job"], z=["city"], missing="drop")
    assert len(source.load()) == 3
    with pytest.raises(DataError, match="text in the feature columns city"):
        source.replace(z=()).load()
    assert [path.name for path in tmp_path.iterdir()] == ["people.csv"]


@pytest.mark.parametrize(
    ("values", "is_said"),
    [
        (["850", "12.345", "999", "1.250"], True),
        (["1.234", "22.345", "3.456", "4.567"], True),
        (["850", "12.345", "999", "1.25"], False),
        (["0.512", "12.345", "1.250", "3.125"], False),
        (["1850", "12.345", "1.250", "3.125"], False),
        (["850", "12", "125", "7"], False),
    ],
)
def test_points_that_may_stand_between_thousands_are_told_of(write, values, is_said):
    source = TableFile(path=write(numbers(*(f"{each},{k % 7},{k % 2}" for k, each in enumerate(values)))), label="y")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        read = source.load().x.values[:, 0]
    assert read.tolist() == pytest.approx([float(each) for each in values])
    found = [str(each.message) for each in said if "between thousands" in str(each.message)]
    assert len(found) == is_said
    if is_said:
        at = next(k for k, each in enumerate(values) if "." in each)
        assert f'row {at + 1} of people.csv has "{values[at]}"' in found[0]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read = source.replace(decimal=",").load().x.values[:, 0]
        assert read.tolist() == [float(each.replace(".", "")) for each in values]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["Yes", "no", "yes"], '"Yes" and "yes"'),
        (["caf\u00e9", "cafe\u0301", "tea"], '"cafe\\u0301" and "caf\\u00e9"'),
        (["07", "7", "8"], '"07" and "7"'),
        (["New York", "new  york", "Rome"], '"New York" and "new  york"'),
        (["a", "b", "c"], ""),
        (["10", "1", "100"], ""),
    ],
)
def test_values_that_only_look_different_are_told_of(write, values, said):
    source = TableFile(path=write(numbers(*(f"{k % 2}.5,2,{each}" for k, each in enumerate(values)))), label="y")
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        assert len(set(source.load().y.tolist())) == 3
    assert [said in str(each.message) for each in heard if "count as two values" in str(each.message)] == [True] * bool(said)


def test_the_index_of_a_saved_frame_is_no_feature(tmp_path):
    frame = pd.DataFrame({"a": [1.5, 2.5, 3.5], "y": [0, 1, 0]}, index=pd.Index([70, 12, 33], name="patient"))
    frame.to_parquet(tmp_path / "t.parquet")
    source = TableFile(path=str(tmp_path / "t.parquet"), label="y")
    with pytest.warns(UserWarning, match=r'column 2 \("patient"\) was the index of the table that was saved'):
        assert source.load().feature_names == ("a",)
    assert source.replace(features=("a", "patient")).load().feature_names == ("a", "patient")
    assert source.replace(z=("patient",)).load().z.tolist() == [70, 12, 33]
    frame.set_axis(["p", "q", "r"]).to_parquet(tmp_path / "t.parquet")
    with pytest.warns(UserWarning, match="was the index of the table"):
        assert source.load().feature_names == ("a",)


def test_numbers_that_even_float64_makes_alike_are_told_of(write):
    source = TableFile(path=write(numbers("9007199254740993,1,0", "9007199254740992,2,1", "4,3,0")), label="y")
    with pytest.warns(UserWarning, match="up to 16 digits, of which inputs keep only 2 apart"):
        source.load()


@pytest.mark.parametrize(
    ("value", "remedy"),
    [("\u0661\u0662", "write them with 0 to 9"), ("\uff11\uff12", "write them with 0 to 9"), ("1_000", '"character": "_"')],
)
def test_numbers_of_other_scripts_and_programs_get_advice(write, value, remedy):
    with pytest.raises(DataError, match=remedy) as caught:
        TableFile(path=write(numbers(f"{value},1,0", f"{value},2,1")), label="y").load()
    assert f"'{value}' in row 1" in str(caught.value)


def test_an_archive_is_to_be_unpacked(write):
    with pytest.raises(DataError, match="it is an archive; unpack it"):
        TableFile(path=write("PK", "t.csv.zip"), label="y").load()


def test_the_order_of_the_rows_does_not_change_the_codes(write):
    header, *rows = CSV.strip().splitlines()
    forwards = TableFile(path=write(CSV), label="label", categorical=["job", "city"]).load()
    backwards = TableFile(
        path=write("\n".join([header, *rows[::-1]]), "b.csv"), label="label", categorical=["job", "city"]
    ).load()
    assert forwards.x.values.flip(0).tolist() == backwards.x.values.tolist()
    assert forwards.feature_names == backwards.feature_names


def test_features_are_the_listed_columns_in_the_listed_order(write):
    data = TableFile(path=write(numbers("1,2,0", "3,4,1")), label="y", features=["b", "a"]).load()
    assert data.feature_names == ("b", "a")
    assert data.x.values.tolist() == [[2, 1], [4, 3]]


@pytest.mark.parametrize("index", [0, "id"])
def test_an_index_column_is_no_feature(write, index):
    data = TableFile(path=write(numbers("7,1,0", "8,2,1", header="id,a,y")), label="y", index_column=index).load()
    assert data.feature_names == ("a",)


def test_a_group_may_also_be_a_feature(write):
    data = TableFile(path=write(CSV), label="label", features=["age", "city"], categorical="city", z="city").load()
    assert data.feature_names == ("age", "city=Oslo", "city=Rome")


def test_several_groups_have_codes_of_their_own(write):
    data = TableFile(path=write(CSV), label="label", features=["age"], z=["city", "job"]).load()
    assert data.z_names == ("city=Oslo", "city=Rome", "job=cook", "job=smith, black")
    assert data.z.tolist() == [[1, 2], [0, 3], [0, 2]]


def test_a_group_of_whole_numbers_stays_as_it_is(write):
    data = TableFile(path=write(numbers("1,70,0", "2,90,1")), label="y", z="b").load()
    assert (data.z.tolist(), data.z_names) == ([70, 90], ())


@pytest.mark.parametrize(
    ("labels", "codes", "names"),
    [
        ("0 2 1", [0, 2, 1], ()),
        ("1 3 2", [0, 2, 1], ("1", "2", "3")),
        ("-1 1 -1", [0, 1, 0], ("-1", "1")),
        ("0 10 9", [0, 2, 1], ("0", "9", "10")),
        ("1.0 0.0 1.0", [1, 0, 1], ()),
        ("b a b", [1, 0, 1], ("a", "b")),
    ],
)
def test_labels_that_are_no_codes_yet_become_codes_in_sorted_order(write, labels, codes, names):
    text = numbers(*(f"{i},{label}" for i, label in enumerate(labels.split())), header="a,y")
    data = TableFile(path=write(text), label="y").load()
    assert (data.y.tolist(), data.class_names) == (codes, names)


def test_a_given_number_of_classes_keeps_the_labels_as_they_are(write):
    source = TableFile(path=write(numbers("1,1,0", "2,2,2")), label="y", n_classes=3)
    assert (source.load().y.tolist(), source.load().n_classes) == ([0, 2], 3)
    assert source.replace(n_classes=None).load().y.tolist() == [0, 1]


def test_a_label_column_may_come_as_a_list_of_one():
    assert TableFile(path="t.csv", label=["y"]) == TableFile(path="t.csv", label="y")
    with pytest.raises(InvalidParameters, match="label"):
        TableFile(path="t.csv", label=[])


def test_several_label_columns_are_a_multilabel_task_or_for_steps_to_choose_from(write):
    several = TableFile(path=write("a,p,q\n1,0,1\n2,1,1\n3,1,0\n"), label=["p", "q"]).load()
    assert (several.task, several.class_names, several.feature_names) == ("multilabel", ("p", "q"), ("a",))
    assert several.y.tolist() == [[0, 1], [1, 1], [1, 0]]
    named = TableFile(path=write('a,kind,sold\n1,x,[3]\n2,y,"[4, 3]"\n'), label=["kind", "sold"], features=["a"])
    with pytest.raises(DataError, match=r"the labels have 2 columns \(kind, sold\)"):
        named.load()
    steps = [MoveLabels(keep=[0], move=[1]), ParseLists(z=True, max_length=2)]
    moved = Preprocessed(data_source=named, steps=steps).load()
    assert (moved.y.tolist(), moved.z.tolist(), moved.x.values.tolist()) == ([0, 1], [[3, -1], [4, 3]], [[1.0], [2.0]])
    with pytest.raises(InvalidParameters, match='"sold" is the label'):
        TableFile(path="t.csv", label=["kind", "sold"], features=["sold"])


def test_a_binary_task_has_two_classes(write):
    source = TableFile(path=write(numbers("1,1,0", "2,2,1")), label="y", task="binary")
    assert (source.load().task, source.load().n_classes) == ("binary", 2)
    with pytest.raises(DataError, match="has 3 values, expected 2 classes"):
        TableFile(path=write(numbers("1,1,a", "2,2,b", "2,2,c")), label="y", task="binary").load()


def test_separators_and_compression_go_by_the_name(write, tmp_path):
    tabbed = TableFile(
        path=write(CSV.replace('"smith, black"', "smith").replace(",", "\t"), "p.tsv"), label="label", features=["age"]
    )
    assert tabbed.load().x.values.tolist() == [[20], [30], [40.5]]
    (tmp_path / "p.csv.gz").write_bytes(gzip.compress(CSV.replace(",", ";").encode()))
    packed = TableFile(path=str(tmp_path / "p.csv.gz"), label="label", features=["age"], separator=";")
    assert packed.load().x.values.tolist() == [[20], [30], [40.5]]


def test_windows_line_ends_byte_order_marks_and_blank_lines_do_no_harm(write):
    text = "\ufeff" + numbers("1,2,0", "", "3,4,1").replace("\n", "\r\n")
    data = TableFile(path=write(text, encoding="utf-8"), label="y").load()
    assert data.feature_names == ("a", "b")
    assert len(data) == 2


def test_other_encodings_are_read_when_they_are_named(write):
    text = numbers("1,é,0", "2,ü,1")
    path = write(text, encoding="latin-1")
    assert "b=é" in TableFile(path=path, label="y", categorical="b", encoding="latin-1").load().feature_names
    with pytest.raises(DataError, match="is not text in utf-8"):
        TableFile(path=path, label="y", categorical="b").load()


def test_parquet_is_read_with_its_types(tmp_path):
    frame = pd.DataFrame({"a": [1, 2, 3], "b": [True, False, True], "c": ["x", "y", None], "y": pd.Categorical(["u", "v", "u"])})
    frame.to_parquet(tmp_path / "t.parquet")
    data = TableFile(path=str(tmp_path / "t.parquet"), label="y", categorical="c", missing="impute").load()
    assert data.feature_names == ("a", "b", "c=x", "c=y", "c=missing")
    assert data.x.values.tolist() == [[1, 1, 1, 0, 0], [2, 0, 0, 1, 0], [3, 1, 0, 0, 1]]
    assert data.class_names == ("u", "v")


def test_parquet_columns_that_are_neither_numbers_nor_text_are_refused_only_if_used(tmp_path):
    pd.DataFrame({"a": [1, 2], "b": [["u"], ["v"]], "y": [0, 1]}).to_parquet(tmp_path / "t.parquet")
    source = TableFile(path=str(tmp_path / "t.parquet"), label="y")
    assert source.replace(features=("a",)).load().feature_names == ("a",)
    with pytest.raises(DataError, match='column "b" holds lists of string'):
        source.load()


def test_several_files_are_put_one_below_the_other_by_column_name(write):
    first, second = write(numbers("1,2,0"), "1.csv"), write(numbers("0,3,4", header="y,a,b"), "2.csv")
    data = TableFile(path=[first, second], label="y").load()
    assert data.x.values.tolist() == [[1, 2], [3, 4]]
    assert data.name == "1"


def test_files_with_other_columns_are_refused(write):
    paths = [write(numbers("1,2,0"), "1.csv"), write(numbers("1,2,0", header="a,c,y"), "2.csv")]
    with pytest.raises(DataError, match=r"2\.csv\" has other columns than .*: b, c"):
        TableFile(path=paths, label="y").load()


GAPS = numbers("1,u,0", "?,v,1", "5,,0", "3,u,")


def test_missing_values_are_refused_with_column_count_and_row(write):
    with pytest.raises(DataError) as error:
        TableFile(path=write(GAPS), label="y", categorical="b").load()
    for words in (
        '"y" (1, first in row 4 of people.csv)',
        '"a" (1, first in row 2',
        '"b" (1, first in row 3',
        'give missing = "drop"',  # no label can be filled in
    ):
        assert words in str(error.value)
    assert "impute" not in str(error.value)
    with pytest.raises(DataError, match=r'in "a" .*; give missing = "drop" or "impute"$'):
        TableFile(path=write(numbers("1,u,0", "?,v,1")), label="y", categorical="b").load()


def test_missing_values_in_columns_that_nobody_uses_do_not_matter(write):
    assert len(TableFile(path=write(numbers("1,,0", "2,,1")), label="y", features=["a"]).load()) == 2


def test_rows_with_missing_values_can_be_dropped(write):
    source = TableFile(path=write(GAPS), label="y", features=["a"], missing="drop")
    data = source.load()
    assert data.rows.tolist() == source.finished(source.samples()).rows.tolist() == [0, 2]
    assert data.x.values.tolist() == [[1], [5]]


def test_missing_values_can_be_filled_in(write):
    source = TableFile(path=write(GAPS.replace("3,u,", "3,u,1")), label="y", categorical="b", missing="impute")
    data = source.load()
    assert data.feature_names == ("a", "b=u", "b=v", "b=missing")
    assert data.x.values[:, 0].tolist() == [1, 3, 5, 3]
    assert data.x.values[2].tolist() == [5, 0, 0, 1]


def test_a_missing_label_is_never_filled_in(write):
    with pytest.raises(DataError, match=r'"y" .1, first in row 4 of people\.csv.*give missing = "drop"'):
        TableFile(path=write(GAPS), label="y", categorical="b", missing="impute").load()


def test_rows_are_still_named_after_others_were_dropped(write):
    with pytest.raises(DataError, match=r"0\.5 in row 3 of people\.csv"):
        TableFile(path=write(numbers("1,,0", "2,2,1", "3,3,0.5")), label="y", missing="drop").load()


BAD = [
    ("a,b,y\n1,2,0\n\n3,4\n", {}, ["line 4: 2 values, expected 3 (a, b, y)"]),
    ("a,b,y\n1,2,0\n3,4,5,6\n", {}, ["line 3: 4 values, expected 3"]),
    ("1,2,0\n", {"column_names": ("a", "y")}, ["line 1: 3 values, expected 2 (a, y)"]),
    (numbers("1,2,0"), {"label": "Y_"}, ['no column "Y_"', "a, b, y", 'did you mean "y"?']),
    (numbers("1,2,0"), {"features": ("a", "c")}, ['no column "c"']),
    (numbers("1,2,0"), {"z": ("groop",)}, ['no column "groop"']),
    (numbers("1,2,0"), {"index_column": 5}, ["index_column 5: the table has 3 columns"]),
    (numbers("1,2,0"), {"z": ("a", "b")}, ["no feature is left"]),
    (numbers("1,2,0", "2,x,1"), {}, ["text in the feature columns b", "'x' in row 2 of people.csv", "na_values"]),
    (numbers("1,2,0", "2,inf,1"), {}, ['NaN or infinite values in "b" (1)', "first samples: 1"]),
    (numbers("1,2,0", "2,1e60,1"), {}, ['"b" (1)']),
    (numbers("1,2,0", "2,3,0.5"), {}, ['"y" is not a class: 0.5 in row 2']),
    (numbers("1,2,0", "2,3,1", "2,3,2"), {"n_classes": 2}, ["has 3 values, expected 2 classes: 0, 1, 2"]),
    (numbers(), {}, ["no rows"]),
    ("", {}, ["is empty"]),
    ("a,a,y\n1,2,0\n", {}, ["columns of the same name: a"]),
    (numbers(",2,0", ",3,1"), {"missing": "impute"}, ['column "a" has no value at all']),
    (numbers(",2,0", ",3,1"), {"missing": "drop"}, ["every row misses a value in a"]),
    (numbers("1,2,0"), {"encoding": "klingon"}, ["klingon"]),
]


@pytest.mark.parametrize(("text", "parameters", "said"), BAD)
def test_bad_tables_are_refused_with_the_place(write, text, parameters, said):
    with pytest.raises(DataError) as error:
        TableFile(**({"path": write(text), "label": "y"} | parameters)).load()
    for words in said:
        assert words in str(error.value)


@pytest.mark.parametrize("name", ["t.parquet", "t.csv.gz"])
def test_a_file_that_is_not_what_its_name_says_is_refused(write, name):
    with pytest.raises(DataError, match=name):
        TableFile(path=write(numbers("1,2,0"), name), label="y").load()


def test_a_missing_file_suggests_the_nearest_name(write, tmp_path):
    write(CSV)
    source = TableFile(path=str(tmp_path / "peple.csv"), label="label")
    for use in (source.load, source.fingerprint):
        with pytest.raises(DataError, match=r'did you mean "people\.csv"'):
            use()


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"skip_rows": (1, 2)}, "2 counts for 1 files"),
        ({"features": ("a", "y")}, "a model must not see it"),
        ({"separator": "||"}, "expected one character"),
        ({"features": ("a",), "categorical": ("b",)}, "not among the features: b"),
        ({"path": ()}, "at least 1 item"),
        ({"missing": "ignore"}, '"error", "drop" or "impute"'),
        ({"skip_rows": -1}, "greater than or equal to 0"),
    ],
)
def test_parameters_that_do_not_fit_are_refused_before_anything_is_read(parameters, said):
    with pytest.raises(InvalidParameters, match=said):
        TableFile(**({"path": "t.csv", "label": "y"} | parameters))


def test_the_fingerprint_follows_the_content(write):
    source = TableFile(path=write(CSV), label="label")
    before = source.fingerprint()
    assert source.fingerprint() == before
    write(CSV + "50, cook, Rome,no\n")
    assert source.fingerprint() != before


CELLS = st.sampled_from(["0", "1", "2.5", "", "?", "nan", "inf", "1e400", "x", " x ", '"', '"a,b"', "é", "\0", "-1"])


@given(
    rows=st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=6),
    categorical=st.sampled_from([(), ("a",), ("a", "b")]),
    missing=st.sampled_from(["error", "drop", "impute"]),
)
@example(rows=[("0", "inf", "0"), ("0", "1e400", "0")], categorical=(), missing="error")
def test_any_text_is_either_a_data_set_or_a_data_error(tmp_path_factory, rows, categorical, missing):
    file = tmp_path_factory.getbasetemp() / "any.csv"
    file.write_text(numbers(*(",".join(row) for row in rows)))
    try:
        data = TableFile(path=str(file), label="y", categorical=categorical, missing=missing).load()
    except DataError as error:
        assert len(str(error)) > 20
    else:
        assert torch.isfinite(data.x.values).all()
        assert 0 < len(data) <= len(rows)


ADULT_COLUMNS = [
    "age",
    "workclass",
    "fnlwgt",
    "education",
    "education-num",
    "marital-status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "capital-gain",
    "capital-loss",
    "hours-per-week",
    "native-country",
    "income",
]


@pytest.fixture
def adult():
    folder = TEST_DATA / "tabular"
    if not folder.is_dir():
        pytest.skip(f"the real data of ERASURE_TEST_DATA is not there: {folder}")
    text = ["workclass", "education", "marital-status", "occupation", "relationship", "race", "sex", "native-country"]
    return TableFile(
        path=[str(folder / "adult.data.gz"), str(folder / "adult.test.gz")],
        column_names=ADULT_COLUMNS,
        skip_rows=[0, 1],
        label="income",
        label_strip=".",
        features=ADULT_COLUMNS[:-1],
        categorical=text,
        z="sex",
        missing="drop",
    )


def test_the_original_adult_files_are_read(adult):
    data = adult.load()
    assert len(data) == 30_162 + 15_060
    assert data.class_names == ("<=50K", ">50K")
    assert int(data.y[:30_162].sum()) == 7_508
    assert data.z_names == ("Female", "Male")
    assert data.x_shape == (104,)
    assert data.x.values[0, 0] == 39


def test_the_original_adult_files_can_be_kept_whole(adult):
    data = adult.replace(missing="impute").load()
    assert len(data) == 32_561 + 16_281
    assert "occupation=missing" in data.feature_names
    with pytest.raises(DataError, match=r'"occupation" \(2809, first in row 28 of adult\.data\.gz\)'):
        adult.replace(missing="error").load()


def test_numbers_with_leading_zeros_are_told_of_as_codes(write):
    rows = ["12,80331,0", "7,04109,1", "30,10115,0"]
    with pytest.warns(UserWarning, match='"zip" is read as numbers, and row 2 .* has "04109": if these are codes, list'):
        TableFile(path=write(numbers(*rows, header="age,zip,y")), label="y").load()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TableFile(path=write(numbers(*rows, header="age,zip,y")), label="y", categorical="zip").load()
        TableFile(path=write(numbers("0.5,0,0", "0,10,1", header="a,b,y")), label="y").load()
