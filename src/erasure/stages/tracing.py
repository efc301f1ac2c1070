"""The stages ``trace`` and ``selected``: measure after each epoch of unlearning, and keep the epoch that a rule prefers."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from torch import nn

from erasure.engine.recording.rows import value_record
from erasure.errors import RequirementNotMet
from erasure.measures.contract import Candidate, Outputs
from erasure.planning.stages import Job
from erasure.stages.inference import forward
from erasure.stages.measuring import candidate, evaluation_of
from erasure.stages.session import Session
from erasure.store import Writer
from erasure.training.predictor import build_model

__all__ = ["best_epoch", "select", "trace"]


def trace(session: Session, job: Job, writer: Writer) -> None:
    """Measure the original, every epoch's model and gold; epoch 0 is the original."""
    assert job.trace is not None  # noqa: S101 - narrows the type
    epochs = cast(int, session.store.open(job.model).facts["epochs"])
    models = {"gold": job.references["gold"]} if "gold" in job.references else {}
    subjects: dict[str, Candidate] = {
        "0": candidate(session, job.scene, job.references["original"], "unlearned"),
        **{str(epoch): _checkpoint(session, job, epoch) for epoch in range(1, epochs + 1)},
        **{role: candidate(session, job.scene, where, "gold") for role, where in models.items()},
    }
    records = []
    for epoch, subject in subjects.items():
        for number, measure in enumerate(job.trace.measures):
            evaluation = replace(evaluation_of(session, replace(job, measure=measure), measure.stream), subject=subject)
            values = [value_record(measure, value) for value in measure.measure(evaluation)]
            records += [{"epoch": epoch, "number": number, **record} for record in values]
    writer.save_json("trace", records)


def _checkpoint(session: Session, job: Job, epoch: int) -> Candidate:
    artifact, material = session.store.open(job.model), session.material(job.scene)

    @functools.cache
    def load() -> nn.Module:
        model = build_model(job.scene.predictor.model, material.model_input, 0, session.device)
        model.load_state_dict(artifact.tensors(f"epoch-{epoch:04d}"))
        return model.eval()

    @functools.cache
    def outputs(partition: str) -> Outputs:
        return forward(session, load(), job.scene, partition)

    elapsed_s = cast("list[float]", artifact.facts["epoch_elapsed_s"])[epoch - 1]
    return Candidate(kind="unlearned", load=load, outputs=outputs, elapsed_s=elapsed_s)


def select(session: Session, job: Job, writer: Writer) -> None:
    """The weights of the epoch that the trace's rule prefers."""
    assert job.trace is not None  # noqa: S101 - narrows the type
    artifact = session.store.open(job.model)
    epoch = best_epoch(session.store.open(job.traced).json("trace"), job.trace.select)
    writer.save_tensors("model", artifact.tensors(f"epoch-{epoch:04d}" if epoch else "model"))
    costs = ("elapsed_s", "precompute_s", "peak_memory_mib", "kept_bytes")
    writer.facts |= {name: artifact.facts[name] for name in costs if name in artifact.facts} | {"epoch": epoch}


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
