"""What a training tells of itself while it goes on: every update, and checkpoints from which it can be taken up."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from erasure.training.anatomy import load_state
from erasure.training.batches import Batch

if TYPE_CHECKING:
    from erasure.training.loop import Trainer

__all__ = ["Checkpoint", "CheckpointListener", "StepListener", "Update"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Update:
    """One update of a training, as it was made.

    Args:
        number: From 1; 0 stands for the initial weights.
        epoch: Of the update, from 0.
        rate: Learning rate of the first group of parameters.
        weight_decay: Of the same group, as the optimizer has it.
        batch: The samples that made it, with their ids; None of the initial weights.
    """

    number: int = 0
    epoch: int = 0
    rate: float = 0.0
    weight_decay: float = 0.0
    batch: Batch | None = None


StepListener = Callable[[nn.Module, Update], None]
"""Called with the model before the first update, then after each update."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Checkpoint:
    """A training between two epochs: going on from it gives the bits of going on without a stop.

    Args:
        epoch: Epochs that are done.
        model: Weights and buffers.
        optimizer: State of the optimizer.
        schedule: State of the schedule; None without one.
        streams: States of the random generators by name.
        memory: What a method remembers from step to step beside weights and optimizer.
    """

    epoch: int
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    schedule: Mapping[str, Any] | None
    streams: Mapping[str, Tensor]
    memory: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, trainer: Trainer, epoch: int, generators: Mapping[str, torch.Generator]) -> Checkpoint:
        """The training as it stands, copied."""
        return cls(
            epoch=epoch,
            model={name: value.detach().clone() for name, value in trainer.model.state_dict().items()},
            optimizer=copy.deepcopy(trainer.optimizer.state_dict()),
            schedule=copy.deepcopy(trainer.schedule.state_dict()) if trainer.schedule is not None else None,
            streams={name: generator.get_state() for name, generator in generators.items()},
            memory={name: value.detach().clone() for name, value in trainer.memory.items()},
        )

    def restore(self, trainer: Trainer, generators: Mapping[str, torch.Generator]) -> None:
        """Put a training of the same recipe into this state."""
        load_state(trainer.model, self.model)
        trainer.optimizer.load_state_dict(copy.deepcopy(dict(self.optimizer)))
        if trainer.schedule is not None and self.schedule is not None:
            trainer.schedule.load_state_dict(copy.deepcopy(dict(self.schedule)))
        for name, generator in generators.items():
            generator.set_state(self.streams[name])
        for name, value in self.memory.items():
            device = trainer.memory[name].device if name in trainer.memory else trainer.device
            trainer.memory[name] = value.to(device, copy=True)
        trainer.first_epoch = self.epoch

    @property
    def n_bytes(self) -> int:
        """What it takes to keep, the optimizer's state included."""
        tensors = [*self.model.values(), *_tensors(self.optimizer)]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


CheckpointListener = Callable[[Checkpoint], None]


def _tensors(node: Any) -> list[Tensor]:
    if isinstance(node, Tensor):
        return [node]
    values = node.values() if isinstance(node, Mapping) else node if isinstance(node, list | tuple) else ()
    return [tensor for value in values for tensor in _tensors(value)]
