"""Plans one group: an original, the golds of one retain partition, the methods that are compared with them, and what is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from erasure.experiment.configuration import Experiment, LabelledUnlearner, Trace
from erasure.measures.contract import Measure, ModelRole
from erasure.measures.requested_models import Repeated, UnlearnedShadow
from erasure.planning.plan import Repetition, ReportedModel
from erasure.planning.plan_builder import PlanBuilder
from erasure.planning.requested_models import RequestPlanner
from erasure.planning.seeds import Seeds
from erasure.stages.blocks import split_member
from erasure.stages.data_spec import DataSpec
from erasure.stages.measuring import CheckModel, MeasureModel
from erasure.stages.tracing import SelectEpoch, TraceEpochs, traced_partitions
from erasure.stages.training import TrainModel
from erasure.stages.unlearning import UnlearnModel
from erasure.training.devices import Precision
from erasure.training.ensemble import unsuited

__all__ = ["GroupPlanner"]


class GroupPlanner:
    """Plans the models that are compared with one another.

    Args:
        builder: Takes the stages.
        seeds: Seeds of the repetition.
        common: Seeds of all that models are compared with.
        retain: The partition that gold is trained on.
        original: Address of the original.
        suffix: What the names of its golds end with.
    """

    def __init__(self, builder: PlanBuilder, seeds: Seeds, common: Seeds, *, retain: str, original: str, suffix: str) -> None:
        self.builder: PlanBuilder = builder
        self.data: DataSpec = builder.data
        self.experiment: Experiment = builder.plan.experiment
        self.measures: tuple[Measure, ...] = self.experiment.evaluator.measures
        self.seeds: Seeds = seeds
        self.common: Seeds = common
        self.retain: str = retain
        self.original: str = original
        self.suffix: str = suffix
        self.requests: RequestPlanner = RequestPlanner(builder, common, retain)
        self.references: dict[str, str] = {}
        self.floors: tuple[str, ...] = ()

    def plan(self, entries: Sequence[LabelledUnlearner]) -> Repetition:
        """Plan the golds, the methods, and what is measured of all of them."""
        has_gold = self.retain in self.data.partition_addresses
        gold = self._train(f"train gold{self.suffix}", self.retain, self.common.stream("train")) if has_gold else ""
        self.floors = self._jury(self.experiment.evaluator.floor_repeats if has_gold and self.measures else 0)
        first = self._train("train original", self.experiment.predictor.training_set, self.common.stream("train"))
        self.references = {"original": first} | ({"gold": gold} if gold else {})
        return Repetition(
            seeds=self.seeds,
            retain=self.retain,
            original=self._with_jury(self._subject("original", None, self.original)),
            gold=self._subject("gold", None, gold) if gold else None,
            floors=tuple(self._floor(model) for model in self.floors),
            unlearned=tuple(self._with_jury(self._unlearned(entry)) for entry in entries),
            shares_jury=self.experiment.evaluator.shared_golds,
        )

    def _train(self, name: str, partition: str, seed: int) -> str:
        return self.builder.add(TrainModel(name=name, data=self.data, partition=partition, seed=seed))

    def _jury(self, n_golds: int) -> tuple[str, ...]:
        """Golds of other seeds: in blocks where the recipe lets them be trained together, else each by a stage of its own."""
        predictor, numerics = self.data.predictor, self.builder.plan.numerics
        precision: Precision = "bf16" if numerics.precision == "bf16" else "fp32"
        if numerics.devices == 1 and predictor.model.stackable and unsuited(predictor, precision) is None:
            return self.requests.golds(n_golds)
        return tuple(
            self._train(f"train gold {number}{self.suffix}", self.retain, self.common.stream("train", "gold", number))
            for number in range(1, n_golds + 1)
        )

    def _floor(self, model: str) -> ReportedModel:
        """A further gold; costs and populations are not measured on it."""
        values = tuple(
            self._values(measure, "gold", model, None) if "gold" in measure.targets() and _is_on_jury(measure) else None
            for measure in self.measures
        )
        return ReportedModel(role="gold", entry=None, model=model, values=values)

    def _with_jury(self, reported: ReportedModel) -> ReportedModel:
        """The subject with what attacks that are calibrated on models treated like it find on the further golds.

        Calibrated on golds' own models, the luck of those would look like a difference.
        """
        is_exact = reported.entry is not None and reported.entry.unlearner.exact
        calibrated = [] if is_exact else [_is_on_jury(measure) and _is_calibrated(measure) for measure in self.measures]
        if not any(calibrated):
            return reported
        jury = tuple(
            tuple(
                self._values(measure, "gold", model, reported.entry, treated=reported.role) if own else None
                for measure, own in zip(self.measures, calibrated, strict=True)
            )
            for model in self.floors
        )
        return replace(reported, jury=jury)

    def _unlearned(self, entry: LabelledUnlearner) -> ReportedModel:
        trace = self.experiment.evaluator.trace
        own = {**self.references, "original": self.original}
        stage = UnlearnModel(
            name=f"unlearn {entry.label}",
            data=self.data,
            original=self.original,
            unlearner=entry.unlearner,
            seed=self.seeds.stream("unlearn"),
            train_seed=self.seeds.stream("train"),
            is_traced=trace is not None,
            gold=self.references.get("gold", ""),
        )
        model, traced = self.builder.add(stage), ""
        if trace is not None:
            traced = self._trace(trace, entry, model, own)
            if trace.select != "last":
                name = f"select an epoch of {entry.label}"
                model = self.builder.add(SelectEpoch(name=name, data=self.data, model=model, traced=traced, rule=trace.select))
        reported = self._subject("unlearned", entry, model)
        return replace(reported, check=self._check(entry, model, own), trace=traced)

    def _trace(self, trace: Trace, entry: LabelledUnlearner, model: str, references: Mapping[str, str]) -> str:
        edges = {name for measure in trace.measures for name in measure.of_edges()}
        partitions = dict.fromkeys(traced_partitions(trace, self.data.partition_addresses))
        stage = TraceEpochs(
            name=f"trace {entry.label}",
            data=self.data,
            model=model,
            unlearner=entry.unlearner,
            trace=trace,
            references=references,
            seed=self.seeds.stream("evaluate"),
            passes=tuple(self.builder.outputs(set(references.values()), [name for name in partitions if name not in edges])),
        )
        return self.builder.add(stage)

    def _subject(self, role: ModelRole, entry: LabelledUnlearner | None, model: str) -> ReportedModel:
        values = tuple(
            self._values(measure, role, model, entry) if role in measure.targets() else None for measure in self.measures
        )
        return ReportedModel(role=role, entry=entry, model=model, values=values)

    def _values(
        self,
        measure: Measure,
        role: ModelRole,
        model: str,
        entry: LabelledUnlearner | None,
        *,
        treated: ModelRole | None = None,
    ) -> str:
        """Values of a model; models that the measure requests are treated like it, or as the kind ``treated`` is."""
        needed: dict[str, str] = {kind: self.references[kind] for kind in sorted(measure.references) if kind in self.references}
        of_samples = [name for name in self.data.addresses_of(measure.partitions()) if name not in measure.of_edges()]
        passes = self.builder.outputs({model, *needed.values()}, of_samples)
        requested, made_and_run = self.requests.requested(measure, treated or role, entry, self.original)
        whose = entry.label if entry is not None else role
        stage = MeasureModel(
            name=f"measure {measure.title} of {whose if treated is None else f'gold as {whose}'}",
            data=self.data,
            model=model,
            role=role,
            measure=measure,
            references=needed,
            seed=self.common.stream("evaluate"),
            passes=tuple(passes),
            requested=requested,
            blocks={where: self.builder.block(where) for where in {split_member(place)[0] for place in requested.values()}},
            made_and_run=tuple(made_and_run),
            maker=self.builder.plan.stages.get(model),
        )
        return self.builder.add(stage)

    def _check(self, entry: LabelledUnlearner, model: str, references: Mapping[str, str]) -> str:
        unlearner = entry.unlearner
        partitions = [name for name in (unlearner.forget, unlearner.retain) if name in self.data.partition_addresses]
        stage = CheckModel(
            name=f"judge {entry.label}",
            data=self.data,
            model=model,
            forget=unlearner.forget,
            retain=unlearner.retain,
            references=references,
            floors=self.floors,
            passes=tuple(self.builder.outputs({model, *references.values(), *self.floors}, partitions)),
        )
        return self.builder.add(stage)


def _is_on_jury(measure: Measure) -> bool:
    return measure.on_jury and not any(isinstance(request, Repeated) for request, _ in measure.requests("gold"))


def _is_calibrated(measure: Measure) -> bool:
    """Whether a measure is fitted on models that went through what the subject went through."""
    return any(isinstance(request, UnlearnedShadow) for request, _ in measure.requests("unlearned"))
