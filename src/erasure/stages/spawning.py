"""Starting processes: how many workers there are, and libraries that count cores when they are imported."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

__all__ = ["few_threads", "n_workers"]


_STARTING = threading.RLock()
"""One process at a time is started: the environment, and the script where that is hidden, are other ones meanwhile."""


def n_workers(threads: int, asked: int | None = None) -> int:
    """How many workers there are: as many as asked for, otherwise one for each ``threads`` cores this process may use."""
    if asked is not None:
        return asked
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // threads)


@contextlib.contextmanager
def few_threads() -> Iterator[None]:
    """Libraries that count cores when they are imported find one; other threads wait."""
    with _STARTING:
        before = os.environ.get("OMP_NUM_THREADS")
        os.environ["OMP_NUM_THREADS"] = "1"
        try:
            yield
        finally:
            if before is None:
                del os.environ["OMP_NUM_THREADS"]
            else:
                os.environ["OMP_NUM_THREADS"] = before
