"""The stage ``outputs``: one forward pass of a model, or of every model of a block, over a partition."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.measures.contract import Outputs, forward_pass
from erasure.stages.blocks import member, split_member
from erasure.stages.data_spec import DataSpec
from erasure.stages.session import Session
from erasure.stages.side_by_side import made_side_by_side
from erasure.stages.stage import Stage, run_stage, short
from erasure.store import Writer
from erasure.store.addresses import address
from erasure.training.devices import give_back_holes
from erasure.types import Json

__all__ = ["RunModel", "forward", "outputs_address", "outputs_of"]

_KEPT = 512
"""Outputs kept in memory; they are read again from the store when they fall out."""


@dataclass(frozen=True, eq=False, kw_only=True)
class RunModel(Stage):
    """Stores what a model, or every model of a block, returns for a partition.

    Args:
        model: Address of the model or block.
        partition: Partition to run on.
        block_size: Models in the block; None for a model that is none of a block, or one alone.
        keeps_features: Whether what the last hidden layer gives is stored too, if the model returns it.
    """

    kind: ClassVar[str] = "outputs"

    model: str
    partition: str
    block_size: int | None = None
    keeps_features: bool = True

    def content(self) -> Json:
        return _content(self.data, self.model, self.partition)

    def inputs(self) -> tuple[str, ...]:
        return (self.data.split_address, split_member(self.model)[0])

    def family(self) -> str:
        n = f" x{self.block_size}" if self.block_size is not None else ""
        return f"run {short(self.data.predictor.model)}{n}"

    def run(self, session: Session, writer: Writer) -> None:
        if self.block_size is not None:
            writer.save_tensors("outputs", self._of_block(session))
        else:
            model = session.model(self.data, self.model)
            give_back_holes(model.parameters())
            outputs = forward(session, model, self.data, self.partition)
            writer.save_tensors("outputs", _tensors(outputs))

    @property
    def n_pieces(self) -> int:
        """How many models run."""
        return self.block_size or 1

    def piece(self, session: Session, number: int) -> dict[str, Tensor]:
        """What one of a block returns."""
        model = session.model(self.data, member(self.model, number))
        return _tensors(forward(session, model, self.data, self.partition, keeps_features=self.keeps_features))

    def _of_block(self, session: Session) -> dict[str, Tensor]:
        """What every model of the block returns; ids and labels are the same for all."""
        each = list(made_side_by_side(session, self))
        return {
            name: first if name in {"ids", "labels"} else torch.stack([tensors[name] for tensors in each])
            for name, first in each[0].items()
        }


def _tensors(outputs: Outputs) -> dict[str, Tensor]:
    tensors = {"ids": outputs.ids, "logits": outputs.logits, "losses": outputs.losses, "labels": outputs.labels}
    return tensors | ({} if outputs.features is None else {"features": outputs.features})


def _content(data: DataSpec, model: str, partition: str) -> Json:
    return {
        "model": model,
        "partition": data.partition_addresses[partition],
        "view": data.inputs_address,
        "numerics": data.numerics,
    }


def outputs_address(data: DataSpec, model: str, partition: str) -> str:
    """Address of a model's outputs on a partition; measures ask for those of each shadow model with every model that they attack."""
    key = ("outputs", data.inputs_address, data.partition_addresses[partition], model)
    return cast(str, data.forms.once(key, data, lambda: address(RunModel.kind, _content(data, model, partition))))


def forward(session: Session, model: nn.Module, data: DataSpec, partition: str, *, keeps_features: bool = True) -> Outputs:
    """One forward pass of a model over a partition."""
    loaded = session.loaded(data)
    session.n_passes += 1
    return forward_pass(
        model,
        x=loaded.x,
        y=loaded.y,
        ids=loaded.partitions[partition],
        criterion=loaded.criterion,
        task=loaded.model_input.task,
        keeps_features=keeps_features,
    )


def outputs_of(session: Session, data: DataSpec, model: str, partition: str, *, was_requested: bool = False) -> Outputs:
    """A model's outputs on a partition, from the store, or computed now if no stage has.

    Of models that a measure requested (``was_requested``) there are only the outputs that the measure asked for.
    """
    place, index = split_member(model)
    where = outputs_address(data, place, partition)
    if index is not None and not was_requested and where not in session.kept_outputs and not session.store.contains(where):
        place, index = model, None  # this one alone
        where = outputs_address(data, place, partition)
    if where not in session.kept_outputs:
        if index is None:
            artifact = run_stage(session, RunModel(name=f"run on {partition}", data=data, model=place, partition=partition))
        elif session.store.contains(where):
            artifact = session.store.open(where)
        else:
            raise RequirementNotMet(f'no measure has asked for outputs on "{partition}" of these models in its requests()')
        tensors = artifact.tensors("outputs")
        session.kept_outputs[where] = Outputs(**tensors, task=session.loaded(data).model_input.task)
        while len(session.kept_outputs) > _KEPT:
            dropped, _ = session.kept_outputs.popitem(last=False)
            session.kept_members.pop(dropped, None)
    found = session.kept_outputs[where]
    if index is None:
        return found
    members = session.kept_members.setdefault(where, {})
    if index not in members:
        features = None if found.features is None else found.features[index]
        members[index] = replace(found, logits=found.logits[index], losses=found.losses[index], features=features)
    return members[index]
