"""Files that sources read: found or refused by name, and digested."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from erasure.errors import DataError, nearest

__all__ = ["Digested", "digest_again", "digested", "existing_file", "file_digest", "note_digest"]


@dataclass(frozen=True)
class Digested:
    """A file or a folder whose content was digested.

    Args:
        kind: ``file`` or ``folder``.
        path: Where it is, from the root.
        digest: SHA-256; None for a folder without files.
    """

    kind: str
    path: str
    digest: str | None


_notes: list[list[Digested]] = []


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
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f'"{path}" cannot be read: {error.strerror or error}') from error
    note_digest("file", file, digest)
    return digest


@contextmanager
def digested() -> Iterator[list[Digested]]:
    """What is digested while the block lasts, by any thread."""
    found: list[Digested] = []
    _notes.append(found)
    try:
        yield found
    finally:
        _notes.remove(found)


def note_digest(kind: str, path: Path, digest: str | None) -> None:
    """Tell whoever listens that a content was digested."""
    for found in _notes:
        found.append(Digested(kind, str(path.absolute()), digest))


def digest_again(known: Digested) -> str | None:
    """The digest that the content has now.

    Raises:
        DataError: If it cannot be read.
    """
    if known.kind == "folder":
        from erasure.data.reading.folders import folder_digest

        return folder_digest(Path(known.path))
    return file_digest(known.path)
