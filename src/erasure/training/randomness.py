"""Named random streams: every random choice has a name, and no choice disturbs another.

A seed is derived from its parent seed and a name, so adding a consumer never shifts the numbers of the others. Global generators
are only ever used inside :func:`isolated`, which seeds them from a stream and restores them afterwards (PyTorch's own modules
draw dropout masks and initial weights from the global generator).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["Streams", "derive", "isolated"]


@functools.lru_cache(maxsize=4096, typed=True)  # a run asks for most seeds a dozen times
def derive(seed: int, *names: str | int) -> int:
    """Seed of the child stream ``names`` of ``seed``.

    Args:
        seed: Parent seed, any non-negative integer.
        names: Path of the child, such as ``("shadow", 3)``.

    Returns:
        An integer in ``[0, 2**63)``.

    Example:
        >>> derive(0, "train") == derive(0, "train"), derive(0, "train") == derive(0, "unlearn")
        (True, False)
    """
    words = [int.from_bytes(hashlib.sha256(repr(name).encode()).digest()[:8], "big") for name in names]
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=tuple(words))
    return int(sequence.generate_state(1, np.uint64)[0]) >> 1


class Streams:
    """Independent generators by name, all derived from one seed.

    Asking twice for a name gives two generators in the same state, so a caller keeps the one it draws from.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def child(self, *names: str | int) -> Streams:
        """The sub-tree of streams under ``names``."""
        return Streams(derive(self.seed, *names))

    def torch(self, *names: str | int, device: torch.device | str = "cpu") -> torch.Generator:
        """A fresh torch generator for the stream ``names``."""
        return torch.Generator(device=device).manual_seed(derive(self.seed, *names))

    def numpy(self, *names: str | int) -> np.random.Generator:
        """A fresh numpy generator for the stream ``names``."""
        return np.random.default_rng(derive(self.seed, *names))


@contextmanager
def isolated(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seed torch's global generators inside the block and put them back afterwards.

    Args:
        seed: Seed for the block.
        device: The device whose generator is used beside the CPU's.
    """
    device = torch.device(device)
    devices = [device] if device.type in {"cuda", "xpu"} else []
    kind = device.type if devices else "cuda"
    with torch.random.fork_rng(devices=devices, device_type=kind):
        # torch.manual_seed would also reseed every visible accelerator, outside the fork.
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.manual_seed(seed)
        yield
