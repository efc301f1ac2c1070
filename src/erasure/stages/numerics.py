"""The options of a run that change its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from erasure.types import Json

__all__ = ["Numerics"]


@dataclass(frozen=True)
class Numerics:
    """Run options that change the numbers, and therefore every address behind the data.

    Args:
        device: Type of the device, such as ``cpu``.
        precision: ``fp32`` or ``bf16``.
        threads: Threads of one operation on the CPU.
        devices: Devices that train a model together.
        strategy: How they do it, ``ddp`` or ``fsdp``.
    """

    device: str = "cpu"
    precision: str = "fp32"
    threads: int = 1
    devices: int = 1
    strategy: Literal["ddp", "fsdp"] = "ddp"

    def json(self) -> Json:
        """For an address; threads matter on the CPU alone."""
        threads = {"threads": self.threads} if self.device == "cpu" else {}
        together: dict[str, Json] = {"devices": self.devices, "strategy": self.strategy} if self.devices > 1 else {}
        return {"device": self.device, "precision": self.precision} | threads | together
