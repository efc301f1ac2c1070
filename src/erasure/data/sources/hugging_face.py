"""Data sets of the Hugging Face hub, and texts, pictures and tables in files of its formats."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import torch
from annotated_types import Ge
from pydantic import BeforeValidator, WithJsonSchema
from torch import Tensor

from erasure.data.checks import checked
from erasure.data.contract import DataSource
from erasure.data.dataset import Dataset, rows_left
from erasure.data.fields import Names, OneOrMore
from erasure.data.preprocess.samples import Field, Samples
from erasure.data.preprocess.texts import joined
from erasure.data.reading.files import file_digest
from erasure.data.reading.folders import folder_digest
from erasure.data.reading.hugging_face_columns import SPLIT, Rows, rows_of
from erasure.data.reading.hugging_face_files import read_files, read_folder, read_hub
from erasure.data.reading.images import recipe, stacked
from erasure.data.reading.table_features import bookkeeping
from erasure.data.reading.table_samples import is_text, table_fields
from erasure.data.reading.table_values import codes_of
from erasure.data.selection import number_of
from erasure.data.sources.table import TableFile
from erasure.data.text import fitted_tokens, hashed_tokens, pretrained_tokens
from erasure.errors import DataError, InvalidParameters
from erasure.training.batches import TensorColumn
from erasure.training.tokenizers import pretrained_tokenizer
from erasure.types import Json, PositiveInt

__all__ = ["HuggingFace"]

_Classes = Annotated[
    PositiveInt | None,
    BeforeValidator(lambda value: None if value == -1 else value),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": -1}, {"type": "null"}]}),
]
"""A number of classes; None and -1 for as many as there are."""

_Configuration = Annotated[str | None, BeforeValidator(lambda value: value or None)]

_Read = TypeVar("_Read", Dataset, Samples)

_ELSEWHERE = {"address": False}  # the fingerprint says what the files hold, wherever they are


@dataclass(frozen=True, kw_only=True)
class HuggingFace(DataSource):
    """A data set read by the library ``datasets``: from the hub, a local folder, or CSV, JSON and Parquet files.

    Its splits are put one below the other; ``z`` can say which one a row is from. Nothing is fetched unless ``download`` is true.
    A name on the hub without ``revision`` may stand for other data tomorrow; results are kept by name and revision.

    Args:
        columns: The inputs: columns of text, which are joined by spaces, one column of pictures, or columns of a table; with preprocess
            steps, also a column of pictures and others that they move. Empty for all but label, z and (without steps) what numbers
            the rows.
        column_order: ``given`` as ``columns`` lists them, ``file`` as the data set has them, where steps count them by position.
        label: Column of the labels. Classes that the data set names keep their numbers; other values become codes, in sorted order,
            unless they are whole numbers 0…K-1. Lists of classes are read with ``task: multilabel``. Of several columns, preprocess
            steps choose.
        path: Name on the hub, or a local folder: one that ``save_to_disk`` wrote, or that has files of a format the library knows.
        files: Instead of ``path``: CSV, TSV, JSON, JSON-lines or Parquet files with the same columns, compressed or not.
        configuration: Name of the data set's configuration.
        revision: Commit or branch of the hub, to pin what is read.
        splits: Splits to read, in this order; empty for all.
        column_names: Names of the columns of CSV and TSV files that have no line of names.
        options: More arguments of the library's reader, such as ``{"quoting": 3}`` for files without quotes.
        z: Columns of the group, identity or sensitive attribute, or ``split``; by default the split if there are several. Each
            value becomes a code, called ``value``, or ``column=value`` where there are several columns.
        contains: Instead of ``z``: a text is of group 1 if it contains any of these strings, as they are written, else of group 0.
        modality: ``text``, ``image`` or ``table``; by default pictures are pictures, text that is neither ``categorical`` nor in
            ``encode`` makes texts, and all else is a table.
        tokenizer: Folder or hub name of a pretrained tokenizer; empty for the built-in one, which takes words.
        vocabulary: Of the built-in tokenizer. ``hashing`` numbers each word by itself: nothing is fitted, different words may share
            an id. ``fitted`` numbers the most frequent words of *all* texts, forgotten and test ones included, and so tells about
            them.
        vocabulary_size: Ids of the built-in tokenizer, 0 for padding included; models need the same number.
        max_length: Tokens of each text; longer ones are cut, shorter ones filled up with id 0.
        lowercase: Whether the built-in tokenizer ignores case.
        attention: Whether inputs are ids and mask, ``(2, max_length)``, as tokenizers need that do not pad with 0; otherwise they are
            ids alone, whose mask is ``ids != 0``.
        categorical: Columns of a table that become one 0/1 column a value.
        encode: Columns of a table that become the number of their value in sorted order.
        encode_numbers: Beside texts and pictures, columns of ``encode`` become such numbers too where they hold numbers, and a splitter
            means these, for labels as well. By default it means the number that is written in the data.
        keep_most_frequent: Column to a count: rows with other than that many of its most frequent values are left out, column by column
            in this order.
        missing: What happens to rows with missing values: ``error`` refuses them, ``drop`` leaves them out, ``impute`` fills tables
            with medians and a category ``missing``.
        transforms: Of pictures: ``Resize``, ``CenterCrop``, ``Grayscale``, ``ToTensor`` and ``Normalize`` as text.
        mean: Subtracted from the values in [0, 1] of pictures.
        std: Divided by afterwards.
        channels: 1 makes pictures grey, 3 makes them colour; by default as the first picture is.
        task: How labels are read.
        n_classes: Number of classes, by default as many as the data set names or has.
        download: Whether data set and tokenizer may be fetched.
        name: How results call the data; by default the name on the hub, or of the folder or first file.
    """

    columns: Names = ()
    label: OneOrMore
    path: str = ""
    files: Names = field(default=(), metadata=_ELSEWHERE)
    configuration: _Configuration = None
    revision: str | None = None
    splits: Names = ()
    column_names: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    z: Names = ()
    contains: Names = ()
    modality: Literal["text", "image", "table"] | None = None
    tokenizer: str = ""
    vocabulary: Literal["hashing", "fitted"] = "hashing"
    vocabulary_size: Annotated[int, Ge(3)] = 30_000
    max_length: PositiveInt = 128
    lowercase: bool = True
    attention: bool = False
    categorical: Names = ()
    encode: Names = ()
    encode_numbers: bool = field(default=False, metadata={"address": "changed"})
    keep_most_frequent: Mapping[str, PositiveInt] = field(default_factory=dict)
    missing: Literal["error", "drop", "impute"] = "error"
    column_order: Literal["given", "file"] = field(default="given", metadata={"address": "changed"})
    transforms: Names = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    channels: Literal[1, 3] | None = None
    task: Literal["classification", "binary", "multilabel"] = "classification"
    n_classes: _Classes = None
    download: bool = field(default=False, metadata=_ELSEWHERE)
    name: str = ""

    def check(self) -> None:
        """Fields that must fit each other."""
        if bool(self.path) == bool(self.files):
            raise InvalidParameters("HuggingFace: give either path (a hub name or a folder) or files")
        seen = next((name for name in self._labels if name in self.columns), None)
        if seen is not None:
            raise InvalidParameters(f'HuggingFace.columns: "{seen}" is the label; a model must not see it')
        odd = [name for name in (*self.categorical, *self.encode) if self.columns and name not in self.columns]
        if odd:
            raise InvalidParameters(f"HuggingFace.columns: {', '.join(odd)} is categorical or in encode, but no input")
        if self.contains and self.z:
            raise InvalidParameters("HuggingFace: give either z or contains")
        if self.files and self.splits:
            raise InvalidParameters("HuggingFace.splits: files have no splits")
        recipe(self.transforms, self.mean, self.std)

    def fingerprint(self) -> Json:
        """SHA-256 of local files and tokenizers; nothing but the versions of the libraries for what is on the hub."""
        packages = ("datasets", "transformers") if self.tokenizer else ("datasets",)
        facts: dict[str, Json] = {"versions": {package: _version(package) for package in packages}}
        if self.files:
            facts["files"] = [file_digest(path) for path in self.files]
        elif self._folder is not None:
            facts["folder"] = folder_digest(self._folder)
        if self.tokenizer:
            facts["tokenizer"] = folder_digest(Path(self.tokenizer).expanduser())
        return facts

    def load(self) -> Dataset:
        """Read, tokenise or decode, and check."""
        if len(self._labels) > 1:
            return self.finished(self.samples())
        rows, modality = self._rows()
        if modality == "table":
            return self._classes_by_code(self._table(rows))
        names: tuple[str, ...] = ()
        if modality == "text":
            ids, names = self._tokens(rows.texts(rows.inputs))
            x = TensorColumn(ids)
        else:
            x = self._pictures(rows)
        y, n_classes, class_names = rows.labels(self.task, self.n_classes)
        z, z_names = self._groups(rows)
        data = checked(
            Dataset(
                name=self._called,
                x=x,
                y=y,
                z=z,
                n_classes=n_classes,
                task=self.task,
                modality=modality,
                x_shape=x.sample_shape,
                class_names=class_names,
                z_names=z_names,
                token_names=names,
                rows=rows.table.left(),
            )
        )
        return self._classes_by_code(data)

    def samples(self) -> Samples:
        """The columns of tables and texts as they are written; pictures are decoded."""
        rows, modality = self._rows(steps_follow=True)
        if modality == "image" and len(rows.inputs) == 1:
            return super().samples()
        if modality == "table":
            return self._through(rows, TableFile.samples)
        z, z_names = self._groups(rows)
        x = {name: self._pixels(rows, name) if rows.is_picture(name) else self._written(rows, name) for name in rows.inputs}
        return Samples(
            name=self._called,
            x=x,
            y=self._written_labels(rows),
            z={} if z is None else {"z": Field(z.numpy(), z_names)},
            task="binary" if self.task == "binary" else None,
            modality=modality,
            n_classes=self.n_classes,
            rows=rows.table.left(),
        )

    def _written(self, rows: Rows, name: str) -> Field:
        if name in self.encode and self.encode_numbers:
            made = codes_of(rows.table, name)
            if all(number_of(each) is not None for each in made.names):
                first, last = made.names[0], made.names[-1]
                if made.names != tuple(map(str, range(len(made.names)))):
                    said = f'"{name}" is encoded: 0 stands for {first}, {len(made.names) - 1} for {last}, and so do numbers in splitters'
                    warnings.warn(said, stacklevel=2)
                return Field(made.codes, count=len(made.names))
        kept = [name] if is_text(rows.table.column(name).type) else []
        return table_fields(rows.table, (name,), as_text=kept)[name]

    def _pixels(self, rows: Rows, name: str) -> Field:
        """Pictures as they are before a batch is cut, for steps that move what stands beside them."""
        made = recipe(self.transforms, self.mean, self.std)
        if made.mean:
            raise DataError(f"{self._called}: pictures beside other columns cannot be normalised; leave out Normalize")
        return Field(stacked(len(rows), rows.pictures((name,)), made, rows.table.row, self.channels).values.numpy())

    def finished(self, samples: Samples) -> Dataset:
        """The data set of samples; texts that no step has tokenised are tokenised as the source says."""
        fields = samples.x
        if samples.modality == "text" and isinstance(fields, Mapping) and any(each.is_text for each in fields.values()):
            texts = joined(fields, list(fields)).tolist()
            ids, names = self._tokens(texts)
            samples = replace(samples, x={"tokens": Field(ids.numpy(), names)})
        if samples.modality == "image" and isinstance(fields, Mapping) and len(fields) == 1:
            (only,) = fields.values()
            if only.values.ndim == 4 and only.values.dtype == np.uint8:
                samples = replace(samples, x=TensorColumn(torch.from_numpy(only.values), scale=1 / 255))
        return self._classes_by_code(super().finished(samples))

    def _classes_by_code(self, data: Dataset) -> Dataset:
        """Classes that are numbers lose their names where a number means the code."""
        names = data.class_names
        codes = tuple(map(str, range(len(names))))
        if not self.encode_numbers or names == codes or not names or any(number_of(each) is None for each in names):
            return data
        said = f"the label is encoded: class 0 stands for {names[0]}, {codes[-1]} for {names[-1]}, and so do numbers in splitters"
        warnings.warn(said, stacklevel=3)
        return replace(data, class_names=())

    @property
    def _labels(self) -> tuple[str, ...]:
        return (self.label,) if isinstance(self.label, str) else self.label

    def _written_labels(self, rows: Rows) -> dict[str, Field]:
        """Labels as they are written; classes that the data set names, and lists of classes, as numbers."""
        if len(self._labels) == 1 and (rows.class_names or self.task == "multilabel"):
            y, n_classes, names = rows.labels(self.task, self.n_classes)
            return {self._labels[0]: Field(y.numpy(), names, None if self.task == "multilabel" else n_classes)}
        return dict(table_fields(rows.table, self._labels))

    def _rows(self, *, steps_follow: bool = False) -> tuple[Rows, str]:
        """The rows in use, and what their inputs are; text among numbers is a table where steps may still move it."""
        splits = self._read()
        columns = self._inputs(list(next(iter(splits.values())).features))
        rows = rows_of(splits, columns, self._labels[0], self.z, (*self._labels, *self.keep_most_frequent))
        if not self.columns and not steps_follow:  # steps count columns by position
            numbering = bookkeeping(rows.table, *self._labels, *self.z, *self.keep_most_frequent)
            rows = replace(rows, inputs=tuple(name for name in columns if name not in numbering))
        modality = self.modality or rows.modality({*self.categorical, *self.encode}, may_be_mixed=steps_follow)
        if self.contains and modality != "text":
            raise DataError(f"{self._called}: contains is for texts, these inputs are a {modality}")
        for column, count in self.keep_most_frequent.items():
            rows = rows.keep_most_frequent(column, count)
        rows = rows.labelled(drop=self.missing == "drop")
        if modality == "table":
            return rows, modality
        if modality == "image":
            rows = rows.without_missing_pictures(self.columns, drop=self.missing == "drop")
        used = (
            *(name for name in rows.inputs if not rows.is_picture(name)),
            *self._labels,
            *(each for each in self.z if each != SPLIT),
        )
        return rows.without_missing(used, drop=self.missing == "drop"), modality

    def _inputs(self, there: list[str]) -> tuple[str, ...]:
        """The inputs in the order that is asked for."""
        if not self.columns:
            return tuple(name for name in there if name not in self._labels and name not in self.z)
        if self.column_order == "given":
            return self.columns
        return tuple(sorted(self.columns, key=lambda name: there.index(name) if name in there else len(there)))

    @property
    def _called(self) -> str:
        if self.name:
            return self.name
        if self.files:
            return Path(self.files[0]).name.partition(".")[0]
        return self.path if self._folder is None else self._folder.resolve().name

    @property
    def _folder(self) -> Path | None:
        folder = Path(self.path).expanduser()
        return folder if self.path and folder.is_dir() else None

    def _read(self) -> dict[str, Any]:
        if self.files:
            return read_files(self.files, self.column_names, self.options, (*self._labels, *self.z))
        if self._folder is not None:
            found = read_folder(self._folder, self.configuration, (*self._labels, *self.z))
        else:
            found = read_hub(self.path, self.configuration, self.revision, self.download)
        missing = [split for split in self.splits if split not in found]
        if missing:
            raise DataError(f'"{self.path}" has no split {", ".join(missing)}; it has {", ".join(found)}')
        return {split: found[split] for split in self.splits or found}

    def _tokens(self, texts: list[str]) -> tuple[Tensor, tuple[str, ...]]:
        if self.tokenizer:
            made = pretrained_tokenizer(self.tokenizer, self.download)
            return pretrained_tokens(texts, made, self.max_length, self.attention)
        if self.vocabulary == "hashing":
            ids, names = hashed_tokens(texts, self.max_length, self.vocabulary_size, self.lowercase)
        else:
            ids, names = fitted_tokens(texts, self.max_length, self.vocabulary_size, self.lowercase)
        return (torch.stack([ids, (ids != 0).to(torch.int64)], dim=1) if self.attention else ids), names

    def _pictures(self, rows: Rows) -> TensorColumn:
        made = recipe(self.transforms, self.mean, self.std)
        read = rows.pictures(rows.inputs)
        return made.column(stacked(len(rows), read, made, rows.table.row, self.channels))

    def _groups(self, rows: Rows) -> tuple[Tensor | None, tuple[str, ...]]:
        if self.contains:
            found = [any(each in text for each in self.contains) for text in rows.texts(rows.inputs)]
            shown = ", ".join(self.contains)
            return torch.tensor(found, dtype=torch.int64), (f"without {shown}", f"with {shown}")
        return rows.groups(self.z or ((SPLIT,) if rows.n_splits > 1 else ()))

    def _table(self, rows: Rows) -> Dataset:
        data = self._through(rows, TableFile.load)
        names = rows.class_names
        return replace(data, class_names=names) if len(names) == data.n_classes and not data.class_names else data

    def _through(self, rows: Rows, read: Callable[[TableFile], _Read]) -> _Read:
        """What a table file makes of the rows."""
        if self.task == "multilabel":
            raise DataError(f"{self._called}: tables are learned with one class a row")
        z = self.z or ((SPLIT,) if rows.n_splits > 1 else ())
        with tempfile.TemporaryDirectory(prefix="erasure-table-") as folder:
            made = TableFile(
                path=(str(rows.write(Path(folder), self._called, self.encode)),),
                label=self.label,
                features=rows.inputs,
                z=z,
                categorical=self.categorical,
                missing=self.missing,
                n_classes=self.n_classes or (len(rows.class_names) if len(self._labels) == 1 else 0) or None,
                task=self.task,
                name=self._called,
            )
            found = read(made)
        left = rows.table.rows if found.rows is None else rows.table.rows[found.rows.numpy()]
        return replace(found, rows=rows_left(torch.from_numpy(left)))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
