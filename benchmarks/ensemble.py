"""Models trained together against one by one.

The same 64 networks, from the same weights, on the same samples in the same order: together in the blocks that a run uses, one after
another by our loop, and one after another by a bare PyTorch loop. They take turns, and the median of the ratios is what counts. Run
it with ``make bench-limits`` or ``python benchmarks/ensemble.py``. Exits with 1 if a ratio is above its limit, or if the models trained
together say something else about more than 1 % of the samples than those trained one by one.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from erasure.models.cnn import CNN
from erasure.models.mlp import MLP
from erasure.training.batches import TensorColumn
from erasure.training.calls import Criterion, Optimizer
from erasure.training.ensemble import BLOCK_SIZE, train_together
from erasure.training.predictor import Model, ModelInput, Predictor, build_model, train
from erasure.training.randomness import Streams

N_MODELS = 64
CRITERION = Criterion("classification")
LIMIT_DISAGREEMENT = 0.01


@dataclass(frozen=True)
class Case:
    name: str
    model: Model
    data: str
    batch_size: int
    learning_rate: float
    epochs: int
    limit: float


CASES = (
    Case("MLP 64-128-10, digits", MLP(hidden_sizes=(128,)), "digits", 64, 1e-3, 5, 0.5),
    Case("MLP 100-100-100-100-2, Adult's size", MLP(hidden_sizes=(100, 100, 100)), "adult", 64, 1e-3, 1, 0.5),
    Case("CNN of the proof of concept, digits", CNN(), "digits", 32, 2e-3, 1, 0.5),
    Case("the same with BatchNorm, unequal sets", CNN(batch_norm=True), "digits, unequal", 32, 2e-3, 1, 0.5),
)


def dataset(name: str) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Inputs, labels, and the ids of each model: a random half of the digits, or 2,000 rows of the width of Adult."""
    generator = torch.Generator().manual_seed(0)
    if name == "adult":
        x = torch.randn(4_000, 100, generator=generator)
        y = (x[:, :10].sum(1) > 0).long()
    else:
        digits = load_digits()
        x, y = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16, torch.tensor(digits.target)
    sizes = [len(x) // 2 - 3 * (k % 16 if "unequal" in name else 0) for k in range(N_MODELS)]
    return x, y, [torch.randperm(len(x), generator=generator)[:size] for size in sizes]


def bare_loop(model: nn.Module, case: Case, x: Tensor, y: Tensor, ids: Tensor, seed: int) -> nn.Module:
    """What one would write by hand."""
    generator = Streams(seed).torch("shuffle")
    optimizer = torch.optim.Adam(model.parameters(), lr=case.learning_rate)
    model.train()
    for _ in range(case.epochs):
        order = ids[torch.randperm(len(ids), generator=generator)]
        for start in range(0, len(order), case.batch_size):
            batch = order[start : start + case.batch_size]
            optimizer.zero_grad()
            _, logits = model(x[batch])
            F.cross_entropy(logits, y[batch]).backward()
            optimizer.step()
    return model.eval()


def blocks() -> list[slice]:
    return [slice(start, start + BLOCK_SIZE) for start in range(0, N_MODELS, BLOCK_SIZE)]


def ways(case: Case, x: Tensor, y: Tensor, ids: list[Tensor]) -> dict[str, Callable[[list[nn.Module]], list[nn.Module]]]:
    """The three ways to train: each takes fresh models and returns trained ones."""
    optimizer = Optimizer.of("Adam", lr=case.learning_rate)
    predictor = Predictor(model=case.model, epochs=case.epochs, optimizer=optimizer, schedule=None)
    column = TensorColumn(x)

    def together(models: list[nn.Module]) -> list[nn.Module]:
        return [
            model
            for block in blocks()
            for model in train_together(
                models[block],
                predictor,
                x=column,
                y=y,
                ids=ids[block],
                criterion=CRITERION,
                seeds=range(N_MODELS)[block],
                batch_size=case.batch_size,
            )
        ]

    def alone(models: list[nn.Module]) -> list[nn.Module]:
        return [
            train(model, predictor, x=column, y=y, ids=own, criterion=CRITERION, seed=seed, batch_size=case.batch_size)
            for seed, (model, own) in enumerate(zip(models, ids, strict=True))
        ]

    def bare(models: list[nn.Module]) -> list[nn.Module]:
        return [bare_loop(model, case, x, y, own, seed) for seed, (model, own) in enumerate(zip(models, ids, strict=True))]

    return {"together": together, "alone": alone, "bare": bare}


@torch.no_grad()
def disagreement(found: list[nn.Module], expected: list[nn.Module], x: Tensor) -> float:
    """Share of the samples on which a model says another class than its twin, over all models."""
    return statistics.mean(
        float((a(x)[1].argmax(1) != b(x)[1].argmax(1)).float().mean()) for a, b in zip(found, expected, strict=True)
    )


def train_case(case: Case, rounds: int) -> bool:
    x, y, ids = dataset(case.data)
    shape = ModelInput(tuple(x.shape[1:]), int(y.max()) + 1)
    initial = [build_model(case.model, shape, seed, torch.device("cpu")) for seed in range(N_MODELS)]
    times: dict[str, list[float]] = {}
    trained: dict[str, list[nn.Module]] = {}
    for _ in range(rounds):
        for way, run in ways(case, x, y, ids).items():
            models = copy.deepcopy(initial)
            start = time.perf_counter()
            trained[way] = run(models)
            times.setdefault(way, []).append(time.perf_counter() - start)
    ratios = [statistics.median(a / b for a, b in zip(times["together"], times[way], strict=True)) for way in ("alone", "bare")]
    different = disagreement(trained["together"], trained["alone"], x)
    seconds = "".join(f"{statistics.median(times[way]):>10.3f}" for way in times)
    missed = max(ratios) > case.limit or different > LIMIT_DISAGREEMENT
    numbers = f"{seconds}{ratios[0]:>10.3f}{ratios[1]:>9.3f}{case.limit:>7.2f}{different:>11.2%}"
    print(f"{case.name:38}{numbers}{'  MISSED' if missed else ''}", flush=True)
    return missed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(
        f"{N_MODELS} models in blocks of {BLOCK_SIZE}, {arguments.threads} thread(s), seconds; ratios of together to the others"
    )
    header = f"{'together':>10}{'alone':>10}{'bare':>10}{'to alone':>10}{'to bare':>9}{'limit':>7}{'differ':>11}"
    print(f"{'training':38}{header}")
    missed = [train_case(case, arguments.rounds) for case in CASES]
    return int(any(missed))


if __name__ == "__main__":
    sys.exit(main())
