"""Squared per-sample gradients against the loop over batches of one: time and agreement.

Run ``python benchmarks/fisher.py``. One thread, CPU seconds; each pair times both ways one after the other on the same samples, and the
median ratio of the pairs counts. Exits with 1 if a ratio is above its model's limit or a result is off by more than 1e-5 of the
largest entry of its tensor. The wider network shows where the gain ends: its time is arithmetic, of which the loop does no more, so it
has a limit of its own.
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
N_PAIRS = 5
LIMIT_ERROR = 1e-5


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
    "digits CNN 8x8": (8, 0.2, lambda: cnn(8, (16, 32), 64)),
    "small CNN 28x28": (28, 0.2, lambda: cnn(28, (8, 16), 64)),
    "wider CNN 28x28": (28, 0.4, lambda: cnn(28, (16, 32), 48)),
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


TASKS = {"true Fisher": (fast_fisher, every_label, 200), "empirical": (fast_empirical, true_label, N_SAMPLES)}
"""Both ways, and how many samples a pair takes: the loop over labels is too slow to repeat on all."""


def timed(function):
    start = time.process_time()
    value = function()
    return value, time.process_time() - start


def worst_error(found, expected):
    return max(float((found[name] - value).abs().max() / value.abs().max().clamp_min(1e-30)) for name, value in expected.items())


def compare(model, x, y, fast, labels_of, n_pair):
    fast(model, x[:n_pair], y[:n_pair])
    ratios = []
    for pair in range(N_PAIRS):
        start = pair * n_pair % N_SAMPLES
        part = slice(start, start + n_pair)
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
    print(
        f"{'model':<17}{'parameters':>11}  {'quantity':<12}{'loop s':>8}{'ours s':>8}{'full':>7}{'pairs':>7}{'limit':>7}{'error':>10}"
    )
    for name, (size, limit, build) in MODELS.items():
        model = build()
        x, y = torch.randn(N_SAMPLES, 1, size, size), torch.randint(0, N_CLASSES, (N_SAMPLES,))
        model(x)  # running statistics that fit the inputs
        n_parameters = sum(p.numel() for p in model.parameters())
        for task, (fast, labels_of, n_pair) in TASKS.items():
            ratio, fast_s, loop_s, error = compare(model, x, y, fast, labels_of, n_pair)
            missed = ratio > limit or error > LIMIT_ERROR
            failed |= missed
            timing = f"{loop_s:>8.2f}{fast_s:>8.2f}{fast_s / loop_s:>7.3f}{ratio:>7.3f}{limit:>7}"
            row = f"{name:<17}{n_parameters:>11}  {task:<12}{timing}{error:>10.1e}"
            print(row + ("  MISSED" if missed else ""), flush=True)
    print(f"limits: ratio of pairs as shown, error {LIMIT_ERROR:.0e}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
