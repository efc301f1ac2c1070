"""What happens during a run, as typed events. The terminal, logs and trackers listen; nothing depends on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["EpochFinished", "Event", "Listener", "Said", "StageFailed", "StageFinished", "StageStarted", "StageWaits", "silent"]


@dataclass(frozen=True)
class StageStarted:
    """A stage that is not in the store begins."""

    name: str
    kind: str
    address: str


@dataclass(frozen=True)
class StageWaits:
    """Another process is computing the stage; this one waits for it."""

    name: str
    address: str


@dataclass(frozen=True)
class EpochFinished:
    """An epoch of a training or an unlearning is done; epochs count from 1."""

    name: str
    epoch: int
    epochs: int


@dataclass(frozen=True)
class StageFinished:
    """A stage is in the store; ``cached`` if it was there before. ``total`` counts the stages of the plan."""

    name: str
    kind: str
    address: str
    cached: bool
    elapsed_s: float
    total: int = 0


@dataclass(frozen=True)
class StageFailed:
    """A stage failed, or one that it needs did."""

    name: str
    kind: str
    address: str
    reason: str
    total: int = 0


@dataclass(frozen=True)
class Said:
    """A sentence for the user: how something was understood, or a warning."""

    text: str
    level: str = "info"


Event: TypeAlias = StageStarted | StageWaits | EpochFinished | StageFinished | StageFailed | Said
Listener: TypeAlias = Callable[[Event], None]


def silent(event: Event) -> None:
    """A listener that does nothing."""
