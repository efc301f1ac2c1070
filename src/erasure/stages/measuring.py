"""The stages ``values`` and ``verdict``: measure a model, and check it for what is conspicuous."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, cast

from torch import nn

from erasure.component import Component, canonical
from erasure.errors import RequirementNotMet
from erasure.measures.contract import Evaluation, Measure, ModelRole, ModelUnderTest, Sharing, Value
from erasure.measures.guards import run_guards
from erasure.measures.requested_models import ModelProvider, ModelRequest
from erasure.stages.blocks import ModelStack, split_member
from erasure.stages.data_spec import DataSpec
from erasure.stages.inference import outputs_of
from erasure.stages.models import RequestedModels
from erasure.stages.session import Session
from erasure.stages.stage import Stage, short
from erasure.stages.training import TrainModel
from erasure.stages.unlearning import UnlearnModel
from erasure.stages.value_records import value_record
from erasure.store import Writer
from erasure.store.addresses import address
from erasure.training.predictor import build_model
from erasure.training.randomness import Streams
from erasure.types import Json
from erasure.unlearners.contract import model_digest

__all__ = ["CheckModel", "MeasureModel", "candidate", "evaluation_of"]


@dataclass(frozen=True, eq=False, kw_only=True)
class MeasureModel(Stage):
    """Stores the values of a measure.

    Args:
        model: Address of the model that is measured.
        role: What the model is.
        measure: The measure.
        references: Addresses of the models it is compared with.
        seed: Seed of the measure's random choices.
        passes: Addresses of the outputs that it reads.
        requested: Where the models are that the measure has asked for.
        blocks: The blocks they are in, by address.
        made_and_run: Addresses of the stages that make and run the requested models.
        maker: The stage that made the model, so that it can be made again.
    """

    kind: ClassVar[str] = "values"

    model: str
    role: ModelRole
    measure: Measure
    references: Mapping[str, str]
    seed: int
    passes: tuple[str, ...]
    requested: Mapping[ModelRequest, str] = field(default_factory=dict)
    blocks: Mapping[str, ModelStack | None] = field(default_factory=dict)
    made_and_run: tuple[str, ...] = ()
    maker: Stage | None = None

    def content(self) -> Json:
        content: dict[str, Json] = {
            "measure": self.data.forms(self.measure),
            "model": self.model,
            "role": self.role,
            "references": dict(self.references),
            "partitions": self.data.addresses_of(self.measure.partitions()),
            "view": self.data.inputs_address,
            "seed": self.seed,
            "numerics": self.data.numerics,
        }
        return content | ({"bank": sorted({*self.requested.values()})} if self.made_and_run else {})

    def inputs(self) -> tuple[str, ...]:
        models = (split_member(where)[0] for where in (self.model, *self.references.values()))
        return (self.data.split_address, *models, *self.passes, *self.made_and_run)

    @property
    def reads(self) -> frozenset[str]:
        return super().reads | (self.maker.reads if self.maker is not None else frozenset())

    def family(self) -> str:
        return f"measure {short(self.measure)}"

    def cost_factors(self) -> tuple[Component, str]:
        return self.measure, self.role

    def run(self, session: Session, writer: Writer) -> None:
        start, measure = time.perf_counter(), self.measure
        missing = sorted(measure.references - set(self.references))
        if missing:
            raise RequirementNotMet(f"{measure.title} compares with the {missing[0]} model, and there is none")
        subject = candidate(session, self.data, self.model, self.role, self.maker)
        provider = RequestedModels(session=session, data=self.data, models=self.requested, blocks=self.blocks)
        evaluation = evaluation_of(
            session, self.data, subject, self.references, self.seed, measure.stream, provider if self.requested else None
        )
        values = measure.measure(evaluation)
        if not isinstance(values, Sequence) or not all(isinstance(value, Value) for value in values):
            raise RequirementNotMet(f"{measure.title} must return a list of values (Value); it returned {type(values).__name__}")
        writer.save_json("values", [value_record(measure, value) for value in values])
        for name, note in evaluation.notes.items():
            writer.save_json(name, note)
        writer.facts["elapsed_s"] = time.perf_counter() - start


@dataclass(frozen=True, eq=False, kw_only=True)
class CheckModel(Stage):
    """Stores what is conspicuous about an unlearned model.

    Args:
        model: Address of the unlearned model.
        forget: Name of the partition that it forgets.
        retain: Name of the partition that it keeps.
        references: Addresses of the original and the gold model.
        floors: Addresses of golds of other seeds.
        passes: Addresses of the outputs that it reads.
    """

    kind: ClassVar[str] = "verdict"

    model: str
    forget: str
    retain: str
    references: Mapping[str, str]
    floors: tuple[str, ...]
    passes: tuple[str, ...]

    def content(self) -> Json:
        roles = {"forget": self.forget, "retain": self.retain}
        addresses = self.data.partition_addresses
        return {
            "model": self.model,
            "references": dict(self.references),
            "floors": list(self.floors),
            "partitions": {role: addresses[name] for role, name in roles.items() if name in addresses},
            "version": 4,
        }

    def inputs(self) -> tuple[str, ...]:
        return (self.data.split_address, self.model, *self.references.values(), *self.passes)

    def family(self) -> str:
        return "judge"

    def run(self, session: Session, writer: Writer) -> None:
        subject = candidate(session, self.data, self.model, "unlearned")
        evaluation = evaluation_of(session, self.data, subject, self.references, 0, "judge")
        floor = self._forget_floor(session, evaluation)
        verdict = run_guards(evaluation, forget=self.forget, retain=self.retain, floor=floor)
        writer.save_json("verdict", {name: getattr(verdict, name) for name in ("status", "reason", "gold", "original")})

    def _forget_floor(self, session: Session, evaluation: Evaluation) -> float:
        """How far the forget accuracy of golds of other seeds is from gold's."""
        if not self.floors or "gold" not in self.references or not len(evaluation.partition_ids.get(self.forget, ())):
            return 0.0
        if evaluation.model("gold").outputs(self.forget).diverged:
            return 0.0  # the guards say so
        gold = evaluation.outputs(self.forget, "gold").accuracy
        return max(abs(outputs_of(session, self.data, other, self.forget).accuracy - gold) for other in self.floors)


def _remake(session: Session, stage: Stage | None) -> Callable[[], object] | None:
    """How to make a model once more, in this process and without the store."""
    is_trained = isinstance(stage, TrainModel) or (isinstance(stage, UnlearnModel) and stage.unlearner.exact)
    if is_trained and session.options.devices > 1:
        return None  # one process cannot make it the same way
    if isinstance(stage, TrainModel):
        return lambda: stage.trained(session)
    if isinstance(stage, UnlearnModel):
        return lambda: stage.unlearned(session)
    return None


def _epoch(session: Session, stage: Stage | None) -> tuple[Callable[[], object], int] | None:
    """One epoch of the model's training, and their number, where each has batches of the same shapes."""
    if not isinstance(stage, TrainModel) or _remake(session, stage) is None:
        return None
    recipe = stage.data.predictor
    if recipe.patience is not None or recipe.epochs < 2:
        return None
    if session.loaded(stage.data).dataset.modality not in {"table", "image"}:
        return None
    once = replace(stage, data=replace(stage.data, predictor=recipe.replace(epochs=1)))
    return lambda: once.trained(session), recipe.epochs


def candidate(session: Session, data: DataSpec, where: str, role: str, maker: Stage | None = None) -> ModelUnderTest:
    """A model under measurement."""
    facts = session.facts(split_member(where)[0])
    n_models = cast(int, facts.get("models", 1))
    return ModelUnderTest(
        role=cast(Any, role),
        load=lambda: session.model(data, where),
        outputs=lambda partition: outputs_of(session, data, where, partition),
        elapsed_s=cast(float, facts["elapsed_s"]) / n_models,
        precompute_s=cast(float, facts.get("precompute_s", 0.0)),
        peak_memory_mib=cast("float | None", facts.get("peak_memory_mib")),
        remake=_remake(session, maker),
        epoch=_epoch(session, maker),
    )


def evaluation_of(
    session: Session,
    data: DataSpec,
    subject: ModelUnderTest,
    references: Mapping[str, str],
    seed: int,
    stream: str,
    provider: ModelProvider | None = None,
) -> Evaluation:
    """What a measure sees of a model.

    Args:
        session: Has the data and the models.
        data: The data.
        subject: The model.
        references: Addresses of the models it is compared with.
        seed: Seed of the stage.
        stream: Name of the random stream.
        provider: Other models, if the measure has asked for any.
    """
    loaded = session.loaded(data)
    return Evaluation(
        subject=subject,
        references={kind: candidate(session, data, where, kind) for kind, where in references.items()},
        partition_ids=loaded.partitions,
        x=loaded.x,
        y=loaded.y,
        z=loaded.z,
        model_input=loaded.model_input,
        criterion=loaded.criterion,
        streams=Streams(seed).child(stream),
        batch_size=data.batch_size,
        facts={
            "class_names": loaded.dataset.class_names,
            "z_names": loaded.dataset.z_names,
            "feature_names": loaded.dataset.feature_names,
            "clean_y": loaded.dataset.clean_y,
            "token_names": loaded.model_input.token_names,
        },
        fresh=lambda seed: build_model(data.predictor.model, loaded.model_input, seed, session.device).eval(),
        provider=provider,
        sharing=_sharing(session, data, seed, stream),
        kept=session.findings(data),
    )


def _sharing(session: Session, data: DataSpec, seed: int, stream: str) -> Sharing:
    """Results that measures share are objects of the store."""

    def shared(model: nn.Module, described: Mapping[str, Any], compute: Callable[[], Json]) -> Json:
        content: dict[str, Json] = {
            **{key: canonical(value) for key, value in described.items() if key != "draws"},
            "partitions": [data.partition_addresses[name] for name in described["partitions"]],
            "network": canonical(data.predictor.model),
            "weights": model_digest(model),
            "view": data.inputs_address,
            "request": data.request,
            "loss": canonical(data.predictor.loss_fn),
            "stream": [seed, stream] if described["draws"] else None,
            "numerics": session.numerics,
        }

        def computed(writer: Writer) -> None:
            start = time.perf_counter()
            writer.save_json("result", compute())
            writer.facts["elapsed_s"] = time.perf_counter() - start

        return session.keep(address("shared", content), "shared", content, computed, described["name"]).json("result")

    return shared
