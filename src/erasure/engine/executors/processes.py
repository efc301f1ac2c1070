"""A fixed pool of worker processes on this machine, each with its share of the cores.

Workers take one stage at a time and publish it in the store themselves; only names, events and reasons travel between processes. A worker
that dies is replaced and its stage is tried again. Workers end when this process does, however it ends.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from erasure.engine.executors import serial
from erasure.engine.executors.schedule import StageOrder
from erasure.errors import ErasureError, RequirementNotMet, StoreError
from erasure.events import Event, Listener, StageFailed, ignore_events
from erasure.stages.session import Session
from erasure.stages.side_by_side import make_what_is_left
from erasure.stages.spawning import few_threads
from erasure.stages.stage import Stage
from erasure.stages.worker_processes import STAGE_WORKERS, as_in, context, without_script
from erasure.stages.worker_settings import WorkerSettings

__all__ = ["Execute", "Worker", "executing", "take_messages"]

Execute: TypeAlias = Callable[[], dict[str, str]]
"""Runs the stages; address to reason of those that failed."""

MAX_DEATHS = 3
"""A stage that has cost this many workers their life is given up."""


@contextlib.contextmanager
def executing(stages: Mapping[str, Stage], session: Session, workers: int) -> Iterator[Execute]:
    """Processes that run what the store lacks; they start at once, while the caller has other things to do.

    Yields:
        A function that runs the stages and returns address to reason, for every stage that is not in the store afterwards. It raises
        :class:`~erasure.errors.StoreError` if the store itself cannot be used.

    Raises:
        RequirementNotMet: If the stages cannot be sent to other processes.
    """
    with _pool(stages, session, workers) as pool:
        yield lambda: _execute(stages, session, pool)


def _execute(stages: Mapping[str, Stage], session: Session, pool: list[Worker]) -> dict[str, str]:
    schedule, deaths, total = StageOrder(stages), Counter[str](), len(stages)
    while schedule.n_left:
        _hand_out(schedule, session, pool)
        busy = [worker for worker in pool if worker.stage is not None]
        if not busy:
            continue
        ready = wait([end for worker in busy for end in (worker.connection, worker.process.sentinel)])
        for worker in busy:
            if worker.connection in ready or worker.process.sentinel in ready:
                _on_message(worker, schedule, session, deaths, total)
    return schedule.failed


def _hand_out(schedule: StageOrder, session: Session, pool: list[Worker]) -> None:
    """Give idle workers something to do; what the store has is only looked at, here."""
    idle = [worker for worker in pool if worker.stage is None]
    while (stage := schedule.take()) is not None:
        if session.store.contains(stage.address):
            reason = serial.attempt(stage, session, len(schedule.stages))
            if reason:
                schedule.fail(stage, reason)
            else:
                schedule.finish(stage)
        elif idle:
            idle.pop().send(stage)
        else:
            schedule.put_back(stage)
            return


def _on_message(worker: Worker, schedule: StageOrder, session: Session, deaths: Counter[str], total: int) -> None:
    """Take what a worker says, or replace it if it has died."""
    stage = worker.stage
    assert stage is not None  # noqa: S101 - it is busy
    if take_messages(worker, stage, schedule, session.listener):
        return
    code = worker.restart()
    deaths[stage.address] += 1
    if deaths[stage.address] < MAX_DEATHS:
        schedule.put_back(stage)
        return
    how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    reason = f"the worker process died {MAX_DEATHS} times in {stage.name} ({how}); it may need more memory than there is"
    session.listener(StageFailed(stage.name, stage.kind, stage.address, reason=reason, total=total))
    schedule.fail(stage, reason)


def take_messages(worker: Worker, stage: Stage, schedule: StageOrder, listener: Listener) -> bool:
    """Take what a worker says of its stage; False if it has died.

    Raises:
        StoreError: If the store itself cannot be used.
    """
    try:
        while worker.connection.poll():
            word, said = worker.connection.recv()
            if word == "event":
                listener(said)
                continue
            if word == "broken":
                raise StoreError(said)
            worker.stage = None
            if word == "joined":
                return True
            if said:
                schedule.fail(stage, said)
            else:
                schedule.finish(stage)
            return True
        if worker.process.is_alive():
            return True
    except (EOFError, OSError):
        pass
    return False


@dataclass(eq=False)
class Worker:
    """A process and the stage it is working on.

    Args:
        setup: Settings of its session, the stages that it may be sent, and how many the plan has, pickled.
        context: How processes are started.
    """

    setup: bytes
    context: Any
    process: Any = None
    connection: Any = None
    stage: Stage | None = None
    folder: Path | None = None
    """Where it makes pieces of the stage, if another process runs that, or made them last."""
    knows_setup: bool = False

    def start(self) -> None:
        """Start the process; it imports, and waits to be sent a stage."""
        self.connection, theirs = self.context.Pipe()
        self.knows_setup = False
        with few_threads(), without_script(self.setup):
            self.process = self.context.Process(target=_serve, args=(theirs, dict(os.environ)), daemon=True)
            self.process.start()
        theirs.close()

    def send(self, stage: Stage, folder: Path | None = None) -> None:
        """Have it run a stage; with a folder, make pieces of it there that nobody else has taken."""
        self.stage, self.folder = stage, folder
        with contextlib.suppress(OSError):  # it has died: its sentinel says so
            if not self.knows_setup:  # not when it starts: who writes so much waits until the other has imported everything
                self.connection.send_bytes(self.setup)
                self.knows_setup = True
            self.connection.send((stage.address, folder))

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        with contextlib.suppress(OSError):
            self.connection.close()
        if self.process.is_alive():
            self.process.terminate()
            self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    def restart(self) -> int | None:
        """Replace a process that has died; its exit code."""
        self.process.join(5)
        code: int | None = self.process.exitcode
        self.stop()
        self.stage = None
        self.start()
        return code


@contextlib.contextmanager
def _pool(stages: Mapping[str, Stage], session: Session, workers: int) -> Iterator[list[Worker]]:
    missing = len(stages) - len(session.store.contains_many(stages))
    if not missing:
        yield []
        return
    try:
        setup = bytes(ForkingPickler.dumps((WorkerSettings.of(session), dict(stages), len(stages))))
    except Exception as error:
        raise RequirementNotMet(
            f"this experiment holds something that cannot be sent to another process ({error}); run it with the serial executor"
        ) from error
    how = context(session.device.type, STAGE_WORKERS)
    pool = [Worker(setup, how) for _ in range(max(1, min(workers, missing)))]
    try:
        for worker in pool:
            worker.start()
        yield pool
    finally:
        for worker in pool:
            if worker.process is not None:
                worker.stop()


def _serve(connection: Connection, environment: Mapping[str, str]) -> None:
    """A worker: runs the stages it is told until nobody tells it any more."""
    as_in(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the workers
    signal.signal(signal.SIGTERM, _end)  # so that what is half written is cleaned up
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        settings, stages, total = connection.recv()
    except (EOFError, OSError):
        return

    def emit(event: Event) -> None:
        try:
            connection.send(("event", event))
        except OSError:  # the parent is gone, and nobody wants the rest of the stage
            raise SystemExit from None

    session = settings.session(emit)
    while True:
        try:
            address, folder = connection.recv()
        except (EOFError, OSError):
            return
        try:
            if folder is None:
                answer = ("done", serial.attempt(stages[address], session, total))
            else:
                _join(session, stages[address], folder)
                answer = ("joined", "")
        except ErasureError as error:
            answer = ("broken", str(error))
        try:
            connection.send(answer)
        except OSError:
            return


def _end_with_parent() -> None:
    """A thread: nobody wants the rest of the stage once the parent is gone, however it went."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _join(session: Session, stage: Any, folder: Path) -> None:
    """Make pieces of a stage that another process runs; that one makes what fails here, and says what is wrong."""
    listener, session.listener = session.listener, ignore_events
    try:
        with contextlib.suppress(Exception):
            make_what_is_left(session, stage, folder)
    finally:
        session.listener = listener


def _end(signum: int, frame: object) -> NoReturn:
    raise SystemExit
