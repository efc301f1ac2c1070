"""Models that are trained one by one, on all cores: the first tells how long one takes, and where it is worth it others join in.

Who trains a model does not show in it: each has seeds of its own, and every process computes with as many threads as the run has.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from erasure.errors import ErasureError
from erasure.events import Event
from erasure.stages.data_spec import DataSpec
from erasure.stages.session import Session
from erasure.stages.spawning import few_threads
from erasure.stages.worker_processes import as_in, context
from erasure.stages.worker_settings import WorkerSettings

__all__ = ["trained_side_by_side"]

WORTH_S = 20.0
"""Seconds of training left that are worth starting another process."""


def trained_side_by_side(session: Session, data: DataSpec, ids: Sequence[Tensor], seeds: Sequence[int]) -> Iterator[nn.Module]:
    """Train models by the recipe, each on its own samples; they come in their order, one at a time.

    Processes join in where ``session.cores`` allows it and enough is left to do. A model that one of them could not train, for whatever
    reason, is trained here.

    Raises:
        What the training raises.
    """
    start = time.perf_counter()
    yield session.trained(data, ids[0], seeds[0])
    left = (len(seeds) - 1) * (time.perf_counter() - start)
    n_others = min(session.cores - 1, len(seeds) - 2)
    if n_others < 1 or left < WORTH_S or session.device.type != "cpu":
        yield from (session.trained(data, own, seed) for own, seed in zip(ids[1:], seeds[1:], strict=True))
        return
    with tempfile.TemporaryDirectory(prefix="erasure-") as folder:
        with _helpers(
            (WorkerSettings.of(session), data, [own.numpy() for own in ids], list(seeds)), Path(folder), n_others
        ) as others:
            _train_what_is_left(session, data, ids, seeds, Path(folder))
            for process, _ in others:
                process.join()
        for number in range(1, len(seeds)):
            yield _collected(session, data, ids[number], seeds[number], _file(Path(folder), number))


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number}.safetensors"


def _collected(session: Session, data: DataSpec, ids: Tensor, seed: int, file: Path) -> nn.Module:
    from safetensors.torch import load_file

    if not file.exists():
        return session.trained(data, ids, seed)
    model = session.blank(data)
    model.load_state_dict(load_file(file))
    file.unlink()
    return model.eval()


def _train_what_is_left(session: Session, data: DataSpec, ids: Sequence[Tensor], seeds: Sequence[int], folder: Path) -> None:
    """Train model after model that nobody else has taken, and leave its weights in the folder."""
    from safetensors.torch import save_file

    for number in range(1, len(seeds)):
        try:
            os.close(os.open(folder / f"{number}.taken", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            continue
        model = session.trained(data, ids[number], seeds[number])
        # Tensors that share memory are stored once for each name.
        weights = {name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()}
        save_file(weights, folder / f"{number}.part")
        (folder / f"{number}.part").rename(_file(folder, number))


@contextlib.contextmanager
def _helpers(arguments: Any, folder: Path, n: int) -> Iterator[list[tuple[Any, Connection]]]:
    """Processes that train what is left, none if the experiment cannot be sent to another; they end with this one."""
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
            with few_threads():
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
    """In a process: train what is left, as long as somebody waits for it."""
    as_in(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    signal.signal(signal.SIGTERM, _end)

    def check(event: Event) -> None:
        if connection.poll():  # nothing is ever sent: the other end is closed
            raise SystemExit

    with contextlib.suppress(EOFError, OSError, ErasureError):  # the parent tries again, and says what is wrong
        settings, data, ids, seeds = connection.recv()
        _train_what_is_left(settings.session(check), data, [torch.from_numpy(own) for own in ids], seeds, folder)


def _end(signum: int, frame: object) -> NoReturn:
    raise SystemExit
