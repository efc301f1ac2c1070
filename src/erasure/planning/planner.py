"""The plan: every stage of an experiment under the address of what it is computed from.

Building a plan loads no data and trains nothing. Stages that are equal, in one experiment or in several, are one stage.
A partition's address is its lineage: the splitters that lead to it, not those beside it, so two forget sets of one training set
share their original model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from erasure.component import Component, canonical
from erasure.experiment.configuration import Experiment, LabelledUnlearner, Trace
from erasure.measures.contract import Measure, ModelKind
from erasure.measures.requested_models import Repeated, UnlearnedShadow
from erasure.planning.requested_models import BankPlanner
from erasure.planning.seeds import Seeds
from erasure.planning.stages import Group, Job, Numerics, Plan, Scene, Stage, Subject, outputs_content, short, training_content
from erasure.stages.blocks import split_member
from erasure.store.addresses import address
from erasure.training.devices import Precision
from erasure.training.ensemble import unsuited
from erasure.training.predictor import Predictor
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
        Planner(plan, seeds, fingerprint).plan()
    return plan


class Planner:
    """Adds one repetition to a plan."""

    def __init__(self, plan: Plan, seeds: Seeds, fingerprint: Json) -> None:
        self.plan_, self.seeds, self.experiment = plan, seeds, plan.experiment
        self.measures = self.experiment.evaluator.measures
        self.like = ""
        self.scene = self._scene(fingerprint)
        self.train_seed = seeds.stream("train")
        self.retain = "retain"
        self.common = self._common(seeds)
        self.original = ""
        self.passes: dict[tuple[str, str], str] = {}
        self.bank = BankPlanner(self)

    def _common(self, seeds: Seeds) -> Seeds:
        """Seeds of all that models are compared with: the repetition's own, or those of the first original of the split."""
        if not self.experiment.evaluator.shared_golds:
            return seeds
        return next((group.seeds for group in self.plan_.groups if group.seeds.split == seeds.split), seeds)

    def plan(self) -> None:
        """The original, then each retain partition with its golds and methods."""
        self.plan_.scenes.append(self.scene)
        predictor = self.experiment.predictor
        original = self._train("train original", predictor.training_set, self.train_seed)
        by_retain: dict[str, list[LabelledUnlearner]] = {}
        for entry in self.experiment.unlearners:
            by_retain.setdefault(entry.unlearner.retain, []).append(entry)
        for retain, entries in (by_retain or {"retain": []}).items():
            self._group(retain, entries, original, self._suffix(retain, len(by_retain)))

    @staticmethod
    def _suffix(retain: str, n_groups: int) -> str:
        return f" on {retain}" if n_groups > 1 else ""

    def _group(self, retain: str, entries: Sequence[LabelledUnlearner], original: str, suffix: str) -> None:
        self.retain = retain
        self.original = original
        has_gold = retain in self.scene.lineage
        gold = self._train(f"train gold{suffix}", retain, self.common.stream("train")) if has_gold else ""
        n_floors = self.experiment.evaluator.floor_repeats if has_gold and self.measures else 0
        floors = self._jury(retain, n_floors, suffix)
        first = self._train("train original", self.experiment.predictor.training_set, self.common.stream("train"))
        references = {"original": first} | ({"gold": gold} if gold else {})
        self.plan_.groups.append(
            Group(
                seeds=self.seeds,
                retain=retain,
                original=self._beside(self._subject("original", None, original, references), floors, references),
                gold=self._subject("gold", None, gold, references) if gold else None,
                floors=tuple(self._floor(other, references) for other in floors),
                unlearned=tuple(
                    self._beside(self._unlearned(entry, original, references, floors), floors, references) for entry in entries
                ),
                shares_jury=self.experiment.evaluator.shared_golds,
            )
        )

    def _jury(self, retain: str, n_golds: int, suffix: str) -> tuple[str, ...]:
        """Golds of other seeds: in blocks where the recipe lets them be trained together, else each by a stage of its own."""
        predictor, numerics = self.scene.predictor, self.plan_.numerics
        precision: Precision = "bf16" if numerics.precision == "bf16" else "fp32"
        if numerics.devices == 1 and predictor.model.stackable and unsuited(predictor, precision) is None:
            return self.bank.golds(n_golds)
        return tuple(
            self._train(f"train gold {number}{suffix}", retain, self._gold_seed(number)) for number in range(1, n_golds + 1)
        )

    def _gold_seed(self, number: int) -> int:
        return self.common.stream("train", "gold", number)

    def _floor(self, model: str, references: Mapping[str, str]) -> Subject:
        """A further gold; costs and populations are not measured on it."""
        values = tuple(
            self._values(measure, "gold", model, references, None)
            if "gold" in measure.targets() and _is_on_jury(measure)
            else None
            for measure in self.measures
        )
        return Subject(role="gold", entry=None, model=model, values=values)

    def _beside(self, subject: Subject, floors: Sequence[str], references: Mapping[str, str]) -> Subject:
        """The subject with what attacks that are calibrated on models treated like it say of the further golds.

        Calibrated on golds' own models, the luck of those would look like a difference.
        """
        is_exact = subject.entry is not None and subject.entry.unlearner.exact
        calibrated = [] if is_exact else [_is_on_jury(measure) and _is_calibrated(measure) for measure in self.measures]
        if not any(calibrated):
            return subject
        jury = tuple(
            tuple(
                self._values(measure, "gold", model, references, subject.entry, treated=subject.role) if own else None
                for measure, own in zip(self.measures, calibrated, strict=True)
            )
            for model in floors
        )
        return replace(subject, jury=jury)

    def _like(self, component: Component | None, role: str) -> str:
        """What stages have in common that take the same time."""
        made_of = self.plan_.canonical(component) if component is not None else None
        return address("like", [self.like, made_of, role])[:8]

    # Stages

    def _scene(self, fingerprint: Json) -> Scene:
        section, predictor = self.experiment.data, self.experiment.predictor
        seed = self.seeds.stream("split")
        content = {"source": self.plan_.canonical(section.data_source), "fingerprint": fingerprint, "task": section.task}
        data = address("data", content)
        explains: dict[str, Json] = {}

        def named(kind: str, made_of: Json) -> str:
            where = address(kind, made_of)
            explains[where] = {"kind": kind, "content": made_of}
            return where

        lineage, request = {"all": named("partition", {"of": data})}, ""
        for splitter in section.partitions:
            above = {name: lineage[name] for name in self._referred(splitter)}
            parts = {"splitter": self.plan_.canonical(splitter), "above": above, "seed": seed}
            # What comes after it sees other data than before, whatever it is cut from.
            parts |= {"request": request} if request else {}
            lineage |= {
                name: named("partition", {**parts, "part": number}) for number, name in enumerate(splitter.parts) if name != "-"
            }
            if splitter.settles():
                request = named("request", parts)
        standardize = self._standardised_by(section.standardize, predictor.training_set)
        scaling = lineage[standardize] if standardize is not None else None
        recipe = self.plan_.once(("recipe", id(predictor)), predictor, lambda: _recipe(predictor))
        split_content = {"data": data, "partitions": dict(lineage), "order": list(lineage)}
        scene = Scene(
            source=section.data_source,
            data=data,
            split=address("split", split_content),
            splitters=section.partitions,
            seed=seed,
            task=section.task,
            standardize=standardize,
            batch_size=section.batch_size,
            predictor=predictor,
            lineage=lineage,
            request=request,
            recipe=recipe,
            view=named("view", {"data": data, "standardize": scaling, "trained": lineage[predictor.training_set]}),
            memory_cap_gib=self.experiment.globals.memory_cap_gib,
            explains=explains,
        )
        job = Job(scene=scene)
        self.like = address("like", {"data": data, "recipe": recipe, "batch_size": section.batch_size})
        source = type(section.data_source).__name__
        self.add("data", "load data", content, (), job, f"data {source}")
        self.add("split", "split the data", split_content, (data,), job, f"split {source}")
        return scene

    @staticmethod
    def _referred(splitter: Any) -> tuple[str, ...]:
        from erasure.component import partition_fields

        names: list[str] = []
        for name in partition_fields(type(splitter)):
            value = getattr(splitter, name)
            names += [value] if isinstance(value, str) else list(value or ())
        return tuple(dict.fromkeys(names))

    @staticmethod
    def _standardised_by(standardize: bool | str, training_set: str) -> str | None:
        if isinstance(standardize, str):
            return standardize
        return training_set if standardize else None

    def _train(self, name: str, partition: str, seed: int) -> str:
        content = training_content(self.scene, partition, seed, self.plan_.numerics.json())
        job = Job(scene=self.scene, seed=seed, partition=partition)
        return self.add("model", name, content, (self.scene.split,), job, f"train {short(self.scene.predictor.model)}")

    def _unlearned(
        self, entry: LabelledUnlearner, original: str, references: Mapping[str, str], floors: tuple[str, ...]
    ) -> Subject:
        unlearner, trace = entry.unlearner, self.experiment.evaluator.trace
        own = {**references, "original": original}
        lineage = {name: self.scene.lineage[name] for name in sorted(unlearner.partition_names()) if name in self.scene.lineage}
        content = {
            "unlearner": self.plan_.canonical(unlearner),
            "original": original,
            "partitions": lineage,
            "batch_size": self.scene.batch_size,
            "seed": self.seeds.stream("unlearn"),
            "numerics": self.plan_.numerics.json(),
        } | ({"checkpoints": True} if trace is not None else {})
        job = Job(
            scene=self.scene,
            seed=self.seeds.stream("unlearn"),
            model=original,
            unlearner=unlearner,
            role="unlearned",
            train_seed=self.train_seed,
            trace=trace,
        )
        gold = (references["gold"],) if "gold" in references else ()
        requires = (self.scene.split, original, *gold) if unlearner.exact else (self.scene.split, original)
        name, signature = f"unlearn {entry.label}", f"unlearn {short(unlearner)}"
        model = self.add("unlearned", name, content, requires, job, signature, unlearner)
        traced = ""
        if trace is not None:
            traced = self._trace(trace, entry, model, own)
            if trace.select != "last":
                chosen = {"model": model, "trace": traced, "select": trace.select}
                job = Job(scene=self.scene, model=model, trace=trace, traced=traced, role="unlearned")
                model = self.add("selected", f"select an epoch of {entry.label}", chosen, (model, traced), job, "select")
        subject = self._subject("unlearned", entry, model, references)
        return replace(subject, verdict=self._verdict(entry, model, own, floors), trace=traced)

    def _trace(self, trace: Trace, entry: LabelledUnlearner, model: str, references: Mapping[str, str]) -> str:
        partitions = [name for measure in trace.measures for name in measure.partitions() if name in self.scene.lineage]
        seed = self.seeds.stream("evaluate")
        content = {
            "measures": self.plan_.canonical(trace.measures),
            "model": model,
            "references": dict(references),
            "partitions": {name: self.scene.lineage[name] for name in partitions},
            "view": self.scene.view,
            "seed": seed,
            "numerics": self.plan_.numerics.json(),
        }
        edges = {name for measure in trace.measures for name in measure.of_edges()}
        outputs = self.outputs(set(references.values()), [name for name in dict.fromkeys(partitions) if name not in edges])
        job = Job(scene=self.scene, seed=seed, model=model, references=references, role="unlearned", trace=trace)
        requires = (self.scene.split, model, *references.values(), *outputs)
        return self.add(
            "trace", f"trace {entry.label}", content, requires, job, f"trace {short(entry.unlearner)}", content["measures"]
        )

    def _subject(self, role: ModelKind, entry: LabelledUnlearner | None, model: str, references: Mapping[str, str]) -> Subject:
        values = tuple(
            self._values(measure, role, model, references, entry) if role in measure.targets() else None
            for measure in self.measures
        )
        return Subject(role=role, entry=entry, model=model, values=values)

    def _values(
        self,
        measure: Measure,
        role: ModelKind,
        model: str,
        references: Mapping[str, str],
        entry: LabelledUnlearner | None,
        *,
        treated: ModelKind | None = None,
    ) -> str:
        """Values of a model; models that the measure asks for are treated like it, or as the kind ``treated`` is."""
        needed: dict[str, str] = {kind: references[kind] for kind in sorted(measure.references) if kind in references}
        partitions = [name for name in measure.partitions() if name in self.scene.lineage]
        seed = self.common.stream("evaluate")
        content: dict[str, Json] = {
            "measure": self.plan_.canonical(measure),
            "model": model,
            "role": role,
            "references": needed,
            "partitions": {name: self.scene.lineage[name] for name in partitions},
            "view": self.scene.view,
            "seed": seed,
            "numerics": self.plan_.numerics.json(),
        }
        of_samples = [name for name in partitions if name not in measure.of_edges()]
        outputs = self.outputs({model, *needed.values()}, of_samples)
        bank, blocks = self.bank.requested(measure, treated or role, entry, self.original)
        if blocks:
            content["bank"] = sorted({*bank.values()})
        job = Job(
            scene=self.scene,
            seed=seed,
            model=model,
            measure=measure,
            references=needed,
            role=role,
            bank=bank,
            blocks={where: self.plan_.stages[where].job.block for where in {split_member(model)[0] for model in bank.values()}},
            maker=self.plan_.stages.get(model),
        )
        of = entry.label if entry is not None else role
        if treated is not None:
            of = f"gold as {of}"
        requires = (self.scene.split, *(split_member(where)[0] for where in (model, *needed.values())), *outputs, *blocks)
        signature, name = f"measure {short(measure)}", f"measure {measure.title} of {of}"
        return self.add("values", name, content, requires, job, signature, measure, role)

    def _verdict(self, entry: LabelledUnlearner, model: str, references: Mapping[str, str], floors: tuple[str, ...]) -> str:
        unlearner = entry.unlearner
        roles = {
            role: name
            for role, name in (("forget", unlearner.forget), ("retain", unlearner.retain))
            if name in self.scene.lineage
        }
        content = {
            "model": model,
            "references": dict(references),
            "floors": list(floors),
            "partitions": {role: self.scene.lineage[name] for role, name in roles.items()},
            "version": 3,
        }
        outputs = self.outputs({model, *references.values(), *floors}, list(roles.values()))
        job = Job(scene=self.scene, model=model, references=references, role="unlearned", unlearner=unlearner, floors=floors)
        requires = (self.scene.split, model, *references.values(), *outputs)
        return self.add("verdict", f"judge {entry.label}", content, requires, job, "judge")

    def outputs(self, models: Iterable[str], partitions: Iterable[str]) -> list[str]:
        """One pass for each model (or block of models) and partition, whoever asks for it."""
        addresses = []
        for model in sorted({split_member(model)[0] for model in models}):
            for partition in partitions:
                key = (model, partition)
                if key in self.passes:
                    addresses.append(self.passes[key])
                    continue
                content = outputs_content(self.scene, model, partition, self.plan_.numerics.json())
                job = Job(scene=self.scene, model=model, partition=partition, block=self.plan_.stages[model].job.block)
                name = f"run {self.plan_.stages[model].name.removeprefix('train ').removeprefix('unlearn ')} on {partition}"
                n = f" x{len(job.block.requests)}" if job.block is not None else ""
                signature = f"run {short(self.experiment.predictor.model)}{n}"
                self.passes[key] = self.add("outputs", name, content, (self.scene.split, model), job, signature)
                addresses.append(self.passes[key])
        return addresses

    def add(
        self,
        kind: str,
        name: str,
        content: Json,
        requires: Iterable[str],
        job: Job,
        signature: str,
        component: Component | None = None,
        role: str = "",
    ) -> str:
        """Plan a stage, unless an equal one is planned; its address.

        Args:
            kind: Kind of stage.
            name: For people.
            content: What the address is made of.
            requires: Stages that must be there before.
            job: What to do.
            signature: The family of stages that it is one of.
            component: What, beside data and recipe, its cost depends on.
            role: Of the model that is measured, on which the cost may depend too.
        """
        where = address(kind, content)
        if where not in self.plan_.stages:
            like = self.plan_.once((self.like, id(component), role), component, lambda: self._like(component, role))
            signature = f"{signature} #{like}"
            self.plan_.stages[where] = Stage(
                kind=kind,
                name=name,
                address=where,
                content=content,
                requires=tuple(dict.fromkeys(requires)),
                job=job,
                signature=signature,
            )
        return where


def _is_on_jury(measure: Measure) -> bool:
    return measure.on_jury and not any(isinstance(request, Repeated) for request, _ in measure.requests("gold"))


def _is_calibrated(measure: Measure) -> bool:
    """Whether a measure is fitted on models that went through what the subject went through."""
    return any(isinstance(request, UnlearnedShadow) for request, _ in measure.requests("unlearned"))


def _recipe(predictor: Predictor) -> Json:
    """A recipe as addresses have it: which partitions it names does not matter, their content does."""
    return canonical(predictor.replace(training_set="train", validation_set="validation" if predictor.validation_set else None))
