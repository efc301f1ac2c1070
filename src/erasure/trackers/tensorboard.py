"""TensorBoard: a directory for each run, with the rows and the seconds of stages as scalars and the configuration as text."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import TYPE_CHECKING

from erasure.events import Event, RowReady, RunFinished, RunStarted, StageFinished, event_record
from erasure.trackers.records import Steps

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

__all__ = ["TensorBoard"]


class TensorBoard:
    """Writes event files that ``tensorboard --logdir PLACE`` shows.

    Args:
        place: The directory; each run gets one of its own in it.
    """

    def __init__(self, place: str) -> None:
        import tensorboard  # type: ignore[import-untyped] # noqa: F401 - whether it is installed shows now; torch's writer needs it

        self._place = Path(place).expanduser()
        self._place.mkdir(parents=True, exist_ok=True)
        self._writer: SummaryWriter | None = None
        self._steps = Steps()
        self._computed: dict[str, int] = {}

    def listen(self, event: Event) -> None:
        """Take note of an event."""
        if isinstance(event, RunStarted):
            self._start(event)
        if self._writer is None:
            return
        match event:
            case RowReady(row):
                for name, value, step in self._steps.metrics(row):
                    self._writer.add_scalar(name, value, step)
            case StageFinished(kind=kind, cached=False, elapsed_s=elapsed_s):
                step = self._computed.get(kind, 0)
                self._computed[kind] = step + 1
                self._writer.add_scalar(f"seconds/{kind}", elapsed_s, step)
            case RunFinished():
                self._writer.add_text("end", _code(event))
                self._writer.flush()
            case _:
                pass

    def close(self, *, interrupted: bool) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()

    def _start(self, event: RunStarted) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        name = "".join(c if c.isalnum() or c in "._-" else "_" for c in event.experiment)[:80]
        self._writer = SummaryWriter(str(self._place / f"{name}-{now}"))
        self._writer.add_text("start", _code(event))


def _code(event: Event) -> str:
    """An event as a block that TensorBoard's Markdown leaves as it is."""
    return "\n".join(f"    {line}" for line in json.dumps(event_record(event), indent=2).splitlines())
