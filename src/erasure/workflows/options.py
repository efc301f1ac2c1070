"""How a run is carried out: one field an option, for the command line and for Python."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from erasure.experiment.configuration import Experiment
from erasure.planning.seeds import Seeds
from erasure.types import Json

__all__ = ["RunOptions"]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run is carried out; none of it belongs to the configuration.

    Args:
        seeds: Root seed of each repetition; by default the configuration's alone.
        store: Where intermediate results are kept; by default ``$ERASURE_STORE`` or ``.erasure/store``.
        output: Where result files go; None writes none.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        precision: ``fp32`` or ``bf16``.
        threads: CPU threads of one operation; results on the CPU are the same bytes for the same number.
        executor: ``serial`` runs one stage after the other in this process, ``processes`` a pool of processes on this machine, ``ray``
            a cluster. The results are the same bytes.
        workers: How many stages run at a time; by default as many as there are cores for.
        address: Address of a running Ray cluster; by default one is started on this machine.
        axes: Seeds of an axis (``split``, ``train``, ``unlearn``, ``evaluate``) instead of the root's; every combination is a
            repetition.
        report: Whether an HTML report is made as well as the result files.
        shared_store: Whether all nodes of a Ray cluster see the store's directory; otherwise objects travel through Ray.
        devices: Devices of this machine that train a model together, one process each; methods and measures run on one.
        strategy: ``ddp`` has all weights on every device, ``fsdp`` a shard of them.
        looks: Looks that are planned at the output while seeds are added; each takes its share of the level.
    """

    seeds: tuple[int, ...] | None = None
    store: Path | None = None
    output: Path | None = None
    device: str = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    threads: int = 1
    executor: Literal["serial", "processes", "ray"] = "serial"
    workers: int | None = None
    address: str | None = None
    shared_store: bool = True
    axes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    report: bool = True
    devices: int = 1
    strategy: Literal["ddp", "fsdp"] = "ddp"
    looks: int | None = None

    def repetitions(self, experiment: Experiment) -> list[Seeds]:
        """Seeds of every repetition: each root seed with every combination of the axes that have seeds of their own."""
        roots = dict.fromkeys(self.seeds or (experiment.globals.seed,))
        fixed = {} if experiment.data.split_seed is None else {"split": (experiment.data.split_seed,)}
        axes = fixed | {axis: tuple(dict.fromkeys(seeds)) for axis, seeds in self.axes.items() if seeds}
        found = [
            replace(Seeds.all(root), **dict(zip(axes, chosen, strict=True)))
            for root in roots
            for chosen in itertools.product(*axes.values())
        ]
        return list(dict.fromkeys(found))

    def record(self) -> dict[str, Json]:
        """The options as JSON."""
        return {
            "seeds": None if self.seeds is None else list(self.seeds),
            "axes": {axis: list(seeds) for axis, seeds in self.axes.items()},
            "device": self.device,
            "precision": self.precision,
            "threads": self.threads,
            "executor": self.executor,
            "workers": self.workers,
            **({"devices": self.devices, "strategy": self.strategy} if self.devices > 1 else {}),
        }
