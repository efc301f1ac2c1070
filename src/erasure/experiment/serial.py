"""The serial executor: one stage after the other, in this process."""

from __future__ import annotations

import time

from erasure.errors import ErasureError, StoreError
from erasure.events import StageFailed, StageFinished, StageStarted
from erasure.experiment.bench import Workbench
from erasure.experiment.plan import Plan, Stage

__all__ = ["execute", "run_or_raise"]


def execute(plan: Plan, bench: Workbench) -> dict[str, str]:
    """Run what the store lacks.

    A stage that fails takes down what depends on it and nothing else.

    Returns:
        Address to reason, for every stage that is not in the store afterwards.

    Raises:
        StoreError: If the store itself cannot be used.
    """
    failed: dict[str, str] = {}
    for stage in plan.stages.values():
        blocked = next((address for address in stage.requires if address in failed), None)
        if blocked is not None:
            reason = failed[blocked]
            failed[stage.address] = reason
            continue
        reason = _run(stage, bench, len(plan.stages))
        if reason:
            failed[stage.address] = reason
    return failed


def run_or_raise(stage: Stage, bench: Workbench, total: int = 0) -> None:
    """Run one stage and say so; what it raises goes on."""
    cached = bench.store.contains(stage.address)
    start = time.perf_counter()
    if not cached:
        bench.listener(StageStarted(name=stage.name, kind=stage.kind, address=stage.address))
    bench.run(stage)
    elapsed_s = time.perf_counter() - start
    finished = StageFinished(stage.name, stage.kind, stage.address, cached=cached, elapsed_s=elapsed_s, total=total)
    bench.listener(finished)


def _run(stage: Stage, bench: Workbench, total: int) -> str:
    """Run one stage; an empty string, or why it failed."""
    try:
        run_or_raise(stage, bench, total)
    except StoreError:
        raise
    except Exception as error:
        said = str(error).strip() or type(error).__name__
        reason = said if isinstance(error, ErasureError) else f"{type(error).__name__} in {stage.name}: {said}"
        bench.listener(StageFailed(stage.name, stage.kind, stage.address, reason=reason, total=total))
        return reason
    return ""
