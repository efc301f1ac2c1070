"""The directory of objects, read as fast as the file system allows, and the file that says which format it is in."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from erasure.durable import failure, reported, write_atomically
from erasure.errors import StoreError
from erasure.store.addresses import FORMAT_VERSION, check_address
from erasure.store.artifacts import MANIFEST, other_format

__all__ = ["ABSENT", "SHORTEST_PREFIX", "Shelf"]

ABSENT = {errno.ENOENT, errno.ENOTDIR}
SHORTEST_PREFIX = 6
"""Digits of an address that are enough to name an object, if no other begins alike."""

_ADDRESS = re.compile(r"[0-9a-f]{64}")
_DIGITS = re.compile(r"[0-9a-f]+")


class Shelf:
    """Where the objects of one directory are; it knows nothing of what is in them.

    Args:
        root: The store's directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def place(self, address: str) -> Path:
        """The directory of an object, whether it is there or not."""
        return Path(f"{self.root}/objects/{check_address(address)[:2]}/{address}")

    def has(self, address: str) -> bool:
        """Whether the manifest of an object is there.

        Raises:
            StoreError: If the directory cannot be read.
        """
        # Called for every stage of a plan: text and one call of the system, no Path.
        manifest = f"{self.root}/objects/{check_address(address)[:2]}/{address}/{MANIFEST}"
        try:
            return stat.S_ISREG(os.stat(manifest).st_mode)  # noqa: PTH116
        except OSError as error:
            if error.errno in ABSENT:
                return False
            raise failure("read", Path(manifest), error) from error

    def stamp(self, address: str) -> str:
        """Names, sizes and times of change of an object's files; empty if it is not there.

        Raises:
            StoreError: If the directory cannot be read.
        """
        files = []
        for entry in _listed(self.place(address)):
            try:
                facts = entry.stat()
            except OSError as error:
                raise failure("read", Path(entry.path), error) from error
            files.append(f"{entry.name} {facts.st_size} {facts.st_mtime_ns}")
        return ", ".join(sorted(files)) if any(each.startswith(f"{MANIFEST} ") for each in files) else ""

    def addresses(self) -> Iterator[str]:
        """Addresses of all objects, in no order.

        Raises:
            StoreError: If the directory cannot be read.
        """
        for part in _listed(self.root / "objects"):
            yield from (entry.name for entry in _listed(Path(part.path)) if _is_object(entry))

    def matching(self, prefix: str) -> Iterator[str]:
        """Addresses that begin with ``prefix``, in no order; none if it has fewer than six digits.

        Raises:
            StoreError: If the directory cannot be read.
        """
        if len(prefix) >= SHORTEST_PREFIX and _DIGITS.fullmatch(prefix):
            names = _listed(self.root / "objects" / prefix[:2])
            yield from (entry.name for entry in names if entry.name.startswith(prefix) and _is_object(entry))

    # Format

    def check_format(self) -> None:
        """Refuse a directory that is no store, or one of another format version.

        Raises:
            StoreError: If it is; says what to do.
        """
        path = self.root / "FORMAT"
        with reported("read", path):
            try:
                text = path.read_text(encoding="utf-8", errors="replace")
            except FileNotFoundError:
                self._check_vacant()
                return
        try:
            version = json.loads(text)["format"]
        except (ValueError, TypeError, KeyError):
            raise StoreError(f"{path} is damaged: found {text[:40]!r}, expected {_line()}; write that line into it.") from None
        if version != FORMAT_VERSION:
            raise StoreError(f"{self.root} is a store of {other_format(version)}.")

    def create(self) -> None:
        """Make the directory a store, if it is none yet.

        Raises:
            StoreError: If it cannot be made.
        """
        path = self.root / "FORMAT"
        if not path.exists():
            with reported("make the store", self.root):
                self.root.mkdir(parents=True, exist_ok=True)
            write_atomically(path, f"{_line()}\n".encode(), option="--store")

    def _check_vacant(self) -> None:
        """Refuse to spread over somebody's files; hidden ones do not count."""
        if not self.root.exists():
            return
        occupied = any(not path.name.startswith(".") for path in self.root.iterdir())
        if occupied and not (self.root / "FORMAT").exists():  # another process may just have made it
            raise StoreError(
                f"{self.root} is not empty and not a store (it has no file FORMAT); choose another directory with --store, or, "
                f"if it is a store whose FORMAT was lost, write {_line()} into that file."
            )


def _line() -> str:
    return json.dumps({"format": FORMAT_VERSION})


def _listed(directory: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as found:
            return list(found)
    except OSError as error:
        if error.errno in ABSENT:
            return []
        raise failure("read", directory, error) from error


def _is_object(entry: os.DirEntry[str]) -> bool:
    return _ADDRESS.fullmatch(entry.name) is not None and os.path.isfile(f"{entry.path}/{MANIFEST}")  # noqa: PTH113
