"""Optimizers of PyTorch without the hooks of ``torch.compile``, whose import takes longer than a small experiment.

``torch.optim`` wraps a few methods so that ``torch.compile`` leaves them alone. Each wrapper imports the compiler when it is first called,
about two seconds for a program that compiles nothing. The functions inside them do the arithmetic; these classes call those directly.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["uncompiled"]

_WRAPPED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


@functools.cache
def uncompiled(kind: type[torch.optim.Optimizer]) -> Callable[..., torch.optim.Optimizer]:
    """A class like ``kind``, with the same arithmetic, that does not import ``torch.compile``.

    Args:
        kind: A class of ``torch.optim``, or any subclass of ``torch.optim.Optimizer``.

    Returns:
        A subclass of ``kind`` with its name; ``kind`` itself where nothing is wrapped.
    """
    methods: dict[str, Callable[..., Any]] = {}
    for name in _WRAPPED:
        method = getattr(kind, name)
        if _wrapper(method) == "inner":
            methods[name] = method.__wrapped__
    if _wrapper(kind.step) == "_use_grad":
        methods["step"] = _without_gradients(kind.step.__wrapped__)  # type: ignore[attr-defined]
    return type(kind.__name__, (kind,), {**methods, "__module__": kind.__module__, "__doc__": kind.__doc__}) if methods else kind


def _wrapper(method: Any) -> str:
    """Name of the wrapper's code, if ``method`` is wrapped."""
    return str(method.__code__.co_name) if hasattr(method, "__wrapped__") and hasattr(method, "__code__") else ""


def _without_gradients(step: Callable[..., Any]) -> Callable[..., Any]:
    """``step`` under the gradient mode that the optimizer asks for, as ``torch.optim`` runs it."""

    @functools.wraps(step)
    def quiet(self: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> Any:
        with torch.set_grad_enabled(bool(self.defaults.get("differentiable", False))):
            return step(self, *args, **kwargs)

    return quiet
