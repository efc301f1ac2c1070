"""Reading what comes next in a thread of its own, while the caller works on what came last."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["ahead"]

_T = TypeVar("_T")

_DEPTH = 2
"""Items read before they are asked for; each is held in memory."""


def ahead(items: Iterator[_T]) -> Iterator[_T]:
    """The same items in the same order, the next ones made meanwhile in a thread; an error comes where its item would have.

    Args:
        items: Asked for one after the other, by one thread only.
    """
    waiting: deque[Future[tuple[_T, ...]]] = deque()
    reader = ThreadPoolExecutor(1, thread_name_prefix="reading-ahead")

    def following() -> tuple[_T, ...]:
        # A StopIteration cannot travel through a future.
        for item in items:
            return (item,)
        return ()

    try:
        waiting.extend(reader.submit(following) for _ in range(_DEPTH))
        while found := waiting.popleft().result():
            waiting.append(reader.submit(following))
            yield found[0]
    finally:
        reader.shutdown(cancel_futures=True)
