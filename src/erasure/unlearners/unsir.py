"""UNSIR: impair the forget classes with error-maximising noise, then repair the others, without seeing a forgotten sample."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.training.batches import Batch, Batches, Column
from erasure.training.calls import Optimizer
from erasure.training.inputs import logits_on, optimised, value_range, values_of
from erasure.training.predictor import ModelInput
from erasure.types import NonNegativeFloat, NonNegativeInt, PartitionRole, PositiveFloat, PositiveInt, Source, Task
from erasure.unlearners.contract import IterativeUnlearner, UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["UNSIR"]


@dataclass(frozen=True, kw_only=True)
class UNSIR(IterativeUnlearner):
    r"""Trains on noise that maximises the forget classes' error, mixed with retain samples; then repairs on these alone.

    For each forget class ``c``, labelled ``c`` itself, a batch of noise is optimised with the model fixed:

    .. math:: N_c = \arg\min_N \; -\ell(f_{\theta_o}(N), c) + \lambda\, \mathbb{E}_i \lVert N_i \rVert_2^2

    .. math::
        \text{impair: } \min_\theta\, \mathbb{E}_{\{(N_c, c)\} \cup D_r'}\, \ell(f_\theta(x), y),
        \qquad \text{repair: } \min_\theta\, \mathbb{E}_{D_r'}\, \ell(f_\theta(x), y)

    Zero-glance: of the forget set only the labels are looked at, to learn which classes are meant (not even they if ``classes`` is
    given). It is defined for whole classes: a forget class that is still in the retain set is refused. An empty forget set leaves
    the model as it is. Token inputs are noised in the space of the model's embeddings.

    The published sizes weigh 5120 noise samples per class against 1000 retain samples per class; where the retain set is smaller, give
    ``noise_batch_size`` and ``noise_copies`` in proportion, or the noise drowns the classes that are kept.

    Both phases train as usual, so BatchNorm's running statistics take in the noise while impairing and recover while repairing;
    ``batch_norm="frozen"`` keeps them.

    **Cost**: ``noise_steps`` passes over one batch of noise per class; ``epochs`` passes over the noise copies and the retain subset
    and ``repair_epochs`` over the retain subset.

    Args:
        classes: The classes to forget, by number or name; by default those of the forget set's labels.
        noise_batch_size: Noise samples per class, ``B``.
        noise_steps: Steps of Adam on the noise.
        noise_lr: Its rate.
        noise_penalty: ``lambda``.
        noise_range: ``inputs`` keeps the noise between the least and greatest value of the retain subset as the model sees it (per
            column or channel; for tokens of the embedding table); ``none`` leaves it free, as the authors do.
        noise_copies: How often each noise sample occurs in an impairing pass.
        retain_per_class: Size per class of the random retain subset; None takes the whole retain set.
        repair_epochs: Passes of the repair phase; 0 impairs alone.
        repair_optimizer: Optimizer of the repair phase.
    """

    source: ClassVar[Source | None] = Source(
        paper="Tarun, Chundawat, Mandal, Kankanhalli, IEEE TNNLS 2023, arXiv:2111.08947",
        code="vikram2000b/Fast-Machine-Unlearning at fc217ce",
        tested="the steps by plain formulas in float64 (tests/unit/unlearners/test_unsir.py)",
        deviations=(
            "Each forget class's noise carries that class's label; the code labels all noise with class 0.",
            "The model is in eval mode and its weights receive no gradient while noise is made; the code leaves it in train mode.",
            'The noise stays in the range of the inputs; noise_range="none" is the code.',
            "The 1000 retain samples per class are drawn at random; the code takes the first.",
        ),
    )
    version: ClassVar[int] = 2
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"retain"})
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification", "binary"})
    cost: ClassVar[str] = "noise_steps passes over one batch per class, epochs + repair_epochs passes over a retain subset"
    search_space: ClassVar[SearchSpace] = {
        "optimizer.lr": Range(1e-4, 1e-1, log=True),
        "noise_lr": Range(1e-2, 1.0, log=True),
        "noise_steps": Range(5, 80),
        "noise_copies": Range(5, 40),
        "repair_epochs": Range(1, 3),
        "repair_optimizer.lr": Range(1e-4, 1e-1, log=True),
    }

    epochs: NonNegativeInt = 1
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("Adam", lr=0.02))
    batch_size: PositiveInt | None = 256
    classes: tuple[int | str, ...] | None = None
    noise_batch_size: PositiveInt = 256
    noise_steps: NonNegativeInt = 40
    noise_lr: PositiveFloat = 0.1
    noise_penalty: NonNegativeFloat = 0.1
    noise_range: Literal["inputs", "none"] = "inputs"
    noise_copies: PositiveInt = 20
    retain_per_class: PositiveInt | None = 1000
    repair_epochs: NonNegativeInt = 1
    repair_optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("Adam", lr=0.01))

    def partitions(self) -> dict[PartitionRole, str]:
        """The retain set and, unless the classes are given, the forget set, of which only labels are read."""
        return {"retain": self.retain} if self.classes is not None else {"forget": self.forget, "retain": self.retain}

    def unsupported_reason(self, data: ModelInput) -> str | None:
        """Not for inputs that no noise can be added to, nor for classes that do not exist."""
        if data.modality == "graph":
            return "UNSIR is not defined for graphs: noise needs inputs in one tensor"
        try:
            self._named_classes(data)
        except RequirementNotMet as error:
            return f"UNSIR cannot forget what it is told to: {error}"
        return super().unsupported_reason(data)

    def _named_classes(self, data: ModelInput) -> tuple[int, ...]:
        return tuple(dict.fromkeys(data.class_of(label) for label in self.classes or ()))

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Make noise, impair, repair."""
        classes = self._forget_classes(context)
        if not classes:
            return model
        subset = self._retain_subset(context)
        if self.epochs:
            self._impair(model, context, classes, subset)
        if self.repair_epochs:
            repair = self.replace(epochs=self.repair_epochs, optimizer=self.repair_optimizer).trainer(model, context)
            retain = context.batches("retain", ids=subset)
            for _ in repair.epochs():
                repair.train_on(retain, lambda batch: context.loss(model, batch))
        return model

    def _impair(self, model: nn.Module, context: UnlearningContext, classes: tuple[int, ...], subset: Tensor) -> None:
        n, size = len(context.x), self.noise_batch_size
        carriers = subset[torch.arange(size, device=subset.device) % len(subset)]
        bounds = None
        if self.noise_range == "inputs":
            bounds = value_range(model, context.batches("retain", shuffle=False, ids=subset))
        x = context.x.gather(carriers)

        def noise_for(label: int) -> Tensor:
            seen = values_of(model, x)
            start = torch.randn(seen.shape, generator=context.generator("noise", label), dtype=seen.dtype).to(seen.device)
            labels = torch.full((size,), label, dtype=context.y.dtype, device=context.device)

            def objective(logits: Tensor, values: Tensor) -> Tensor:
                penalty = values.square().flatten(1).sum(1).mean()
                return self.noise_penalty * penalty - context.criterion(logits, labels)

            return optimised(model, x, start, objective, steps=self.noise_steps, lr=self.noise_lr, bounds=bounds)

        noise = torch.cat([noise_for(label) for label in classes])
        column = _FollowedByNoise(context.x, n, carriers.repeat(len(classes)))
        labels = torch.tensor(classes, dtype=context.y.dtype, device=context.device).repeat_interleave(size)
        noise_ids = torch.arange(n, n + len(noise), device=context.device)
        mixed = Batches(
            column,
            torch.cat([context.y, labels]),
            torch.cat([noise_ids.repeat(self.noise_copies), subset]),
            context.batch_size,
            context.generator("shuffle", "impair"),
        )

        def loss(batch: Batch) -> Tensor:
            values = noise[(batch.ids - n).clamp_min(0)]
            return context.criterion(logits_on(model, batch.x, values, rows=batch.ids >= n), batch.y)

        trainer = self.trainer(model, context)
        for _ in trainer.epochs():
            trainer.train_on(mixed, loss)

    def _forget_classes(self, context: UnlearningContext) -> tuple[int, ...]:
        if self.classes is not None:
            return self._named_classes(context.model_input)
        forgotten = torch.unique(context.y[context.ids("forget")])
        kept = forgotten[torch.isin(forgotten, context.y[context.ids("retain")])]
        if len(kept):
            raise RequirementNotMet(
                f"UNSIR is not defined for parts of a class: class {int(kept[0])} of the forget set is also in the retain set; "
                "use SampleUNSIR, or name the classes in its parameter classes"
            )
        return tuple(int(label) for label in forgotten)

    def _retain_subset(self, context: UnlearningContext) -> Tensor:
        """Up to ``retain_per_class`` random samples of each class, in the partition's order."""
        ids = context.ids("retain")
        if not len(ids):
            raise RequirementNotMet("UNSIR is not defined for an empty retain set: it repairs the model with retain samples")
        if self.retain_per_class is None:
            return ids
        order = torch.randperm(len(ids), generator=context.generator("retain_subset")).to(ids.device)
        labels = context.y[ids[order]]
        chosen = torch.cat([order[labels == label][: self.retain_per_class] for label in torch.unique(labels)])
        return ids[chosen.sort().values]


@dataclass(frozen=True, eq=False)
class _FollowedByNoise:
    """The inputs of a data set; ids from ``n`` on stand for noise and give the sample whose values it replaces."""

    x: Column
    n: int
    carriers: Tensor

    def __len__(self) -> int:
        return self.n + len(self.carriers)

    def gather(self, ids: Tensor) -> Tensor:
        """The samples, or the noise's carriers."""
        carriers = self.carriers[(ids - self.n).clamp_min(0)]
        inputs: Tensor = self.x.gather(torch.where(ids < self.n, ids, carriers))
        return inputs

    def to(self, device: torch.device) -> _FollowedByNoise:
        """The same column on another device."""
        return _FollowedByNoise(self.x.to(device), self.n, self.carriers.to(device))
