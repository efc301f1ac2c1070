"""Folders that sources read, digested as a whole."""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path

from erasure.data.reading.files import note_digest
from erasure.errors import DataError

__all__ = ["folder_digest"]

_WHOLE = 4 << 30
_SAMPLE = 1 << 16


def folder_digest(folder: Path) -> str | None:
    """SHA-256 over the names and contents of all files below ``folder``; None if there is none.

    Of collections above 4 GiB only the sizes and the first 64 KiB of each file count.

    Raises:
        DataError: If a file cannot be read.
    """
    digest = _digest(folder)
    note_digest("folder", folder, digest)
    return digest


def _digest(folder: Path) -> str | None:
    if not folder.is_dir():
        return None
    files = sorted(Path(path) / name for path, _, names in os.walk(folder, followlinks=True) for name in names)
    if not files:
        return None
    try:
        facts = [file.stat() for file in files]
        sample = sum(each.st_size for each in facts) > _WHOLE
        total = hashlib.sha256(b"sampled" if sample else b"whole")
        for file, fact in zip(files, facts, strict=True):
            content = _content(str(file), fact.st_size, fact.st_mtime_ns, sample)
            total.update(f"{file.relative_to(folder).as_posix()}\0{fact.st_size}\0{content}\n".encode())
    except OSError as error:
        raise DataError(f'"{error.filename}" cannot be read: {error.strerror or error}') from error
    return total.hexdigest()


@functools.lru_cache(maxsize=1 << 18)
def _content(file: str, size: int, modified: int, sample: bool) -> str:
    # Size and time are only there to read a file again when it has changed.
    with Path(file).open("rb") as stream:
        return (hashlib.sha256(stream.read(_SAMPLE)) if sample else hashlib.file_digest(stream, "sha256")).hexdigest()
