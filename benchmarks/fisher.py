"""Squared per-sample gradients against the loop over batches of one: time and agreement.

Run ``python benchmarks/fisher.py``. One thread; each pair times both ways one after the other on the same samples, and the median
ratio of the pairs counts. Exits with 1 if a ratio is above 0.2 or a result is off by more than 1e-5 of the largest entry of its tensor.
"""

from __future__ import annotations

import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

from erasure.training.per_sample import squared_gradients, true_fisher

N_SAMPLES, N_CLASSES, BATCH_SIZE = 1000, 10, 100
PAIR_SAMPLES, N_PAIRS = 200, 5
LIMIT_RATIO, LIMIT_ERROR = 0.2, 1e-5


def cnn(size, channels, width):
    first, second = channels
    return nn.Sequential(
        nn.Conv2d(1, first, 3, padding=1),
        nn.BatchNorm2d(first),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(first, second, 3, padding=1),
        nn.BatchNorm2d(second),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(second * (size // 4) ** 2, width),
        nn.ReLU(),
        nn.Linear(width, N_CLASSES),
    )


MODELS = {
    "digits CNN 8x8": (8, lambda: cnn(8, (16, 32), 64)),
    "small CNN 28x28": (28, lambda: cnn(28, (8, 16), 64)),
    "wider CNN 28x28": (28, lambda: cnn(28, (16, 32), 48)),
}


def loop(model, x, y, labels_of):
    """Batches of one, one backward pass per label, as published code for Fisher forgetting does it."""
    model.eval()
    total = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in model.named_parameters()}
    for i in range(len(y)):
        logits = model(x[i : i + 1])
        labels = labels_of(logits.detach(), y[i : i + 1])
        for k, (label, weight) in enumerate(labels):
            model.zero_grad()
            F.cross_entropy(logits, label).backward(retain_graph=k + 1 < len(labels))
            for name, p in model.named_parameters():
                total[name] += weight * p.grad.square()
    model.zero_grad()
    return {name: value / len(y) for name, value in total.items()}


def every_label(logits, y):
    return [(torch.tensor([k]), p) for k, p in enumerate(logits.softmax(1)[0].tolist())]


def true_label(logits, y):
    return [(y, 1.0)]


def batches(x, y):
    return list(zip(x.split(BATCH_SIZE), y.split(BATCH_SIZE), strict=True))


def fast_fisher(model, x, y):
    return true_fisher(model, batches(x, y), N_CLASSES)


def fast_empirical(model, x, y):
    return squared_gradients(model, batches(x, y), lambda logits, labels: F.cross_entropy(logits, labels, reduction="none"))


TASKS = {"true Fisher": (fast_fisher, every_label), "empirical": (fast_empirical, true_label)}


def timed(function):
    start = time.perf_counter()
    value = function()
    return value, time.perf_counter() - start


def worst_error(found, expected):
    return max(float((found[name] - value).abs().max() / value.abs().max().clamp_min(1e-30)) for name, value in expected.items())


def compare(model, x, y, fast, labels_of):
    fast(model, x[:PAIR_SAMPLES], y[:PAIR_SAMPLES])
    ratios = []
    for pair in range(N_PAIRS):
        part = slice(pair * PAIR_SAMPLES, (pair + 1) * PAIR_SAMPLES)
        _, fast_s = timed(lambda part=part: fast(model, x[part], y[part]))
        _, loop_s = timed(lambda part=part: loop(model, x[part], y[part], labels_of))
        ratios.append(fast_s / loop_s)
    found, fast_s = timed(lambda: fast(model, x, y))
    expected, loop_s = timed(lambda: loop(model, x, y, labels_of))
    return statistics.median(ratios), fast_s, loop_s, worst_error(found, expected)


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    failed = False
    print(f"{N_SAMPLES} samples, {N_CLASSES} classes, batches of {BATCH_SIZE}, one thread, float32")
    print(f"{'model':<17}{'parameters':>11}  {'quantity':<12}{'loop s':>8}{'ours s':>8}{'full':>7}{'pairs':>7}{'error':>10}")
    for name, (size, build) in MODELS.items():
        model = build()
        x, y = torch.randn(N_SAMPLES, 1, size, size), torch.randint(0, N_CLASSES, (N_SAMPLES,))
        model(x)  # running statistics that fit the inputs
        n_parameters = sum(p.numel() for p in model.parameters())
        for task, (fast, labels_of) in TASKS.items():
            ratio, fast_s, loop_s, error = compare(model, x, y, fast, labels_of)
            missed = ratio > LIMIT_RATIO or error > LIMIT_ERROR
            failed |= missed
            row = f"{name:<17}{n_parameters:>11}  {task:<12}{loop_s:>8.2f}{fast_s:>8.2f}{fast_s / loop_s:>7.3f}{ratio:>7.3f}{error:>10.1e}"
            print(row + ("  MISSED" if missed else ""), flush=True)
    print(f"limits: ratio of pairs {LIMIT_RATIO}, error {LIMIT_ERROR:.0e}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
