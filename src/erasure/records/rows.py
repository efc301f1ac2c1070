"""Result rows: one measured value of one model, with everything needed to judge it, as Parquet, CSV and JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from erasure.durable import failure, reported, write_atomically
from erasure.errors import StoreError
from erasure.records.csv_cells import PLAIN_NUMBER, csv_cell
from erasure.records.parquet import parquet_bytes, read_parquet
from erasure.renamed import formerly, today
from erasure.types import Indication, Json, ModelRole, Statistic

__all__ = [
    "FORMER_COLUMNS",
    "RESULT_FIELDS",
    "ModelRole",
    "Row",
    "Status",
    "read_rows",
    "remove_trace",
    "write_rows",
    "write_trace",
]

Status: TypeAlias = Literal["ok", "failed", "indistinguishable", "no-op", "collapsed", "non-finite", "over-forgotten"]

FORMER_COLUMNS: Mapping[str, str] = {
    "model": "model_role",
    "tells": "indicates",
    "chance": "chance_level",
    "floor": "noise_floor",
}
"""What columns were called in the version before; tables of it are read, and programs find its names for one version more."""
_LATER = ("number", "access", "guarantee", "statistic", "treated_like")
"""Columns that came after the first version; the first ones first. :func:`_earlier` says what stands for them where they are missing."""
_NUMBERS = ("value", "chance_level", "gold", "gap", "noise_floor", "low", "high", "elapsed_s")
_MEMORY = "memory left"
_ROWS_AT_A_TIME = 512
_COUNTS = ("n", "number", "seed_split", "seed_train", "seed_unlearn", "seed_evaluate")
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "model_role": get_args(ModelRole),
    "status": get_args(Status),
    "indicates": get_args(Indication),
    "statistic": get_args(Statistic),
    "treated_like": ("", *get_args(ModelRole)),
}


@formerly(**FORMER_COLUMNS)
@dataclass(frozen=True, kw_only=True)
class Row:
    """One value of one measure on one model and partition.

    Args:
        experiment: Name of the experiment.
        dataset: Name of the data set.
        unlearner: Registered name of the method; empty for the original and the gold model's own rows.
        label: What the reader calls this setting of the method.
        model_role: Which model was measured.
        measure: Name of the measure.
        partition: What it was measured on; empty where that makes no sense.
        value: The value, or None with ``reason``.
        unit: Its unit; empty for a plain number.
        direction: Which way is better, as the measure says.
        ideal: ``"gold"``, a number, or None if there is none. Tables hold it as text.
        indicates: What a larger value on forgotten samples tells of them; see :class:`erasure.measures.contract.Measure`.
        chance_level: What guessing reaches, or None if that makes no sense.
        gold: The same measure of the gold model.
        gap: Distance of ``value`` from ``gold``.
        noise_floor: Noise floor: the same distance between two gold models.
        low: Lower end of the confidence interval.
        high: Upper end of the confidence interval.
        n: How many samples or repetitions the value rests on.
        status: Whether the value can be believed.
        reason: Why not, in a sentence.
        seed_split: Seed of the split.
        seed_train: Seed of training.
        seed_unlearn: Seed of unlearning.
        seed_evaluate: Seed of measuring.
        elapsed_s: How long measuring took.
        address: Content address of the stage that measured it.
        number: Of a gold, which one: 0 is the one shown, 1 and more are further golds of the same repetition. None for other models, and
            in tables of versions that did not keep further golds.
        access: What a request of the method needs (:meth:`erasure.unlearners.contract.Unlearner.access`); empty for other models, and in
            tables of versions that did not tell.
        guarantee: What the method promises of this model by proof, such as ``exact`` or ``(1, 1e-05)-certified``; as ``access`` empty.
        statistic: What kind of number the value is, where verdicts treat it apart.
        treated_like: Of a further gold, the kind of model whose calibration an attack used on it (its label is that model's); empty where
            nothing was calibrated so.
    """

    experiment: str
    dataset: str
    unlearner: str
    label: str = ""
    model_role: ModelRole
    measure: str
    partition: str = ""
    value: float | None = None
    unit: str = ""
    direction: str = ""
    ideal: str | float | None = None
    indicates: Indication = ""
    chance_level: float | None = None
    gold: float | None = None
    gap: float | None = None
    noise_floor: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    status: Status = "ok"
    reason: str = ""
    seed_split: int | None = None
    seed_train: int | None = None
    seed_unlearn: int | None = None
    seed_evaluate: int | None = None
    elapsed_s: float | None = None
    address: str = ""
    number: int | None = None
    access: str = ""
    guarantee: str = ""
    statistic: Statistic = ""
    treated_like: ModelRole | Literal[""] = ""

    def record(self) -> dict[str, Json]:
        """The row as JSON by column: text, float, int or None; ``ideal`` is text.

        Raises:
            StoreError: If a value does not fit its column or is not finite; names the column and the row.
        """
        return {name: _cell(self, name) for name in RESULT_FIELDS}

    @classmethod
    def of(cls, record: Mapping[str, Json]) -> Row:
        """The row that ``record`` was made from."""
        record = today(record, FORMER_COLUMNS)
        known = {name: value for name, value in record.items() if value is not None or name not in _LATER}
        return cls(**{**_earlier(record), **known, "ideal": _ideal(record["ideal"])})

    @classmethod
    def _of_columns(cls, columns: Mapping[str, Sequence[Any]]) -> list[Row]:
        """The rows of a table's columns: a fifth of the time that the arguments of a frozen class take.

        What all rows share is written once and copied; the rest goes column by column into as many rows as the caches hold.
        """
        n_rows = len(columns["experiment"])
        shared = {name: values[0] if n_rows else None for name, values in columns.items()}
        varied = {name: values for name, values in columns.items() if values.count(shared[name]) != n_rows}
        rows = []
        for first in range(0, n_rows, _ROWS_AT_A_TIME):
            own = [shared.copy() for _ in range(min(_ROWS_AT_A_TIME, n_rows - first))]
            for name, values in varied.items():
                for fields, value in zip(own, values[first : first + _ROWS_AT_A_TIME], strict=True):
                    fields[name] = value
            for fields in own:
                row = object.__new__(cls)
                object.__setattr__(row, "__dict__", fields)
                rows.append(row)
        return rows

    @property
    def is_juror(self) -> bool:
        """Whether it is of a further gold: methods are judged beside those, and tables do not show them."""
        return bool(self.number)


RESULT_FIELDS: tuple[str, ...] = tuple(field.name for field in dataclasses.fields(Row))
"""Columns of the result tables, in their order."""
_KINDS = {name: float if name in _NUMBERS else int if name in _COUNTS else str for name in RESULT_FIELDS}


def write_rows(rows: Iterable[Row], directory: Path) -> None:
    """Write ``rows.csv``, ``rows.json`` and ``rows.parquet``, in the order given.

    Each file is replaced in one step, and ``rows.parquet``, which :func:`read_rows` reads, last. Equal rows give equal bytes.
    In the CSV file a text that a spreadsheet would run as a formula gets an apostrophe in front; the other two have it as it is.

    Raises:
        StoreError: If a value does not fit its column or is not finite, or a file cannot be written.
    """
    records = [row.record() for row in rows]
    directory = Path(directory)
    write_atomically(directory / "rows.csv", _csv(records))
    write_atomically(directory / "rows.json", _json(records))
    columns: dict[str, list[Any]] = {name: [record[name] for record in records] for name in RESULT_FIELDS}
    write_atomically(directory / "rows.parquet", parquet_bytes(columns, _KINDS))


def write_trace(rows: Iterable[tuple[int, Row]], directory: Path) -> None:
    """Write ``trace.csv`` and ``trace.json``: rows of single epochs, with the epoch in front (0 is the original).

    Raises:
        StoreError: As :func:`write_rows`.
    """
    records = [{"epoch": epoch, **row.record()} for epoch, row in rows]
    write_atomically(Path(directory) / "trace.csv", _csv(records, ("epoch", *RESULT_FIELDS)))
    write_atomically(Path(directory) / "trace.json", _json(records))


def remove_trace(directory: Path) -> None:
    """Remove what :func:`write_trace` wrote for an earlier run, whose models were others.

    Raises:
        StoreError: If it cannot be removed.
    """
    for name in ("trace.csv", "trace.json"):
        with reported("remove", directory / name, option="--output"):
            (directory / name).unlink(missing_ok=True)


def read_rows(directory: Path) -> list[Row]:
    """The rows that :func:`write_rows` wrote, in their order.

    Raises:
        StoreError: If ``rows.parquet`` is missing, damaged or has other columns.
    """
    import pyarrow

    path = Path(directory) / "rows.parquet"
    try:
        table = read_parquet(path, encoded=True)
    except pyarrow.ArrowException as error:
        raise StoreError(f"{path} is not a readable Parquet file ({error}); run the experiment again.") from error
    except OSError as error:
        raise failure("read", path, error, option="--output") from error
    table = table.rename_columns([FORMER_COLUMNS.get(name, name) for name in table.column_names])
    missing = [name for name in _LATER if name not in table.column_names]
    if missing and tuple(table.column_names) == RESULT_FIELDS[: RESULT_FIELDS.index(missing[0])]:
        earlier = [_earlier(record) for record in table.to_pylist()]
        for name in missing:
            kind = pyarrow.int64() if name in _COUNTS else pyarrow.string()
            table = table.append_column(name, pyarrow.array([each[name] for each in earlier], kind))
    if tuple(table.column_names) != RESULT_FIELDS:
        raise StoreError(
            f"{path} was written by another version: it has the columns {', '.join(table.column_names)}; expected "
            f"{', '.join(RESULT_FIELDS)}. Run the experiment again: what is in the store is not recomputed."
        )
    # Column by column, and each text once: there may be hundreds of thousands of rows.
    columns = [_values(table.column(name), _ideal if name == "ideal" else None) for name in RESULT_FIELDS]
    measures, at = columns[RESULT_FIELDS.index("measure")], RESULT_FIELDS.index("statistic")
    if _MEMORY in measures:  # tables of this version too had no word for it before
        columns[at] = ["memory" if name == _MEMORY else kind for name, kind in zip(measures, columns[at], strict=True)]
    return Row._of_columns(dict(zip(RESULT_FIELDS, columns, strict=True)))


def _earlier(record: Mapping[str, Json]) -> dict[str, Json]:
    """What the columns that came later hold in a table without them: earlier versions told it by names."""
    measure, label, is_juror = str(record["measure"]), str(record["label"]), bool(record.get("number"))
    statistic: Statistic = ""
    if measure.casefold().startswith("accuracy"):
        statistic = "accuracy"
    elif measure.startswith(("AverageGap", "ToW", "AUS", "NoMUS", "GUM", "CGUM")):
        statistic = "composite"
    elif measure.startswith(("KLoM", "ForgettingQuality")):
        statistic = "population"
    treated_like = ""
    if record["model_role"] == "gold" and is_juror:
        treated_like = "unlearned" if record["unlearner"] else "original" if label.startswith("original") else ""
    return {"number": None, "access": "", "guarantee": "", "statistic": statistic, "treated_like": treated_like}


def _values(column: Any, read: Callable[[str], Any] | None) -> list[Any]:
    import pyarrow

    if not (pyarrow.types.is_string(column.type) or pyarrow.types.is_dictionary(column.type)):
        return list(column.to_pylist())
    encoded = column.combine_chunks().dictionary_encode()
    texts = encoded.dictionary.to_pylist() if read is None else [read(text) for text in encoded.dictionary.to_pylist()]
    return [None if code is None else texts[code] for code in encoded.indices.to_pylist()]


def _cell(row: Row, name: str) -> Json:
    value = getattr(row, name)
    if value is None and (name in _NUMBERS or name in _COUNTS or name == "ideal"):
        return None
    if name in _NUMBERS:
        return _number(row, name, value)
    if name in _COUNTS:
        return _count(row, name, value)
    if name == "ideal" and not isinstance(value, str):
        return repr(_number(row, name, value))
    return _text(row, name, value)


def _text(row: Row, name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _misfit(row, name, value, "text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _misfit(row, name, value, "valid Unicode text") from None
    if name in _CHOICES and value not in _CHOICES[name]:
        raise _misfit(row, name, value, f"one of {', '.join(_CHOICES[name])}")
    return str(value)


def _number(row: Row, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise _misfit(row, name, value, "a number or None")
    number = float(value)
    if not math.isfinite(number):
        raise _misfit(row, name, value, 'a finite number, or None with status "non-finite" and a reason')
    return number


def _count(row: Row, name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or int(value).bit_length() > 63:
        raise _misfit(row, name, value, "a whole number of at most 63 bits or None")
    return int(value)


def _misfit(row: Row, name: str, value: Any, expected: str) -> StoreError:
    where = f"{row.unlearner or row.model_role}, {row.measure} on {row.partition or 'no partition'}"
    return StoreError(f"The column {name} of the row of {where} is {value!r}; expected {expected}.")


def _ideal(text: str | None) -> str | float | None:
    return float(text) if text is not None and PLAIN_NUMBER.fullmatch(text) else text


def _json(records: list[dict[str, Json]]) -> bytes:
    lines = ",\n".join(json.dumps(record, ensure_ascii=False, allow_nan=False) for record in records)
    return f"[\n{lines}\n]\n".encode() if records else b"[]\n"


def _csv(records: list[dict[str, Json]], header: tuple[str, ...] = RESULT_FIELDS) -> bytes:
    lines = [",".join(header), *(",".join(csv_cell(value) for value in record.values()) for record in records)]
    return ("\n".join(lines) + "\n").encode()
