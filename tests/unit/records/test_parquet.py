"""Tables of results as Parquet files: exact, and made without threads that could outlive the interpreter."""

import subprocess
import sys

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasure.records.parquet import parquet_bytes, read_parquet

_KINDS = {"text": str, "number": float, "count": int}
_rows = st.lists(
    st.tuples(
        st.none() | st.text(),
        st.none() | st.floats(allow_nan=False),
        st.none() | st.integers(-(2**63), 2**63 - 1),
    ),
    max_size=20,
)


@given(_rows)
def test_what_is_written_is_read(tmp_path_factory, rows):
    columns = dict(zip(_KINDS, (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], []), strict=True))
    path = tmp_path_factory.mktemp("table") / "rows.parquet"
    path.write_bytes(parquet_bytes(columns, _KINDS))
    table = read_parquet(path)
    assert table.to_pydict() == columns
    assert table.schema.types == [pyarrow.string(), pyarrow.float64(), pyarrow.int64()]
    assert table.equals(pyarrow.parquet.ParquetFile(path).read())
    assert read_parquet(path, encoded=True).to_pydict() == columns


def test_what_is_no_table_is_an_error(tmp_path):
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"not Parquet")
    with pytest.raises(pyarrow.ArrowException):
        read_parquet(path)


@pytest.mark.skipif(sys.platform != "linux", reason="it counts the threads that Linux lists")
def test_no_thread_of_arrow_is_left_that_could_abort_an_ending_process(tmp_path):
    program = f"""
import os, pathlib
from erasure.records.parquet import parquet_bytes, read_parquet
import numpy, pyarrow.parquet
before = len(os.listdir("/proc/self/task"))
path = pathlib.Path({str(tmp_path / "rows.parquet")!r})
path.write_bytes(parquet_bytes({{"a": ["x", None] * 500}}, {{"a": str}}))
read_parquet(path)
print(len(os.listdir("/proc/self/task")) - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"
