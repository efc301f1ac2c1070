"""Which stage can run next, and what a failure takes with it."""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from erasure.stages.stage import Stage

__all__ = ["StageOrder"]


class StageOrder:
    """The stages of a plan in an order that respects what they require; among those that are ready, the plan's.

    Args:
        stages: Stage by address, each after what it requires.
    """

    def __init__(self, stages: Mapping[str, Stage]) -> None:
        self.stages = stages
        self.failed: dict[str, str] = {}
        self._number = {address: number for number, address in enumerate(stages)}
        self._missing = {address: {r for r in stage.requires if r in stages} for address, stage in stages.items()}
        self._dependents: dict[str, list[str]] = {address: [] for address in stages}
        for address, missing in self._missing.items():
            for required in missing:
                self._dependents[required].append(address)
        self._ready = [(self._number[address], address) for address, missing in self._missing.items() if not missing]
        heapq.heapify(self._ready)
        self.n_left: int = len(stages)

    def take(self) -> Stage | None:
        """The next stage that is ready, or None if none is at the moment."""
        return self.stages[heapq.heappop(self._ready)[1]] if self._ready else None

    def ready(self) -> list[Stage]:
        """The stages that are ready, in the plan's order."""
        return [self.stages[address] for _, address in sorted(self._ready)]

    def take_this(self, stage: Stage) -> None:
        """Take one that is ready."""
        self._ready.remove((self._number[stage.address], stage.address))
        heapq.heapify(self._ready)

    def put_back(self, stage: Stage) -> None:
        """The stage was taken but has not been run."""
        heapq.heappush(self._ready, (self._number[stage.address], stage.address))

    def finish(self, stage: Stage) -> None:
        """The stage is in the store."""
        self.n_left -= 1
        for address in self._dependents[stage.address]:
            self._missing[address].discard(stage.address)
            if not self._missing[address] and address not in self.failed:
                heapq.heappush(self._ready, (self._number[address], address))

    def fail(self, stage: Stage, reason: str) -> None:
        """The stage cannot be computed; neither can what depends on it, for the same reason."""
        waiting = [stage.address]
        while waiting:
            address = waiting.pop()
            if address not in self.failed:
                self.failed[address] = reason
                self.n_left -= 1
                waiting += self._dependents[address]
