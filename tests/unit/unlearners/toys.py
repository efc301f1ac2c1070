"""Toys for the unlearners' tests: tiny tasks, and the plain formulas that golden trajectories are computed with."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from erasure.training.batches import TensorColumn
from erasure.training.calls import Criterion, Optimizer
from erasure.training.predictor import ModelInput
from erasure.training.randomness import Streams, isolated
from erasure.types import Task
from erasure.unlearners.contract import Unlearner, UnlearningContext

SGD = Optimizer.of("SGD", lr=0.1)


def sgd(lr: float = 0.1, **parameters: float) -> Optimizer:
    return Optimizer.of("SGD", lr=lr, **parameters)


# Tasks and models


def make_task(
    x: Tensor,
    y: Tensor,
    partitions: Mapping[str, Sequence[int]],
    *,
    kind: Task = "classification",
    n_classes: int = 3,
    seed: int = 7,
    batch_size: int = 4,
    bank: object = None,
    **fields: object,
) -> UnlearningContext:
    ids = {name: torch.as_tensor(list(chosen), dtype=torch.int64) for name, chosen in partitions.items()}
    return UnlearningContext(
        x=TensorColumn(x),
        y=y,
        partitions=ids,
        model_input=ModelInput(x_shape=tuple(x.shape[1:]), n_classes=n_classes, task=kind),
        criterion=Criterion(kind),
        streams=Streams(seed),
        batch_size=batch_size,
        models=bank,
        **fields,
    )


def tiny_task(
    n_forget: int = 6, *, kind: Task = "classification", seed: int = 7, batch_size: int = 4, **fields: object
) -> UnlearningContext:
    """24 random samples in float64 of 4 inputs and 3 classes: the first ``n_forget`` to forget, 18 to keep, and 8 for validation."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(32, 4, generator=generator, dtype=torch.float64)
    y = {
        "classification": torch.arange(32) % 3,
        "binary": torch.arange(32) % 2,
        "multilabel": torch.randint(0, 2, (32, 3), generator=generator),
    }[kind]
    partitions = {"forget": range(n_forget), "retain": range(6, 24), "train": range(24), "validation": range(24, 32)}
    return make_task(
        x, y, partitions, kind=kind, n_classes=2 if kind == "binary" else 3, seed=seed, batch_size=batch_size, **fields
    )


def tiny_net(seed: int = 1, *, n_outputs: int = 3) -> nn.Sequential:
    """``W2 tanh(W1 x + b1) + b2`` in float64."""
    with isolated(seed):
        return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, n_outputs)).double()


def norm_net(seed: int = 1, *, n_outputs: int = 3, dropout: float = 0.0) -> nn.Sequential:
    """A nested network with BatchNorm in float64."""
    with isolated(seed):
        body = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(dropout))
        head = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU())
        return nn.Sequential(body, head, nn.Linear(5, n_outputs)).double().eval()


def picture_task(n_forget: int = 6, *, seed: int = 7, batch_size: int = 4) -> UnlearningContext:
    """24 random pictures in float64 of 5x5 pixels and 3 classes: the first ``n_forget`` to forget, 18 to keep."""
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(24, 1, 5, 5, generator=generator, dtype=torch.float64)
    partitions = {"forget": range(n_forget), "retain": range(6, 24), "train": range(24)}
    return make_task(x, torch.arange(24) % 3, partitions, seed=seed, batch_size=batch_size)


def conv_net(seed: int = 1, *, n_outputs: int = 3) -> nn.Sequential:
    """A 3x3 convolution with 2 channels, tanh and a linear map of what it gives, in float64."""
    with isolated(seed):
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(18, n_outputs)).double().eval()


def unlearned(unlearner: Unlearner, model: nn.Module, context: UnlearningContext) -> nn.Module:
    return unlearner.run(model, context).model


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def buffers(model: nn.Module) -> dict[str, Tensor]:
    return {name: b.detach().clone() for name, b in model.named_buffers()}


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def same_model(one: nn.Module, other: nn.Module) -> bool:
    return same(one.state_dict(), other.state_dict())


def distance(one: Mapping[str, Tensor], other: Sequence[Tensor] | Mapping[str, Tensor]) -> float:
    values = other.values() if isinstance(other, Mapping) else other
    return max(float((a.detach() - b.detach()).abs().max()) for a, b in zip(one.values(), values, strict=True))


# Plain formulas for golden trajectories: no module, no optimizer, no loader of the package


def start(model: nn.Module) -> list[Tensor]:
    """Leaves for a trajectory by hand."""
    return [p.detach().clone().requires_grad_(True) for p in model.parameters()]


def logits_by_hand(parameters: Sequence[Tensor], x: Tensor) -> Tensor:
    w1, b1, w2, b2 = parameters
    return (x @ w1.T + b1).tanh() @ w2.T + b2


def conv_logits_by_hand(parameters: Sequence[Tensor], x: Tensor) -> Tensor:
    """What :func:`conv_net` computes, pixel by pixel."""
    kernel, bias, weight, shift = parameters
    places = [[(x[:, 0, i : i + 3, j : j + 3], kernel[:, 0]) for j in range(3)] for i in range(3)]
    maps = torch.stack([torch.stack([torch.einsum("nab,oab->no", *part) for part in row], -1) for row in places], -2)
    return (maps + bias[None, :, None, None]).tanh().flatten(1) @ weight.T + shift


def cross_entropy_by_hand(logits: Tensor, y: Tensor) -> Tensor:
    return (logits.logsumexp(1) - logits.gather(1, y[:, None])[:, 0]).mean()


def divergence_by_hand(teacher: Tensor, student: Tensor) -> Tensor:
    """The mean Kullback-Leibler divergence of a student's answers from a teacher's; both as logits."""
    p, q = teacher.softmax(1), student.softmax(1)
    return (p * (p.log() - q.log())).sum(1).mean()


def loss_by_hand(parameters: Sequence[Tensor], context: UnlearningContext, ids: Tensor, y: Tensor | None = None) -> Tensor:
    labels = context.y[ids] if y is None else y
    return cross_entropy_by_hand(logits_by_hand(parameters, context.x.values[ids]), labels)


class Shuffles:
    """The passes over a partition, drawn from the same stream as the package's batches, cut by hand."""

    def __init__(self, context: UnlearningContext, role: str, ids: Tensor | None = None, batch_size: int | None = None) -> None:
        self.ids = context.partitions[role] if ids is None else ids
        self.batch_size = batch_size or context.batch_size
        self.generator = context.streams.torch("shuffle", role)

    def one_pass(self) -> list[Tensor]:
        order = torch.randperm(len(self.ids), generator=self.generator)
        return [self.ids[order[i : i + self.batch_size]] for i in range(0, len(order), self.batch_size)]

    def cycled(self, n_batches: int) -> list[Tensor]:
        given: list[Tensor] = []
        while len(given) < n_batches:
            given += self.one_pass()
        return given[:n_batches]


class SgdByHand:
    """``v <- mu v + (g + lambda w); w <- w - lr v``."""

    def __init__(self, parameters: list[Tensor], lr: float, momentum: float = 0.0, weight_decay: float = 0.0) -> None:
        self.parameters, self.lr, self.momentum, self.weight_decay = parameters, lr, momentum, weight_decay
        self.velocity: list[Tensor | None] = [None] * len(parameters)

    def step(self, loss: Tensor) -> None:
        self.step_along(torch.autograd.grad(loss, self.parameters))

    def step_along(self, gradients: Sequence[Tensor]) -> None:
        with torch.no_grad():
            for i, (p, g) in enumerate(zip(self.parameters, gradients, strict=True)):
                g = g + self.weight_decay * p
                v = self.velocity[i]
                v = g if v is None else self.momentum * v + g
                self.velocity[i] = v
                p -= self.lr * v


# Memorised samples


@dataclass(frozen=True, eq=False)
class Memorised:
    """A network that has learned wrong labels by heart, one that never saw them, and their task."""

    original: nn.Module
    gold: nn.Module
    task: UnlearningContext

    def accuracy(self, model: nn.Module, partition: str) -> float:
        ids = self.task.partitions[partition]
        with torch.no_grad():
            return float((model.eval()(self.task.x.values[ids]).argmax(1) == self.task.y[ids]).float().mean())

    def check_effect(self, unlearner: Unlearner, *, gap: float = 0.6, retain_at_least: float = 0.85) -> None:
        """The forget accuracy moves towards gold: at most ``gap`` of the original's distance is left, and the rest still works."""
        model = unlearned(unlearner, self.original, self.task)
        before, after = (self.accuracy(m, "forget") - self.accuracy(self.gold, "forget") for m in (self.original, model))
        assert before > 0.5
        assert abs(after) < gap * before
        assert self.accuracy(model, "retain") >= retain_at_least


@functools.cache
def memorised() -> Memorised:
    """Three clusters; the 12 samples to forget carry the label of another cluster."""
    generator = torch.Generator().manual_seed(0)
    n, dim = 132, 12
    truth = torch.arange(n) % 3
    centres = 1.6 * torch.randn(3, dim, generator=generator)
    x = centres[truth] + torch.randn(n, dim, generator=generator)
    y = truth.clone()
    y[:12] = (truth[:12] + 1) % 3
    partitions = {"forget": range(12), "retain": range(12, 108), "train": range(108), "validation": range(108, 132)}
    context = make_task(x, y, partitions, batch_size=16)
    return Memorised(_fit(context, range(108)), _fit(context, range(12, 108)), context)


def wide_net(seed: int = 0) -> nn.Sequential:
    with isolated(seed):
        return nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 3))


def _fit(context: UnlearningContext, ids: range) -> nn.Module:
    model = wide_net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    x, y = context.x.values[list(ids)], context.y[list(ids)]
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval()


# Checks that hold for every method


def check_forget_sizes(unlearner: Unlearner, *, kinds: Sequence[Task] = ("classification", "binary", "multilabel")) -> None:
    """Forget sets of 0, 1, 3 (below a batch) and 6 samples work, with BatchNorm, for every kind of task."""
    for kind, n_forget in _each(kinds, (0, 1, 3, 6)):
        model = norm_net(n_outputs=1 if kind == "binary" else 3)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        result = unlearned(unlearner, model, tiny_task(n_forget, kind=kind))
        assert all(bool(torch.isfinite(value.double()).all()) for value in result.state_dict().values())
        assert same(before, model.state_dict())
        assert not result.training


def check_whole_class(unlearner: Unlearner) -> None:
    """Forgetting every sample of a class works."""
    context = tiny_task()
    of_class = [i for i in range(24) if int(context.y[i]) == 0]
    others = [i for i in range(24) if int(context.y[i]) != 0]
    whole = make_task(
        context.x.values, context.y, {"forget": of_class, "retain": others, "train": range(24), "validation": range(24, 32)}
    )
    assert not same(weights(tiny_net()), weights(unlearned(unlearner, tiny_net(), whole)))


def _each(kinds: Sequence[Task], sizes: Sequence[int]) -> Iterator[tuple[Task, int]]:
    return ((kind, size) for kind in kinds for size in sizes)
