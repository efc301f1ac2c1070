"""The runs of a folder: what each was about and how it ended, also where it did not end well."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from erasure.analysis.overview import Overview, overview_of
from erasure.errors import ConfigError, Diagnostic, ErasureError, StoreError
from erasure.memory import keep, recall
from erasure.records.collection import uncollected
from erasure.records.reading import as_record
from erasure.records.run_folder import RUN_RECORD_FILE, RunFolder
from erasure.records.sweep_folder import POINTS_FILE
from erasure.reports.run_summary import READ_FILES, SUMMARY_FILE, RunSummary, judging_code, read_summary, summary_of

__all__ = ["Library"]

_ROWS = "rows.parquet"
_READ = (*READ_FILES, SUMMARY_FILE)
"""Files of a run that are read; nothing else of the folder is."""
_TRACES = ("rows.csv", "rows.json", RUN_RECORD_FILE, "stages.json")
"""Files that a run leaves before its rows, which it writes last."""
_MAX_DIRECTORIES = 20_000
_KEPT = 32
_REMEMBERED = 20
"""Folders and versions of which is remembered what their lists say."""
_MISREAD = (KeyError, TypeError, ValueError, AttributeError, IndexError)
"""What reading JSON of another shape ends in."""


class Library:
    """The runs of a folder, reread when their files change. Nothing is ever written into it.

    What the list says of each run is remembered under ``memory``, with sizes and times of its files: judging a thousand runs takes minutes,
    reading what was found a moment. Directories that are links are not followed, and a run whose files lead out of the folder is not read.

    Args:
        root: The folder, which may be a run itself.
        memory: Directory of what is remembered; None remembers nothing beyond this object.

    Raises:
        ConfigError: If it is not a directory.
    """

    def __init__(self, root: Path | str, memory: Path | None = None) -> None:
        self.root: Path = Path(root).expanduser().resolve()
        if not self.root.is_dir():
            hint = "name a folder of runs; erasure run CONFIG makes one"
            raise ConfigError([Diagnostic(f"{root} is not a directory", hint=hint, kind="data")])
        self.is_cut: bool = False
        self._lock = threading.Lock()
        self._memory = None if memory is None else memory / f"{_list_digest(self.root)}.json"
        self._runs: dict[str, tuple[Any, RunSummary]] = _remembered(self._memory)
        self._overviews: dict[str, tuple[Any, Overview]] = {}

    @uncollected()
    def runs(self, on_run: Callable[[int, int], None] | None = None) -> list[RunSummary]:
        """All runs there are now, the newest first.

        Args:
            on_run: Gets how many have been looked at, and of how many, after each.
        """
        directories = self._directories()
        before = {name: self._runs.get(name) for name in directories}
        found = []
        for name, directory in directories.items():
            found.append(self._run(name, directory))
            if on_run is not None:
                on_run(len(found), len(directories))
        if self._memory is not None and before != {name: self._runs.get(name) for name in directories}:
            self._remember(self._memory, directories)
        return sorted(sorted(found, key=lambda run: run.name), key=lambda run: run.date, reverse=True)

    def run(self, name: str) -> RunSummary:
        """One run.

        Raises:
            StoreError: If there is no run of this name.
        """
        return self._run(name, self._directory(name))

    def overview(self, name: str) -> Overview:
        """A run with its verdicts.

        Raises:
            StoreError: If there is no run of this name, or it cannot be read.
        """
        return self._overview(name, self._directory(name))

    def _overview(self, name: str, directory: Path) -> Overview:
        stamp = _stamp(directory)
        with self._lock:
            if name in self._overviews and self._overviews[name][0] == stamp:
                return self._overviews[name][1]
        self._check_inside(directory)
        if not (directory / _ROWS).exists():
            raise StoreError(f"The run {name} is not finished: it has no file {_ROWS}. Run its configuration again to go on.")
        try:
            found = overview_of(RunFolder.load(directory))
        except _MISREAD as error:
            raise StoreError(
                f"{directory / RUN_RECORD_FILE} is not as this version writes it ({type(error).__name__}: {error}); "
                "run the experiment again."
            ) from error
        with self._lock:
            self._overviews[name] = (stamp, found)
            while len(self._overviews) > _KEPT:
                self._overviews.pop(next(iter(self._overviews)))
        return found

    def stamp(self, name: str) -> Any:
        """Something that changes when the files of a run change.

        Raises:
            StoreError: If there is no run of this name.
        """
        return _stamp(self._directory(name))

    def _directory(self, name: str) -> Path:
        # Looked up among what was found, never joined to a path: a name cannot lead anywhere else.
        directories = self._directories()
        if name not in directories:
            raise StoreError(f"There is no run {name[:200]!r} in {self.root}.")
        return directories[name]

    def _directories(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        seen = 0
        self.is_cut = False
        for place, directories, files in os.walk(self.root, followlinks=False):
            if seen >= _MAX_DIRECTORIES:
                self.is_cut = True
                break
            seen += 1
            if "objects" in directories and "FORMAT" in files:  # a store
                directories.clear()
                continue
            directories[:] = sorted(name for name in directories if not name.startswith("."))
            if _ROWS in files or any(name in files for name in _TRACES):
                found[Path(place).relative_to(self.root).as_posix()] = Path(place)
        return found

    def _run(self, name: str, directory: Path) -> RunSummary:
        stamp = _stamp(directory)
        with self._lock:
            if name in self._runs and self._runs[name][0] == stamp:
                return self._runs[name][1]
        found = replace(self._summary(name, directory), title=self.root.name if name == "." else name)
        with self._lock:
            self._runs[name] = (stamp, found)
        return found

    def _remember(self, file: Path, directories: Mapping[str, Path]) -> None:
        """Keep what is in the list.

        Sweeps are judged each time: their settings lie in folders whose files the stamp does not have.
        """
        single = [name for name, directory in directories.items() if not (directory / POINTS_FILE).exists()]
        keep(file, {name: [self._runs[name][0], self._runs[name][1].record()] for name in single}, at_most=_REMEMBERED)

    def _summary(self, name: str, directory: Path) -> RunSummary:
        date = _date(directory)
        if not (directory / _ROWS).exists():
            return RunSummary(name, "unfinished", "it has no rows yet; run its configuration again to go on", date=date)
        try:
            self._check_inside(directory)
            known = read_summary(directory)
            return replace(known, name=name) if known is not None else summary_of(self._overview(name, directory), name, date)
        except ErasureError as error:
            return RunSummary(name, "damaged", str(error), date=date)
        except _MISREAD as error:
            reason = f"its {RUN_RECORD_FILE} is not as this version writes it ({type(error).__name__}: {error}); run the experiment again"
            return RunSummary(name, "damaged", reason, date=date)

    def _check_inside(self, directory: Path) -> None:
        for name in _READ:
            facts = _facts(f"{directory}/{name}", follow=False)
            if facts is None or stat.S_ISREG(facts.st_mode):
                continue
            path = directory / name
            if path.is_symlink() and not path.resolve().is_relative_to(self.root):  # no directory on the way is a link
                raise StoreError(f"{path} is a link that leads out of {self.root}; it is not read.")
            if path.exists() and not path.is_file():
                raise StoreError(f"{path} is not a plain file; it is not read.")


def _date(directory: Path) -> str:
    found = [_facts(f"{directory}/{name}", follow=False) for name in (_ROWS, *_TRACES)]
    newest = max((facts.st_mtime for facts in found if facts is not None), default=0.0)
    return datetime.fromtimestamp(newest, UTC).isoformat(timespec="seconds")


def _facts(path: str, *, follow: bool = True) -> os.stat_result | None:
    """What the file system knows of a file; None if there is none. A list asks it of ten files of each run: text, no Path."""
    try:
        return os.stat(path, follow_symlinks=follow)  # noqa: PTH116
    except OSError:
        return None


def _remembered(file: Path | None) -> dict[str, tuple[Any, RunSummary]]:
    """What an earlier object has found; nothing where it cannot be read."""
    kept = recall(file) or {}
    return {name: ([tuple(each) for each in stamp], as_record(RunSummary, record)) for name, (stamp, record) in kept.items()}


def _list_digest(root: Path) -> str:
    """Changes with the folder, with our code, and with the libraries that judge."""
    return hashlib.sha256(repr((str(root), judging_code())).encode()).hexdigest()


def _stamp(directory: Path) -> Sequence[Any]:
    found = {name: _facts(f"{directory}/{name}") for name in (*_READ, *_TRACES)}
    return [(name, None, None) if facts is None else (name, facts.st_mtime_ns, facts.st_size) for name, facts in found.items()]
