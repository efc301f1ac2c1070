"""Keyword arguments checked against the signature of a class or function of another library."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from erasure.errors import nearest

__all__ = ["argument_problems", "arguments_of"]

_POSITIONAL = frozenset({"self", "params", "optimizer", "y_true", "y_pred", "y_score", "y_prob", "y_proba"})
"""First arguments that the framework passes itself."""


def arguments_of(target: Callable[..., Any]) -> tuple[str, ...]:
    """The names that a configuration may give; empty where nobody knows."""
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):
        return ()
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return tuple(name for name, each in parameters.items() if name not in _POSITIONAL and each.kind not in variable)


def argument_problems(target: Callable[..., Any], arguments: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What is wrong with the names of ``arguments``: (argument, message, hint) for each problem."""
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):
        return []
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return []
    accepted = [name for name in parameters if name not in _POSITIONAL]
    name_of = getattr(target, "__name__", str(target))
    return [
        (name, f"unknown parameter of {name_of}; it has {_listed(accepted)}", nearest(name, accepted))
        for name in arguments
        if name not in accepted
    ]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "no parameters"
