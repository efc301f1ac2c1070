"""The stages ``data`` and ``split``: load a source, and cut it into partitions."""

from __future__ import annotations

from typing import Any, cast

from erasure.data.checks import read_as
from erasure.data.partitions import build_partitions
from erasure.data.progress import hearing
from erasure.data.storage import TOKENS, to_artifact
from erasure.events import SamplesRead
from erasure.planning.stages import Job
from erasure.stages.session import Session
from erasure.store import Writer

__all__ = ["load_data", "split"]


def load_data(session: Session, job: Job, writer: Writer) -> None:
    """Load the source and store its columns."""
    name = session.stage.name if session.stage is not None else ""
    with session.told(), hearing(lambda done, total: session.listener(SamplesRead(name=name, done=done, total=total))):
        dataset = read_as(job.scene.source.load(), cast(Any, job.scene.task))
    tensors, facts = to_artifact(dataset)
    writer.save_tensors("columns", tensors)
    writer.save_json("dataset", facts)
    if dataset.token_names:
        writer.save_json(TOKENS, list(dataset.token_names))


def split(session: Session, job: Job, writer: Writer) -> None:
    """Cut the data into partitions."""
    with session.told():
        partitions = build_partitions(session.dataset(job.scene.data), job.scene.splitters, job.scene.seed)
    writer.save_tensors("partitions", dict(partitions))
    writer.save_json("order", list(partitions))
    writer.facts["explains"] = dict(job.scene.explains)
