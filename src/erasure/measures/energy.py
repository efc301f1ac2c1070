"""Energy that making a model takes, metered while it is made once more."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from erasure.errors import RequirementNotMet
from erasure.measures.contract import Evaluation, Measure, Value
from erasure.types import Source

__all__ = ["Energy"]

_COUNTERS = Path("/sys/class/powercap")
_JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True, kw_only=True)
class Energy(Measure):
    """Energy that making the model takes, in joules.

    Answers: what does unlearning cost the environment? The method (for the original and gold: the training) is run once more, from the
    same seeds, while a meter runs. What is metered is the machine, not the process: run nothing else meanwhile. CodeCarbon adds up
    processors, memory and NVIDIA accelerators, and estimates what it cannot read. The processor's own counters (RAPL) are exact for
    processors and, where the machine has them, memory; they know nothing of accelerators. At least 0; less is better, and there is no
    ideal. Values compare on one machine and meter only, and a run should last seconds at least.

    **Cost**: the method, or the training, once more; nothing is kept of it.

    Args:
        meter: ``codecarbon``, ``rapl``, or ``auto``: CodeCarbon if it is installed, otherwise RAPL.
        optional: Whether to give no value where nothing can be metered; otherwise that is refused with the reason.
    """

    source: ClassVar[Source | None] = Source(
        paper="David et al., RAPL: Memory Power Estimation and Capping, ISLPED 2010; Courty et al., CodeCarbon, doi:10.5281/zenodo.4658424",
    )
    higher_is_better: ClassVar[bool | None] = False
    value_range: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    unit: ClassVar[str] = "J"
    ideal: ClassVar[Literal["gold"] | float | None] = None
    on_jury: ClassVar[bool] = False

    meter: Literal["auto", "codecarbon", "rapl"] = "auto"
    optional: bool = True

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The energy, or nothing."""
        remake = evaluation.subject.remake
        try:
            if remake is None:
                raise RequirementNotMet("Energy reruns the method, which needs an experiment run")
            joules = self._metered(remake, evaluation.y.device)
        except RequirementNotMet:
            if self.optional:
                return ()
            raise
        return [Value(value=joules)]

    def _metered(self, remake: Callable[[], object], device: torch.device) -> float:
        has_codecarbon = importlib.util.find_spec("codecarbon") is not None
        if self.meter == "codecarbon" and not has_codecarbon:
            raise RequirementNotMet("energy is to be metered by CodeCarbon, which is not installed: pip install codecarbon")
        if self.meter != "rapl" and has_codecarbon:
            return _by_codecarbon(remake)
        if device.type != "cpu":
            raise RequirementNotMet(
                f"the processor's counters know nothing of the work on {device.type}: pip install codecarbon, or run on the CPU"
            )
        return _by_rapl(remake, _Counters(_COUNTERS))


def _by_codecarbon(remake: Callable[[], object]) -> float:
    """Joules by CodeCarbon.

    Raises:
        RequirementNotMet: If it metered nothing.
    """
    codecarbon = importlib.import_module("codecarbon")
    # Nothing is to be written; the option's name depends on the version.
    silent: dict[str, Any] = {"output_methods": []} if hasattr(codecarbon, "OutputMethod") else {"save_to_file": False}
    tracker = codecarbon.OfflineEmissionsTracker(
        # Energy does not depend on the country; naming one keeps the tracker from asking the network.
        country_iso_code="USA",
        allow_multiple_runs=True,
        measure_power_secs=1,
        log_level="error",
        **silent,
    )
    tracker.start()
    try:
        with torch.enable_grad():
            remake()
    finally:
        tracker.stop()
    # It logs its own errors and goes on.
    found = getattr(tracker, "final_emissions_data", None)
    if found is None:
        raise RequirementNotMet('CodeCarbon metered nothing; its log says why. Take meter "rapl" if it cannot run here')
    return float(found.energy_consumed) * _JOULES_PER_KWH


def _by_rapl(remake: Callable[[], object], counters: _Counters, *, period_s: float = 10.0) -> float:
    """Joules by the counters, which are read every ``period_s`` seconds, long before they can wrap around twice."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(period_s):
            counters.read()

    watcher = threading.Thread(target=watch, name="energy", daemon=True)
    watcher.start()
    try:
        with torch.enable_grad():
            remake()
    finally:
        done.set()
        watcher.join()
    counters.read()
    return counters.joules


class _Counters:
    """Energy since they were made, by the kernel's counters of packages and of memory outside of them.

    A counter counts microjoules and starts again from 0 after its largest value. Zones within a package, but for memory, are part of it,
    and ``psys`` is all of the machine: neither is added.

    Args:
        folder: Where the kernel shows the zones, ``/sys/class/powercap``.

    Raises:
        RequirementNotMet: If there are no counters, or they cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        zones = sorted(each for each in folder.glob("intel-rapl:*") if (each / "energy_uj").exists())
        zones = [each for each in zones if _counts(each)]
        if not zones:
            raise RequirementNotMet(f"there are no energy counters (RAPL) under {folder}: pip install codecarbon for estimates")
        try:
            self._last = {zone: _number(zone / "energy_uj") for zone in zones}
            self._largest = {zone: _number(zone / "max_energy_range_uj") for zone in zones}
        except (OSError, ValueError) as error:
            raise RequirementNotMet(
                f"the energy counters under {folder} cannot be read ({error}): ask for the right to read energy_uj, "
                "or pip install codecarbon"
            ) from error
        self._microjoules = 0

    def read(self) -> None:
        """Add what was used since the last reading."""
        for zone, before in self._last.items():
            now = _number(zone / "energy_uj")
            self._microjoules += now - before if now >= before else now + self._largest[zone] - before
            self._last[zone] = now

    @property
    def joules(self) -> float:
        """Energy up to the last reading."""
        return self._microjoules / 1e6


def _counts(zone: Path) -> bool:
    name = (zone / "name").read_text().strip()
    is_part = zone.name.count(":") > 1
    return name == "dram" if is_part else name != "psys"


def _number(path: Path) -> int:
    return int(path.read_text())
