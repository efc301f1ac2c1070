"""What an unlearning method is, and what comes of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import nn

from erasure.accounting.guarantee import Guarantee
from erasure.catalogue import shown_name
from erasure.component import Component, field_types
from erasure.errors import Diverged, RequirementNotMet
from erasure.functional.diverged import weight_that_diverged, weights_diverged
from erasure.renamed import formerly
from erasure.training.batches import Batch, Column
from erasure.training.calls import Criterion, Optimizer, Schedule
from erasure.training.devices import synchronise
from erasure.training.links import request_of
from erasure.training.loop import Trainer
from erasure.training.predictor import ModelInput
from erasure.training.randomness import isolated
from erasure.training.trial import deep_copy, initialised, keep_inputs, layer_at_fault, release_inputs
from erasure.types import NonNegativeInt, Partition, PartitionRole, PositiveFloat, PositiveInt, Task
from erasure.unlearners.task import ModelService, UnlearningContext, frozen_copy, model_digest

__all__ = [
    "IterativeUnlearner",
    "ModelService",
    "PlainTraining",
    "Unlearned",
    "Unlearner",
    "UnlearningContext",
    "check_finite",
    "frozen_copy",
    "model_digest",
    "plain_training",
]


@formerly(refuse="unsupported_reason")
@dataclass(frozen=True, kw_only=True)
class Unlearner(Component):
    """A method that removes the influence of the forget set from a trained model.

    Class data:
        reads: Roles of the partitions whose samples it looks at; looking at another one is an error.
        defined_for: Kinds of task it is defined for.
        cost: What it computes, in words: passes over which partition, model copies.
        exact: Whether it gives a model from the distribution of retraining.
        at_training: Whether it needs to have been there when the original was trained, to keep checkpoints or records.
        needs_weights: Whether it changes weights that are trained; estimators have none.
        samples_apart: Whether it rests on kept samples staying as they are, which a request on a graph changes.
        learns_from_retrained: Whether a retrained model that it asks for is its teacher, and not its result.

    Args:
        forget: Partition to forget.
        retain: Partition to keep.
        train: Partition the original was trained on.
        batch_size: Samples per step; by default the data's.
    """

    kind: ClassVar[str] = "unlearner"
    reads: ClassVar[frozenset[PartitionRole]] = frozenset()
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification", "binary", "multilabel"})
    cost: ClassVar[str] = ""
    exact: ClassVar[bool] = False
    at_training: ClassVar[bool] = False
    needs_weights: ClassVar[bool] = True
    samples_apart: ClassVar[bool] = False
    learns_from_retrained: ClassVar[bool] = False

    forget: Partition = "forget"
    retain: Partition = "retain"
    train: Partition = "train"
    batch_size: PositiveInt | None = None

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Forget.

        Args:
            model: A private copy of the original in eval mode, to be changed or replaced at will.
            context: Data, loss, random streams and the training loop.

        Returns:
            The unlearned model.

        Raises:
            Diverged: If the method does not converge.
        """
        raise NotImplementedError

    def as_training(self) -> PlainTraining | None:
        """The method as training on one partition, if it is nothing else: many models can then be unlearned together."""
        return None

    def partitions(self) -> dict[PartitionRole, str]:
        """The partition that plays each role the method reads, also through the methods inside it."""
        return {role: getattr(self, role) for role in sorted(self.reads)}

    def forgotten(self) -> tuple[str, ...]:
        """Every partition that is forgotten; of a stream of requests, those of all of them in their order."""
        return (self.forget,)

    def partition_names(self) -> frozenset[str]:
        """Every partition that the method, or a component inside it, looks at."""
        names = set(self.partitions().values())
        for name in field_types(type(self)):
            value = getattr(self, name)
            for part in value if isinstance(value, tuple) else (value,):
                if isinstance(part, Unlearner):
                    names |= part.partition_names()
                elif isinstance(part, Component) and hasattr(part, "partitions"):
                    names |= set(part.partitions().values())
        return frozenset(names)

    def access(self) -> str:
        """What a request needs: ``training time``, ``retain`` (or the training set), ``forget`` alone, or ``nothing``; the most first."""
        if self.at_training or any(method.access() == "training time" for method in self.inner_methods()):
            return "training time"
        roles = set(self.partitions())
        for method in self.inner_methods():
            roles |= set(method.partitions())
        return "retain" if roles & {"retain", "train"} else "forget" if "forget" in roles else "nothing"

    def inner_methods(self) -> Iterator[Unlearner]:
        """The methods that it is composed of, as its parameters name them."""
        for name in field_types(type(self)):
            value = getattr(self, name)
            yield from (part for part in (value if isinstance(value, tuple) else (value,)) if isinstance(part, Unlearner))

    def try_on(self, model: nn.Module, batch: Batch, criterion: Criterion) -> None:
        """Try what the method needs of a network beyond training it; asked before anything is trained.

        Args:
            model: A network of the kind, in eval mode; as before afterwards.
            batch: A few samples; the inputs may be written over.
            criterion: The loss.

        Raises:
            RequirementNotMet: If the network lacks it; names the layer.
        """
        for method in self.inner_methods():
            method.try_on(model, batch, criterion)

    @classmethod
    def registered_name(cls) -> str:
        """What messages call the method: the name that it is registered under, else that of its class."""
        return shown_name("unlearner", cls)

    def changes_weights(self) -> bool:
        """Whether the model has to have weights that are trained; a composition needs them if one of its methods does."""
        inner = list(self.inner_methods())
        return any(method.changes_weights() for method in inner) if inner else self.needs_weights

    def changes_nothing(self) -> bool:
        """Whether the method is meant to leave the model as it is, with these parameters; a composition if all its methods are."""
        inner = list(self.inner_methods())
        return bool(inner) and all(method.changes_nothing() for method in inner)

    def unsupported_reason(self, data: ModelInput) -> str | None:
        """Why the method is not defined for this kind of data, or None; asked before anything is trained."""
        if data.task not in self.defined_for:
            return f"{self.registered_name()} is not defined for {data.task} tasks (only {', '.join(sorted(self.defined_for))})"
        return None

    def refuse_inputs(self, x: Column) -> str | None:
        """Why the method is not defined for these inputs, or None; asked before anything is trained."""
        reasons = (method.refuse_inputs(x) for method in self.inner_methods())
        if self.samples_apart and request_of(x) is not None:
            return (
                f"{self.registered_name()} rests on kept samples that stay as they are, and a request on a graph changes what kept ones "
                "see; use another method, such as GIF, or ExactDeletion with Ridge"
            )
        return next((reason for reason in reasons if reason is not None), None)

    def run(self, model: nn.Module, context: UnlearningContext) -> Unlearned:
        """Apply the method to a copy of ``model`` with everything that must hold around it.

        The model is not changed, nor are the inputs by a model that writes over them; torch's global generators are seeded from the
        task's stream and put back; ``requires_grad`` flags and hooks are as before; the result is in eval mode.

        Raises:
            RequirementNotMet: If the method is not defined for the task or the network; names the layer that cannot do what it needs.
            Diverged: If the unlearned model is not finite, or its weights are beyond the bound.
        """
        reason = self.unsupported_reason(context.model_input) or self.refuse_inputs(context.x) or initialised(model)
        if reason is not None:
            raise RequirementNotMet(reason)
        student = keep_inputs(deep_copy(model).eval())
        del model  # a caller that does not need it any more need not hold it for as long as the method runs
        sparse = _dense_gradients(student)
        before = {name: p.requires_grad for name, p in student.named_parameters()}
        synchronise(context.device)
        start = time.perf_counter()
        with isolated(context.streams.child("global").seed, context.device):
            seen = context.seen_by(self)
            unlearned = release_inputs(self._applied(student, seen))
        synchronise(context.device)
        elapsed_s = time.perf_counter() - start
        for name, parameter in unlearned.named_parameters():
            parameter.requires_grad_(before.get(name, True))
            parameter.grad = None
        for name, module in unlearned.named_modules():
            if name in sparse and isinstance(module, nn.Embedding | nn.EmbeddingBag):
                module.sparse = True
        check_finite(unlearned, self.registered_name())
        ledger = context.ledger
        return Unlearned(
            model=unlearned.eval(),
            elapsed_s=elapsed_s - ledger.measured_s + ledger.charged_s,
            precompute_s=ledger.precompute_s,
            kept_bytes=ledger.kept_bytes,
            guarantee=seen.promised[-1] if seen.promised else self._by_definition(ledger.promising),
        )

    def _by_definition(self, promising: Sequence[str]) -> Guarantee:
        """What holds of any method: one that retrains is exact, the others promise nothing unless they say so themselves.

        Args:
            promising: Methods inside it that promised something.
        """
        if self.exact:
            return Guarantee(kind="exact", assumptions=("It is the model trained without the samples.",))
        names = " and ".join(dict.fromkeys(promising))
        why = (f"What {names} promised does not hold of what {self.registered_name()} made of it.",) if names else ()
        return Guarantee(assumptions=why)

    def _applied(self, student: nn.Module, context: UnlearningContext) -> nn.Module:
        try:
            return self.unlearn(student, context)
        except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
            layer = layer_at_fault(student, error)
            if isinstance(error, torch.OutOfMemoryError) or not layer:
                raise
            raise RequirementNotMet(
                f"{self.registered_name()} cannot be applied to this model: the layer {layer} failed with {type(error).__name__}: {error}"
            ) from error


@dataclass(frozen=True, kw_only=True)
class IterativeUnlearner(Unlearner):
    """A method that takes gradient steps, epoch after epoch.

    Args:
        epochs: Passes; what a pass goes over is the method's to say. 0 changes nothing.
        optimizer: A class of ``torch.optim``; a fresh one for each method.
        schedule: Learning-rate schedule, stepped once an epoch; constant by default.
        batch_norm: ``train`` lets running statistics follow the batches, ``frozen`` keeps BatchNorm in eval mode.
        max_grad_norm: Clip gradients to this global norm.
    """

    epochs: NonNegativeInt = 5
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("SGD", lr=0.01))
    schedule: Schedule | None = None
    batch_norm: Literal["train", "frozen"] = "train"
    max_grad_norm: PositiveFloat | None = None

    def changes_nothing(self) -> bool:
        """Whether there is no epoch."""
        return self.epochs == 0

    def trainer(
        self, model: nn.Module, context: UnlearningContext, *, epochs: int | None = None, schedule_steps: int | None = None
    ) -> Trainer:
        """The loop with this method's optimizer; ``epochs`` overrides the field, ``schedule_steps`` is as in :class:`Trainer`."""
        return context.trainer(
            model,
            self.optimizer,
            epochs=self.epochs if epochs is None else epochs,
            schedule=self.schedule,
            schedule_steps=schedule_steps,
            batch_norm=self.batch_norm,
            max_grad_norm=self.max_grad_norm,
        )

    def training_on(self, role: PartitionRole, *, ascends: bool = False) -> PlainTraining | None:
        """The method as training on a partition with its own epochs and optimizer; None if BatchNorm is frozen."""
        if self.batch_norm == "frozen":
            return None
        return PlainTraining(
            role=role,
            epochs=self.epochs,
            optimizer=self.optimizer,
            schedule=self.schedule,
            max_grad_norm=self.max_grad_norm,
            ascends=ascends,
        )


@dataclass(frozen=True, kw_only=True)
class PlainTraining:
    """A method that is nothing but training a model further, by the original's loss.

    Args:
        role: The partition that it trains on, in batches as :meth:`UnlearningContext.batches` gives them.
        epochs: Passes.
        optimizer: A fresh one.
        schedule: Stepped once an epoch.
        max_grad_norm: Gradients are clipped to this norm.
        ascends: Whether the loss is climbed.
        prepare: Changes the model, in place, before it is trained, such as which weights may be trained, or raises
            :class:`~erasure.errors.RequirementNotMet` where training alone is not all; None leaves it as it is.
    """

    role: PartitionRole
    epochs: int
    optimizer: Optimizer
    schedule: Schedule | None = None
    max_grad_norm: float | None = None
    ascends: bool = False
    prepare: Callable[[nn.Module, UnlearningContext], None] | None = None


@dataclass(frozen=True, eq=False)
class Unlearned:
    """An unlearned model and what it cost.

    Args:
        model: In eval mode.
        elapsed_s: Seconds of the method itself, models it had trained for it included.
        precompute_s: Seconds of work that does not depend on the forget set and can be done once, before any request.
        kept_bytes: What has to be kept between training and the requests beside the model: shards, checkpoints, logs, statistics.
        guarantee: What holds by proof, apart from what is measured.
    """

    model: nn.Module
    elapsed_s: float
    precompute_s: float = 0.0
    kept_bytes: int = 0
    guarantee: Guarantee = field(default_factory=Guarantee)


def _dense_gradients(model: nn.Module) -> frozenset[str]:
    """Let embeddings have dense gradients, which all optimizers and all arithmetic take; the names of those that had sparse ones."""
    names = set()
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.sparse:
            module.sparse = False
            names.add(name)
    return frozenset(names)


def plain_training(unlearner: Unlearner) -> PlainTraining | None:
    """The method as training on one partition, where the class that says so is the one that unlearns; None otherwise."""
    owners = [next(cls for cls in type(unlearner).__mro__ if name in vars(cls)) for name in ("as_training", "unlearn")]
    return unlearner.as_training() if owners[0] is owners[1] else None


def check_finite(model: nn.Module, method: str) -> None:
    """Refuse a model whose weights or buffers have diverged.

    Raises:
        Diverged: If there are any.
    """
    if bool(weights_diverged(list(model.parameters()), list(model.buffers()))):
        reason = weight_that_diverged(dict(model.named_parameters()), dict(model.named_buffers()))
        raise Diverged(f"{method} has diverged: {reason}; lower its learning rate")
