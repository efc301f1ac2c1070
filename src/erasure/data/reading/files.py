"""Files that sources read: found or refused by name, and digested."""

from __future__ import annotations

import hashlib
from pathlib import Path

from erasure.errors import DataError, nearest

__all__ = ["existing_file", "file_digest"]


def existing_file(path: str) -> Path:
    """The file at ``path``, relative to the working directory; ``~`` is expanded.

    Raises:
        DataError: If there is none; suggests the nearest name in the folder.
    """
    file = Path(path).expanduser()
    if file.is_file():
        return file
    if file.is_dir():
        raise DataError(f'"{path}" is a folder, expected a file')
    folder = file.parent
    if not folder.is_dir():
        raise DataError(f'there is no file "{path}": the folder "{folder}" does not exist (working directory: {Path.cwd()})')
    hint = nearest(file.name, (each.name for each in folder.iterdir()))
    raise DataError(f'there is no file "{path}"{f"; {hint}" if hint else f" (working directory: {Path.cwd()})"}')


def file_digest(path: str) -> str:
    """SHA-256 of a file's content.

    Raises:
        DataError: If it is missing or unreadable.
    """
    file = existing_file(path)
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f'"{path}" cannot be read: {error.strerror or error}') from error
