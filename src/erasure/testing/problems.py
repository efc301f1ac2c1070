"""Small unlearning problems in memory, and a bank of models that trains on demand."""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from erasure.component import canonical
from erasure.functional.tokens import ANSWER, END, PROMPT, answer_tokens
from erasure.training.batches import Column, TensorColumn
from erasure.training.calls import Criterion, Optimizer
from erasure.training.history import StepListener
from erasure.training.predictor import Model, ModelInput, Predictor, build_model, train
from erasure.training.randomness import Streams
from erasure.training.resuming import Recipe, Resumed, resumed
from erasure.types import Task
from erasure.unlearners.contract import UnlearningContext, model_digest

__all__ = ["ForgetSet", "Kind", "MemoryModels", "RecordingColumn", "TinyNetwork", "ToyProblem", "problem"]

Kind: TypeAlias = Literal["table", "image", "pair", "text", "language"]
"""An MLP with dropout, a CNN with BatchNorm, an MLP that returns ``(features, logits)``, an embedding of tokens, or a causal language
model, whose task is generation."""

ForgetSet: TypeAlias = Literal["none", "one", "three", "some", "class"]
"""0, 1, 3 or 9 samples of mixed classes, or every sample of the last class."""

_N_CLASSES, _N_TRAIN, _N_TEST = 3, 36, 12  # and as many for validation as for the test
_N_TOKENS = 24
_SIZES: Mapping[str, int] = {"none": 0, "one": 1, "three": 3, "some": 9}


class _Pair(nn.Module):
    def __init__(self, n_inputs: int, n_outputs: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(n_inputs, 8), nn.ReLU())
        self.head = nn.Linear(8, n_outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(x)
        return features, self.head(features)


class _Logits(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits


class _MeanEmbedding(nn.Module):
    def __init__(self, n_outputs: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 6)
        self.head = nn.Linear(6, n_outputs)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.embedding(x).mean(1))
        return logits


class _Block(nn.Module):
    """Mixes each token with those before it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up_proj, self.down_proj = nn.Linear(width, 2 * width), nn.Linear(2 * width, width, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        before = h.cumsum(1) / torch.arange(1, h.shape[1] + 1, device=h.device).reshape(1, -1, 1)
        mixed: Tensor = h + self.down_proj(torch.relu(self.up_proj(before)))
        return mixed


class _CausalNetwork(nn.Module):
    """Gives logits for the tokens of answers, as the language models of this package do."""

    def __init__(self, n_tokens: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_tokens, 8)
        self.layers = nn.ModuleList(_Block(8) for _ in range(2))
        self.head = nn.Linear(8, n_tokens, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embedding(x[:, 0])
        for layer in self.layers:
            h = layer(h)
        n_before = (x[:, 1] == PROMPT).sum(1, keepdim=True)
        n_tokens = int((x[:, 1] >= ANSWER).sum(1).max()) if len(x) else 1
        places = (n_before - 1 + torch.arange(n_tokens, device=x.device)).clamp_max(h.shape[1] - 1)
        logits: Tensor = self.head(h.gather(1, places.unsqueeze(-1).expand(-1, -1, h.shape[-1])))
        return logits


@dataclass(frozen=True, kw_only=True)
class TinyNetwork(Model):
    """A network of a few hundred weights.

    Args:
        form: Which of the five.
    """

    form: Kind = "table"

    def build(self, data: ModelInput) -> nn.Module:
        """The network with fresh weights."""
        width, n_outputs = data.x_shape[0], data.n_outputs
        if self.form == "language":
            return _CausalNetwork(n_outputs)
        if self.form == "table":
            return _Logits(nn.Linear(width, 12), nn.ReLU(), nn.Dropout(0.1), nn.Linear(12, n_outputs))
        if self.form == "image":
            pooled = nn.Sequential(nn.AvgPool2d(2), nn.Flatten())
            return _Logits(nn.Conv2d(width, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), pooled, nn.Linear(16, n_outputs))
        return _Pair(width, n_outputs) if self.form == "pair" else _MeanEmbedding(n_outputs)


class RecordingColumn:
    """A column that remembers which samples were read."""

    def __init__(self, column: Column) -> None:
        self.column = column
        self.gathered: set[int] = set()

    def __len__(self) -> int:
        return len(self.column)

    def gather(self, ids: Tensor) -> Any:
        """The samples; notes their ids."""
        self.gathered.update(ids.tolist())
        return self.column.gather(ids)

    def to(self, device: torch.device) -> RecordingColumn:
        """The same column on another device, with a record of its own."""
        return RecordingColumn(self.column.to(device))


@dataclass(eq=False)
class MemoryModels:
    """Models of one predictor, trained when they are asked for; a cache that lives as long as the bank.

    Args:
        predictor: The recipe.
        x: Inputs.
        y: Labels.
        partitions: Ids by name.
        data: What the model must fit.
        criterion: The loss.
        seed: Seed of the original, of every retrained model and of the replay.
        batch_size: Samples per step.
    """

    predictor: Predictor
    x: Column
    y: Tensor
    partitions: Mapping[str, Tensor]
    data: ModelInput
    criterion: Criterion
    seed: int = 0
    batch_size: int = 8
    cache: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def fresh(self, seed: int) -> nn.Module:
        """A randomly initialised network."""
        return build_model(self.predictor.model, self.data, seed, self.y.device).eval()

    def trained(self, partition: str, on_step: StepListener | None = None) -> nn.Module:
        """A network trained from scratch on a partition."""
        return train(
            self.fresh(self.seed),
            self.predictor,
            x=self.x,
            y=self.y,
            ids=self.partitions[partition],
            criterion=self.criterion,
            seed=self.seed,
            batch_size=self.batch_size,
            validation_ids=self.partitions.get(self.predictor.validation_set or ""),
            on_step=on_step,
        )

    def retrained(self, partition: str) -> tuple[nn.Module, float]:
        """A network trained from scratch on a partition, and the seconds it took."""
        start = time.perf_counter()
        return self.trained(partition), time.perf_counter() - start

    def replay(self, on_step: StepListener) -> float:
        """Train the original again and show every update."""
        start = time.perf_counter()
        self.trained(self.predictor.training_set, on_step)
        return time.perf_counter() - start

    def resumed(self, original: nn.Module, partition: str, epochs: int | None) -> Resumed:
        """The original's training taken up with a partition."""
        recipe = Recipe(
            build=lambda: self.fresh(self.seed),
            predictor=self.predictor,
            x=self.x,
            y=self.y,
            ids=self.partitions[self.predictor.training_set],
            criterion=self.criterion,
            seed=self.seed,
            batch_size=self.batch_size,
            digest=model_digest,
            cached=self.cached,
        )
        return resumed(recipe, original, self.partitions[partition], epochs)

    def cached(self, name: str, content: Any, compute: Callable[[], dict[str, Tensor]]) -> tuple[dict[str, Tensor], float]:
        """Tensors by what they depend on."""
        start = time.perf_counter()
        key = hashlib.sha256(json.dumps([name, canonical(content)]).encode()).hexdigest()
        if key not in self.cache:
            self.cache[key] = compute()
        return self.cache[key], time.perf_counter() - start


@dataclass(frozen=True, eq=False, kw_only=True)
class ToyProblem:
    """A trained model and what an unlearner is given beside it.

    Args:
        model: The original, trained on ``train``.
        context: Partitions ``train``, ``forget``, ``retain``, ``test`` and ``validation``.
        models: The task's models.
        column: The task's inputs, which also the bank reads.
    """

    model: nn.Module
    context: UnlearningContext
    models: MemoryModels
    column: RecordingColumn


def problem(
    kind: Kind = "table",
    forget: ForgetSet = "some",
    task: Task = "classification",
    *,
    seed: int = 0,
    batch_size: int = 8,
    recipe: Predictor | None = None,
) -> ToyProblem:
    """A problem of 36 training, 12 test and 12 validation samples; the same arguments give the same problem.

    Args:
        kind: Network and inputs.
        forget: What is to be forgotten; the rest of the training set is retained.
        task: How labels are read.
        seed: Seed of the method; data and original do not depend on it.
        batch_size: Samples per step, of the method and of the training.
        recipe: How the original is trained, if it is not to be a network of the kind.
    """
    x, y = _data(kind, task)
    train_ids = torch.arange(_N_TRAIN)
    # Classes alternate along the ids: consecutive samples are of mixed classes.
    is_forgotten = train_ids % _N_CLASSES == _N_CLASSES - 1 if forget == "class" else train_ids < _SIZES[forget]
    partitions = {
        "train": train_ids,
        "forget": train_ids[is_forgotten],
        "retain": train_ids[~is_forgotten],
        "test": torch.arange(_N_TRAIN, _N_TRAIN + _N_TEST),
        "validation": torch.arange(_N_TRAIN + _N_TEST, _N_TRAIN + 2 * _N_TEST),
    }
    modality = {"pair": "table", "language": "text"}.get(kind, kind)
    n_classes = _classes(kind, task)
    data = ModelInput(x_shape=tuple(x.shape[1:]), n_classes=n_classes, task=task, modality=modality)
    column = RecordingColumn(TensorColumn(x))
    bank = MemoryModels(
        predictor=_recipe(kind, recipe),
        x=column,
        y=y,
        partitions=partitions,
        data=data,
        criterion=Criterion(task),
        batch_size=batch_size,
    )
    given = UnlearningContext(
        x=column,
        y=y,
        partitions=partitions,
        model_input=data,
        criterion=Criterion(task),
        streams=Streams(seed),
        batch_size=batch_size,
        models=bank,
    )
    original = bank.fresh(0)
    original.load_state_dict(_original(kind, task, batch_size, recipe))
    return ToyProblem(model=original, context=given, models=bank, column=column)


def _recipe(kind: Kind, given: Predictor | None) -> Predictor:
    return given or Predictor(model=TinyNetwork(form=kind), epochs=6, optimizer=Optimizer.of("Adam", lr=0.02))


_ORIGINALS: dict[tuple[str, ...], dict[str, Tensor]] = {}


def _original(kind: Kind, task: Task, batch_size: int, recipe: Predictor | None) -> dict[str, Tensor]:
    # The training set is the same whatever is forgotten; a first bank trains the original for all problems of its kind.
    predictor = _recipe(kind, recipe)
    key = (kind, task, str(batch_size), json.dumps(canonical(predictor)))
    if key not in _ORIGINALS:
        x, y = _data(kind, task)
        data = ModelInput(x_shape=tuple(x.shape[1:]), n_classes=_classes(kind, task), task=task)
        partitions = {"train": torch.arange(_N_TRAIN)}
        bank = MemoryModels(predictor, TensorColumn(x), y, partitions, data, Criterion(task), batch_size=batch_size)
        _ORIGINALS[key] = copy.deepcopy(bank.trained("train").state_dict())
    return _ORIGINALS[key]


def _classes(kind: Kind, task: Task) -> int:
    return _N_TOKENS if kind == "language" else 2 if task == "binary" else _N_CLASSES


def _exchanges(generator: torch.Generator, classes: Tensor) -> Tensor:
    """Prompts of four tokens, the last of which tells the class, and answers of two to four tokens, with an alternate."""
    n, start = len(classes), 5 * classes
    ids = torch.randint(15, _N_TOKENS, (n, 9), generator=generator)
    ids[:, 3] = start
    ids[:, 4:] = 1 + start.unsqueeze(1) + torch.arange(5) % 4
    lengths = 6 + torch.arange(n) % 3
    places = torch.arange(9)
    roles = torch.where(places < 4, PROMPT, ANSWER).expand(n, -1)
    last = lengths.unsqueeze(1) - 1
    roles = torch.where(places == last, END, torch.where(places > last, 0, roles))
    alternate = torch.where(roles == ANSWER, 1 + (ids + 7) % 14, ids)
    return torch.stack([torch.where(roles == END, 0, ids), roles, torch.where(roles == END, 0, alternate), roles], dim=1)


def _data(kind: Kind, task: Task) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    n = _N_TRAIN + 2 * _N_TEST
    classes = torch.arange(n) % _N_CLASSES
    if kind == "language":
        x = _exchanges(generator, classes)
        return x, answer_tokens(x)
    if kind == "text":
        x = (classes[:, None] * 5 + torch.randint(0, 9, (n, 7), generator=generator)) % 20
    else:
        shape = (1, 4, 4) if kind == "image" else (6,)
        centres = torch.randn(_N_CLASSES, *shape, generator=generator)
        x = centres[classes] + 1.3 * torch.randn(n, *shape, generator=generator)
    if task == "multilabel":
        y = torch.nn.functional.one_hot(classes, _N_CLASSES).to(torch.float32)
        y[:, 0] = (torch.arange(n) % 2).to(torch.float32)
        return x, y
    # Binary: the last of the three groups is class 1 and can be forgotten as a whole.
    return x, (classes == _N_CLASSES - 1).to(torch.int64) if task == "binary" else classes
