"""Deletion requests against one retraining, and against what their plans have said beforehand: by proof, and by comparison.

By proof: scikit-learn's breast cancer, and five networks that vote, by a plain loop (``erasure.sharded``). The request is everything: the
timing of methods and training, unlearning, measuring, report, certificate. By comparison: 6,000 short texts of AG News (file under
``ERASURE_TEST_DATA``, default ``../shared/data``) and a network that knows all of them by heart; golds, the choice of the method and its
trials on further originals are prepared, then the request is planned and answered. Nothing here was tuned on either.

All seconds, those of plans and ledger too, are CPU seconds of one thread, since other programs may share the machine; libraries are loaded
before. Exits with 1 if a request costs more than half of a retraining, or a plan was wrong by more than a third. Run it with
``python benchmarks/requests.py [proof] [comparison]``.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import request_comparison
import torch
from sklearn.datasets import load_breast_cancer
from torch import nn

import erasure

N_TRAIN, EACH, EPOCHS, SHARDS = 450, 5, 1000, 5
MOST, WRONG = 0.5, 1 / 3
PEOPLE = {"first": 7, "second": 31, "third": 64}


def problem() -> tuple[Any, Any]:
    """Training and test set, shuffled, scaled without looking at the samples themselves."""
    bunch = load_breast_cancer()
    order = np.random.default_rng(0).permutation(len(bunch.target))
    x = torch.tensor(np.log1p(bunch.data[order]), dtype=torch.float32)
    y = torch.tensor(bunch.target[order])
    return (x[:N_TRAIN], y[:N_TRAIN]), (x[N_TRAIN:], y[N_TRAIN:])


def network() -> nn.Module:
    """An untrained network."""
    return nn.Sequential(nn.Linear(30, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 2))


def main(ways: list[str]) -> int:
    torch.set_num_threads(1)
    time.perf_counter = time.process_time  # what plan and ledger count, too, is then CPU time
    missed = "proof" in (ways or ["proof"]) and _missed_by_proof()
    if "comparison" in (ways or ["comparison"]):
        if not request_comparison.FILES.is_dir():
            print(f"no comparison: {request_comparison.FILES} is not there")
        else:
            print()
            missed |= bool(request_comparison.main(["news"]))
    return int(missed)


def _missed_by_proof() -> bool:
    data, test = problem()
    people = [place // EACH for place in range(N_TRAIN)]

    def train(indices: Any, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        made, rows = network(), torch.as_tensor(np.asarray(indices))
        optimizer = torch.optim.Adam(made.parameters(), lr=1e-3)
        for _ in range(EPOCHS):
            for batch in rows[torch.randperm(len(rows))].split(32):
                optimizer.zero_grad()
                nn.functional.cross_entropy(made(data[0][batch]), data[1][batch]).backward()
                optimizer.step()
        return made

    fit = erasure.sharded(train, network, people, shards=SHARDS)
    model = fit(np.arange(N_TRAIN), 1)
    missed = False
    print(
        f"{'request':10}{'retraining s':>14}{'planned s':>11}{'took s':>9}{'of a retraining':>17}{'planned / took':>16}  method"
    )
    with tempfile.TemporaryDirectory() as folder:
        _ask(model, people, 0, data, test, fit, Path(folder), "warm-up")  # imports and first uses are no part of a request
        for name, person in PEOPLE.items():
            planned = _ask(model, people, person, data, test, fit, Path(folder), f"{name} plan", dry_run=True)
            start = time.process_time()
            answer = _ask(model, people, person, data, test, fit, Path(folder), name)
            took_s = time.process_time() - start
            start = time.process_time()
            fit(np.flatnonzero(np.array(people) != person), 2)
            retraining_s = time.process_time() - start
            share, right = took_s / retraining_s, planned.total_s / took_s
            missed |= share > MOST or not 1 - WRONG <= right <= 1 + WRONG or answer.entry.verdict != "exact"
            figures = f"{retraining_s:14.1f}{planned.total_s:11.1f}{took_s:9.1f}{share:17.2f}{right:16.2f}"
            print(f"{name:10}{figures}  {answer.entry.method} ({answer.entry.verdict})", flush=True)
    return missed


def _ask(model: Any, people: Any, person: int, data: Any, test: Any, fit: Any, root: Path, name: str, **more: Any) -> Any:
    """A request with a store of its own, so that nothing is known beforehand."""
    return erasure.forget(
        model=model,
        forget=np.array(people) == person,
        who=[person],
        data=data,
        test=test,
        train=fit,
        folder=root / name,
        store=root / f"{name} store",
        **more,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
