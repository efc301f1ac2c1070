"""``erasure ui``."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import click

__all__ = ["command"]

_SLOW_S = 2.0
"""From when on a first look at the runs says how far it has come."""


@click.command("ui")
@click.argument("folder", type=click.Path(path_type=Path), default="runs")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port of the page; 0 takes any free one. [default: the first free one from 8750]",
)
@click.option("--no-browser", is_flag=True, help="Print the address without opening a browser.")
@click.option("--store", type=click.Path(path_type=Path), help="Where the outputs of models are kept. [default: .erasure/store]")
def command(folder: Path, port: int | None, no_browser: bool, store: Path | None) -> int:
    """Browse the runs in FOLDER (by default runs) on a page that this machine alone can see.

    The page lists runs, shows their reports, and puts two models of a run side by side: predictions class by class, a map of their
    features, and an attack whose threshold can be moved. It reads FOLDER and the store and changes neither. Ctrl-C ends it.

    \b
    erasure ui
    erasure ui runs/proof_of_concept --no-browser
    erasure ui runs --port 9000 --store .erasure/store
    """  # noqa: D301 - click's mark for lines that stay as they are
    from erasure.errors import MissingDependency
    from erasure.memory import memory_directory
    from erasure.store import Store, default_base_path, default_store_path
    from erasure.ui import Library, Site, UiServer

    for module, package in (("jinja2", "jinja2"), ("vl_convert", "vl-convert-python")):
        if not _is_installed(module):
            raise MissingDependency(package, "report", "erasure ui")
    library = Library(folder, memory_directory("listed"))
    opened = Store(store or default_store_path(), base=default_base_path(), read_only=True)
    with UiServer(Site(library, opened), port) as server:
        with _Looking() as looking:
            n = len(library.runs(looking.at))
        click.echo(
            f"{n} run{'' if n == 1 else 's'} in {library.root}" if n else f"there are no runs in {library.root} yet", err=True
        )
        click.echo(server.address)
        sys.stdout.flush()
        click.echo("the address is a key: keep it secret. Ctrl-C stops the page.", err=True)
        if not no_browser and _has_screen():
            import webbrowser

            webbrowser.open(server.address)
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            click.echo("\nended", err=True)
    return 0


class _Looking:
    """Says how far a first look has come, once it has taken a while: a run that another version judged is judged again."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._stack = ExitStack()
        self._show: Callable[[int, int], None] | None = None

    def __enter__(self) -> _Looking:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def at(self, done: int, total: int) -> None:
        """So many of the runs have been looked at."""
        if self._show is None and time.monotonic() - self._start > _SLOW_S:
            self._show = self._begun()
        if self._show is not None:
            self._show(done, total)

    def _begun(self) -> Callable[[int, int], None]:
        text = "judging runs that another version judged"
        if sys.stderr is None or not sys.stderr.isatty():
            click.echo(f"{text} ...", err=True)
            return lambda done, total: None
        from rich.console import Console
        from rich.progress import Progress

        progress = self._stack.enter_context(Progress(console=Console(stderr=True), transient=True))
        task = progress.add_task(text)
        return lambda done, total: progress.update(task, completed=done, total=total)


def _is_installed(module: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(module) is not None


def _has_screen() -> bool:
    """Whether a browser would open in a window of its own; in a terminal it would take the terminal."""
    return sys.platform in {"win32", "darwin"} or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
