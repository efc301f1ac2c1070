"""Digests of files, folders and people's ids."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from pathlib import Path

from erasure.durable import reported
from erasure.errors import DataError

__all__ = ["file_digest", "model_digest", "new_salt", "person_digest"]

_CHUNK = 1 << 20


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        StoreError: If the file cannot be read.
    """
    digest = hashlib.sha256()
    with reported("read", path, option="--model"), path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def model_digest(path: Path) -> str:
    """Digest of a saved model: of its file, or of all files of its folder.

    A folder with one file stands for this file. The digest of several is the SHA-256 of one line for each, sorted by name: its digest,
    two spaces, its path inside the folder with ``/`` between parts. Hidden files do not count. ``sha256sum`` over the same files gives
    the same lines.

    Raises:
        DataError: If there is no file, or a link leads out of the folder.
        StoreError: If a file cannot be read.
    """
    if path.is_file():
        return file_digest(path)
    if not path.is_dir():
        raise DataError(f"there is no model at {path}: expected a file of weights or a folder")
    root = path.resolve()
    lines = []
    for file in path.rglob("*"):
        name = file.relative_to(path).as_posix()
        if any(part.startswith(".") for part in file.relative_to(path).parts):
            continue
        if not file.resolve().is_relative_to(root):
            raise DataError(f"{file} is a link that leads out of {path}; copy the file into the folder")
        if file.is_file():
            lines.append((name, file_digest(file)))
    if not lines:
        raise DataError(f"the folder {path} holds no files: expected those of a saved model")
    if len(lines) == 1:
        return lines[0][1]
    text = "".join(f"{digest}  {name}\n" for name, digest in sorted(lines))
    return hashlib.sha256(text.encode()).hexdigest()


def new_salt() -> str:
    """A random salt of 32 bytes, in hexadecimal. Whoever knows it can test whether a person is meant: keep it secret."""
    return secrets.token_hex(32)


def person_digest(ids: Iterable[str | int], salt: str) -> str:
    """What stands for people's ids in records that must not hold them: HMAC-SHA-256 under a secret salt.

    The order and repetition of the ids play no part. Without the salt the ids cannot be guessed from the digest, not even by trying all.

    Args:
        ids: Of samples or persons, as text or numbers.
        salt: From :func:`new_salt`.

    Raises:
        DataError: If there are no ids.
    """
    written = sorted({str(each) for each in ids})
    if not written:
        raise DataError("nobody is asked to be forgotten: expected at least one id")
    text = "".join(f"{len(each)}:{each}," for each in written)
    return hmac.new(bytes.fromhex(salt), text.encode(), hashlib.sha256).hexdigest()
