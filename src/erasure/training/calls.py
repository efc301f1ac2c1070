"""Slots for classes of PyTorch: optimizers, learning-rate schedules and losses, each with its parameters bound."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from erasure.component import Call
from erasure.errors import InvalidParameters, Problem, RequirementNotMet
from erasure.functional.losses import per_sample_loss, targets
from erasure.training.optimizers import uncompiled
from erasure.types import TaskKind

__all__ = ["Criterion", "Loss", "Optimizer", "Schedule"]

_HORIZONS = ("total_iters", "T_max", "epochs")
"""Names under which torch's schedules take their length; filled in with the number of epochs when it is not given."""


@dataclass(frozen=True, kw_only=True)
class Optimizer(Call):
    """A class of ``torch.optim`` with its parameters, such as ``Adam`` with ``lr=0.001``."""

    kind: ClassVar[str] = "optimizer"
    namespaces: ClassVar[tuple[str, ...]] = ("torch.optim",)
    expects: ClassVar[str] = "torch.optim:Optimizer"

    def check(self) -> None:
        """The class must accept its parameters."""
        with _reported(self):
            self.build([nn.Parameter(torch.zeros(1))])

    def build(self, parameters: list[nn.Parameter], **overrides: Any) -> torch.optim.Optimizer:
        """A new optimizer with fresh state for ``parameters``; ``overrides`` win over the bound parameters."""
        optimizer: torch.optim.Optimizer = uncompiled(self.target())(parameters, **{**self.parameters, **overrides})
        return optimizer

    @property
    def learning_rate(self) -> float:
        """The rate that was given, or the class's default."""
        given = self.parameters.get("lr")
        return float(given if given is not None else inspect.signature(self.target()).parameters["lr"].default)


@dataclass(frozen=True, kw_only=True)
class Schedule(Call):
    """A class of ``torch.optim.lr_scheduler``, stepped once an epoch.

    A schedule whose length (``total_iters``, ``T_max``) is not given lasts as long as the training.
    """

    kind: ClassVar[str] = "schedule"
    namespaces: ClassVar[tuple[str, ...]] = ("torch.optim.lr_scheduler",)
    expects: ClassVar[str] = "torch.optim.lr_scheduler:LRScheduler"

    def check(self) -> None:
        """The class must accept its parameters."""
        with _reported(self):
            self.build(Optimizer.of("SGD", lr=0.1).build([nn.Parameter(torch.zeros(1))]), epochs=1)

    def build(self, optimizer: torch.optim.Optimizer, epochs: int) -> torch.optim.lr_scheduler.LRScheduler:
        """The schedule bound to ``optimizer``."""
        accepted = inspect.signature(self.target()).parameters
        horizon = {name: max(1, epochs) for name in _HORIZONS if name in accepted and name not in self.parameters}
        schedule: torch.optim.lr_scheduler.LRScheduler = self(optimizer, **horizon)
        return schedule


@dataclass(frozen=True, kw_only=True)
class Loss(Call):
    """A loss class of ``torch.nn``; called as ``loss(logits, labels)`` and averaged over the samples."""

    kind: ClassVar[str] = "loss"
    namespaces: ClassVar[tuple[str, ...]] = ("torch.nn",)
    expects: ClassVar[str] = "torch.nn:Module"

    def check(self) -> None:
        """The class must accept its parameters."""
        with _reported(self):
            self()

    def __call__(self, *args: Any, **overrides: Any) -> Any:
        """The loss; what its class takes as tensors may be numbers and lists, such as the weights of classes."""
        accepted = inspect.signature(self.target()).parameters
        tensors = {
            name: torch.tensor(value, dtype=torch.get_default_dtype())
            for name, value in self.parameters.items()
            if name in accepted and "Tensor" in str(accepted[name].annotation) and isinstance(value, int | float | list | tuple)
        }
        return super().__call__(*args, **{**tensors, **overrides})


@contextmanager
def _reported(call: Call) -> Iterator[None]:
    """Turn what a foreign constructor says about its parameters into our error."""
    try:
        yield
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidParameters([Problem(f"{call.path} does not accept its parameters: {error}", path=call.name)]) from error


class Criterion:
    """The loss of a task, as a mean over a batch and per sample.

    Args:
        task: How labels are read.
        loss: A loss module or function of ``(logits, labels)``; None takes the task's own cross-entropy.
    """

    def __init__(self, task: TaskKind, loss: Loss | Callable[[Tensor, Tensor], Tensor] | None = None) -> None:
        self.task = task
        self._mean: Callable[[Tensor, Tensor], Tensor] | None = loss() if isinstance(loss, Loss) else loss
        self._each: nn.Module | None = None
        if isinstance(loss, Loss) and "reduction" in inspect.signature(loss.target()).parameters:
            self._each = loss(reduction="none")
        self._own = self._mean is None or (isinstance(self._mean, nn.CrossEntropyLoss) and _is_plain(self._mean))

    def to(self, device: torch.device) -> Criterion:
        """The same criterion with its weights on ``device``."""
        for module in (self._mean, self._each):
            if isinstance(module, nn.Module):
                module.to(device)
        return self

    def __call__(self, logits: Tensor, y: Tensor) -> Tensor:
        """Mean loss of a batch, a scalar."""
        if self._mean is None:
            return per_sample_loss(self.task, logits, y).mean()
        value: Tensor = self._mean(logits, targets(self.task, logits, y))
        return value

    def over_samples(self, logits: Tensor, y: Tensor) -> Tensor:
        """Mean of the samples' losses, a scalar: what to average over batches so that the result does not depend on how they are cut.

        With class weights the mean loss of a batch is divided by the weights of its samples; here every sample's weighted loss counts
        alike. A loss that gives no per-sample losses is taken as it is.
        """
        if self._own:
            return self(logits, y)
        try:
            return self.per_sample(logits, y).mean()
        except RequirementNotMet:
            return self(logits, y)

    def per_sample(self, logits: Tensor, y: Tensor) -> Tensor:
        """Loss of each sample, ``(B,)``.

        Raises:
            RequirementNotMet: If the loss cannot be taken per sample.
        """
        if self._own:
            return per_sample_loss(self.task, logits, y)
        if self._each is not None:
            return self._each(logits, targets(self.task, logits, y)).reshape(len(y), -1).mean(1)  # type: ignore[no-any-return]
        loss: Any = self._mean
        before = getattr(loss, "reduction", None)
        if before is None:
            raise RequirementNotMet(f"{type(loss).__name__} gives no per-sample losses; use a loss of torch.nn with a reduction")
        loss.reduction = "none"
        try:
            losses: Tensor = loss(logits, targets(self.task, logits, y))
        finally:
            loss.reduction = before
        if losses.dim() == 0 or len(losses) != len(y):
            raise RequirementNotMet(f"{type(loss).__name__} has a reduction but gives no per-sample losses when it is none")
        return losses.reshape(len(y), -1).mean(1)


def _is_plain(loss: nn.CrossEntropyLoss) -> bool:
    weight: Tensor | None = loss.weight
    return weight is None and loss.label_smoothing == 0.0 and loss.ignore_index == -100 and loss.reduction == "mean"
