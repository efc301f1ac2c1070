"""What the suites share: one way to fail, and the state of everybody's random generators."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import numpy as np
import torch

__all__ = ["array_digest", "check", "check_generators", "global_states"]


def check(holds: bool, failure: str) -> None:
    """Fail a test, with or without pytest.

    Raises:
        AssertionError: With ``failure``, if it does not hold.
    """
    if not holds:
        raise AssertionError(failure)


def global_states() -> tuple[Any, ...]:
    """The states of the global generators of torch, numpy and random, in this order; two are equal if nothing was drawn between."""
    kind, keys, *rest = np.random.get_state()
    return torch.get_rng_state().numpy().tobytes(), (kind, np.asarray(keys).tobytes(), *rest), random.getstate()


def check_generators(before: tuple[Any, ...], after: tuple[Any, ...] | None = None) -> None:
    """Fail if a global generator was drawn from between what :func:`global_states` gave ``before`` and ``after``, or now."""
    for name, state, was in zip(("torch", "numpy", "random"), after or global_states(), before, strict=True):
        check(state == was, f"the global generator of {name} was used")


def array_digest(values: Any) -> str:
    """SHA-256 of an array's type, shape and content; objects by their representation."""
    array = np.asarray(values)
    content = repr(array.tolist()).encode() if array.dtype == object else np.ascontiguousarray(array).tobytes()
    return hashlib.sha256(f"{array.dtype}{array.shape}".encode() + content).hexdigest()
