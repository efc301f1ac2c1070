"""Models that are made one by one, on all cores: the last tells how long one takes, and where it is worth it others join in.

Who makes a model does not show in it: each has seeds of its own, and every process computes with as many threads as the run has.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, NoReturn, Protocol

from torch import nn

from erasure.events import Event
from erasure.stages.data_spec import DataSpec
from erasure.stages.session import Session
from erasure.stages.spawning import few_threads
from erasure.stages.worker_processes import as_in, context, without_script
from erasure.stages.worker_settings import WorkerSettings

__all__ = ["ModelMaker", "made_side_by_side"]

WORTH_S = 20.0
"""Seconds of work left that are worth starting another process."""


class ModelMaker(Protocol):
    """How models of one architecture are made, each by itself; sent to other processes where it can be."""

    @property
    def data(self) -> DataSpec:
        """The data they are made from."""
        ...

    def __len__(self) -> int:
        """How many there are."""
        ...

    def make(self, session: Session, number: int) -> nn.Module:
        """Make one of them, now and in this process."""
        ...


def made_side_by_side(session: Session, recipe: ModelMaker) -> Iterator[nn.Module]:
    """Models in their order, one at a time.

    Processes join in where ``session.cores`` allows it and enough is left to do. A model that one of them could not make, for whatever
    reason, is made here.

    Raises:
        What the recipe raises.
    """
    n_made, model_s = 0, 0.0
    while n_made == 0 or not (n_others := _n_others(session, len(recipe) - n_made, model_s)):
        if n_made == len(recipe):
            return
        start = time.perf_counter()
        model = recipe.make(session, n_made)
        n_made, model_s = n_made + 1, time.perf_counter() - start
        yield model
    with tempfile.TemporaryDirectory(prefix="erasure-") as folder:
        for number in range(n_made):
            _taken(Path(folder), number).touch()
        with _helpers((WorkerSettings.of(session), recipe), Path(folder), n_others) as others:
            _make_what_is_left(session, recipe, Path(folder))
            for process, _ in others:
                process.join()
        for number in range(n_made, len(recipe)):
            yield _collected(session, recipe, number, _file(Path(folder), number))


def _n_others(session: Session, n_left: int, model_s: float) -> int:
    """How many processes it is worth starting; cores may have become free since the last model."""
    is_worth_it = session.device.type == "cpu" and n_left * model_s >= WORTH_S
    return max(0, min(session.cores - 1, n_left - 1)) if is_worth_it else 0


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number}.safetensors"


def _taken(folder: Path, number: int) -> Path:
    return folder / f"{number}.taken"


def _collected(session: Session, recipe: ModelMaker, number: int, file: Path) -> nn.Module:
    from safetensors.torch import load_file

    if not file.exists():
        return recipe.make(session, number)
    model = session.blank(recipe.data)
    model.load_state_dict(load_file(file))
    file.unlink()
    return model.eval()


def _make_what_is_left(session: Session, recipe: ModelMaker, folder: Path, go_on: Callable[[], object] = lambda: None) -> None:
    """Make model after model that nobody else has taken, and leave its weights in the folder."""
    from safetensors.torch import save_file

    for number in range(1, len(recipe)):
        go_on()
        try:
            os.close(os.open(_taken(folder, number), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            continue
        model = recipe.make(session, number)
        # Tensors that share memory are stored once for each name.
        weights = {name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()}
        save_file(weights, folder / f"{number}.part")
        (folder / f"{number}.part").rename(_file(folder, number))


@contextlib.contextmanager
def _helpers(arguments: Any, folder: Path, n: int) -> Iterator[list[tuple[Any, Connection]]]:
    """Processes that make what is left, none if the experiment cannot be sent to another; they end with this one."""
    try:
        setup = bytes(ForkingPickler.dumps(arguments))
    except Exception:  # something of the caller's own, which only this process knows
        yield []
        return
    how = context("cpu", (__name__,))
    others: list[tuple[Any, Connection]] = []
    try:
        for _ in range(n):
            mine, theirs = how.Pipe()
            with few_threads(), without_script(setup):
                process = how.Process(target=_help, args=(theirs, dict(os.environ), folder), daemon=True)
                process.start()
            theirs.close()
            others.append((process, mine))
            with contextlib.suppress(OSError):  # it has died, and is not missed
                mine.send_bytes(setup)
        yield others
    finally:
        for process, mine in others:
            mine.close()
            if process.is_alive():
                process.terminate()
            process.join()


def _help(connection: Connection, environment: Mapping[str, str], folder: Path) -> None:
    """In a process: make what is left, as long as somebody waits for it."""
    as_in(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    signal.signal(signal.SIGTERM, _end)

    def check(event: Event | None = None) -> None:
        if connection.poll():  # nothing is ever sent: the other end is closed
            raise SystemExit

    with contextlib.suppress(Exception):  # the parent tries again, and says what is wrong
        settings, recipe = connection.recv()
        _make_what_is_left(settings.session(check), recipe, folder, check)


def _end(signum: int, frame: object) -> NoReturn:
    raise SystemExit
