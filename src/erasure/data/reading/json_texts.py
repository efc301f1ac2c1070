"""Texts of JSON files as they are written: the ``datasets`` library takes those that read like dates for dates."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from erasure.errors import DataError

__all__ = ["texts_as_written"]

_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def texts_as_written(rows: Any, files: Sequence[str], field: str | None, encoding: str) -> Any:
    """The rows with the files' own texts in columns that the library has made dates of.

    Args:
        rows: The library's data set, in the order of the files.
        files: Local JSON files, compressed or not.
        field: Name of the part of each file that holds the rows; None for the whole.
        encoding: Of the files.

    Raises:
        DataError: If the texts cannot be found in the files.
    """
    import pyarrow as pa

    table = rows.with_format("arrow")[:]
    dates = [name for name in table.column_names if pa.types.is_temporal(table.schema.field(name).type)]
    if not dates:
        return rows
    written = [row for file in files for row in _rows(Path(file), field, encoding)]
    texts = {name: [row.get(name) if isinstance(row, dict) else row for row in written] for name in dates}
    for name, values in texts.items():
        if len(values) != len(table) or not all(value is None or isinstance(value, str) for value in values):
            raise DataError(
                f'the column "{name}" of {", ".join(files)} reads like dates, and its texts cannot be found again; give the rows as '
                "JSON Lines or CSV"
            )
        table = table.set_column(table.column_names.index(name), name, pa.array(values, pa.string()))
    return type(rows)(table, split=rows.split)


def _rows(file: Path, field: str | None, encoding: str) -> list[Any]:
    """The rows of one file; none where its layout is another."""
    suffix = file.suffix.lower()
    if suffix == ".zst":
        return []
    with _OPENERS.get(suffix, open)(file, "rt", encoding=encoding) as stream:
        text = stream.read().removeprefix("\ufeff")
    if field is None:
        try:
            return (
                [json.loads(line) for line in text.split("\n") if line.strip()] if text.lstrip().startswith("{") else _whole(text)
            )
        except ValueError:
            return _whole(text)
    return _listed(json.loads(text)[field])


def _whole(text: str) -> list[Any]:
    return _listed(json.loads(text))


def _listed(found: Any) -> list[Any]:
    if isinstance(found, dict) and all(isinstance(values, list) for values in found.values()):
        return [dict(zip(found, values, strict=False)) for values in zip(*found.values(), strict=False)]
    return found if isinstance(found, list) else []
