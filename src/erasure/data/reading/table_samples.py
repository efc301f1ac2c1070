"""Columns of tables as preprocess steps want them: numbers where all values are, else texts or lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from erasure.data.preprocess.samples import Field, Fields, objects
from erasure.data.reading.table_columns import RawTable
from erasure.data.reading.table_values import numbers_of, whole_numbers_of
from erasure.errors import DataError

__all__ = ["MISSING", "imputed", "is_text", "median", "table_fields"]

MISSING = "missing"
"""The category of missing texts that are imputed."""


def table_fields(
    table: RawTable, names: Sequence[str], *, as_text: Sequence[str] = (), strip_characters: str = "", exact: bool = False
) -> Fields:
    """Columns of a table by name.

    Args:
        table: The table; what is missing is filled with a column's median or the category ``missing``.
        names: The columns.
        as_text: Those that stay text even if all values are numbers.
        strip_characters: Removed from both ends of each text.
        exact: For labels and groups: different values stay different, so 007 is no 7 and long whole numbers are not rounded.
    """
    return {name: _field(table, name, name in as_text, strip_characters, exact) for name in names}


def imputed(numbers: npt.NDArray[np.float64], name: str) -> npt.NDArray[np.float64]:
    """Numbers with the column's median where they are NaN.

    Raises:
        DataError: If there is no number at all.
    """
    gaps = np.isnan(numbers)
    return np.where(gaps, median(numbers, name), numbers) if gaps.any() else numbers


def median(numbers: npt.NDArray[np.float64], name: str) -> float:
    """The median of the numbers that are there.

    Raises:
        DataError: If there is none.
    """
    there = numbers[~np.isnan(numbers)]
    if not len(there):
        raise DataError(f'column "{name}" has no value at all; leave it out of the features')
    return float(np.median(there))


def is_text(kind: Any) -> bool:
    """Whether a column of this arrow type holds texts."""
    import pyarrow as pa

    return bool(pa.types.is_string(kind))


def _field(table: RawTable, name: str, as_text: bool, strip_characters: str, exact: bool) -> Field:
    import pyarrow as pa
    import pyarrow.compute as pc

    values: Any = table.column(name)
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type) or pa.types.is_fixed_size_list(values.type):
        return Field(objects(values.to_pylist()))
    numbers = None if as_text else numbers_of(table, name)
    if numbers is not None and exact:
        whole = whole_numbers_of(table, name)
        if whole is not None:
            return Field(whole)
        if pa.types.is_integer(values.type) and not pa.types.is_uint64(values.type) and not values.null_count:
            return Field(values.cast(pa.int64()).to_numpy(zero_copy_only=False))
        if (np.isfinite(numbers) & (numbers == np.floor(numbers))).any() or is_text(values.type):
            numbers = None  # 007, a long identifier, or True: the text tells them apart
    if numbers is not None:
        return Field(imputed(numbers, name))
    texts = values.cast(pa.string()).fill_null(MISSING)
    return Field(objects((pc.utf8_trim(texts, characters=strip_characters) if strip_characters else texts).to_pylist()))
