"""The event log: every event as a line of JSON, on the disk before the next one happens.

Each line is an object with ``time`` (ISO 8601, UTC, milliseconds), ``event`` (the name of a class of :mod:`erasure.events`) and the
fields of that class. Lines of a later run into the same file follow those of the earlier.
"""

from __future__ import annotations

import datetime
import json
from pathlib import Path

from erasure.durable import failure
from erasure.errors import StoreError
from erasure.events import Event, event_record

__all__ = ["JsonLines"]


class JsonLines:
    """Appends events to a file.

    Args:
        path: The file; its directory is made if it is missing.

    Raises:
        StoreError: If it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise _unwritable(path, error) from error
        self._path = path

    def listen(self, event: Event) -> None:
        """Append an event."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = json.dumps({"time": now, **event_record(event)}, ensure_ascii=False) + "\n"
        try:
            self._file.write(line.encode())  # unbuffered, in one call: a killed run has written all that happened
        except OSError as error:
            raise _unwritable(self._path, error) from error

    def close(self, *, interrupted: bool) -> None:
        """Close the file."""
        self._file.close()


def _unwritable(path: Path, error: OSError) -> StoreError:
    return failure("write", path, error, option="--log-json")
