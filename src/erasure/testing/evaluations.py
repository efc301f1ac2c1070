"""Small evaluations in memory: three linear models and the data they are judged on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from erasure.functional.tokens import ANSWER, END, PROMPT, answer_tokens
from erasure.measures.contract import Evaluation, Measure, ModelRole, ModelUnderTest, Outputs, forward_pass
from erasure.training.batches import TensorColumn
from erasure.training.calls import Criterion
from erasure.training.predictor import ModelInput
from erasure.training.randomness import Streams
from erasure.types import Task

__all__ = ["RecordedNames", "ToyEvaluation", "bench", "language_bench"]

_N_FEATURES, _N_CLASSES, _N_TOKENS = 6, 3, 40
_SIZES: Mapping[str, int] = {"forget": 40, "retain": 120, "test": 80, "validation": 40}
_SCALE = 2.0
_SLOW_S, _FAST_S = 2.0, 1.0


@dataclass(frozen=True, eq=False, kw_only=True)
class ToyEvaluation:
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
        facts: Names of classes, groups and tokens.
        read: Partitions that were looked at, by id or through a model.
        compared: Reference models that were looked at.
    """

    task: Task
    x: Tensor
    y: Tensor
    partitions: Mapping[str, Tensor]
    models: Mapping[str, nn.Module]
    seed: int = 0
    batch_size: int = 64
    facts: Mapping[str, Any] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)
    compared: set[str] = field(default_factory=set)

    @property
    def model_input(self) -> ModelInput:
        """Shape of the data."""
        n_classes = {"binary": 2, "generation": _N_TOKENS}.get(self.task, _N_CLASSES)
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

    def candidate(self, model: str, kind: ModelRole, *, elapsed_s: float = _SLOW_S, note: str = "") -> ModelUnderTest:
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

        return ModelUnderTest(role=kind, load=load, outputs=outputs, elapsed_s=elapsed_s, peak_memory_mib=100 * elapsed_s)

    def evaluation(
        self, measure: Measure, model: str = "fair", kind: ModelRole = "unlearned", *, elapsed_s: float = _FAST_S
    ) -> Evaluation:
        """The evaluation in which ``measure`` judges a model, with the references it declares and no others."""
        references: dict[str, ModelUnderTest] = {name: self.candidate(name, name, note=name) for name in measure.references}
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
            facts=self.facts,
        )

    def with_partitions(self, change: Callable[[str, Tensor], Tensor]) -> ToyEvaluation:
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


def bench(task: Task = "classification", *, forget_class: bool = False, seed: int = 0) -> ToyEvaluation:
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
    return ToyEvaluation(task=task, x=x, y=y, partitions=partitions, models=models, seed=seed)


def _fitted(task: Task, x: Tensor, y: Tensor, ids: Tensor, n_classes: int) -> nn.Module:
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


class _NextToken(nn.Module):
    """A causal model of pairs of tokens: logits of the next one are the row of a table for the last."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(table)

    def forward(self, x: Tensor) -> Tensor:
        ids, n_before = x[:, 0], (x[:, 1] == PROMPT).sum(1, keepdim=True)
        n_tokens = int((x[:, 1] >= ANSWER).sum(1).max()) if len(x) else 1
        places = (n_before - 1 + torch.arange(n_tokens)).clamp_max(ids.shape[1] - 1)
        return self.table[ids.gather(1, places)]

    def generate(self, x: Tensor, *, end: int, max_new_tokens: int) -> list[list[int]]:
        """The most likely tokens one after the other."""
        answers = []
        for ids, roles in zip(x[:, 0], x[:, 1], strict=True):
            last = ids[(roles == PROMPT).nonzero()[-1, 0]]
            answer: list[int] = []
            while len(answer) < max_new_tokens:
                last = self.table[last].argmax()
                if int(last) == end:
                    break
                answer.append(int(last))
            answers.append(answer)
        return answers


def language_bench(*, seed: int = 0) -> ToyEvaluation:
    """Prompts and answers over 40 tokens, in several versions, and tables of pairs of tokens that have seen more or fewer of them.

    Token 0 ends an answer. There are the answer that is learned, an alternate, a paraphrase, one to the rephrased prompt and two wrong
    ones.

    Args:
        seed: Seed of everything.
    """
    generator = torch.Generator().manual_seed(seed)
    sizes = {"forget": 40, "retain": 120, "test": 80, "validation": 40}
    n = sum(sizes.values())
    length, n_before = 9, 3
    versions = []
    prompts = torch.randint(1, _N_TOKENS, (n, n_before), generator=generator)
    following = torch.randperm(_N_TOKENS - 1, generator=generator) + 1
    lengths = n_before + 3 + torch.arange(n) % 4
    places = torch.arange(length)
    roles = torch.where(places < n_before, PROMPT, ANSWER).expand(n, -1)
    roles = torch.where(places == lengths.unsqueeze(1) - 1, END, roles)
    roles = torch.where(places >= lengths.unsqueeze(1), 0, roles)
    for version in range(6):
        ids = torch.zeros(n, length, dtype=torch.int64)
        ids[:, :n_before] = prompts
        for place in range(n_before, length):
            drawn = torch.randint(1, _N_TOKENS, (n,), generator=generator)
            regular = torch.rand(n, generator=generator) < (0.7 if version in {0, 2, 3} else 0.1)
            ids[:, place] = torch.where(regular, following[ids[:, place - 1] - 1], drawn)
        versions += [torch.where((roles == END) | (roles == 0), 0, ids), roles]
    x = torch.stack(versions, dim=1)
    partitions = dict(zip(sizes, torch.split(torch.randperm(n, generator=generator), list(sizes.values())), strict=True))
    train = torch.cat([partitions["forget"], partitions["retain"]])
    partitions |= {"train": train, "all": torch.arange(n)}
    gold = _counted(x, partitions["retain"])
    noise = torch.randn(gold.shape, generator=generator)
    tables = {"original": _counted(x, train), "gold": gold, "fair": gold + 0.3 * noise, "poor": 0.2 * gold + 2 * noise}
    pieces = ("", *(f" {chr(97 + token % 26)}{token}" for token in range(1, _N_TOKENS)))
    return ToyEvaluation(
        task="generation",
        x=x,
        y=answer_tokens(x),
        partitions=partitions,
        models={name: _NextToken(table).eval() for name, table in tables.items()},
        seed=seed,
        facts={"token_names": pieces},
    )


def _counted(x: Tensor, ids: Tensor) -> Tensor:
    """Half the log-frequencies of pairs of tokens in the learned answers of some samples."""
    counts = torch.full((_N_TOKENS, _N_TOKENS), 0.05)
    tokens, roles = x[ids, 0], x[ids, 1]
    is_learned = roles[:, 1:] >= ANSWER
    before, after = tokens[:, :-1][is_learned], tokens[:, 1:][is_learned]
    counts.index_put_((before, after), torch.ones(len(before)), accumulate=True)
    return (counts / counts.sum(1, keepdim=True)).log() / 2 + 1e-3 * torch.arange(_N_TOKENS)
