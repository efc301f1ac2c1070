"""Which stage can run next, and what a failure takes with it."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Iterable, Mapping

from erasure.stages.stage import Stage

__all__ = ["StageOrder"]


class StageOrder:
    """The stages of a plan in an order that respects what they require; among those that are ready, the plan's.

    Threads may share one: ``changed`` is held while it changes, and tells of it.

    Args:
        stages: Stage by address, each after what it requires.
    """

    def __init__(self, stages: Mapping[str, Stage]) -> None:
        self.stages = stages
        self.changed: threading.Condition = threading.Condition()
        self.failed: dict[str, str] = {}
        self._cause: dict[str, int] = {}
        """Number of the stage whose failure took it down: of several the first, whichever ended first."""
        self._first: frozenset[str] = frozenset()
        self._number = {address: number for number, address in enumerate(stages)}
        self._missing = {address: {r for r in stage.requires if r in stages} for address, stage in stages.items()}
        self._dependents: dict[str, list[str]] = {address: [] for address in stages}
        for address, missing in self._missing.items():
            for required in missing:
                self._dependents[required].append(address)
        self._ready = [self._entry(address) for address, missing in self._missing.items() if not missing]
        heapq.heapify(self._ready)
        self.n_left: int = len(stages)

    def put_first(self, addresses: Iterable[str]) -> frozenset[str]:
        """Run these, and what they require, before all others; before anything is taken. All that come first."""
        first = set(addresses)
        for address in reversed(list(self.stages)):
            if address in first:
                first |= self._missing[address]
        self._first = frozenset(first)
        self._ready = [self._entry(address) for *_, address in self._ready]
        heapq.heapify(self._ready)
        return self._first

    def _entry(self, address: str) -> tuple[bool, int, str]:
        """Entries that are smaller are taken sooner."""
        return address not in self._first, self._number[address], address

    def take(self) -> Stage | None:
        """The next stage that is ready, or None if none is at the moment."""
        with self.changed:
            return self.stages[heapq.heappop(self._ready)[-1]] if self._ready else None

    def ready(self) -> list[Stage]:
        """The stages that are ready, in the order in which they will be taken."""
        with self.changed:
            return [self.stages[address] for *_, address in sorted(self._ready)]

    def take_this(self, stage: Stage) -> None:
        """Take one that is ready."""
        with self.changed:
            self._ready.remove(self._entry(stage.address))
            heapq.heapify(self._ready)

    def put_back(self, stage: Stage) -> None:
        """The stage was taken but has not been run."""
        with self.changed:
            heapq.heappush(self._ready, self._entry(stage.address))
            self.changed.notify_all()

    def finish(self, stage: Stage) -> None:
        """The stage is in the store."""
        with self.changed:
            self.n_left -= 1
            for address in self._dependents[stage.address]:
                self._missing[address].discard(stage.address)
                if not self._missing[address] and address not in self.failed:
                    heapq.heappush(self._ready, self._entry(address))
            self.changed.notify_all()

    def fail(self, stage: Stage, reason: str) -> None:
        """The stage cannot be computed; neither can what depends on it, for the same reason."""
        with self.changed:
            waiting, number = [stage.address], self._number[stage.address]
            while waiting:
                address = waiting.pop()
                if self._cause.get(address, len(self.stages)) > number:
                    self.n_left -= address not in self.failed
                    self.failed[address], self._cause[address] = reason, number
                    waiting += self._dependents[address]
            self.changed.notify_all()
