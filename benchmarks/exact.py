"""What a request costs models that forget exactly, against training without the samples: SISA and the exact forest.

One thread, CPU seconds, everything in one run:

- SISA, 8 shards with 4 slices of a small MLP on Adult: one request against retraining the ensemble, and a stream of 100 requests, one
  after another, against 100 retrainings (that of the whole ensemble is timed once). Each result is compared with retraining, bit for bit,
  at the end of the stream.
- ExactForest, 10,000 rows, 50 trees, depth 10: one row against refitting; and against deleting from the package dare-rf, if
  ``--dare PYTHON`` names an interpreter that has it (1.1.4, Python 3.10 at most), otherwise a hundredth of a refit of scikit-learn's
  ExtraTrees.
- What exactness costs in accuracy: ExactForest beside scikit-learn's ExtraTrees and RandomForest of as many trees and levels, on Adult
  (10,000 rows to learn from, as many to test) and digits (halves), each on several splits.

Run ``python benchmarks/exact.py [--dare PYTHON]``; exits with 1 if a limit is missed. Adult is read from ``tabular/`` in
``ERASURE_TEST_DATA`` (default ``../shared/data``); without it a generated table of the same size stands in, and the output says so.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.model_selection import train_test_split

from erasure.functional.hashed_trees import Trees
from erasure.models.ensemble import Ensemble
from erasure.models.forest import ExactForest
from erasure.models.mlp import MLP
from erasure.testing.problems import MemoryModels
from erasure.training.batches import Batch, TensorColumn
from erasure.training.calls import Criterion, Optimizer
from erasure.training.predictor import ModelInput, Predictor
from erasure.unlearners.contract import model_digest

N_REQUESTS, N_SHARDS, N_SLICES, EPOCHS = 100, 8, 4, 10
LIMIT_REQUEST, LIMIT_STREAM = 0.15, 0.3
N_ROWS, N_FEATURES, N_TREES, DEPTH, N_DELETIONS = 10_000, 16, 50, 10, 40
LIMIT_DELETION, LIMIT_DARE = 0.01, 3.0

DARE = """
import sys, time, numpy as np, dare
data = np.load(sys.argv[1])
forest = dare.Forest(n_estimators={trees}, max_depth={depth}, k=25, topd=0, random_state=1)
forest.fit(data["x"], data["y"].astype(np.int32))
spent = []
for row in data["gone"]:
    start = time.process_time()
    forest.delete(int(row))
    spent.append(time.process_time() - start)
print(np.mean(spent))
"""


def timed(function):
    start = time.process_time()
    value = function()
    return value, time.process_time() - start


# SISA


def adult():
    """Adult's training rows as numbers, standardised, and what they are."""
    path = Path(os.environ.get("ERASURE_TEST_DATA", "../shared/data")) / "tabular" / "adult.data.gz"
    if not path.exists():
        rng = np.random.default_rng(0)
        x = rng.normal(size=(32_561, 14))
        return x, (x[:, 0] + x[:, 1] * x[:, 2] > 0).astype(int), "a generated table of Adult's size"
    import pandas as pd

    table = pd.read_csv(path, header=None, skipinitialspace=True)
    columns = [table[i] if pd.api.types.is_numeric_dtype(table[i]) else pd.factorize(table[i])[0] for i in range(14)]
    x = np.stack(columns, 1).astype(float)
    return (x - x.mean(0)) / x.std(0), (table[14] == ">50K").to_numpy().astype(int), "Adult"


def sisa() -> bool:
    x, y, name = adult()
    inputs, labels = torch.tensor(x, dtype=torch.float32), torch.tensor(y)
    ids = torch.arange(len(labels))
    model = Ensemble(model=MLP(hidden_sizes=(16,)), shards=N_SHARDS, slices=N_SLICES)
    bank = MemoryModels(
        predictor=Predictor(model=model, epochs=EPOCHS, optimizer=Optimizer.of("SGD", lr=0.2), schedule=None),
        x=TensorColumn(inputs),
        y=labels,
        partitions={"train": ids},
        data=ModelInput(x_shape=(inputs.shape[1],), n_classes=2, task="binary"),
        criterion=Criterion("binary"),
        batch_size=256,
    )
    print(f"{name}: {len(ids):,} rows; MLP(16), {N_SHARDS} shards, {N_SLICES} slices, {EPOCHS} epochs")
    current, _ = timed(lambda: bank.trained("train"))
    bank.partitions["kept"] = ids
    bank.resumed(current, "kept", None)  # makes what is kept
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(0))
    spent = []
    for number in range(1, N_REQUESTS + 1):
        bank.partitions["kept"] = order[number:].sort().values
        found, seconds = timed(lambda model=current: bank.resumed(model, "kept", None))
        current = found.model
        spent.append(seconds)
    gold, retrain_s = timed(lambda: bank.trained("kept"))
    request, stream = statistics.mean(spent) / retrain_s, sum(spent) / (N_REQUESTS * retrain_s)
    same = model_digest(gold) == model_digest(current)
    print(f"  retraining {retrain_s:.2f} s; a request {statistics.mean(spent):.3f} s, at most {max(spent):.3f} s")
    print(f"  request / retraining {request:.3f}, limit {LIMIT_REQUEST}")
    print(
        f"  {N_REQUESTS} requests / {N_REQUESTS} retrainings {stream:.3f}, limit {LIMIT_STREAM}; same bits as retraining: {same}"
    )
    return request > LIMIT_REQUEST or stream > LIMIT_STREAM or not same


# The exact forest


def forest(dare: str | None) -> bool:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N_ROWS, N_FEATURES)).astype(np.float32)
    y = (x[:, 0] + x[:, 1] * x[:, 2] + 0.5 * rng.normal(size=N_ROWS) > 0).astype(np.int64)
    gone = rng.choice(N_ROWS, N_DELETIONS, replace=False)
    rows, labels, ids = torch.from_numpy(x), torch.from_numpy(y), torch.arange(N_ROWS)
    options = ExactForest(trees=N_TREES, max_depth=DEPTH)
    data = ModelInput(x_shape=(N_FEATURES,), n_classes=2)
    model = options.build(data)
    _, fit_s = timed(lambda: model.fit(Batch(rows, labels, ids), 0))
    spent = []
    for row in torch.tensor(gone):
        which = row[None]
        spent.append(timed(lambda which=which: model.delete(Batch(rows[which], labels[which], which), None))[1])
    left = ids[~torch.isin(ids, torch.tensor(gone))]
    more = torch.from_numpy(rng.choice(left.numpy(), N_DELETIONS, replace=False))
    left = left[~torch.isin(left, more)]
    parts = parts_of_deletions(lambda: [model.delete(Batch(rows[w], labels[w], w), None) for w in more[:, None]], fit_s)
    again = options.build(data)
    again.fit(Batch(rows[left], labels[left], left), 0)
    same = model_digest(again) == model_digest(model)
    delete_s = statistics.mean(spent)
    print(
        f"forest of {N_TREES} trees, depth {DEPTH}, {N_ROWS:,} rows with {N_FEATURES} numbers: fit {fit_s:.2f} s, deletion {delete_s:.4f} s"
    )
    print(f"  deletion / fit {delete_s / fit_s:.4f}, limit {LIMIT_DELETION}; same bits as fitting: {same}")
    print(parts)
    other_s, what = other(x, y, gone, dare)
    print(f"  deletion / {what} ({other_s:.4f} s) {delete_s / other_s:.2f}, limit {LIMIT_DARE}")
    return delete_s > LIMIT_DELETION * fit_s or delete_s > LIMIT_DARE * other_s or not same


def parts_of_deletions(delete, fit_s: float) -> str:
    """What further deletions spend their time on, and what they would cost if calls of NumPy took no time beside their samples'."""
    levels, counted, again_s = [], [], []
    settled, split_again = Trees._settled, Trees._split_again

    def below(trees, segments):
        children, seconds = timed(lambda: settled(trees, segments))
        levels.append((1, len(segments.rows), seconds))
        return children

    def on_the_way(trees, nodes):
        counted.append((len(nodes), np.minimum(trees.counts[nodes].sum(1), trees.n_split_samples).sum()))
        new, seconds = timed(lambda: split_again(trees, nodes))
        again_s.append(seconds)
        return new

    with patch.object(Trees, "_settled", below), patch.object(Trees, "_split_again", on_the_way):
        _, all_s = timed(delete)
    table = np.array(levels)
    (call_s, row_s), *_ = np.linalg.lstsq(table[:, :2], table[:, 2], rcond=None)
    n_nodes, n_rows = np.array(counted).mean(0)
    n_levels, n_below, below_s = table.sum(0) / N_DELETIONS
    again, rest = sum(again_s) / N_DELETIONS, (all_s - sum(again_s)) / N_DELETIONS - below_s
    floor = rest + row_s * (n_rows + n_below)
    return (
        f"  of {1e3 * all_s / N_DELETIONS:.1f} ms: {1e3 * again:.1f} for {n_nodes:.0f} nodes ({n_rows:,.0f} samples) on the way, "
        f"{1e3 * below_s:.1f} for {n_levels:.1f} levels ({n_below:,.0f} samples) below those that change, {1e3 * rest:.1f} for the rest;\n"
        f"  a level {1e3 * call_s:.2f} ms and {1e6 * row_s:.2f} µs a sample; samples and the rest alone / fit {floor / fit_s:.4f}"
    )


def other(x, y, gone, dare: str | None) -> tuple[float, str]:
    """Seconds to compare with, and what took them."""
    if dare is None:
        trees = ExtraTreesClassifier(N_TREES, max_depth=DEPTH, random_state=0, n_jobs=1)
        return timed(lambda: trees.fit(x, y))[1] / 100, "a hundredth of scikit-learn's ExtraTrees"
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.npz"
        np.savez(path, x=x, y=y, gone=gone)
        script = DARE.format(trees=N_TREES, depth=DEPTH)
        done = subprocess.run([dare, "-c", script, str(path)], check=True, capture_output=True, text=True)
    return float(done.stdout), "a deletion of dare-rf"


def accuracy() -> None:
    """Print test accuracies of forests; nothing is limited here."""
    table, income, name = adult()
    digits, numbers = load_digits(return_X_y=True)
    for what, x, y, size, n_splits in ((name, table, income, 10_000, 3), ("digits", digits, numbers, 0.5, 8)):
        found: dict[str, list[float]] = {}
        for split in range(n_splits):
            parts = train_test_split(x.astype(np.float32), y, random_state=split, train_size=size, test_size=size)
            rows, other_rows, labels, other_labels = parts
            for random_depth in (None, 0):
                options = ExactForest(trees=N_TREES, max_depth=DEPTH, random_depth=random_depth)
                made = options.build(ModelInput(x_shape=rows.shape[1:], n_classes=int(y.max()) + 1))
                made.fit(Batch(torch.from_numpy(rows), torch.from_numpy(labels), torch.arange(len(labels))), split)
                right = made(torch.from_numpy(other_rows)).argmax(1).numpy() == other_labels
                found.setdefault(f"ExactForest(random_depth={random_depth})", []).append(right.mean())
            for kind in (ExtraTreesClassifier, RandomForestClassifier):
                trees = kind(N_TREES, max_depth=DEPTH, random_state=split).fit(rows, labels)
                found.setdefault(kind.__name__, []).append(trees.score(other_rows, other_labels))
        print(f"accuracy on {what}, mean of {n_splits} splits:")
        print("  " + ", ".join(f"{each} {statistics.mean(values):.4f}" for each, values in found.items()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dare", help="a Python that has dare-rf")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    missed = [sisa(), forest(arguments.dare)]
    accuracy()
    return int(any(missed))


if __name__ == "__main__":
    sys.exit(main())
