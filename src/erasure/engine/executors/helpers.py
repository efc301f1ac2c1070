"""Models on all cores: while this process trains one, others train and run those that are ready.

Work is handed out whole: a single model, which may be large, several that go through each step together on one core, or the pass of models
over a partition. Of a stage that this process makes piece by piece, they make pieces. Which process does it does not show in the result:
all that a stage needs is in the store, and every process computes with as many threads as the run has.

What is timed comes first, and alone: methods, and the trainings that they are compared with.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import wait as wait_for
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import TypeAlias

from erasure.engine.executors.processes import Worker, take_messages
from erasure.engine.executors.schedule import StageOrder
from erasure.events import EpochFinished, Event, StageFailed, StageFinished, StageStarted
from erasure.stages.inference import RunModel
from erasure.stages.models import MakeModels
from erasure.stages.session import Session
from erasure.stages.stage import Stage
from erasure.stages.training import TrainModel
from erasure.stages.unlearning import UnlearnModel
from erasure.stages.worker_processes import context
from erasure.stages.worker_settings import WorkerSettings

__all__ = ["Helpers", "helped"]

WORTH_S = 20.0
"""Seconds of work left that are worth starting another process."""
ASK_S = 0.5
"""Seconds of work left that are worth asking one that is there."""
_LOOK_S = 0.5
"""How often it is looked whether another process is worth it; no model tells in the middle of an epoch."""
_TRAINED_TOGETHER = 0.2
"""Least seconds of a model that is trained with others, relative to one that is trained alone; ``benchmarks/ensemble.py`` measures it."""

_Work: TypeAlias = tuple[Stage, Path | None]
"""A stage; if it is one that this process runs, the folder in which its pieces are made."""


@contextmanager
def helped(schedule: StageOrder, session: Session) -> Iterator[Helpers | None]:
    """Processes that join in where ``session.cores`` allows it and enough is left to do; they end with the block."""
    if session.cores < 2 or session.device.type != "cpu" or session.options.devices > 1:
        yield None
        return
    helpers, listener = Helpers(schedule, session), session.listener
    session.listener, session.others = helpers.hear, helpers
    try:
        yield helpers
        helpers.settle(wait=False)
    finally:
        session.listener, session.others = listener, None
        helpers.stop()


class Helpers:
    """Processes that each train or run one model, or a block, after the other.

    A thread listens to them, so that one that is done is given the next at once, and starts them. Only the thread that runs the stages
    reads data and tells the listener.

    Args:
        schedule: The stages; those that others take are taken from it.
        session: That of this process.
    """

    def __init__(self, schedule: StageOrder, session: Session) -> None:
        self.schedule: StageOrder = schedule
        self.session: Session = session
        self._listener = session.listener
        there = session.store.contains_many(schedule.stages)
        missing = [stage for address, stage in schedule.stages.items() if address not in there]
        self._left = {stage.address: stage for stage in missing if isinstance(stage, (TrainModel, MakeModels, RunModel))}
        """What others may be given, if nobody has begun it."""
        methods = [stage for stage in missing if isinstance(stage, UnlearnModel)]
        timed = {address for stage in methods for address in (stage.address, stage.original, stage.gold)}
        self._alone = schedule.put_first(timed & set(schedule.stages))
        self._workers: list[Worker] = []
        self._starting: _Work | None = None
        self._said: deque[Event] = deque()
        self._broken: Exception | None = None
        self._running: Stage | None = None
        """What this process runs."""
        self._pieces: Path | None = None
        """Where others make pieces of it."""
        self._pieces_s = 0.0
        """Seconds of work on them when it was asked."""
        self._start: float | None = None
        """When that began; None as soon as it has ended."""
        self._first_s = 0.0
        """Seconds of its first epoch, in which libraries may be imported."""
        self._model_s: dict[tuple[str, bool], float] = {}
        """Least seconds of a model, by what is alike in data and recipe and whether it is trained with others."""
        self._is_one_piece: dict[str, bool] = {}
        """Whether one process is all that can work on a block, by its address, where that is known."""
        self._setup: bytes | None = None
        self._can_help = True
        self._thread: threading.Thread | None = None
        self._woken, self._wake = Pipe(duplex=False)

    def hear(self, event: Event) -> None:
        """Pass on an event of this process; a stage that begins, and each epoch, tell how much is left to do."""
        self._pass_on()
        self._listener(event)
        with self.schedule.changed:
            match event:
                case StageStarted(address=address):
                    if self._thread is None and self._can_help and self._left:
                        self._begin()
                    self._running, self._start = self.schedule.stages.get(address), time.perf_counter()
                    self._left.pop(address, None)
                case EpochFinished(epoch=1):
                    self._first_s = self._elapsed_s
                case EpochFinished(epoch=epoch, epochs=epochs):
                    self._note(self._first_s + (self._elapsed_s - self._first_s) / (epoch - 1) * (epochs - 1))
                case StageFinished(cached=False) | StageFailed():
                    self._start = None
                case _:
                    return
            if self._may_share():
                begins = isinstance(event, StageStarted) and isinstance(self._running, (TrainModel, MakeModels))
                if self._elapsed_s >= ASK_S or (begins and self._left_s(at_most=True) >= WORTH_S):
                    self._look_at_blocks()
                self._hand_out()

    def settle(self, *, wait: bool) -> None:
        """Pass on what the others said; ``wait`` until a stage is ready, or they said something.

        Raises:
            StoreError: If the store itself cannot be used.
        """
        with self.schedule.changed:
            while wait and self.schedule.n_left and not (self._broken or self._said or self.schedule.ready()):
                self.schedule.changed.wait(_LOOK_S)
            self._hand_out()
        self._pass_on()
        if self._broken is not None:
            raise self._broken

    def are_worth(self, seconds: float) -> bool:
        """Whether they are worth asking for so many seconds of work."""
        self._pieces_s = seconds
        return self._thread is not None and self._may_share() and seconds >= (ASK_S if self._workers else WORTH_S)

    @contextmanager
    def invited(self, address: str, folder: Path) -> Iterator[None]:
        """They make pieces of the stage that runs here meanwhile; at the end of the block none of them does any more."""
        running = self._running
        if running is None or running.address != address:
            yield
            return
        with self.schedule.changed:
            self._pieces = folder
            self._hand_out()
        try:
            yield
            with self.schedule.changed:
                self._pieces = None
                while self._broken is None and self._is_joined(running):
                    self.schedule.changed.wait(_LOOK_S)
        finally:
            self._pieces = None

    def stop(self) -> None:
        """End the processes, whatever they are doing."""
        self._can_help = False
        self._wake.close()
        if self._thread is not None:
            self._thread.join()
        for worker in self._workers:
            worker.stop()
        self._workers.clear()
        self._woken.close()

    def _is_joined(self, running: Stage) -> bool:
        starting = self._starting is not None and self._starting[0] is running
        return starting or any(worker.stage is running for worker in self._workers)

    def _pass_on(self) -> None:
        while self._said:
            self._listener(self._said.popleft())

    @property
    def _elapsed_s(self) -> float:
        return 0.0 if self._start is None else time.perf_counter() - self._start

    def _note(self, seconds: float, *, at_least: bool = False) -> None:
        """The training that runs here takes so long."""
        stage = self._running
        if isinstance(stage, TrainModel) or (isinstance(stage, MakeModels) and stage.unlearner is None and self._is_whole(stage)):
            n_models = stage.n_pieces if isinstance(stage, MakeModels) else 1
            key = (stage.data.similarity_key, n_models > 1)
            self._model_s[key] = max(seconds / n_models, self._model_s.get(key, 0.0) if at_least else 0.0)

    def _seconds(self, stage: Stage, *, at_most: bool) -> float:
        """Seconds that a training will take, as far as that is known: at least, or at most."""
        alone_s = self._model_s.get((stage.data.similarity_key, False), 0.0)
        if not isinstance(stage, MakeModels) or stage.unlearner is not None:
            return alone_s if isinstance(stage, TrainModel) else 0.0
        is_together = stage.n_pieces > 1 and self._is_one_piece.get(stage.address, not at_most)
        together_s = self._model_s.get((stage.data.similarity_key, True), _TRAINED_TOGETHER * alone_s)
        return stage.n_pieces * (together_s if is_together else alone_s)

    def _left_s(self, *, at_most: bool = False) -> float:
        """Seconds of the trainings that are ready, and what is left of the one that runs here."""
        here_s = 0.0
        if self._running is not None and self._start is not None:
            self._note(self._elapsed_s, at_least=True)
            here_s = max(0.0, self._seconds(self._running, at_most=at_most) - self._elapsed_s)
        return here_s + sum(
            self._seconds(stage, at_most=at_most) for stage in self.schedule.ready() if stage.address in self._left
        )

    def _look_at_blocks(self) -> None:
        for stage in (*self.schedule.ready(), self._running):
            if isinstance(stage, MakeModels) and stage.address not in self._is_one_piece:
                try:
                    self._is_one_piece[stage.address] = stage.is_one_piece(self.session)
                except Exception:  # said when it is its turn
                    self._is_one_piece[stage.address] = False

    def _is_whole(self, stage: Stage) -> bool:
        """Whether a stage is better left to one process than made in pieces by all."""
        if isinstance(stage, RunModel):
            return self._is_one_piece.get(stage.model, True)
        return not isinstance(stage, MakeModels) or stage.n_pieces == 1 or self._is_one_piece.get(stage.address, False)

    def _may_share(self) -> bool:
        """Whether what runs here leaves the other cores to others."""
        return self._can_help and self._running is not None and self._running.address not in self._alone

    def _next(self, worker: Worker | None = None) -> _Work | None:
        """What another process does next: pieces, else a training, since passes fill what is left at the end."""
        if not self._may_share():
            return None
        if self._running is not None and self._pieces is not None and (worker is None or worker.folder != self._pieces):
            return self._running, self._pieces
        ready = [stage for stage in self.schedule.ready() if stage.address in self._left and self._is_whole(stage)]
        if not ready:
            return None
        stage = min(ready, key=lambda stage: isinstance(stage, RunModel))
        self.schedule.take_this(stage)
        del self._left[stage.address]
        return stage, None

    def _hand_out(self) -> None:
        """Give those that are idle the next."""
        for worker in self._workers:
            if worker.stage is None and (work := self._next(worker)) is not None:
                worker.send(*work)

    def _begin(self) -> None:
        """Listen to the others from now on; they are started when they are worth it."""
        try:
            what = (WorkerSettings.of(self.session), self._left, len(self.schedule.stages))
            self._setup = bytes(ForkingPickler.dumps(what))
        except Exception:  # something of the caller's own, which only this process knows
            self._can_help = False
            return
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        """The thread."""
        if hasattr(signal, "pthread_sigmask"):  # the server of processes would tell of an interrupt while it imports
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            while not self._woken.poll():
                self._look()
        except Exception as error:  # the thread that runs the stages raises it
            self._broken = error

    def _look(self) -> None:
        """Hear what others say, give them the next, and start those that are worth it; then wait for news."""
        with self.schedule.changed:
            for worker in list(self._workers):
                stage = worker.stage
                if stage is not None and not take_messages(worker, stage, self.schedule, self._said.append):
                    self._workers.remove(worker)
                    worker.stop()
                    self._lose(stage, worker.folder)
            self._hand_out()
            is_wanted = self._left or isinstance(self._running, MakeModels)
            idle = [] if is_wanted else [worker for worker in self._workers if worker.stage is None]
            self._workers = [worker for worker in self._workers if worker not in idle]
            has_room = self._may_share() and len(self._workers) < self.session.cores - 1
            is_worth_it = has_room and max(self._left_s(), self._pieces_s if self._pieces is not None else 0.0) >= WORTH_S
            self._starting = self._next() if is_worth_it else None
            ends = [end for worker in self._workers for end in (worker.connection, worker.process.sentinel)]
            self.schedule.changed.notify_all()
        for worker in idle:
            worker.stop()
        if self._starting is not None:
            self._start_with(*self._starting)
        else:
            wait_for([self._woken, *ends], _LOOK_S)

    def _lose(self, stage: Stage, folder: Path | None) -> None:
        """It may need more memory than there is for two: this process makes what is left."""
        self._can_help = False
        if folder is None:
            self.schedule.put_back(stage)

    def _start_with(self, stage: Stage, folder: Path | None) -> None:
        """Start another; nobody waits while it imports."""
        assert self._setup is not None  # noqa: S101 - the thread runs
        worker = Worker(self._setup, context("cpu", (__name__,)))
        try:
            worker.start()
        except (OSError, EOFError):
            self._lose(stage, folder)
        else:
            worker.send(stage, folder)
            with self.schedule.changed:
                self._workers.append(worker)
        self._starting = None
