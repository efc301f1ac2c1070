"""What a person sees while an experiment runs."""

from __future__ import annotations

import shutil
import sys
from types import TracebackType
from typing import TYPE_CHECKING

import click

from erasure.cli.prose import printable
from erasure.events import EpochFinished, Event, Said, StageFailed, StageFinished, StageStarted, StageWaits
from erasure.reports.results import Results
from erasure.reports.table import text_tables

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["Terminal"]

_SLOW_S = 0.5
"""Stages that took longer get a line of their own where there is no progress bar."""


class Terminal:
    """Draws progress on stderr and the table on stdout; plain lines where stderr is no terminal."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.live = not quiet and sys.stderr.isatty()
        self.progress: Progress | None = None
        self._stages: TaskID | None = None
        self._current: TaskID | None = None

    def __enter__(self) -> Terminal:
        if self.live:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            self.progress = Progress(*columns, console=Console(stderr=True), transient=True)
            self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.progress is not None:
            self.progress.stop()
            self.progress = None

    def say(self, text: str) -> None:
        """A line on stderr, above the progress bars."""
        if self.quiet:
            return
        text = printable(text)
        if self.progress is not None:
            self.progress.console.print(text, markup=False, highlight=False)
        else:
            click.echo(text, err=True)

    def listen(self, event: Event) -> None:
        """Show what happened."""
        match event:
            case Said(text, level):
                self.say(f"{'warning' if level == 'warning' else 'note'}: {text}")
            case StageWaits(name):
                self.say(f"waiting for another process: {name}")
            case StageFailed(name, reason=reason):
                self.say(f"failed: {name}: {reason}")
            case StageFinished(name, cached=False, elapsed_s=elapsed_s) if self.progress is None and elapsed_s > _SLOW_S:
                self.say(f"{name}: {elapsed_s:.1f} s")
            case _:
                pass
        if self.progress is not None:
            self._draw(event, self.progress)

    def _draw(self, event: Event, progress: Progress) -> None:
        if self._stages is None:
            self._stages = progress.add_task("stages", total=None)
        match event:
            case StageStarted(name):
                self._current = progress.add_task(printable(name), total=None)
            case EpochFinished(epoch=epoch, epochs=epochs) if self._current is not None:
                progress.update(self._current, completed=epoch, total=epochs)
            case StageFinished(total=total) | StageFailed(total=total):
                if self._current is not None:
                    progress.remove_task(self._current)
                    self._current = None
                if total:  # the data is looked at once before the plan is carried out
                    progress.update(self._stages, advance=1, total=total)
            case _:
                pass

    def table(self, results: Results) -> None:
        """The summary, as many tables beside one another as the width of the terminal asks for."""
        click.echo(text_tables(results.rows, shutil.get_terminal_size((160, 24)).columns))
