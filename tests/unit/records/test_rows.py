from __future__ import annotations

import csv
import dataclasses
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erasure.errors import StoreError
from erasure.records.rows import RESULT_FIELDS, Row, read_rows, write_rows

_text = st.text(st.characters(codec="utf-8"), max_size=12)
_number = st.none() | st.floats(allow_nan=False, allow_infinity=False)
_count = st.none() | st.integers(-(2**63) + 1, 2**63 - 1)
_rows = st.builds(
    Row,
    **dict.fromkeys(
        ("experiment", "dataset", "unlearner", "label", "measure", "partition", "unit", "direction", "reason"), _text
    ),
    **dict.fromkeys(("value", "gold", "gap", "noise_floor", "low", "high", "elapsed_s"), _number),
    **dict.fromkeys(("n", "number", "seed_split", "seed_train", "seed_unlearn", "seed_evaluate"), _count),
    model_role=st.sampled_from(["original", "gold", "unlearned"]),
    status=st.sampled_from(["ok", "failed", "no-op", "non-finite"]),
    ideal=st.none() | st.just("gold") | st.floats(allow_nan=False, allow_infinity=False),
)


def _row(**changes):
    values = {"experiment": "digits", "dataset": "digits", "unlearner": "SSD", "model_role": "unlearned", "measure": "accuracy"}
    return Row(**{**values, "partition": "forget", "value": 0.1, "ideal": "gold", "seed_train": 3, **changes})


def test_the_columns_are_those_of_the_specification_in_its_order():
    expected = (
        "experiment dataset unlearner label model_role measure partition value unit direction ideal indicates chance_level gold gap "
        "noise_floor low high n "
        "status reason seed_split seed_train seed_unlearn seed_evaluate elapsed_s address number access guarantee statistic treated_like"
    )
    assert " ".join(RESULT_FIELDS) == expected


@settings(deadline=None)  # the first example imports pyarrow
@given(st.lists(_rows, max_size=4))
def test_rows_read_back_equal_and_in_order(tmp_path_factory, rows):
    directory = tmp_path_factory.mktemp("rows")
    write_rows(rows, directory)
    assert read_rows(directory) == rows
    records = json.loads((directory / "rows.json").read_text())
    assert [Row.of(record) for record in records] == rows
    with (directory / "rows.csv").open(newline="", encoding="utf-8") as file:
        labels = [record["label"] for record in csv.DictReader(file)]
    assert [label.removeprefix("'") for label in labels] == [row.label.removeprefix("'") for row in rows]


@pytest.mark.parametrize("later", [0, 2, 3, 4])
def test_a_table_of_an_older_version_is_read(tmp_path, later):
    later = ["number", "access", "guarantee", "statistic", "treated_like"][later:]
    write_rows([_row(statistic="accuracy")], tmp_path)
    path = tmp_path / "rows.parquet"
    table = pyarrow.parquet.read_table(path)
    pyarrow.parquet.write_table(table.drop_columns(later), path)
    assert read_rows(tmp_path) == [_row(statistic="accuracy")]
    assert not _row().is_juror
    assert not _row(model_role="gold", number=0).is_juror
    assert _row(model_role="gold", number=2).is_juror


def test_memory_left_is_known_in_tables_that_had_no_word_for_it(tmp_path):
    write_rows([_row(measure="memory left"), _row()], tmp_path)
    assert [row.statistic for row in read_rows(tmp_path)] == ["memory", ""]


def test_equal_rows_give_equal_bytes(tmp_path):
    rows = [_row(), _row(value=None, status="failed", reason="It broke.")]
    for name in ("one", "two"):
        write_rows(iter(rows), tmp_path / name)
    for name in ("rows.csv", "rows.json", "rows.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["rows.csv", "rows.json", "rows.parquet"]


def test_json_has_one_record_a_line(tmp_path):
    write_rows([_row(), _row(value=1 / 3)], tmp_path)
    lines = (tmp_path / "rows.json").read_text().splitlines()
    assert (lines[0], lines[-1], len(lines)) == ("[", "]", 4)
    assert list(json.loads(lines[2])) == list(RESULT_FIELDS)
    assert json.loads(lines[2])["value"] == 1 / 3


def test_no_rows_are_a_table_too(tmp_path):
    write_rows([], tmp_path)
    assert read_rows(tmp_path) == []
    assert json.loads((tmp_path / "rows.json").read_text()) == []
    assert (tmp_path / "rows.csv").read_text() == ",".join(RESULT_FIELDS) + "\n"


def test_parquet_columns_keep_their_types_when_all_values_are_missing(tmp_path):
    import pyarrow.parquet

    write_rows([_row(value=None, seed_train=None)], tmp_path)
    schema = pyarrow.parquet.read_schema(tmp_path / "rows.parquet")
    assert [str(schema.field(name).type) for name in ("value", "seed_train", "ideal", "address")] == [
        "double",
        "int64",
        "string",
        "string",
    ]


@pytest.mark.parametrize("text", ["=HYPERLINK(1)", "+1+2", "-x", "@SUM(A1)", "\tx", "\rx", " =1+1"])
def test_a_text_never_becomes_a_formula_in_a_spreadsheet(tmp_path, text):
    write_rows([_row(label=text, value=-0.5, ideal=-1.0)], tmp_path)
    with (tmp_path / "rows.csv").open(newline="", encoding="utf-8") as file:
        (record,) = csv.DictReader(file)
    assert (record["label"], record["value"], record["ideal"]) == (f"'{text}", "-0.5", "-1.0")
    assert read_rows(tmp_path)[0].label == text


def test_numpy_numbers_are_numbers(tmp_path):
    write_rows([_row(value=np.float32(0.5), n=np.int64(3), ideal=np.float64(1.0))], tmp_path)
    (row,) = read_rows(tmp_path)
    assert (row.value, row.n, row.ideal) == (0.5, 3, 1.0)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"value": float("nan")}, r"column value of the row of SSD, accuracy on forget is nan; .*status \"non-finite\""),
        ({"gap": float("inf")}, "column gap .* is inf"),
        ({"ideal": float("-inf")}, "column ideal .* is -inf"),
        ({"value": "0.5"}, "column value .* expected a number"),
        ({"value": True}, "column value .* expected a number"),
        ({"n": 1.5}, "column n .* expected a whole number"),
        ({"seed_train": 2**63}, "column seed_train .* at most 63 bits"),
        ({"label": None}, "column label .* expected text"),
        ({"label": "\ud800"}, "column label .* valid Unicode"),
        ({"status": "fine"}, "column status .* expected one of ok, failed"),
        ({"model_role": "shadow"}, "column model_role .* expected one of original, gold"),
    ],
)
def test_a_value_that_does_not_fit_its_column_is_refused_and_nothing_is_written(tmp_path, changes, named):
    with pytest.raises(StoreError, match=named):
        write_rows([_row(), _row(**changes)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_row_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        _row().value = 1.0


def test_a_full_disk_leaves_the_old_table_and_no_litter(tmp_path, monkeypatch):
    write_rows([_row()], tmp_path)

    def refuse(self, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(StoreError, match=r"rows\.csv: no space left on device; free some space .* --output"):
        write_rows([_row(value=0.9)], tmp_path)
    assert read_rows(tmp_path) == [_row()]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.csv", "rows.json", "rows.parquet"]


def test_missing_damaged_and_foreign_tables_are_named(tmp_path):
    import pyarrow
    import pyarrow.parquet

    with pytest.raises(StoreError, match=r"rows\.parquet: no such file"):
        read_rows(tmp_path)
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(StoreError, match="not a readable Parquet file"):
        read_rows(tmp_path)
    pyarrow.parquet.write_table(pyarrow.table({"value": [1.0]}), tmp_path / "rows.parquet")
    with pytest.raises(StoreError, match="has the columns value; expected experiment, "):
        read_rows(tmp_path)


def test_rows_are_written_and_read_without_pandas(tmp_path):
    program = (
        "import sys\nfrom pathlib import Path\nfrom report_rows import row\n"
        "from erasure.records.rows import read_rows, write_rows\n"
        "rows = [row('SSD'), row('SCRUB', value=0.5)]\nwrite_rows(rows, Path(sys.argv[1]))\nassert read_rows(Path(sys.argv[1])) == rows\n"
        "assert not {'pandas', 'scipy', 'torch'} & set(sys.modules)\n"
    )
    here = str(Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
