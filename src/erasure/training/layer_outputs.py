"""What the layers of a model put out while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

__all__ = ["listening", "name_of"]


@contextmanager
def listening(modules: Mapping[str, nn.Module], listener: Callable[[str, Any], None]) -> Iterator[None]:
    """Tell ``listener`` the name and the output of each of ``modules``, every time that one has run.

    The modules are as before afterwards. Gradients are followed or not as the caller decides.
    """

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda module, inputs, output: listener(name, output)

    handles = [module.register_forward_hook(hook(name)) for name, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def name_of(module: str) -> str:
    """A module's name for people: the model itself, whose name is empty, is called ``model``."""
    return module or "model"
