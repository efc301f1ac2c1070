"""What ``erasure new`` has to know of data before it can write a configuration: the source, the model that suits it, the classes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from erasure.errors import ConfigError, Problem, nearest

__all__ = ["SHIPPED", "Chosen", "chosen_data", "refused"]

SHIPPED = ("digits", "breast_cancer")
_PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}
_MISSING = ["", "?", "NA", "N/A", "NaN", "nan", "null"]
_MANY_VALUES = 50
_DIGITS = (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Data as a configuration names it.

    Args:
        name: Name of the experiment.
        source: The source with its parameters.
        comment: One sentence on the data.
        model: The model with its parameters.
        pictures: Whether samples are pictures, which take other settings than tables.
        epochs: Epochs that suit it.
        train: Share of the samples to train on.
        n_samples: How many samples there are.
        classes: The classes as a splitter takes them, by number or by name, and how many samples each has.
    """

    name: str
    source: dict[str, Any]
    comment: str
    model: str | dict[str, Any]
    pictures: bool
    epochs: int
    train: float
    n_samples: int
    classes: Mapping[int | str, int]


def refused(message: str, hint: str = "") -> ConfigError:
    """An answer that cannot be used."""
    return ConfigError([Problem(message, hint=hint, kind="data")])


def chosen_data(data: str, ask_label: Callable[[Sequence[str]], str]) -> Chosen:
    """The data called ``data``: shipped, a folder with one folder of pictures a class, or a table.

    Args:
        data: ``digits``, ``breast_cancer`` or a path.
        ask_label: Chooses the label among the columns of a table.

    Raises:
        ConfigError: If there is no such data, or no classifier can learn from it.
    """
    if data == "digits":
        return _shipped("digits", "1,797 handwritten digits of 8x8 pixels", "CNN", True, 25, 0.5, _DIGITS)
    if data == "breast_cancer":
        return _shipped("breast_cancer", "569 patients, 30 measurements each", _mlp(64, 64), False, 40, 0.8, (212, 357))
    path = Path(data).expanduser()
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        return _table(path, ask_label)
    raise refused(
        f'there is no data "{data}"; give {", ".join(SHIPPED)}, a table or a folder of pictures', nearest(data, SHIPPED)
    )


def _shipped(name: str, comment: str, model: Any, pictures: bool, epochs: int, train: float, sizes: Sequence[int]) -> Chosen:
    return Chosen(
        name=name,
        source={"class": "Sklearn", "parameters": {"name": name}},
        comment=f"{comment}, shipped with scikit-learn",
        model=model,
        pictures=pictures,
        epochs=epochs,
        train=train,
        n_samples=sum(sizes),
        classes=dict(enumerate(sizes)),
    )


def _mlp(*widths: int) -> dict[str, Any]:
    return {"class": "MLP", "parameters": {"hidden_sizes": list(widths)}}


def _folder(path: Path) -> Chosen:
    classes = sorted(each for each in path.iterdir() if each.is_dir())
    counts: dict[int | str, int] = {
        each.name: sum(file.suffix.casefold() in _PICTURES for file in each.rglob("*")) for each in classes
    }
    if len(counts) < 2 or not all(counts.values()):
        empty = [str(name) for name, count in counts.items() if not count]
        found = f"without pictures: {', '.join(empty[:5])}" if empty else f"found {len(counts)}"
        raise refused(f'"{path}" must hold one folder of pictures for each of two or more classes; {found}')
    parameters = {"dataset": "ImageFolder", "root": str(path), "transforms": ["Resize((32, 32))"]}
    return Chosen(
        name=path.resolve().name,
        source={"class": "TorchVision", "parameters": parameters},
        comment=f"{sum(counts.values()):,} pictures of {len(counts)} classes, all resized to 32x32",
        model="CNN",
        pictures=True,
        epochs=20,
        train=0.8,
        n_samples=sum(counts.values()),
        classes=counts,
    )


def _read(path: Path) -> Any:
    import pandas as pd

    try:
        if ".parquet" in path.suffixes:
            return pd.read_parquet(path)
        separator = "\t" if ".tsv" in path.suffixes else ","
        table = pd.read_csv(path, sep=separator, na_values=_MISSING, keep_default_na=False, skipinitialspace=True)
    except (OSError, ValueError) as error:
        raise refused(f'"{path}" cannot be read as a table: {error}') from error
    return table.rename(columns=lambda name: str(name).strip())


def _table(path: Path, ask_label: Callable[[Sequence[str]], str]) -> Chosen:
    table = _read(path)
    columns = list(table.columns)
    if len(columns) < 2 or len(set(columns)) < len(columns):
        raise refused(f'"{path}" needs a line of names, two columns or more, all different; found {json.dumps(columns[:10])}')
    label = ask_label(columns)
    if label not in columns:
        raise refused(f'"{path}" has no column "{label}"; there are {", ".join(columns[:20])}', nearest(label, columns))
    classes = _classes(table[label], label)
    inputs = table.drop(columns=label)
    text = [name for name in inputs if not _is_number(inputs[name])]
    # Nearly as many values as rows are names and notes, which would only be learned by heart.
    names = [name for name in text if inputs[name].nunique() > max(_MANY_VALUES, len(table) // 10)]
    features = [name for name in inputs if name not in names]
    if not features:
        raise refused(f'"{path}" has no column to learn from besides "{label}"')
    parameters: dict[str, Any] = {"path": str(path), "label": label}
    if names:
        parameters["features"] = features
    if set(text) - set(names):
        parameters["categorical"] = [name for name in text if name not in names]
    if sum(classes.values()) < len(table):
        parameters["missing"] = "drop"
    elif inputs[features].isna().any(axis=None):
        parameters["missing"] = "impute"
    left_out = f", without {len(names)} column{'s' if len(names) > 1 else ''} of free text" if names else ""
    return Chosen(
        name=path.name.partition(".")[0],
        source={"class": "TableFile", "parameters": parameters},
        comment=f"{len(table):,} rows, {len(features)} inputs, {len(classes)} classes{left_out}",
        model=_mlp(64, 64),
        pictures=False,
        epochs=40,
        train=0.8,
        n_samples=int(table[[*features, label]].notna().all(axis=1).sum()) if parameters.get("missing") == "drop" else len(table),
        classes=classes,
    )


def _is_number(column: Any) -> bool:
    import pandas as pd

    return bool(pd.api.types.is_numeric_dtype(column)) and not pd.api.types.is_bool_dtype(column)


def _classes(column: Any, label: str) -> dict[int | str, int]:
    """The classes as a splitter takes them, and how many rows each has."""
    counts = {value: int(count) for value, count in column.value_counts().items()}
    if len(counts) < 2:
        raise refused(f'column "{label}" has {len(counts)} different value{"" if len(counts) == 1 else "s"}; a label needs two')
    if len(counts) > sum(counts.values()) // 2:
        raise refused(f'column "{label}" has {len(counts)} different values in {len(column)} rows; a label has few')
    if not _is_number(column):
        return {str(value).strip(): counts[value] for value in sorted(counts, key=str)}
    if any(value != int(value) for value in counts):
        raise refused(f'column "{label}" has fractions; a label is a class, as a whole number or as text')
    values = sorted(counts)
    by_number = [int(value) for value in values] == list(range(len(values)))
    return {int(value) if by_number else str(int(value)): counts[value] for value in values}
