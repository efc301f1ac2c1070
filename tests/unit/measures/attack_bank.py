"""A small world in memory where shadow models are really trained, answering measures as the engine does."""

from dataclasses import dataclass, field

import torch

from erasure.measures.contract import Evaluation, ModelUnderTest, forward_pass
from erasure.measures.requested_models import Shadow, UnlearnedShadow
from erasure.models.mlp import MLP
from erasure.stages.blocks import ModelStack, forgotten_ids, seen_ids
from erasure.training.batches import TensorColumn
from erasure.training.calls import Criterion, Optimizer
from erasure.training.ensemble import train_together
from erasure.training.predictor import ModelInput, Predictor, build_model, train
from erasure.training.randomness import Streams, derive

SIZES = {"forget": 40, "test": 60, "retain": 60, "population": 50}
ROOT = 11
_RECIPE = Predictor(model=MLP(hidden_sizes=(32,)), epochs=40, optimizer=Optimizer.of("Adam", lr=0.01), batch_size=32)
_REPAIR = _RECIPE.replace(epochs=10)


def task_data(task="classification", seed=0):
    """Noisy labels of inputs in 12 dimensions: a third can only be remembered. Returns inputs, labels and which are remembered."""
    generator = torch.Generator().manual_seed(seed)
    n = sum(SIZES.values())
    n_classes = 2 if task == "binary" else 3
    x = torch.randn(n, 12, generator=generator)
    if task == "multilabel":
        y = (x[:, :2] + 0.7 * torch.randn(n, 2, generator=generator) > 0).long()
        return x, y, torch.zeros(n, dtype=torch.bool)
    y = (x @ torch.randn(12, n_classes, generator=generator)).argmax(1)
    noisy = torch.rand(n, generator=generator) < 1 / 3
    shift = torch.randint(1, n_classes, (n,), generator=generator)
    return x, torch.where(noisy, (y + shift) % n_classes, y), noisy


@dataclass
class World:
    """Data, partitions, and every model that was asked for so far, each trained once.

    Subjects: ``original``; ``gold`` (retrained; ``gold 1``, ``gold 2``, … with other seeds); ``identity`` (nothing is forgotten);
    ``repaired`` (trained on with the retain set).
    """

    task: str = "classification"
    seed: int = 0
    order: int | None = None
    batch_size: int = 64
    models: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)

    def __post_init__(self):
        self.x, self.y, self.noisy = task_data(self.task, self.seed)
        starts = [0, *torch.tensor(list(SIZES.values())).cumsum(0).tolist()]
        self.partitions = {name: torch.arange(starts[k], starts[k + 1]) for k, name in enumerate(SIZES)}
        if self.order is not None:
            generator = torch.Generator().manual_seed(self.order)
            self.partitions = {n: ids[torch.randperm(len(ids), generator=generator)] for n, ids in self.partitions.items()}
        self.input = ModelInput((12,), {"binary": 2, "classification": 3, "multilabel": 2}[self.task], self.task)
        self.criterion = Criterion(self.task)

    # Models

    def _train(self, wanted):
        """Train all that is missing together; ``wanted`` is key to (ids, seed)."""
        missing = {key: how for key, how in wanted.items() if key not in self.models}
        # Models that train together must have as many samples.
        for size in {len(ids) for ids, _ in missing.values()}:
            group = {key: how for key, how in missing.items() if len(how[0]) == size}
            seeds = [seed for _, seed in group.values()]
            made = train_together(
                [build_model(_RECIPE.model, self.input, seed, torch.device("cpu")) for seed in seeds],
                _RECIPE,
                x=TensorColumn(self.x),
                y=self.y,
                ids=[ids for ids, _ in group.values()],
                criterion=self.criterion,
                seeds=seeds,
                batch_size=32,
            )
            self.models |= dict(zip(group, made, strict=True))

    def _repaired(self, model, ids, seed):
        copy = build_model(_RECIPE.model, self.input, 0, torch.device("cpu"))
        copy.load_state_dict(model.state_dict())
        return train(copy, _REPAIR, x=TensorColumn(self.x), y=self.y, ids=ids, criterion=self.criterion, seed=seed, batch_size=32)

    def subject(self, name):
        parts = self.partitions
        train_ids = torch.cat([parts["forget"], parts["retain"]]).sort().values
        key = "original" if name in {"identity", "repaired"} else name
        number = int(key.partition(" ")[2] or 0)
        ids = train_ids if key.startswith("original") else parts["retain"].sort().values
        self._train({key: (ids, derive(99, key.partition(" ")[0], number))})
        if name == "repaired" and name not in self.models:
            self.models[name] = self._repaired(self.models["original"], parts["retain"].sort().values, 5)
        return self.models["original" if name == "identity" else name]

    def make(self, requests, way):
        """Train the requested shadow models; ``way`` is what the subject has gone through."""
        block = ModelStack(requests=tuple(requests), seeds=(0,), way="train", root=ROOT)
        shadows = {r.origin if isinstance(r, UnlearnedShadow) else r for r in requests}
        assert all(type(each) is Shadow for each in shadows)
        wanted = {each: (seen_ids(each, block, self.partitions), derive(7, "shadow", each.number)) for each in shadows}
        self._train(wanted)
        gone = {r: forgotten_ids(r, block, self.partitions) for r in requests}
        kept = {r: (ids := seen_ids(r, block, self.partitions))[~torch.isin(ids, gone[r])] for r in requests}
        unlearned = [r for r in requests if isinstance(r, UnlearnedShadow)]
        if way == "gold":
            self._train({(way, r): (kept[r], derive(8, "again", r.number)) for r in unlearned})
        for r in unlearned:
            if way in {"original", "identity"}:
                self.models[way, r] = self.models[r.origin]
            elif way == "repaired" and (way, r) not in self.models:
                self.models[way, r] = self._repaired(self.models[r.origin], kept[r], derive(9, "repair", r.number))
        return block

    def says(self, model, partition):
        return forward_pass(
            model,
            x=TensorColumn(self.x),
            y=self.y,
            ids=self.partitions[partition],
            criterion=self.criterion,
            task=self.task,
            batch_size=self.batch_size,
        )

    # Evaluations

    def evaluation(self, measure, subject="original", seed=0):
        """What ``measure`` gets to see when it judges a subject; only what it has declared is answered."""
        kind = subject.partition(" ")[0]
        kind = kind if kind in {"original", "gold"} else "unlearned"
        declared = dict(measure.requests(kind))
        way = subject.partition(" ")[0]
        block = self.make(list(declared), way)
        references = {name: self._candidate(name, name) for name in measure.references}
        return Evaluation(
            subject=self._candidate(subject, kind),
            references=references,
            partition_ids=self.partitions,
            x=TensorColumn(self.x),
            y=self.y,
            model_input=self.input,
            criterion=self.criterion,
            streams=Streams(seed),
            provider=Answers(self, declared, block, way),
        )

    def _candidate(self, name, kind):
        return ModelUnderTest(
            role=kind, load=lambda: self.subject(name), outputs=lambda p: self.says(self.subject(name), p), elapsed_s=1.0
        )

    def values(self, measure, subject="original", **options):
        """The values by name."""
        return {value.name or measure.title: value for value in measure.measure(self.evaluation(measure, subject, **options))}


@dataclass
class Answers:
    """The provider."""

    world: World
    declared: dict
    block: ModelStack
    way: str

    def outputs(self, request, partition):
        assert partition in self.declared[request]
        self.world.asked.append((request, partition))
        return self.world.says(self.load(request), partition)

    def load(self, request):
        key = (self.way, request) if isinstance(request, UnlearnedShadow) else request
        return self.world.models[key]

    def seen(self, request):
        assert request in self.declared
        return seen_ids(request, self.block, self.world.partitions)

    def forgotten(self, request):
        assert request in self.declared
        return forgotten_ids(request, self.block, self.world.partitions)
