"""Tables for ``erasure new``: which columns are inputs, read as the source reads them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from erasure.data.reading.table_advice import is_molecule, looks_like, written_otherwise
from erasure.data.reading.table_columns import MARKS_OF_MISSING, RawTable, TextFormat, read_tables
from erasure.data.reading.table_features import bookkeeping
from erasure.data.reading.table_values import categories_of, numbers_of
from erasure.errors import DataError, nearest
from erasure.workflows.new_data import AskLabel, DataChoice, chosen_from, refused

__all__ = ["chosen_table", "is_prose"]

_MANY_VALUES = 50
_LOOKED_AT = 5000
_JSON = {".json", ".jsonl", ".ndjson"}


def chosen_table(path: Path, ask_label: AskLabel) -> DataChoice:
    """A table as a configuration names it: numbers and categories are its inputs, or texts where there is nothing else.

    Args:
        path: A text or Parquet file.
        ask_label: Chooses the label among the columns.

    Raises:
        ConfigError: If it cannot be read, or no classifier can learn from it.
    """
    if set(path.suffixes) & _JSON:
        raise refused(f'"{path}" is JSON; put it into a folder and give the folder, which is read by the source HuggingFace')
    try:
        table, written = _read(path)
        columns = list(table.columns)
        if len(columns) < 2:
            raise refused(f'"{path}" needs a line of names and two columns or more; found {json.dumps(columns)}')
        label = ask_label([name for name in columns if name])
        if label not in columns:
            raise refused(f'"{path}" has no column "{label}"; there are {", ".join(columns[:20])}', nearest(label, columns))
        _check_label(table, label)
        return _chosen(path, table, label, written)
    except DataError as error:
        raise refused(str(error)) from error


def _read(path: Path) -> tuple[RawTable, dict[str, str]]:
    """The table, and how it is written where that is not what the file's name says."""

    def read(**written: str) -> tuple[RawTable, dict[str, str]]:
        text = TextFormat(written.get("separator"), (), MARKS_OF_MISSING, True, "utf-8", written.get("decimal", "."))
        return read_tables([path], [0], text), written

    try:
        table, _ = read()
        names = list(table.columns)
        other = next((mark for mark in ";\t|," if len(names) == 1 and mark in names[0]), None)
        if other is None:
            return table, {}
    except DataError as error:
        # Decimal commas beside another separator make rows of different lengths.
        if "separator" not in str(error):
            raise
        other = ";"
    table, _ = read(separator=other)
    commas = any(_holds_text(table, name) and "decimal comma" in looks_like(_texts(table, name), name) for name in table.columns)
    return read(separator=other, decimal=",") if commas else (table, {"separator": other})


def _chosen(path: Path, table: RawTable, label: str, written: dict[str, str]) -> DataChoice:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        numbering = bookkeeping(table, label)
    inputs = [name for name in table.columns if name != label and name not in numbering]
    text = {name: _texts(table, name) for name in inputs if _holds_text(table, name)}
    left_out = {name: _reason(values, name, len(table)) for name, values in text.items()}
    left_out = {name: reason for name, reason in left_out.items() if reason}
    features = [name for name in inputs if name not in left_out]
    gaps = {name for name in (label, *features) if table.missing(name).any()}
    if not features:
        return _from_texts(path, table, label, written, {name: text[name] for name in left_out})
    parameters: dict[str, Any] = {"path": str(path), "label": label, **written}
    if left_out or numbering:
        parameters["features"] = features
    if categories := [name for name in text if name not in left_out]:
        parameters["categorical"] = categories
    if gaps:
        parameters["missing"] = "drop" if label in gaps else "impute"
    notices = [str(each.message) for each in said]
    notices += [f'column "{name}" is left out: {reason}' for name, reason in left_out.items()]
    inputs_in_words = f"rows, {len(features)} inputs"
    if left_out:
        inputs_in_words += f" without {', '.join(left_out)}"
    return chosen_from("TableFile", parameters, inputs_in_words, notices)


def _from_texts(path: Path, table: RawTable, label: str, written: dict[str, str], texts: dict[str, list[str]]) -> DataChoice:
    """A table whose inputs are all text: one that is to be read, or molecules."""
    if not texts:
        raise refused(f'"{path}" has no column to learn from besides "{label}"')
    if molecules := [name for name, values in texts.items() if all(map(is_molecule, values))]:
        raise refused(
            f'the column "{molecules[0]}" of "{path}" holds molecules (SMILES), which the source MoleculeNet makes graphs of',
            "give a file of MoleculeNet in its place, such as ROOT/bbbp/raw/BBBP.csv (a file of your own with the same columns will do)",
        )
    if odd := next((name for name, values in texts.items() if written_otherwise(values)), None):
        raise refused(f'there is nothing to learn from but text; column "{odd}": {looks_like(texts[odd], odd)}')
    read = [name for name, values in texts.items() if is_prose(values)]
    if not read:
        name = next(iter(texts))
        raise refused(f'there is nothing to learn from but text; column "{name}": {looks_like(texts[name], name)}')
    parameters: dict[str, Any] = {"files": [str(path)], "columns": read, "label": label}
    if written:
        parameters["options"] = {"sep": written["separator"]}
    if any(table.missing(name).any() for name in (label, *read)):
        parameters["missing"] = "drop"
    notices = [f'column "{name}" is left out: {looks_like(texts[name], name)}' for name in texts if name not in read]
    return chosen_from("HuggingFace", parameters, f"texts ({', '.join(read)})", notices)


def _reason(texts: list[str], name: str, n_rows: int) -> str:
    """Why a column of text is no input of a table; empty if it is one, as a category."""
    n_values, said = len(set(texts)), looks_like(texts, name)
    if n_values > max(_MANY_VALUES, n_rows // 10) or (n_values > max(2, len(texts) // 2) and is_prose(texts)):
        # Nearly as many values as rows are names and notes, which would only be learned by heart.
        return said
    # Numbers written otherwise, dates and the like are no categories, however often they repeat; CO and NC may be states.
    is_known = said.startswith(("these are", "all other values")) and ("SMILES" not in said or "smiles" in name.casefold())
    return said if n_values > 2 and is_known else ""


def is_prose(texts: Sequence[str]) -> bool:
    """Whether most texts have several words."""
    return sum(" " in each for each in texts) > len(texts) // 2


def _texts(table: RawTable, name: str) -> list[str]:
    found: list[str] = []
    for _, (values,) in table.parts(name):
        found += [str(value) for value in values.to_pylist() if value is not None]
        if len(found) >= _LOOKED_AT:
            break
    return found


def _holds_text(table: RawTable, name: str) -> bool:
    import pyarrow as pa

    kind = table.column(name).type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return False
    return numbers_of(table, name) is None


def _check_label(table: RawTable, label: str) -> None:
    values = categories_of(table, label)
    n_rows = len(table) - int(table.missing(label).sum())
    if len(values) < 2:
        raise refused(f'column "{label}" has {len(values)} different value{"" if len(values) == 1 else "s"}; a label needs two')
    if len(values) > n_rows // 2:
        raise refused(f'column "{label}" has {len(values)} different values in {len(table)} rows; a label has few')
    numbers = numbers_of(table, label)
    if numbers is not None and bool((numbers[~np.isnan(numbers)] % 1 != 0).any()):
        raise refused(f'column "{label}" has fractions; a label is a class, as a whole number or as text')
