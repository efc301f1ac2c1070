"""GKT: distil the original into a fresh network on generated inputs, without those that it takes for a forgotten class."""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.functional.losses import class_logits, distillation_divergence
from erasure.training.calls import Optimizer
from erasure.training.forward import logits_of
from erasure.training.inputs import fixed
from erasure.training.layer_outputs import listening
from erasure.training.predictor import ModelInput
from erasure.types import (
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PartitionRole,
    PositiveFloat,
    PositiveInt,
    Source,
    Task,
)
from erasure.unlearners.contract import IterativeUnlearner, UnlearningContext, frozen_copy
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["GKT"]

_WIDTH = 128


@dataclass(frozen=True, kw_only=True)
class GKT(IterativeUnlearner):
    r"""Trains a fresh student to agree with the original on inputs that a generator makes to find where they differ (gated transfer).

    .. math::
        \max_\phi \; \mathbb{E}_z\, \mathrm{KL}(p_o \,\|\, p_\theta), \qquad
        \min_\theta \; \mathbb{E}_z\, \mathrm{KL}(p_o \,\|\, p_\theta) + \beta \sum_l \overline{(a_{o,l} - a_{\theta,l})^2},
        \qquad x = G_\phi(z), \; z \sim N(0, I)

    over inputs of which the original gives the forgotten classes together at most ``max_probability``. :math:`a_l` is the map of mean
    squares over the channels that convolution ``l`` puts out, of length 1. An epoch is a cycle: one step of the generator, then
    ``student_steps`` of the student on what it makes of the same noise. Where nothing of it passes the gate, the generator's step is taken
    back.

    Zero-shot: no sample is read, only which classes are forgotten, from the labels of the forget set or ``classes``. Whole classes are
    forgotten, whatever part of one the forget set has. An empty forget set leaves the model as it is.

    **Cost**: ``epochs`` times ``student_steps + 1`` batches; a generator, two model copies.

    Args:
        epochs: Cycles.
        student_steps: Of the student in a cycle.
        generator_optimizer: Of the generator.
        max_probability: Of the forgotten classes, in an input that is used.
        noise_size: Numbers that the generator starts from.
        attention_weight: ``beta``.
        input_mean: Mean of what the generator makes before it is trained.
        input_std: Its standard deviation; with the mean, what is known of inputs without seeing one.
        classes: The classes to forget, by number or name; by default those of the forget set's labels.
    """

    source: ClassVar[Source | None] = Source(
        paper="Chundawat, Tarun, Mandal, Kankanhalli, IEEE TIFS 2023, arXiv:2201.05629",
        code="ayu987/zero-shot-unlearning at e888197 (LeNet and AllCNN on MNIST, SVHN, CIFAR-10)",
        tested="the steps by plain formulas in float64 (tests/unit/unlearners/test_gkt.py)",
        deviations=(
            "The student is in train mode; the code leaves it in eval mode before its first step, with BatchNorm's first statistics.",
            "Rates stay as they are; the code halves them by a loss on validation samples, which is not zero-shot.",
            "Any classes can be forgotten; the code's gate knows class 0 alone.",
            "A cycle without an input that passes counts, and undoes the generator's step; the code goes back after a hundred of them.",
            "Divergences are per sample; the code divides them by the number of outputs too, so that its beta counts as many times more.",
            "The attention of every convolution counts, of the code's networks that of chosen ones.",
            "The generator follows the size of the images, the code's is for 28 or 32 pixels; for tables it has fully connected layers.",
        ),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"forget"})
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification", "binary"})
    cost: ClassVar[str] = "epochs times student_steps + 1 generated batches, a generator and two model copies"
    search_space: ClassVar[SearchSpace] = {
        "epochs": Range(20, 1000, log=True),
        "optimizer.lr": Range(1e-4, 1e-2, log=True),
        "generator_optimizer.lr": Range(1e-4, 1e-2, log=True),
        "max_probability": Range(1e-3, 0.2, log=True),
        "attention_weight": Range(1.0, 1000.0, log=True),
    }

    epochs: NonNegativeInt = 364
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("Adam", lr=1e-3))
    max_grad_norm: PositiveFloat | None = 5.0
    batch_size: PositiveInt | None = 256
    student_steps: PositiveInt = 10
    generator_optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("Adam", lr=1e-3))
    max_probability: Fraction = 0.01
    noise_size: PositiveInt = 128
    attention_weight: NonNegativeFloat = 250.0
    input_mean: float = 0.0
    input_std: PositiveFloat = 1.0
    classes: tuple[int | str, ...] | None = None

    def partitions(self) -> dict[PartitionRole, str]:
        """The forget set, of which only labels are read; nothing where the classes are given."""
        return {} if self.classes is not None else {"forget": self.forget}

    def unsupported_reason(self, data: ModelInput) -> str | None:
        """Not for inputs that no generator makes, nor for classes that do not exist."""
        if data.modality not in ("table", "image") or len(data.x_shape) not in (1, 3):
            return f"GKT generates tables and images, and the inputs are of the kind {data.modality}, shape {data.x_shape}"
        try:
            self._named(data)
        except RequirementNotMet as error:
            return f"GKT cannot forget what it is told to: {error}"
        return super().unsupported_reason(data)

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Generate, gate, distil."""
        forgotten = self._forgotten(context)
        if not len(forgotten) or not self.epochs:
            return model
        if len(forgotten) == context.n_classes:
            raise RequirementNotMet("GKT is not defined where every class is forgotten: it would have no input to learn from")
        teacher, student = frozen_copy(model), self._student(model, context)
        dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
        makes = self.generator(context.model_input).to(context.device, dtype)
        improves = self.generator_optimizer.build(list(makes.parameters()))
        trainer, noise = self.trainer(student, context), context.generator("noise")
        n_used = 0
        for _ in trainer.epochs():
            z = torch.randn(context.batch_size, self.noise_size, generator=noise, dtype=dtype).to(context.device)
            before = copy.deepcopy((makes.state_dict(), improves.state_dict()))
            if len(x := self._passing(makes(z), teacher, forgotten, context.task)):
                self._improve(makes, improves, -_divergence(student, teacher, x, context.task))
            with torch.no_grad():
                x = self._passing(makes(z), teacher, forgotten, context.task)
            if not len(x):
                makes.load_state_dict(before[0])
                improves.load_state_dict(before[1])
                continue
            n_used += 1
            lesson = _Lesson(x, *self._answered(teacher, x))
            trainer.train_on([lesson] * self.student_steps, lambda lesson: self._loss(student, lesson, context.task))
        if not n_used:
            raise RequirementNotMet(
                f"GKT has made no input of which the original gives the forgotten classes at most {self.max_probability}; raise "
                "max_probability, or set input_mean and input_std to what inputs look like"
            )
        return student

    def generator(self, data: ModelInput) -> nn.Sequential:
        """A network with fresh weights from noise, shape ``(B, noise_size)``, to inputs, in train mode."""
        layers = _picture(self.noise_size, data.x_shape) if len(data.x_shape) == 3 else _row(self.noise_size, data.x_shape[0])
        made = nn.Sequential(*layers)
        scale, shift = list(made.parameters())[-2:]
        nn.init.constant_(scale, self.input_std)
        nn.init.constant_(shift, self.input_mean)
        return made

    def _named(self, data: ModelInput) -> list[int]:
        return sorted({data.class_of(label) for label in self.classes or ()})

    def _forgotten(self, context: UnlearningContext) -> Tensor:
        if self.classes is not None:
            return torch.tensor(self._named(context.model_input), dtype=torch.int64, device=context.device)
        found: Tensor = torch.unique(context.y[context.ids("forget")].long())
        return found

    def _student(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """A fresh network; frozen weights are the original's."""
        student = context.fresh_model("student")
        with torch.no_grad():
            for ours, theirs in zip(student.parameters(), model.parameters(), strict=True):
                ours.requires_grad_(theirs.requires_grad)
                if not theirs.requires_grad:
                    ours.copy_(theirs)
        return student

    def _passing(self, x: Tensor, teacher: nn.Module, forgotten: Tensor, task: Task) -> Tensor:
        """Rows that the gate lets through."""
        with torch.no_grad():
            share: Tensor = class_logits(task, logits_of(teacher(x))).softmax(1).index_select(1, forgotten).sum(1)
        return x[share <= self.max_probability]

    def _improve(self, makes: nn.Module, improves: torch.optim.Optimizer, loss: Tensor) -> None:
        improves.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(makes.parameters(), self.max_grad_norm)
        improves.step()

    def _answered(self, network: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits, and the attention of each convolution where it counts."""
        convolutions = {name: part for name, part in network.named_modules() if isinstance(part, nn.Conv2d)}
        maps: list[Tensor] = []
        # The next layer may write over what it is given, as VGG's ReLUs do.
        with listening(
            convolutions if self.attention_weight else {}, lambda name, output: maps.append(attention(output.clone()))
        ):
            return logits_of(network(x)), maps

    def _loss(self, student: nn.Module, lesson: _Lesson, task: Task) -> Tensor:
        logits, maps = self._answered(student, lesson.x)
        loss = distillation_divergence(logits, lesson.logits, task=task).mean()
        return loss + self.attention_weight * sum((a - b).square().mean() for a, b in zip(maps, lesson.maps, strict=True))


@dataclass(frozen=True, eq=False)
class _Lesson:
    """Inputs, and what the original says of them."""

    x: Tensor
    logits: Tensor
    maps: list[Tensor]


def attention(output: Tensor) -> Tensor:
    """Where a layer looks: mean squares over its channels, of length 1.

    Args:
        output: ``(B, C, H, W)``.

    Returns:
        ``(B, H W)``.
    """
    return nn.functional.normalize(output.square().mean(1).flatten(1))


def _divergence(student: nn.Module, teacher: nn.Module, x: Tensor, task: Task) -> Tensor:
    """What the student gets wrong of ``x``, to which gradients flow and to nothing else."""
    with fixed(student):
        return distillation_divergence(logits_of(student(x)), logits_of(teacher(x)), task=task).mean()


def _row(noise_size: int, n_inputs: int) -> list[nn.Module]:
    hidden = [(noise_size, _WIDTH), (_WIDTH, _WIDTH // 2)]
    parts = [(nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out), nn.LeakyReLU(0.2)) for n_in, n_out in hidden]
    return [*itertools.chain(*parts), nn.Linear(_WIDTH // 2, n_inputs), nn.BatchNorm1d(n_inputs)]


def _picture(noise_size: int, shape: tuple[int, ...]) -> list[nn.Module]:
    n_channels, height, width = shape
    quarter = math.ceil(height / 4), math.ceil(width / 4)
    return [
        nn.Linear(noise_size, _WIDTH * quarter[0] * quarter[1]),
        nn.Unflatten(1, (_WIDTH, *quarter)),
        nn.BatchNorm2d(_WIDTH),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1),
        nn.BatchNorm2d(_WIDTH),
        nn.LeakyReLU(0.2),
        nn.Upsample(size=(height, width)),
        nn.Conv2d(_WIDTH, _WIDTH // 2, 3, padding=1),
        nn.BatchNorm2d(_WIDTH // 2),
        nn.LeakyReLU(0.2),
        nn.Conv2d(_WIDTH // 2, n_channels, 3, padding=1),
        nn.BatchNorm2d(n_channels),
    ]
