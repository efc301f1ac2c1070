"""The stages ``values`` and ``verdict``: measure a model, and check it for what is conspicuous."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

from torch import nn

from erasure.component import canonical
from erasure.engine.recording.rows import value_record
from erasure.errors import RequirementNotMet
from erasure.measures.contract import Candidate, Evaluation, Sharing
from erasure.measures.guards import judge
from erasure.planning.stages import Job, Scene, Stage
from erasure.stages.blocks import split_member
from erasure.stages.inference import outputs_of
from erasure.stages.models import Population
from erasure.stages.session import Session
from erasure.stages.unlearning import task_of
from erasure.store import Writer
from erasure.store.addresses import address
from erasure.training.predictor import build_model
from erasure.training.randomness import Streams
from erasure.types import Json
from erasure.unlearners.contract import model_digest

__all__ = ["candidate", "check", "evaluation_of", "measure"]


def _remake(session: Session, stage: Stage | None) -> Callable[[], object] | None:
    """How to make a model once more, in this process and without the store."""
    if stage is None or stage.kind not in {"model", "unlearned"}:
        return None
    job = stage.job
    if session.options.devices > 1 and (job.unlearner is None or job.unlearner.exact):
        return None  # one process cannot make it the same way

    def make() -> nn.Module:
        if job.unlearner is None:
            return session.trained(job.scene, session.material(job.scene).partitions[job.partition], job.seed)
        return job.unlearner.run(session.model(job.scene, job.model), task_of(session, job, anew=True)).model

    return make


def _epoch(session: Session, stage: Stage | None) -> tuple[Callable[[], object], int] | None:
    """One epoch of the model's training, and their number, where each has batches of the same shapes."""
    if stage is None or stage.kind != "model" or _remake(session, stage) is None:
        return None
    job, scene = stage.job, stage.job.scene
    recipe, material = scene.predictor, session.material(scene)
    if recipe.patience is not None or recipe.epochs < 2 or material.dataset.modality not in {"table", "image"}:
        return None
    once = replace(scene, predictor=recipe.replace(epochs=1))
    return lambda: session.trained(once, material.partitions[job.partition], job.seed), recipe.epochs


def candidate(session: Session, scene: Scene, where: str, role: str, maker: Stage | None = None) -> Candidate:
    """A model under measurement."""
    facts = session.store.open(split_member(where)[0]).facts
    n_models = cast(int, facts.get("models", 1))
    return Candidate(
        kind=cast(Any, role),
        load=lambda: session.model(scene, where),
        outputs=lambda partition: outputs_of(session, scene, where, partition),
        elapsed_s=cast(float, facts["elapsed_s"]) / n_models,
        precompute_s=cast(float, facts.get("precompute_s", 0.0)),
        peak_memory_mib=cast("float | None", facts.get("peak_memory_mib")),
        remake=_remake(session, maker),
        epoch=_epoch(session, maker),
    )


def evaluation_of(session: Session, job: Job, stream: str) -> Evaluation:
    """What a measure sees of a model."""
    scene, material = job.scene, session.material(job.scene)
    return Evaluation(
        subject=candidate(session, scene, job.model, job.role, job.maker),
        references={kind: candidate(session, scene, where, kind) for kind, where in job.references.items()},
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
            "token_names": session.token_names(scene.data) if material.dataset.task == "generation" else (),
        },
        fresh=lambda seed: build_model(scene.predictor.model, material.model_input, seed, session.device).eval(),
        provider=Population(session, job) if job.bank else None,
        sharing=_sharing(session, job, stream),
    )


def _sharing(session: Session, job: Job, stream: str) -> Sharing:
    """Results that measures share are objects of the store."""

    def shared(model: nn.Module, described: Mapping[str, Any], compute: Callable[[], Json]) -> Json:
        scene = job.scene
        content: dict[str, Json] = {
            **{key: canonical(value) for key, value in described.items()},
            "partitions": [scene.lineage[name] for name in described["partitions"]],
            "network": canonical(scene.predictor.model),
            "weights": model_digest(model),
            "view": scene.view,
            "request": scene.request,
            "loss": canonical(scene.predictor.loss_fn),
            "stream": [job.seed, stream],
            "numerics": session.numerics,
        }

        def computed(writer: Writer) -> None:
            start = time.perf_counter()
            writer.save_json("result", compute())
            writer.facts["elapsed_s"] = time.perf_counter() - start

        return session.keep(address("shared", content), "shared", content, computed, described["name"]).json("result")

    return shared


def measure(session: Session, job: Job, writer: Writer) -> None:
    """Store the values of a measure."""
    assert job.measure is not None  # noqa: S101 - narrows the type
    start = time.perf_counter()
    missing = sorted(job.measure.references - set(job.references))
    if missing:
        raise RequirementNotMet(f"{job.measure.title} compares with the {missing[0]} model, and there is none")
    values = job.measure.measure(evaluation_of(session, job, job.measure.stream))
    writer.save_json("values", [value_record(job.measure, value) for value in values])
    writer.facts["elapsed_s"] = time.perf_counter() - start


def check(session: Session, job: Job, writer: Writer) -> None:
    """Store what is conspicuous about an unlearned model."""
    assert job.unlearner is not None  # noqa: S101 - narrows the type
    unlearner, evaluation = job.unlearner, evaluation_of(session, job, "judge")
    verdict = judge(evaluation, forget=unlearner.forget, retain=unlearner.retain, floor=_forget_floor(session, job, evaluation))
    writer.save_json("verdict", {field: getattr(verdict, field) for field in ("status", "reason", "gold", "original")})


def _forget_floor(session: Session, job: Job, evaluation: Evaluation) -> float:
    """How far the forget accuracy of golds of other seeds is from gold's."""
    assert job.unlearner is not None  # noqa: S101 - narrows the type
    forget = job.unlearner.forget
    if not job.floors or "gold" not in job.references or not len(evaluation.partition_ids.get(forget, ())):
        return 0.0
    if evaluation.candidate("gold").outputs(forget).diverged:
        return 0.0  # the guards say so
    gold = evaluation.outputs(forget, "gold").accuracy
    return max(abs(outputs_of(session, job.scene, other, forget).accuracy - gold) for other in job.floors)
