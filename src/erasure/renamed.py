"""Names of the version before: each works for one version more, with a notice that says the name of today."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

__all__ = ["formerly", "module_formerly", "today"]

_T = TypeVar("_T", bound=type)


def _notice(old: str, new: str) -> None:
    warnings.warn(f'"{old}" is now "{new}"; the old name goes with the next version', FutureWarning, stacklevel=3)


def module_formerly(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module whose names have changed.

    Args:
        module: Name of the module.
        names: Old name to new one; a new one with a dot is a name of another module.
    """

    def former(name: str) -> Any:
        import importlib

        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        _notice(f"{module}.{name}", names[name])
        home, _, own = names[name].rpartition(".")
        return getattr(importlib.import_module(home or module), own)

    return former


def today(record: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """A record with the names of today; where it has both, the new one holds."""
    return {names.get(name, name): value for name, value in record.items() if names.get(name) not in record}


class _Former:
    """An old name of a class: gives what the new one gives."""

    def __init__(self, old: str, new: str) -> None:
        self.old, self.new = old, new

    def __get__(self, instance: object, owner: type) -> Any:
        _notice(f"{owner.__name__}.{self.old}", self.new)
        if instance is None:
            return getattr(owner, self.new)
        # A method of a subclass that still has the old name reached this one by super().
        own = next((cls for cls in reversed(owner.__mro__) if not isinstance(vars(cls).get(self.old, self), _Former)), None)
        return getattr(instance if own is None else super(own, instance), self.new)


def formerly(**names: str) -> Callable[[_T], _T]:
    """A class of which members had other names: old ones can be read, given as keywords, and defined by subclasses.

    Example:
        >>> @formerly(colour="color")
        ... class Car:
        ...     color = "red"
    """

    def renamed(cls: _T) -> _T:
        for old, new in names.items():
            setattr(cls, old, _Former(old, new))
        _take_keywords(cls, names)
        _adopt(cls, names)
        return cls

    return renamed


def _take_keywords(cls: Any, names: Mapping[str, str]) -> None:
    given: Callable[..., None] = cls.__init__

    @functools.wraps(given)
    def taking(self: Any, *args: Any, **kwargs: Any) -> None:
        if not names.keys().isdisjoint(kwargs):
            for old in names.keys() & kwargs.keys():
                _notice(f"{cls.__name__}({old}=…)", names[old])
            # Of both, as dataclasses.replace gives them, the one under the old name was asked for.
            kwargs = {name: value for name, value in kwargs.items() if name not in names} | {
                names[name]: value for name, value in kwargs.items() if name in names
            }
        given(self, *args, **kwargs)

    if "__dataclass_fields__" in vars(cls):
        cls.__init__ = taking


def _adopt(cls: Any, names: Mapping[str, str]) -> None:
    """What a subclass defines under an old name becomes its definition of the new one."""
    own = vars(cls).get("__init_subclass__")

    def adopting(sub: Any, /, **kwargs: Any) -> None:
        if own is None:
            super(cls, sub).__init_subclass__(**kwargs)
        else:
            own.__get__(None, sub)(**kwargs)
        for old, new in names.items():
            if old in vars(sub) and new not in vars(sub):
                _notice(f"{sub.__name__}.{old}", new)
                setattr(sub, new, vars(sub)[old])

    cls.__init_subclass__ = classmethod(adopting)
