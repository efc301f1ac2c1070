"""Stored objects as a reader sees them: a manifest and files that are checked when they are first read."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from erasure.durable import failure
from erasure.errors import CorruptArtifact, StoreError
from erasure.store.addresses import FORMAT_VERSION, address, canonical_json, file_digest
from erasure.types import Json

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["JSON_SUFFIX", "MANIFEST", "TENSORS_SUFFIX", "Artifact", "FileFacts", "Manifest", "other_format"]

MANIFEST = "manifest.json"
TENSORS_SUFFIX = ".safetensors"
JSON_SUFFIX = ".json"
_SEAL = "manifest_sha256"
_MAPPED_FROM = 1 << 20
"""Bytes of a file of tensors from which on it is mapped; a smaller one is read at once, in a third of the time."""
_KEPT = 1024
"""Manifests that are kept as they were read; their bytes are read each time."""


@dataclass(frozen=True)
class FileFacts:
    """Size in bytes and SHA-256 of a stored file."""

    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What an object is, what its address was made of, and what its files must look like.

    Args:
        address: Its content address.
        kind: What it is, such as ``model``.
        content: What the address was made of.
        files: File name to size and checksum.
        created_at: When it was published, ISO 8601 in UTC.
        elapsed_s: How long computing it took, without publishing it.
        libraries: Versions of what computed it.
        facts: Whatever its writer wanted to say; JSON.
    """

    address: str
    kind: str
    content: Json
    files: Mapping[str, FileFacts]
    created_at: str
    elapsed_s: float
    libraries: Mapping[str, str]
    facts: Mapping[str, Json]

    def encode(self) -> bytes:
        """The bytes of ``manifest.json``, a line for each part; a seal over everything else makes a flipped byte of them itself show.

        Content and facts are JSON as :func:`~erasure.store.addresses.plain_json` returns it.
        """
        parts = vars(self) | {"files": {name: vars(facts) for name, facts in self.files.items()}, "format": FORMAT_VERSION}
        texts = {name: canonical_json(parts[name]) for name in sorted(parts)}
        whole = ",".join(f'"{name}":{text}' for name, text in texts.items())  # as canonical_json would write the record
        texts[_SEAL] = f'"{hashlib.sha256(f"{{{whole}}}".encode()).hexdigest()}"'
        lines = ",\n".join(f' "{name}": {text}' for name, text in sorted(texts.items()))
        return f"{{\n{lines}\n}}\n".encode()

    @classmethod
    @functools.lru_cache(maxsize=_KEPT)  # a run opens what it measures with a hundred times
    def decode(cls, data: bytes, expected_address: str) -> Manifest:
        """The manifest in ``data``.

        Raises:
            CorruptArtifact: If it is not the sound manifest of ``expected_address``.
            StoreError: If it is intact, but of another format version.
        """
        try:
            record = json.loads(data)
            seal = record.pop(_SEAL)
            if seal != _sealed(record):
                raise CorruptArtifact(f"Object {expected_address} is corrupt: its manifest does not match its own checksum.")
            if (version := record.pop("format")) != FORMAT_VERSION:
                raise StoreError(f"Object {expected_address} is of {other_format(version)}.")
            if record["address"] != expected_address:
                raise CorruptArtifact(f"Object {expected_address} is corrupt: its manifest belongs to {record['address']}.")
            if address(record["kind"], record["content"]) != expected_address:
                raise CorruptArtifact(f"Object {expected_address} is corrupt: its address was not made of its content.")
            files = {name: FileFacts(**facts) for name, facts in record.pop("files").items()}
            return cls(files=files, **record)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise CorruptArtifact(f"Object {expected_address} is corrupt: its manifest cannot be read ({error}).") from error


def other_format(version: Json) -> str:
    """The words for a format version that is not ours, and what to do."""
    newer = isinstance(version, int) and version > FORMAT_VERSION
    advice = "upgrade erasure" if newer else "use the version of erasure that wrote it"
    return (
        f"format {version!r}, this version of erasure reads format {FORMAT_VERSION}; "
        f"{advice}, or choose another directory with --store"
    )


def _sealed(record: Mapping[str, Json]) -> str:
    return hashlib.sha256(canonical_json(dict(record)).encode()).hexdigest()


class Artifact:
    """A stored object, opened for reading.

    Each file is checked against its checksum once, when it is first asked for; keep the artefact to pay for that once. An
    opened artefact stays readable while it is loaded in memory, also when another process removes the object.
    """

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self.directory: Path = directory
        self.manifest: Manifest = manifest
        self._verified: set[str] = set()

    def __repr__(self) -> str:
        return f"Artifact({self.kind!r}, {self.address!r})"

    @property
    def address(self) -> str:
        """Its content address."""
        return self.manifest.address

    @property
    def kind(self) -> str:
        """What it is, such as ``model``."""
        return self.manifest.kind

    @property
    def content(self) -> Json:
        """What its address was made of."""
        return self.manifest.content

    @property
    def facts(self) -> Mapping[str, Json]:
        """What its writer said about it."""
        return self.manifest.facts

    @property
    def elapsed_s(self) -> float:
        """How long computing it took."""
        return self.manifest.elapsed_s

    @property
    def files(self) -> tuple[str, ...]:
        """Names of its files, sorted."""
        return tuple(sorted(self.manifest.files))

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Tensors saved as ``name``, on the CPU; writing into them changes neither the file nor another reader. Large files are mapped.

        Raises:
            CorruptArtifact: If the file is missing or its bytes are not those that were published.
            StoreError: If the object never had such a file, or it cannot be read.
        """
        import safetensors.torch
        from safetensors import SafetensorError

        file = name + TENSORS_SUFFIX
        is_large = file in self.manifest.files and self.manifest.files[file].size > _MAPPED_FROM
        try:
            loaded = safetensors.torch.load_file(self.path(file)) if is_large else safetensors.torch.load(self._bytes(file))
        except SafetensorError as error:
            raise self._damaged(f"{file} is not a safetensors file ({error})") from error
        except OSError as error:
            raise self._unreadable(self.directory / file, error) from error
        return {key: loaded[key] for key in sorted(loaded)}

    def json(self, name: str) -> Json:
        """The value saved as ``name``.

        Raises:
            CorruptArtifact: If the file is missing or its bytes are not those that were published.
            StoreError: If the object never had such a file, or it cannot be read.
        """
        file = name + JSON_SUFFIX
        try:
            return json.loads(self._bytes(file))
        except ValueError as error:
            raise self._damaged(f"{file} is not JSON ({error})") from error

    def path(self, name: str) -> Path:
        """Path of the file ``name``, suffix included, after checking its bytes; for formats the store does not read itself.

        Raises:
            CorruptArtifact: If the file is missing or its bytes are not those that were published.
            StoreError: If the object never had such a file, or it cannot be read.
        """
        path = self._named(name)
        if name not in self._verified:
            self._check_size(name)
            try:
                digest = file_digest(path)
            except OSError as error:
                raise self._unreadable(path, error) from error
            self._check_digest(name, digest)
        return path

    def _bytes(self, name: str) -> bytes:
        """All bytes of a file, checked as they are read."""
        path, is_new = self._named(name), name not in self._verified
        if is_new:
            self._check_size(name)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise self._unreadable(path, error) from error
        if is_new:
            self._check_digest(name, hashlib.sha256(data).hexdigest())
        return data

    def _named(self, name: str) -> Path:
        if name not in self.manifest.files:
            has = ", ".join(self.files) or "no files"
            raise StoreError(f"The {self.kind} {self.address} has no file {name}; it has {has}.")
        return self.directory / name

    def _check_digest(self, name: str, digest: str) -> None:
        if digest != self.manifest.files[name].sha256:
            raise self._damaged(f"the bytes of {name} do not match their checksum")
        self._verified.add(name)

    def check_sizes(self) -> None:
        """Check that every file is there with its size, without reading it.

        Raises:
            CorruptArtifact: If one is not.
        """
        for name in self.files:
            self._check_size(name)

    def verify(self) -> None:
        """Check every byte of every file that was not checked before.

        Raises:
            CorruptArtifact: If one does not match the manifest.
        """
        for name in self.files:
            self.path(name)

    def _check_size(self, name: str) -> None:
        expected = self.manifest.files[name].size
        try:
            found = os.lstat(f"{self.directory}/{name}")  # asked of every file that a run opens: text, no Path
        except OSError as error:
            raise self._unreadable(self.directory / name, error) from error
        if not stat.S_ISREG(found.st_mode):
            raise self._damaged(f"{name} is not a plain file")
        if found.st_size != expected:
            raise self._damaged(f"{name} has {found.st_size} bytes, expected {expected}")

    def _unreadable(self, path: Path, error: OSError) -> StoreError:
        """A file that was there a moment ago may be gone now: another process repairs the object."""
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return self._damaged(f"{path.name} is missing")
        return failure("read", path, error)

    def _damaged(self, reason: str) -> CorruptArtifact:
        return CorruptArtifact(f"Object {self.address} ({self.kind}) in {self.directory} is corrupt: {reason}.")
