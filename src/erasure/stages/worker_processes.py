"""How processes that work for a run are started: forked from one that has imported the libraries, where that is safe."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from erasure.stages.spawning import few_threads

__all__ = ["STAGE_WORKERS", "as_in", "begin", "context", "without_script"]

STAGE_WORKERS = ("erasure.engine.executors.processes",)
"""What workers import that run whole stages."""
_NVIDIA = Path("/dev/nvidiactl")


def begin(device: str) -> None:
    """Start the server of workers that run whole stages now, so that it imports the libraries while the caller does, on another core.

    Nothing happens where :func:`context` may start no server. One that nobody asks for a process ends with this process.

    Args:
        device: Name of the device that they will use, as in the options of a run.
    """
    if sys.platform != "linux" or not (device == "cpu" or (device == "auto" and not _NVIDIA.exists())):
        return
    from multiprocessing import forkserver, resource_tracker

    forkserver.set_forkserver_preload(list(STAGE_WORKERS))
    resource_tracker.ensure_running()  # otherwise the server starts it, which lets interrupts through again
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with few_threads():
            forkserver.ensure_running()  # which would tell of an interrupt while it imports
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def context(device: str, modules: tuple[str, ...]) -> Any:
    """How :mod:`multiprocessing` starts the processes of a run.

    On Linux they are forks of a server, a process of its own that imports the libraries once, has a single thread, and ends with this
    process: the second worker, one that replaces another, and the processes of the next training start in milliseconds. CUDA cannot be
    used after a fork, and a library of another system may not bear one: there each process is a new interpreter.

    Args:
        device: Type of the device that they will use.
        modules: What the server imports when it starts.
    """
    if sys.platform != "linux" or device != "cpu":
        return multiprocessing.get_context("spawn")
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(list(modules))
    return found


@contextlib.contextmanager
def without_script(setup: bytes) -> Iterator[None]:
    """Processes that are started meanwhile do not run the caller's script, which would start its run once more.

    Args:
        setup: What they are sent, pickled; where it has something of the script, they have to run it.
    """
    main = sys.modules["__main__"]
    if b"__main__" in setup:
        yield
        return
    hidden: dict[str, Any] = {name: vars(main).pop(name) for name in ("__file__", "__spec__") if name in vars(main)}
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update(hidden)


def as_in(environment: Mapping[str, str]) -> None:
    """Make the environment that of the process which asked for this one: a server has that of the moment when it was started."""
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    os.environ.update(environment)
