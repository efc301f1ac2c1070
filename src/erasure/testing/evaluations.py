"""Small evaluations in memory: three linear models and the data they are judged on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from erasure.measures.contract import Candidate, Evaluation, Measure, ModelKind, Outputs, forward_pass
from erasure.training.batches import TensorColumn
from erasure.training.calls import Criterion
from erasure.training.predictor import ModelInput
from erasure.training.randomness import Streams
from erasure.types import TaskKind

__all__ = ["Bench", "RecordedNames", "bench"]

_N_FEATURES, _N_CLASSES = 6, 3
_SIZES: Mapping[str, int] = {"forget": 40, "retain": 120, "test": 80, "validation": 40}
_SCALE = 2.0
_SLOW_S, _FAST_S = 2.0, 1.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Bench:
    """Data, partitions and models by name; change one with ``dataclasses.replace`` and ask for an evaluation.

    Args:
        task: How labels are read.
        x: Inputs, ``(N, d)``.
        y: Labels.
        partitions: Ids by name: ``forget``, ``retain``, ``train``, ``test``, ``validation`` and ``all``.
        models: ``original`` (has seen the training set), ``gold`` (has seen the retain set), ``fair`` and ``poor`` (gold with a
            little and with much noise on its weights).
        seed: Seed of the measure's streams.
        batch_size: Batch size of the data, and of the models' passes over it.
        read: Partitions that were looked at, by id or through a model.
        compared: Reference models that were looked at.
    """

    task: TaskKind
    x: Tensor
    y: Tensor
    partitions: Mapping[str, Tensor]
    models: Mapping[str, nn.Module]
    seed: int = 0
    batch_size: int = 64
    read: set[str] = field(default_factory=set)
    compared: set[str] = field(default_factory=set)

    @property
    def model_input(self) -> ModelInput:
        """Shape of the data."""
        n_classes = 2 if self.task == "binary" else _N_CLASSES
        return ModelInput(tuple(self.x.shape[1:]), n_classes, self.task)

    def outputs(self, model: str, partition: str) -> Outputs:
        """What a model says about a partition."""
        return forward_pass(
            self.models[model],
            x=TensorColumn(self.x),
            y=self.y,
            ids=self.partitions[partition],
            criterion=Criterion(self.task),
            task=self.task,
            batch_size=self.batch_size,
        )

    def candidate(self, model: str, kind: ModelKind, *, elapsed_s: float = _SLOW_S, note: str = "") -> Candidate:
        """A model under measurement; what is looked at is noted under ``note``."""

        def outputs(partition: str) -> Outputs:
            self.read.add(partition)
            if note:
                self.compared.add(note)
            return self.outputs(model, partition)

        def load() -> nn.Module:
            if note:
                self.compared.add(note)
            return self.models[model]

        return Candidate(kind=kind, load=load, outputs=outputs, elapsed_s=elapsed_s, peak_memory_mib=100 * elapsed_s)

    def evaluation(
        self, measure: Measure, model: str = "fair", kind: ModelKind = "unlearned", *, elapsed_s: float = _FAST_S
    ) -> Evaluation:
        """The evaluation in which ``measure`` judges a model, with the references it declares and no others."""
        references: dict[str, Candidate] = {name: self.candidate(name, name, note=name) for name in measure.references}
        return Evaluation(
            subject=self.candidate(model, kind, elapsed_s=elapsed_s),
            references=references,
            partition_ids=RecordedNames(self.partitions, self.read.add),
            x=TensorColumn(self.x),
            y=self.y,
            model_input=self.model_input,
            criterion=Criterion(self.task),
            streams=Streams(self.seed),
            batch_size=self.batch_size,
        )

    def with_partitions(self, change: Callable[[str, Tensor], Tensor]) -> Bench:
        """The same models on other partitions: ``change`` gets each name and its ids."""
        changed = {name: change(name, ids) for name, ids in self.partitions.items()}
        return replace(self, partitions=changed, read=set(), compared=set())


class RecordedNames(Mapping[str, Tensor]):
    """Partitions that tell ``listener`` the name of each one whose ids are looked at."""

    def __init__(self, partitions: Mapping[str, Tensor], listener: Callable[[str], Any]) -> None:
        self._partitions, self._listener = partitions, listener

    def __getitem__(self, name: str) -> Tensor:
        ids = self._partitions[name]
        self._listener(name)
        return ids

    def __iter__(self) -> Iterator[str]:
        return iter(self._partitions)

    def __len__(self) -> int:
        return len(self._partitions)

    def __contains__(self, name: object) -> bool:
        return name in self._partitions


def bench(task: TaskKind = "classification", *, forget_class: bool = False, seed: int = 0) -> Bench:
    """Blobs with noisy labels, and linear models fitted to them in closed form.

    Args:
        task: How labels are read.
        forget_class: Whether the forget set is all of the last class, with none of it left to retain.
        seed: Seed of everything.
    """
    generator = torch.Generator().manual_seed(seed)
    n = sum(_SIZES.values())
    n_classes = 2 if task == "binary" else _N_CLASSES
    centres = 1.5 * torch.randn(n_classes, _N_FEATURES, generator=generator)
    classes = torch.arange(n) % n_classes
    x = centres[classes] + torch.randn(n, _N_FEATURES, generator=generator)
    wrong = torch.rand(n, generator=generator) < 0.15
    y = torch.where(wrong, (classes + 1) % n_classes, classes)
    if task == "multilabel":
        y = (x @ torch.randn(_N_FEATURES, _N_CLASSES, generator=generator) > 0).to(torch.int64)
    order = torch.randperm(n, generator=generator)
    cuts = torch.split(order, list(_SIZES.values()))
    partitions = dict(zip(_SIZES, cuts, strict=True))
    train = torch.cat([partitions["forget"], partitions["retain"]])
    if forget_class:
        gone = y[train] == n_classes - 1
        partitions["forget"], partitions["retain"] = train[gone], train[~gone]
    partitions |= {"train": train, "all": torch.arange(n)}
    gold = _fitted(task, x, y, partitions["retain"], n_classes)
    original = _fitted(task, x, y, train, n_classes)
    # Measured on the original: the gold of a single class has weights of almost zero.
    spread = float(original.state_dict()["weight"].std())
    models = {
        "original": original,
        "gold": gold,
        "fair": _noisy(gold, 0.3 * spread, generator),
        "poor": _noisy(gold, 3.0 * spread, generator),
    }
    return Bench(task=task, x=x, y=y, partitions=partitions, models=models, seed=seed)


def _fitted(task: TaskKind, x: Tensor, y: Tensor, ids: Tensor, n_classes: int) -> nn.Module:
    """Ridge regression on labels of -1 and 1, as logits."""
    inputs = torch.cat([x[ids], torch.ones(len(ids), 1)], dim=1).double()
    if task == "classification":
        wanted = 2.0 * nn.functional.one_hot(y[ids], n_classes).double() - 1
    else:
        wanted = 2.0 * y[ids].double().reshape(len(ids), -1) - 1
    gram = inputs.T @ inputs + torch.eye(inputs.shape[1], dtype=torch.float64)
    weight = _SCALE * torch.linalg.solve(gram, inputs.T @ wanted)
    return _linear(weight[:-1].T.float(), weight[-1].float())


def _linear(weight: Tensor, bias: Tensor) -> nn.Module:
    # On the meta device no generator is drawn from.
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    layer.load_state_dict({"weight": weight, "bias": bias}, assign=True)
    return layer.eval()


def _noisy(model: nn.Module, scale: float, generator: torch.Generator) -> nn.Module:
    state = model.state_dict()
    weight, bias = state["weight"], state["bias"]
    return _linear(weight + scale * torch.randn(weight.shape, generator=generator), bias)
