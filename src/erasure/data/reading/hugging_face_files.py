"""Reads data sets through the ``datasets`` library: from the hub, from folders and from files, quietly and only online if allowed."""

from __future__ import annotations

import importlib
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from erasure.data.reading.files import existing_file
from erasure.data.reading.json_texts import texts_as_written
from erasure.errors import DataError, MissingDependency

__all__ = ["READERS", "read_files", "read_folder", "read_hub", "reader_of"]

READERS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
}
"""Ending of a file to the library's reader."""

_PADDED = re.compile(r"[+-]?0[0-9]+")
_PACKED = {".gz", ".bz2", ".xz", ".zst"}


def reader_of(path: str) -> str:
    """Ending of a file without its compression.

    Raises:
        DataError: If there is no reader for it.
    """
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    kind = next((suffix for suffix in reversed(suffixes) if suffix not in _PACKED), "")
    if kind not in READERS:
        raise DataError(f'"{path}" ends in none of {", ".join(READERS)} (with or without {", ".join(sorted(_PACKED))})')
    return kind


def read_files(
    paths: Sequence[str], column_names: Sequence[str], options: Mapping[str, Any], exact: Sequence[str] = ()
) -> dict[str, Any]:
    """The rows of files of one kind, as one split called ``train``; nothing is left in the library's cache.

    Columns that are called ``exact`` stay texts where they are written with zeros in front: 007 and 7 are two persons.

    Raises:
        DataError: If a file is missing, damaged or of another kind.
    """
    files = [existing_file(path) for path in paths]
    kinds = {reader_of(path) for path in paths}
    if len({READERS[kind] for kind in kinds}) > 1 or len(kinds & {".csv", ".tsv", ".tab"}) > 1:
        raise DataError(f"files of different kinds cannot be put together: {', '.join(sorted(kinds))}")
    (reader,) = {READERS[kind] for kind in kinds}
    given = dict(options)
    if reader == "csv":
        given.setdefault("sep", "," if kinds == {".csv"} else "\t")
        if column_names:
            given["column_names"] = list(column_names)
            given.setdefault("header", None)
    elif column_names:
        raise DataError(f"column_names are for CSV and TSV files; {paths[0]} has names of its own")
    return _read_apart(", ".join(paths), reader, exact, data_files=[str(file.resolve()) for file in files], **given)


def read_folder(folder: Path, configuration: str | None, exact: Sequence[str] = ()) -> dict[str, Any]:
    """A local data set: what ``save_to_disk`` wrote, or files that the library knows, such as folders of pictures.

    ``exact`` is as for :func:`read_files`.

    Raises:
        DataError: If the library finds no data set in it.
    """
    if any((folder / name).exists() for name in ("state.json", "dataset_dict.json")):
        with _library(f'the folder "{folder}"', offline=True) as library:
            return _splits(library.load_from_disk(str(folder), keep_in_memory=False))
    given = {} if configuration is None else {"name": configuration}
    return _read_apart(f'the folder "{folder}"', str(folder), exact, **given)


def read_hub(path: str, configuration: str | None, revision: str | None, download: bool) -> dict[str, Any]:
    """A data set of the hub, or of the library's cache.

    Raises:
        DataError: If it is not there, and may not or cannot be fetched.
    """
    with _library(f'"{path}"', offline=not download) as library:
        try:
            return _splits(library.load_dataset(path, name=configuration, revision=revision))
        except OSError as error:
            remedy = "set download to true, or give files or a local folder"
            where = f'"{path}" is neither a local folder nor in the cache of the library "datasets"'
            raise DataError(f"{where}; {remedy}" if not download else f'"{path}" cannot be fetched: {_reason(error)}') from error


def _read_apart(called: str, path: str, exact: Sequence[str], **given: Any) -> dict[str, Any]:
    """Read into memory with a cache of its own, so that neither old nor half-written caches matter."""
    with tempfile.TemporaryDirectory(prefix="erasure-datasets-") as cache, _library(called, offline=True) as library:
        splits = _splits(library.load_dataset(path, cache_dir=cache, keep_in_memory=True, **given))
        if any(each.info.builder_name == "csv" for each in splits.values()):
            return _with_zeros(library, splits, exact, path=path, cache_dir=cache, **given)
        if not any(each.info.builder_name == "json" for each in splits.values()):
            return splits
        made = library.load_dataset_builder(path, cache_dir=cache, **given).config
        return {name: texts_as_written(each, made.data_files[name], made.field, made.encoding) for name, each in splits.items()}


def _with_zeros(library: Any, splits: dict[str, Any], exact: Sequence[str], **given: Any) -> dict[str, Any]:
    """The splits with those of the ``exact`` columns as texts whose numbers are written with zeros in front."""
    features = next(iter(splits.values())).features
    numbers = [name for name in exact if getattr(features.get(name), "dtype", "").startswith(("int", "float"))]
    if not numbers or "features" in given:
        return splits
    texts = library.Features({**features, **{name: library.Value("string") for name in numbers}})
    written = _splits(library.load_dataset(keep_in_memory=True, features=texts, **given))
    padded = [
        name
        for name in numbers
        if any(text is not None and _PADDED.fullmatch(text) for each in written.values() for text in each[name])
    ]
    plain = [name for name in numbers if name not in padded]
    return {name: _cast(each, plain, features) for name, each in written.items()} if padded else splits


def _cast(rows: Any, names: Sequence[str], features: Any) -> Any:
    for name in names:
        rows = rows.cast_column(name, features[name])
    return rows


def _splits(found: Any) -> dict[str, Any]:
    return dict(found) if isinstance(found, dict) else {str(found.split or "train"): found}


@contextmanager
def _library(called: str, offline: bool) -> Iterator[Any]:
    """The library without its progress bars, off the network where that is asked for, and with one kind of error."""
    try:
        datasets = importlib.import_module("datasets")
        hub = importlib.import_module("huggingface_hub.constants")
    except ModuleNotFoundError as error:
        raise MissingDependency(error.name or "datasets", "text", called) from error
    switches: list[Any] = [datasets.config, hub]
    before = [switch.HF_HUB_OFFLINE for switch in switches]
    quiet = datasets.utils.are_progress_bars_disabled()
    datasets.utils.disable_progress_bars()
    for switch, value in zip(switches, before, strict=True):
        switch.HF_HUB_OFFLINE = offline or value
    try:
        yield datasets
    except (DataError, MissingDependency):
        raise
    except ModuleNotFoundError as error:
        raise MissingDependency(str(error.name), "text", called) from error
    except Exception as error:  # damaged files make the readers fail in every possible way
        raise DataError(f"{called} cannot be read: {_reason(error)}") from error
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.HF_HUB_OFFLINE = value
        if not quiet:
            datasets.utils.enable_progress_bars()


def _reason(error: BaseException) -> str:
    # The library wraps what went wrong in an error of its own, which says less.
    while error.__cause__ is not None and type(error).__name__.startswith("DatasetGeneration"):
        error = error.__cause__
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    if "truncated converting" in said:
        return f"{said}: a column has whole numbers in the first file and fractions in another; give that one first, or use TableFile"
    return said
