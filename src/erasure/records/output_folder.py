"""Where results are about to go: whether they can be written there, and whose results are there already."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from erasure.durable import reported
from erasure.errors import StoreError
from erasure.records.evidence import read_run_record
from erasure.records.rows import read_rows
from erasure.records.sweep_folder import POINTS_FILE

__all__ = ["check_free", "check_output", "check_writable", "holds_other_configuration"]

_ROWS_FILE = "rows.parquet"


def check_writable(directory: Path, *, option: str = "--output") -> None:
    """Try to write into a directory; what is made for the attempt is removed.

    Args:
        directory: The directory; it need not exist.
        option: The command-line option that an error message recommends.

    Raises:
        StoreError: If it cannot be made or written.
    """
    made: list[Path] = []
    with reported("write", directory, option=option):
        try:
            for each in reversed([directory, *directory.parents]):
                if not each.is_dir():
                    each.mkdir()
                    made.append(each)
            probe = directory / f".{uuid.uuid4().hex}.tmp"
            probe.write_bytes(b"\n")
            probe.unlink()
        finally:
            for each in reversed(made):
                with suppress(OSError):
                    each.rmdir()


def check_output(directory: Path, name: str, kind: Literal["run", "sweep"] = "run") -> None:
    """Refuse a directory in which results cannot be written, or would overwrite those of another experiment.

    Args:
        directory: The directory; it need not exist.
        name: The experiment's name.
        kind: What it is about to get.

    Raises:
        StoreError: As :func:`check_free` and :func:`check_writable`.
    """
    check_free(directory, name, kind)
    check_writable(directory)


def check_free(directory: Path, name: str, kind: Literal["run", "sweep"] = "run") -> None:
    """Refuse a directory that has the results of another experiment.

    Args:
        directory: The directory; it need not exist.
        name: The experiment's name.
        kind: What it is about to get.

    Raises:
        StoreError: If it has results under another name, or those of a sweep where a run's are to go.
    """
    if not (directory / _ROWS_FILE).is_file():
        return
    is_sweep = (directory / POINTS_FILE).is_file()
    there = _name(directory) or name  # whose results cannot be read, nobody can say
    if is_sweep:  # rows of a sweep are called NAME (SETTING), and NAME where nothing is set
        there = there if there == name else name if there.startswith(f"{name} (") else there
    if there != name:
        raise StoreError(
            f'{directory} has the results of another experiment, "{there}", which "{name}" would overwrite; '
            "choose another directory with --output, or remove this one."
        )
    if is_sweep and kind == "run":
        raise StoreError(
            f'{directory} has the results of a sweep of "{name}", in which those of a single run would not be seen; '
            "choose another directory with --output, or remove this one."
        )


def holds_other_configuration(directory: Path, configuration: Mapping[str, Any]) -> bool:
    """Whether the directory has results of a configuration that is not this one.

    Args:
        directory: The directory; it need not exist.
        configuration: The configuration with every default filled in.
    """
    with suppress(StoreError):
        found = read_run_record(directory).canonical
        return bool(found) and found != json.loads(json.dumps(configuration))
    return False


def _name(directory: Path) -> str:
    with suppress(StoreError):
        if name := read_run_record(directory).experiment:
            return name
    with suppress(StoreError):
        return next((row.experiment for row in read_rows(directory)), "")
    return ""
