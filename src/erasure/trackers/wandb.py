"""Weights & Biases, offline: a directory that ``wandb sync`` uploads later, if its owner wants to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from erasure.events import Event, RowReady, RunFinished, RunStarted
from erasure.trackers.records import Steps, settings

__all__ = ["WeightsAndBiases"]


class WeightsAndBiases:
    """Keeps a run for Weights & Biases without ever connecting to it.

    Args:
        place: The directory; each run gets one of its own in it.
    """

    def __init__(self, place: str) -> None:
        import wandb

        self._library = wandb
        self._place = Path(place).expanduser().absolute()
        self._place.mkdir(parents=True, exist_ok=True)
        self._steps = Steps()
        self._run: Any = None

    def listen(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case RunStarted():
                self._start(event)
            case RowReady(row) if self._run is not None:
                for name, value, _ in self._steps.metrics(row):
                    self._run.log({name: value})
                    self._run.summary[name] = value
            case RunFinished() if self._run is not None:
                self._run.summary["failures"] = dict(event.failures)
                self._end(0 if event.is_sound else 1)
            case _:
                pass

    def close(self, *, interrupted: bool) -> None:
        """End the run, if it has not ended."""
        self._end(1)

    def _start(self, event: RunStarted) -> None:
        quiet = self._library.Settings(
            console="off",
            silent=True,
            disable_code=True,
            disable_git=True,
            x_disable_machine_info=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        self._run = self._library.init(
            project="erasure",
            name=event.experiment,
            dir=str(self._place),
            mode="offline",
            reinit="create_new",
            config={**dict(settings(event.configuration)), **dict(settings(event.options, "options"))},
            settings=quiet,
        )

    def _end(self, exit_code: int) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.finish(exit_code=exit_code)
