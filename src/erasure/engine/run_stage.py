"""Which handler computes which kind of stage; a new kind is one file in ``stages/`` and one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from erasure.planning.stages import Job, Stage
from erasure.stages.data import load_data, split
from erasure.stages.inference import infer
from erasure.stages.measuring import check, measure
from erasure.stages.models import make_block
from erasure.stages.session import Session
from erasure.stages.tracing import select, trace
from erasure.stages.training import train_model
from erasure.stages.unlearning import unlearn
from erasure.store import Artifact, Writer

__all__ = ["HANDLERS", "run_stage"]

HANDLERS: Mapping[str, Callable[[Session, Job, Writer], None]] = {
    "data": load_data,
    "split": split,
    "model": train_model,
    "models": make_block,
    "unlearned": unlearn,
    "trace": trace,
    "selected": select,
    "outputs": infer,
    "values": measure,
    "verdict": check,
}


def run_stage(session: Session, stage: Stage) -> Artifact:
    """The stage's object, computed if the store lacks it."""

    def computed(writer: Writer) -> None:
        writer.facts["signature"] = stage.signature
        session.stage = stage
        try:
            HANDLERS[stage.kind](session, stage.job, writer)
        finally:
            session.stage = None

    return session.keep(stage.address, stage.kind, stage.content, computed, stage.name)
