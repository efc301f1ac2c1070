"""What stages cost, judged by earlier stages of the same kind."""

from __future__ import annotations

import statistics

from erasure.errors import StoreError
from erasure.store import Store

__all__ = ["estimates"]


def estimates(store: Store) -> dict[str, float]:
    """Median seconds of the stored stages of each signature."""
    seconds: dict[str, list[float]] = {}
    for address in store.addresses():
        try:
            artifact = store.open(address)
        except StoreError:
            continue  # a damaged object is reported when its stage is run
        signature = artifact.facts.get("signature")
        if isinstance(signature, str):
            seconds.setdefault(signature, []).append(artifact.elapsed_s)
    return {signature: statistics.median(values) for signature, values in seconds.items()}
