"""What a plan is: stages by address, the data they share, and the models whose rows are wanted."""

from __future__ import annotations

import html
from dataclasses import dataclass, field

from erasure.experiment.configuration import Experiment, LabelledUnlearner
from erasure.measures.contract import ModelRole
from erasure.planning.flow import flow_svg
from erasure.planning.seeds import Seeds
from erasure.stages.data_spec import DataSpec
from erasure.stages.forms import Forms
from erasure.stages.numerics import Numerics
from erasure.stages.stage import Stage

__all__ = ["Plan", "Repetition", "ReportedModel"]


@dataclass(frozen=True, eq=False, kw_only=True)
class ReportedModel:
    """A model whose rows are wanted.

    Args:
        role: Which of the three kinds it is.
        entry: The unlearner, for an unlearned model.
        model: Address of the model.
        values: Address of each measure's values, in the order of the measures; None where it does not apply.
        check: Address of the verdict, for an unlearned model.
        trace: Address of the trace, for an unlearned model, if one was asked for.
        jury: Of each further gold the address of the values that are calibrated on models treated like this one; None for other measures.
    """

    role: ModelRole
    entry: LabelledUnlearner | None
    model: str
    values: tuple[str | None, ...]
    check: str = ""
    trace: str = ""
    jury: tuple[tuple[str | None, ...], ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class Repetition:
    """Models that are compared with one another: one repetition, one gold.

    Args:
        seeds: The repetition.
        retain: Partition gold is trained on.
        original: The original.
        gold: The gold model, if there is a retain partition.
        floors: Golds of other seeds.
        unlearned: The unlearned models.
        shares_jury: Whether other groups of the split have the same further golds.
    """

    seeds: Seeds
    retain: str
    original: ReportedModel
    gold: ReportedModel | None
    floors: tuple[ReportedModel, ...]
    unlearned: tuple[ReportedModel, ...]
    shares_jury: bool = False


@dataclass(eq=False, kw_only=True)
class Plan:
    """The stages of an experiment, each after what it requires, and the models whose rows are wanted.

    Args:
        experiment: What is planned.
        numerics: Options that change the numbers.
        stages: Stage by address.
        repetitions: What becomes of them.
        data: The data, one for each split seed.
        forms: Canonical forms of components.
    """

    experiment: Experiment
    numerics: Numerics
    stages: dict[str, Stage] = field(default_factory=dict)
    repetitions: list[Repetition] = field(default_factory=list)
    data: list[DataSpec] = field(default_factory=list)
    forms: Forms = field(default_factory=Forms, repr=False)

    def add(self, stage: Stage) -> str:
        """Plan a stage, unless an equal one is planned; its address."""
        self.stages.setdefault(stage.address, stage)
        return stage.address

    def _repr_html_(self) -> str:
        """The stages, in a notebook: which kinds wait for which, and a line for each."""
        kinds = {stage.kind: 0 for stage in self.stages.values()}
        for stage in self.stages.values():
            kinds[stage.kind] += 1
        follows = {(self.stages[a].kind, s.kind) for s in self.stages.values() for a in s.requires if a in self.stages}
        cells = (
            f"<tr><td>{html.escape(s.name)}</td><td>{s.kind}</td><td><code>{a[:12]}</code></td></tr>"
            for a, s in self.stages.items()
        )
        head = "<tr><th>stage</th><th>kind</th><th>address</th></tr>"
        table = f"<table><caption>{len(self.stages)} stages</caption><thead>{head}</thead><tbody>{''.join(cells)}</tbody></table>"
        return f"{flow_svg(kinds, follows)}<details{' open' if len(self.stages) <= 30 else ''}><summary>stages</summary>{table}</details>"
