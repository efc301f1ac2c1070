"""What stages cost, judged by earlier stages of the same kind."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from erasure.store import Store

__all__ = ["Cost", "costs", "estimates"]


@dataclass(frozen=True)
class Cost:
    """What a stage of a signature takes.

    Args:
        elapsed_s: Median seconds of the earlier ones.
        peak_memory_mib: Most memory that one of them took, or None if none of them says.
        n: How many earlier ones there are.
    """

    elapsed_s: float
    peak_memory_mib: float | None
    n: int


def costs(store: Store) -> dict[str, Cost]:
    """Cost of each signature that the store has stages of; damaged objects do not count."""
    seconds: dict[str, list[float]] = {}
    memory: dict[str, float] = {}
    for entry in store.entries():
        if entry.signature:
            seconds.setdefault(entry.signature, []).append(entry.elapsed_s)
            if entry.peak_memory_mib is not None:
                memory[entry.signature] = max(memory.get(entry.signature, 0.0), entry.peak_memory_mib)
    return {
        signature: Cost(statistics.median(values), memory.get(signature), len(values)) for signature, values in seconds.items()
    }


def estimates(store: Store) -> dict[str, float]:
    """Median seconds of the stored stages of each signature."""
    return {signature: cost.elapsed_s for signature, cost in costs(store).items()}
