"""Values of table columns as numbers and as codes; equal values are one value, however a file writes them."""

from __future__ import annotations

import json
import re
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from erasure.data.reading.table_columns import RawTable
from erasure.errors import DataError

__all__ = ["EXACT", "Codes", "as_codes", "as_numbers", "categories_of", "codes_of", "numbers_of", "whole_numbers_of"]

_TRUTH_SPELLINGS = 6
EXACT = 2**53
"""Whole numbers from here on are rounded in float64."""
_LONGEST = 400
_PLAIN_NUMBER = r"^[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_PLAIN = re.compile(_PLAIN_NUMBER)
"""A number as programs write it; a leading zero, as of 007, makes it a text."""


@dataclass(frozen=True)
class Codes:
    """Values as codes: ``codes[i]`` is the position of row i's value in ``names``, or -1 if it is missing."""

    codes: npt.NDArray[np.int64]
    names: tuple[str, ...]


def numbers_of(table: RawTable, name: str) -> npt.NDArray[np.float64] | None:
    """A column as float64, missing values NaN; None if it holds text.

    Raises:
        DataError: If it holds neither numbers nor text, such as lists or bytes.
    """
    chunks: list[npt.NDArray[np.float64]] = []
    for _, (values,) in table.parts(name):
        numbers = as_numbers(values, name)
        if numbers is None:
            return None
        chunks.append(numbers)
    return np.concatenate(chunks)


def as_numbers(values: Any, name: str) -> npt.NDArray[np.float64] | None:
    """Some values of a column as float64, missing ones NaN, truth values 1 and 0; None if they hold text.

    Raises:
        DataError: If they are neither numbers nor text, such as lists or bytes.
    """
    import pyarrow as pa

    values = _plain(values, name)
    if pa.types.is_string(values.type):
        values = _without_truth(values)
    try:
        # Whole numbers beyond 2**53 are rounded; who must tell them apart asks for whole_numbers_of or codes_of.
        numbers: npt.NDArray[np.float64] = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    return numbers


def _without_truth(values: Any) -> Any:
    """Texts that are all True and False, in any spelling of case, as truth values."""
    import pyarrow.compute as pc

    found = pc.unique(values).drop_null().to_pylist() if len(values) else []
    if (
        not found
        or any(each.casefold() not in {"true", "false"} for each in found[: _TRUTH_SPELLINGS + 1])
        or len(found) > _TRUTH_SPELLINGS
    ):
        return values
    return pc.equal(pc.utf8_lower(values), "true")


def whole_numbers_of(table: RawTable, name: str) -> npt.NDArray[np.int64] | None:
    """A column as whole numbers, exactly; None if a value is missing, is written with leading zeros, or is anything else.

    Equal values that are written otherwise, such as 7 and 7.0, are one number.

    Raises:
        DataError: If it holds neither numbers nor text.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    chunks: list[npt.NDArray[np.int64]] = []
    for _, (values,) in table.parts(name):
        values = _plain(values, name)
        if pa.types.is_string(values.type) and not pc.all(pc.match_substring_regex(values, _PLAIN_NUMBER), min_count=0).as_py():
            return None
        numbers = as_numbers(values, name)
        if numbers is None or not bool(
            (np.isfinite(numbers) & (numbers == np.floor(numbers)) & (np.abs(numbers) <= EXACT)).all()
        ):
            return None
        chunks.append(numbers.astype(np.int64))
    return np.concatenate(chunks)


def codes_of(table: RawTable, name: str, strip_characters: str = "") -> Codes:
    """A column as codes of its sorted values: as numbers if all are, else as text.

    Args:
        table: The table.
        name: The column.
        strip_characters: Removed from both ends of each value.
    """
    table.check(name)
    names = categories_of(table, name, strip_characters)
    _warn_of_twins(name, names)
    return Codes(np.concatenate([as_codes(values, name, names, strip_characters) for _, (values,) in table.parts(name)]), names)


def _warn_of_twins(name: str, names: Sequence[str]) -> None:
    """Values that differ in nothing but spelling, such as Yes and yes, are several here, which is hardly meant."""
    known: dict[str, str] = {}
    for each in names:
        plain = " ".join(unicodedata.normalize("NFKC", each).casefold().split())
        first = known.setdefault(plain.lstrip("0") or "0" if plain.isdecimal() else plain, each)
        if first != each:
            one, other = (json.dumps(value, ensure_ascii=not value.isascii()) for value in (first, each))
            text = f'"{name}" has {one} and {other}, which are written otherwise and count as two values'
            warnings.warn(f"{text}; write them alike if they are one", stacklevel=5)
            return


def categories_of(table: RawTable, name: str, strip_characters: str = "") -> tuple[str, ...]:
    """The values of a column, each once, sorted: as numbers if all are, else as text.

    Numbers that are equal are one value, however they are written, and called as whole numbers where they are whole: 1 for ``1.0``.
    """
    import pyarrow.compute as pc

    found: set[str] = set()
    for _, (values,) in table.parts(name):
        found.update(pc.unique(_as_text(values, name, strip_characters)).drop_null().to_pylist())
    if _are_numbers(found):
        return tuple(sorted({_canonical(each) for each in found}, key=Decimal))
    return tuple(sorted(sorted(found), key=_sort_key(found)))


def as_codes(values: Any, name: str, names: Sequence[str], strip_characters: str = "") -> npt.NDArray[np.int64]:
    """Position of each value in ``names``, as :func:`categories_of` gives them; -1 for missing ones."""
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = _as_text(values, name, strip_characters)
    found = pc.index_in(texts, value_set=pa.array(names, pa.string()))
    if found.null_count > texts.null_count and _are_numbers(names):
        # Some are written otherwise than they are called, such as 1.0 for 1.
        written = pc.unique(texts).drop_null().to_pylist()
        places = {each: place for place, each in enumerate(names)}
        known = [places.get(_canonical(each) if _PLAIN.fullmatch(each) else each) for each in written]
        found = pc.take(pa.array(known, pa.int64()), pc.index_in(texts, value_set=pa.array(written, pa.string())))
    codes: npt.NDArray[np.int64] = found.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes


def _are_numbers(values: Iterable[str]) -> bool:
    """Whether all values are numbers as programs write them; 007 is none."""
    return all(_PLAIN.fullmatch(value) for value in values)


def _canonical(number: str) -> str:
    """How a number is called: as a whole number if it is one, else without zeros at its end."""
    value = Decimal(number)
    if value == value.to_integral_value() and value.adjusted() < _LONGEST:
        return str(int(value))
    return str(value.normalize()) if "e" not in number.casefold() else str(float(value))


def _as_text(values: Any, name: str, strip_characters: str) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    values = _plain(values, name)
    if not pa.types.is_string(values.type):
        values = values.cast(pa.string())
    return pc.utf8_trim(values, characters=strip_characters) if strip_characters else values


def _plain(values: Any, name: str) -> Any:
    import pyarrow as pa

    if not _is_plain(values.type):
        hint = ""
        if pa.types.is_temporal(values.type):
            hint = "; give parts of it (year, month, days since a day) as numbers in the file, or leave the column out"
        elif pa.types.is_struct(values.type):
            hint = "; give what is in it as columns of their own in the file, or leave the column out"
        raise DataError(f'column "{name}" holds {values.type}, expected numbers or text{hint}')
    return values


def _sort_key(values: Iterable[str]) -> Any:
    try:
        for value in values:
            float(value)
    except ValueError:
        return str
    return float


def _is_plain(kind: Any) -> bool:
    import pyarrow as pa

    types = pa.types
    checks = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean, types.is_string, types.is_null)
    return any(check(kind) for check in checks)
