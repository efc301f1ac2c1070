"""What a tracker is, how one is chosen, and why one that fails harms no run."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Protocol, cast

from erasure.errors import ConfigError, Diagnostic, MissingDependency, nearest
from erasure.events import Event

__all__ = ["TRACKERS", "Guarded", "Tracker", "check_tracker", "open_tracker"]

TRACKERS = {
    "mlflow": ("erasure.trackers.mlflow", "MLflow", "mlflow-skinny", "mlruns.db"),
    "tensorboard": ("erasure.trackers.tensorboard", "TensorBoard", "tensorboard", "tensorboard"),
    "wandb": ("erasure.trackers.wandb", "WeightsAndBiases", "wandb", "wandb"),
}
"""Module, class, package and default place of each tracker."""


class Tracker(Protocol):
    """A listener with an end."""

    def listen(self, event: Event) -> None:
        """Take note of an event."""

    def close(self, *, interrupted: bool) -> None:
        """Write what is left; ``interrupted`` if the run did not come to its end."""


class Guarded:
    """A tracker whose failures are said once and stop it, never the run.

    Args:
        tracker: What may fail.
        name: What to call it.
        say: Told once if it fails.
    """

    def __init__(self, tracker: Tracker, name: str, say: Callable[[str], None]) -> None:
        self._tracker: Tracker | None = tracker
        self._name, self._say = name, say

    def __enter__(self) -> Guarded:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        tracker, self._tracker = self._tracker, None
        if tracker is not None:
            self._attempt(lambda: tracker.close(interrupted=error is not None))

    def listen(self, event: Event) -> None:
        """Pass an event on."""
        tracker = self._tracker
        if tracker is not None:
            self._attempt(lambda: tracker.listen(event))

    def _attempt(self, call: Callable[[], None]) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a tracker's library speaks to its own developers
                call()
        except Exception as error:
            tracker, self._tracker = self._tracker, None
            if tracker is not None:
                with suppress(Exception):
                    tracker.close(interrupted=True)
            self._say(f"{self._name} stopped listening, the run goes on: {type(error).__name__}: {error}")


def check_tracker(choice: str) -> None:
    """Refuse a choice that :func:`open_tracker` would refuse whatever its place is; nothing is opened.

    Args:
        choice: As there.

    Raises:
        ConfigError: If there is no such tracker.
        MissingDependency: If its library is not installed.
    """
    name = choice.partition(":")[0]
    _check_name(name)
    if importlib.util.find_spec(name) is None:
        raise MissingDependency(TRACKERS[name][2], "track", f"The tracker {name}")


def open_tracker(choice: str) -> Tracker:
    """The tracker that ``choice`` names, as ``name`` or ``name:PLACE``.

    Args:
        choice: Such as ``mlflow:mlruns.db``, ``mlflow:http://127.0.0.1:5000``, ``tensorboard:logs`` or ``wandb:wandb``.

    Raises:
        ConfigError: If there is no such tracker, or its place cannot be used.
        MissingDependency: If its library is not installed.
    """
    name, _, place = choice.partition(":")
    _check_name(name)
    module, cls, package, default = TRACKERS[name]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return cast(Tracker, getattr(importlib.import_module(module), cls)(place or default))
    except ImportError as error:
        raise MissingDependency(error.name or package, "track", f"The tracker {name}") from error
    except Exception as error:
        message = f'the tracker {name} cannot use "{place or default}": {type(error).__name__}: {error}'
        raise ConfigError([Diagnostic(message, kind="data")]) from error


def _check_name(name: str) -> None:
    if name not in TRACKERS:
        known = ", ".join(TRACKERS)
        raise ConfigError(
            [Diagnostic(f'there is no tracker "{name}"; there are {known}', hint=nearest(name, TRACKERS), kind="structure")]
        )
