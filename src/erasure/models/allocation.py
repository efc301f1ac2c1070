"""Where the tensors of a forward pass get their memory."""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["mapped_apart"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of ``mallopt`` (3)."""

APART = 2**18
"""Bytes from which on a tensor gets memory of its own."""

_USUAL = 2**25
"""Where the C library puts the border by itself once larger blocks have been freed."""


@contextmanager
def mapped_apart() -> Iterator[None]:
    """Let large tensors that are made in this block have memory of their own, which goes back as soon as they do.

    What a forward pass keeps and what it frees at once otherwise stand one after the other, and the holes between tensors that are kept
    are too small for what the next block needs: over the blocks of a network they grow to three quarters of what is kept. Only where
    glibc allocates memory; elsewhere nothing happens. No number changes.
    """
    option = _mallopt()
    if option is None:
        yield
        return
    option(_MMAP_THRESHOLD, APART)
    try:
        yield
    finally:
        option(_MMAP_THRESHOLD, _USUAL)
        option(_TRIM_THRESHOLD, 2 * _USUAL)


@functools.cache
def _mallopt() -> Callable[[int, int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    # Other C libraries have a function of this name that does nothing, or none.
    return library.mallopt if hasattr(library, "gnu_get_libc_version") and hasattr(library, "mallopt") else None
