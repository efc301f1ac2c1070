"""The workbench: runs single stages against the store, and keeps what it has read in memory."""

from __future__ import annotations

import functools
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from erasure.accounting.guarantee import Guarantee
from erasure.data.checks import read_as
from erasure.data.dataset import Dataset
from erasure.data.on_disk import left_on_disk
from erasure.data.partitions import build_partitions
from erasure.data.progress import hearing
from erasure.data.standardise import standardised
from erasure.data.storage import TOKENS, from_artifact, to_artifact
from erasure.engine.method_models import EpochLog, MethodBank
from erasure.engine.recording.rows import value_record
from erasure.engine.stages.models import Population, make_block
from erasure.errors import RequirementNotMet
from erasure.events import EpochFinished, Listener, Said, SamplesRead, StageWaits, silent
from erasure.measures.contract import Candidate, Evaluation, Outputs, forward_pass
from erasure.measures.guards import judge
from erasure.planning.blocks import member, split_member
from erasure.planning.stages import Job, Numerics, Scene, Stage, outputs_content
from erasure.store import Artifact, Store, Writer
from erasure.store.addresses import address
from erasure.training.batches import Column, PartitionedColumn
from erasure.training.calls import Criterion
from erasure.training.devices import PeakMemory, Precision, synchronise
from erasure.training.loop import EpochListener
from erasure.training.predictor import ModelInput, build_model, train
from erasure.training.randomness import Streams
from erasure.types import Json
from erasure.unlearners.contract import UnlearningTask

__all__ = ["Material", "Workbench", "best_epoch"]

_KEPT = 512
"""Outputs kept in memory; they are read again from the store when they fall out."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Material:
    """The data of a scene on the device."""

    dataset: Dataset
    x: Column
    y: Tensor
    z: Tensor | None
    partitions: Mapping[str, Tensor]
    model_input: ModelInput
    criterion: Criterion


class Workbench:
    """Runs stages.

    Args:
        store: Where results are kept.
        device: Where models run.
        numerics: Options that are part of addresses; the caller has set the number of threads.
        listener: Receives events.
    """

    def __init__(self, store: Store, device: torch.device, numerics: Numerics, listener: Listener = silent) -> None:
        self.store, self.device, self.listener = store, device, listener
        self.precision = cast(Precision, numerics.precision)
        self.options, self.numerics = numerics, numerics.json()
        self.n_passes = 0
        self._datasets: dict[str, Dataset] = {}
        self._materials: dict[tuple[str, str], Material] = {}
        self._outputs: OrderedDict[str, Outputs] = OrderedDict()
        self._stage: Stage | None = None

    def run(self, stage: Stage) -> Artifact:
        """The stage's object, computed if the store lacks it."""
        compute: Callable[[Job, Writer], None] = {
            "data": self._load_data,
            "split": self._split,
            "model": self.train,
            "models": lambda job, writer: make_block(self, job, writer),
            "unlearned": self._unlearn,
            "trace": self._trace,
            "selected": self._select,
            "outputs": self._infer,
            "values": self._measure,
            "verdict": self._judge,
        }[stage.kind]

        def computed(writer: Writer) -> None:
            writer.facts["signature"] = stage.signature
            self._stage = stage
            try:
                compute(stage.job, writer)
            finally:
                self._stage = None

        return self.keep(stage.address, stage.kind, stage.content, computed, stage.name)

    def keep(self, where: str, kind: str, content: Json, compute: Callable[[Writer], None], name: str) -> Artifact:
        """An object of the store, computed if it is not there."""

        def wait(_: str) -> None:
            self.listener(StageWaits(name=name, address=where))

        return self.store.get_or_compute(where, kind, content, compute, on_wait=wait)

    # Data

    def _load_data(self, job: Job, writer: Writer) -> None:
        name = self._stage.name if self._stage is not None else ""
        with self._told(), hearing(lambda done, total: self.listener(SamplesRead(name=name, done=done, total=total))):
            dataset = read_as(job.scene.source.load(), cast(Any, job.scene.task))
        tensors, facts = to_artifact(dataset)
        writer.save_tensors("columns", tensors)
        writer.save_json("dataset", facts)
        if dataset.token_names:
            writer.save_json(TOKENS, list(dataset.token_names))

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Tell the listener what sources and splitters warn of."""
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", UserWarning)
            yield
        for message in dict.fromkeys(str(each.message) for each in said):
            self.listener(Said(message, level="warning"))

    def dataset(self, where: str) -> Dataset:
        """The loaded data at an address, mapped from the store."""
        if where not in self._datasets:
            artifact = self.store.open(where)
            self._datasets[where] = from_artifact(artifact.tensors("columns"), artifact.json("dataset"))
        return self._datasets[where]

    def _split(self, job: Job, writer: Writer) -> None:
        with self._told():
            partitions = build_partitions(self.dataset(job.scene.data), job.scene.splitters, job.scene.seed)
        writer.save_tensors("partitions", dict(partitions))
        writer.save_json("order", list(partitions))
        writer.facts["explains"] = dict(job.scene.explains)

    def material(self, scene: Scene) -> Material:
        """The data of a scene on the device, with tables standardised."""
        key = (scene.split, scene.view)
        if key not in self._materials:
            artifact = self.store.open(scene.split)
            loaded = artifact.tensors("partitions")
            partitions = {name: loaded[name] for name in artifact.json("order")}
            file = self.store.open(scene.data).path("columns.safetensors")
            dataset = left_on_disk(self.dataset(scene.data), file, scene.memory_cap_gib)
            for splitter in scene.splitters:
                dataset = splitter.prepared(dataset, partitions)
            x = standardised(dataset, partitions[scene.standardize]) if scene.standardize else dataset.x
            if isinstance(x, PartitionedColumn):
                x = x.trained_on(partitions[scene.predictor.training_set])
            self._materials[key] = Material(
                dataset=dataset,
                x=x.to(self.device),
                y=dataset.y.to(self.device),
                z=None if dataset.z is None else dataset.z.to(self.device),
                partitions={name: ids.to(self.device) for name, ids in partitions.items()},
                model_input=ModelInput(dataset.x_shape, dataset.n_classes, dataset.task, dataset.modality, dataset.class_names),
                criterion=Criterion(dataset.task, scene.predictor.loss_fn).to(self.device),
            )
        return self._materials[key]

    # Models

    def train(self, job: Job, writer: Writer) -> None:
        """Train a model and save it."""
        if self.options.devices > 1:
            from erasure.engine.ranks import train_on_devices

            trained = train_on_devices(self, job, self._stage.name if self._stage is not None else "")
            writer.save_tensors("model", trained.state)
            writer.facts |= {
                "elapsed_s": trained.elapsed_s,
                "precompute_s": 0.0,
                "peak_memory_mib": trained.peak_memory_mib,
            }
            return
        start, peak = time.perf_counter(), PeakMemory(self.device)
        model = self.trained(job.scene, self.material(job.scene).partitions[job.partition], job.seed)
        synchronise(self.device)
        _save_model(writer, model, elapsed_s=time.perf_counter() - start, peak=peak)

    def trained(self, scene: Scene, ids: Tensor, seed: int, **listeners: Any) -> nn.Module:
        """Train a model by the scene's recipe on the samples ``ids``, now."""
        material = self.material(scene)
        predictor = scene.predictor
        validation = material.partitions[predictor.validation_set] if predictor.validation_set else None
        return train(
            build_model(predictor.model, material.model_input, seed, self.device),
            predictor,
            x=material.x,
            y=material.y,
            ids=ids.to(self.device),
            criterion=material.criterion,
            seed=seed,
            batch_size=scene.batch_size,
            validation_ids=validation,
            precision=self.precision,
            on_epoch=self.on_epoch(),
            **listeners,
        )

    def on_epoch(self) -> EpochListener:
        """Tells the listener of each epoch of the stage that is running."""
        name = self._stage.name if self._stage is not None else ""

        def tell(epoch: int, epochs: int, model: nn.Module) -> None:
            self.listener(EpochFinished(name=name, epoch=epoch, epochs=epochs))

        return tell

    def model(self, scene: Scene, where: str) -> nn.Module:
        """The model at an address, or one of the block there, in eval mode, on the device."""
        model = build_model(scene.predictor.model, self.material(scene).model_input, 0, self.device)
        place, index = split_member(where)
        artifact = self.store.open(place)
        if index is None:
            model.load_state_dict(artifact.tensors("model"))
        else:
            model.load_state_dict({name: values[index] for name, values in artifact.tensors("models").items()})
        return model.eval()

    def task(self, job: Job, own: Mapping[str, Tensor] | None = None, *, anew: bool = False) -> UnlearningTask:
        """What a method is given.

        Args:
            job: Scene, seed and the model to unlearn from.
            own: Partitions that take the place of those of the scene.
            anew: Whether other models and one-off work are made again, whatever the store has.
        """
        material = self.material(job.scene)
        moved = {name: ids.to(self.device) for name, ids in (own or {}).items()}
        partitions = {**material.partitions, **moved}
        return UnlearningTask(
            x=material.x,
            y=material.y,
            z=material.z,
            partitions=partitions,
            model_input=material.model_input,
            criterion=material.criterion,
            streams=Streams(job.seed),
            batch_size=job.scene.batch_size,
            bank=MethodBank(self, job, partitions, stored=not (own or anew)),
            precision=self.precision,
        )

    def _unlearn(self, job: Job, writer: Writer) -> None:
        assert job.unlearner is not None  # noqa: S101 - narrows the type
        original, task = self.model(job.scene, job.model), self.task(job)
        log = EpochLog(task, self.on_epoch()) if job.trace is not None else None
        peak = PeakMemory(self.device)
        unlearned = job.unlearner.run(original, replace(task, on_epoch=log or self.on_epoch()))
        _save_model(writer, unlearned.model, elapsed_s=unlearned.elapsed_s, peak=peak, precompute_s=unlearned.precompute_s)
        writer.facts |= {"kept_bytes": unlearned.kept_bytes, "guarantee": _promise(unlearned.guarantee)}
        for number, state in enumerate(log.states if log is not None else (), start=1):
            writer.save_tensors(f"epoch-{number:04d}", state)
        writer.facts["epochs"] = len(log.states) if log is not None else 0
        writer.facts["epoch_elapsed_s"] = list(log.elapsed_s) if log is not None else []

    def _trace(self, job: Job, writer: Writer) -> None:
        """Measure the original, every epoch's model and gold; epoch 0 is the original."""
        assert job.trace is not None  # noqa: S101 - narrows the type
        epochs = cast(int, self.store.open(job.model).facts["epochs"])
        models = {"gold": job.references["gold"]} if "gold" in job.references else {}
        subjects: dict[str, Candidate] = {
            "0": self._candidate(job.scene, job.references["original"], "unlearned"),
            **{str(epoch): self._checkpoint(job, epoch) for epoch in range(1, epochs + 1)},
            **{role: self._candidate(job.scene, where, "gold") for role, where in models.items()},
        }
        records = []
        for epoch, subject in subjects.items():
            for number, measure in enumerate(job.trace.measures):
                evaluation = replace(self.evaluation(replace(job, measure=measure), measure.title), subject=subject)
                values = [value_record(measure, value) for value in measure.measure(evaluation)]
                records += [{"epoch": epoch, "number": number, **record} for record in values]
        writer.save_json("trace", records)

    def _checkpoint(self, job: Job, epoch: int) -> Candidate:
        artifact, material = self.store.open(job.model), self.material(job.scene)

        @functools.cache
        def load() -> nn.Module:
            model = build_model(job.scene.predictor.model, material.model_input, 0, self.device)
            model.load_state_dict(artifact.tensors(f"epoch-{epoch:04d}"))
            return model.eval()

        @functools.cache
        def outputs(partition: str) -> Outputs:
            return self._pass(load(), job.scene, partition)

        elapsed_s = cast("list[float]", artifact.facts["epoch_elapsed_s"])[epoch - 1]
        return Candidate(kind="unlearned", load=load, outputs=outputs, elapsed_s=elapsed_s)

    def _select(self, job: Job, writer: Writer) -> None:
        """The weights of the epoch that the trace's rule prefers."""
        assert job.trace is not None  # noqa: S101 - narrows the type
        artifact = self.store.open(job.model)
        epoch = best_epoch(self.store.open(job.traced).json("trace"), job.trace.select)
        writer.save_tensors("model", artifact.tensors(f"epoch-{epoch:04d}" if epoch else "model"))
        costs = ("elapsed_s", "precompute_s", "peak_memory_mib", "kept_bytes")
        writer.facts |= {name: artifact.facts[name] for name in costs if name in artifact.facts} | {"epoch": epoch}

    # Measuring

    def _pass(self, model: nn.Module, scene: Scene, partition: str) -> Outputs:
        material = self.material(scene)
        self.n_passes += 1
        return forward_pass(
            model,
            x=material.x,
            y=material.y,
            ids=material.partitions[partition],
            criterion=material.criterion,
            task=material.model_input.task,
        )

    def _remake(self, stage: Stage | None) -> Callable[[], object] | None:
        """How to make a model once more, in this process and without the store."""
        if stage is None or stage.kind not in {"model", "unlearned"}:
            return None
        job = stage.job
        if self.options.devices > 1 and (job.unlearner is None or job.unlearner.exact):
            return None  # one process cannot make it the same way

        def make() -> nn.Module:
            if job.unlearner is None:
                return self.trained(job.scene, self.material(job.scene).partitions[job.partition], job.seed)
            return job.unlearner.run(self.model(job.scene, job.model), self.task(job, anew=True)).model

        return make

    def _epoch(self, stage: Stage | None) -> tuple[Callable[[], object], int] | None:
        """One epoch of the model's training, and their number, where each has batches of the same shapes."""
        if stage is None or stage.kind != "model" or self._remake(stage) is None:
            return None
        job, scene = stage.job, stage.job.scene
        recipe, material = scene.predictor, self.material(scene)
        if recipe.patience is not None or recipe.epochs < 2 or material.dataset.modality not in {"table", "image"}:
            return None
        once = replace(scene, predictor=recipe.replace(epochs=1))
        return lambda: self.trained(once, material.partitions[job.partition], job.seed), recipe.epochs

    def _infer(self, job: Job, writer: Writer) -> None:
        if job.block is not None:
            self._infer_block(job, writer)
            return
        outputs = self._pass(self.model(job.scene, job.model), job.scene, job.partition)
        tensors = {"ids": outputs.ids, "logits": outputs.logits, "losses": outputs.losses, "labels": outputs.labels}
        writer.save_tensors("outputs", tensors | ({} if outputs.features is None else {"features": outputs.features}))

    def _infer_block(self, job: Job, writer: Writer) -> None:
        """One pass of every model of a block; ids and labels are the same for all."""
        assert job.block is not None  # noqa: S101 - narrows the type
        models = [self.model(job.scene, member(job.model, index)) for index in range(len(job.block.requests))]
        each = [self._pass(model, job.scene, job.partition) for model in models]
        first = each[0]
        tensors = {
            "ids": first.ids,
            "labels": first.labels,
            "logits": torch.stack([outputs.logits for outputs in each]),
            "losses": torch.stack([outputs.losses for outputs in each]),
        }
        if first.features is not None:
            tensors["features"] = torch.stack([cast(Tensor, outputs.features) for outputs in each])
        writer.save_tensors("outputs", tensors)

    def outputs(self, scene: Scene, model: str, partition: str, *, of_bank: bool = False) -> Outputs:
        """What a model says about a partition, from the store, or computed now if no stage has.

        Of the bank of a measure (``of_bank``) there is only what the measure has asked for.
        """
        place, index = split_member(model)
        if index is not None and not of_bank:
            stored = address("outputs", outputs_content(scene, place, partition, self.numerics))
            if stored not in self._outputs and not self.store.contains(stored):
                place, index = model, None  # this one alone
        content = outputs_content(scene, place, partition, self.numerics)
        where = address("outputs", content)
        if where not in self._outputs:
            job = Job(scene=scene, model=place, partition=partition)
            if index is None:
                artifact = self.keep(where, "outputs", content, lambda writer: self._infer(job, writer), f"run on {partition}")
            elif self.store.contains(where):
                artifact = self.store.open(where)
            else:
                raise RequirementNotMet(f'no measure has asked for outputs on "{partition}" of these models in its requests()')
            tensors = artifact.tensors("outputs")
            self._outputs[where] = Outputs(**tensors, task=self.material(scene).model_input.task)
            while len(self._outputs) > _KEPT:
                self._outputs.popitem(last=False)
        found = self._outputs[where]
        if index is None:
            return found
        features = None if found.features is None else found.features[index]
        return replace(found, logits=found.logits[index], losses=found.losses[index], features=features)

    def _candidate(self, scene: Scene, where: str, role: str, maker: Stage | None = None) -> Candidate:
        facts = self.store.open(split_member(where)[0]).facts
        n_models = cast(int, facts.get("models", 1))
        return Candidate(
            kind=cast(Any, role),
            load=lambda: self.model(scene, where),
            outputs=lambda partition: self.outputs(scene, where, partition),
            elapsed_s=cast(float, facts["elapsed_s"]) / n_models,
            precompute_s=cast(float, facts.get("precompute_s", 0.0)),
            peak_memory_mib=cast("float | None", facts.get("peak_memory_mib")),
            remake=self._remake(maker),
            epoch=self._epoch(maker),
        )

    def evaluation(self, job: Job, stream: str) -> Evaluation:
        """What a measure sees of a model."""
        scene, material = job.scene, self.material(job.scene)
        return Evaluation(
            subject=self._candidate(scene, job.model, job.role, job.maker),
            references={kind: self._candidate(scene, where, kind) for kind, where in job.references.items()},
            partition_ids=material.partitions,
            x=material.x,
            y=material.y,
            z=material.z,
            model_input=material.model_input,
            criterion=material.criterion,
            streams=Streams(job.seed).child(stream),
            batch_size=scene.batch_size,
            facts={
                "class_names": material.dataset.class_names,
                "z_names": material.dataset.z_names,
                "feature_names": material.dataset.feature_names,
                "clean_y": material.dataset.clean_y,
                "token_names": self._token_names(scene.data) if material.dataset.task == "generation" else (),
            },
            fresh=lambda seed: build_model(scene.predictor.model, material.model_input, seed, self.device).eval(),
            provider=Population(self, job) if job.bank else None,
        )

    def _token_names(self, where: str) -> tuple[str, ...]:
        """How the tokens of a stored data set read; empty if it does not say."""
        artifact = self.store.open(where)
        return tuple(artifact.json(TOKENS)) if f"{TOKENS}.json" in artifact.files else ()

    def _measure(self, job: Job, writer: Writer) -> None:
        assert job.measure is not None  # noqa: S101 - narrows the type
        start = time.perf_counter()
        missing = sorted(job.measure.references - set(job.references))
        if missing:
            raise RequirementNotMet(f"{job.measure.title} compares with the {missing[0]} model, and there is none")
        values = job.measure.measure(self.evaluation(job, f"{job.measure.title}"))
        writer.save_json("values", [value_record(job.measure, value) for value in values])
        writer.facts["elapsed_s"] = time.perf_counter() - start

    def _judge(self, job: Job, writer: Writer) -> None:
        assert job.unlearner is not None  # noqa: S101 - narrows the type
        unlearner, evaluation = job.unlearner, self.evaluation(job, "judge")
        verdict = judge(evaluation, forget=unlearner.forget, retain=unlearner.retain, floor=self._forget_floor(job, evaluation))
        writer.save_json("verdict", {field: getattr(verdict, field) for field in ("status", "reason", "gold", "original")})

    def _forget_floor(self, job: Job, evaluation: Evaluation) -> float:
        """How far the forget accuracy of golds of other seeds is from gold's."""
        assert job.unlearner is not None  # noqa: S101 - narrows the type
        forget = job.unlearner.forget
        if not job.floors or "gold" not in job.references or not len(evaluation.partition_ids.get(forget, ())):
            return 0.0
        if evaluation.candidate("gold").outputs(forget).diverged:
            return 0.0  # the guards say so
        gold = evaluation.outputs(forget, "gold").accuracy
        return max(abs(self.outputs(job.scene, other, forget).accuracy - gold) for other in job.floors)


def best_epoch(records: Sequence[Mapping[str, Any]], select: str) -> int:
    """The epoch that a rule prefers by the first value of the first measure; 0 if the method has no epochs.

    Raises:
        RequirementNotMet: If the rule needs gold and there is none, or no value is a number.
    """
    first = next(iter(records))
    mine = [r for r in records if (r["number"], r["name"], r["partition"]) == (0, first["name"], first["partition"])]
    gold = next((r["value"] for r in mine if r["epoch"] == "gold"), None)
    values = {int(r["epoch"]): r["value"] for r in mine if r["epoch"] not in {"gold", "0"} and r["value"] is not None}
    if not values:
        return 0
    if select == "closest-to-gold":
        if gold is None:
            raise RequirementNotMet("an epoch can be selected by its gap to gold only if there is a gold model")
        return min(values, key=lambda epoch: (abs(values[epoch] - gold), epoch))
    sign = -1 if select == "highest" else 1
    return min(values, key=lambda epoch: (sign * values[epoch], epoch))


def _save_model(writer: Writer, model: nn.Module, *, elapsed_s: float, peak: PeakMemory, precompute_s: float = 0.0) -> None:
    writer.save_tensors("model", {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()})
    writer.facts |= {"elapsed_s": elapsed_s, "precompute_s": precompute_s, "peak_memory_mib": peak.mib()}


def _promise(guarantee: Guarantee) -> dict[str, Json]:
    return {"text": str(guarantee), **asdict(guarantee), "assumptions": list(guarantee.assumptions)}
