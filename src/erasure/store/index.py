"""What the objects of a store are and what they cost, known without opening them: an append-only file that may be lost at any time."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from erasure.durable import write_atomically
from erasure.errors import StoreError
from erasure.store.artifacts import Manifest
from erasure.types import Json

__all__ = ["Entry", "Index"]

_SLACK = 1000


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An object in a line.

    Args:
        address: Its content address.
        kind: What it is, such as ``model``.
        created_at: When it was published, ISO 8601 in UTC.
        elapsed_s: How long computing it took.
        size: Bytes of its files, without the manifest.
        signature: Objects of one signature take similar time; empty if its writer named none.
        peak_memory_mib: Memory that computing it took, if its writer said.
    """

    address: str
    kind: str
    created_at: str
    elapsed_s: float
    size: int
    signature: str = ""
    peak_memory_mib: float | None = None

    @classmethod
    def of(cls, manifest: Manifest) -> Entry:
        """The line of an object."""
        signature, memory = manifest.facts.get("signature"), manifest.facts.get("peak_memory_mib")
        return cls(
            address=manifest.address,
            kind=manifest.kind,
            created_at=manifest.created_at,
            elapsed_s=manifest.elapsed_s,
            size=sum(facts.size for facts in manifest.files.values()),
            signature=signature if isinstance(signature, str) else "",
            peak_memory_mib=float(memory) if isinstance(memory, int | float) and not isinstance(memory, bool) else None,
        )


class Index:
    """The file; every line carries its own checksum, so a torn or damaged one is as good as none.

    Lines are appended in one write each, which local file systems do not mix. Nothing here is ever the truth: the store asks its
    directories which objects there are, reads the manifest of one whose line is missing, and appends the line.

    Args:
        path: The file; made by the first :meth:`add`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> tuple[dict[str, Entry], int]:
        """The last sound line of each address, and the number of all lines; nothing if the file cannot be read."""
        try:
            data = self._path.read_bytes()
        except OSError:
            return {}, 0
        entries: dict[str, Entry] = {}
        lines = [line for line in data.split(b"\n") if line]
        for line in lines:
            entry = _decoded(line)
            if entry is not None:
                entries[entry.address] = entry
        return entries, len(lines)

    def add(self, entries: Iterable[Entry], *, after_damage: bool = False) -> None:
        """Append lines; a disk that refuses them is not worth an error, since they can be had again.

        Args:
            entries: The lines.
            after_damage: Whether the last line may be torn, and must not swallow the next.
        """
        data = b"\n" * after_damage + b"".join(map(_encoded, entries))
        with suppress(OSError):
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                os.write(descriptor, data)
            finally:
                os.close(descriptor)

    def tidy(self, entries: Iterable[Entry], lines: int) -> None:
        """Rewrite the file if most of its ``lines`` are about objects that are gone."""
        kept = list(entries)
        if lines > 2 * len(kept) + _SLACK:
            with suppress(StoreError):  # a line that another process appends meanwhile is lost, and had again from its manifest
                write_atomically(self._path, b"".join(map(_encoded, kept)), option="--store")


def _encoded(entry: Entry) -> bytes:
    text = json.dumps(vars(entry), sort_keys=True, ensure_ascii=True)
    return f'["{zlib.crc32(text.encode()):08x}", {text}]\n'.encode()


def _decoded(line: bytes) -> Entry | None:
    checksum, text = line[2:10], line[13:-1]
    if line[:2] != b'["' or checksum != f"{zlib.crc32(text):08x}".encode():
        return None
    try:
        record: dict[str, Any] | Json = json.loads(text)
        return Entry(**record)
    except (ValueError, TypeError):
        return None
