"""Tables from files: CSV, TSV and Parquet."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from annotated_types import MinLen

from erasure.data.checks import checked
from erasure.data.contract import DataSource
from erasure.data.dataset import Dataset
from erasure.data.fields import Names, NonEmptyNames, OneOrMore, RowCounts
from erasure.data.preprocess.samples import Samples
from erasure.data.reading.files import existing_file, file_digest
from erasure.data.reading.table_columns import MARKS_OF_MISSING, RawTable, TextFormat, read_tables
from erasure.data.reading.table_features import bookkeeping, inputs_of
from erasure.data.reading.table_samples import table_fields
from erasure.data.reading.table_values import codes_of, numbers_of, whole_numbers_of
from erasure.errors import DataError, InvalidParameters
from erasure.types import Json, PositiveInt

__all__ = ["TableFile"]

_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class TableFile(DataSource):
    """A table in CSV, TSV or Parquet files, compressed or not.

    Numbers stay as they are: standardising is fitted on the training partition, later. Text becomes numbers only where it is
    asked for: labels and groups become codes, categorical features one 0/1 column a value; always in sorted order, so the same
    file gives the same numbers everywhere.

    Args:
        path: One file or several, put one below the other; relative to the working directory. ``.parquet`` is Parquet, everything
            else is text; ``.gz``, ``.bz2`` and ``.zst`` are unpacked.
        label: Column of the labels, or several, among which preprocess steps choose; without steps they must hold 0 and 1, which is
            read as a multilabel task. Whole numbers 0…K-1 are taken as they are; other whole numbers and text become codes,
            called by their values wherever a class is named. Equal numbers are one class, however they are written.
        features: Columns of the inputs, in this order; empty for all but label, z, index and row numbers that a program has written, in
            the file's order. A column of lists of numbers of one length becomes as many columns, called ``column[0]`` and so on.
        z: Columns of the group, identity or sensitive attribute; they are not features unless ``features`` lists them. One column
            of whole numbers is taken as it is; otherwise each value becomes a code, called ``value``, or ``column=value`` where
            there are several columns.
        categorical: Features that become one column a value, called ``column=value``.
        separator: Between two values; by default a tab for ``.tsv``, else a comma.
        column_names: Names of the columns of text files without a line of names; empty if the first line has them.
        skip_rows: Lines to skip at the top of each text file: a count for all, or one for each file.
        index_column: A column that is neither feature nor label, by name or by position from 0.
        strip: Spaces around values and names do not count.
        label_strip: Characters removed from both ends of each label, such as ``.``.
        na_values: What stands for a missing value in text.
        missing: What happens to rows with missing values in a used column: ``error`` refuses them, ``drop`` leaves the rows out,
            ``impute`` fills numbers with the column's median over the whole table and gives missing categories a category
            ``missing`` of their own; rows without label or group are still refused.
        encoding: Of text files.
        decimal: ``,`` where numbers are written with a decimal comma, as 1.234,5.
        n_classes: Number of classes, 1 or more; by default as many as there are.
        task: ``classification``, or ``binary`` for models with a single logit.
        name: How results call the data; by default the first file's name.
    """

    is_digested: ClassVar[bool] = True

    path: NonEmptyNames
    label: OneOrMore
    features: Names = ()
    z: Names = ()
    categorical: Names = ()
    separator: Annotated[str, MinLen(1)] | None = None
    column_names: tuple[str, ...] = ()
    skip_rows: RowCounts = (0,)
    index_column: int | str | None = None
    strip: bool = True
    label_strip: str = ""
    na_values: tuple[str, ...] = MARKS_OF_MISSING
    missing: Literal["error", "drop", "impute"] = "error"
    encoding: str = "utf-8"
    decimal: Literal[".", ","] = field(default=".", metadata={"address": "changed"})
    n_classes: PositiveInt | None = None
    task: Literal["classification", "binary"] = "classification"
    name: str = ""

    def check(self) -> None:
        """Fields that must fit each other."""
        if len(self.skip_rows) not in {1, len(self.path)}:
            raise InvalidParameters(f"TableFile.skip_rows: {len(self.skip_rows)} counts for {len(self.path)} files")
        seen = next((name for name in self._label_columns if name in self.features), None)
        if seen is not None:
            raise InvalidParameters(f'TableFile.features: "{seen}" is the label; a model must not see it')
        if self.separator is not None and len(self.separator) != 1:
            raise InvalidParameters(f"TableFile.separator: expected one character, found {self.separator!r}")
        odd = [name for name in self.categorical if self.features and name not in self.features]
        if odd:
            raise InvalidParameters(f"TableFile.categorical: not among the features: {', '.join(odd)}")

    def fingerprint(self) -> Json:
        """SHA-256 of each file."""
        return {"sha256": [file_digest(path) for path in self.path]}

    def samples(self) -> Samples:
        """The columns as they are written: numbers, or texts."""
        table, features, called = self._read()
        return Samples(
            name=called,
            x=table_fields(table, features, as_text=self.categorical),
            y=table_fields(table, self._label_columns, strip_characters=self.label_strip, exact=True),
            z=table_fields(table, self.z, exact=True),
            task="binary" if self.task == "binary" else None,
            n_classes=self.n_classes,
            categorical=self.categorical,
            rows=table.left(),
        )

    def load(self) -> Dataset:
        """Read, convert and check the table."""
        if len(self._label_columns) > 1:
            return self.finished(self.samples())
        table, features, called = self._read()
        x, feature_names = inputs_of(table, features, self.categorical, impute=self.missing == "impute")
        y, n_classes, class_names = self._labels(table)
        z, z_names = self._groups(table)
        return checked(
            Dataset(
                name=called,
                x=x,
                y=torch.from_numpy(y),
                z=None if z is None else torch.from_numpy(z),
                n_classes=n_classes,
                task=self.task,
                x_shape=x.sample_shape,
                class_names=class_names,
                feature_names=feature_names,
                z_names=z_names,
                rows=table.left(),
            )
        )

    @property
    def _label_columns(self) -> tuple[str, ...]:
        return (self.label,) if isinstance(self.label, str) else self.label

    def _read(self) -> tuple[RawTable, tuple[str, ...], str]:
        """The rows in use, the names of the features, and how results call the data."""
        table = self.table()
        features = self._features(table)
        return self._without_missing(table, features), features, self.name or _stem(existing_file(self.path[0]))

    def table(self) -> RawTable:
        """All rows and columns, as they are written."""
        files = [existing_file(path) for path in self.path]
        skip_rows = self.skip_rows * len(files) if len(self.skip_rows) == 1 else self.skip_rows
        text = TextFormat(self.separator, self.column_names, self.na_values, self.strip, self.encoding, self.decimal)
        return read_tables(files, skip_rows, text)

    def _features(self, table: RawTable) -> tuple[str, ...]:
        for name in (*self._label_columns, *self.features, *self.z, *self.categorical):
            table.check(name)
        names = tuple(table.columns)
        index = self.index_column
        if isinstance(index, int):
            if not 0 <= index < len(names):
                raise DataError(f"index_column {index}: the table has {len(names)} columns")
            index = names[index]
        elif index is not None:
            table.check(index)
        if not self.features:
            left_out = {*self._label_columns, index, *self.z}
            left_out |= bookkeeping(table, *(each for each in left_out if isinstance(each, str)), *self.categorical)
        features = self.features or tuple(name for name in names if name not in left_out)
        odd = [name for name in self.categorical if name not in features]
        if odd:
            raise DataError(f"categorical columns that are no features: {', '.join(odd)}")
        if not features:
            raise DataError(f"no feature is left: the columns are {', '.join(names)}")
        return features

    def _without_missing(self, table: RawTable, features: tuple[str, ...]) -> RawTable:
        used = dict.fromkeys((*self._label_columns, *self.z, *(() if self.missing == "impute" else features)))
        gaps = {name: gap for name in used if (gap := table.missing(name)).any()}
        if not gaps:
            return table
        if self.missing == "drop":
            complete = ~np.logical_or.reduce(list(gaps.values()))
            if not complete.any():
                raise DataError(f"every row misses a value in {', '.join(gaps)}; leave those columns out of the features")
            return table.keep(complete)
        found = [f'"{name}" ({gap.sum()}, first in {table.row(int(gap.argmax()))})' for name, gap in gaps.items()]
        is_filled = self.missing != "impute" and not {*self._label_columns, *self.z} & {*gaps}
        remedy = 'give missing = "drop" or "impute"' if is_filled else 'give missing = "drop"'
        raise DataError(f"missing values in {', '.join(found)}; {remedy}")

    def _labels(self, table: RawTable) -> tuple[npt.NDArray[np.int64], int, tuple[str, ...]]:
        (label,) = self._label_columns
        whole = whole_numbers_of(table, label)
        if whole is not None:
            found = np.unique(whole)
            if found[0] >= 0 and (found[-1] < self.n_classes if self.n_classes else found[-1] == len(found) - 1):
                return whole, self._count(len(found)), ()
        elif (numbers := numbers_of(table, label)) is not None:
            odd = ~(np.isfinite(numbers) & (numbers == np.floor(numbers)))
            if odd.any():
                first = int(odd.argmax())
                message = f"{numbers[first]} in {table.row(first)}; expected whole numbers or text"
                if np.isfinite(numbers[first]):
                    message += "; classes are learned: cut amounts into some, such as low and high, in the file"
                raise DataError(f'the label column "{label}" is not a class: {message}')
        coded = codes_of(table, label, self.label_strip)
        n_classes = self._count(len(coded.names))
        if n_classes < len(coded.names):
            shown = ", ".join(coded.names[:_SHOWN]) + (", …" if len(coded.names) > _SHOWN else "")
            raise DataError(f'the label column "{label}" has {len(coded.names)} values, expected {n_classes} classes: {shown}')
        return coded.codes, n_classes, coded.names if len(coded.names) == n_classes else ()

    def _count(self, n_found: int) -> int:
        return self.n_classes or (2 if self.task == "binary" else n_found)

    def _groups(self, table: RawTable) -> tuple[npt.NDArray[np.int64] | None, tuple[str, ...]]:
        if not self.z:
            return None, ()
        whole = whole_numbers_of(table, self.z[0]) if len(self.z) == 1 else None
        if whole is not None:
            return whole, ()
        columns: list[npt.NDArray[np.int64]] = []
        names: list[str] = []
        for name in self.z:
            coded = codes_of(table, name)
            # Codes of different columns never coincide, so a splitter can tell them apart.
            columns.append(coded.codes + len(names))
            names += coded.names if len(self.z) == 1 else [f"{name}={value}" for value in coded.names]
        return columns[0] if len(columns) == 1 else np.stack(columns, axis=1), tuple(names)


def _stem(file: Path) -> str:
    return file.name.partition(".")[0] or file.name
