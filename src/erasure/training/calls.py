"""Slots for classes of PyTorch: optimizers, learning-rate schedules and losses, each with its parameters bound."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from erasure.component import Call
from erasure.errors import Diagnostic, InvalidParameters, RequirementNotMet
from erasure.functional.losses import per_sample_loss, targets
from erasure.functional.tokens import labelled, token_mean
from erasure.training.forward import logits_of
from erasure.training.optimizers import fits_one_pass, is_ordinary, lay_out_gradients, lays_out_gradients, uncompiled
from erasure.types import Task

__all__ = ["Criterion", "Loss", "Optimizer", "Schedule"]

_HORIZONS = ("total_iters", "T_max", "epochs")
"""Names under which torch's schedules take their length; filled in with the number of epochs when it is not given."""
_REFUSALS = (TypeError, ValueError, RuntimeError, AttributeError, LookupError, ArithmeticError, AssertionError)
"""What classes of PyTorch raise where they do not take their parameters, some of them only when they step."""


@dataclass(frozen=True, kw_only=True)
class Optimizer(Call):
    """A class of ``torch.optim`` with its parameters, such as ``Adam`` with ``lr=0.001``."""

    kind: ClassVar[str] = "optimizer"
    namespaces: ClassVar[tuple[str, ...]] = ("torch.optim",)
    expects: ClassVar[str] = "torch.optim:Optimizer"

    def check(self) -> None:
        """The class must accept its parameters, and step by dense gradients alone."""
        if is_ordinary(self.path, self.parameters):
            return
        weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        with _reported(self):
            optimizer = self.build([weight])
        weight.grad = torch.ones_like(weight)
        try:
            optimizer.step()
        except _REFUSALS as error:
            reason = f"{self.path} cannot take the steps of training here ({error}); take another one, such as Adam or SGD"
            raise InvalidParameters([Diagnostic(reason, path=self.name)]) from error

    def build(self, parameters: list[nn.Parameter], **overrides: Any) -> torch.optim.Optimizer:
        """A new optimizer with fresh state for ``parameters``; ``overrides`` win over the bound parameters."""
        given = {**self.parameters, **overrides}
        kind = self.target()
        in_one_pass = fits_one_pass(kind, parameters, given)
        optimizer: torch.optim.Optimizer = uncompiled(kind)(parameters, **given, **({"fused": True} if in_one_pass else {}))
        if optimizer.defaults.get("fused") and not lays_out_gradients(kind):
            optimizer.register_step_pre_hook(lay_out_gradients)
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
        """The class must accept its parameters, and need nothing to step."""
        if is_ordinary(self.path, self.parameters):
            return
        optimizer = Optimizer.of("SGD", lr=0.1).build([nn.Parameter(torch.zeros(1))])
        with _reported(self):
            schedule = self.build(optimizer, epochs=1)
        optimizer.step()
        try:
            schedule.step()
        except ValueError:  # its length is for the run, which knows how many epochs there are
            pass
        except _REFUSALS as error:
            reason = f"{self.path} cannot be stepped once an epoch ({error}); take another one, such as CosineAnnealingLR"
            raise InvalidParameters([Diagnostic(reason, path=self.name)]) from error

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
        """The class must accept its parameters, and give a mean over the samples or one value for each."""
        if is_ordinary(self.path, self.parameters):
            return
        misweighted = list(filter(None, map(self._misweighted, ("weight", "pos_weight"))))
        if misweighted:
            raise InvalidParameters([Diagnostic(each, path=self.name) for each in misweighted])
        with _reported(self):
            reason = _summed(self())
        if reason is not None:
            raise InvalidParameters([Diagnostic(reason, path=self.name)])

    def _misweighted(self, name: str) -> str:
        """Why the weights of classes or labels cannot be meant; empty if they can, or are none."""
        given = self.parameters.get(name)
        if given is None or isinstance(given, torch.Tensor):
            return ""
        numbers = given if isinstance(given, list | tuple) else [given]
        if not all(isinstance(each, int | float) and not isinstance(each, bool) for each in numbers):
            return f'"{name}": expected one number for each class, such as [1.0, 2.5], found {given!r}'
        if name == "weight" and numbers is not given and self.name in {"CrossEntropyLoss", "NLLLoss"}:
            return f'"{name}": expected a list with one number for each class, found {given!r}'
        negative = next((each for each in numbers if not each >= 0), None)
        if name == "weight" and numbers and not any(numbers):
            return f'"{name}" holds 0 for every class, so that nothing could be learned'
        return "" if negative is None else f'"{name}" holds {negative!r}, expected numbers from 0'

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
    except _REFUSALS as error:
        quoted = [name for name, value in call.parameters.items() if _is_number_in_quotes(value)]
        if quoted:
            texts = [f'"{name}" is a text, expected a number: write {call.parameters[name]} without quotes' for name in quoted]
            raise InvalidParameters([Diagnostic(text, path=call.name) for text in texts]) from error
        raise InvalidParameters([Diagnostic(f"{call.path} does not accept its parameters: {error}", path=call.name)]) from error


def _is_number_in_quotes(value: object) -> bool:
    try:
        return isinstance(value, str) and math.isfinite(float(value))
    except ValueError:
        return False


class Criterion:
    """The loss of a task, as a mean over a batch and per sample.

    Args:
        task: How labels are read.
        loss: A loss module or function of ``(logits, labels)``, which gives the mean of a batch or one value for each sample; None takes
            the task's own cross-entropy.

    Raises:
        RequirementNotMet: If a loss of torch sums over the samples.
    """

    def __init__(self, task: Task, loss: Loss | Callable[[Tensor, Tensor], Tensor] | None = None) -> None:
        self.task = task
        self._mean: Callable[[Tensor, Tensor], Tensor] | None = loss() if isinstance(loss, Loss) else loss
        self._each: nn.Module | None = None
        if isinstance(loss, Loss) and "reduction" in inspect.signature(loss.target()).parameters:
            self._each = loss(reduction="none")
        reason = _summed(self._mean)
        if reason is not None:
            raise RequirementNotMet(reason)
        self._own = self._mean is None or (isinstance(self._mean, nn.CrossEntropyLoss) and _is_plain(self._mean))

    @property
    def is_cross_entropy(self) -> bool:
        """Whether it is the plain cross-entropy of one class for each sample."""
        return self._own and self.task == "classification"

    def to(self, device: torch.device) -> Criterion:
        """The same criterion with its weights on ``device``."""
        for module in (self._mean, self._each):
            if isinstance(module, nn.Module):
                module.to(device)
        return self

    def __call__(self, logits: Tensor, y: Tensor) -> Tensor:
        """Mean loss of a batch, a scalar; of answers the mean over their tokens, so that a long one weighs more.

        Raises:
            RequirementNotMet: If the loss is neither one number nor one value (or row of values) for each sample.
        """
        if self._mean is None:
            return token_mean(logits, y) if self.task == "generation" else per_sample_loss(self.task, logits, y).mean()
        value: Any = self._mean(logits, targets(self.task, logits, y))
        if isinstance(value, Tensor) and value.dim() == 0:
            return value
        if isinstance(value, Tensor) and len(value) == len(y):
            return value.reshape(len(y), -1).mean(1).mean()
        found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise RequirementNotMet(
            f"the loss must be one number for a batch or one value for each sample; {self._name()} gives {found} for {len(y)} samples"
        )

    def n_terms(self, y: Tensor) -> int | Tensor:
        """What the mean loss of a batch with these labels is taken over: its samples, or the tokens of its answers, at least 1."""
        return labelled(y).sum().clamp_min(1) if self.task == "generation" and self._mean is None else len(y)

    def of(self, model: nn.Module, x: Any, y: Tensor) -> Tensor:
        """Mean loss of a model on a batch, a scalar.

        Losses of tokens are asked of a model that gives them, which spares the logits of a large vocabulary.
        """
        if self._mean is None and self.task == "generation" and getattr(model, "gives_losses", False):
            return model(x, y).sum() / labelled(y).sum().clamp_min(1)  # type: ignore[no-any-return]
        return self(logits_of(model(x)), y)

    def over_samples(self, logits: Tensor, y: Tensor) -> Tensor:
        """Mean of the samples' losses, a scalar: what to average over batches so that the result does not depend on how they are cut.

        With class weights the mean loss of a batch is divided by the weights of its samples; here every sample's weighted loss counts
        alike. A loss that gives no per-sample losses is taken as it is.
        """
        if self._own and self.task != "generation":
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
            return self._one_by_one(logits, y)
        loss.reduction = "none"
        try:
            losses: Tensor = loss(logits, targets(self.task, logits, y))
        finally:
            loss.reduction = before
        if losses.dim() == 0 or len(losses) != len(y):
            return self._one_by_one(logits, y)
        return losses.reshape(len(y), -1).mean(1)

    def _one_by_one(self, logits: Tensor, y: Tensor) -> Tensor:
        """Losses of a function that knows no reduction: it is given one sample at a time."""
        if len(y) == 0:
            return logits.new_zeros(0)
        losses = torch.stack([self(logits[i : i + 1], y[i : i + 1]) for i in range(len(y))])
        # A function that divides by the weights of a batch, or compares its samples with each other, has no such losses.
        whole, mean = self(logits, y).detach(), losses.detach().mean()
        tolerance = 1e-4 if mean.dtype in {torch.float32, torch.float64} else 0.05
        if not torch.allclose(whole, mean.to(whole.dtype), rtol=tolerance, atol=1e-6, equal_nan=True):
            raise RequirementNotMet(
                f"{self._name()} gives no per-sample losses: for a batch of {len(y)} it is {float(whole):.6g}, the mean of its samples' "
                f"losses {float(mean):.6g}; let it return one value for each sample, or use a loss of torch.nn"
            )
        return losses

    def _name(self) -> str:
        return getattr(self._mean, "__name__", None) or type(self._mean).__name__


def _summed(loss: Any) -> str | None:
    """Why a loss of torch does not average over the samples, or None."""
    if isinstance(loss, nn.Module) and type(loss).__module__.startswith("torch.nn.") and getattr(loss, "reduction", "") == "sum":
        return (
            f'{type(loss).__name__} with reduction="sum" makes every step as many times larger as its batch has samples; '
            'give reduction="mean", or "none", which is averaged'
        )
    return None


def _is_plain(loss: nn.CrossEntropyLoss) -> bool:
    weight: Tensor | None = loss.weight
    return weight is None and loss.label_smoothing == 0.0 and loss.ignore_index == -100 and loss.reduction == "mean"
