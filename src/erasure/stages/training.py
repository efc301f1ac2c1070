"""The stage ``model``: train one model by the recipe."""

from __future__ import annotations

import time

from torch import nn

from erasure.planning.stages import Job
from erasure.stages.session import Session
from erasure.store import Writer
from erasure.training.devices import PeakMemory, synchronise

__all__ = ["save_model", "train_model"]


def train_model(session: Session, job: Job, writer: Writer) -> None:
    """Train a model and save it."""
    if session.options.devices > 1:
        from erasure.stages.ranks import train_on_devices

        trained = train_on_devices(session, job, session.stage.name if session.stage is not None else "")
        writer.save_tensors("model", trained.state)
        writer.facts |= {
            "elapsed_s": trained.elapsed_s,
            "precompute_s": 0.0,
            "peak_memory_mib": trained.peak_memory_mib,
        }
        return
    start, peak = time.perf_counter(), PeakMemory(session.device)
    model = session.trained(job.scene, session.material(job.scene).partitions[job.partition], job.seed)
    synchronise(session.device)
    save_model(writer, model, elapsed_s=time.perf_counter() - start, peak=peak)


def save_model(writer: Writer, model: nn.Module, *, elapsed_s: float, peak: PeakMemory, precompute_s: float = 0.0) -> None:
    """Store weights and buffers, with time and memory as facts."""
    writer.save_tensors("model", {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()})
    writer.facts |= {"elapsed_s": elapsed_s, "precompute_s": precompute_s, "peak_memory_mib": peak.mib()}
