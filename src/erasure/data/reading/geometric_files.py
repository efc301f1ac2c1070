"""Data set classes of PyTorch Geometric on local raw files: reprocessed in a folder of their own, so that nothing pickled is trusted."""

from __future__ import annotations

import gzip
import importlib
import inspect
import os
import pickletools
import shutil
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from erasure.data.reading.files import file_digest
from erasure.errors import DataError
from erasure.types import Json

__all__ = ["GraphsRead", "digests", "label_names", "raw_folder", "read_graphs"]

_HARMLESS = frozenset(
    {
        "__builtin__ list",
        "builtins list",
        "collections defaultdict",
        "numpy dtype",
        "numpy ndarray",
        "numpy.core.multiarray _reconstruct",
        "numpy._core.multiarray _reconstruct",
        "scipy.sparse.csr csr_matrix",
        "scipy.sparse._csr csr_matrix",
        "_codecs encode",
    }
)
"""What the pickles of Planetoid's raw files are made of: arrays, sparse matrices and lists."""

_NAMING = frozenset({"GLOBAL", "INST"})
_UNREADABLE = frozenset({"STACK_GLOBAL", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID"})


_ROW = "row_of_file"


class _Located(Exception):
    """Ends the making of a data set as soon as it has said where its raw files are."""


@dataclass(frozen=True, eq=False)
class GraphsRead:
    """What a data set class has read.

    Args:
        graphs: The graphs, in order.
        n_dropped: How many the class has skipped because they have no nodes.
        dropped: Rows of the file that these are from, if rows are numbered.
        rows: Row of the file that each graph is from, counted from 0 without header and empty lines; None where the class does not make
            them of rows of SMILES.
    """

    graphs: list[Any]
    n_dropped: int
    rows: Tensor | None
    dropped: tuple[int, ...] = ()


def digests(folder: Path) -> Json:
    """SHA-256 of every file of a folder, by name; None if there is none."""
    files = sorted(file for file in folder.iterdir() if file.is_file()) if folder.is_dir() else []
    return {file.name: file_digest(str(file)) for file in files} or None


def label_names(file: Path) -> tuple[str, ...]:
    """The labels in a file of the TU benchmark, in the order of their codes; empty if they are the codes, or the file cannot be read.

    Args:
        file: ``NAME_graph_labels.txt``, as it is or gzipped.
    """
    packed = file.with_name(f"{file.name}.gz")
    try:
        text = file.read_text(encoding="utf-8") if file.exists() else gzip.decompress(packed.read_bytes()).decode("utf-8")
        labels = sorted({int(line) for line in text.split()})
    except (OSError, ValueError, EOFError):
        return ()
    return () if labels == [*range(len(labels))] else tuple(map(str, labels))


def raw_folder(cls: Any, root: str, parameters: dict[str, Any]) -> Path:
    """Where a data set class looks for its raw files.

    Raises:
        DataError: If it does not accept the parameters.
    """
    found: list[str] = []

    def locate(dataset: Any) -> None:
        found.append(dataset.raw_dir)
        raise _Located

    with tempfile.TemporaryDirectory(prefix="erasure-graphs-") as folder:
        try:
            _made(cls, folder, parameters, locate)
        except _Located:
            return Path(root).expanduser() / Path(found[0]).relative_to(folder)
    raise DataError(f"{cls.__name__} reads no raw files; it cannot be used as a source")


def read_graphs(cls: Any, root: str, parameters: dict[str, Any], download: bool) -> GraphsRead:
    """All graphs of a data set class, rebuilt from its raw files.

    Files that end in ``.gz`` are unpacked. Nothing is written into ``root``, except downloads.

    Args:
        cls: A subclass of ``torch_geometric.data.Dataset``.
        root: Its root folder; ``~`` is expanded.
        parameters: Its other parameters.
        download: Whether to fetch raw files that are missing.

    Raises:
        DataError: If files are missing or unreadable; names them.
    """
    home = Path(root).expanduser()
    with tempfile.TemporaryDirectory(prefix="erasure-graphs-") as folder:

        def supply(dataset: Any) -> None:
            here = Path(dataset.raw_dir)
            there = home / here.relative_to(folder)
            wanted = [Path(path).name for path in dataset.raw_paths]
            _stage(there, here)
            missing = [name for name in wanted if not (here / name).exists()]
            if missing:
                _fetch(cls, dataset, here, there, missing, download)
            for name in wanted:
                _refuse_programs(here / name)

        numbering = _Numbering.of(cls)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                dataset = _made(cls, folder, parameters | numbering.parameters, supply)
                graphs = [dataset[i] for i in range(len(dataset))]
            except (DataError, ImportError):
                raise
            except Exception as error:  # damaged files make the readers fail in every possible way
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                if isinstance(error, (IndexError, KeyError, ValueError)):
                    reason = f"{numbering.place}its raw files are not laid out as those that were published ({reason})"
                raise DataError(f'{_named(cls, parameters)} in "{home}" cannot be read: {reason}') from error
        rows = [graph.pop(_ROW).reshape(()) for graph in graphs if _ROW in graph]
        n_dropped = sum("zero atoms" in str(each.message) for each in said)
        if not rows or len(rows) != len(graphs):
            return GraphsRead(graphs, n_dropped, None)
        numbers = torch.stack(rows)
        unread = tuple(sorted({*range(numbering.row)} - {*numbers.tolist()}))
        return GraphsRead(graphs, n_dropped, numbers, unread if len(unread) == n_dropped else ())


@dataclass(eq=False)
class _Numbering:
    """For classes that make a graph of each row's SMILES: a parameter that writes the number of the row on the graph.

    Rows that cannot be read, which depends on the version of rdkit, are skipped by the class, so that positions among the graphs are no
    numbers of rows.

    Args:
        parameters: What to give to the class; nothing if it reads no SMILES.
        row: The row that is being read.
    """

    parameters: dict[str, Any]
    row: int = 0

    @classmethod
    def of(cls, dataset: Any) -> _Numbering:
        """That of a data set class."""
        made = cls({})
        if "from_smiles" in inspect.signature(dataset).parameters:
            made.parameters["from_smiles"] = made._numbered
        return made

    def _numbered(self, smiles: str) -> Any:
        graph = importlib.import_module("torch_geometric.utils").from_smiles(smiles)
        graph[_ROW] = torch.tensor([self.row])
        self.row += 1
        return graph

    @property
    def place(self) -> str:
        """Where reading has stopped, as the beginning of a reason."""
        return f"row {self.row} (from 0, without the header): " if self.parameters else ""


def _made(cls: Any, root: str, parameters: dict[str, Any], on_missing: Any) -> Any:
    """The data set, with ``on_missing`` instead of its download and without messages."""
    quiet = property(lambda self: False, lambda self, value: None)
    try:
        inspect.signature(cls).bind(root, **parameters)
    except TypeError as error:
        raise DataError(f"{cls.__name__} does not accept its parameters: {error}") from error
    return type(cls.__name__, (cls,), {"download": on_missing, "log": quiet})(root, **parameters)


def _stage(there: Path, here: Path) -> None:
    """Every file of ``there`` in ``here``, unpacked."""
    for file in sorted(there.iterdir()) if there.is_dir() else ():
        target = here / file.name.removesuffix(".gz")
        if not file.is_file() or target.exists():
            continue
        if file.suffix != ".gz":
            target.symlink_to(file.resolve())
            _end_last_line(target)
            continue
        try:
            with gzip.open(file) as packed, target.open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked)
        except (OSError, EOFError) as error:
            raise DataError(f'"{file}" cannot be unpacked: {error}') from error
        _end_last_line(target)


def _end_last_line(file: Path) -> None:
    """Make a staged table end in a line feed: the library takes what is behind the last one for an empty line."""
    if file.suffix != ".csv" or not file.stat().st_size:
        return
    with file.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        if stream.read(1) == b"\n":
            return
    if file.is_symlink():
        original = file.resolve()
        file.unlink()
        shutil.copyfile(original, file)
    with file.open("ab") as stream:
        stream.write(b"\n")


def _fetch(cls: Any, dataset: Any, here: Path, there: Path, missing: list[str], download: bool) -> None:
    shown = ", ".join(missing[:4]) + (", …" if len(missing) > 4 else "")
    message = f'{cls.__name__}: expected {shown} (or the same as .gz) in the folder "{there}"'
    address = getattr(dataset, "url", None)
    origin = f" from {address.removesuffix('{}')}" if isinstance(address, str) else ""
    remedy = f"get the raw files{origin} and put them there"
    if not download:
        raise DataError(f"{message}; {remedy}, or set download to true")
    try:
        cls.download(dataset)
        there.mkdir(parents=True, exist_ok=True)
        for file in here.iterdir():
            if file.is_file() and not file.is_symlink():
                shutil.copyfile(file, there / file.name)
    except Exception as error:  # whatever kept the files from coming
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{message}, and downloading failed ({reason}); {remedy}") from error


def _refuse_programs(file: Path) -> None:
    """Planetoid's raw files are pickles; one that is made of anything but arrays and lists could run any program."""
    if not file.name.startswith("ind.") or file.name.endswith(".index"):
        return
    named: set[str] = set()
    try:
        for operation, argument, _ in pickletools.genops(file.read_bytes()):
            if operation.name in _NAMING:
                named.add(str(argument))
            elif operation.name in _UNREADABLE:
                named.add(f"what {operation.name} makes")
    except ValueError as error:
        raise DataError(f'"{file.name}" is not one of Planetoid\'s files: {error}') from error
    foreign = sorted(named - _HARMLESS)
    if foreign:
        raise DataError(
            f'"{file.name}" is refused because unpickling it could run any program: it needs {", ".join(foreign)}, expected arrays '
            "and lists; get the original files of Planetoid"
        )


def _named(cls: Any, parameters: dict[str, Any]) -> str:
    return f'{cls.__name__} "{parameters["name"]}"' if "name" in parameters else str(cls.__name__)
