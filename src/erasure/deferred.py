"""Modules that another library imports and perhaps never uses, imported when they are used."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

__all__ = ["deferred", "for_scikit_learn"]


class _Later:
    """A function or a class that is imported when it is called, or asked for something in it."""

    def __init__(self, real: Callable[[], Any]) -> None:
        self._real = real

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._real()(*args, **options)

    def __getattr__(self, key: str) -> Any:
        if key.startswith("__"):  # the import system's own questions
            raise AttributeError(key)
        return getattr(self._real(), key)


@contextmanager
def deferred(names: Sequence[str], called: Mapping[str, Sequence[str]] | None = None) -> Iterator[None]:
    """What imports these modules in the block gets them when it asks for something in them; afterwards imports are as ever.

    Nothing happens if one of them is imported already.

    Args:
        names: Full names of modules.
        called: Functions and classes of each module that are taken out of it in the block and called later.
    """
    if any(name in sys.modules for name in names):
        yield
        return
    stand_ins = {name: types.ModuleType(name) for name in names}

    around = {**sys.modules, **stand_ins}
    homes = [(vars(around[home]), last, name) for name in names for home, _, last in [name.rpartition(".")] if home in around]

    def ends() -> None:
        for name, stand_in in stand_ins.items():
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]
        for home, last, name in homes:
            if home.get(last) is stand_ins[name]:
                del home[last]

    def of_the_real(name: str) -> Callable[[str], Any]:
        def attribute(key: str) -> Any:
            if key.startswith("__"):  # the import system's own questions
                raise AttributeError(key)
            ends()
            return getattr(importlib.import_module(name), key)

        return attribute

    def later(name: str, key: str) -> _Later:
        return _Later(lambda: of_the_real(name)(key))

    for name, stand_in in stand_ins.items():
        vars(stand_in).update(__getattr__=of_the_real(name), __path__=[])
        vars(stand_in).update({key: later(name, key) for key in (called or {}).get(name, ())})
    sys.modules.update(stand_ins)
    for home, last, name in homes:
        home.setdefault(last, stand_ins[name])
    try:
        yield
    finally:
        ends()


_UNUSED_BY_SCIKIT_LEARN: Mapping[str, Sequence[str]] = {
    "pandas": (),
    "scipy.stats": ("gmean", "rankdata"),
    "scipy.integrate": ("trapezoid",),
    "scipy.interpolate": ("BSpline",),
    "scipy.linalg.interpolative": ("interp_decomp",),
    "scipy.spatial.transform": (),
    "scipy.constants": (),
    "scipy.fft": (),
    "numpy.f2py": (),
}
"""Modules that it, or what it imports, imports for a comparison of types or a single function, and what is taken out of them."""


@contextmanager
def for_scikit_learn() -> Iterator[None]:
    """Imports of scikit-learn in the block leave pandas, SciPy's statistics and the like to whoever uses them.

    They are most of what importing it takes, and few programs have a need for them.
    """
    importlib.import_module("numpy")  # looks for its own parts as its attributes
    with ExitStack() as stack:
        for name, called in _UNUSED_BY_SCIKIT_LEARN.items():
            stack.enter_context(deferred([name], called={name: called}))
        yield
