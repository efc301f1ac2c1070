"""Operations that making a model takes, counted while it is made once more."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import MinLen

from erasure.errors import RequirementNotMet
from erasure.measures.contract import Evaluation, Measure, Value
from erasure.types import Source

__all__ = ["Flops", "HardwareCounters"]


@dataclass(frozen=True, kw_only=True)
class Flops(Measure):
    """Floating-point operations that making the model takes.

    Answers: what does unlearning cost, whatever the machine? The method (for the original and gold: the training) is run once more, from
    the same seeds, while PyTorch counts the operations of matrix products, convolutions and attention, forward and backward; a
    multiplication and an addition are two. Element-wise operations, normalisation and optimizer steps are not counted, nor is what
    does not run in PyTorch. At least 0; less is better, and there is no ideal.

    **Cost**: the method, or the training, once more; nothing is kept of it.
    """

    source: ClassVar[Source | None] = Source(
        paper="Bookkeeping",
        code="aiim-research/ERASURE at d5bbbe5 (TorchFlops; not run against it)",
        deviations=(
            "The method is run again from the same seeds, so that its own time is taken without the counter.",
            "Operations are counted as they are dispatched (upstream adds up a profiler's estimates).",
        ),
    )
    higher_is_better: ClassVar[bool | None] = False
    value_range: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    unit: ClassVar[str] = "FLOP"
    ideal: ClassVar[Literal["gold"] | float | None] = None

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The number of operations."""
        from torch.utils.flop_counter import FlopCounterMode

        remake, times = evaluation.subject.epoch or (evaluation.subject.remake, 1)
        if remake is None:
            raise RequirementNotMet(
                f"{self.title} has to make the model once more, which is possible in a run of an experiment only"
            )
        counter = FlopCounterMode(display=False)
        with torch.enable_grad(), counter:
            remake()
        return [Value(value=float(times * counter.get_total_flops()))]


@dataclass(frozen=True, kw_only=True)
class HardwareCounters(Measure):
    """Events that the processor counts while the model is made once more.

    Answers: what does unlearning cost the processor, in its own terms? The counters are PAPI's, of the thread that runs the method: set
    the number of threads to 1 to count everything. Work on an accelerator is not seen. Which events there are depends on the
    processor, and the system must let users read them. At least 0; less is better, and there is no ideal.

    **Cost**: the method, or the training, once more; nothing is kept of it.

    Args:
        events: Names of PAPI's preset events, one value each, such as ``PAPI_TOT_INS`` (instructions), ``PAPI_TOT_CYC`` (cycles) or
            ``PAPI_LST_INS`` (loads and stores).
    """

    source: ClassVar[Source | None] = Source(
        paper="Browne, Dongarra, Garner, Ho, Mucci, International Journal of High Performance Computing Applications 14 (2000)",
        code="aiim-research/ERASURE at d5bbbe5 (PAPI; not run against it)",
        deviations=("The method is run again from the same seeds, so that its own time is taken without the counters.",),
    )
    higher_is_better: ClassVar[bool | None] = False
    value_range: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    ideal: ClassVar[Literal["gold"] | float | None] = None

    events: Annotated[tuple[str, ...], MinLen(1)] = ("PAPI_TOT_INS", "PAPI_TOT_CYC")

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """One value for each event."""
        remake = evaluation.subject.remake
        if remake is None:
            raise RequirementNotMet(
                f"{self.title} has to make the model once more, which is possible in a run of an experiment only"
            )
        papi, known = _papi()
        codes = [self._code(known, name) for name in self.events]
        try:
            events = papi.create_eventset()
            for code in codes:
                papi.add_event(events, code)
            papi.start(events)
        except Exception as error:
            raise RequirementNotMet(
                f"this machine does not count {', '.join(self.events)} ({type(error).__name__}: {error}); see what "
                "papi_avail lists, and allow users to read counters (kernel.perf_event_paranoid)"
            ) from error
        try:
            with torch.enable_grad():
                remake()
        finally:
            counts = papi.stop(events)
            papi.cleanup_eventset(events)
            papi.destroy_eventset(events)
        return [Value(value=float(n), name=f"{self.title} {name}") for name, n in zip(self.events, counts, strict=True)]

    def _code(self, known: Any, name: str) -> int:
        code = getattr(known, name, None)
        if not isinstance(code, int):
            raise RequirementNotMet(f'PAPI has no preset event "{name}"; see what papi_avail lists')
        return code


def _papi() -> tuple[Any, Any]:
    """The library, ready for use, and its table of events."""
    try:
        papi, events = importlib.import_module("pypapi.papi_low"), importlib.import_module("pypapi.events")
    except ImportError as error:
        raise RequirementNotMet(
            "hardware counters are read through PAPI, which is not installed: pip install python-papi (Linux only)"
        ) from error
    papi.library_init()
    return papi, events
