"""One stage after the other, in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from erasure.engine.executors.schedule import StageOrder
from erasure.errors import ErasureError, StoreError, foreign
from erasure.events import StageFailed, StageFinished, StageStarted
from erasure.stages.session import Session
from erasure.stages.stage import Stage, run_stage
from erasure.training.devices import give_back, warm_up

__all__ = ["attempt", "execute", "run_or_raise"]


class Others(Protocol):
    """Processes that take some of the stages."""

    def settle(self, *, wait: bool) -> None:
        """Note in the schedule which stages they have run; ``wait`` until there is something to note."""
        ...


def execute(
    stages: Mapping[str, Stage],
    session: Session,
    others: Callable[[StageOrder, Session], AbstractContextManager[Others | None]] = lambda *_: nullcontext(),
) -> dict[str, str]:
    """Run what the store lacks.

    A stage that fails takes down what depends on it and nothing else.

    Args:
        stages: What to run, each after what it requires.
        session: Where it runs.
        others: Who else takes stages, from the order in which they are run.

    Returns:
        Address to reason, for every stage that is not in the store afterwards.

    Raises:
        StoreError: If the store itself cannot be used.
    """
    schedule = StageOrder(stages)
    if len(session.store.contains_many(stages)) < len(stages):
        warm_up(session.device)
    with others(schedule, session) as them:
        while schedule.n_left:
            stage = schedule.take()
            if them is not None:
                them.settle(wait=stage is None)
            if stage is None:
                continue
            reason = attempt(stage, session, len(stages))
            if reason:
                schedule.fail(stage, reason)
            else:
                schedule.finish(stage)
    give_back()  # what the stages freed, before results are put together and drawn
    return schedule.failed


def run_or_raise(stage: Stage, session: Session, total: int = 0) -> None:
    """Run one stage and say so; what it raises goes on."""
    cached = session.store.contains(stage.address)
    start = time.perf_counter()
    if not cached:
        session.listener(StageStarted(name=stage.name, kind=stage.kind, address=stage.address))
    run_stage(session, stage)
    elapsed_s = time.perf_counter() - start
    session.listener(StageFinished(stage.name, stage.kind, stage.address, cached=cached, elapsed_s=elapsed_s, total=total))


def attempt(stage: Stage, session: Session, total: int = 0) -> str:
    """Run one stage; an empty string, or why it failed.

    Raises:
        StoreError: If the store itself cannot be used.
    """
    try:
        run_or_raise(stage, session, total)
    except StoreError:
        raise
    except Exception as error:
        reason = str(error).strip() if isinstance(error, ErasureError) else foreign(error)
        session.listener(StageFailed(stage.name, stage.kind, stage.address, reason=reason, total=total))
        return reason
    return ""
