"""What an unlearning method is, and what it is given."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from erasure.component import Component, field_types
from erasure.errors import Diverged, PartitionError, RequirementNotMet
from erasure.functional.diverged import weight_that_diverged, weights_diverged
from erasure.training.batches import Batch, Batches, Column
from erasure.training.calls import Criterion, Optimizer, Schedule
from erasure.training.devices import Precision, synchronise
from erasure.training.forward import logits_of
from erasure.training.loop import EpochListener, Trainer
from erasure.training.predictor import ModelInput, StepListener
from erasure.training.randomness import Streams, isolated
from erasure.training.trial import deep_copy, initialised, keep_inputs, layer_at_fault, release_inputs
from erasure.types import NonNegativeInt, Partition, PositiveFloat, PositiveInt, Role, TaskKind

__all__ = [
    "IterativeUnlearner",
    "ModelBank",
    "PlainTraining",
    "Unlearned",
    "Unlearner",
    "UnlearningTask",
    "check_finite",
    "frozen_copy",
    "model_digest",
    "plain_training",
]


class ModelBank(Protocol):
    """Models that a method may ask for beside the one it is given. Training them is charged to the method as precomputation."""

    def fresh(self, seed: int) -> nn.Module:
        """A randomly initialised network of the same architecture, in eval mode."""
        ...

    def retrained(self, partition: str) -> tuple[nn.Module, float]:
        """A model trained from scratch on the named partition with the original's recipe and seed, and the seconds that took."""
        ...

    def replay(self, on_step: StepListener) -> float:
        """Train the original again, step by step the same; show its initial weights and every update; returns the seconds."""
        ...

    def cached(self, name: str, content: Any, compute: Callable[[], dict[str, Tensor]]) -> tuple[dict[str, Tensor], float]:
        """Tensors that depend on nothing but ``content``: from the cache if they are there; and the seconds they took to compute."""
        ...


@dataclass(frozen=True, kw_only=True)
class Unlearner(Component):
    """A method that removes the influence of the forget set from a trained model.

    Class data:
        reads: Roles of the partitions whose samples it looks at; looking at another one is an error.
        defined_for: Kinds of task it is defined for.
        cost: What it computes, in words: passes over which partition, model copies.
        exact: Whether it gives a model from the distribution of retraining.

    Args:
        forget: Partition to forget.
        retain: Partition to keep.
        train: Partition the original was trained on.
        batch_size: Samples per step; by default the data's.
    """

    kind: ClassVar[str] = "unlearner"
    reads: ClassVar[frozenset[Role]] = frozenset()
    defined_for: ClassVar[frozenset[TaskKind]] = frozenset({"classification", "binary", "multilabel"})
    cost: ClassVar[str] = ""
    exact: ClassVar[bool] = False

    forget: Partition = "forget"
    retain: Partition = "retain"
    train: Partition = "train"
    batch_size: PositiveInt | None = None

    def unlearn(self, model: nn.Module, task: UnlearningTask) -> nn.Module:
        """Forget.

        Args:
            model: A private copy of the original in eval mode, to be changed or replaced at will.
            task: Data, loss, random streams and the training loop.

        Returns:
            The unlearned model.

        Raises:
            Diverged: If the method does not converge.
        """
        raise NotImplementedError

    def as_training(self) -> PlainTraining | None:
        """The method as training on one partition, if it is nothing else: many models can then be unlearned together."""
        return None

    def partitions(self) -> dict[Role, str]:
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

    def changes_nothing(self) -> bool:
        """Whether the method is meant to leave the model as it is, with these parameters; a composition if all its methods are."""
        inner = list(self.inner_methods())
        return bool(inner) and all(method.changes_nothing() for method in inner)

    def refuse(self, data: ModelInput) -> str | None:
        """Why the method is not defined for this kind of data, or None; asked before anything is trained."""
        if data.task not in self.defined_for:
            return f"{type(self).__name__} is not defined for {data.task} tasks (only {', '.join(sorted(self.defined_for))})"
        return None

    def run(self, model: nn.Module, task: UnlearningTask) -> Unlearned:
        """Apply the method to a copy of ``model`` with everything that must hold around it.

        The model is not changed, nor are the inputs by a model that writes over them; torch's global generators are seeded from the
        task's stream and put back; ``requires_grad`` flags and hooks are as before; the result is in eval mode.

        Raises:
            RequirementNotMet: If the method is not defined for the task or the network; names the layer that cannot do what it needs.
            Diverged: If the unlearned model is not finite, or its weights are beyond the bound.
        """
        reason = self.refuse(task.model_input) or initialised(model)
        if reason is not None:
            raise RequirementNotMet(reason)
        student = keep_inputs(deep_copy(model).eval())
        sparse = _dense_gradients(student)
        before = {name: p.requires_grad for name, p in student.named_parameters()}
        synchronise(task.device)
        start = time.perf_counter()
        with isolated(task.streams.child("global").seed, task.device):
            unlearned = release_inputs(self._applied(student, task))
        synchronise(task.device)
        elapsed_s = time.perf_counter() - start
        for name, parameter in unlearned.named_parameters():
            parameter.requires_grad_(before.get(name, True))
            parameter.grad = None
        for name, module in unlearned.named_modules():
            if name in sparse and isinstance(module, nn.Embedding | nn.EmbeddingBag):
                module.sparse = True
        check_finite(unlearned, type(self).__name__)
        ledger = task.ledger
        return Unlearned(
            model=unlearned.eval(),
            elapsed_s=elapsed_s - ledger.measured_s + ledger.charged_s,
            precompute_s=ledger.precompute_s,
        )

    def _applied(self, student: nn.Module, task: UnlearningTask) -> nn.Module:
        try:
            return self.unlearn(student, task.seen_by(self))
        except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
            layer = layer_at_fault(student, error)
            if isinstance(error, torch.OutOfMemoryError) or not layer:
                raise
            raise RequirementNotMet(
                f"{type(self).__name__} cannot be applied to this model: the layer {layer} failed with {type(error).__name__}: {error}"
            ) from error


@dataclass(frozen=True, kw_only=True)
class IterativeUnlearner(Unlearner):
    """A method that takes gradient steps, epoch after epoch.

    Args:
        epochs: Passes; what a pass goes over is the method's to say. 0 changes nothing.
        optimizer: A class of ``torch.optim``; built anew for the method.
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
        self, model: nn.Module, task: UnlearningTask, *, epochs: int | None = None, schedule_steps: int | None = None
    ) -> Trainer:
        """The loop with this method's optimizer; ``epochs`` overrides the field, ``schedule_steps`` is as in :class:`Trainer`."""
        return task.trainer(
            model,
            self.optimizer,
            epochs=self.epochs if epochs is None else epochs,
            schedule=self.schedule,
            schedule_steps=schedule_steps,
            batch_norm=self.batch_norm,
            max_grad_norm=self.max_grad_norm,
        )

    def training_on(self, role: Role, *, ascends: bool = False) -> PlainTraining | None:
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
        role: The partition that it trains on, in batches as :meth:`UnlearningTask.batches` gives them.
        epochs: Passes.
        optimizer: Built anew.
        schedule: Stepped once an epoch.
        max_grad_norm: Gradients are clipped to this norm.
        ascends: Whether the loss is climbed.
    """

    role: Role
    epochs: int
    optimizer: Optimizer
    schedule: Schedule | None = None
    max_grad_norm: float | None = None
    ascends: bool = False


@dataclass(frozen=True, eq=False)
class Unlearned:
    """An unlearned model and what it cost.

    Args:
        model: In eval mode.
        elapsed_s: Seconds of the method itself, models it had trained for it included.
        precompute_s: Seconds of work that does not depend on the forget set and can be done once, before any request.
    """

    model: nn.Module
    elapsed_s: float
    precompute_s: float = 0.0


@dataclass
class _Ledger:
    """Seconds to move between the method's own clock and the one-off work."""

    measured_s: float = 0.0
    charged_s: float = 0.0
    precompute_s: float = 0.0


@dataclass(frozen=True, eq=False, kw_only=True)
class UnlearningTask:
    """What a method is given beside the model.

    Args:
        x: Inputs of the whole data set, on the device.
        y: Labels of the whole data set, on the device.
        partitions: Ids of each partition by name.
        model_input: Shape of the data.
        criterion: The loss the original was trained with.
        streams: The method's random streams.
        batch_size: Samples per step where the method does not say.
        bank: Other models.
        precision: ``fp32`` or ``bf16``.
        on_epoch: Hears of each epoch.
        z: Groups of the whole data set, if there are any.
        masks: Weight masks by file name, which one step of a Cascade makes and a later one uses.
    """

    x: Column
    y: Tensor
    partitions: Mapping[str, Tensor]
    model_input: ModelInput
    criterion: Criterion
    streams: Streams
    batch_size: int = 64
    bank: ModelBank | None = None
    precision: Precision = "fp32"
    on_epoch: EpochListener | None = None
    z: Tensor | None = None
    roles: Mapping[Role, str] = field(default_factory=dict)
    reader: str = "the method"
    mask: Mapping[str, Tensor] | None = None
    held: Mapping[str, Tensor] = field(default_factory=dict)
    frozen: tuple[nn.Module, ...] = ()
    masks: dict[str, Mapping[str, Tensor]] = field(default_factory=dict)
    ledger: _Ledger = field(default_factory=_Ledger)

    # What the task is about

    @property
    def device(self) -> torch.device:
        """Where the data is and the model belongs."""
        return self.y.device

    @property
    def kind(self) -> TaskKind:
        """How labels are read."""
        return self.model_input.task

    @property
    def n_classes(self) -> int:
        """Number of classes (of labels, for ``multilabel``)."""
        return self.model_input.n_classes

    def ids(self, role: Role) -> Tensor:
        """Ids of the partition that plays ``role``.

        Raises:
            PartitionError: If the method did not declare that it reads it, or if there is none.
        """
        if role not in self.roles:
            raise PartitionError(f'{self.reader} reads the {role} partition but does not declare it; add "{role}" to its reads')
        name = self.roles[role]
        if name not in self.partitions:
            raise PartitionError(f'there is no partition "{name}" ({role}); there are {", ".join(self.partitions)}')
        return self.partitions[name]

    def n_samples(self, role: Role) -> int:
        """Size of a partition."""
        return len(self.ids(role))

    # Batches, losses and the loop

    def batches(self, role: Role, *, shuffle: bool = True, batch_size: int | None = None, ids: Tensor | None = None) -> Batches:
        """Batches of a partition; every pass over them is a new epoch, shuffled by the role's own stream.

        Args:
            role: Which partition.
            shuffle: Whether to shuffle each pass.
            batch_size: Samples per batch; by default the task's.
            ids: A subset of the partition, if not all of it is wanted.
        """
        chosen = self.ids(role) if ids is None else ids
        generator = self.streams.torch("shuffle", role) if shuffle else None
        return Batches(self.x, self.y, chosen, batch_size or self.batch_size, generator)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean loss of ``model`` on a batch, as in the original's training."""
        return self.criterion(logits_of(model(batch.x)), batch.y)

    def generator(self, *names: str | int) -> torch.Generator:
        """A fresh generator on the CPU for the stream ``names``."""
        return self.streams.torch(*names)

    def trainer(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        epochs: int,
        schedule: Schedule | None = None,
        schedule_steps: int | None = None,
        batch_norm: str = "train",
        max_grad_norm: float | None = None,
    ) -> Trainer:
        """The training loop for ``model``, with the masks and frozen layers that an enclosing method asked for."""
        self.confine(model)
        return Trainer(
            model,
            optimizer,
            epochs=epochs,
            schedule=schedule,
            schedule_steps=schedule_steps,
            precision=self.precision,
            mask=self.mask,
            frozen=self.frozen,
            batch_norm=batch_norm,
            max_grad_norm=max_grad_norm,
            on_epoch=self.on_epoch,
        )

    # Other models and one-off work

    def fresh_model(self, *names: str | int) -> nn.Module:
        """A randomly initialised network of the original's architecture, frozen, from the stream ``names``."""
        fresh = self._bank("a randomly initialised model").fresh(self.streams.child(*names).seed)
        return frozen_copy(keep_inputs(fresh.to(self.device)))

    def retrained(self, role: Role) -> nn.Module:
        """A model trained from scratch on a partition, as the original was; its training time is the method's."""
        self.ids(role)
        with self._clocked():
            model, seconds = self._bank("a training recipe").retrained(self.roles[role])
        self.ledger.charged_s += seconds
        return keep_inputs(model)

    def replay_training(self, on_step: StepListener) -> None:
        """Show every update of the original's training; the time is precomputation, as the log would be kept while training."""
        with self._clocked():
            self.ledger.precompute_s += self._bank("the original's training").replay(on_step)

    def precomputed(
        self, name: str, model: nn.Module, roles: Iterable[Role], compute: Callable[[], dict[str, Tensor]], **content: Any
    ) -> dict[str, Tensor]:
        """Tensors that are computed once for a model and some partitions, and then shared by every method that asks for them.

        The time counts as precomputation if ``roles`` is the training set alone: what needs to know the retain or the forget set cannot
        be done before the request, and is the method's own.

        Args:
            name: What it is, such as ``squared_gradients``.
            model: The model it belongs to: its weights, and which of them may be trained, are part of the key.
            roles: Partitions it was computed from.
            compute: Computes it.
            content: Parameters it depends on.
        """
        chosen = sorted(roles)
        if self.bank is None:
            return compute()
        digests = {role: _ids_digest(self.ids(role)) for role in chosen}
        trained = sorted(name for name, p in model.named_parameters() if p.requires_grad)
        described = {
            "model": model_digest(model),
            "trained": trained,
            "ids": digests,
            "batch_size": self.batch_size,
            **content,
        }
        with self._clocked():
            tensors, seconds = self.bank.cached(name, described, compute)
        if chosen == ["train"]:
            self.ledger.precompute_s += seconds
        else:
            self.ledger.charged_s += seconds
        return {key: value.to(self.device) for key, value in tensors.items()}

    @contextmanager
    def _clocked(self) -> Iterator[None]:
        """Takes the time of the block out of the method's own clock."""
        synchronise(self.device)
        start = time.perf_counter()
        yield
        synchronise(self.device)
        self.ledger.measured_s += time.perf_counter() - start

    def _bank(self, what: str) -> ModelBank:
        if self.bank is None:
            raise RequirementNotMet(f"{self.reader} needs {what}, which is not available here; run it from a configuration")
        return self.bank

    # How methods are put inside one another

    def seen_by(self, unlearner: Unlearner) -> UnlearningTask:
        """The same task with the partitions, batch size and name of ``unlearner``."""
        return replace(
            self,
            roles=unlearner.partitions(),
            reader=type(unlearner).__name__,
            batch_size=unlearner.batch_size or self.batch_size,
        )

    def step(self, number: int) -> UnlearningTask:
        """The same task with random streams of its own, for step ``number`` of a composition."""
        return replace(self, streams=self.streams.child("step", number))

    def masked(self, mask: Mapping[str, Tensor], held: Mapping[str, Tensor] | None = None) -> UnlearningTask:
        """The same task, in which only weights where ``mask`` is 1 may change (and where an enclosing mask is 1).

        Args:
            mask: Parameter name to a mask of its shape.
            held: The values that these parameters keep where their mask is 0, for :meth:`confine`.
        """
        merged = dict(self.mask or {})
        for name, keep in mask.items():
            merged[name] = keep * merged[name] if name in merged else keep
        return replace(self, mask=merged, held={**self.held, **(held or {})})

    @torch.no_grad()
    def confine(self, model: nn.Module) -> None:
        """Put the weights that an enclosing mask holds back to their values.

        What changes weights without gradient steps cannot see the mask. Where something else follows it, that has to start from the
        weights that there will be in the end, and not from others that are put back only then.
        """
        for name, parameter in model.named_parameters() if self.held else ():
            if name in self.held and self.mask is not None:
                keep = self.mask[name].to(parameter.device) != 0
                parameter.copy_(torch.where(keep, parameter, self.held[name]))

    def with_frozen(self, modules: Iterable[nn.Module]) -> UnlearningTask:
        """The same task, in which ``modules`` stay in eval mode during training."""
        return replace(self, frozen=(*self.frozen, *modules))


def _dense_gradients(model: nn.Module) -> frozenset[str]:
    """Let embeddings have dense gradients, which all optimizers and all arithmetic take; the names of those that had sparse ones."""
    names = set()
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.sparse:
            module.sparse = False
            names.add(name)
    return frozenset(names)


def frozen_copy(model: nn.Module) -> nn.Module:
    """A deep copy in eval mode that shares no storage with ``model`` and takes no gradients: a teacher."""
    teacher = deep_copy(model).eval()
    for parameter in teacher.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    return teacher


def model_digest(model: nn.Module) -> str:
    """SHA-256 of a model's parameters and buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().to("cpu").contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _ids_digest(ids: Tensor) -> str:
    return hashlib.sha256(ids.to("cpu").numpy().tobytes()).hexdigest()


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
