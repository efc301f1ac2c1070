"""Checking with PyTorch by name alone, which takes less than half of the time that its import takes.

A configuration is checked against the classes of our components. They name tensors and layers in annotations, bases and decorators, and
checking seldom asks for more. :func:`without_torch` runs a check in a process of its own, in which every name of ``torch`` stands for
itself and does nothing. As soon as anything but the definition of a module or class asks for such a name, there is no answer, and the check
is made with PyTorch. Only the classes in ``SOURCES`` can be asked for: their signatures are read from PyTorch's source.
"""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import sys
import threading
from collections.abc import Callable
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import FrameType, FunctionType, ModuleType
from typing import Any, NoReturn, TextIO

from erasure.errors import ConfigError, Diagnostic, Position

__all__ = ["SOURCES", "TorchNames", "without_torch"]

_OPTIMIZER, _SCHEDULE, _MODULE = "torch.optim.Optimizer", "torch.optim.lr_scheduler.LRScheduler", "torch.nn.Module"
SOURCES = {
    **{f"torch.optim.{name}": (f"optim/{name.lower()}.py", _OPTIMIZER) for name in ("Adam", "AdamW", "SGD")},
    **{
        f"torch.optim.lr_scheduler.{name}": ("optim/lr_scheduler.py", _SCHEDULE)
        for name in ("CosineAnnealingLR", "CosineAnnealingWarmRestarts", "LinearLR", "StepLR")
    },
    "torch.nn.CrossEntropyLoss": ("nn/modules/loss.py", _MODULE),
}
"""Classes that can be asked for: the file of each, and its base."""
_USERS = {"sklearn", "timm", "torch_geometric", "torchvision", "transformers"}
"""Packages that look into PyTorch while they are imported."""

_CANNOT_IMPORT = "cannot be imported"
"""How a problem reads that may come from names instead of what they stand for."""


def without_torch(check: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    """What ``check`` gives in a process without PyTorch.

    Args:
        check: Gives a record of JSON values.

    Returns:
        The record; None where PyTorch is needed, or imported already, or the system cannot fork.

    Raises:
        ConfigError: As ``check`` raises it.
    """
    if "torch" in sys.modules or not sys.platform.startswith("linux") or threading.active_count() > 1:
        return None
    for stream in _streams():
        stream.flush()
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading)
        _answer(check, writing)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as pipe:
            answer = pipe.read()
    finally:
        os.waitpid(process, 0)
    found = json.loads(answer) if answer else {}
    if "problems" in found:
        raise ConfigError([Diagnostic(**{**each, "position": Position(**each["position"])}) for each in found["problems"]])
    return found.get("record")


def _answer(check: Callable[[], dict[str, Any]], pipe: int) -> NoReturn:
    """Write the record or the problems into the pipe, nothing where PyTorch is needed, and end the process."""
    try:
        said = os.memfd_create("said")
        for stream in _streams():
            os.dup2(said, stream.fileno())
        names = TorchNames()
        sys.meta_path.insert(0, names)
        answer = _checked(check)
        for stream in _streams():
            stream.flush()
        if not names.more_is_needed and os.fstat(said).st_size == 0:  # what is to be said is said by the check with PyTorch
            with os.fdopen(pipe, "wb") as file:
                file.write(json.dumps(answer).encode())
    finally:
        os._exit(0)


def _streams() -> list[TextIO]:
    """Where this process writes what it says; nowhere if it was started with closed streams."""
    return [stream for stream in (sys.stdout, sys.stderr) if stream is not None]


def _checked(check: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return {"record": check()}
    except ConfigError as error:
        if type(error) is not ConfigError or _CANNOT_IMPORT in str(error):
            raise
        return {"problems": [vars(each) | {"position": vars(each.position)} for each in error.problems]}


class _MoreIsNeeded(BaseException):
    """PyTorch is needed for more than its names."""


class TorchNames:
    """Finds and makes modules of PyTorch that consist of names; ``more_is_needed`` is set once anything asks for more."""

    def __init__(self) -> None:
        found = PathFinder.find_spec("torch")
        if found is None or found.origin is None:
            raise _MoreIsNeeded
        self._source = Path(found.origin).parent
        self._named: dict[str, type] = {}
        self.more_is_needed = False

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        """Of PyTorch's modules; others are found as ever."""
        package = name.partition(".")[0]
        if package in _USERS:
            self.refuse()
        return ModuleSpec(name, self, is_package=True) if package == "torch" else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """A module that makes its names when they are asked for."""
        return _Module(spec.name, self)

    def exec_module(self, _: ModuleType) -> None:
        """Names need no code."""

    def of(self, path: str, frame: FrameType) -> type:
        """What ``path`` stands for, where a definition asks for it, or a check for a class or its base."""
        if path not in SOURCES and path not in (_OPTIMIZER, _SCHEDULE, _MODULE):
            self.only_defines(frame)
        if path not in self._named:
            self._named[path] = self._class(path) if path in SOURCES else self._name(path)
        return self._named[path]

    def only_defines(self, frame: FrameType) -> None:
        """Raises:
        _MoreIsNeeded: Unless the code of ``frame`` defines a module or a class, or imports a name.
        """
        is_import = frame.f_globals.get("__name__") in {"importlib._bootstrap", "_frozen_importlib"}
        is_ours = str(frame.f_globals.get("__name__")).partition(".")[0] == "erasure"
        if not is_import and not (is_ours and not frame.f_code.co_flags & inspect.CO_OPTIMIZED):
            self.refuse()

    def refuse(self, *_: Any) -> NoReturn:
        """Raises:
        _MoreIsNeeded: Always.
        """
        self.more_is_needed = True
        raise _MoreIsNeeded

    def _name(self, path: str) -> type:
        home, _, name = path.rpartition(".")
        called = {"__call__": lambda _, function: function, "__getattr__": self.refuse}
        return _Name(name, (), {"__module__": home, "_path": path, "_names": self, **called})

    def _class(self, path: str) -> type:
        """A class that can be asked for its base and its signature."""
        home, _, name = path.rpartition(".")
        file, base = SOURCES[path]
        text = (self._source / file).read_text(encoding="utf-8")
        own = rf"^class {name}\(\w+\):(?:(?!^class ).)*?^    (def __init__\(.*?\) -> None:)"
        found = re.search(own, text, re.DOTALL | re.MULTILINE)
        try:
            signature = _signature(found[1])  # type: ignore[index]
        except (TypeError, SyntaxError, ValueError):
            self.refuse()
        return type(name, (self.of(base, sys._getframe()),), {"__module__": home, "__signature__": signature})


def _signature(definition: str) -> inspect.Signature:
    """The signature of a class from the head of its ``__init__``.

    Raises:
        SyntaxError: If it is none.
        ValueError: If a default is no plain value.
    """
    (function,) = ast.parse(f"{definition} pass").body
    arguments = function.args  # type: ignore[attr-defined]
    missing = [inspect.Parameter.empty] * (len(arguments.args) - len(arguments.defaults))
    positional = zip(arguments.args, [*missing, *map(_default, arguments.defaults)], strict=True)
    keywords = zip(arguments.kwonlyargs, map(_default, filter(None, arguments.kw_defaults)), strict=True)
    kinds = {inspect.Parameter.POSITIONAL_OR_KEYWORD: positional, inspect.Parameter.KEYWORD_ONLY: keywords}
    parameters = [inspect.Parameter(each.arg, kind, default=value) for kind, part in kinds.items() for each, value in part]
    return inspect.Signature(parameters[1:])


def _default(node: ast.expr) -> Any:
    """A plain value, or the quotient of two."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        return ast.literal_eval(node.left) / ast.literal_eval(node.right)
    return ast.literal_eval(node)


class _Module(ModuleType):
    """A module of names."""

    def __init__(self, name: str, names: TorchNames) -> None:
        super().__init__(name)
        self._names = names

    def __getattr__(self, key: str) -> Any:
        if key == "__version__":
            self._names.refuse()
        if key.startswith("__"):
            raise AttributeError(key)
        return self._names.of(f"{self.__name__}.{key}", sys._getframe(1))


class _Name(type):
    """A class, function or value of PyTorch of which the name alone is known."""

    _names: TorchNames
    _path: str

    def __getattr__(cls, key: str) -> Any:
        if key.startswith("__"):
            raise AttributeError(key)
        return cls._names.of(f"{cls._path}.{key}", sys._getframe(1)) if "_path" in vars(cls) else cls._names.refuse()

    def __call__(cls, *arguments: Any, **_: Any) -> Any:
        """A decorator or default that a definition makes."""
        cls._names.only_defines(sys._getframe(1))
        is_decorator = len(arguments) == 1 and isinstance(arguments[0], FunctionType)
        return arguments[0] if is_decorator else super().__call__()
