"""torchvision without torch's compiler, and beside a build of torch that its compiled operators were not made for."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from erasure.deferred import deferred
from erasure.errors import MissingDependency

__all__ = ["torchvision"]

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_OPERATORS = ("nms", "qnms")

# A library takes its operators along when it is collected.
_declared: list[torch.library.Library] = []


def torchvision(module: str, purpose: str) -> Any:
    """The module ``torchvision.<module>``, imported now.

    Data sets, transforms and classifiers need none of the compiled operators, but importing torchvision fails where they do not
    load. Their schemas are declared then, without an implementation: calling one is still an error.

    Args:
        module: Name below ``torchvision``, such as ``datasets``.
        purpose: What needs it, for the message.

    Raises:
        MissingDependency: If torchvision or a library that the module needs is not installed.
    """
    name = f"torchvision.{module}"
    try:
        try:
            return _imported(name)
        except RuntimeError as error:
            if "operator torchvision::" not in str(error) or _declared:
                raise
        _forget_half_imported()
        library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        _declared.append(library)
        for operator in _OPERATORS:
            library.define(operator + _SCHEMA)  # type: ignore[no-untyped-call]
        return _imported(name)
    except ModuleNotFoundError as error:
        package = (error.name or "torchvision").partition(".")[0]
        raise MissingDependency("pillow" if package == "PIL" else package, "vision", purpose) from error


def _imported(name: str) -> Any:
    try:
        with _compiler_left_out():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith(_COMPILER[0]):
            raise
    _forget_half_imported()  # a version that needs more of the compiler
    return importlib.import_module(name)


_COMPILER = ("torch._dynamo", "torch._dynamo.utils")


@contextmanager
def _compiler_left_out() -> Iterator[None]:
    """What asks for torch's compiler in the block gets it when it uses it.

    torchvision imports it, in two seconds and 70 MiB, for one function that its RoI align may call.
    """
    with deferred(_COMPILER, called={_COMPILER[1]: ("is_compile_supported",)}):
        yield


def _forget_half_imported() -> None:
    for name in [each for each in sys.modules if each == "torchvision" or each.startswith("torchvision.")]:
        del sys.modules[name]
