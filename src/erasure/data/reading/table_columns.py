"""Columns of table files, read as they are written."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from erasure.data.dataset import rows_left
from erasure.data.reading.table_spool import CHUNK_ROWS, Spool, SpooledColumns
from erasure.errors import DataError, nearest

__all__ = ["MARKS_OF_MISSING", "RawTable", "TextFormat", "read_tables"]

MARKS_OF_MISSING = ("", "?", "NA", "N/A", "NaN", "nan", "null")
"""What stands for a missing value in text, unless a source is told otherwise."""

_SHOWN = 8
_BUFFER_BYTES = 1 << 20
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
        decimal: What stands before the fraction of a number: ``.``, or ``,`` with points between the thousands.
    """

    separator: str | None
    column_names: tuple[str, ...]
    na_values: tuple[str, ...]
    strip: bool
    encoding: str
    decimal: str = "."


@dataclass(frozen=True)
class RawTable:
    """Columns by name, and where their rows come from.

    Args:
        columns: Name to an arrow array, missing values null; columns of a large table are read from a file when they are asked for.
        files: Name and number of rows of each file, in order.
        rows: Position of each row in the files put one below the other.
        index: Columns that were the index of a data frame when it was saved.
    """

    columns: Mapping[str, Any]
    files: tuple[tuple[str, int], ...]
    rows: npt.NDArray[np.int64]
    index: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> Any:
        """A column by name.

        Raises:
            DataError: If there is none; says which there are.
        """
        self.check(name)
        return self.columns[name]

    def check(self, name: str) -> None:
        """That there is a column of this name; it is not read.

        Raises:
            DataError: If there is none; says which there are.
        """
        if name not in self.columns:
            hint = separator_hint(self.columns) or nearest(name, self.columns)
            there = ", ".join(self.columns)
            raise DataError(f'{self.files[0][0]} has no column "{name}"; it has {there}{f"; {hint}" if hint else ""}')

    def parts(self, *names: str) -> Iterator[tuple[int, list[Any]]]:
        """Some columns a few thousand rows at a time: the number of the first row, and an arrow array for each name."""
        if isinstance(self.columns, SpooledColumns):
            yield from self.columns.parts(names)
            return
        columns = [self.column(name) for name in names]
        for start in range(0, len(self), CHUNK_ROWS):
            yield start, [column.slice(start, CHUNK_ROWS) for column in columns]

    def row(self, index: int) -> str:
        """Where a row is in its file, counted from 1 without the line of names."""
        position = int(self.rows[index])
        for name, n_rows in self.files:
            if position < n_rows:
                return f"row {position + 1} of {name}"
            position -= n_rows
        raise IndexError(index)

    def missing(self, name: str) -> npt.NDArray[np.bool_]:
        """Which rows have no value in a column."""
        self.check(name)
        return np.concatenate([column.is_null().to_numpy(zero_copy_only=False) for _, (column,) in self.parts(name)])

    def left(self) -> Tensor | None:
        """The row that each sample is from, as for :class:`~erasure.data.dataset.Dataset`."""
        return rows_left(torch.from_numpy(self.rows))

    def keep(self, mask: npt.NDArray[np.bool_]) -> RawTable:
        """The rows that ``mask`` selects."""
        import pyarrow as pa

        with Spool() as spool:
            for start, columns in self.parts(*self.columns):
                chosen = pa.array(mask[start : start + len(columns[0])])
                spool.append(pa.record_batch([column.filter(chosen) for column in columns], names=list(self.columns)))
            return RawTable(spool.columns(), self.files, self.rows[mask], self.index)


def read_tables(files: Sequence[Path], skip_rows: Sequence[int], text: TextFormat) -> RawTable:
    """Several files with the same columns, one below the other; a table that is too large for memory goes to a temporary file.

    Raises:
        DataError: If a file is unreadable or ragged (with its line), or if the files differ in their columns.
    """
    import pyarrow as pa

    schemas: list[Any] = []
    for file, skipped in zip(files, skip_rows, strict=True):
        if remedy := _OTHER_KINDS.get(_kind(file)):
            raise DataError(f'"{file}" is no table of separated values or Parquet: {remedy}')
        with _reported(file, text):
            schemas.append(_parquet_schema(file) if _kind(file) == ".parquet" else _text_schema(file, skipped, text))
        if set(schemas[-1].names) != set(schemas[0].names):
            odd = ", ".join(sorted(set(schemas[-1].names) ^ set(schemas[0].names)))
            raise DataError(f'"{file}" has other columns than "{files[0]}": {odd}')
    try:
        common = pa.unify_schemas(schemas, promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(f"the files hold different types in one column: {str(error).splitlines()[0]}") from error
    counts: list[tuple[str, int]] = []
    with Spool() as spool:
        for file, skipped in zip(files, skip_rows, strict=True):
            n_rows = 0
            with _reported(file, text):
                for batch in _parquet_batches(file) if _kind(file) == ".parquet" else _text_batches(file, skipped, text):
                    n_rows += batch.num_rows
                    columns = [_cleaned(batch.column(field.name).cast(field.type), text) for field in common]
                    spool.append(pa.record_batch(columns, names=common.names))
            counts.append((file.name, n_rows))
        total = sum(n_rows for _, n_rows in counts)
        if total == 0:
            raise DataError(f"{', '.join(str(file) for file in files)}: no rows")
        index = frozenset[str].intersection(*map(_index_of, schemas))
        return RawTable(spool.columns(), tuple(counts), np.arange(total), index)


def _index_of(schema: Any) -> frozenset[str]:
    """The columns that pandas notes in a file as the index of the data frame."""
    try:
        return frozenset(each for each in (schema.pandas_metadata or {}).get("index_columns", ()) if isinstance(each, str))
    except (ValueError, AttributeError):  # it is no more than a note
        return frozenset()


def separator_hint(columns: Iterable[str]) -> str:
    """What to do if a file's names are all in one column, since it separates its values by something else."""
    names = list(columns)
    found = next((mark for mark in (";", "\t", "|", ",") if len(names) == 1 and mark in names[0]), None)
    return "" if found is None else f"the values are probably separated otherwise: give separator = {json.dumps(found)}"


@contextmanager
def _reported(file: Path, text: TextFormat) -> Iterator[None]:
    """Say which file cannot be read, and what to do."""
    import pyarrow as pa

    try:
        yield
    except UnicodeError as error:
        with file.open("rb") as stream:
            likely = "utf-16" if stream.read(2) in {b"\xff\xfe", b"\xfe\xff"} else "latin-1"
        raise DataError(f'"{file}" is not text in {text.encoding} ({error}); give its encoding, such as "{likely}"') from error
    except (pa.ArrowException, OSError, csv.Error, LookupError) as error:
        raise DataError(f'"{file}" cannot be read: {str(error).splitlines()[0]}') from error


_HUB = 'the source HuggingFace reads it, "path" being its folder, or "json" with "files"'
_SHEET = "save the sheet as CSV"
_OTHER_KINDS = {
    **dict.fromkeys((".json", ".jsonl", ".ndjson"), _HUB),
    **dict.fromkeys((".xls", ".xlsx", ".ods"), _SHEET),
    **dict.fromkeys((".npz", ".npy", ".pt", ".pth", ".safetensors"), "the source TensorFile reads arrays and tensors"),
    **dict.fromkeys((".zip", ".7z", ".rar", ".tar"), "it is an archive; unpack it"),
    **dict.fromkeys((".feather", ".arrow"), "save it as Parquet"),
    **dict.fromkeys((".pkl", ".pickle"), "it may run code when it is read, so nothing reads it; save it as CSV or Parquet"),
}


def _kind(file: Path) -> str:
    suffixes = [suffix.lower() for suffix in file.suffixes]
    return next((suffix for suffix in reversed(suffixes) if suffix not in _COMPRESSED), "")


def _cleaned(values: Any, text: TextFormat) -> Any:
    """Text trimmed, and everything that stands for a missing value null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_large_string(values.type) or pa.types.is_string_view(values.type):
        values = values.cast(pa.string())
    if pa.types.is_string(values.type):
        values = pc.utf8_trim_whitespace(values) if text.strip else values
        values = _with_points(values) if text.decimal == "," else values
        missing = pc.is_in(values, value_set=pa.array(text.na_values, type=pa.string()))
        return pc.if_else(missing, pa.scalar(None, pa.string()), values)
    if pa.types.is_floating(values.type):
        return pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
    return values


def _with_points(values: Any) -> Any:
    """Numbers that are written with a decimal comma, and may have points between the thousands, as programs write them."""
    import pyarrow.compute as pc

    bare = pc.replace_substring(pc.replace_substring(values, ".", ""), ",", ".")
    return pc.if_else(
        pc.match_substring_regex(values, r"^[+-]?([0-9]{1,3}(\.[0-9]{3})+|[0-9]*,?[0-9]+|[0-9]{1,3}(\.[0-9]{3})+,[0-9]+)$"),
        bare,
        values,
    )


def _parquet_schema(file: Path) -> Any:
    import pyarrow.parquet as pq

    return pq.read_schema(file)


def _parquet_batches(file: Path) -> Iterator[Any]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as stream:
        yield from stream.iter_batches(batch_size=CHUNK_ROWS)


def _text_schema(file: Path, skipped: int, text: TextFormat) -> Any:
    import pyarrow as pa

    with _text_reader(file, skipped, text) as (_, names):
        return pa.schema([(name, pa.string()) for name in names])


def _text_batches(file: Path, skipped: int, text: TextFormat) -> Iterator[Any]:
    """All columns as text; every row has as many values as there are columns."""
    import pyarrow as pa

    with _text_reader(file, skipped, text) as (reader, names):
        for rows in _row_chunks(file, reader, skipped, names):
            columns = [pa.array(values, pa.string()) for values in zip(*rows, strict=True)]
            yield pa.record_batch(columns, names=list(names))


@contextmanager
def _text_reader(file: Path, skipped: int, text: TextFormat) -> Iterator[tuple[Any, Sequence[str]]]:
    """The rows of a text file behind the line of names, and the names."""
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
        yield reader, names


def _row_chunks(file: Path, reader: Any, skipped: int, names: Sequence[str]) -> Iterator[list[list[str]]]:
    width, rows = len(names), []
    for row in reader:
        if len(row) != width:
            if not row or (len(row) == 1 and not row[0].strip()):
                continue
            shown = ", ".join(names[:_SHOWN]) + (", …" if width > _SHOWN else "")
            hint = "give skip_rows = 1 if it is a comment" if names[0].startswith("#") else separator_hint(names)
            found = f'"{file}", line {skipped + reader.line_num}: {len(row)} values, expected {width} ({shown})'
            raise DataError(f"{found}; {hint}" if hint else found)
        rows.append(row)
        if len(rows) == CHUNK_ROWS:
            yield rows
            rows = []
    if rows:
        yield rows


def _stripped(row: Sequence[str], text: TextFormat) -> tuple[str, ...]:
    return tuple(name.strip() if text.strip else name for name in row)
