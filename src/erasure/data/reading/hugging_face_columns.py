"""Rows of the ``datasets`` library as texts, pictures, labels and groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from erasure.data.reading.table_columns import RawTable
from erasure.data.reading.table_values import codes_of, numbers_of, whole_numbers_of
from erasure.errors import DataError, nearest
from erasure.types import Task

__all__ = ["SPLIT", "Rows", "rows_of"]

SPLIT = "split"
"""The group that says which split a row is from, unless the data has a column of that name."""

_SHOWN = 6


@dataclass(frozen=True)
class Rows:
    """Rows of all splits, one below the other.

    Args:
        splits: Name to the library's data set, with all its columns.
        table: The columns in use, but for pictures.
        features: Name to the library's type of each column in use.
        label: Column of the labels.
        inputs: Columns of the inputs.
    """

    splits: Mapping[str, Any]
    table: RawTable
    features: Mapping[str, Any]
    label: str
    inputs: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.table.rows)

    @property
    def n_splits(self) -> int:
        """How many splits there are."""
        return len(self.splits)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, if the data set has them."""
        feature = self.features[self.label]
        feature = getattr(feature, "feature", feature)
        return tuple(getattr(feature, "names", None) or ())

    def is_picture(self, column: str) -> bool:
        """Whether a column holds pictures."""
        return _is_picture(self.features[column])

    def modality(self, coded: set[str], *, may_be_mixed: bool = False) -> str:
        """What the inputs are: ``image``, ``text`` or ``table``; text in the columns ``coded`` is of a table.

        Raises:
            DataError: If there is text beside other columns, unless that ``may_be_mixed``: it is a table then.
        """
        import pyarrow as pa

        inputs = [name for name in self.inputs if name not in coded]
        if any(_is_picture(self.features[name]) for name in inputs):
            return "image"
        text = [name for name in inputs if pa.types.is_string(self.table.columns[name].type)]
        if text and len(text) < len(inputs) and may_be_mixed:
            return "table"
        if text and len(text) < len(inputs):
            others = ", ".join(f'"{name}"' for name in inputs if name not in text)
            remedy = 'list it as categorical or in encode, or give modality: "text" if all of it is one text'
            raise DataError(
                f"text in the column{'s' if len(text) > 1 else ''} {', '.join(map(repr, text))} beside {others} of a table; {remedy}"
            )
        return "text" if text else "table"

    def keep_most_frequent(self, column: str, count: int) -> Rows:
        """Only rows with one of the ``count`` most frequent values of a column; of equally frequent ones the first in order."""
        coded = codes_of(self.table, column)
        counts = Counter(coded.codes[coded.codes >= 0].tolist())
        kept = sorted(counts, key=lambda code: (-counts[code], code))[:count]
        return self._kept(np.isin(coded.codes, kept))

    def without_missing(self, columns: Sequence[str], drop: bool) -> Rows:
        """Rows that have a value in each of the columns.

        Raises:
            DataError: If others are not to be dropped, or none is left.
        """
        gaps = {name: self.table.column(name).is_null().to_numpy(zero_copy_only=False) for name in dict.fromkeys(columns)}
        gaps = {name: gap for name, gap in gaps.items() if gap.any()}
        if not gaps:
            return self
        if not drop:
            found = ", ".join(
                f'"{name}" ({gap.sum()}, first in {self.table.row(int(gap.argmax()))})' for name, gap in gaps.items()
            )
            raise DataError(f'missing values in {found}; give missing = "drop"')
        return self._kept(~np.logical_or.reduce(list(gaps.values())))

    def labelled(self, drop: bool) -> Rows:
        """Rows whose label is not -1, which stands for none where classes have names.

        Raises:
            DataError: If there are others that are not to be dropped, or none is left.
        """
        if not self.class_names or _is_list(self.table.column(self.label).type):
            return self
        unlabelled = self.table.column(self.label).fill_null(0).to_numpy(zero_copy_only=False) < 0
        if not unlabelled.any():
            return self
        if not drop or unlabelled.all():
            remedy = "" if unlabelled.all() else ', or give missing = "drop"'
            where = self.table.row(int(unlabelled.argmax()))
            message = f"{unlabelled.sum()} rows have no label (first: {where}); choose splits that have labels{remedy}"
            raise DataError(message)
        return self._kept(~unlabelled)

    def without_missing_pictures(self, columns: Sequence[str], drop: bool) -> Rows:
        """Rows that have a picture in each of the columns of pictures.

        Raises:
            DataError: If others are not to be dropped, or none is left.
        """
        for name in (each for each in columns if _is_picture(self.features[each])):
            there = [
                _has_picture(split.select_columns([name]).with_format("arrow")[:].column(name)) for split in self.splits.values()
            ]
            gaps = ~np.concatenate(there)[self.table.rows]
            if gaps.any() and not drop:
                first = self.table.row(int(gaps.argmax()))
                raise DataError(f'missing values in "{name}" ({gaps.sum()}, first in {first}); give missing = "drop"')
            if gaps.any():
                return self._kept(~gaps).without_missing_pictures(columns, drop)
        return self

    def texts(self, columns: Sequence[str]) -> list[str]:
        """One text a row, several columns joined by spaces."""
        import pyarrow as pa

        values = [self.table.column(name).to_pylist() for name in columns]
        odd = [name for name, each in zip(columns, values, strict=True) if isinstance(each[0], list | dict | bytes)]
        if odd:
            raise DataError(f'the column "{odd[0]}" holds {self.features[odd[0]]}, expected text')
        builders = {split.info.builder_name for split in self.splits.values()}
        dates = [name for name in columns if pa.types.is_temporal(self.table.column(name).type)]
        if dates and "json" in builders:
            raise DataError(
                f'the texts of the column "{dates[0]}" were taken for dates while they were read, and changed; get the files and give '
                "them as files"
            )
        return [" ".join(map(str, row)) for row in zip(*values, strict=True)]

    def pictures(self, columns: Sequence[str]) -> Callable[[int], Any]:
        """A function from a row's position to its picture.

        Raises:
            DataError: If there is not exactly one column of pictures.
        """
        (column, *more) = columns
        if more or not _is_picture(self.features[column]):
            found = ", ".join(f"{name}: {type(self.features[name]).__name__}" for name in columns)
            pictures = [name for name in columns if _is_picture(self.features[name])]
            remedy = f'; give columns = ["{pictures[0]}"]' if len(pictures) == 1 else ""
            raise DataError(f"expected one column of pictures, found {found}{remedy}")
        starts = np.cumsum([0, *(len(each) for each in self.splits.values())])
        splits = list(self.splits.values())

        def read(position: int) -> Any:
            row = int(self.table.rows[position])
            which = int(np.searchsorted(starts, row, side="right")) - 1
            return splits[which][row - int(starts[which])][column]

        return read

    def labels(self, task: Task, n_classes: int | None) -> tuple[Tensor, int, tuple[str, ...]]:
        """Labels, the number of classes, and their names if they are known.

        Raises:
            DataError: If they do not fit the task.
        """
        names = self.class_names
        values = self.table.column(self.label)
        if _is_list(values.type) != (task == "multilabel"):
            found = "lists of classes" if _is_list(values.type) else str(values.type)
            remedy = '; give task = "multilabel"' if _is_list(values.type) else ""
            raise DataError(f'the label column "{self.label}" holds {found}, which does not fit the task {task}{remedy}')
        if task == "multilabel":
            return self._multilabel(values.to_pylist(), n_classes, names)
        numbers = None if names else whole_numbers_of(self.table, self.label)
        if names:
            codes = values.to_numpy(zero_copy_only=False).astype(np.int64)
        elif numbers is not None and _counts_up(numbers):
            codes = numbers.astype(np.int64)
        elif (amounts := _amounts(self.table, self.label)) is not None:
            where = self.table.row(int((amounts != np.floor(amounts)).argmax()))
            raise DataError(
                f'the label column "{self.label}" is not a class: a fraction in {where}; expected whole numbers or text; classes are '
                "learned: cut amounts into some, such as low and high, in the file"
            )
        else:
            coded = codes_of(self.table, self.label)
            codes, names = coded.codes, coded.names
        expected = n_classes or (2 if task == "binary" else len(names) or int(codes.max()) + 1)
        if len(names) > expected:
            shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
            raise DataError(f'the label column "{self.label}" has {len(names)} classes, expected {expected}: {shown}')
        return torch.from_numpy(codes), expected, names if len(names) == expected else ()

    def groups(self, columns: Sequence[str]) -> tuple[Tensor | None, tuple[str, ...]]:
        """Codes of the groups and what they stand for."""
        codes: list[npt.NDArray[np.int64]] = []
        names: list[str] = []
        for column in columns:
            found, called = self._group(column)
            # Codes of different columns never coincide, so a splitter can tell them apart.
            codes.append(found + len(names))
            names += called if len(columns) == 1 else [f"{column}={name}" for name in called]
        if not codes:
            return None, ()
        return torch.from_numpy(codes[0] if len(codes) == 1 else np.stack(codes, axis=1)), tuple(names)

    def write(self, folder: Path, called: str, encode: Sequence[str]) -> Path:
        """The rows as a Parquet file, the columns ``encode`` as numbers of their sorted values."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = dict(self.table.columns)
        for name in encode:
            codes = codes_of(self.table, name).codes
            columns[name] = pa.array(codes, mask=codes < 0)
        if SPLIT not in columns:
            codes, names = self._group(SPLIT)
            columns[SPLIT] = pa.array([names[code] for code in codes.tolist()], pa.string())
        file = folder / f"{called.replace('/', '-') or 'table'}.parquet"
        pq.write_table(pa.table(columns), file)
        return file

    def _group(self, column: str) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
        if column == SPLIT and SPLIT not in self.table.columns:
            sizes = [len(each) for each in self.splits.values()]
            return np.repeat(np.arange(len(sizes)), sizes)[self.table.rows], tuple(self.splits)
        coded = codes_of(self.table, column)
        called = getattr(self.features[column], "names", None)
        return coded.codes, tuple(called[int(name)] for name in coded.names) if called else coded.names

    def _multilabel(
        self, rows: list[list[int]], n_classes: int | None, names: tuple[str, ...]
    ) -> tuple[Tensor, int, tuple[str, ...]]:
        found = sorted({value for row in rows for value in row})
        if not all(isinstance(value, int) and value >= 0 for value in found):
            raise DataError(
                f'the label column "{self.label}" holds lists of {type(found[0]).__name__}, expected classes as numbers'
            )
        if not names and _are_marks(rows):
            width = len(rows[0])
            if n_classes not in {None, width}:
                raise DataError(f'the label column "{self.label}" has {width} numbers of 0 and 1 a row, expected {n_classes}')
            return torch.tensor(rows, dtype=torch.float32), width, ()
        count = n_classes or len(names) or (found[-1] + 1 if found else 0)
        if found and found[-1] >= count:
            raise DataError(f'the label column "{self.label}" has class {found[-1]}, expected 0 to {count - 1}')
        y = torch.zeros((len(rows), count))
        for position, row in enumerate(rows):
            y[position, row] = 1
        return y, count, names if len(names) == count else ()

    def _kept(self, mask: npt.NDArray[np.bool_]) -> Rows:
        if not mask.any():
            raise DataError("no row is left; every one misses a value in a used column")
        return replace(self, table=self.table.keep(mask))


def rows_of(splits: Mapping[str, Any], columns: Sequence[str], label: str, z: Sequence[str], others: Sequence[str] = ()) -> Rows:
    """The columns in use of all splits.

    Args:
        splits: Name to the library's data set.
        columns: The inputs.
        label: The labels.
        z: The groups; ``split`` need not be a column.
        others: What else is read.

    Raises:
        DataError: If a column is missing or differs in type between splits.
    """
    import pyarrow as pa

    there = list(next(iter(splits.values())).features)
    used = list(dict.fromkeys([*columns, label, *others, *(each for each in z if each != SPLIT or SPLIT in there)]))
    for split, each in splits.items():
        missing = [name for name in used if name not in each.features]
        if missing:
            hint = nearest(missing[0], each.features)
            raise DataError(
                f'{split} has no column "{missing[0]}"; it has {", ".join(each.features)}{f"; {hint}" if hint else ""}'
            )
    features = {name: next(iter(splits.values())).features[name] for name in used}
    plain = [name for name in used if not _is_picture(features[name])]
    if not plain:
        raise DataError(f'the label column "{label}" holds pictures, expected classes')
    try:
        joined = pa.concat_tables(
            [each.select_columns(plain).with_format("arrow")[:] for each in splits.values()], promote_options="permissive"
        )
    except pa.ArrowException as error:
        raise DataError(f"the splits hold different types in one column: {str(error).splitlines()[0]}") from error
    if joined.num_rows == 0:
        raise DataError("there are no rows")
    cleaned = {name: _cleaned(joined.column(name)) for name in plain}
    sizes = tuple((split, len(each)) for split, each in splits.items())
    table = RawTable(cleaned, sizes, np.arange(joined.num_rows))
    return Rows(splits, table, features, label, tuple(columns))


def _cleaned(values: Any) -> Any:
    import pyarrow as pa

    values = values.combine_chunks()
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks)
    if pa.types.is_large_string(values.type) or pa.types.is_string_view(values.type):
        values = values.cast(pa.string())
    return values


def _is_picture(feature: Any) -> bool:
    return type(feature).__name__ == "Image"


def _has_picture(column: Any) -> npt.NDArray[np.bool_]:
    """Which rows of a column of pictures have bytes or a path."""
    import pyarrow as pa

    found = (
        [
            each is not None and not (isinstance(each, dict) and each.get("bytes") is None and not each.get("path"))
            for each in column.to_pylist()
        ]
        if pa.types.is_struct(column.type)
        else column.is_valid().to_pylist()
    )
    return np.array(found, dtype=bool)


def _are_marks(rows: list[list[int]]) -> bool:
    """Whether lists hold 0 or 1 for each class, and not the numbers of classes, which no list has twice."""
    width = len(rows[0])
    alike = width > 1 and all(len(row) == width and set(row) <= {0, 1} for row in rows)
    # Two different numbers in every row would say that every sample has both classes, which nobody learns.
    return alike and (width == 2 or any(len(set(row)) < width for row in rows))


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _amounts(table: RawTable, name: str) -> npt.NDArray[np.float64] | None:
    """A column of numbers of which some are fractions; None if it is another one."""
    values = numbers_of(table, name)
    return values if values is not None and bool((np.isfinite(values) & (values != np.floor(values))).any()) else None


def _counts_up(numbers: npt.NDArray[Any]) -> bool:
    found = np.unique(numbers)
    return bool(np.isfinite(found).all() and np.array_equal(found, np.arange(len(found))))
