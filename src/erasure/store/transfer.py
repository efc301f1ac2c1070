"""Objects on their way from store to store: a plain tar file, whose every byte is checked before it is taken in.

::

    FORMAT                                   as in a store
    objects/<2 digits>/<address>/manifest.json
    objects/<2 digits>/<address>/<files>

Equal objects give equal bytes: members are sorted and carry no times or owners.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import tarfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from erasure.durable import fsync, reported
from erasure.errors import CorruptArtifact, StoreError
from erasure.store.addresses import FORMAT_VERSION
from erasure.store.artifacts import MANIFEST, Manifest, other_format
from erasure.store.directory import Store

__all__ = ["Imported", "export_objects", "import_objects"]

_FORMAT = "FORMAT"
_MEMBER = re.compile(r"objects/([0-9a-f]{2})/(\1[0-9a-f]{62})/([A-Za-z0-9][A-Za-z0-9._+-]*)")
_LARGEST_MANIFEST = 64 * 2**20
_PLAIN = {tarfile.REGTYPE, tarfile.AREGTYPE}


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What became of the objects of a file.

    Args:
        new: Addresses that were taken in.
        known: Addresses that the store had.
        refused: Address to reason, for those that are damaged.
    """

    new: tuple[str, ...]
    known: tuple[str, ...]
    refused: Mapping[str, str]


def export_objects(store: Store, addresses: Iterable[str], path: Path) -> int:
    """Write objects, every byte checked, into a tar file, which is there whole or not at all.

    Returns:
        How many there are.

    Raises:
        CorruptArtifact: If one is damaged.
        StoreError: If one is not in the store, or the file cannot be written.
    """
    chosen = sorted(set(addresses))
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with reported("write", path, option="FILE"):
            with tarfile.open(temporary, "x:", format=tarfile.PAX_FORMAT) as tar:
                _add(tar, _FORMAT, json.dumps({"format": FORMAT_VERSION}).encode() + b"\n")
                for address in chosen:
                    artifact = store.open(address)
                    artifact.verify()
                    folder = f"objects/{address[:2]}/{address}"
                    _add(tar, f"{folder}/{MANIFEST}", artifact.manifest.encode())
                    for name in artifact.files:
                        with artifact.path(name).open("rb") as file:
                            _add(tar, f"{folder}/{name}", file, artifact.manifest.files[name].size)
            fsync(temporary)
            temporary.replace(path)
            fsync(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return len(chosen)


def import_objects(store: Store, path: Path) -> Imported:
    """Take in the objects of a tar file that :func:`export_objects` wrote.

    The names and types of all members are checked before anything is written; each object is then checked against its manifest,
    and its manifest against its address, before it appears in the store.

    Raises:
        StoreError: If the file is not such a file, or the store cannot be written. Nothing is taken in from a file with a member
            that is a link, a device, or named in any other way than an object's file.
    """
    with _opened(path) as tar:
        objects = _members(tar, path)
        new: list[str] = []
        known: list[str] = []
        refused: dict[str, str] = {}
        for address, members in sorted(objects.items()):
            try:
                (new if _admit(store, tar, address, members, path) else known).append(address)
            except CorruptArtifact as error:
                refused[address] = str(error)
    return Imported(new=tuple(new), known=tuple(known), refused=refused)


def _add(tar: tarfile.TarFile, name: str, data: bytes | IO[bytes], size: int | None = None) -> None:
    member = tarfile.TarInfo(name)
    member.mode = 0o644
    member.size = len(data) if isinstance(data, bytes) else size or 0
    tar.addfile(member, io.BytesIO(data) if isinstance(data, bytes) else data)


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        with reported("read", path, option="FILE"), tarfile.open(path, "r:") as tar:
            yield tar
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise StoreError(f"{path} is not a file that erasure cache export wrote: {error}.") from error


def _members(tar: tarfile.TarFile, path: Path) -> dict[str, dict[str, tarfile.TarInfo]]:
    """Members by address and file name, once all of them are known to be harmless."""
    objects: dict[str, dict[str, tarfile.TarInfo]] = {}
    left = path.stat().st_size
    has_format = False
    for member in tar:
        left -= member.size
        if member.type not in _PLAIN or member.issparse() or member.size < 0 or left < 0:
            raise _refusal(path, member, "is not a plain file")
        if member.name == _FORMAT and not has_format:
            _check_format(_content(tar, member), path)
            has_format = True
            continue
        match = _MEMBER.fullmatch(member.name)
        if match is None:
            raise _refusal(path, member, "is not the name of an object's file")
        files = objects.setdefault(match[2], {})
        if match[3] in files:
            raise _refusal(path, member, "is there twice")
        files[match[3]] = member
    if not has_format:
        raise StoreError(f"{path} is not a file that erasure cache export wrote: it has no member {_FORMAT}.")
    return objects


def _refusal(path: Path, member: tarfile.TarInfo, why: str) -> StoreError:
    return StoreError(f"{path} is refused, and nothing was taken from it: its member {member.name[:200]!r} {why}.")


def _check_format(data: bytes, path: Path) -> None:
    try:
        version = json.loads(data)["format"]
    except (ValueError, TypeError, KeyError):
        raise StoreError(f"{path} is damaged: its member {_FORMAT} cannot be read.") from None
    if version != FORMAT_VERSION:
        raise StoreError(f"{path} is of {other_format(version)}.")


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    if file is None or member.size > _LARGEST_MANIFEST:
        raise CorruptArtifact(f"{member.name} cannot be read.")
    return file.read()


def _admit(store: Store, tar: tarfile.TarFile, address: str, members: Mapping[str, tarfile.TarInfo], path: Path) -> bool:
    if MANIFEST not in members:
        raise CorruptArtifact(f"Object {address} in {path} is corrupt: {MANIFEST} is missing.")
    data = _content(tar, members[MANIFEST])
    manifest = Manifest.decode(data, address)
    if set(manifest.files) != set(members) - {MANIFEST}:
        raise CorruptArtifact(f"Object {address} in {path} is corrupt: its files are not those that its manifest names.")
    if store.contains(address):
        return False

    def write(directory: Path) -> None:
        (directory / MANIFEST).write_bytes(data)
        for name in manifest.files:
            source = tar.extractfile(members[name])
            if source is not None:
                with (directory / name).open("xb") as target:
                    shutil.copyfileobj(source, target)
                    target.flush()
                    os.fsync(target.fileno())

    return store.admit(manifest, write)
