"""Files that are there whole or not at all, directories that know whether their owner lives, and disk errors in words."""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from erasure.errors import StoreError

if sys.platform != "win32":
    import fcntl

__all__ = ["failure", "fsync", "is_abandoned", "locked", "owned", "reported", "write_atomically"]

_FULL = {errno.ENOSPC, errno.EDQUOT}
_DENIED = {errno.EACCES, errno.EPERM}
ABANDONED_AFTER_S = 3600.0


def failure(action: str, path: Path, error: OSError, *, option: str = "--store") -> StoreError:
    """The sentence for an error of the operating system: what failed, where, and what to do.

    Args:
        action: What was tried, such as ``write``.
        path: The file or directory.
        error: What the operating system said.
        option: The command-line option that chooses another place.
    """
    cause = (error.strerror or str(error)).lower()
    if error.errno in _FULL:
        advice = f"free some space or choose another disk with {option}"
    elif error.errno in _DENIED:
        advice = f"ask for the permission or choose another directory with {option}"
    elif error.errno == errno.EROFS:
        advice = f"choose a writable directory with {option}"
    else:
        advice = f"check the disk or choose another directory with {option}"
    return StoreError(f"Cannot {action} {path}: {cause}; {advice}.")


@contextmanager
def reported(action: str, path: Path, *, option: str = "--store") -> Iterator[None]:
    """Turn an ``OSError`` of the block into a ``StoreError`` that names ``path``."""
    try:
        yield
    except OSError as error:
        raise failure(action, path, error, option=option) from error


def fsync(path: Path) -> None:
    """Wait until a file's bytes, or a directory's names, are on the disk."""
    if sys.platform == "win32" and path.is_dir():
        return  # Windows opens no directories and needs no such call
    descriptor = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, data: bytes, *, option: str = "--output") -> None:
    """Write a file so that a reader, or a process after a crash, finds the old bytes or the new ones and nothing else.

    Args:
        path: The file; its directory is made if it is missing.
        data: All its bytes.
        option: The command-line option that an error message recommends.

    Raises:
        StoreError: If it cannot be written; the old file is then unchanged.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    with reported("write", path, option=option):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            fsync(path.parent)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


@contextmanager
def locked(path: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a lock of the operating system by the name of a file, which stays behind.

    Args:
        path: The file; its directory is made if it is missing.
        on_wait: Called once if another process or thread holds it.

    Raises:
        StoreError: If it cannot be locked.
    """
    from filelock import FileLock, Timeout  # costs a tenth of a second, which `erasure --help` does not have

    lock = FileLock(str(path))
    with reported("lock", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(Timeout):
            lock.acquire(timeout=0)
    if not lock.is_locked:
        if on_wait is not None:
            on_wait()
        with reported("lock", path):
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def owned(directory: Path, *, waits: bool = False) -> Iterator[None]:
    """Hold a lock on a directory itself, which the kernel drops when this process ends in whatever way.

    Where directories cannot be locked (Windows, some network file systems) nothing is held, and :func:`is_abandoned` says no.

    Args:
        directory: The directory.
        waits: Whether to wait while another process or thread holds it; else nothing is held then.
    """
    descriptor = _lock(directory, waits=waits)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def is_abandoned(directory: Path) -> bool:
    """Whether nobody holds ``directory`` and nothing in it has changed for an hour.

    The lock tells the living from the dead also across containers and reused process numbers; the hour covers the instant
    between making a directory and locking it.
    """
    try:
        if not stat.S_ISDIR(directory.lstat().st_mode):
            return False
        newest = max(path.lstat().st_mtime for path in (directory, *directory.iterdir()))
        if time.time() - newest < ABANDONED_AFTER_S:
            return False
    except OSError:
        return False
    descriptor = _lock(directory)
    if descriptor is None:
        return False
    os.close(descriptor)
    return True


def _lock(directory: Path, *, waits: bool = False) -> int | None:
    if sys.platform == "win32":
        return None
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
