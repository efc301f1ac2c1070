"""The stage ``unlearned``: run a method on a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace

from torch import Tensor

from erasure.accounting.guarantee import Guarantee
from erasure.planning.stages import Job
from erasure.stages.method_models import EpochLog, MethodBank
from erasure.stages.session import Session
from erasure.stages.training import save_model
from erasure.store import Writer
from erasure.training.devices import PeakMemory
from erasure.training.randomness import Streams
from erasure.types import Json
from erasure.unlearners.contract import UnlearningTask

__all__ = ["task_of", "unlearn"]


def task_of(session: Session, job: Job, own: Mapping[str, Tensor] | None = None, *, anew: bool = False) -> UnlearningTask:
    """What a method is given.

    Args:
        session: Has the data and the models.
        job: Scene, seed and the model to unlearn from.
        own: Partitions that take the place of those of the scene.
        anew: Whether other models and one-off work are made again, whatever the store has.
    """
    material = session.material(job.scene)
    moved = {name: ids.to(session.device) for name, ids in (own or {}).items()}
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
        bank=MethodBank(session, job, partitions, stored=not (own or anew)),
        precision=session.precision,
    )


def unlearn(session: Session, job: Job, writer: Writer) -> None:
    """Run the method and store the unlearned model, with every epoch's weights if it is traced."""
    assert job.unlearner is not None  # noqa: S101 - narrows the type
    original, task = session.model(job.scene, job.model), task_of(session, job)
    log = EpochLog(task, session.on_epoch()) if job.trace is not None else None
    peak = PeakMemory(session.device)
    unlearned = job.unlearner.run(original, replace(task, on_epoch=log or session.on_epoch()))
    save_model(writer, unlearned.model, elapsed_s=unlearned.elapsed_s, peak=peak, precompute_s=unlearned.precompute_s)
    writer.facts |= {"kept_bytes": unlearned.kept_bytes, "guarantee": _promise(unlearned.guarantee)}
    for number, state in enumerate(log.states if log is not None else (), start=1):
        writer.save_tensors(f"epoch-{number:04d}", state)
    writer.facts["epochs"] = len(log.states) if log is not None else 0
    writer.facts["epoch_elapsed_s"] = list(log.elapsed_s) if log is not None else []


def _promise(guarantee: Guarantee) -> dict[str, Json]:
    return {"text": str(guarantee), **asdict(guarantee), "assumptions": list(guarantee.assumptions)}
