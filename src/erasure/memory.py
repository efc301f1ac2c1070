"""What was found before, kept in small files of the user's cache: what is missing or damaged there is found again."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from erasure.durable import write_atomically
from erasure.errors import StoreError

__all__ = ["keep", "memory_directory", "memory_file", "recall"]


def memory_directory(kind: str) -> Path | None:
    """Where a kind of findings is kept: ``erasure/KIND`` in ``$XDG_CACHE_HOME`` or ``~/.cache``; nowhere for users without a home."""
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not chosen.is_absolute():  # which is to be ignored, says the standard
        try:
            chosen = Path("~/.cache").expanduser()
        except RuntimeError:
            return None
    return chosen / "erasure" / kind


def memory_file(kind: str, digest: str) -> Path | None:
    """Where what was found under a digest of all that it depends on is kept."""
    directory = memory_directory(kind)
    return None if directory is None else directory / f"{digest}.json"


def keep(file: Path | None, found: Any, *, at_most: int) -> None:
    """Keep what was found, as JSON, and forget the oldest of its directory; where that is not possible it is found again next time.

    Args:
        file: As :func:`memory_file` gives it.
        found: What :func:`recall` gives.
        at_most: Files that the directory keeps.
    """
    if file is None:
        return
    with suppress(StoreError, OSError, ValueError, TypeError):
        content = json.dumps(found)
        write_atomically(file, json.dumps({"sha256": _digest(content), "found": content}).encode())
        for old in sorted(file.parent.glob("*.json"), key=lambda each: each.stat().st_mtime)[:-at_most]:
            old.unlink(missing_ok=True)


def recall(file: Path | None) -> Any:
    """What :func:`keep` wrote, byte for byte; None if there is nothing, or something else."""
    if file is None:
        return None
    try:
        kept = json.loads(file.read_bytes())
        return json.loads(kept["found"]) if kept["sha256"] == _digest(kept["found"]) else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()
