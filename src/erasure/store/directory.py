"""The store: a directory of immutable, checksummed objects, each under the address of what it was computed from.

Layout
    ::

        FORMAT                      {"format": 1}
        objects/<2 digits>/<address>/
            manifest.json           kind, content, files with size and SHA-256, facts, times, library versions, own checksum
            *.safetensors *.json …  the data
        quarantine/                 corrupt objects, each beside a JSON file with the reason
        locks/<address>.lock        who computes what; empty files that stay behind
        tmp/<random>/               objects in the making

Contract
    *Whole or absent.* An object is written to a private directory, brought to the disk, given its manifest, and renamed to its
    place in one step. Whatever interrupts this (an exception, ``kill -9``, a power cut, a full disk) leaves the object absent.

    *Immutable.* Equal addresses mean equal data, so who publishes second is thrown away in silence; nothing is ever overwritten.
    Data files of equal values are equal byte for byte; times and versions live in the manifest.

    *Never a wrong byte.* The manifest is checked when an object is opened, with the presence and size of every file; a file's
    checksum is checked before its first byte is handed out. A mismatch raises ``CorruptArtifact``. ``get_or_compute`` checks
    everything, moves a corrupt object to ``quarantine/``, reports it and computes it again.

    *Shared.* Any number of threads and processes may use one store. Computing takes a lock of the operating system on the
    address, which a killed process gives back at once; a forked child that outlives its parent keeps it until it ends. Two
    machines on a network disk need one whose ``flock`` works across them; without it a stage may be computed twice, never wrong.

    *Read-only.* A store that cannot be written serves what it has; publishing into it raises ``StoreError``.

    *Tidy.* Opening a store removes the directories in ``tmp/`` whose owner is dead. An owner holds a lock on its directory, so
    this holds across containers and reused process numbers too; only what nobody holds and nobody changed for an hour goes.

The directory is made when something is first written. No pickle is written or read.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from erasure.errors import CorruptArtifact, StoreError
from erasure.store.addresses import FORMAT_VERSION, address, check_address
from erasure.store.artifacts import MANIFEST, Artifact, Manifest
from erasure.store.durable import failure, fsync, is_abandoned, owned, reported, write_atomically
from erasure.store.writer import Writer, store_failures_of
from erasure.types import Json

__all__ = ["Store", "default_store_path"]

_log = logging.getLogger(__name__)
_TAKEN = {errno.EEXIST, errno.ENOTEMPTY}


def default_store_path() -> Path:
    """Where the store is if nobody says: ``$ERASURE_STORE``, else ``.erasure/store`` in the working directory."""
    chosen = os.environ.get("ERASURE_STORE", "")
    return Path(chosen).expanduser().absolute() if chosen else Path.cwd() / ".erasure" / "store"


class Store:
    """A directory of computed results by content address; see the module for its contract.

    Args:
        root: The directory; made on the first write.
        on_corrupt: Called with address and reason for every object that is moved to quarantine, after the log's warning.

    Raises:
        StoreError: If ``root`` holds something else, or a store of another format version.
    """

    def __init__(self, root: Path | str, *, on_corrupt: Callable[[str, str], None] | None = None) -> None:
        self.root = Path(root).expanduser().absolute()
        self._on_corrupt = on_corrupt
        self._check_format()
        self._remove_abandoned()

    def __repr__(self) -> str:
        return f"Store({str(self.root)!r})"

    def contains(self, address: str) -> bool:
        """Whether an object is there, by one look for its manifest; its bytes are not checked."""
        manifest = self._place(address) / MANIFEST
        with reported("read", manifest):
            return manifest.is_file()

    def addresses(self) -> Iterator[str]:
        """Addresses of all objects, sorted."""
        for manifest in sorted((self.root / "objects").glob(f"??/*/{MANIFEST}")):
            yield manifest.parent.name

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
        self._create()
        staging = self.root / "tmp" / uuid.uuid4().hex
        with reported("write", staging):
            staging.mkdir(parents=True)
        try:
            with owned(staging):
                writer = Writer(staging, address, kind, content)
                with store_failures_of(staging):
                    yield writer
                writer.finish()
                self._install(staging, address)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

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
            if damage is not None and not isinstance(error, CorruptArtifact) and self._place(address).exists():
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
        place = self._place(address)
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
        _log.warning("%s It is now in %s and will be computed again when it is needed.", reason, target)
        if self._on_corrupt is not None:
            self._on_corrupt(address, reason)
        return target

    def _place(self, address: str) -> Path:
        return self.root / "objects" / check_address(address)[:2] / address

    def _find(self, address: str) -> Artifact | None:
        place = self._place(address)
        try:
            data = (place / MANIFEST).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
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
            self.quarantine(address, str(error))
        with self.publish(address, kind, content) as writer:
            compute(writer)
        return self.open(address)

    def _install(self, staging: Path, address: str) -> None:
        place = self._place(address)
        with reported("publish", place):
            if not place.parent.is_dir():
                place.parent.mkdir(parents=True, exist_ok=True)
                fsync(place.parent.parent)
                fsync(self.root)
            while True:
                try:
                    staging.rename(place)
                except OSError as error:
                    if error.errno not in _TAKEN:
                        raise
                    try:
                        if self._find_sound(address) is not None:
                            return
                        reason = f"Object {address} in {place} is corrupt: {MANIFEST} is missing."
                    except CorruptArtifact as corrupt:
                        reason = str(corrupt)
                    self.quarantine(address, reason)
                else:
                    fsync(place.parent)
                    return

    @contextmanager
    def _locked(self, address: str, on_wait: Callable[[str], None] | None) -> Iterator[None]:
        from filelock import FileLock, Timeout  # costs a tenth of a second, which `erasure --help` does not have

        self._create()
        path = self.root / "locks" / f"{address}.lock"
        lock = FileLock(str(path))
        with reported("lock", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(Timeout):
                lock.acquire(timeout=0)
        if not lock.is_locked:
            if on_wait is not None:
                on_wait(address)
            with reported("lock", path):
                lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _check_format(self) -> None:
        path = self.root / "FORMAT"
        with reported("read", path):
            try:
                text = path.read_text(encoding="utf-8", errors="replace")
            except FileNotFoundError:
                self._check_vacant()
                return
        expected = f'{{"format": {FORMAT_VERSION}}}'
        try:
            version = json.loads(text)["format"]
        except (ValueError, TypeError, KeyError):
            raise StoreError(f"{path} is damaged: found {text[:40]!r}, expected {expected}; write that line into it.") from None
        if version != FORMAT_VERSION:
            raise StoreError(
                f"{self.root} is a store of format {version!r}, this version of erasure reads format {FORMAT_VERSION}; "
                "choose another directory with --store."
            )

    def _check_vacant(self) -> None:
        """Refuse to spread over somebody's files; hidden ones do not count."""
        if not self.root.exists():
            return
        occupied = any(not path.name.startswith(".") for path in self.root.iterdir())
        if occupied and not (self.root / "FORMAT").exists():  # another process may just have made it
            raise StoreError(
                f"{self.root} is not empty and not a store (it has no file FORMAT); choose another directory with --store, or, "
                f'if it is a store whose FORMAT was lost, write {{"format": {FORMAT_VERSION}}} into that file.'
            )

    def _create(self) -> None:
        path = self.root / "FORMAT"
        if not path.exists():
            with reported("make the store", self.root):
                self.root.mkdir(parents=True, exist_ok=True)
            line = json.dumps({"format": FORMAT_VERSION}) + "\n"
            write_atomically(path, line.encode(), option="--store")

    def _remove_abandoned(self) -> None:
        with suppress(OSError):
            for directory in (self.root / "tmp").iterdir():
                if is_abandoned(directory):
                    shutil.rmtree(directory, ignore_errors=True)


def _check_belongs(given: str, kind: str, content: Json) -> None:
    if check_address(given) != address(kind, content):
        raise StoreError(f"{given} is not the address of this {kind}; make it with address(kind, content).")
