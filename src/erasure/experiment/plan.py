"""The plan: every stage of an experiment under the address of what it is computed from.

Building a plan loads no data and trains nothing. Stages that are equal, in one experiment or in several, are one stage.
A partition's address is its lineage: the splitters that lead to it, not those beside it, so two forget sets of one training set
share their original model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from erasure.component import canonical
from erasure.data.dataset import DataSource
from erasure.experiment.blocks import Block, chunks, family, member, split_member
from erasure.experiment.configuration import Experiment, LabelledUnlearner, Trace
from erasure.experiment.seeds import Seeds
from erasure.measures.bank import Original, Repeated, Request, Retrained, Shadow, UnlearnedShadow
from erasure.measures.contract import Measure, ModelKind
from erasure.store.addresses import address
from erasure.training.ensemble import BLOCK_SIZE
from erasure.training.predictor import Predictor
from erasure.types import Json
from erasure.unlearners.contract import Unlearner

__all__ = ["Group", "Job", "Numerics", "Plan", "Scene", "Stage", "Subject", "build_plan", "outputs_content", "training_content"]


@dataclass(frozen=True)
class Numerics:
    """Run options that change the numbers, and therefore every address behind the data.

    Args:
        device: Type of the device, such as ``cpu``.
        precision: ``fp32`` or ``bf16``.
        threads: Threads of one operation on the CPU.
    """

    device: str = "cpu"
    precision: str = "fp32"
    threads: int = 1

    def json(self) -> Json:
        """For an address; threads matter on the CPU alone."""
        return {"device": self.device, "precision": self.precision} | ({"threads": self.threads} if self.device == "cpu" else {})


@dataclass(frozen=True, eq=False, kw_only=True)
class Scene:
    """The data of an experiment under one split seed.

    Args:
        source: Where it comes from.
        data: Address of the loaded data.
        split: Address of the partitions.
        splitters: How they are made.
        seed: Seed of the splits.
        task: How labels are read, if the configuration says.
        standardize: Partition whose statistics tables are scaled by, or None.
        batch_size: Samples per step.
        predictor: The training recipe; its loss is used everywhere.
        lineage: Address of each partition.
        view: Address of the inputs as models see them.
        explains: What the addresses of partitions and view are made of, by address; ``erasure explain`` reads it.
    """

    source: DataSource
    data: str
    split: str
    splitters: tuple[Any, ...]
    seed: int
    task: str | None
    standardize: str | None
    batch_size: int
    predictor: Predictor
    lineage: Mapping[str, str]
    view: str
    explains: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, kw_only=True)
class Job:
    """What a stage does; which fields are set depends on its kind.

    Args:
        scene: The data.
        seed: Seed of the stage.
        partition: Partition to train or run on.
        model: Address of the model it starts from or looks at.
        unlearner: The method.
        measure: The measure; None judges.
        references: Addresses of the models it is compared with.
        role: What the model is.
        train_seed: Seed of the original's training, for methods that ask for other models.
        floors: Addresses of golds of other seeds.
        trace: What is measured after each epoch; the unlearned model is then stored with every epoch's weights.
        traced: Address of the trace that an epoch is selected by.
        block: The models of a bank that are made together.
        bank: Models that the measure has asked for: request to model.
        blocks: The blocks they are in, by address.
        maker: The stage that made the model, so that it can be made again.
    """

    scene: Scene
    seed: int = 0
    partition: str = ""
    model: str = ""
    unlearner: Unlearner | None = None
    measure: Measure | None = None
    references: Mapping[str, str] = field(default_factory=dict)
    role: ModelKind = "original"
    train_seed: int = 0
    floors: tuple[str, ...] = ()
    trace: Trace | None = None
    traced: str = ""
    block: Block | None = None
    bank: Mapping[Request, str] = field(default_factory=dict)
    blocks: Mapping[str, Block | None] = field(default_factory=dict)
    maker: Stage | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Stage:
    """One step of the plan.

    Args:
        kind: ``data``, ``split``, ``model``, ``models`` (a block), ``unlearned``, ``trace``, ``selected``,
            ``outputs``, ``values`` or ``verdict``.
        name: For people, such as ``unlearn SCRUB``.
        address: Where its result is in the store.
        content: What the address is made of.
        requires: Addresses of the stages that must be there before.
        job: What to do.
        signature: Stages of one signature take similar time.
    """

    kind: str
    name: str
    address: str
    content: Json
    requires: tuple[str, ...]
    job: Job
    signature: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Subject:
    """A model whose rows are wanted.

    Args:
        role: Which of the three kinds it is.
        entry: The unlearner, for an unlearned model.
        model: Address of the model.
        values: Address of each measure's values, in the order of the measures; None where it does not apply.
        verdict: Address of the verdict, for an unlearned model.
        trace: Address of the trace, for an unlearned model, if one was asked for.
    """

    role: ModelKind
    entry: LabelledUnlearner | None
    model: str
    values: tuple[str | None, ...]
    verdict: str = ""
    trace: str = ""


@dataclass(frozen=True, eq=False, kw_only=True)
class Group:
    """Models that are compared with one another: one repetition, one gold.

    Args:
        seeds: The repetition.
        retain: Partition gold is trained on.
        original: The original.
        gold: The gold model, if there is a retain partition.
        floors: Golds of other seeds.
        unlearned: The unlearned models.
    """

    seeds: Seeds
    retain: str
    original: Subject
    gold: Subject | None
    floors: tuple[Subject, ...]
    unlearned: tuple[Subject, ...]


@dataclass(eq=False, kw_only=True)
class Plan:
    """The stages of an experiment, each after what it requires, and the models whose rows are wanted.

    Args:
        experiment: What is planned.
        numerics: Options that change the numbers.
        stages: Stage by address.
        groups: What becomes of them.
        scenes: The data, one for each split seed.
    """

    experiment: Experiment
    numerics: Numerics
    stages: dict[str, Stage] = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)
    scenes: list[Scene] = field(default_factory=list)


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
        _Planner(plan, seeds, fingerprint).plan()
    return plan


def training_content(scene: Scene, partition: str, seed: int, numerics: Json) -> Json:
    """What the address of a model trained by the scene's recipe is made of; names of partitions do not matter, their content does."""
    predictor = scene.predictor
    validation = predictor.validation_set
    return {
        "predictor": canonical(predictor.replace(training_set="train", validation_set="validation" if validation else None)),
        "batch_size": predictor.batch_size or scene.batch_size,
        "view": scene.view,
        "train": scene.lineage[partition],
        "validation": scene.lineage[validation] if validation else None,
        "seed": seed,
        "numerics": numerics,
    }


def outputs_content(scene: Scene, model: str, partition: str, numerics: Json) -> Json:
    """What the address of a model's outputs on a partition is made of."""
    return {"model": model, "partition": scene.lineage[partition], "view": scene.view, "numerics": numerics}


class _Planner:
    """Adds one repetition to a plan."""

    def __init__(self, plan: Plan, seeds: Seeds, fingerprint: Json) -> None:
        self.plan_, self.seeds, self.experiment = plan, seeds, plan.experiment
        self.measures = self.experiment.evaluator.measures
        self.scene = self._scene(fingerprint)
        self.train_seed = seeds.stream("train")
        self.retain = "retain"
        self.passes: dict[tuple[str, str], str] = {}

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
        has_gold = retain in self.scene.lineage
        gold = self._train(f"train gold{suffix}", retain, self.train_seed) if has_gold else ""
        n_floors = self.experiment.evaluator.floor_repeats if has_gold and self.measures else 0
        floors = [
            self._train(f"train gold {number}{suffix}", retain, self.seeds.stream("train", "gold", number))
            for number in range(1, n_floors + 1)
        ]
        references = {"original": original} | ({"gold": gold} if gold else {})
        self.plan_.groups.append(
            Group(
                seeds=self.seeds,
                retain=retain,
                original=self._subject("original", None, original, references),
                gold=self._subject("gold", None, gold, references) if gold else None,
                floors=tuple(self._subject("gold", None, other, references) for other in floors),
                unlearned=tuple(self._unlearned(entry, original, references, tuple(floors)) for entry in entries),
            )
        )

    # Stages

    def _scene(self, fingerprint: Json) -> Scene:
        section, predictor = self.experiment.data, self.experiment.predictor
        seed = self.seeds.stream("split")
        content = {"source": canonical(section.data_source), "fingerprint": fingerprint, "task": section.task}
        data = address("data", content)
        explains: dict[str, Json] = {}

        def named(kind: str, made_of: Json) -> str:
            where = address(kind, made_of)
            explains[where] = {"kind": kind, "content": made_of}
            return where

        lineage = {"all": named("partition", {"of": data})}
        for splitter in section.partitions:
            above = {name: lineage[name] for name in self._referred(splitter)}
            parts = {"splitter": canonical(splitter), "above": above, "seed": seed}
            lineage |= {
                name: named("partition", {**parts, "part": number}) for number, name in enumerate(splitter.parts) if name != "-"
            }
        standardize = self._standardised_by(section.standardize, predictor.training_set)
        scaling = lineage[standardize] if standardize is not None else None
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
            view=named("view", {"data": data, "standardize": scaling, "trained": lineage[predictor.training_set]}),
            explains=explains,
        )
        job = Job(scene=scene)
        source = type(section.data_source).__name__
        self._add("data", "load data", content, (), job, f"data {source}")
        self._add("split", "cut partitions", split_content, (data,), job, f"split {source}")
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
        return self._add("model", name, content, (self.scene.split,), job, f"train {_short(self.scene.predictor.model)}")

    def _unlearned(
        self, entry: LabelledUnlearner, original: str, references: Mapping[str, str], floors: tuple[str, ...]
    ) -> Subject:
        unlearner, trace = entry.unlearner, self.experiment.evaluator.trace
        lineage = {name: self.scene.lineage[name] for name in sorted(unlearner.partition_names()) if name in self.scene.lineage}
        content = {
            "unlearner": canonical(unlearner),
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
        model = self._add("unlearned", f"unlearn {entry.label}", content, requires, job, f"unlearn {_short(unlearner)}")
        traced = ""
        if trace is not None:
            traced = self._trace(trace, entry, model, references)
            if trace.select != "last":
                chosen = {"model": model, "trace": traced, "select": trace.select}
                job = Job(scene=self.scene, model=model, trace=trace, traced=traced, role="unlearned")
                model = self._add("selected", f"select an epoch of {entry.label}", chosen, (model, traced), job, "select")
        subject = self._subject("unlearned", entry, model, references)
        return replace(subject, verdict=self._verdict(entry, model, references, floors), trace=traced)

    def _trace(self, trace: Trace, entry: LabelledUnlearner, model: str, references: Mapping[str, str]) -> str:
        partitions = [name for measure in trace.measures for name in measure.partitions() if name in self.scene.lineage]
        seed = self.seeds.stream("evaluate")
        content = {
            "measures": canonical(trace.measures),
            "model": model,
            "references": dict(references),
            "partitions": {name: self.scene.lineage[name] for name in partitions},
            "view": self.scene.view,
            "seed": seed,
            "numerics": self.plan_.numerics.json(),
        }
        outputs = self._outputs(set(references.values()), dict.fromkeys(partitions))
        job = Job(scene=self.scene, seed=seed, model=model, references=references, role="unlearned", trace=trace)
        requires = (self.scene.split, model, *references.values(), *outputs)
        return self._add("trace", f"trace {entry.label}", content, requires, job, f"trace {_short(entry.unlearner)}")

    def _subject(self, role: ModelKind, entry: LabelledUnlearner | None, model: str, references: Mapping[str, str]) -> Subject:
        values = tuple(
            self._values(measure, role, model, references, entry) if role in measure.targets() else None
            for measure in self.measures
        )
        return Subject(role=role, entry=entry, model=model, values=values)

    def _values(
        self, measure: Measure, role: ModelKind, model: str, references: Mapping[str, str], entry: LabelledUnlearner | None
    ) -> str:
        needed: dict[str, str] = {kind: references[kind] for kind in sorted(measure.references) if kind in references}
        partitions = [name for name in measure.partitions() if name in self.scene.lineage]
        seed = self.seeds.stream("evaluate")
        content: dict[str, Json] = {
            "measure": canonical(measure),
            "model": model,
            "role": role,
            "references": needed,
            "partitions": {name: self.scene.lineage[name] for name in partitions},
            "view": self.scene.view,
            "seed": seed,
            "numerics": self.plan_.numerics.json(),
        }
        outputs = self._outputs({model, *needed.values()}, partitions)
        bank, blocks = self._bank(measure, role, entry, references.get("original", model))
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
            maker=self.plan_.stages[model],
        )
        of = entry.label if entry is not None else role
        requires = (self.scene.split, model, *needed.values(), *outputs, *blocks)
        return self._add("values", f"measure {measure.title} of {of}", content, requires, job, f"measure {_short(measure)}")

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
            "version": 1,
        }
        outputs = self._outputs({model, *references.values(), *floors}, list(roles.values()))
        job = Job(scene=self.scene, model=model, references=references, role="unlearned", unlearner=unlearner, floors=floors)
        requires = (self.scene.split, model, *references.values(), *outputs)
        return self._add("verdict", f"judge {entry.label}", content, requires, job, "judge")

    # Models that measures ask for

    def _bank(
        self, measure: Measure, role: ModelKind, entry: LabelledUnlearner | None, original: str
    ) -> tuple[dict[Request, str], list[str]]:
        """Where the models are that a measure asks for, and the stages that make and run them."""
        asked = measure.requests(role)
        bank = self._models([request for request, _ in asked], _Treatment.of(role, entry), original)
        looked: dict[str, dict[str, None]] = {}
        for request, partitions in asked:
            known = [name for name in partitions if name in self.scene.lineage]
            looked.setdefault(split_member(bank[request])[0], {}).update(dict.fromkeys(known))
        required = [stage for block, partitions in looked.items() for stage in (block, *self._outputs([block], list(partitions)))]
        return bank, required

    def _models(self, requests: Sequence[Request], treatment: _Treatment, original: str) -> dict[Request, str]:
        families: dict[Request, list[Request]] = {}
        for request in requests:
            families.setdefault(family(request), []).append(request)
        size = BLOCK_SIZE if self.scene.predictor.model.stackable else 1
        found: dict[Request, str] = {}
        for members in families.values():
            origins = self._origins(members, treatment, original)
            if isinstance(members[0], UnlearnedShadow) and treatment.way == "none":
                found |= {request: origins[request] for request in members}
                continue
            for chunk in chunks(members, size):
                block = self._block(chunk, treatment, [origins[request] for request in chunk if request in origins])
                found |= {request: member(block, index) for index, request in enumerate(chunk)}
        return found

    def _origins(self, requests: Sequence[Request], treatment: _Treatment, original: str) -> dict[Request, str]:
        """The model that each request starts from, if it starts from one."""
        if isinstance(requests[0], UnlearnedShadow) and treatment.way != "retrain":
            shadows = {request: request.origin for request in requests if isinstance(request, UnlearnedShadow)}
            models = self._models(list(shadows.values()), treatment, original)
            return {request: models[shadow] for request, shadow in shadows.items()}
        if isinstance(requests[0], Repeated) and treatment.way == "unlearn":
            origins = {request: request.origin for request in requests if isinstance(request, Repeated)}
            others = [Original(number=number) for number in sorted(set(origins.values()) - {0})]
            models = self._models(others, treatment, original)
            return {request: models[Original(number=number)] if number else original for request, number in origins.items()}
        return {}

    def _block(self, requests: tuple[Request, ...], treatment: _Treatment, origins: Sequence[str]) -> str:
        scene, first = self.scene, requests[0]
        unlearner = treatment.unlearner if origins else None
        partition = scene.predictor.training_set
        if isinstance(first, Retrained) or (isinstance(first, Repeated) and treatment.way == "retrain"):
            partition = self.retain
        block = Block(
            requests=requests,
            seeds=tuple(self._seed(request, unlearn=unlearner is not None) for request in requests),
            way="unlearn" if unlearner is not None else "train",
            partition=partition,
            origins=tuple(origins),
            root=self.seeds.stream("train", "shadow"),
        )
        samples = self._samples(block)
        content: dict[str, Json] = {"seeds": list(block.seeds), "numerics": self.plan_.numerics.json(), "samples": samples}
        made_from = [split_member(origin)[0] for origin in origins]
        job = Job(scene=scene, block=block, unlearner=unlearner, train_seed=self.train_seed)
        n = len(requests)
        if unlearner is None:
            content["training"] = training_content(scene, partition, 0, self.plan_.numerics.json())
            name, signature = f"train {block.title()}", f"train {_short(scene.predictor.model)} x{n}"
        else:
            names = sorted(unlearner.partition_names() | {unlearner.forget, unlearner.retain, unlearner.train})
            content |= {
                "unlearner": canonical(unlearner),
                "origins": list(origins),
                "partitions": {name: scene.lineage[name] for name in names if name in scene.lineage},
                "batch_size": scene.batch_size,
            }
            name, signature = f"unlearn {treatment.label} on {block.title()}", f"unlearn {_short(unlearner)} x{n}"
        return self._add("models", name, content, (scene.split, *made_from), job, signature)

    def _samples(self, block: Block) -> Json:
        """What decides which samples each model of a block sees and forgets."""
        first = block.requests[0]
        shadow = first.shadow if isinstance(first, UnlearnedShadow) else first
        if not isinstance(shadow, Shadow):
            return self.scene.lineage.get(block.partition)
        described: dict[str, Json] = {
            "pool": [self.scene.lineage.get(name) for name in shadow.pool],
            "always": [self.scene.lineage.get(name) for name in shadow.always],
            "share": shadow.share,
            "numbers": [request.number for request in block.requests],
            "root": block.root,
        }
        if isinstance(first, UnlearnedShadow):
            draws = [request.draw for request in block.requests if isinstance(request, UnlearnedShadow)]
            described |= {"forget_share": first.share, "draws": draws}
        return described

    def _seed(self, request: Request, *, unlearn: bool) -> int:
        stream, number = self.seeds.stream, request.number
        match request:
            case Retrained():
                return stream("train", "gold", number)
            case Original():
                return stream("train", "original", number)
            case Shadow():
                return stream("train", "shadow", number)
            case Repeated():
                return stream("unlearn", "again", number) if unlearn else stream("train", "again", number)
            case UnlearnedShadow():
                return stream("unlearn" if unlearn else "train", "unlearned shadow", number, request.draw)
            case _:
                raise TypeError(f"no model is known by {type(request).__name__}")

    def _outputs(self, models: Iterable[str], partitions: Iterable[str]) -> list[str]:
        """One pass for each model and partition, whoever asks for it."""
        addresses = []
        for model in sorted(models):
            for partition in partitions:
                key = (model, partition)
                if key in self.passes:
                    addresses.append(self.passes[key])
                    continue
                content = outputs_content(self.scene, model, partition, self.plan_.numerics.json())
                job = Job(scene=self.scene, model=model, partition=partition, block=self.plan_.stages[model].job.block)
                name = f"run {self.plan_.stages[model].name.removeprefix('train ').removeprefix('unlearn ')} on {partition}"
                n = f" x{len(job.block.requests)}" if job.block is not None else ""
                signature = f"run {_short(self.experiment.predictor.model)}{n}"
                self.passes[key] = self._add("outputs", name, content, (self.scene.split, model), job, signature)
                addresses.append(self.passes[key])
        return addresses

    def _add(self, kind: str, name: str, content: Json, requires: Iterable[str], job: Job, signature: str) -> str:
        where = address(kind, content)
        if where not in self.plan_.stages:
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


@dataclass(frozen=True, kw_only=True)
class _Treatment:
    """What has been done to the subject, and would be done to a model that is treated like it."""

    way: Literal["none", "retrain", "unlearn"]
    unlearner: Unlearner | None = None
    label: str = ""

    @classmethod
    def of(cls, role: ModelKind, entry: LabelledUnlearner | None) -> _Treatment:
        """The original: nothing. Gold, and methods that retrain: retraining."""
        if role == "original":
            return cls(way="none")
        if entry is None or entry.unlearner.exact:
            return cls(way="retrain")
        return cls(way="unlearn", unlearner=entry.unlearner, label=entry.label)


def _short(component: Any) -> str:
    return type(component).__name__
