"""The stage ``outputs``: one forward pass of a model over a partition."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.measures.contract import Outputs, forward_pass
from erasure.planning.stages import Job, Scene, outputs_content
from erasure.stages.blocks import member, split_member
from erasure.stages.session import Session
from erasure.store import Writer
from erasure.store.addresses import address

__all__ = ["forward", "infer", "outputs_of"]

_KEPT = 512
"""Outputs kept in memory; they are read again from the store when they fall out."""


def forward(session: Session, model: nn.Module, scene: Scene, partition: str) -> Outputs:
    """One forward pass of a model over a partition."""
    material = session.material(scene)
    session.n_passes += 1
    return forward_pass(
        model,
        x=material.x,
        y=material.y,
        ids=material.partitions[partition],
        criterion=material.criterion,
        task=material.model_input.task,
    )


def infer(session: Session, job: Job, writer: Writer) -> None:
    """Store what a model, or every model of a block, returns for a partition."""
    if job.block is not None:
        _infer_block(session, job, writer)
        return
    outputs = forward(session, session.model(job.scene, job.model), job.scene, job.partition)
    tensors = {"ids": outputs.ids, "logits": outputs.logits, "losses": outputs.losses, "labels": outputs.labels}
    writer.save_tensors("outputs", tensors | ({} if outputs.features is None else {"features": outputs.features}))


def _infer_block(session: Session, job: Job, writer: Writer) -> None:
    """One pass of every model of a block; ids and labels are the same for all."""
    assert job.block is not None  # noqa: S101 - narrows the type
    models = [session.model(job.scene, member(job.model, index)) for index in range(len(job.block.requests))]
    each = [forward(session, model, job.scene, job.partition) for model in models]
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


def outputs_of(session: Session, scene: Scene, model: str, partition: str, *, of_bank: bool = False) -> Outputs:
    """What a model says about a partition, from the store, or computed now if no stage has.

    Of the bank of a measure (``of_bank``) there is only what the measure has asked for.
    """
    place, index = split_member(model)
    if index is not None and not of_bank:
        stored = address("outputs", outputs_content(scene, place, partition, session.numerics))
        if stored not in session.kept_outputs and not session.store.contains(stored):
            place, index = model, None  # this one alone
    content = outputs_content(scene, place, partition, session.numerics)
    where = address("outputs", content)
    if where not in session.kept_outputs:
        job = Job(scene=scene, model=place, partition=partition)
        if index is None:
            artifact = session.keep(where, "outputs", content, lambda writer: infer(session, job, writer), f"run on {partition}")
        elif session.store.contains(where):
            artifact = session.store.open(where)
        else:
            raise RequirementNotMet(f'no measure has asked for outputs on "{partition}" of these models in its requests()')
        tensors = artifact.tensors("outputs")
        session.kept_outputs[where] = Outputs(**tensors, task=session.material(scene).model_input.task)
        while len(session.kept_outputs) > _KEPT:
            session.kept_outputs.popitem(last=False)
    found = session.kept_outputs[where]
    if index is None:
        return found
    features = None if found.features is None else found.features[index]
    return replace(found, logits=found.logits[index], losses=found.losses[index], features=features)
