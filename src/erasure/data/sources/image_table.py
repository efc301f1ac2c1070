"""Pictures listed in a table, each with a label and, if wanted, a group."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import MinLen

from erasure.data.checks import checked
from erasure.data.contract import DataSource
from erasure.data.dataset import Dataset
from erasure.data.fields import Name, Names
from erasure.data.reading.files import existing_file, file_digest
from erasure.data.reading.images import pillow, recipe, stacked
from erasure.data.reading.table_columns import RawTable, TextFormat, read_tables
from erasure.data.reading.table_values import codes_of
from erasure.errors import DataError, InvalidParameters
from erasure.types import Json, PositiveInt

__all__ = ["ImageTable"]

_ELSEWHERE = {"address": False}  # the fingerprint says what the pictures hold, wherever they are
_NA_VALUES = ("", "NA", "NaN", "nan", "null")
_READERS = 4
_SHOWN = 4


@dataclass(frozen=True, kw_only=True)
class ImageTable(DataSource):
    """Pictures whose files a table lists, one a row.

    Pictures stay uint8 and become numbers in [0, 1] when a batch is cut.

    Args:
        path: The table: CSV, TSV or Parquet, compressed or not, with a line of names.
        label: Column of the labels; each value becomes a code, in sorted order.
        image: Column of the files' paths.
        folder: What the paths are relative to; by default the table's folder.
        z: Columns of the group, identity or sensitive attribute. Each value becomes a code, called ``value``, or ``column=value``
            where there are several columns.
        size: Height and width that every picture is resized to before all else; by default they must be of one size already.
        transforms: ``Resize``, ``CenterCrop``, ``Grayscale``, ``ToTensor`` and ``Normalize`` with torchvision's arguments as text.
        mean: Subtracted from the scaled values, one number for each channel or for all; with ``std`` the same as ``Normalize``.
        std: Divided by afterwards.
        channels: 1 makes pictures grey, 3 makes them colour; by default as the first picture is.
        task: ``classification``, or ``binary`` for models with a single logit.
        n_classes: Number of classes, by default as many as there are.
        separator: Between two values; by default a tab for ``.tsv``, else a comma.
        missing: What happens to rows without a picture, a label or a group: ``error`` refuses them, ``drop`` leaves them out.
        name: How results call the data; by default the table's name.
    """

    is_digested: ClassVar[bool] = True

    path: Annotated[str, MinLen(1)]
    label: Name
    image: Name = "path"
    folder: str | None = field(default=None, metadata=_ELSEWHERE)
    z: Names = ()
    size: tuple[PositiveInt, PositiveInt] | None = None
    transforms: Names = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    channels: Literal[1, 3] | None = None
    task: Literal["classification", "binary"] = "classification"
    n_classes: PositiveInt | None = None
    separator: Annotated[str, MinLen(1)] | None = None
    missing: Literal["error", "drop"] = field(default="error", metadata={"address": "changed"})
    name: str = ""

    def check(self) -> None:
        """Transforms that can be done."""
        recipe(self._transforms(), self.mean, self.std)
        if self.separator is not None and len(self.separator) != 1:
            raise InvalidParameters(f"ImageTable.separator: expected one character, found {self.separator!r}")

    def fingerprint(self) -> Json:
        """SHA-256 of the table and of every picture it lists."""
        table = self._table()
        files = list(dict.fromkeys(self._files(table)))
        with ThreadPoolExecutor(_READERS) as readers:
            digests = list(readers.map(file_digest, map(str, files)))
        pictures = hashlib.sha256("\n".join(digests).encode()).hexdigest()
        return {"table": file_digest(self.path), "pictures": pictures, "versions": {"pillow": _pillow_version()}}

    def load(self) -> Dataset:
        """Read the table, decode every picture and check them."""
        image = pillow("a table of pictures")
        table = self._table()
        files = self._files(table)
        made = recipe(self._transforms(), self.mean, self.std)

        def read(position: int) -> Any:
            with image.open(files[position]) as picture:
                picture.load()
                return picture

        values = stacked(len(files), read, made, lambda i: f'{table.row(i)}: "{files[i]}"', self.channels)
        labels = codes_of(table, self.label)
        n_classes = self.n_classes or (2 if self.task == "binary" else len(labels.names))
        if len(labels.names) > n_classes:
            shown = ", ".join(labels.names[:_SHOWN]) + (", …" if len(labels.names) > _SHOWN else "")
            raise DataError(f'the label column "{self.label}" has {len(labels.names)} values, expected {n_classes}: {shown}')
        z, z_names = self._groups(table)
        x = made.column(values)
        return checked(
            Dataset(
                name=self.name or Path(self.path).name.partition(".")[0],
                x=x,
                y=torch.from_numpy(labels.codes),
                z=z,
                n_classes=n_classes,
                task=self.task,
                modality="image",
                x_shape=x.sample_shape,
                class_names=labels.names if len(labels.names) == n_classes else (),
                z_names=z_names,
                rows=table.left(),
            )
        )

    def _transforms(self) -> tuple[str, ...]:
        return self.transforms if self.size is None else (f"Resize({self.size})", *self.transforms)

    def _table(self) -> RawTable:
        file = existing_file(self.path)
        table = read_tables([file], [0], TextFormat(self.separator, (), _NA_VALUES, True, "utf-8"))
        gaps: dict[str, np.ndarray[Any, np.dtype[np.bool_]]] = {}
        for name in dict.fromkeys((self.image, self.label, *self.z)):
            gaps[name] = table.column(name).is_null().to_numpy(zero_copy_only=False)
        gaps = {name: gap for name, gap in gaps.items() if gap.any()}
        if not gaps:
            return table
        found = ", ".join(f'"{name}" ({gap.sum()}, first in {table.row(int(gap.argmax()))})' for name, gap in gaps.items())
        complete = ~np.logical_or.reduce(list(gaps.values()))
        if self.missing == "error" or not complete.any():
            remedy = 'give missing = "drop" to leave these rows out' if complete.any() else "every row misses one"
            raise DataError(f"missing values in {found}; {remedy}")
        return table.keep(complete)

    def _files(self, table: RawTable) -> list[Path]:
        folder = existing_file(self.path).parent if self.folder is None else Path(self.folder).expanduser()
        files = [folder / str(each) for each in table.column(self.image).to_pylist()]
        absent = [i for i, file in enumerate(files) if not file.is_file()]
        if absent:
            shown = "; ".join(f'{table.row(i)}: "{files[i]}"' for i in absent[:_SHOWN]) + ("; …" if len(absent) > _SHOWN else "")
            raise DataError(f"{len(absent)} pictures are not there: {shown}; paths are relative to the folder, give folder")
        return files

    def _groups(self, table: RawTable) -> tuple[torch.Tensor | None, tuple[str, ...]]:
        columns: list[np.ndarray[Any, np.dtype[np.int64]]] = []
        names: list[str] = []
        for name in self.z:
            coded = codes_of(table, name)
            # Codes of different columns never coincide, so a splitter can tell them apart.
            columns.append(coded.codes + len(names))
            names += coded.names if len(self.z) == 1 else [f"{name}={value}" for value in coded.names]
        if not columns:
            return None, ()
        return torch.from_numpy(columns[0] if len(columns) == 1 else np.stack(columns, axis=1)), tuple(names)


def _pillow_version() -> str:
    return str(pillow("a table of pictures").__version__)
