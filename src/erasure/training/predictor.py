"""The training recipe of a predictor: the original, every gold and every shadow model are made by it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from erasure.component import Component
from erasure.errors import DataError, Diagnostic, InvalidParameters, RequirementNotMet, nearest
from erasure.training.anatomy import is_on, load_state
from erasure.training.augmentation import Augmentation, augmenting
from erasure.training.batches import Batch, Batches, Column
from erasure.training.calls import Criterion, Loss, Optimizer, Schedule
from erasure.training.devices import Precision
from erasure.training.estimators import Estimator, samples_of
from erasure.training.forward import logits_of
from erasure.training.graph_requests import RequestedGraph
from erasure.training.graphs import NodeColumn
from erasure.training.history import Checkpoint, CheckpointListener, StepListener, Update
from erasure.training.loop import EpochListener, Trainer
from erasure.training.neighbours import sampled_column
from erasure.training.randomness import Streams, derive, isolated
from erasure.training.sharded import ShardedEnsemble, train_shards
from erasure.training.trial import inputs_kept
from erasure.types import NonNegativeInt, Partition, PositiveFloat, PositiveInt, Task

__all__ = ["Model", "ModelInput", "Predictor", "build_model", "can_be_taken_up", "global_generators", "mean_loss", "train"]

_WHOLE = re.compile(r"-?\d+")


@dataclass(frozen=True)
class ModelInput:
    """What a model must fit: the shape of one sample, the number of classes and how labels are read.

    Args:
        x_shape: Shape of one sample.
        n_classes: Number of classes.
        task: How labels are read.
        modality: What the inputs are.
        class_names: What the data call each class, if they name them; parameters that mean a class are read by it.
        token_names: How each token of a language model's data reads, if it is known; a pretrained model must read it alike.
    """

    x_shape: tuple[int, ...]
    n_classes: int
    task: Task = "classification"
    modality: str = "table"
    class_names: tuple[str, ...] = field(default=(), compare=False)
    token_names: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def class_of(self, label: int | str) -> int:
        """Number of the class that a parameter means.

        Where classes are called by numbers, such as 1 to 4, a number is the name that is written in the data, as in the splitters;
        otherwise it counts classes from 0.

        Raises:
            RequirementNotMet: If there is no such class.
        """
        names = self.class_names or tuple(str(k) for k in range(self.n_classes))
        if str(label) in names:
            return names.index(str(label))
        if isinstance(label, int):
            if 0 <= label < self.n_classes and not all(_WHOLE.fullmatch(name) for name in names):
                return label
            there = ", ".join(names[:10]) if self.class_names else f"0 to {self.n_classes - 1}"
            raise RequirementNotMet(f"there is no class {label}; classes are {there}")
        hint = nearest(label, names)
        raise RequirementNotMet(f'there is no class "{label}"; {hint or "classes are " + ", ".join(names[:10])}')

    @property
    def n_outputs(self) -> int:
        """Width of the logits."""
        return 1 if self.task == "binary" else self.n_classes

    def fitting(self, what: str, asked: int | None, found: int) -> int:
        """``asked`` if it was given and agrees with the data, otherwise what the data has.

        Raises:
            RequirementNotMet: If they differ.
        """
        if asked is not None and asked != found:
            raise RequirementNotMet(
                f"the model is made for {asked} {what}, the data has {found}; leave the parameter out to follow the data"
            )
        return found

    def outputs_for(self, n_classes: int | None) -> int:
        """Width of the logits of a model made for ``n_classes`` classes; None takes what the data has.

        Raises:
            RequirementNotMet: If the data has more classes.
        """
        if n_classes is None or self.task == "binary":
            return self.n_outputs
        if n_classes < self.n_classes:
            raise RequirementNotMet(f"the model is made for {n_classes} classes, the data has {self.n_classes}")
        return n_classes


@dataclass(frozen=True, kw_only=True)
class Model(Component):
    """A family of networks; builds a freshly initialised one for the data at hand.

    Class data:
        stackable: Whether many small networks of the family are faster trained together; a bank of models is then planned in blocks.
    """

    kind: ClassVar[str] = "model"
    stackable: ClassVar[bool] = False

    def refuse(self, data: ModelInput) -> str | None:
        """Why the family does not fit the data, as far as that takes longer to find out than whenever a network is built; or None."""
        return None

    def build(self, data: ModelInput) -> nn.Module:
        """A network with random weights from torch's global generator, which the caller has seeded.

        Raises:
            RequirementNotMet: If the family does not fit the data.
        """
        raise NotImplementedError


def _linear_decay() -> Schedule:
    return Schedule.of("LinearLR", start_factor=1.0, end_factor=0.5)


@dataclass(frozen=True, kw_only=True)
class Predictor(Component):
    """How a model is trained.

    Args:
        model: The network.
        epochs: Passes over the training set; 0 leaves the initial weights.
        optimizer: A class of ``torch.optim``.
        schedule: Learning-rate schedule, stepped once an epoch; by default linear from the full rate to half of it.
        loss_fn: A loss of ``torch.nn``; by default the task's cross-entropy.
        training_set: Partition to train on; a gold model uses the retain partition in its place.
        batch_size: Samples per step; by default the data's.
        validation_set: Partition watched for early stopping.
        patience: Stop after this many epochs without a lower validation loss and return the best epoch's weights; needs
            ``validation_set``.
        max_grad_norm: Clip gradients to this global norm.
        augment: Random changes of the pictures, in order, redrawn in every step of training from a stream of their own. The original,
            gold and every other retrained model are trained with them; measuring, early stopping and the steps of unlearning methods
            see the pictures as they are.
        neighbours: Of a graph whose nodes are the samples: how many neighbours of each sample, of each of those, and so on are drawn for
            a step, one number for each convolution of a GCN or GraphSAGE, for graphs of which a step cannot read whole neighbourhoods.
            Who is trained with them and who is not is as for ``augment``. All of them by default.
    """

    kind: ClassVar[str] = "predictor"

    model: Model
    epochs: NonNegativeInt = 50
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("Adam", lr=0.001))
    schedule: Schedule | None = field(default_factory=_linear_decay)
    loss_fn: Loss | None = None
    training_set: Partition = "train"
    batch_size: PositiveInt | None = None
    validation_set: Partition | None = None
    patience: PositiveInt | None = None
    max_grad_norm: PositiveFloat | None = None
    augment: tuple[Augmentation, ...] = field(default=(), metadata={"address": "changed"})
    neighbours: tuple[PositiveInt, ...] = field(default=(), metadata={"address": "changed"})

    def check(self) -> None:
        """Early stopping needs something to watch."""
        if (self.patience is None) != (self.validation_set is None):
            missing = "validation_set" if self.validation_set is None else "patience"
            raise InvalidParameters(
                [Diagnostic(f'early stopping needs both patience and validation_set; "{missing}" is missing')]
            )


def build_model(
    model: Model, data: ModelInput, seed: int, device: torch.device, told: Callable[[str], None] | None = None
) -> nn.Module:
    """A freshly initialised network on ``device``; the same seed gives the same weights on every device.

    Args:
        model: The family.
        data: What it must fit.
        seed: Of the weights.
        device: Where it goes.
        told: Receives what the family warns of, such as a tensor of a checkpoint that the network does not have. A run builds a network
            many times and says it once, so nobody else hears it.
    """
    with warnings.catch_warnings(record=True) as said, isolated(derive(seed, "init")):
        warnings.simplefilter("always", UserWarning)
        built = model.build(data)
        if not is_on(built, device):
            built = built.to(device)
    for each in said:
        if told is not None and issubclass(each.category, UserWarning):
            told(str(each.message))
    return built


def train(
    model: nn.Module,
    predictor: Predictor,
    *,
    x: Column,
    y: Tensor,
    ids: Tensor,
    criterion: Criterion,
    seed: int,
    batch_size: int,
    validation_ids: Tensor | None = None,
    precision: Precision = "fp32",
    on_epoch: EpochListener | None = None,
    on_step: StepListener | None = None,
    on_checkpoint: CheckpointListener | None = None,
    is_wanted: Callable[[], bool] = lambda: True,
    resume: Checkpoint | None = None,
    make_trainer: Callable[..., Trainer] = Trainer,
) -> nn.Module:
    """Train ``model`` in place by the recipe and return it in eval mode.

    Args:
        model: Freshly built network, on the device of ``x``.
        predictor: The recipe.
        x: Inputs of the whole data set.
        y: Labels of the whole data set.
        ids: Samples to train on, int64, on the same device.
        criterion: The loss.
        seed: Seeds shuffling and dropout; weights come from :func:`build_model`.
        batch_size: Used where the recipe does not set its own.
        validation_ids: Samples for early stopping, where the recipe asks for it.
        precision: ``fp32`` or ``bf16``.
        on_epoch: Called after each epoch.
        on_step: Sees the initial weights and then each update; slows the loop.
        on_checkpoint: Is given a checkpoint before the first and after each epoch but the last; slows the loop.
        is_wanted: Asked after each epoch whether to make a checkpoint.
        resume: Where to take the training up, perhaps with other samples; None starts with the model as it is.
        make_trainer: Makes the loop; one of several processes has its own.

    Raises:
        DataError: If there is nothing to train on.
        Diverged: If the loss is no longer finite.
        RequirementNotMet: If an augmentation does not fit the inputs, or the recipe has neither steps nor checkpoints to show.
    """
    if len(ids) == 0 and predictor.epochs:
        raise DataError("there is nothing to train on: the training partition is empty")
    if predictor.epochs == 0:
        return model.eval()
    if not can_be_taken_up(model, predictor) and (resume is not None or on_checkpoint is not None):
        raise RequirementNotMet(
            "a training with early stopping, of shards, or of an estimator cannot be taken up between two epochs"
        )
    if isinstance(model, Estimator | ShardedEnsemble):
        if on_step is not None:
            raise RequirementNotMet(
                f"the original is {type(model).__name__}, whose training has no updates of one network to show"
            )
        return _fitted(model, predictor, x, y, ids, criterion, seed, batch_size, precision, on_epoch, make_trainer)
    streams = Streams(seed)
    generators = {name: streams.torch(name) for name in ("augment", "shuffle")}
    augment = augmenting(predictor.augment, x, generators["augment"])
    seen: Column = x
    if predictor.neighbours:
        generators["neighbours"] = streams.torch("neighbours")
        seen = sampled_column(model, x, predictor.neighbours, generators["neighbours"])
    batches = Batches(seen, y, ids, predictor.batch_size or batch_size, generators["shuffle"], augment)
    stopper = None
    if predictor.patience is not None and validation_ids is not None:
        stopper = _EarlyStopping(predictor.patience, model, Batches(x, y, validation_ids, 4 * batch_size), criterion)
    trainer = make_trainer(
        model,
        predictor.optimizer,
        epochs=predictor.epochs,
        schedule=predictor.schedule,
        precision=precision,
        max_grad_norm=predictor.max_grad_norm,
        on_epoch=on_epoch,
    )
    if on_step is not None:
        on_step(model, Update())
    # Nodes share one tensor of features among all batches; of other samples a batch is a copy already.
    kept = inputs_kept(model) if isinstance(x, NodeColumn | RequestedGraph) else nullcontext()
    with isolated(streams.child("dropout").seed, ids.device), kept:
        generators |= global_generators(ids.device)
        if resume is not None:
            resume.restore(trainer, generators)
        elif on_checkpoint is not None and is_wanted():
            on_checkpoint(Checkpoint.of(trainer, 0, generators))
        for epoch in trainer.epochs():
            if on_checkpoint is not None and epoch > trainer.first_epoch and is_wanted():
                on_checkpoint(Checkpoint.of(trainer, epoch, generators))
            source = batches if on_step is None else _observed(batches, trainer, epoch, on_step)
            trainer.train_on(source, lambda batch: criterion.of(trainer.model, batch.x, batch.y))
            if stopper is not None and trainer.agreed(stopper.should_stop()):
                break
    if stopper is not None:
        stopper.restore_best()
    return model.eval()


def can_be_taken_up(model: nn.Module, predictor: Predictor) -> bool:
    """Whether a training can go on from a checkpoint between two epochs."""
    return not isinstance(model, Estimator | ShardedEnsemble) and predictor.patience is None


def _fitted(
    model: Estimator | ShardedEnsemble,
    predictor: Predictor,
    x: Column,
    y: Tensor,
    ids: Tensor,
    criterion: Criterion,
    seed: int,
    batch_size: int,
    precision: Precision,
    on_epoch: EpochListener | None,
    make_trainer: Callable[..., Trainer],
) -> nn.Module:
    """A model with a training of its own."""
    if isinstance(model, Estimator):
        with torch.no_grad():
            model.fit(samples_of(x, y, ids), seed)
        return model.eval()
    train_shards(
        model,
        predictor,
        x=x,
        y=y,
        ids=ids,
        criterion=criterion,
        seed=seed,
        batch_size=batch_size,
        precision=precision,
        on_epoch=on_epoch,
        make_trainer=make_trainer,
    )
    return model.eval()


def global_generators(device: torch.device) -> dict[str, torch.Generator]:
    """The generators that dropout draws from."""
    found = {"global": torch.default_generator}
    if device.type == "cuda":
        found["device"] = torch.cuda.default_generators[device.index or 0]
    return found


def _observed(batches: Batches, trainer: Trainer, epoch: int, on_step: StepListener) -> Iterator[Batch]:
    group = trainer.optimizer.param_groups[0]
    for number, batch in enumerate(batches, start=1 + epoch * len(batches)):
        rate, decay = float(group["lr"]), float(group.get("weight_decay", 0.0))
        yield batch
        # The loop asks for the next batch only after it has applied this one's update.
        on_step(trainer.model, Update(number=number, epoch=epoch, rate=rate, weight_decay=decay, batch=batch))


@torch.no_grad()
def mean_loss(model: nn.Module, batches: Batches, criterion: Criterion) -> float:
    """Mean loss over all samples in eval mode, however they are batched; the model's modes are restored."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    total = torch.zeros((), device=batches.ids.device)
    for batch in batches:
        total += criterion.over_samples(logits_of(model(batch.x)), batch.y) * len(batch.y)
    for module, training in modes.items():
        module.training = training
    return float(total) / max(1, batches.n_samples)


class _EarlyStopping:
    """Watches the validation loss and keeps the weights of its best epoch."""

    def __init__(self, patience: int, model: nn.Module, batches: Batches, criterion: Criterion) -> None:
        self.patience, self.model, self.batches, self.criterion = patience, model, batches, criterion
        self.best_loss, self.waited = float("inf"), 0
        self.best: dict[str, Tensor] = {}

    def should_stop(self) -> bool:
        loss = mean_loss(self.model, self.batches, self.criterion)
        if loss < self.best_loss:
            self.best_loss, self.waited = loss, 0
            self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        else:
            self.waited += 1
        return self.waited >= self.patience

    def restore_best(self) -> None:
        if self.best:
            load_state(self.model, self.best)
