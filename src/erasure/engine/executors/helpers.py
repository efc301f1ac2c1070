"""Blocks of models on all cores: while this process trains one, others train those that are ready.

Such a block is a single model, which may be large, or several that go through each step together, on one core. Which process trains it does
not show in it: all that a stage needs is in the store, and every process computes with as many threads as the run has.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait as wait_for
from multiprocessing.reduction import ForkingPickler

from erasure.engine.executors.processes import Worker, hear
from erasure.engine.executors.schedule import StageOrder
from erasure.errors import ErasureError
from erasure.events import EpochFinished, Event, StageStarted
from erasure.stages.models import MakeModels
from erasure.stages.session import Session
from erasure.stages.side_by_side import WORTH_S
from erasure.stages.stage import Stage
from erasure.stages.worker_processes import context
from erasure.stages.worker_settings import WorkerSettings

__all__ = ["Helpers", "helped"]


@contextmanager
def helped(schedule: StageOrder, session: Session) -> Iterator[Helpers | None]:
    """Processes that join in where ``session.cores`` allows it and enough is left to do; they end with the block."""
    if session.cores < 2 or session.device.type != "cpu":
        yield None
        return
    listener, cores = session.listener, session.cores
    helpers = Helpers(schedule, session)
    session.listener = helpers.hear
    try:
        yield helpers
    finally:
        session.listener, session.cores = listener, cores
        helpers.stop()


class Helpers:
    """Processes that each train one block, and end.

    Args:
        schedule: The stages; those that others take are taken from it.
        session: That of this process; it has a core less for each of them while it works.
    """

    def __init__(self, schedule: StageOrder, session: Session) -> None:
        self.schedule: StageOrder = schedule
        self.session: Session = session
        self._listener = session.listener
        self._workers: list[Worker] = []
        self._running: Stage | None = None
        """What this process runs."""
        self._pieces: dict[str, bool] = {}
        """Whether one process is all that can work on a block, by its address."""
        self._start = 0.0
        self._can_help = True

    def hear(self, event: Event) -> None:
        """Pass on an event of this process; each epoch tells how long the blocks will take."""
        self._listener(event)
        if isinstance(event, StageStarted):
            self._running, self._start = self.schedule.stages.get(event.address), time.perf_counter()
        elif isinstance(event, EpochFinished):
            self.settle(wait=False)
            if self._can_help and self.session.cores > 1:
                for stage in self._worth_it(event)[: self.session.cores - 1]:
                    self._hand_out(stage)

    def settle(self, *, wait: bool) -> None:
        """Note which blocks are trained; ``wait`` until there is something to note.

        Raises:
            StoreError: If the store itself cannot be used.
        """
        if wait and self._workers:
            wait_for([end for worker in self._workers for end in (worker.connection, worker.process.sentinel)])
        for worker in list(self._workers):
            stage = worker.stage
            assert stage is not None  # noqa: S101 - it has one as long as it is in the list
            lives = hear(worker, stage, self.schedule, self._listener)
            if lives and worker.stage is not None:
                continue
            if not lives:  # it may need more memory than there is for two: this process makes what is left
                self._can_help = False
                self.schedule.put_back(stage)
            self._workers.remove(worker)
            self.session.cores += 1
            worker.stop()

    def stop(self) -> None:
        """End the processes, whatever they are doing."""
        for worker in self._workers:
            worker.stop()
        self._workers.clear()

    def _worth_it(self, event: EpochFinished) -> list[Stage]:
        """Blocks that others may train, if an epoch of the one that is trained here shows that it is worth it."""
        running, contains = self._running, self.session.store.contains
        if not isinstance(running, MakeModels):
            return []
        ready = [stage for stage in self.schedule.ready() if isinstance(stage, MakeModels) and not contains(stage.address)]
        n_alike = sum(stage.signature == running.signature for stage in ready)
        epoch_s = (time.perf_counter() - self._start) / event.epoch
        left_s = epoch_s * (event.epochs - event.epoch + n_alike * event.epochs)
        if not ready or left_s < WORTH_S or not self._is_one_piece(running):
            return []
        return [stage for stage in ready if self._is_one_piece(stage)]

    def _is_one_piece(self, stage: MakeModels) -> bool:
        if stage.address not in self._pieces:
            try:
                self._pieces[stage.address] = stage.is_one_piece(self.session)
            except ErasureError:  # said when it is its turn
                self._pieces[stage.address] = False
        return self._pieces[stage.address]

    def _hand_out(self, stage: Stage) -> None:
        try:
            setup = bytes(ForkingPickler.dumps((WorkerSettings.of(self.session), {stage.address: stage})))
        except Exception:  # something of the caller's own, which only this process knows
            self._can_help = False
            return
        worker = Worker(setup, context("cpu", (__name__,)))
        worker.start()
        self.schedule.take_this(stage)
        self._workers.append(worker)
        self.session.cores -= 1
        worker.send(stage)
