"""Populations of tiny models that are really trained, answering measures as the engine does."""

import copy
from dataclasses import dataclass, field, fields, replace

import torch
from torch import nn

from erasure.experiment.configuration import load_experiment
from erasure.measures.contract import Evaluation, ModelUnderTest, forward_pass
from erasure.measures.requested_models import Original, Repeated, Retrained
from erasure.models.mlp import MLP
from erasure.testing.evaluations import ToyEvaluation
from erasure.training.batches import TensorColumn
from erasure.training.calls import Criterion, Optimizer
from erasure.training.predictor import ModelInput, Predictor, build_model, train
from erasure.training.randomness import Streams, derive
from erasure.workflows.options import RunOptions
from erasure.workflows.run import run_experiment

SIZES = {"forget": 12, "retain": 36, "test": 24}
_RECIPE = Predictor(model=MLP(hidden_sizes=(16,)), epochs=25, optimizer=Optimizer.of("Adam", lr=0.02), batch_size=24)
_REPAIR = _RECIPE.replace(epochs=3)


@dataclass
class Population:
    """Data in 6 dimensions whose labels are partly noise, and every model that was asked for so far, each trained once.

    Subjects: ``original``, ``gold``, ``identity`` (nothing is forgotten) and ``repaired`` (trained on with the retain set).
    """

    task: str = "classification"
    order: int | None = None
    batch_size: int = 64
    models: dict = field(default_factory=dict)
    asked: set = field(default_factory=set)

    def __post_init__(self):
        generator = torch.Generator().manual_seed(4)
        n, n_classes = sum(SIZES.values()), 3 if self.task == "classification" else 2
        self.x = torch.randn(n, 6, generator=generator)
        self.y = (self.x @ torch.randn(6, n_classes, generator=generator)).argmax(1)
        noisy = torch.rand(n, generator=generator) < 0.4
        self.y = torch.where(noisy, (self.y + 1) % n_classes, self.y)
        starts = torch.tensor([0, *SIZES.values()]).cumsum(0).tolist()
        self.partitions = {name: torch.arange(starts[k], starts[k + 1]) for k, name in enumerate(SIZES)}
        self.train_ids = torch.cat([self.partitions["forget"], self.partitions["retain"]])
        self.retain_ids = self.partitions["retain"]
        if self.order is not None:
            shuffle = torch.Generator().manual_seed(self.order)
            self.partitions = {name: ids[torch.randperm(len(ids), generator=shuffle)] for name, ids in self.partitions.items()}
        self.input = ModelInput((6,), n_classes, self.task)
        self.criterion = Criterion(self.task)

    def train(self, recipe, model, ids, seed):
        return train(model, recipe, x=TensorColumn(self.x), y=self.y, ids=ids, criterion=self.criterion, seed=seed, batch_size=24)

    def trained(self, ids, *names):
        seed = derive(3, *names)
        return self.train(_RECIPE, build_model(_RECIPE.model, self.input, seed, torch.device("cpu")), ids, seed)

    def unlearned(self, way, model, *names):
        if way == "identity":
            return model
        return self.train(_REPAIR, copy.deepcopy(model).requires_grad_(True), self.retain_ids, derive(3, *names))

    def model(self, request, way):
        """The model of a request, or the subject itself for None."""
        key = (request, way if isinstance(request, Repeated) or request is None else "")
        if key not in self.models:
            self.models[key] = self._made(request, way)
        return self.models[key]

    def _made(self, request, way):
        if isinstance(request, Retrained):
            return self.trained(self.retain_ids, "gold", request.number)
        if isinstance(request, Original):
            return self.trained(self.train_ids, "original", request.number)
        number = 0 if request is None else request.number
        if way == "gold":
            return self.trained(self.retain_ids, "gold again", number)
        if way == "original":
            return self.trained(self.train_ids, "original again" if number else "original", number)
        origin = 0 if request is None else request.origin
        start = self.model(Original(number=origin), "") if origin else self.model(None, "original")
        return self.unlearned(way, start, "repair", number)

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

    def evaluation(self, measure, subject="repaired", seed=0):
        """What ``measure`` gets to see when it judges a subject; only what it has declared is answered."""
        kind = subject if subject in {"original", "gold"} else "unlearned"
        return Evaluation(
            subject=self._candidate(subject, kind),
            references={name: self._candidate(name, name) for name in measure.references},
            partition_ids=self.partitions,
            x=TensorColumn(self.x),
            y=self.y,
            model_input=self.input,
            criterion=self.criterion,
            streams=Streams(seed),
            provider=Answers(self, dict(measure.requests(kind)), subject),
        )

    def _candidate(self, way, kind):
        return ModelUnderTest(
            role=kind,
            load=lambda: self.model(None, way),
            outputs=lambda partition: self.says(self.model(None, way), partition),
            elapsed_s=1.0,
            remake=lambda: self._made(None, way),
        )

    def values(self, measure, subject="repaired", **options):
        """The values by name and partition."""
        found = measure.measure(self.evaluation(measure, subject, **options))
        values = {(value.name or measure.title, value.partition): value.value for value in found}
        assert len(values) == len(found)
        return values


@dataclass
class Answers:
    """The provider."""

    population: Population
    declared: dict
    way: str

    def outputs(self, request, partition):
        assert partition in self.declared[request]
        self.population.asked.add((request, partition))
        return self.population.says(self.load(request), partition)

    def load(self, request):
        assert request in self.declared
        return self.population.model(request, self.way)


@dataclass(frozen=True, eq=False, kw_only=True)
class PopulationBench(ToyEvaluation):
    """A bench of the conformance suite with a provider: ridge regressions on random parts of the retain set.

    The models of a poor method are fitted to wrong labels, those of a fair one to some wrong labels.

    Args:
        first: Inputs, labels and retain ids that the models learn from, whatever the bench becomes.
    """

    first: tuple

    @classmethod
    def of(cls, plain):
        given = {f.name: getattr(plain, f.name) for f in fields(plain)}
        return cls(**given, first=(plain.x, plain.y, plain.partitions["retain"]))

    def evaluation(self, measure, model="fair", kind="unlearned", *, elapsed_s=1.0):
        given = super().evaluation(measure, model, kind, elapsed_s=elapsed_s)
        return replace(given, provider=Fitted(self, dict(measure.requests(kind)), model))


@dataclass
class Fitted:
    """The provider of a bench."""

    bench: PopulationBench
    declared: dict
    model: str

    def outputs(self, request, partition):
        assert partition in self.declared[request]
        bench = self.bench
        return forward_pass(
            self.load(request),
            x=TensorColumn(bench.x),
            y=bench.y,
            ids=bench.partitions[partition],
            criterion=Criterion(bench.task),
            task=bench.task,
            batch_size=bench.batch_size,
        )

    def load(self, request):
        x, y, retain = self.bench.first
        generator = torch.Generator().manual_seed(derive(6, type(request).__name__, request.number))
        ids = retain[torch.randperm(len(retain), generator=generator)[: 4 * len(retain) // 5]]
        n_classes = 3 if self.bench.task == "classification" else 2
        wrong = {"fair": 0.1, "poor": 0.9}.get(self.model, 0.0) if isinstance(request, Repeated) else 0.0
        shift = (torch.rand(len(ids), generator=generator) < wrong).long()
        wanted = 2 * nn.functional.one_hot((y[ids] + shift) % n_classes, n_classes).double() - 1
        wanted = wanted if n_classes == 3 else wanted[:, 1:]
        inputs = torch.cat([x[ids], torch.ones(len(ids), 1)], dim=1).double()
        weight = 2 * torch.linalg.solve(inputs.T @ inputs + torch.eye(inputs.shape[1]).double(), inputs.T @ wanted)
        layer = nn.Linear(weight.shape[0] - 1, weight.shape[1], device="meta")
        layer.load_state_dict({"weight": weight[:-1].T.float(), "bias": weight[-1].float()}, assign=True)
        return layer.eval()


def run_rows(measures, unlearners, folder):
    """Rows of a small experiment by unlearner (or model), measure and partition, with the engine's own bank."""
    parts = {"class": "Percentage", "parameters": {"parts_names": ["train", "test"], "percentage": 0.6}}
    forgotten = {
        "class": "Percentage",
        "parameters": {"parts_names": ["forget", "retain"], "ref_data": "train", "percentage": 0.4},
    }
    recipe = {"epochs": 30, "optimizer": {"class": "Adam", "parameters": {"lr": 0.01}}}
    table = {"n_samples": 150, "n_features": 20, "n_classes": 3, "label_noise": 0.3}
    found = run_experiment(
        load_experiment(
            {
                "data": {"data_source": {"class": "SyntheticTable", "parameters": table}, "partitions": [parts, forgotten]},
                "predictor": {"model": {"class": "MLP", "parameters": {"hidden_sizes": [16]}}, **recipe},
                "unlearners": ["GoldModel", *unlearners],
                "evaluator": {"measures": list(measures)},
                "globals": {"seed": 3},
            }
        ),
        RunOptions(store=folder / "store"),
    )
    assert not found.failures, found.failures
    return {(row.label or row.model_role, row.measure, row.partition): row.value for row in found.rows}
