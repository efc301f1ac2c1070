"""Columns of table files: read as they are written, then turned into numbers and codes."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from erasure.errors import DataError, nearest

__all__ = ["Codes", "RawTable", "TextFormat", "codes_of", "numbers_of", "read_tables"]

_SHOWN = 8
_BUFFER_BYTES = 1 << 20
_CHUNK_ROWS = 1 << 16
_COMPRESSED = {".gz", ".bz2", ".zst", ".lz4"}


@dataclass(frozen=True)
class TextFormat:
    """How a text file writes a table.

    Args:
        separator: Between two values; None goes by the file's name.
        column_names: Names of the columns if the file has no line of names.
        na_values: What stands for a missing value.
        strip: Spaces around values do not count.
        encoding: Of the text.
    """

    separator: str | None
    column_names: tuple[str, ...]
    na_values: tuple[str, ...]
    strip: bool
    encoding: str


@dataclass(frozen=True)
class RawTable:
    """Columns by name, and where their rows come from.

    Args:
        columns: Name to a one-chunk arrow array, missing values null.
        files: Name and number of rows of each file, in order.
        rows: Position of each row in the files put one below the other.
    """

    columns: dict[str, Any]
    files: tuple[tuple[str, int], ...]
    rows: npt.NDArray[np.int64]

    def column(self, name: str) -> Any:
        """A column by name.

        Raises:
            DataError: If there is none; says which there are.
        """
        if name not in self.columns:
            hint = nearest(name, self.columns)
            there = ", ".join(self.columns)
            raise DataError(f'{self.files[0][0]} has no column "{name}"; it has {there}{f"; {hint}" if hint else ""}')
        return self.columns[name]

    def row(self, index: int) -> str:
        """Where a row is in its file, counted from 1 without the line of names."""
        position = int(self.rows[index])
        for name, n_rows in self.files:
            if position < n_rows:
                return f"row {position + 1} of {name}"
            position -= n_rows
        raise IndexError(index)

    def keep(self, mask: npt.NDArray[np.bool_]) -> RawTable:
        """The rows that ``mask`` selects."""
        import pyarrow as pa

        columns = {name: values.filter(pa.array(mask)) for name, values in self.columns.items()}
        return RawTable(columns, self.files, self.rows[mask])


@dataclass(frozen=True)
class Codes:
    """Values as codes: ``codes[i]`` is the position of row i's value in ``names``, or -1 if it is missing."""

    codes: npt.NDArray[np.int64]
    names: tuple[str, ...]


def read_tables(files: Sequence[Path], skip_rows: Sequence[int], text: TextFormat) -> RawTable:
    """Several files with the same columns, one below the other.

    Raises:
        DataError: If a file is unreadable or ragged (with its line), or if the files differ in their columns.
    """
    import pyarrow as pa

    tables: list[Any] = []
    for file, skipped in zip(files, skip_rows, strict=True):
        try:
            table = _read_parquet(file) if _kind(file) == ".parquet" else _read_text(file, skipped, text)
        except UnicodeError as error:
            raise DataError(f'"{file}" is not text in {text.encoding} ({error}); give its encoding, such as "latin-1"') from error
        except (pa.ArrowException, OSError, csv.Error, LookupError) as error:
            raise DataError(f'"{file}" cannot be read: {str(error).splitlines()[0]}') from error
        if tables and set(table.column_names) != set(tables[0].column_names):
            odd = ", ".join(sorted(set(table.column_names) ^ set(tables[0].column_names)))
            raise DataError(f'"{file}" has other columns than "{files[0]}": {odd}')
        tables.append(table.select(tables[0].column_names) if tables else table)
    n_rows = sum(table.num_rows for table in tables)
    if n_rows == 0:
        raise DataError(f"{', '.join(str(file) for file in files)}: no rows")
    try:
        joined = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(f"the files hold different types in one column: {str(error).splitlines()[0]}") from error
    columns = {name: _cleaned(joined.column(name), text) for name in joined.column_names}
    counts = tuple((file.name, table.num_rows) for file, table in zip(files, tables, strict=True))
    return RawTable(columns, counts, np.arange(n_rows))


def numbers_of(table: RawTable, name: str) -> npt.NDArray[np.float64] | None:
    """A column as float64, missing values NaN; None if it holds text.

    Raises:
        DataError: If it holds neither numbers nor text, such as lists or bytes.
    """
    import pyarrow as pa

    values = table.column(name)
    if not _is_plain(values.type):
        raise DataError(f'column "{name}" holds {values.type}, expected numbers or text')
    try:
        numbers: npt.NDArray[np.float64] = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    return numbers


def codes_of(table: RawTable, name: str, strip_characters: str = "") -> Codes:
    """A column as codes of its sorted values: as numbers if all are, else as text.

    Args:
        table: The table.
        name: The column.
        strip_characters: Removed from both ends of each value.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    values = table.column(name)
    if not _is_plain(values.type):
        raise DataError(f'column "{name}" holds {values.type}, expected numbers or text')
    if not pa.types.is_string(values.type):
        values = values.cast(pa.string())
    if strip_characters:
        values = pc.utf8_trim(values, characters=strip_characters)
    encoded = values.dictionary_encode()
    found: list[str] = encoded.dictionary.to_pylist()
    order = sorted(range(len(found)), key=_sort_key(found))
    position = np.empty(len(found) + 1, dtype=np.int64)
    position[order] = np.arange(len(found))
    position[-1] = -1
    indices = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return Codes(position[indices], tuple(found[i] for i in order))


def _sort_key(values: Sequence[str]) -> Any:
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return values.__getitem__
    return numbers.__getitem__


def _kind(file: Path) -> str:
    suffixes = [suffix.lower() for suffix in file.suffixes]
    return next((suffix for suffix in reversed(suffixes) if suffix not in _COMPRESSED), "")


def _is_plain(kind: Any) -> bool:
    import pyarrow as pa

    types = pa.types
    checks = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean, types.is_string, types.is_null)
    return any(check(kind) for check in checks)


def _cleaned(values: Any, text: TextFormat) -> Any:
    """One chunk, text trimmed, and everything that stands for a missing value null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    values = values.combine_chunks()
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_large_string(values.type) or pa.types.is_string_view(values.type):
        values = values.cast(pa.string())
    if pa.types.is_string(values.type):
        values = pc.utf8_trim_whitespace(values) if text.strip else values
        missing = pc.is_in(values, value_set=pa.array(text.na_values, type=pa.string()))
        return pc.if_else(missing, pa.scalar(None, pa.string()), values)
    if pa.types.is_floating(values.type):
        return pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
    return values


def _read_parquet(file: Path) -> Any:
    import pyarrow.parquet as pq

    return pq.read_table(file)


def _read_text(file: Path, skipped: int, text: TextFormat) -> Any:
    """All columns as text; every row has as many values as there are columns."""
    import pyarrow as pa

    separator = text.separator or ("\t" if _kind(file) in {".tsv", ".tab"} else ",")
    # A byte-order mark is no part of the first column's name.
    encoding = "utf-8-sig" if text.encoding.lower().replace("_", "-") in {"utf-8", "utf8"} else text.encoding
    raw = io.BufferedReader(pa.input_stream(str(file)), _BUFFER_BYTES)
    with io.TextIOWrapper(raw, encoding=encoding, newline="") as stream:
        for _ in range(skipped):
            stream.readline()
        # csv.reader, not arrow's: that one fails on a quote after a space and does not count blank lines.
        reader = csv.reader(stream, delimiter=separator, skipinitialspace=text.strip)
        names = text.column_names or next((_stripped(row, text) for row in reader if row), ())
        if not names:
            raise DataError(f'"{file}" is empty')
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DataError(f'"{file}": columns of the same name: {", ".join(twice)}')
        schema = pa.schema([(name, pa.string()) for name in names])
        chunks = [
            pa.table([pa.array(values, pa.string()) for values in zip(*rows, strict=True)], schema=schema)
            for rows in _row_chunks(file, reader, skipped, names)
        ]
    return pa.concat_tables(chunks) if chunks else schema.empty_table()


def _row_chunks(file: Path, reader: Any, skipped: int, names: Sequence[str]) -> Iterator[list[list[str]]]:
    width, rows = len(names), []
    for row in reader:
        if len(row) != width:
            if not row or (len(row) == 1 and not row[0].strip()):
                continue
            shown = ", ".join(names[:_SHOWN]) + (", …" if width > _SHOWN else "")
            raise DataError(f'"{file}", line {skipped + reader.line_num}: {len(row)} values, expected {width} ({shown})')
        rows.append(row)
        if len(rows) == _CHUNK_ROWS:
            yield rows
            rows = []
    if rows:
        yield rows


def _stripped(row: Sequence[str], text: TextFormat) -> tuple[str, ...]:
    return tuple(name.strip() if text.strip else name for name in row)
