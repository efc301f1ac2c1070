"""The one training loop. Predictors, golds, shadows and unlearners all go through it.

A method reads like its paper::

    trainer = Trainer(model, Optimizer.of("Adam", lr=5e-4), epochs=10)
    for epoch in trainer.epochs():
        if epoch < max_epochs:
            trainer.train_on(forget, lambda batch: -divergence(batch))
        trainer.train_on(retain, lambda batch: loss(batch))

Nothing inside a pass waits for the device; the mean loss of a pass is looked at once, when it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from erasure.errors import Diverged, RequirementNotMet
from erasure.functional.diverged import OUTPUT_BOUND, has_diverged, weights_diverged
from erasure.training.calls import Optimizer, Schedule
from erasure.training.channels_last import channels_last_twins
from erasure.training.devices import Precision, autocast
from erasure.training.twins import replaced, twins_of

__all__ = ["EpochListener", "Trainer", "frozen_norms", "needing_statistics", "paired"]

_B = TypeVar("_B")
_C = TypeVar("_C")


class EpochListener(Protocol):
    """Called after every finished epoch."""

    def __call__(self, epoch: int, epochs: int, model: nn.Module) -> None:
        """Called after epoch ``epoch`` (from 1) of ``epochs``."""
        ...


def frozen_norms(model: nn.Module) -> list[nn.Module]:
    """Every BatchNorm that has weights, of which none has ``requires_grad``."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    return [each for each in norms if (own := [*each.parameters(recurse=False)]) and not any(p.requires_grad for p in own)]


class Trainer:
    """Updates a model in place, pass after pass.

    Args:
        model: The model; only parameters with ``requires_grad`` are updated.
        optimizer: Built here, so no state is carried over from an earlier training.
        epochs: Length of the training, for the schedule and the progress.
        schedule: Stepped after each epoch; None keeps the rate constant.
        schedule_steps: Updates that the schedule lasts, if it is to step after each update and not after each epoch.
        precision: ``fp32`` or ``bf16``.
        mask: Parameter name to a 0/1 tensor of its shape: where it is 0, weights and optimizer state never change, whatever weight
            decay and momentum would do. Parameters it does not name are free.
        held: Values of masked weights that somebody keeps already, so that no copy is made; where the mask is 0 they are the model's.
        frozen: Modules kept in eval mode while the rest trains (their running statistics stay). A BatchNorm none of whose weights may be
            trained is one of them: who freezes a layer means its statistics too.
        batch_norm: ``train`` updates running statistics as in training, ``frozen`` keeps every BatchNorm in eval mode.
        max_grad_norm: Gradients are clipped to this global norm.
        on_epoch: Called after every epoch.

    Raises:
        RequirementNotMet: If there is nothing to train.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        epochs: int,
        schedule: Schedule | None = None,
        schedule_steps: int | None = None,
        precision: Precision = "fp32",
        mask: Mapping[str, Tensor] | None = None,
        held: Mapping[str, Tensor] | None = None,
        frozen: Iterable[nn.Module] = (),
        batch_norm: str = "train",
        max_grad_norm: float | None = None,
        on_epoch: EpochListener | None = None,
    ) -> None:
        self.model: nn.Module = model
        self.n_epochs: int = epochs
        self.on_epoch: EpochListener | None = on_epoch
        self.parameters: list[nn.Parameter] = [p for p in model.parameters() if p.requires_grad]
        if not self.parameters:
            raise RequirementNotMet(
                "the model has no parameter that may be trained (requires_grad is False everywhere); an estimator, which has none, is "
                "deleted from with ExactDeletion"
            )
        self.device: torch.device = self.parameters[0].device
        self.optimizer: torch.optim.Optimizer = optimizer.build(self.parameters)
        self.schedule_steps = schedule_steps
        horizon = epochs if schedule_steps is None else schedule_steps
        self.schedule: torch.optim.lr_scheduler.LRScheduler | None = (
            schedule.build(self.optimizer, horizon) if schedule is not None else None
        )
        self.precision: Precision = precision
        self.max_grad_norm = max_grad_norm
        self.frozen: tuple[nn.Module, ...] = (*frozen, *frozen_norms(model))
        self.batch_norms: list[_BatchNorm] = [m for m in model.modules() if isinstance(m, _BatchNorm)]
        self.batch_norm_mode = batch_norm
        self._masked = self._masks(mask, held or {}) if mask else []
        self._twins = twins_of(model) | channels_last_twins(model)
        self.first_epoch = 0
        """Where a training that is taken up begins."""
        self.memory: dict[str, Tensor] = {}
        """What a method remembers from step to step beside weights and optimizer; checkpoints hold it."""
        self._epoch = 0
        self._steps_in_epoch = 0

    def _masks(self, mask: Mapping[str, Tensor], held: Mapping[str, Tensor]) -> list[tuple[nn.Parameter, Tensor, Tensor]]:
        named = dict(self.model.named_parameters())
        unknown = sorted(set(mask) - set(named))
        if unknown:
            raise RequirementNotMet(f"the mask names parameters that the model does not have: {', '.join(unknown[:5])}")
        free = {id(p) for p in self.parameters}
        return [
            (named[n], m.to(named[n].device) != 0, held[n] if n in held else named[n].detach().clone())
            for n, m in mask.items()
            if id(named[n]) in free
        ]

    def epochs(self) -> Iterator[int]:
        """Epoch numbers ``first_epoch … epochs - 1``; after each, the schedule steps and the listener is told."""
        for epoch in range(self.first_epoch, self.n_epochs):
            self._epoch, self._steps_in_epoch = epoch, 0
            yield epoch
            if self.schedule is not None and self.schedule_steps is None and self._steps_in_epoch:
                self.schedule.step()
            if self.on_epoch is not None:
                self.on_epoch(epoch + 1, self.n_epochs, self.model)

    def agreed(self, decision: bool) -> bool:
        """The decision of whoever trains this model; several processes must not part ways."""
        return decision

    def prepare(self) -> None:
        """Put the model into training mode, except for what is frozen."""
        self.model.train()
        for module in self.frozen:
            module.eval()
        if self.batch_norm_mode == "frozen":
            for norm in self.batch_norms:
                norm.eval()

    def train_on(self, batches: Iterable[_B], loss: Callable[[_B], Tensor]) -> Tensor:
        """One pass: a gradient step on ``loss(batch)`` for every batch.

        Args:
            batches: Any iterable; an empty one does nothing.
            loss: Scalar loss of a batch, to be minimised.

        Returns:
            Mean of the losses, a scalar on the device (0 for an empty pass).

        Raises:
            Diverged: If the loss, or a weight after the pass, is not finite or beyond :mod:`its bound <erasure.functional.diverged>`.
        """
        return self.step_on(batches, lambda batch: self._loss_and_gradient(batch, loss))

    def step_on(self, batches: Iterable[_B], differentiate: Callable[[_B], Tensor]) -> Tensor:
        """One pass: for every batch a step along the gradients that ``differentiate(batch)`` leaves in the parameters.

        For methods whose step is not the gradient of one loss; :meth:`gradient` and :meth:`set_gradients` are made for them.

        Args:
            batches: Any iterable; an empty one does nothing.
            differentiate: Fills the gradients, which are empty when it is called, and returns a loss to report.

        Returns:
            As :meth:`train_on`.

        Raises:
            Diverged: As :meth:`train_on`.
        """
        self.prepare()
        total = torch.zeros((), device=self.device)
        steps = 0
        with replaced(self._twins):
            for batch in batches:
                self.optimizer.zero_grad(set_to_none=True)
                total += differentiate(batch)
                self.update()
                if self.schedule is not None and self.schedule_steps is not None:
                    self.schedule.step()
                steps += 1
        self._steps_in_epoch += steps
        mean = total / max(1, steps)
        if steps:
            self._check(mean)
        return mean

    def _check(self, mean: Tensor) -> None:
        lost, ran_away = has_diverged(mean, OUTPUT_BOUND), weights_diverged(self.parameters)
        if not bool(lost | ran_away):  # the one place where a pass waits for the device
            return
        what = f"the loss is {float(mean):g}" if lost else "the weights have run away"
        is_half = any(weight.dtype == torch.float16 for weight in self.parameters)
        remedy = "give model.float(): float16 has neither the range nor Adam's epsilon" if is_half else "lower the learning rate"
        raise Diverged(f"{what} in epoch {self._epoch + 1} of {self.n_epochs}; {remedy}")

    def accumulate(self, parts: Iterable[_B], loss: Callable[[_B], Tensor]) -> Tensor:
        """Leave the gradients of the sum of several losses in the parameters, one after the other, so that one is in memory at a time.

        Args:
            parts: What the losses are of, such as pieces of a batch.
            loss: Scalar share of a part; what it is divided by must be that of the whole, or the sum is another loss.

        Returns:
            The sum, a scalar on the device.
        """
        total = torch.zeros((), device=self.device)
        for part in parts:
            value = self._loss(part, loss)
            value.backward()  # type: ignore[no-untyped-call]
            total += value.detach()
        return total

    def gradient(self, batch: _B, loss: Callable[[_B], Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Loss of a batch and its gradient for each of :attr:`parameters` (zeros where one takes no part); ``.grad`` is left alone."""
        with self._statistics(batch):
            value = self._loss(batch, loss)
            gradients = torch.autograd.grad(value, self.parameters, allow_unused=True, materialize_grads=True)
        return value.detach(), list(gradients)

    def set_gradients(self, gradients: Sequence[Tensor]) -> None:
        """The gradients of the next update, one for each of :attr:`parameters`."""
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient

    def _loss_and_gradient(self, batch: _B, loss: Callable[[_B], Tensor]) -> Tensor:
        with self._statistics(batch):
            value = self._loss(batch, loss)
            value.backward()  # type: ignore[no-untyped-call]
        return value.detach()

    def _loss(self, batch: _B, loss: Callable[[_B], Tensor]) -> Tensor:
        if self.precision == "fp32":
            return loss(batch)
        with autocast(self.device, self.precision):
            return loss(batch)

    @contextmanager
    def _statistics(self, batch: Any) -> Iterator[None]:
        if not self.batch_norms or not _is_single(batch):
            yield
            return
        with needing_statistics(self.batch_norms):
            yield
        self.prepare()

    def update(self) -> None:
        """Clip, mask and apply the gradients that the parameters hold."""
        for parameter, keep, _ in self._masked:
            if parameter.grad is not None:
                parameter.grad.mul_(keep)
        if self.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.max_grad_norm, foreach=True)
        self.optimizer.step()
        for parameter, keep, before in self._masked:
            with torch.no_grad():
                parameter.copy_(torch.where(keep, parameter, before))
            for state in self.optimizer.state.get(parameter, {}).values():
                if isinstance(state, Tensor) and state.shape == parameter.shape:
                    state.mul_(keep)


@contextmanager
def needing_statistics(norms: Iterable[nn.Module]) -> Iterator[None]:
    """BatchNorm layers that get one value a channel use their running statistics: one value has none of its own, and torch refuses it.

    A single image has statistics, over its pixels, and is normalised by them, as torch does.
    """

    def choose(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].numel() == inputs[0].shape[1]:
            norm.eval()

    handles = [norm.register_forward_pre_hook(choose) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _is_single(batch: Any) -> bool:
    parts = batch if isinstance(batch, tuple) and not hasattr(batch, "_fields") else (batch,)
    return any(hasattr(part, "y") and len(part.y) == 1 for part in parts)


def paired(longer: Iterable[_B], shorter: Any) -> Iterator[tuple[_B, _C]]:
    """Batches of one partition, each with a batch of another that starts over (newly shuffled) as often as needed.

    Args:
        longer: Batches that set the length of the epoch.
        shorter: :class:`~erasure.training.batches.Batches` to draw from; if it has none, nothing is yielded.
    """
    first = list(longer) if not hasattr(longer, "__len__") else longer
    yield from zip(first, shorter.cycled(len(first)), strict=False)  # type: ignore[arg-type]
