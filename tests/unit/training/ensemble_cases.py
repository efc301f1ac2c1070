"""Models trained one by one and together, on the same samples with the same seeds."""

from __future__ import annotations

import copy

import torch
from torch import nn

from erasure.models.cnn import CNN
from erasure.models.mlp import MLP
from erasure.training.batches import TensorColumn
from erasure.training.calls import Criterion, Optimizer
from erasure.training.ensemble import train_together
from erasure.training.predictor import ModelInput, Predictor, build_model, train

N, K = 150, 3
BATCH_SIZE = 16
EQUAL = (70, 70, 70, 70)
UNEQUAL = (49, 70, 16, 33, 9, 32)
"""Last batches of 1, 6, 16, 1, 9 and 16 samples; from 1 to 5 steps an epoch."""

SHAPES = {MLP: (7,), CNN: (2, 8, 8)}

MODELS = {
    "MLP": MLP(hidden_sizes=(11, 6), activation="tanh"),
    "linear": MLP(hidden_sizes=()),
    "MLP with BatchNorm": MLP(hidden_sizes=(11,), batch_norm=True),
    "CNN": CNN(channels=(16, 8), hidden_sizes=(5,)),
    "CNN with BatchNorm": CNN(channels=(3, 4), hidden_sizes=(5,), batch_norm=True),
}

OPTIMIZERS = {
    "SGD": Optimizer.of("SGD", lr=0.1, momentum=0.9, weight_decay=1e-2, nesterov=True),
    "Adam": Optimizer.of("Adam", lr=0.01, weight_decay=1e-3),
}


def data(shape, task="classification", dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(N, *shape, generator=generator, dtype=torch.float64).to(dtype)
    scores = x.flatten(1) @ torch.randn(x[0].numel(), K, generator=generator, dtype=torch.float64).to(dtype)
    y = {"classification": scores.argmax(1), "binary": (scores[:, 0] > 0).long(), "multilabel": (scores > 0).long()}[task]
    return {"x": TensorColumn(x), "y": y}


def built(model, n_models, task="classification", dtype=torch.float64):
    shape = ModelInput(SHAPES[type(model)], 2 if task == "binary" else K, task)
    return [build_model(model, shape, seed, torch.device("cpu")).to(dtype) for seed in range(n_models)]


def drawn(sizes):
    generator = torch.Generator().manual_seed(5)
    return [torch.randperm(N, generator=generator)[:size] for size in sizes]


def recipe(model, **parameters):
    return Predictor(model=model, **{"epochs": 3, "optimizer": OPTIMIZERS["SGD"], **parameters})


def together(models, predictor, sizes, task="classification", members=None, **options):
    """Copies of the models, trained together; ``members`` picks some of them."""
    members = range(len(models)) if members is None else members
    given = data(SHAPES[type(predictor.model)], task, next(models[0].parameters()).dtype)
    ids = drawn(sizes)
    return train_together(
        [copy.deepcopy(models[k]) for k in members],
        predictor,
        **given,
        ids=[ids[k] for k in members],
        seeds=[100 + k for k in members],
        criterion=Criterion(task, predictor.loss_fn),
        batch_size=BATCH_SIZE,
        **options,
    )


def one_by_one(models, predictor, sizes, task="classification"):
    """Copies of the models, trained alone."""
    given = data(SHAPES[type(predictor.model)], task, next(models[0].parameters()).dtype)
    criterion = Criterion(task, predictor.loss_fn)
    options = {**given, "criterion": criterion, "batch_size": BATCH_SIZE}
    return [
        train(copy.deepcopy(model), predictor, **options, ids=ids, seed=100 + k)
        for k, (model, ids) in enumerate(zip(models, drawn(sizes), strict=True))
    ]


def distance(found: nn.Module, expected: nn.Module) -> float:
    """Largest difference of a tensor (weights, running statistics, counts of batches), relative to its largest entry."""
    pairs = zip(found.state_dict().values(), expected.state_dict().values(), strict=True)
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-3)) for a, b in pairs)


def has_moved(before: nn.Module, after: nn.Module) -> bool:
    return all(not torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True))
