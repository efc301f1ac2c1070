"""What a person sees while an experiment runs."""

from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

import click

from erasure.cli.amounts import shown_duration
from erasure.cli.prose import printable
from erasure.events import (
    EpochFinished,
    Event,
    Message,
    RunStarted,
    SamplesRead,
    StageFailed,
    StageFinished,
    StageStarted,
    StageWaits,
    TimeLeft,
)
from erasure.reports.results import Results
from erasure.reports.table import text_tables

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from erasure.analysis.overview import Overview

__all__ = ["Terminal"]

_SLOW_S = 0.5
"""Stages that took longer get a line of their own where there is no progress bar."""
_LEFT_EVERY_S = 30.0
"""How often the time left gets a line where there is no progress bar."""
_NEAREST = 3
"""Methods and settings of a sweep's problem that are named; the report has all."""


class Terminal:
    """Draws progress on stderr and the table on stdout; plain lines where stderr is no terminal."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.live: bool = not quiet and sys.stderr is not None and sys.stderr.isatty()
        self.progress: Progress | None = None
        self._stages: TaskID | None = None
        self._running: dict[str, TaskID] = {}
        self._by_name: dict[str, TaskID] = {}
        self._said_left = time.monotonic()

    def __enter__(self) -> Terminal:
        if self.live:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}", markup=False),
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
            case Message(text, level):
                self.say(f"{'warning' if level == 'warning' else 'note'}: {text}")
            case StageWaits(name):
                self.say(f"waiting for another process: {name}")
            case StageFailed(name, reason=reason):
                self.say(f"failed: {name}: {reason}")
            case TimeLeft(seconds) if self.progress is None:
                self._say_left(seconds)
            case StageFinished(name, cached=False, elapsed_s=elapsed_s) if self.progress is None and elapsed_s > _SLOW_S:
                self.say(f"{name}: {elapsed_s:.1f} s")
            case _:
                pass
        if self.progress is not None:
            self._draw(event, self.progress)

    def _draw(self, event: Event, progress: Progress) -> None:
        if self._stages is None:
            self._stages = progress.add_task("stages", total=None, left="")
        match event:
            case RunStarted(total=total):
                progress.update(self._stages, total=total or None)
            case TimeLeft(seconds):
                progress.update(self._stages, left=f"about {shown_duration(seconds)} left")
            case StageStarted(name, address=address):
                task = progress.add_task(printable(name), total=None, left="")
                self._running[address] = self._by_name[name] = task
            case EpochFinished(name, epoch=epoch, epochs=epochs) if name in self._by_name:
                progress.update(self._by_name[name], completed=epoch, total=epochs)
            case SamplesRead(name, done=done, total=total) if name in self._by_name:
                progress.update(self._by_name[name], completed=done, total=total)
            case StageFinished(name, address=address, total=total) | StageFailed(name, address=address, total=total):
                if address in self._running:  # else it was cached, or failed because of another
                    task = self._running.pop(address)
                    progress.remove_task(task)
                    if self._by_name.get(name) == task:
                        del self._by_name[name]
                if total:  # the data is looked at once before the plan is carried out
                    progress.update(self._stages, advance=1, total=total)
            case _:
                pass

    def _say_left(self, seconds: float) -> None:
        now = time.monotonic()
        if now - self._said_left >= _LEFT_EVERY_S:
            self._said_left = now
            self.say(f"about {shown_duration(seconds)} left")

    def table(self, results: Results, overview: Overview) -> None:
        """The summary, as many tables beside one another as the width of the terminal asks for."""
        click.echo(text_tables(results.rows, shutil.get_terminal_size((160, 24)).columns, overview.judged))

    def advice(self, overview: Overview) -> None:
        """What to do, in a sentence."""
        click.echo(printable(overview.recommendation))

    def findings(self, overview: Overview) -> None:
        """For each problem of a sweep what to do, and the settings that came nearest to retraining."""
        for name, part in overview.parts or [("", overview)]:
            click.echo(printable(f"{name}: {part.recommendation}" if name else part.recommendation))
            for verdict in part.verdicts[:_NEAREST]:
                click.echo(printable(f"  {verdict.label}: {verdict.title}. {verdict.reasons[0]}"))
            if len(part.verdicts) > _NEAREST:
                click.echo(f"  ... and {len(part.verdicts) - _NEAREST} more")
