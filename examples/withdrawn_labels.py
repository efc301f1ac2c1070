"""A cheap method that retrained models confirm: one annotator's labels are withdrawn from the head of a frozen network.

A convolutional network is trained on 600 public digits and frozen. A linear layer on top of it learns 900 further digits by a plain loop,
with weight decay, for 200 epochs. One annotator has guessed; the fifteen labels are withdrawn. The layer's loss is strictly convex, so
that one Newton step (``WIN-U``, damped by the weight decay of the training) comes near to what training without the labels gives, at
a small part of its price. Whether near enough, the judge says: the step is chosen on one original and confirmed on three others.

``erasure.forget(…, prepare=True)`` trains the models that it is judged beside before the request comes, as can be done for every annotator
who might leave. Run it with ``python examples/withdrawn_labels.py``.
"""

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import erasure

FOLDER = Path("runs/withdrawn-labels")
N_PUBLIC, N_TRAIN, N_GUESSED, EPOCHS, WEIGHT_DECAY = 600, 900, 15, 200, 1e-2
METHODS = [{"class": "WIN-U", "parameters": {"damping": WEIGHT_DECAY}}]


def public_network(x: torch.Tensor, y: torch.Tensor) -> nn.Module:
    """A network that has never seen the annotated digits, frozen."""
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
    )
    top = nn.Sequential(nn.Linear(512, 32), nn.ReLU())
    network = nn.Sequential(body, top, nn.Linear(32, 10))
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(15):
        for batch in torch.randperm(len(y)).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()
            optimizer.step()
    frozen = nn.Sequential(body, top)
    with torch.no_grad():
        features = frozen(x)
    scale = nn.BatchNorm1d(32, affine=False, eps=1e-3)
    scale.running_mean, scale.running_var = features.mean(0), 16 * features.var(0)
    return nn.Sequential(frozen, scale).requires_grad_(False).eval()


class Head(nn.Module):
    """A linear layer on a frozen network."""

    def __init__(self, frozen: nn.Module) -> None:
        super().__init__()
        self.frozen, self.head = frozen, nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.head(self.frozen(x))


def main() -> int:
    """Prepare, ask, and compare the price with one retraining; 0 if the method is confirmed at half a retraining or less."""
    torch.set_num_threads(1)
    shutil.rmtree(FOLDER, ignore_errors=True)
    digits = load_digits()
    x, y = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16, torch.tensor(digits.target)
    frozen = public_network(x[:N_PUBLIC], y[:N_PUBLIC])
    x, y = x[N_PUBLIC:], y[N_PUBLIC:]
    rng = np.random.default_rng(1)
    guessed = np.sort(rng.choice(N_TRAIN, N_GUESSED, replace=False))
    y[guessed] = (y[guessed] + torch.tensor(rng.integers(1, 10, N_GUESSED))) % 10

    def fit(indices: Any, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        model, rows = Head(frozen), torch.as_tensor(np.asarray(indices))
        optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1, momentum=0.9, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
        for _ in range(EPOCHS):
            for batch in rows[torch.randperm(len(rows))].split(32):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
                optimizer.step()
            schedule.step()
        return model.eval()

    start = time.process_time()
    model = fit(np.arange(N_TRAIN), 1)
    training_s = time.process_time() - start

    def ask(**more: Any) -> Any:
        return erasure.forget(
            model=model,
            forget=guessed,
            who=["annotator 7"],
            data=(x[:N_TRAIN], y[:N_TRAIN]),
            test=(x[N_TRAIN:], y[N_TRAIN:]),
            train=fit,
            methods=METHODS,
            n_originals=3,
            n_golds=3,
            check_data=False,  # the head is too small to learn wrong labels by heart, so their loss is high
            folder=FOLDER,
            store=FOLDER / "store",
            batch_size=32,
            **more,
        )

    sys.stdout.write(f"one training: {training_s:.1f} s of CPU time\n")
    ask(prepare=True)
    plan = ask(dry_run=True)
    sys.stdout.write(f"{plan}\n")
    start = time.perf_counter(), time.process_time()
    answer = ask()
    took_s, took_cpu_s = time.perf_counter() - start[0], time.process_time() - start[1]
    share = took_cpu_s / training_s
    sys.stdout.write(
        f"{answer}\n{took_cpu_s:.1f} s of CPU time, {share:.2f} of a training; planned / took {plan.total_s / took_s:.2f}\n"
    )
    return int(answer.entry.verdict != "indistinguishable" or share > 0.5)


if __name__ == "__main__":
    sys.exit(main())
