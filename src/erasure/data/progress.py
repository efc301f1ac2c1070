"""How far the reading of a data set is, for whoever wants to know."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["report", "reporting_to"]

OnProgress = Callable[[int, int], None]
"""Called with the samples that are done, and all of them."""

_RECEIVER: ContextVar[OnProgress | None] = ContextVar("receiver", default=None)


@contextmanager
def reporting_to(receiver: OnProgress) -> Iterator[None]:
    """Within the block, ``receiver`` is told how far the reading is."""
    token = _RECEIVER.set(receiver)
    try:
        yield
    finally:
        _RECEIVER.reset(token)


def report(done: int, total: int) -> None:
    """Say that ``done`` of ``total`` samples are read."""
    receiver = _RECEIVER.get()
    if receiver is not None:
        receiver(done, total)
