"""The plan: every stage of an experiment under the address of what it is computed from.

Building a plan loads no data and trains nothing. Stages that are equal, in one experiment or in several, are one stage.
A partition's address is its lineage: the splitters that lead to it, not those beside it, so two forget sets of one training set
share their original model.
"""

from __future__ import annotations

from collections.abc import Iterable

from erasure.experiment.configuration import Experiment, LabelledUnlearner
from erasure.planning.group_planner import GroupPlanner
from erasure.planning.plan import Plan
from erasure.planning.plan_builder import PlanBuilder
from erasure.planning.seeds import Seeds
from erasure.stages.data import LoadData, ScoreSamples, SplitData
from erasure.stages.data_spec import DataSpec, data_spec
from erasure.stages.numerics import Numerics
from erasure.stages.training import TrainModel
from erasure.types import Json

__all__ = ["Planner", "build_plan"]


def build_plan(experiment: Experiment, repetitions: Iterable[Seeds], numerics: Numerics | None = None) -> Plan:
    """Plan an experiment.

    Args:
        experiment: The validated configuration.
        repetitions: Seeds of each repetition.
        numerics: Options that change the numbers.

    Raises:
        DataError: If a file of the data is missing.
    """
    plan = Plan(experiment=experiment, numerics=numerics or Numerics())
    fingerprint = experiment.data.data_source.fingerprint()
    for seeds in repetitions:
        Planner(plan, seeds, fingerprint).repeat()
    return plan


class Planner:
    """Adds one repetition to a plan."""

    def __init__(self, plan: Plan, seeds: Seeds, fingerprint: Json) -> None:
        self.plan: Plan = plan
        self.seeds: Seeds = seeds
        self.experiment: Experiment = plan.experiment
        self.data: DataSpec = data_spec(self.experiment, seeds.stream("split"), fingerprint, plan.numerics, plan.forms)
        self.builder: PlanBuilder = PlanBuilder(plan, self.data)
        self.train_seed: int = seeds.stream("train")
        self.common: Seeds = self._common(seeds)

    def _common(self, seeds: Seeds) -> Seeds:
        """Seeds of all that models are compared with: the repetition's own, or those of the first original of the split."""
        if not self.experiment.evaluator.shared_golds:
            return seeds
        return next((repetition.seeds for repetition in self.plan.repetitions if repetition.seeds.split == seeds.split), seeds)

    def repeat(self) -> None:
        """The data and the original, then each retain partition with its golds and methods."""
        self.plan.data.append(self.data)
        self.builder.add(LoadData(data=self.data))
        for place in self.data.scores:
            self.builder.add(ScoreSamples(name=f"score samples for {self._parts(place)}", data=self.data, place=place))
        self.builder.add(SplitData(data=self.data))
        original = self._train("train original", self.experiment.predictor.training_set, self.train_seed)
        by_retain: dict[str, list[LabelledUnlearner]] = {}
        for entry in self.experiment.unlearners:
            by_retain.setdefault(entry.unlearner.retain, []).append(entry)
        for retain, entries in (by_retain or {"retain": []}).items():
            suffix = f" on {retain}" if len(by_retain) > 1 else ""
            group = GroupPlanner(self.builder, self.seeds, self.common, retain=retain, original=original, suffix=suffix)
            self.plan.repetitions.append(group.plan(entries))

    def _parts(self, place: int) -> str:
        return " and ".join(name for name in self.data.splitters[place].parts if name != "-")

    def _train(self, name: str, partition: str, seed: int) -> str:
        return self.builder.add(TrainModel(name=name, data=self.data, partition=partition, seed=seed))
