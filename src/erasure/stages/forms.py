"""Canonical forms of components, each computed once for a whole plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from erasure.component import canonical
from erasure.types import Json

__all__ = ["Forms"]


class Forms:
    """Remembers the canonical form of each component by its identity; a copy that goes to another process starts empty."""

    def __init__(self) -> None:
        self._known: dict[Any, tuple[Any, Any]] = {}

    def __call__(self, component: Any) -> Json:
        """The canonical form of a component."""
        return self.once(("canonical", id(component)), component, lambda: canonical(component))

    def once(self, key: Any, owner: Any, make: Callable[[], Any]) -> Any:
        """What ``make`` gave for ``key`` the first time; ``owner``, whose identity is in the key, is kept alive."""
        if key not in self._known:
            self._known[key] = (owner, make())
        return self._known[key][1]

    def __reduce__(self) -> tuple[type[Forms], tuple[()]]:
        return Forms, ()
