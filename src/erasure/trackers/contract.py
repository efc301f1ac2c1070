"""What a tracker is, how one is chosen, and why one that fails harms no run."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import entry_points
from types import TracebackType
from typing import Protocol, cast

from erasure.errors import ConfigError, Diagnostic, MissingDependency, nearest
from erasure.events import Event

__all__ = ["TRACKERS", "Guarded", "Tracker", "TrackerEntry", "check_tracker", "open_tracker"]


@dataclass(frozen=True)
class TrackerEntry:
    """Where a tracker is found.

    Args:
        path: ``module:Class``; the class is called with the place.
        library: The module that it writes with; empty if it needs none.
        package: The package that brings the library.
        place: Where it writes if nobody says.
    """

    path: str
    library: str = ""
    package: str = ""
    place: str = ""


TRACKERS: Mapping[str, TrackerEntry] = {
    "mlflow": TrackerEntry("erasure.trackers.mlflow:MLflow", "mlflow", "mlflow-skinny", "mlruns.db"),
    "tensorboard": TrackerEntry("erasure.trackers.tensorboard:TensorBoard", "tensorboard", "tensorboard", "tensorboard"),
    "wandb": TrackerEntry("erasure.trackers.wandb:WeightsAndBiases", "wandb", "wandb", "wandb"),
}
"""The trackers of this package, by name; other packages add theirs by entry points of the group ``erasure.trackers``."""


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
    entry = _entry(name)
    if entry.library and importlib.util.find_spec(entry.library) is None:
        raise MissingDependency(entry.package, "track", f"The tracker {name}")


def open_tracker(choice: str) -> Tracker:
    """The tracker that ``choice`` names, as ``name`` or ``name:PLACE``.

    Args:
        choice: Such as ``mlflow:mlruns.db``, ``mlflow:http://127.0.0.1:5000``, ``tensorboard:logs`` or ``wandb:wandb``.

    Raises:
        ConfigError: If there is no such tracker, or its place cannot be used.
        MissingDependency: If its library is not installed.
    """
    name, _, place = choice.partition(":")
    entry = _entry(name)
    place = place or entry.place
    module, _, cls = entry.path.partition(":")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return cast(Tracker, getattr(importlib.import_module(module), cls)(place))
    except ImportError as error:
        raise MissingDependency(error.name or entry.package, "track", f"The tracker {name}") from error
    except Exception as error:
        message = f'the tracker {name} cannot use "{place}": {type(error).__name__}: {error}'
        raise ConfigError([Diagnostic(message, kind="data")]) from error


def _entry(name: str) -> TrackerEntry:
    if name in TRACKERS:
        return TRACKERS[name]
    added = {point.name: point for point in entry_points(group="erasure.trackers")}
    if name in added:
        return TrackerEntry(added[name].value, place=name)
    known = [*TRACKERS, *sorted(added)]
    message = f'there is no tracker "{name}"; there are {", ".join(known)}'
    raise ConfigError([Diagnostic(message, hint=nearest(name, known), kind="structure")])
