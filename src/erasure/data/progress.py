"""How far the reading of a data set is, for whoever wants to hear it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["hearing", "report"]

Hears = Callable[[int, int], None]
"""Called with the samples that are done, and all of them."""

_HEARS: ContextVar[Hears | None] = ContextVar("hears", default=None)


@contextmanager
def hearing(hears: Hears) -> Iterator[None]:
    """Within the block, ``hears`` is told how far the reading is."""
    token = _HEARS.set(hears)
    try:
        yield
    finally:
        _HEARS.reset(token)


def report(done: int, total: int) -> None:
    """Say that ``done`` of ``total`` samples are read."""
    hears = _HEARS.get()
    if hears is not None:
        hears(done, total)
