"""When a deletion request came and what it has taken, over all attempts: one that was interrupted goes on counting where it stopped."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path

from erasure.durable import reported, write_atomically
from erasure.events import Event, Listener

__all__ = ["SPENT_FILE", "Spent", "now"]

SPENT_FILE = "spent.json"
_OFTEN_S = 0.2


class Spent:
    """Seconds of all attempts at one answer, and when the first one began.

    What is spent is noted with each event, so that an attempt which is killed loses the step that it was in and nothing else.

    Args:
        file: Where it is noted, from the first call of :meth:`note` on.
    """

    def __init__(self, file: Path) -> None:
        self.file: Path = file
        self._start = time.perf_counter()
        self._noted = 0.0
        self._earlier_s, earlier = _read(file)
        self.received: str = earlier or now()

    @property
    def seconds(self) -> float:
        """Of this attempt and those before."""
        return self._earlier_s + time.perf_counter() - self._start

    def note(self) -> None:
        """Put it on the disk."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.file, json.dumps({"seconds": self.seconds, "received": self.received}).encode(), option="--folder")
        self._noted = time.perf_counter()

    def heard(self, listener: Listener) -> Listener:
        """The listener, and a note of what was spent up to each event."""

        def listen(event: Event) -> None:
            if time.perf_counter() - self._noted > _OFTEN_S:
                self.note()
            listener(event)

        return listen


def now() -> str:
    """The time, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _read(file: Path) -> tuple[float, str]:
    with reported("read", file, option="--folder"):
        if not file.exists():
            return 0.0, ""
        try:
            noted = json.loads(file.read_bytes())
            return float(noted["seconds"]), str(noted.get("received", ""))
        except (ValueError, KeyError, TypeError, AttributeError):  # of a version that wrote it otherwise
            return 0.0, ""
