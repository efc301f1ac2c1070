"""Modules that another library imports and perhaps never uses, imported when they are used."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

__all__ = ["deferred", "for_scikit_learn"]


@contextmanager
def deferred(names: Sequence[str], called: Mapping[str, Sequence[str]] | None = None) -> Iterator[None]:
    """What imports these modules in the block gets them when it asks for something in them; afterwards imports are as ever.

    Nothing happens if one of them is imported already.

    Args:
        names: Full names of modules.
        called: Functions of each module that are taken out of it in the block and called later.
    """
    if any(name in sys.modules for name in names):
        yield
        return
    stand_ins = {name: types.ModuleType(name) for name in names}

    def ends() -> None:
        for name, stand_in in stand_ins.items():
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]

    def of_the_real(name: str) -> Callable[[str], Any]:
        def attribute(key: str) -> Any:
            if key.startswith("__"):  # the import system's own questions
                raise AttributeError(key)
            ends()
            return getattr(importlib.import_module(name), key)

        return attribute

    def later(name: str, key: str) -> Callable[..., Any]:
        return lambda *args, **options: of_the_real(name)(key)(*args, **options)

    for name, stand_in in stand_ins.items():
        vars(stand_in).update(__getattr__=of_the_real(name), __path__=[])
        vars(stand_in).update({key: later(name, key) for key in (called or {}).get(name, ())})
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        ends()


@contextmanager
def for_scikit_learn() -> Iterator[None]:
    """Imports of scikit-learn in the block leave pandas and SciPy's statistics to whoever uses them.

    Both are nearly all that importing it takes, for a comparison of types and a function of which few programs have a need.
    """
    with deferred(["pandas"]), deferred(["scipy.stats"], called={"scipy.stats": ("gmean", "rankdata")}):
        yield
