"""The store: a directory of immutable, checksummed objects, each under the address of what it was computed from.

Layout
    ::

        FORMAT                      {"format": 1}
        objects/<2 digits>/<address>/
            manifest.json           kind, content, files with size and SHA-256, facts, times, library versions, own checksum
            *.safetensors *.json …  the data
        quarantine/                 corrupt objects, each with a JSON file that gives the reason
        locks/<address>.lock        who computes what; empty files that stay behind
        tmp/<random>/               objects in the making, and pieces of them
        index.jsonl                 kind, size and cost of each object; may be deleted at any time

Contract
    *Whole or absent.* An object is written to a private directory, flushed to disk, given its manifest, and renamed to its
    place in one step. Whatever interrupts this leaves the object absent. The new name is flushed as well where computing the object
    took a tenth of a second or more; a power cut can take the last of the others.

    *Immutable.* Equal addresses mean equal data, so the second writer's copy is silently discarded; nothing is ever overwritten.

    *Never a wrong byte.* Manifest, presence and sizes are checked when an object is opened, a file's checksum before its first byte
    is handed out. ``get_or_compute`` checks everything, moves a corrupt object to ``quarantine/``, reports it and computes it again.

    *Shared.* Any number of threads and processes may use one store; computing takes a lock of the operating system on the address.
    A forked child that outlives its parent keeps that lock until it ends.

    *Read-only.* A store that cannot be written serves what it has. A writable store may be laid over a base, which is only read.

    *Tidy.* Opening a store removes the directories in ``tmp/`` whose owner is dead. An owner holds a lock on its directory, so
    this holds across containers and reused process numbers too; only what nobody holds and nobody changed for an hour goes.

The directory is made when something is first written. No pickle is written or read. ``docs/store.md`` says all this at length, and
:class:`erasure.testing.StoreConformance` tests it.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from erasure.durable import failure, fsync, is_abandoned, locked, owned, reported, write_atomically
from erasure.errors import CorruptArtifact, StoreError
from erasure.store.addresses import address, check_address
from erasure.store.artifacts import MANIFEST, Artifact, Manifest
from erasure.store.index import Entry, Index
from erasure.store.shelf import ABSENT, Shelf
from erasure.store.writer import Writer, store_failures_of
from erasure.types import Json

__all__ = ["Store", "default_base_path", "default_store_path"]

_log = logging.getLogger(__name__)
_TAKEN = {errno.EEXIST, errno.ENOTEMPTY}
_DEAR_S = 0.1
"""Seconds of computing from which on an object's new name is flushed to disk; the names of others get there when the system writes them."""


def default_store_path() -> Path:
    """Where the store is if nobody says: ``$ERASURE_STORE``, else ``.erasure/store`` in the working directory."""
    chosen = os.environ.get("ERASURE_STORE", "")
    return Path(chosen).expanduser().absolute() if chosen else Path.cwd() / ".erasure" / "store"


def default_base_path() -> Path | None:
    """The store that a run's own is laid over if nobody says: ``$ERASURE_STORE_BASE``, or None."""
    chosen = os.environ.get("ERASURE_STORE_BASE", "")
    return Path(chosen).expanduser().absolute() if chosen else None


class Store:
    """A directory of computed results by content address; see the module for its contract.

    Args:
        root: The directory; made on the first write.
        on_corrupt: Called with address and reason for every object that is found corrupt, after the log's warning.
        base: Directory of another store, whose objects are taken where this one has none; nothing in it is ever changed.
        read_only: Whether to leave the directory as it is, down to its index and what dead processes left there.

    Raises:
        StoreError: If ``root`` holds something else, or a store of another format version, or ``base`` is no store.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        on_corrupt: Callable[[str, str], None] | None = None,
        base: Path | str | None = None,
        read_only: bool = False,
    ) -> None:
        self.root: Path = Path(root).expanduser().absolute()
        self._on_corrupt = on_corrupt
        self._shelf = Shelf(self.root)
        self._index = Index(self.root / "index.jsonl")
        self._base = None if base is None else _existing(base)
        self._read_only = read_only
        self._shelf.check_format()
        if not read_only:
            self._remove_abandoned()

    def __repr__(self) -> str:
        return f"Store({str(self.root)!r})"

    @property
    def base(self) -> Store | None:
        """The store below this one, if it is laid over one."""
        return self._base

    def contains(self, address: str) -> bool:
        """Whether an object is there, by one look for its manifest; its bytes are not checked."""
        return bool(self.contains_many((address,)))

    def contains_many(self, addresses: Iterable[str]) -> frozenset[str]:
        """Those of ``addresses`` that are there, as :meth:`contains` would say; ten thousand take a fraction of a second.

        Raises:
            StoreError: If the store cannot be read.
        """
        wanted = set(addresses)
        found = {where for where in wanted if self._shelf.has(where)}
        if self._base is not None and len(found) < len(wanted):
            found |= self._base.contains_many(wanted - found)
        return frozenset(found)

    def stamps(self, addresses: Iterable[str]) -> dict[str, str]:
        """Names, sizes and times of change of the files of objects, as a text; those that are not there are left out.

        Raises:
            StoreError: If the store cannot be read.
        """
        wanted = dict.fromkeys(addresses)
        found = {where: stamp for where in wanted if (stamp := self._shelf.stamp(where))}
        if self._base is not None and len(found) < len(wanted):
            found |= self._base.stamps(where for where in wanted if where not in found)
        return found

    def addresses(self) -> Iterator[str]:
        """Addresses of all objects, sorted.

        Raises:
            StoreError: If the store cannot be read.
        """
        found = set(self._shelf.addresses())
        if self._base is not None:
            found |= set(self._base.addresses())
        yield from sorted(found)

    def matching(self, prefix: str) -> list[str]:
        """Addresses that begin with ``prefix``, sorted; none if it has fewer than six digits.

        Raises:
            StoreError: If the store cannot be read.
        """
        found = set(self._shelf.matching(prefix))
        if self._base is not None:
            found |= set(self._base.matching(prefix))
        return sorted(found)

    def entries(self) -> list[Entry]:
        """Kind, size, age and cost of all objects, by address, without opening those that the index knows.

        Objects with a damaged manifest are left out; :meth:`get_or_compute` reports and repairs them.

        Raises:
            StoreError: If the store cannot be read.
        """
        known, lines = self._index.read()
        found: dict[str, Entry] = {} if self._base is None else {entry.address: entry for entry in self._base.entries()}
        own: list[Entry] = []
        unknown: list[Entry] = []
        for where in self.addresses():
            if where in known:
                own.append(known[where])
            elif where not in found:
                with suppress(StoreError):  # damaged, or removed a moment ago
                    unknown.append(Entry.of(self.open(where).manifest))
        if not self._read_only:
            if unknown:
                self._index.add(unknown, after_damage=True)
            self._index.tidy((*own, *unknown), lines)
        found |= {entry.address: entry for entry in (*own, *unknown)}
        return [found[where] for where in sorted(found)]

    def open(self, address: str) -> Artifact:
        """An object, for reading.

        Raises:
            CorruptArtifact: If its manifest is damaged, or a file is missing or has another size.
            StoreError: If it is not in the store, or cannot be read.
        """
        found = self._find(address)
        if found is None:
            raise StoreError(f"Object {address} is not in the store {self.root}; run the stage that computes it.")
        return found

    @contextmanager
    def publish(self, address: str, kind: str, content: Json) -> Iterator[Writer]:
        """Write an object in the block; it appears in the store, whole, when the block ends.

        Args:
            address: ``addresses.address(kind, content)``.
            kind: What it is, such as ``model``.
            content: What the address is made of.

        Raises:
            StoreError: If the store cannot be written, or the address is that of something else.
        """
        _check_belongs(address, kind, content)
        with self._published(address, kind, content) as writer:
            yield writer

    @contextmanager
    def _published(self, address: str, kind: str, content: Json) -> Iterator[Writer]:
        """The same of an address that was checked."""
        with self.private_directory() as staging:
            writer = Writer(staging, address, kind, content)
            with store_failures_of(staging):
                yield writer
            manifest = writer.finish()
            if self._install(staging, address, is_dear=manifest.elapsed_s >= _DEAR_S):
                self._index.add([Entry.of(manifest)])
                writer.manifest = manifest

    def get_or_compute(
        self,
        address: str,
        kind: str,
        content: Json,
        compute: Callable[[Writer], None],
        *,
        on_wait: Callable[[str], None] | None = None,
    ) -> Artifact:
        """The object, from the store if it is there and sound, else computed now by one of those who ask.

        Args:
            address: ``addresses.address(kind, content)``.
            kind: What it is, such as ``model``.
            content: What the address is made of.
            compute: Writes the object; must not ask for the same address.
            on_wait: Called once with the address if another process or thread is computing it.

        Returns:
            The object, every byte checked.

        Raises:
            StoreError: If it is not there and the store cannot be written; ``CorruptArtifact`` if it is there, but damaged.
        """
        _check_belongs(address, kind, content)
        damage: CorruptArtifact | None = None
        try:
            if (found := self._find_sound(address)) is not None:
                return found
        except CorruptArtifact as error:
            damage = error
        try:
            with self._locked(address, on_wait):
                return self._repair_or_compute(address, kind, content, compute)
        except StoreError as error:
            if damage is not None and not isinstance(error, CorruptArtifact) and self._shelf.place(address).exists():
                raise CorruptArtifact(f"{damage} It cannot be computed again here: {error}") from error
            raise

    def quarantine(self, address: str, reason: str) -> Path | None:
        """Take an object out of the store, but keep it for inspection.

        Args:
            address: Its address.
            reason: Why, in a sentence; logged, reported to ``on_corrupt`` and written beside it.

        Returns:
            Where it is now, or None if another process took it first.

        Raises:
            StoreError: If it cannot be moved.
        """
        self._check_writable()
        place = self._shelf.place(address)
        if not os.path.lexists(place):
            return None
        target = self.root / "quarantine" / f"{address}-{uuid.uuid4().hex[:8]}"
        with reported("move a corrupt object to", target):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                place.rename(target)
            except FileNotFoundError:
                return None
        with suppress(StoreError):  # a full disk must not stop the repair
            note = json.dumps({"address": address, "reason": reason}, sort_keys=True, indent=1) + "\n"
            write_atomically(target.with_name(f"{target.name}.json"), note.encode(), option="--store")
        self._report(address, reason, f"It is now in {target} and")
        return target

    def remove(self, address: str) -> bool:
        """Delete an object; a run that needs it computes it again, and one that is reading it may have to be repeated.

        Returns:
            Whether it was there; what only the base has is not.

        Raises:
            StoreError: If it cannot be deleted.
        """
        self._check_writable()
        place = self._shelf.place(address)
        if not os.path.lexists(place):
            return False
        doomed = self.root / "tmp" / uuid.uuid4().hex
        with reported("delete", place):
            doomed.parent.mkdir(exist_ok=True)
            try:
                place.rename(doomed)  # in one step, so that nobody finds half of it
            except OSError as error:
                if error.errno in ABSENT:
                    return False
                raise
            shutil.rmtree(doomed)
        return True

    def admit(self, manifest: Manifest, write: Callable[[Path], None]) -> bool:
        """Take in an object that was published in another store, byte for byte.

        Args:
            manifest: Its manifest.
            write: Writes its files, with the manifest, into the directory it is given.

        Returns:
            False if the store has it already.

        Raises:
            CorruptArtifact: If what was written is not what the manifest says.
            StoreError: If the store cannot be written.
        """
        with self.private_directory() as staging:
            with store_failures_of(staging):
                write(staging)
            arrived = Artifact(staging, Manifest.decode((staging / MANIFEST).read_bytes(), manifest.address))
            arrived.verify()
            with reported("write", staging):
                for path in sorted(staging.iterdir()):
                    fsync(path)
                fsync(staging)
            is_new = self._install(staging, manifest.address, is_dear=True)
        if is_new:
            self._index.add([Entry.of(manifest)])
        return is_new

    @contextmanager
    def private_directory(self) -> Iterator[Path]:
        """A directory that nobody reads, for what is not finished; gone afterwards, or once this process is dead.

        Raises:
            StoreError: If the store cannot be written.
        """
        self._check_writable()
        self._shelf.create()
        staging = self.root / "tmp" / uuid.uuid4().hex
        with reported("write", staging):
            staging.mkdir(parents=True)
        try:
            with owned(staging):
                yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _check_writable(self) -> None:
        if self._read_only:
            raise StoreError(f"{self.root} was opened for reading only; choose another directory with --store.")

    def _find(self, address: str) -> Artifact | None:
        """The object, from the base if it is not here."""
        place = self._shelf.place(address)
        try:
            with open(f"{place}/{MANIFEST}", "rb") as file:  # noqa: PTH123 - asked a dozen times for each stage: text, no Path
                data = file.read()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None if self._base is None else self._base._find(address)
        except OSError as error:
            raise failure("read", place / MANIFEST, error) from error
        found = Artifact(place, Manifest.decode(data, address))
        found.check_sizes()
        return found

    def _find_sound(self, address: str) -> Artifact | None:
        found = self._find(address)
        if found is not None:
            found.verify()
        return found

    def _repair_or_compute(self, address: str, kind: str, content: Json, compute: Callable[[Writer], None]) -> Artifact:
        """Under the lock: what another process published meanwhile, or a computation of our own."""
        try:
            if (found := self._find_sound(address)) is not None:
                return found
        except CorruptArtifact as error:
            if self.quarantine(address, str(error)) is None:  # the base's, or gone meanwhile
                self._report(address, str(error), "It")
        with self._published(address, kind, content) as writer:
            compute(writer)
        return self.open(address) if writer.manifest is None else Artifact(self._shelf.place(address), writer.manifest)

    def _report(self, address: str, reason: str, it: str) -> None:
        _log.warning("%s %s will be computed again when it is needed.", reason, it)
        if self._on_corrupt is not None:
            self._on_corrupt(address, reason)

    def _install(self, staging: Path, address: str, *, is_dear: bool) -> bool:
        """Move an object to its place, and wait until that is on the disk if it is dear; False if a sound one is there, which then stays.

        What a power cut takes is a name, and with it the whole object, whose bytes are on the disk before.
        """
        place = self._shelf.place(address)
        with reported("publish", place):
            place.parent.mkdir(parents=True, exist_ok=True)
            while True:
                try:
                    staging.rename(place)
                except OSError as error:
                    if error.errno not in _TAKEN:
                        raise
                    try:
                        if self._own_is_sound(place, address):
                            return False
                        reason = f"Object {address} in {place} is corrupt: {MANIFEST} is missing."
                    except CorruptArtifact as corrupt:
                        reason = str(corrupt)
                    self.quarantine(address, reason)
                else:
                    for directory in (place.parent, place.parent.parent, self.root) if is_dear else ():
                        fsync(directory)
                    return True

    @staticmethod
    def _own_is_sound(place: Path, address: str) -> bool:
        try:
            data = (place / MANIFEST).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return False
        Artifact(place, Manifest.decode(data, address)).verify()
        return True

    @contextmanager
    def _locked(self, address: str, on_wait: Callable[[str], None] | None) -> Iterator[None]:
        self._check_writable()
        self._shelf.create()
        with locked(self.root / "locks" / f"{address}.lock", None if on_wait is None else lambda: on_wait(address)):
            yield

    def _remove_abandoned(self) -> None:
        with suppress(OSError):
            for directory in (self.root / "tmp").iterdir():
                if is_abandoned(directory):
                    shutil.rmtree(directory, ignore_errors=True)


def _existing(base: Path | str) -> Store:
    root = Path(base).expanduser().absolute()
    if not (root / "FORMAT").is_file():
        raise StoreError(f"{root} is not a store (it has no file FORMAT), so no other can be laid over it.")
    return Store(root, read_only=True)


def _check_belongs(given: str, kind: str, content: Json) -> None:
    if check_address(given) != address(kind, content):
        raise StoreError(f"{given} is not the address of this {kind}; make it with address(kind, content).")
