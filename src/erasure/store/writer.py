"""Objects while they are written: files in a private directory that nobody reads yet."""

from __future__ import annotations

import datetime
import errno
import functools
import importlib.metadata
import json
import os
import platform
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from erasure.durable import failure, fsync, reported
from erasure.errors import StoreError
from erasure.store.addresses import file_digest, plain_json
from erasure.store.artifacts import JSON_SUFFIX, MANIFEST, TENSORS_SUFFIX, FileFacts, Manifest
from erasure.types import Json

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Writer", "store_failures_of", "write_tensors"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_LIBRARIES = ("erasure-unlearning", "numpy", "safetensors", "scikit-learn", "torch")


class Writer:
    """Files and facts of an object that is not published yet.

    Equal values give equal bytes: tensors are written in the order of their names, JSON with sorted keys, and times go into the
    manifest only.

    Args:
        directory: The private directory.
        address: The object's content address.
        kind: What it is.
        content: What its address was made of.

    Attributes:
        facts: Free-form JSON for the manifest; fill it at any time before the end.
        manifest: That of the object, once it is in the store; None before, and if another one was there first.
    """

    def __init__(self, directory: Path, address: str, kind: str, content: Json) -> None:
        self.facts: dict[str, Json] = {}
        self.manifest: Manifest | None = None
        self._directory, self._address, self._kind, self._content = directory, address, kind, content
        self._claimed: set[str] = set()
        self._started = time.perf_counter()

    def save_tensors(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Save tensors as ``name.safetensors``; tensors that share memory are stored once each.

        Raises:
            StoreError: If the disk refuses them, a tensor has no dense form, or the name is taken.
        """
        path = self.path(name + TENSORS_SUFFIX)
        try:
            write_tensors(path, tensors)
        except (ValueError, KeyError, NotImplementedError, RuntimeError) as error:
            raise StoreError(f"Cannot store the tensors {name} of the {self._kind} {self._address}: {error}") from error

    def save_json(self, name: str, value: Json) -> None:
        """Save a value as ``name.json``; floats read back equal, tuples read back as lists.

        Raises:
            StoreError: If the disk refuses it, a part has no JSON form or is not finite (named), or the name is taken.
        """
        text = json.dumps(plain_json(value, name), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        path = self.path(name + JSON_SUFFIX)
        with reported("write", path):
            path.write_bytes(text.encode() + b"\n")

    def path(self, name: str) -> Path:
        """Where to write the file ``name``, suffix included, in a format of your own; write it before the end.

        Raises:
            StoreError: If the name is taken, reserved or not a plain file name.
        """
        if _NAME.fullmatch(name) is None or name == MANIFEST:
            raise StoreError(f"{name!r} cannot name a file of an object; use letters, digits and ._+- and not {MANIFEST}.")
        if name in self._claimed:
            raise StoreError(f"The file {name} of the {self._kind} {self._address} was written before; give it another name.")
        self._claimed.add(name)
        return self._directory / name

    def finish(self) -> Manifest:
        """Checksum the files, bring them to the disk, and write the manifest last; called by the store."""
        elapsed_s = time.perf_counter() - self._started
        with reported("write", self._directory):
            # safetensors makes files that only their owner can read; the directory's mode follows the user's umask.
            mode = self._directory.stat().st_mode & 0o666
            files: dict[str, FileFacts] = {}
            for path in sorted(self._directory.iterdir()):
                if path.is_symlink() or not path.is_file():
                    raise StoreError(f"{path} is not a plain file; an object holds plain files only.")
                path.chmod(mode)
                fsync(path)
                files[path.name] = FileFacts(path.stat().st_size, file_digest(path))
            manifest = Manifest(
                address=self._address,
                kind=self._kind,
                content=plain_json(self._content, "content"),
                files=files,
                created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                elapsed_s=elapsed_s,
                libraries=_library_versions(),
                facts=plain_json(self.facts, "facts"),
            )
            path = self._directory / MANIFEST
            path.write_bytes(manifest.encode())
            fsync(path)
            fsync(self._directory)
        return manifest


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors into a safetensors file; those that share memory once for each name.

    Raises:
        StoreError: If the disk refuses them.
    """
    import safetensors.torch
    from safetensors import SafetensorError

    try:
        safetensors.torch.save_file(_separate(tensors), path, {"format": "pt"})
    except (SafetensorError, OSError) as error:
        raise _tensor_failure(path, error) from error


@contextmanager
def store_failures_of(directory: Path) -> Iterator[None]:
    """Report an ``OSError`` of the block as the store's if it is about ``directory`` or a disk that takes no more.

    A failed write carries no file name, so a full disk elsewhere is reported in the store's words too, with its cause.
    """
    try:
        yield
    except OSError as error:
        path = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else None
        if path is not None and directory in path.parents:
            raise failure("write", path, error) from error
        if path is None and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise failure("write", directory, error) from error
        raise


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous CPU tensors by sorted name, no two of which share storage: safetensors refuses tied weights."""
    import torch

    seen: set[int] = set()
    separate: dict[str, Tensor] = {}
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu()
        if tensor.layout is torch.strided:
            storage = tensor.untyped_storage().data_ptr()
            tensor = tensor.clone(memory_format=torch.contiguous_format) if storage in seen else tensor.contiguous()
            seen.add(storage)
        separate[name] = tensor
    return separate


def _tensor_failure(path: Path, error: Exception) -> StoreError:
    """The store's error for one of safetensors, which reports the disk's errors as text."""
    if isinstance(error, OSError):
        return failure("write", path, error)
    match = _OS_ERROR.search(str(error))
    if match is None:
        return StoreError(f"Cannot write {path}: {error}")
    number = int(match[1])
    words = str(error).removesuffix(match[0]).strip().rpartition(": ")[2]
    return failure("write", path, OSError(number, words))


@functools.cache
def _library_versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
