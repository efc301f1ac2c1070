"""Other receivers of a run's events: the options ``--log-json`` and ``--tracker``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from erasure.events import Listener, fan_out

if TYPE_CHECKING:
    from erasure.cli.progress import Terminal

__all__ = ["listener_options", "listening"]

_F = TypeVar("_F", bound=Callable[..., Any])


def listener_options(command: _F) -> _F:
    """``--log-json`` and ``--tracker``."""
    for option in (
        click.option(
            "--tracker",
            "trackers",
            multiple=True,
            metavar="NAME[:PLACE]",
            help="Also keep the run in mlflow:FILE_OR_URI, tensorboard:DIRECTORY or wandb:DIRECTORY (offline). Repeatable.",
        ),
        click.option("--log-json", type=click.Path(path_type=Path), help="Append every event to this file as a line of JSON."),
    ):
        command = option(command)
    return command


@contextmanager
def listening(terminal: Terminal, log_json: Path | None, trackers: Sequence[str]) -> Iterator[Listener]:
    """A listener that tells the terminal, the log and the trackers; one that fails later is left out, and the run goes on.

    Raises:
        ConfigError: If there is no such tracker, or its place cannot be used.
        MissingDependency: If its library is not installed.
        StoreError: If the log cannot be opened.
    """
    if log_json is None and not trackers:
        with terminal:
            yield terminal.listen
        return
    from erasure.trackers import Guarded, JsonLines, open_tracker

    def warn(text: str) -> None:
        terminal.say(f"warning: {text}")

    chosen = [] if log_json is None else [Guarded(JsonLines(log_json), f"the log {log_json}", warn)]
    chosen += [Guarded(open_tracker(choice), f"the tracker {choice}", warn) for choice in dict.fromkeys(trackers)]
    with ExitStack() as stack:
        stack.enter_context(terminal)
        for guarded in chosen:
            stack.enter_context(guarded)
        yield fan_out(terminal.listen, *(guarded.listen for guarded in chosen))
