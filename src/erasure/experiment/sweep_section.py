"""The section ``sweep`` of a configuration: one configuration at many settings."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from erasure.config import Node, from_python, load
from erasure.config.overrides import OVERRIDES
from erasure.config.tree import Loaded
from erasure.errors import ConfigError, Diagnostic, Position, nearest
from erasure.experiment.configuration import Experiment, load_experiment
from erasure.records.sweep_folder import shown_setting
from erasure.types import Json

__all__ = ["Point", "Sweep", "load_sweep"]

_AXES = ("split", "train", "unlearn", "evaluate")
_KEYS = ("mode", "over", "points", "trials", "seed", "seeds")
_MAX = 100_000


@dataclass(frozen=True)
class Point:
    """One setting.

    Args:
        settings: Configuration path to value.
        label: What tells it from the others, such as ``epochs=5, lr=0.1``.
        experiment: The configuration with the settings.
    """

    settings: Mapping[str, Json]
    label: str
    experiment: Experiment


@dataclass(frozen=True)
class Sweep:
    """All settings of a configuration's ``sweep`` section.

    Args:
        name: Name of the configuration.
        points: The settings.
        axes: Seeds by axis, where the section gives them.
    """

    name: str
    points: tuple[Point, ...]
    axes: Mapping[str, tuple[int, ...]]


def load_sweep(
    configuration: Path | str | Mapping[str, Any], *, overrides: Sequence[str] = (), trust: Iterable[str] = ()
) -> Sweep:
    """Read and check a configuration at every setting of its ``sweep`` section.

    The section is an object: ``over`` maps paths, written as for ``--set``, to lists of values (``grid``: every combination), or, for
    ``"mode": "random"``, to lists or ranges ``{"low": 1e-4, "high": 0.1, "log": true}`` of which ``trials`` settings are drawn with
    ``seed``; ``points`` is a list of settings written out. ``seeds`` maps ``split``, ``train``, ``unlearn`` and ``evaluate`` to lists.

    Raises:
        ConfigError: With every problem of the section, or of the first setting that is not valid.
    """
    loaded = _loaded(configuration, overrides)
    section = loaded.root.get("sweep")
    if section is None:
        hint = (
            'say what to vary, as "sweep": {"over": {"predictor.epochs": [10, 20]}}; for seeds alone there is erasure run --seeds'
        )
        raise ConfigError([Diagnostic('the section "sweep" is missing', "sweep", loaded.root.position, hint, "structure")])
    reader = _Reader(section)
    settings, axes = reader.settings(), reader.axes()
    if reader.problems:
        raise ConfigError(sorted(reader.problems, key=lambda problem: (problem.position, problem.path)))
    labels = _labels(settings)
    experiments = [
        _experiment(configuration, overrides, trust, chosen, label, reader.places(number))
        for number, (chosen, label) in enumerate(zip(settings, labels, strict=True))
    ]
    points = tuple(Point(*parts) for parts in zip(settings, labels, experiments, strict=True))
    return Sweep(experiments[0].name, points, axes)


def _loaded(configuration: Path | str | Mapping[str, Any], overrides: Sequence[str]) -> Loaded:
    if isinstance(configuration, Mapping):
        return from_python(configuration, overrides)
    return load(Path(configuration), overrides)


def _experiment(
    configuration: Path | str | Mapping[str, Any],
    overrides: Sequence[str],
    trust: Iterable[str],
    settings: Mapping[str, Json],
    label: str,
    places: Mapping[str, Position],
) -> Experiment:
    chosen = [f"{path}={json.dumps(value)}" for path, value in settings.items()]
    try:
        return load_experiment(configuration, overrides=[*overrides, *chosen], trust=trust)
    except ConfigError as error:
        problems = [_told(problem, label, places) for problem in error.problems]
        raise ConfigError(sorted(problems, key=lambda problem: (problem.position, problem.path))) from error


def _told(problem: Diagnostic, label: str, places: Mapping[str, Position]) -> Diagnostic:
    """The problem of a setting; a value that the section gives is at its place there, not on the command line."""
    along = (path for path in places if path.startswith(problem.path) or problem.path.startswith(path))
    swept = max(along, key=len, default=None) if problem.path and problem.position.file == OVERRIDES else None
    position = problem.position if swept is None else places[swept]
    return replace(problem, message=f"{problem.message} (in the sweep, at {label})", position=position)


def _labels(settings: Sequence[Mapping[str, Json]]) -> list[str]:
    """Each setting by the last words of its paths; by whole paths where those are the same."""
    paths = dict.fromkeys(path for chosen in settings for path in chosen)
    short = {path: path.rpartition(".")[2] for path in paths}
    twice = {name for name in short.values() if list(short.values()).count(name) > 1}
    names = {path: path if name in twice else name for path, name in short.items()}
    values = {path: [chosen[path] for chosen in settings if path in chosen] for path in paths}
    return [", ".join(shown_setting(names[path], value, values[path]) for path, value in chosen.items()) for chosen in settings]


class _Reader:
    """Reads the section and collects its problems."""

    def __init__(self, section: Node) -> None:
        self.section = section
        self.problems: list[Diagnostic] = []
        if not section.is_object:
            self._problem("expected an object", "sweep", section.position)
        for key, _ in section.items():
            if key not in _KEYS:
                self._problem(f'"{key}" is not known here', f"sweep.{key}", section.key_position(key), nearest(key, _KEYS))

    @property
    def _mode(self) -> Any:
        return self._plain("mode", "list" if self.section.get("points") is not None else "grid")

    def settings(self) -> list[dict[str, Json]]:
        """Every setting, in order."""
        mode = self._mode
        if mode not in {"grid", "random", "list"}:
            self._problem('mode is "grid", "random" or "list"', "sweep.mode", self._position("mode"))
            return []
        if mode == "list":
            return self._points()
        over = self.section.get("over")
        if over is None or not over.is_object or not over.plain():
            self._problem("over maps configuration paths to values, and there is none", "sweep.over", self._position("over"))
            return []
        if mode == "random":
            return self._random(over)
        values = {path: self._values(path, node) for path, node in over.items()}
        if math.prod(len(found) for found in values.values()) > _MAX:
            self._problem(f"more than {_MAX:,} combinations", "sweep.over", over.position)
            return []
        return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]

    def axes(self) -> dict[str, tuple[int, ...]]:
        """Seeds by axis."""
        node = self.section.get("seeds")
        if node is None:
            return {}
        found: dict[str, tuple[int, ...]] = {}
        for axis, seeds in node.items():
            values = seeds.plain()
            if axis not in _AXES:
                self._problem(f'"{axis}" is not an axis', f"sweep.seeds.{axis}", node.key_position(axis), nearest(axis, _AXES))
            elif not isinstance(values, list) or not values or not all(type(v) is int and v >= 0 for v in values):
                self._problem("expected a list of whole numbers from 0", f"sweep.seeds.{axis}", seeds.position)
            else:
                found[axis] = tuple(values)
        return found

    def places(self, number: int) -> Mapping[str, Position]:
        """Where the paths of a setting are written."""
        written = self.section.get("over")
        if self._mode == "list":
            points = self.section.get("points")
            written = list(points.elements())[number] if points is not None else None
        return {path: written.key_position(path) for path, _ in written.items()} if written is not None else {}

    def _points(self) -> list[dict[str, Json]]:
        node = self.section.get("points")
        if node is None or not node.is_list or not node.plain():
            self._problem("points is a list of settings, and there is none", "sweep.points", self._position("points"))
            return []
        for number, element in enumerate(node.elements()):
            if not element.is_object:
                self._problem("a setting maps configuration paths to values", f"sweep.points[{number}]", element.position)
        return [element.plain() for element in node.elements() if element.is_object]

    def _values(self, path: str, node: Node) -> list[Json]:
        if not node.is_list or not node.plain():
            self._problem("expected a list of values", f"sweep.over[{path!r}]", node.position)
            return []
        values: list[Json] = node.plain()
        return values

    def _random(self, over: Node) -> list[dict[str, Json]]:
        trials, seed = self._whole("trials", 20, 1), self._whole("seed", 0, 0)
        generator = np.random.default_rng(seed)
        draws = {path: self._draw(path, node) for path, node in over.items()}
        if self.problems:
            return []
        return [{path: draw(generator) for path, draw in draws.items()} for _ in range(trials)]

    def _draw(self, path: str, node: Node) -> Any:
        where, given = f"sweep.over[{path!r}]", node.plain()
        if node.is_list and given:
            return lambda generator: given[int(generator.integers(len(given)))]
        low: Any = given.get("low") if isinstance(given, dict) else None
        high: Any = given.get("high") if isinstance(given, dict) else None
        if not isinstance(given, dict) or not all(isinstance(end, int | float) and math.isfinite(end) for end in (low, high)):
            self._problem('expected a list of values, or a range {"low": …, "high": …, "log": true}', where, node.position)
            return None
        logarithmic = bool(given.get("log", False))
        if not low < high or (logarithmic and low <= 0):
            self._problem("low must be below high, and above 0 on a logarithmic scale", where, node.position)
            return None
        if isinstance(low, int) and isinstance(high, int) and not logarithmic:
            return lambda generator: int(generator.integers(low, high + 1))
        if logarithmic:
            return lambda generator: float(math.exp(generator.uniform(math.log(low), math.log(high))))
        return lambda generator: float(generator.uniform(low, high))

    def _whole(self, key: str, default: int, least: int) -> int:
        value = self._plain(key, default)
        if type(value) is not int or value < least:
            self._problem(f"expected a whole number from {least}", f"sweep.{key}", self._position(key))
            return default
        return value

    def _plain(self, key: str, default: Any) -> Any:
        node = self.section.get(key)
        return default if node is None else node.plain()

    def _position(self, key: str) -> Position:
        return self.section.key_position(key)

    def _problem(self, message: str, path: str, position: Position, hint: str = "") -> None:
        self.problems.append(Diagnostic(message, path, position, hint, "structure"))
