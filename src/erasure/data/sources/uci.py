"""Tables of the UCI Machine Learning Repository, fetched once and kept on disk."""

from __future__ import annotations

import importlib
import json
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from annotated_types import MinLen
from pydantic import BeforeValidator, WithJsonSchema

from erasure.data.contract import DataSource
from erasure.data.dataset import Dataset
from erasure.data.fields import Names
from erasure.data.preprocess.samples import Samples
from erasure.data.reading.files import file_digest
from erasure.data.reading.table_columns import RawTable, TextFormat, read_tables
from erasure.data.reading.table_features import bookkeeping
from erasure.data.reading.table_values import codes_of, numbers_of
from erasure.data.sources.table import TableFile
from erasure.errors import DataError, InvalidParameters, MissingDependency
from erasure.types import Json, PositiveInt

__all__ = ["UCI"]

_ELSEWHERE = {"address": False}  # the fingerprint says what the files hold, wherever they are

_Values = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda value: tuple(value) if isinstance(value, list | tuple) else (value,)),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]

_Read = TypeVar("_Read")

_OTHER = "Other"
_TABLE, _ABOUT = "data.csv", "about.json"
_SITE = "https://archive.ics.uci.edu/static/public"


@dataclass(frozen=True, kw_only=True)
class UCI(DataSource):
    """A table of the UCI Machine Learning Repository, by its number.

    The table is fetched once, if ``download`` allows it, and kept as ``ROOT/uci/ID/data.csv``; a table put there by hand will do as
    well. Numbers stay as they are: standardising is fitted on the training partition, later.

    Args:
        id: Number of the data set, such as 2 for Adult or 53 for Iris.
        label: Column of the labels; by default the repository's only target.
        features: Columns of the inputs, in this order; by default the repository's features without label and ``z``.
        z: Columns of the group, identity or sensitive attribute; they are not features unless ``features`` lists them.
        categorical: Features that become one 0/1 column a value; by default all that hold text and are not in ``encode``.
        encode: Features that become the number of their value in sorted order.
        keep_values: Column to the values that stay; all its others become ``Other``, such as
            ``{"native-country": ["United-States"]}``. Missing values stay missing, unless ``missing_is_other``.
        missing_is_other: Whether missing values in the columns of ``keep_values`` become ``Other`` too.
        label_strip: Characters removed from both ends of each label, such as ``.`` for Adult, whose test rows end in one.
        na_values: What stands for a missing value.
        missing: What happens to rows with missing values in a used column: ``error`` refuses them, ``drop`` leaves the rows out,
            ``impute`` gives missing categories a category ``missing`` of their own and fills numbers with the column's median over
            the whole table.
        n_classes: Number of classes, by default as many as there are.
        task: ``classification``, or ``binary`` for models with a single logit.
        root: Folder that keeps what was fetched; ``~`` is expanded.
        download: Whether the table is fetched if it is not there.
        name: How results call the data; by default the repository's name, or ``uci-ID``.
    """

    id: PositiveInt
    label: Annotated[str, MinLen(1)] | None = None
    features: Names = ()
    z: Names = ()
    categorical: Names | None = None
    encode: Names = ()
    keep_values: Mapping[str, _Values] = field(default_factory=dict)
    missing_is_other: bool = field(default=False, metadata={"address": "changed"})
    label_strip: str = ""
    na_values: tuple[str, ...] = ("", "?", "NA", "N/A", "NaN", "nan", "null")
    missing: Literal["error", "drop", "impute"] = "error"
    n_classes: PositiveInt | None = None
    task: Literal["classification", "binary"] = "classification"
    root: Annotated[str, MinLen(1)] = field(default="resources/data", metadata=_ELSEWHERE)
    download: bool = field(default=False, metadata=_ELSEWHERE)
    name: str = ""

    def check(self) -> None:
        """Fields that must fit each other."""
        if self.label in self.features:
            raise InvalidParameters(f'UCI.features: "{self.label}" is the label; a model must not see it')
        twice = sorted(set(self.categorical or ()) & set(self.encode))
        if twice:
            raise InvalidParameters(f"UCI.encode: {', '.join(twice)} is categorical too")
        odd = [name for name in (*(self.categorical or ()), *self.encode) if self.features and name not in self.features]
        if odd:
            raise InvalidParameters(f"UCI.features: {', '.join(odd)} is categorical or in encode, but no feature")

    def fingerprint(self) -> Json:
        """SHA-256 of the table and of what the repository says about it; None for what is not fetched yet."""
        if not self._file.is_file() and not self.download:
            raise DataError(self._absent())
        return {each.name: file_digest(str(each)) if each.is_file() else None for each in (self._file, self._about)}

    def load(self) -> Dataset:
        """Fetch the table if needed, then read, convert and check it."""
        data, value_names = self._through(TableFile.load)
        return replace(data, value_names=value_names)

    def samples(self) -> Samples:
        """Fetch the table if needed; its columns as they are written."""
        return self._through(TableFile.samples)[0]

    def _through(self, read: Callable[[TableFile], _Read]) -> tuple[_Read, dict[str, tuple[str, ...]]]:
        """What a table file makes of the table, and what the codes of its columns stand for."""
        if not self._file.is_file():
            if not self.download:
                raise DataError(self._absent())
            _fetch(self.id, self._file, self._about)
        about = self._read_about()
        table = read_tables([self._file], [0], TextFormat(",", (), self.na_values, True, "utf-8"))
        label = self.label or self._only_target(about, table)
        features = self._features(about, table, label)
        categorical = self.categorical
        if categorical is None:
            categorical = tuple(name for name in features if name not in self.encode and numbers_of(table, name) is None)
        called = self.name or str(about.get("name") or f"uci-{self.id}")
        with tempfile.TemporaryDirectory(prefix="erasure-table-") as folder:
            file, value_names = self._prepared(table, Path(folder))
            made = TableFile(
                path=(str(file),),
                label=label,
                features=features,
                z=self.z,
                categorical=categorical,
                label_strip=self.label_strip,
                na_values=self.na_values,
                missing=self.missing,
                n_classes=self.n_classes,
                task=self.task,
                name=called,
            )
            return read(made), value_names

    @property
    def _file(self) -> Path:
        return Path(self.root).expanduser() / "uci" / str(self.id) / _TABLE

    @property
    def _about(self) -> Path:
        return self._file.with_name(_ABOUT)

    def _absent(self) -> str:
        remedy = f"get {_SITE}/{self.id}/data.csv and put it there, or set download to true"
        return f'UCI data set {self.id}: there is no file "{self._file}"; {remedy}'

    def _read_about(self) -> dict[str, Any]:
        if not self._about.is_file():
            return {}
        try:
            about = json.loads(self._about.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f'"{self._about}" cannot be read ({error}); delete it, and give label and features') from error
        return about if isinstance(about, dict) else {}

    def _only_target(self, about: Mapping[str, Any], table: RawTable) -> str:
        targets = about.get("targets") or []
        if len(targets) == 1:
            return str(targets[0])
        known = (
            f"several targets: {', '.join(targets)}"
            if targets
            else f"no known target; its columns are {', '.join(table.columns)}"
        )
        raise DataError(f"UCI data set {self.id} has {known}; give label")

    def _features(self, about: Mapping[str, Any], table: RawTable, label: str) -> tuple[str, ...]:
        for name in (label, *self.features, *self.z, *(self.categorical or ()), *self.encode, *self.keep_values):
            table.column(name)
        known = about.get("features") or [name for name in table.columns if name not in bookkeeping(table, label)]
        features = self.features or tuple(name for name in known if name not in {label, *self.z} and name in table.columns)
        if not features:
            raise DataError(f"UCI data set {self.id}: no feature is left; its columns are {', '.join(table.columns)}")
        return features

    def _prepared(self, table: RawTable, folder: Path) -> tuple[Path, dict[str, tuple[str, ...]]]:
        """The table with merged and encoded columns, as a file, and what the codes stand for."""
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        columns = dict(table.columns)
        for name, values in self.keep_values.items():
            rare = pc.invert(pc.is_in(columns[name], value_set=pa.array(values, pa.string())))
            merged = rare if self.missing_is_other else pc.and_(rare, pc.is_valid(columns[name]))
            columns[name] = pc.if_else(merged, pa.scalar(_OTHER), columns[name])
        table = RawTable(columns, table.files, table.rows)
        coded = {name: codes_of(table, name) for name in self.encode}
        for name, found in coded.items():
            columns[name] = pa.array(found.codes, mask=found.codes < 0)
        file = folder / f"uci-{self.id}.parquet"
        pq.write_table(pa.table(columns), file)
        return file, {name: found.names for name, found in coded.items()}


def _fetch(number: int, file: Path, about: Path) -> None:
    """Keep a data set of the repository on disk; a file is there as a whole or not at all."""
    try:
        library = importlib.import_module("ucimlrepo")
    except ModuleNotFoundError as error:
        raise MissingDependency(error.name or "ucimlrepo", "uci", f"the UCI data set {number}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about columns of mixed types, which are read again as text
            found = library.fetch_ucirepo(id=number)
    except Exception as error:  # whatever kept the table from coming
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        remedy = f'get {_SITE}/{number}/data.csv by other means and put it at "{file}"'
        raise DataError(f"UCI data set {number} cannot be fetched ({reason}); {remedy}") from error
    roles = {
        role: [] if found.data[role] is None else list(map(str, found.data[role].columns)) for role in ("features", "targets")
    }
    facts = {"id": number, "name": str(found.metadata.name), **roles}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _write(about, json.dumps(facts, indent=2) + "\n")
        _write(file, found.data.original.to_csv(index=False, lineterminator="\n"))
    except OSError as error:
        raise DataError(f'"{file}" cannot be written: {error.strerror or error}') from error


def _write(file: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile("w", dir=file.parent, encoding="utf-8", newline="", delete=False) as stream:
        stream.write(text)
    Path(stream.name).replace(file)
