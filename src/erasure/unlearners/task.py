"""What an unlearning method is given beside the model: data, loss, random streams, the training loop, and other models."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from erasure.accounting.guarantee import Guarantee
from erasure.errors import PartitionError, RequirementNotMet
from erasure.functional.losses import correctness
from erasure.renamed import formerly
from erasure.training.batches import Batch, Batches, Column
from erasure.training.calls import Criterion, Optimizer, Schedule
from erasure.training.devices import Precision, synchronise
from erasure.training.forward import logits_of
from erasure.training.history import Checkpoint, StepListener
from erasure.training.links import request_of
from erasure.training.loop import EpochListener, Trainer
from erasure.training.predictor import ModelInput, global_generators
from erasure.training.randomness import Streams
from erasure.training.resuming import Resumed
from erasure.training.trial import deep_copy, keep_inputs
from erasure.training.twins import replace_for_good
from erasure.types import PartitionRole, Task

if TYPE_CHECKING:
    from erasure.unlearners.contract import Unlearner

__all__ = ["Checkpoints", "ModelService", "UnlearningContext", "frozen_copy", "model_digest"]


class ModelService(Protocol):
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

    def resumed(self, original: nn.Module, partition: str, epochs: int | None) -> Resumed:
        """The original's training taken up with the named partition, ``epochs`` before its end or where its shards have to."""
        ...

    def cached(self, name: str, content: Any, compute: Callable[[], dict[str, Tensor]]) -> tuple[dict[str, Tensor], float]:
        """Tensors that depend on nothing but ``content``: from the cache if they are there; and the seconds they took to compute."""
        ...


class Checkpoints(Protocol):
    """Keeps the last checkpoint of a method, so that one that is stopped goes on from it."""

    def found(self) -> Checkpoint | None:
        """The last checkpoint of an earlier process, or None."""
        ...

    def is_due(self) -> bool:
        """Whether a checkpoint made now would be kept."""
        ...

    def keep(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint instead of the one before."""
        ...

    def part(self, number: int) -> Checkpoints:
        """Checkpoints of a step of a method of several steps, of its own."""
        ...


@dataclass
class _Ledger:
    """Seconds to move between the method's own clock and the one-off work, what is kept between the two, and who promised something."""

    measured_s: float = 0.0
    charged_s: float = 0.0
    precompute_s: float = 0.0
    kept_bytes: int = 0
    promising: list[str] = field(default_factory=list)


@formerly(bank="models", kind="task")
@dataclass(frozen=True, eq=False, kw_only=True)
class UnlearningContext:
    """What a method is given beside the model.

    Args:
        x: Inputs of the whole data set, on the device.
        y: Labels of the whole data set, on the device.
        partitions: Ids of each partition by name.
        model_input: Shape of the data.
        criterion: The loss the original was trained with.
        streams: The method's random streams.
        batch_size: Samples per step where the method does not say.
        models: Other models.
        precision: ``fp32`` or ``bf16``.
        on_epoch: Called after each epoch.
        z: Groups of the whole data set, if there are any.
        is_part: Whether the partitions are a part of what the model was trained on, to time a method by.
        masks: Weight masks by file name, which one step of a Cascade makes and a later one uses.
        checkpoints: Keeps checkpoints of one method alone, and the method; None keeps nothing.
        promised: Guarantees of the method that this task was made for; one inside another method has a list of its own, since what
            follows it may break its promise.
    """

    x: Column
    y: Tensor
    partitions: Mapping[str, Tensor]
    model_input: ModelInput
    criterion: Criterion
    streams: Streams
    batch_size: int = 64
    models: ModelService | None = None
    precision: Precision = "fp32"
    on_epoch: EpochListener | None = None
    z: Tensor | None = None
    is_part: bool = False
    roles: Mapping[PartitionRole, str] = field(default_factory=dict)
    reader: str = "the method"
    mask: Mapping[str, Tensor] | None = None
    held: Mapping[str, Tensor] = field(default_factory=dict)
    frozen: tuple[nn.Module, ...] = ()
    masks: dict[str, Mapping[str, Tensor]] = field(default_factory=dict)
    ledger: _Ledger = field(default_factory=_Ledger)
    promised: list[Guarantee] = field(default_factory=list)
    checkpoints: tuple[Unlearner, Checkpoints] | None = None

    # What the task is about

    @property
    def device(self) -> torch.device:
        """Where the data is and the model belongs."""
        return self.y.device

    @property
    def task(self) -> Task:
        """How labels are read."""
        return self.model_input.task

    @property
    def n_classes(self) -> int:
        """Number of classes (of labels, for ``multilabel``)."""
        return self.model_input.n_classes

    def ids(self, role: PartitionRole) -> Tensor:
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

    def n_samples(self, role: PartitionRole) -> int:
        """Size of a partition."""
        return len(self.ids(role))

    # Batches, losses and the loop

    def batches(
        self, role: PartitionRole, *, shuffle: bool = True, batch_size: int | None = None, ids: Tensor | None = None
    ) -> Batches:
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
        return self.criterion.of(model, batch.x, batch.y)

    def accuracy(self, model: nn.Module, role: PartitionRole) -> float:
        """Share of right predictions on a partition in eval mode, in which the model is left; 0 for an empty one."""
        model.eval()
        right = torch.zeros((), device=self.device)
        with torch.no_grad():
            for batch in self.batches(role, shuffle=False):
                right = right + correctness(self.task, logits_of(model(batch.x)), batch.y).sum()
        return float(right) / max(1, self.n_samples(role))

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
            held=self.held,
            frozen=self.frozen,
            batch_norm=batch_norm,
            max_grad_norm=max_grad_norm,
            on_epoch=self.on_epoch,
        )

    def epochs(self, method: Unlearner, trainer: Trainer, *batches: Batches | None) -> Iterator[int]:
        """The epochs of a loop, from the last checkpoint of an earlier process where there is one.

        For methods whose state between two epochs is that of the loop, of its batches and of :attr:`Trainer.memory`; what they do before
        the first epoch they do again. A method inside another one starts anew, unless it is :meth:`handed` the checkpoints.

        Args:
            method: Whose loop it is.
            trainer: The loop.
            batches: All that the loop draws from.
        """
        if self.checkpoints is None or self.checkpoints[0] is not method:
            yield from trainer.epochs()
            return
        kept = self.checkpoints[1]
        shuffles = [each.generator for each in batches if each is not None]
        generators = {str(number): each for number, each in enumerate(shuffles) if each is not None}
        generators |= global_generators(self.device)
        with self._clocked():
            if (checkpoint := kept.found()) is not None:
                checkpoint.restore(trainer, generators)
        for epoch in trainer.epochs():
            if epoch > trainer.first_epoch and kept.is_due():
                with self._clocked():
                    kept.keep(Checkpoint.of(trainer, epoch, generators))
            yield epoch

    # Other models and one-off work

    def fresh_model(self, *names: str | int) -> nn.Module:
        """A randomly initialised network of the original's architecture, frozen, from the stream ``names``."""
        fresh = self._models("a randomly initialised model").fresh(self.streams.child(*names).seed)
        return frozen_copy(keep_inputs(fresh.to(self.device)))

    def retrained(self, role: PartitionRole) -> nn.Module:
        """A model trained from scratch on a partition, as the original was; its training time is the method's."""
        self.ids(role)
        with self._clocked():
            model, seconds = self._models("a training recipe").retrained(self.roles[role])
        self.ledger.charged_s += seconds
        return keep_inputs(model)

    def replay_training(self, on_step: StepListener) -> None:
        """Show every update of the original's training; the time is precomputation, as the log would be kept while training."""
        with self._clocked():
            self.ledger.precompute_s += self._models("the original's training").replay(on_step)

    def resumed(self, original: nn.Module, role: PartitionRole, epochs: int | None = None) -> nn.Module:
        """A model whose training was taken up with a partition, from what was kept of the original's.

        Making what is kept counts as precomputation, going on from it as the method's own time, and its size as kept.

        Args:
            original: The model that was given.
            role: The partition.
            epochs: Epochs before the end of the training; None for an ensemble of shards, which goes back as far as it has to.
        """
        self.ids(role)
        with self._clocked():
            found = self._models("the original's training").resumed(original, self.roles[role], epochs)
        self.ledger.precompute_s += found.precompute_s
        self.ledger.charged_s += found.elapsed_s
        self.keeps(found.kept_bytes)
        return keep_inputs(found.model)

    def promise(self, guarantee: Guarantee) -> None:
        """State what holds of the returned model by proof; the last statement counts.

        Of a retain set that holds forgotten samples nothing does, unless part of a graph is forgotten, whose nodes may stay.
        """
        forget, retain = (self.partitions.get(self.roles.get(role, role)) for role in ("forget", "retain"))
        if guarantee.kind != "none" and request_of(self.x) is None and forget is not None and retain is not None:
            n_kept = int(torch.isin(forget, retain).sum())
            if n_kept:
                guarantee = Guarantee(assumptions=(f"The retain set holds {n_kept} of the samples to forget.",))
        if guarantee.kind != "none":
            self.ledger.promising.append(self.reader)
        self.promised.append(guarantee)

    def keeps(self, n_bytes: int) -> None:
        """Book what has to be kept for the method between training and the requests."""
        self.ledger.kept_bytes += n_bytes

    def precomputed(
        self,
        name: str,
        model: nn.Module,
        roles: Iterable[PartitionRole],
        compute: Callable[[], dict[str, Tensor]],
        **content: Any,
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
        if self.models is None:
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
            tensors, seconds = self.models.cached(name, described, compute)
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

    def _models(self, what: str) -> ModelService:
        if self.models is None:
            raise RequirementNotMet(f"{self.reader} needs {what}, which is not available here; run it from a configuration")
        return self.models

    # How methods are put inside one another

    def seen_by(self, unlearner: Unlearner) -> UnlearningContext:
        """The same task with the partitions, batch size and name of ``unlearner``; of several requests of a graph, with its own."""
        requested, retain = request_of(self.x), self.partitions.get(unlearner.retain)
        return replace(
            self,
            x=self.x if requested is None or retain is None else requested.asked_by(retain),
            roles=unlearner.partitions(),
            reader=type(unlearner).__name__,
            batch_size=unlearner.batch_size or self.batch_size,
            promised=[],
        )

    def handed(self, outer: Unlearner, inner: Unlearner, step: int | None = None) -> UnlearningContext:
        """The same task, in which ``inner`` goes on from the checkpoints that are those of ``outer``.

        Args:
            outer: A method that does again what it does before and after ``inner``, to the same bits.
            inner: The method inside it.
            step: Which of several, each with checkpoints of its own; the earlier ones go on from their last ones too, up to their ends.
        """
        if self.checkpoints is None or self.checkpoints[0] is not outer:
            return self
        kept = self.checkpoints[1] if step is None else self.checkpoints[1].part(step)
        return replace(self, checkpoints=(inner, kept))

    def step(self, number: int) -> UnlearningContext:
        """The same task with random streams of its own, for step ``number`` of a composition."""
        return replace(self, streams=self.streams.child("step", number))

    def masked(self, mask: Mapping[str, Tensor], held: Mapping[str, Tensor] | None = None) -> UnlearningContext:
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

    def with_frozen(self, modules: Iterable[nn.Module]) -> UnlearningContext:
        """The same task, in which ``modules`` stay in eval mode during training."""
        return replace(self, frozen=(*self.frozen, *modules))


def frozen_copy(model: nn.Module) -> nn.Module:
    """A deep copy in eval mode that shares no storage with ``model`` and takes no gradients: a teacher."""
    teacher = deep_copy(model).eval()
    for parameter in teacher.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    return replace_for_good(teacher)


def model_digest(model: nn.Module) -> str:
    """SHA-256 of a model's parameters and buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().to("cpu").contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _ids_digest(ids: Tensor) -> str:
    return hashlib.sha256(ids.to("cpu").numpy().tobytes()).hexdigest()
