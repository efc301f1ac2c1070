"""Input columns of a table: which there are, and their values as one block of numbers."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from erasure.data.on_disk import empty_column
from erasure.data.reading.table_advice import advice
from erasure.data.reading.table_columns import RawTable
from erasure.data.reading.table_samples import MISSING, median
from erasure.data.reading.table_values import EXACT, as_codes, as_numbers, categories_of, numbers_of, whole_numbers_of
from erasure.errors import DataError
from erasure.training.batches import TensorColumn
from erasure.training.mapped import MappedColumn

__all__ = ["bookkeeping", "inputs_of"]

_WRITTEN_BY_PROGRAMS = re.compile(r"|Unnamed: \d+(\.\d+)*|Unnamed: \d+_level_\d+|__index_level_\d+__|index|level_\d+")
"""Names under which pandas and its like keep row numbers; nobody names a feature so."""

_USUAL = re.compile(r"(row|sample|record|line)?[ _.-]?(id|idx|index|no|nr|num|number|names?)|rows?|#", re.IGNORECASE)
"""Names by which people call row numbers, and other things too."""

_ROUNDED = 2**24
"""Whole numbers from here on are rounded in float32."""

_MIN_COUNTED = 10
"""Rows from which on it is no coincidence that a column counts them."""


def bookkeeping(table: RawTable, *known: str) -> set[str]:
    """Columns that number the rows and were written by a program, not by a person; a warning names them.

    They are the index of a data frame that was saved, or number the rows of each file: 0, 1, …, or what is left of that after rows were
    shuffled or left out. Columns with a name that people give to row numbers (``id``, ``Index``, ``row_id``) are left out where they count
    up by one from row to row; any other column that does so stays, with a warning: the order of the rows may tell the labels.

    Args:
        table: The table.
        known: Columns whose role has been given.

    Raises:
        DataError: If a column without a name is anything else.
    """
    found: set[str] = set()
    for position, name in enumerate(table.columns):
        if name in known:
            continue
        is_program = _WRITTEN_BY_PROGRAMS.fullmatch(name) is not None
        if name in table.index and not (is_program and _numbers_rows(table, name)):
            text = f'column {position} ("{name}") was the index of the table that was saved and is left out of the features'
            warnings.warn(f"{text}; list features to keep it", stacklevel=4)
            found.add(name)
            continue
        if not is_program:
            if not _counts_rows(table, name):
                continue
            if not _USUAL.fullmatch(name.strip()):
                text = f'column {position} ("{name}") counts the rows and is a feature; leave it out if it is bookkeeping'
                warnings.warn(text, stacklevel=4)
                continue
        if _numbers_rows(table, name):
            warnings.warn(f'column {position} ("{name}") numbers the rows and is left out of the features', stacklevel=4)
            found.add(name)
        elif not name.strip():
            remedy = f"name it in the file, or give index_column = {position} to leave it out"
            raise DataError(f"column {position} has no name, and does not number the rows; {remedy}")
    return found


def _numbers_rows(table: RawTable, name: str) -> bool:
    try:
        numbers = whole_numbers_of(table, name)
    except DataError:
        return False
    if numbers is None or numbers.min() < 0:
        return False
    ends = np.cumsum([n_rows for _, n_rows in table.files])
    files = np.searchsorted(ends, table.rows, side="right")
    return all(len(np.unique(part)) == len(part) for part in (numbers[files == k] for k in range(len(ends))))


def _counts_rows(table: RawTable, name: str) -> bool:
    """Whether a column is 0, 1, 2, … or 1, 2, 3, … from row to row of each file, of which there are enough that it is no coincidence."""
    import pyarrow as pa

    if len(table) < _MIN_COUNTED:
        return False
    _, (first,) = next(iter(table.parts(name)))
    if not (pa.types.is_integer(first.type) or pa.types.is_string(first.type)):
        return False
    # Most columns are told by their first rows.
    start = as_numbers(first.slice(0, _MIN_COUNTED), name)
    if start is None or not bool((np.diff(start) == 1).all()):
        return False
    numbers = whole_numbers_of(table, name)
    if numbers is None or len(numbers) != len(table):
        return False
    starts = np.cumsum([0, *(n_rows for _, n_rows in table.files)])
    within = table.rows - starts[np.searchsorted(starts, table.rows, side="right") - 1]
    apart = numbers - within
    through = numbers - table.rows
    return any(bool((each == each[0]).all()) and each[0] in (0, 1) for each in (apart, through))


def inputs_of(
    table: RawTable, features: tuple[str, ...], categorical: tuple[str, ...], *, impute: bool
) -> tuple[TensorColumn, tuple[str, ...]]:
    """The inputs, a few thousand rows at a time, and what each column is called.

    Args:
        table: The table.
        features: Columns of the inputs.
        categorical: Those that become one 0/1 column a value.
        impute: Whether what is missing is filled: numbers with the median, categories with a category of their own.

    Raises:
        DataError: If a column holds anything but numbers; says what it looks like and what reads it.
    """
    categories = {name: categories_of(table, name) for name in features if name in categorical}
    medians = _filled(table, features, categories) if impute else {}
    widths = {name: _width(table, name) for name in features if name not in categories}
    names = tuple(each for name in features for each in _names(name, categories.get(name), widths.get(name)))
    x = empty_column((len(table), len(names)), torch.float32)
    text: list[str] = []
    for start, columns in table.parts(*features):
        rows = x.values[start : start + len(columns[0])].numpy()
        place = 0
        for name, values in zip(features, columns, strict=True):
            if name in categories:
                codes = as_codes(values, name, categories[name])
                # -1, what is missing, is the last one.
                block: npt.NDArray[Any] | None = np.eye(len(categories[name]), dtype=np.float32)[codes]
            elif width := widths[name]:
                block = as_numbers(values.flatten(), name)
                block = None if block is None else block.reshape(-1, width)
            else:
                block = as_numbers(values, name)
                block = None if block is None else np.where(np.isnan(block), medians.get(name, np.nan), block)[:, None]
            if block is None:
                text += [name] * (name not in text)
                place += widths[name] or 1
                continue
            with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused with its column's name
                rows[:, place : place + block.shape[1]] = block
            place += block.shape[1]
        if isinstance(x, MappedColumn):
            x.release()
    if text:
        raise DataError(advice(table, [name for name in features if name in text]))
    plain = [name for name, width in widths.items() if not width]
    _warn_of_long_numbers(table, plain, names, x)
    _warn_of_codes(table, plain)
    _warn_of_points(table, plain)
    return x, names


def _filled(table: RawTable, features: tuple[str, ...], categories: dict[str, tuple[str, ...]]) -> dict[str, float]:
    """Medians of the columns with gaps; categories with gaps get one more."""
    medians = {}
    for name in features:
        gaps = table.missing(name)
        if name in categories:
            categories[name] += (MISSING,) * bool(gaps.any())
        elif gaps.any() and (numbers := numbers_of(table, name)) is not None:
            medians[name] = median(numbers, name)
    return medians


def _names(name: str, categories: tuple[str, ...] | None, width: int | None) -> list[str]:
    if categories is not None:
        return [f"{name}={value}" for value in categories]
    return [f"{name}[{k}]" for k in range(width)] if width else [name]


def _width(table: RawTable, name: str) -> int:
    """Length of the lists in a column; 0 if it holds no lists.

    Raises:
        DataError: If they differ in length, or hold anything but numbers.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    lengths: set[int] = set()
    for start, (values,) in table.parts(name):
        kind = values.type
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
            return 0
        inner = kind.value_type
        if not (
            pa.types.is_floating(inner) or pa.types.is_integer(inner) or pa.types.is_boolean(inner) or pa.types.is_decimal(inner)
        ):
            raise DataError(f'column "{name}" holds lists of {inner}, expected lists of numbers; leave it out of the features')
        if name.casefold() in _TOKENS and pa.types.is_integer(inner):
            raise DataError(
                f'column "{name}" holds ids of tokens: these texts are tokenised already; give the column of the texts themselves, '
                "or pad the ids to one length and read them by TensorFile as int64, which takes them for tokens"
            )
        if values.null_count:
            where = table.row(start + int(values.is_null().to_numpy(zero_copy_only=False).argmax()))
            raise DataError(f'column "{name}" has no list in {where}, and there is none to fill in; give missing = "drop"')
        lengths.update(pc.unique(pc.list_value_length(values)).drop_null().to_pylist())
        if len(lengths) > 1:
            parameters = f'"x": true, "columns": ["{name}"], "max_length": {max(lengths)}'
            step = f'{{"class": "ParseLists", "parameters": {{{parameters}}}}}'
            raise DataError(
                f'column "{name}" holds lists of different lengths ({min(lengths)} to {max(lengths)}, first found in '
                f'{table.row(start)} and below); the step {step} in "preprocess" pads them, or leave the column out'
            )
    return lengths.pop() if lengths else 0


_TOKENS = {"input_ids", "token_ids", "attention_mask", "token_type_ids"}


def _warn_of_codes(table: RawTable, plain: list[str]) -> None:
    """Whole numbers that are written with leading zeros, such as postal codes, are hardly meant as measurements."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for name in plain:
        for start, (values,) in table.parts(name):
            if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
                break
            is_code = pc.fill_null(pc.match_substring_regex(values, r"^\s*0[0-9]+\s*$"), False).to_numpy(zero_copy_only=False)
            if is_code.any():
                at = int(is_code.argmax())
                found = f'"{name}" is read as numbers, and {table.row(start + at)} has "{values[at].as_py().strip()}"'
                warnings.warn(f"{found}: if these are codes, list it as categorical, or leave it out", stacklevel=4)
                break


_GROUPED_BY_POINTS = r"^\s*[+-]?(0|[1-9][0-9]{0,2}(\.[0-9]{3})?)\s*$"
"""Numbers below a thousand, and such as 12.345: a fraction to some, twelve thousand to others."""


def _warn_of_points(table: RawTable, plain: list[str]) -> None:
    """Texts such as 12.345 and 850 alone may be thousands with points between them; they are read as fractions, which is said."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for name in plain:
        found = ""
        for start, (values,) in table.parts(name):
            if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
                break
            if not pc.all(pc.match_substring_regex(values, _GROUPED_BY_POINTS), min_count=0).as_py():
                found = ""
                break
            has_point = pc.fill_null(pc.match_substring(values, "."), False).to_numpy(zero_copy_only=False)
            if not found and has_point.any():
                at = int(has_point.argmax())
                found = f'"{name}" is read as fractions, and {table.row(start + at)} has "{values[at].as_py().strip()}"'
        if found:
            remedy = 'if a point stands between thousands there, TableFile reads it with decimal = ","'
            warnings.warn(f"{found}, as all have three digits behind the point: {remedy}", stacklevel=4)


def _warn_of_long_numbers(table: RawTable, plain: list[str], names: tuple[str, ...], x: TensorColumn) -> None:
    """Whole numbers that float32 makes alike, as of identifiers, are hardly meant as inputs."""
    places: Mapping[str, int] = {name: place for place, name in enumerate(names)}
    for name in plain:
        column = x.values[:, places[name]]
        if not len(column) or float(column.abs().max()) <= _ROUNDED:
            continue
        numbers = numbers_of(table, name)
        if numbers is None or not bool((np.isfinite(numbers) & (numbers == np.floor(numbers))).all()):
            continue
        n_kept = len(np.unique(column.numpy()))
        largest = np.abs(numbers).max()
        if n_kept < (len(np.unique(numbers)) if largest < EXACT else _n_written(table, name)):
            n_digits = int(np.log10(largest)) + 1
            message = f'"{name}" has whole numbers of up to {n_digits} digits, of which inputs keep only {n_kept} apart'
            warnings.warn(f"{message}; give it as index_column if it is an identifier", stacklevel=4)


def _n_written(table: RawTable, name: str) -> int:
    """How many values a column has, as they are written: numbers of float64 would make some of them alike."""
    import pyarrow.compute as pc

    return len({value for _, (values,) in table.parts(name) for value in pc.unique(values).drop_null().to_pylist()})
