"""What happens during a run, as typed events. The terminal, logs and trackers listen; nothing depends on them.

A run loads and cuts its data, says :class:`RunStarted`, then what becomes of its stages, then :class:`RowReady` for each row and
:class:`RunFinished`. One that is refused says no ``RunStarted``, one that is interrupted no ``RunFinished``. Events can be
pickled: those of worker processes reach the same listeners.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from erasure.renamed import module_formerly
from erasure.types import Json

__all__ = [
    "EpochFinished",
    "Event",
    "Listener",
    "Message",
    "RowReady",
    "RunFinished",
    "RunStarted",
    "SamplesRead",
    "StageFailed",
    "StageFinished",
    "StageStarted",
    "StageWaits",
    "TimeLeft",
    "event_record",
    "fan_out",
    "ignore_events",
]


@dataclass(frozen=True, kw_only=True)
class RunStarted:
    """A run has its plan and its data; nothing has been trained.

    Args:
        experiment: Its name.
        configuration: What is run, defaults filled in.
        options: How it is run: seeds, device, precision, threads, executor.
        total: Stages of the plan.
        cached: How many of them are in the store.
        output: Directory of the result files, or empty.
    """

    experiment: str
    configuration: Json = None
    options: Mapping[str, Json] = field(default_factory=dict)
    total: int = 0
    cached: int = 0
    output: str = ""


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
class SamplesRead:
    """So many samples of a data set are read and decoded."""

    name: str
    done: int
    total: int


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
class TimeLeft:
    """About how many seconds it takes until every stage is done; said every now and then."""

    seconds: float


@dataclass(frozen=True)
class RowReady:
    """A row of the results: a value by column, as in ``rows.json``. Those of further golds, the jury, are in the file alone."""

    row: Mapping[str, Json]


@dataclass(frozen=True, kw_only=True)
class RunFinished:
    """A run is over and its files are written.

    Args:
        experiment: Its name.
        is_sound: Whether every row has its value and no stage failed.
        elapsed_s: How long it took.
        rows: How many rows there are.
        failures: Stage to reason.
        output: Directory of the result files, or empty.
    """

    experiment: str
    is_sound: bool
    elapsed_s: float
    rows: int = 0
    failures: Mapping[str, str] = field(default_factory=dict)
    output: str = ""


@dataclass(frozen=True)
class Message:
    """A sentence for the user: how something was understood, or a warning."""

    text: str
    level: str = "info"


Event: TypeAlias = (
    RunStarted
    | StageStarted
    | StageWaits
    | EpochFinished
    | StageFinished
    | StageFailed
    | TimeLeft
    | RowReady
    | RunFinished
    | Message
    | SamplesRead
)
Listener: TypeAlias = Callable[[Event], None]


def ignore_events(event: Event) -> None:
    """A listener that does nothing."""


def fan_out(*listeners: Listener) -> Listener:
    """One listener that tells several, in their order."""

    def emit(event: Event) -> None:
        for listener in listeners:
            listener(event)

    return emit


def event_record(event: Event) -> dict[str, Json]:
    """An event as JSON: its fields, and under ``event`` the name of its class; numbers that JSON cannot hold become text.

    Example:
        >>> event_record(EpochFinished("train original", 1, 5))
        {'event': 'EpochFinished', 'name': 'train original', 'epoch': 1, 'epochs': 5}
    """
    fields = {item.name: _plain(getattr(event, item.name)) for item in dataclasses.fields(event)}
    return {"event": type(event).__name__, **fields}


def _plain(value: object) -> Json:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {_text(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return _text(str(value))


def _text(text: str) -> str:
    """The text, with what is not valid Unicode (a file name's odd bytes) escaped."""
    return text.encode(errors="backslashreplace").decode()


__getattr__: Callable[[str], Any] = module_formerly(
    __name__,
    {
        "Said": "Message",
        "silent": "ignore_events",
    },
)
