"""Our training loop against a bare PyTorch loop on the same batches.

Both train the same network from the same weights on the same permutations, in turn, on one thread; the ratio of each pair is
taken, and the median of the ratios is what counts. The MLP ends with the same bits. Our convolutions run with channels last in memory and
add up in another order, which one value at the edge of a ReLU can make a step of Adam: that CNN may say something else about 1 % of the
samples. Run it with ``make bench-limits`` or ``python benchmarks/training_loop.py``.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from erasure.models.cnn import CNN
from erasure.models.mlp import MLP
from erasure.training.batches import TensorColumn
from erasure.training.calls import Criterion, Optimizer
from erasure.training.predictor import Model, ModelInput, Predictor, build_model, train
from erasure.training.randomness import Streams


@dataclass(frozen=True)
class Case:
    name: str
    model: Model
    shape: tuple[int, ...]
    n_samples: int
    n_classes: int
    limit: float
    is_same_bits: bool


BATCH_SIZE = 64
LIMIT_DISAGREEMENT = 0.01
LEARNING_RATE = 1e-3
CASES = (
    Case("MLP 100-100-100-100-2, 39,000 x 100", MLP(hidden_sizes=(100, 100, 100)), (100,), 39_000, 2, 1.10, True),
    Case("CNN on 28 x 28", CNN(channels=(16, 32), hidden_sizes=(64,)), (1, 28, 28), 3_200, 10, 1.05, False),
)


def bare_loop(model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> None:
    """What one would write by hand."""
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    model.train()
    order = torch.randperm(len(x), generator=generator)
    for start in range(0, len(x), BATCH_SIZE):
        ids = order[start : start + BATCH_SIZE]
        optimizer.zero_grad()
        _, logits = model(x[ids])
        loss = F.cross_entropy(logits, y[ids])
        loss.backward()
        optimizer.step()


def our_loop(model: nn.Module, predictor: Predictor, x: Tensor, y: Tensor, seed: int) -> None:
    train(
        model,
        predictor,
        x=TensorColumn(x),
        y=y,
        ids=torch.arange(len(x)),
        criterion=Criterion("classification"),
        seed=seed,
        batch_size=BATCH_SIZE,
    )


@torch.no_grad()
def disagreement(found: nn.Module, expected: nn.Module, x: Tensor) -> float:
    """Share of the samples on which the two say another class."""
    return float((found.eval()(x)[1].argmax(1) != expected.eval()(x)[1].argmax(1)).float().mean())


def measure(case: Case, pairs: int) -> tuple[float, float, float, bool, float]:
    """Median ratio, both median times, whether both loops ended with the same weights, and about how many samples they disagree at most."""
    data = ModelInput(case.shape, case.n_classes)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(case.n_samples, *case.shape, generator=generator)
    y = torch.randint(case.n_classes, (case.n_samples,), generator=generator)
    initial = build_model(case.model, data, 0, torch.device("cpu"))
    optimizer = Optimizer.of("Adam", lr=LEARNING_RATE)
    predictor = Predictor(model=case.model, epochs=1, optimizer=optimizer, schedule=None)
    ours_s, bare_s, same, different = [], [], True, 0.0
    for pair in range(pairs + 1):
        ours, bare = copy.deepcopy(initial), copy.deepcopy(initial)
        start = time.perf_counter()
        our_loop(ours, predictor, x, y, seed=pair)
        middle = time.perf_counter()
        bare_loop(bare, x, y, Streams(pair).torch("shuffle"))
        end = time.perf_counter()
        same &= all(torch.equal(a, b) for a, b in zip(ours.parameters(), bare.parameters(), strict=True))
        different = max(different, disagreement(ours, bare, x))
        if pair:  # the first pair warms up
            ours_s.append(middle - start)
            bare_s.append(end - middle)
    ratio = statistics.median(a / b for a, b in zip(ours_s, bare_s, strict=True))
    return ratio, statistics.median(ours_s), statistics.median(bare_s), same, different


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    missed = 0
    print(f"{'training loop':42}{'ours s':>9}{'bare s':>9}{'ratio':>8}{'limit':>8}  same weights  different")
    for case in CASES:
        ratio, ours_s, bare_s, same, different = measure(case, arguments.pairs)
        missed += ratio > case.limit or different > LIMIT_DISAGREEMENT or (case.is_same_bits and not same)
        print(
            f"{case.name:42}{ours_s:9.3f}{bare_s:9.3f}{ratio:8.3f}{case.limit:8.2f}  {'yes' if same else 'no':12}{different:11.2%}"
        )
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
