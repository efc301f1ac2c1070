"""``erasure query``, and results of many runs from Python."""

import csv
import io
import json
import shutil
import sys

import pyarrow
import pytest
from pyarrow import parquet

import erasure
from erasure.errors import ConfigError, MissingDependency, StoreError
from erasure.records.rows import RESULT_FIELDS, Row, write_rows

pytest.importorskip("duckdb", reason="duckdb is not installed")


@pytest.fixture
def runs(finished, tmp_path, monkeypatch):
    """Two runs in the working directory, and one that is hidden."""
    for name in ("runs/a", "runs/deep/b", "runs/.hidden"):
        shutil.copytree(finished / "runs" / "tiny", tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def test_a_query_sees_the_rows_of_all_runs(cli, runs):
    code, out, err = cli("query", "select run, count(*) as n, avg(value) as v from rows group by run order by run")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["run", "n", "v"]
    assert [line[:2] for line in lines[1:]] == [["runs/a", "3"], ["runs/deep/b", "3"]]
    assert err == "2 lines\n"


def test_json_and_csv_hold_the_same(cli, runs):
    sql = "select label, value, n, sum(n) over () as total, [1, 2] as l, {'a': date '2020-01-02'} as s from rows order by all"
    records = json.loads(cli("query", sql, "runs/a", "--json")[1])
    lines = list(csv.DictReader(io.StringIO(cli("query", sql, "runs/a", "--csv")[1])))
    assert len(records) == len(lines) == 3
    assert records[0]["total"] == 3
    assert (records[0]["l"], records[0]["s"]) == ([1, 2], {"a": "2020-01-02"})
    assert [float(line["value"]) for line in lines] == [record["value"] for record in records]
    assert cli("query", sql, "--json", "--csv")[0] == 2


def test_not_a_number_and_null_are_null(cli, runs):
    sql = "select null as a, 'nan'::double as b, '-inf'::double as c, 0.5::decimal(4, 2) as d limit 1"
    assert json.loads(cli("query", sql, "runs/a", "--json")[1]) == [{"a": None, "b": None, "c": "-inf", "d": 0.5}]


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("select labl from rows", '"labl" not found'),
        ("selec 1", "syntax error"),
        ("", "found nothing"),
        ("select 1; select 2", "found SELECT, SELECT"),
        ("drop table rows", "found DROP"),
        ("insert into rows values (1)", "found INSERT"),
        ("set enable_external_access = true", "found SET"),
        ("attach 'other.db'", "found ATTACH"),
        ("copy rows to 'out.csv'", "found COPY"),
        ("install httpfs", "found LOAD"),
        ("select * from read_csv('runs/a/rows.csv')", "disabled by configuration"),
        ("select * from read_text('/etc/passwd')", "disabled by configuration"),
        ("select * from glob('*')", "disabled by configuration"),
        ("select * from 'runs/a/rows.parquet'", "disabled by configuration"),
        ("select * from sql", "does not exist"),
        ("select * from self", "does not exist"),
    ],
)
def test_a_query_that_is_wrong_or_reaches_further_is_refused(cli, runs, sql, named):
    before = sorted(runs.parent.rglob("*"))
    code, out, err = cli("query", sql)
    assert (code, out) == (2, "")
    assert named in err
    assert sorted(runs.parent.rglob("*")) == before


def test_fractions_stay_where_the_first_run_has_whole_numbers(cli, runs):
    for place, values in (("a", pyarrow.array([1, 2, 3])), ("deep/b", pyarrow.array([0.25, 0.5, 0.75]))):
        file = runs / place / "rows.parquet"
        table = parquet.read_table(pyarrow.BufferReader(file.read_bytes()))
        parquet.write_table(table.set_column(table.column_names.index("value"), "value", values), file)
    assert parquet.read_schema(runs / "a" / "rows.parquet").field("value").type == pyarrow.int64()
    found = json.loads(cli("query", "select value from rows order by value", "--json")[1])
    assert [row["value"] for row in found] == [0.25, 0.5, 0.75, 1, 2, 3]
    (runs / "a" / "rows.parquet").rename(runs / "rows.parquet")
    write_rows([Row(experiment="e", dataset="d", unlearner="", model_role="gold", measure="m")], runs / "a")
    table = parquet.read_table(runs / "rows.parquet")
    parquet.write_table(
        table.set_column(table.column_names.index("value"), "value", pyarrow.array(["x"] * 3)), runs / "rows.parquet"
    )
    with pytest.raises(StoreError, match="hold different types in one column"):
        erasure.load_results("runs/**")


def test_a_wrong_column_is_answered_with_those_there_are(cli, runs):
    assert "the columns of rows are run, experiment, " in cli("query", "select labl from rows")[2]


def test_runs_without_results_are_bad_input(cli, runs):
    code, _, err = cli("query", "from rows", "runs/c")
    assert code == 2
    assert 'did you mean "runs/a"?' in err


def test_a_hostile_value_does_not_steer_the_terminal(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_rows([Row(experiment="\x1b[2J", dataset="d", unlearner="", model_role="gold", measure="m")], tmp_path / "runs" / "x")
    code, out, _ = cli("query", "select experiment from rows")
    assert code == 0
    assert "\x1b" not in out


def test_results_of_many_runs_from_python(runs):
    found = erasure.load_results("runs/**")
    assert found.names == ("runs/a", "runs/deep/b")
    assert len(found) == len(list(found)) == 6
    assert found.is_sound is True
    assert repr(found) == "<2 runs, 6 rows>"
    one = found.of("runs/a")
    assert [row.record() for row in one] == [row.record() for row in erasure.Results.load("runs/a")]
    with pytest.raises(KeyError, match="no run 'x'; there are runs/a"):
        found.of("x")
    assert erasure.load_results("runs").names == found.names
    assert erasure.load_results(["runs/deep/*", runs / "a"]).names == ("runs/deep/b", str(runs / "a"))


def test_frames_have_the_run_and_the_columns_of_the_rows(runs):
    found = erasure.load_results()
    frame = found.to_pandas()
    assert list(frame.columns) == ["run", *RESULT_FIELDS]
    assert frame["value"].tolist() == [row.value for row in found]
    polars = pytest.importorskip("polars", reason="polars is not installed")
    other = found.to_polars()
    assert isinstance(other, polars.DataFrame)
    assert other.columns == list(frame.columns)
    assert other["run"].to_list() == frame["run"].tolist()


def test_runs_of_versions_with_other_columns_are_joined(runs):
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(runs / "a" / "rows.parquet").drop_columns(["noise_floor"])
    pyarrow.parquet.write_table(table, runs / "a" / "rows.parquet")
    found = erasure.load_results("runs")
    assert len(found) == 6
    assert set(found.to_pandas().columns) == {"run", *RESULT_FIELDS}
    assert {row.noise_floor for row in erasure.load_results("runs/a")} == {None}


def test_a_damaged_file_of_rows_is_named(cli, runs):
    (runs / "a" / "rows.parquet").write_bytes(b"PAR1")
    with pytest.raises(StoreError, match=r"runs/a/rows\.parquet cannot be read"):
        erasure.load_results("runs")
    assert cli("query", "from rows")[0] == 1


def test_a_parquet_file_of_something_else_is_named(runs):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"x": [1]}), runs / "a" / "rows.parquet")
    with pytest.raises(StoreError, match="not a table of results: it has the columns x"):
        erasure.load_results("runs")


@pytest.mark.parametrize(("library", "call"), [("duckdb", lambda r: r.query("from rows")), ("polars", lambda r: r.to_polars())])
def test_a_missing_library_names_the_extra(runs, monkeypatch, library, call):
    found = erasure.load_results("runs")
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependency, match=r'pip install "erasure-unlearning\[query\]"'):
        call(found)


def test_no_runs_at_all_say_how_to_make_some(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="erasure run CONFIG makes some"):
        erasure.load_results()


def test_a_column_of_the_version_before_is_told_of_in_one_line(cli, runs):
    code, _, err = cli("query", "select distinct model from rows")
    assert (code, err.splitlines()[0]) == (0, 'the column "model" is now "model_role"; the old name goes with the next version')
