"""Tables as Parquet bytes, without threads of Arrow and without pandas.

A thread of Arrow that lets go of bytes of Python while the interpreter ends aborts the process ("terminate called without an active
exception", apache/arrow#34314), and rows are the last thing that a run writes or a command reads. Arrow's way from lists, and its
``read_table``, import pandas, which takes longer than a small run is read back.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erasure.errors import StoreError

if TYPE_CHECKING:
    import pyarrow

__all__ = ["parquet_bytes", "read_parquet"]


def parquet_bytes(columns: Mapping[str, Sequence[str | float | int | None]], kinds: Mapping[str, type]) -> bytes:
    """A table of columns of equal length as a Parquet file.

    Args:
        columns: By name, in their order; None stands where there is no value.
        kinds: By name, ``str``, ``float`` or ``int`` (of at most 63 bits): what a column holds.

    Raises:
        StoreError: If the texts of one column have 2 GiB or more.
    """
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table([_column(name, values, kinds[name]) for name, values in columns.items()], list(columns))
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink)
    return bytes(sink.getvalue().to_pybytes())


def read_parquet(path: Path, *, encoded: bool = False) -> pyarrow.Table:
    """The table of a Parquet file.

    Args:
        path: The file.
        encoded: Whether texts stay as they lie in the file, codes of a dictionary, which is a tenth of the work where they repeat.

    Raises:
        pyarrow.ArrowException: If it is none.
        OSError: If it cannot be read.
    """
    import pyarrow
    import pyarrow.parquet

    content = pyarrow.BufferReader(path.read_bytes())
    schema = pyarrow.parquet.read_schema(content) if encoded else ()
    texts = [field.name for field in schema if pyarrow.types.is_string(field.type)]
    with pyarrow.parquet.ParquetFile(content, read_dictionary=texts, pre_buffer=False) as file:
        return file.read(use_threads=False)


def _column(name: str, values: Sequence[str | float | int | None], kind: type) -> pyarrow.Array:
    import pyarrow

    validity = None
    if None in values:
        bits = "".join("0" if value is None else "1" for value in reversed(values))
        validity = pyarrow.py_buffer(int(bits, 2).to_bytes((len(values) + 7) // 8, "little"))
    if kind is not str:
        plain: list[Any] = [0 if value is None else value for value in values]
        numbers: array[Any] = array("d" if kind is float else "q", plain)
        number = pyarrow.float64() if kind is float else pyarrow.int64()
        return pyarrow.Array.from_buffers(number, len(values), [validity, pyarrow.py_buffer(numbers)])
    texts = [b"" if value is None else str(value).encode() for value in values]
    try:
        ends = array("i", accumulate(map(len, texts), initial=0))
    except OverflowError:
        raise StoreError(
            f'The texts of the column "{name}" have 2 GiB or more together; write the rows to several directories.'
        ) from None
    return pyarrow.Array.from_buffers(
        pyarrow.string(), len(values), [validity, pyarrow.py_buffer(ends), pyarrow.py_buffer(b"".join(texts))]
    )
