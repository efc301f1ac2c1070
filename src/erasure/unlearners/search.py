"""Search spaces: which values of a method's parameters are worth trying."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, TypeAlias, get_args, get_origin

from annotated_types import Interval

from erasure.component import Call, Component, field_types
from erasure.errors import InvalidParameters
from erasure.unlearners.contract import Unlearner

__all__ = ["Choice", "Range", "SearchSpace", "current", "search_space", "with_parameters"]

_FACTOR = 100.0
_LEARNING_RATE = (1e-5, 1e-1)
_NOT_TUNED = frozenset({"batch_size", "max_grad_norm"})


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``; whole ones if both ends are.

    Args:
        low: Smallest value.
        high: Largest value.
        log: Whether ratios rather than differences are even.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high) or (self.log and self.low <= 0):
            raise InvalidParameters(f"a range needs low <= high, and low above 0 on a logarithmic scale; found {self}")

    @property
    def is_whole(self) -> bool:
        """Whether values are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)


@dataclass(frozen=True)
class Choice:
    """One of a few values."""

    values: tuple[Any, ...]


SearchSpace: TypeAlias = Mapping[str, Range | Choice]
"""Parameter to its values; ``optimizer.lr`` is the parameter ``lr`` of the parameter ``optimizer``, ``steps.0.epochs`` the parameter
``epochs`` of the first of ``steps``."""


def search_space(unlearner: Unlearner) -> SearchSpace:
    """The space of a method: the class data ``search_space`` if it publishes any, else one around its defaults; for a composition, those
    of the methods inside it.

    By default whole numbers go from 1 to twice the default, the learning rate from 1e-5 to 0.1, shares from 0 to 1, and other positive
    numbers to a hundredth and a hundredfold of the default.
    """
    published: SearchSpace | None = getattr(type(unlearner), "search_space", None)
    if published is not None:
        return dict(published)
    inner = _inside(unlearner)
    if inner:
        return {f"{where}.{name}": kind for where, method in inner.items() for name, kind in search_space(method).items()}
    return _around_defaults(type(unlearner))


def with_parameters(unlearner: Unlearner, values: Mapping[str, Any]) -> Unlearner:
    """The method with other values of its parameters, named as in a search space.

    Raises:
        InvalidParameters: If the method does not accept a value, or has no such parameter.
    """
    changes: dict[str, Any] = {}
    for name, value in values.items():
        outer, *inner = name.split(".")
        if inner and outer not in changes:
            changes[outer] = _part(unlearner, outer, name)
        changes[outer] = _changed(changes.get(outer), inner, value, name)
    return unlearner.replace(**changes)


def current(unlearner: Unlearner, name: str) -> Any:
    """Value of a parameter named as in a search space; None if it has none.

    Raises:
        InvalidParameters: If there is no such parameter.
    """
    value: Any = unlearner
    for part in name.split("."):
        value = _part(value, part, name)
    return value


def _inside(unlearner: Unlearner) -> dict[str, Unlearner]:
    found: dict[str, Unlearner] = {}
    for each in fields(unlearner):
        value = getattr(unlearner, each.name)
        if isinstance(value, Unlearner):
            found[each.name] = value
        elif isinstance(value, tuple):
            found |= {f"{each.name}.{number}": part for number, part in enumerate(value) if isinstance(part, Unlearner)}
    return found


def _part(value: Any, name: str, path: str) -> Any:
    if isinstance(value, Call):
        return value.parameters.get(name)
    if isinstance(value, tuple) and name.isdecimal() and int(name) < len(value):
        return value[int(name)]
    if isinstance(value, Component) and name in {each.name for each in fields(value)}:
        return getattr(value, name)
    raise InvalidParameters(f"there is no parameter {path}: {type(value).__name__} has no {name}")


def _changed(value: Any, path: list[str], new: Any, name: str) -> Any:
    if not path:
        return new
    first, *rest = path
    part = _changed(_part(value, first, name), rest, new, name)
    if isinstance(value, Call):
        return value.replace(parameters={**value.parameters, first: part})
    if isinstance(value, tuple):
        return (*value[: int(first)], part, *value[int(first) + 1 :])
    return value.replace(**{first: part})


def _around_defaults(cls: type[Unlearner]) -> SearchSpace:
    space: dict[str, Range | Choice] = {}
    types = field_types(cls)
    for each in fields(cls):
        default = each.default_factory() if each.default_factory is not MISSING else each.default
        if each.name in _NOT_TUNED or each.name not in types:
            continue
        if isinstance(default, Call) and each.name == "optimizer":
            space["optimizer.lr"] = Range(*_LEARNING_RATE, log=True)
        elif (
            isinstance(default, int) and not isinstance(default, bool) and default > 0 and "Literal" not in str(types[each.name])
        ):
            space[each.name] = Range(1, max(2, 2 * default))
        elif isinstance(default, float) and math.isfinite(default) and default > 0:
            ends = _ends(types[each.name])
            space[each.name] = Range(*ends) if ends else Range(default / _FACTOR, default * _FACTOR, log=True)
    return space


def _ends(annotation: Any) -> tuple[float, float] | None:
    """Both ends of a share; open ends are left alone by a hundredth."""
    for part in get_args(annotation) if get_origin(annotation) is not None or hasattr(annotation, "__metadata__") else ():
        if isinstance(part, Interval):
            low, high = part.ge if part.ge is not None else part.gt, part.le if part.le is not None else part.lt
            if isinstance(low, int | float) and isinstance(high, int | float):
                margin = 0.01 * (high - low)
                return float(low + (margin if part.ge is None else 0)), float(high - (margin if part.le is None else 0))
    return None
