"""What making a model costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from erasure.errors import RequirementNotMet
from erasure.measures.contract import Evaluation, Measure, ModelRole, Reference, Value
from erasure.types import ANY_TASK, Source, Task

__all__ = ["RunTime", "SpeedUp"]


@dataclass(frozen=True, kw_only=True)
class RunTime(Measure):
    """Seconds and memory that making the model took.

    Answers: what does unlearning cost? ``RunTime`` is the wall-clock time of the method itself (for the original and gold, of the
    training); ``precompute`` is one-off work that does not depend on the forget set, reported next to it; ``peak memory`` is the
    largest memory of the process meanwhile, in MiB, where it is known. Times compare only on one machine.
    """

    source: ClassVar[Source | None] = Source(
        paper="Bookkeeping",
        code="aiim-research/ERASURE at d5bbbe5 (RunTime)",
        tested="times by hand (tests/unit/measures/test_run_time.py)",
        deviations=("Nothing else is switched on while the clock runs (upstream traces every allocation of Python).",),
    )
    higher_is_better: ClassVar[bool | None] = False
    value_range: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    defined_for: ClassVar[frozenset[Task]] = ANY_TASK
    unit: ClassVar[str] = "s"
    ideal: ClassVar[Literal["gold"] | float | None] = None
    on_jury: ClassVar[bool] = False

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """Seconds, seconds of one-off work, and peak memory if known."""
        subject = evaluation.subject
        values = [
            Value(value=subject.elapsed_s),
            Value(value=subject.precompute_s, name="precompute"),
        ]
        if subject.peak_memory_mib is not None:
            values.append(Value(value=subject.peak_memory_mib, name="peak memory", unit="MiB"))
        return values


@dataclass(frozen=True, kw_only=True)
class SpeedUp(Measure):
    r"""How many times faster than retraining the method is (run-time efficiency, RTE).

    Answers: is unlearning worth it?

    .. math:: \mathrm{RTE} = t_{\text{gold}} / t_{\text{unlearned}}

    in times; above 1 is faster than retraining. One-off work before any request is not counted; :class:`RunTime` shows it.
    """

    source: ClassVar[Source | None] = Source(paper="Jia et al., NeurIPS 2023, arXiv:2304.04934 (run-time efficiency)")
    higher_is_better: ClassVar[bool | None] = True
    value_range: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    defined_for: ClassVar[frozenset[Task]] = ANY_TASK
    unit: ClassVar[str] = "x"
    ideal: ClassVar[Literal["gold"] | float | None] = None
    on_jury: ClassVar[bool] = False
    references: ClassVar[frozenset[Reference]] = frozenset({"gold"})
    applies_to: ClassVar[frozenset[ModelRole]] = frozenset({"unlearned"})

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The ratio of the two times."""
        gold = evaluation.model("gold").elapsed_s
        if evaluation.subject.elapsed_s <= 0:
            raise RequirementNotMet("the time of the method is zero: too short for this clock to compare")
        return [Value(value=gold / evaluation.subject.elapsed_s)]
