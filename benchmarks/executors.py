"""A sweep on all cores against the same sweep on one: 12 settings of a method, 2 forget sets and 5 seeds.

The sweep is run from the command line, start-up included: with ``--executor serial``, then with ``--executor processes``, each with a
store of its own; the rows must be the same, timings aside. The data is the census (Adult) where ``ERASURE_TEST_DATA`` has it, else a
table of its size; epochs and batches are those of ``configs/audit_adult.jsonc``. Run it with ``make bench`` or
``python benchmarks/executors.py``, on a machine that does nothing else. Exits with 1 if the ratio of the times is above its limit or a
row differs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LIMIT = 0.6
ROOT = Path(__file__).parent.parent
ADULT = Path(os.environ.get("ERASURE_TEST_DATA", ROOT.parent / "shared" / "data")) / "tabular"
CENSUS = ROOT / "configs" / "audit_adult.jsonc"
TIMED = {"s", "MiB", "x"}


def source() -> dict[str, Any]:
    files = [ADULT / "adult.data.gz", ADULT / "adult.test.gz"]
    if not all(path.exists() for path in files):
        parameters = {"n_samples": 45_222, "n_features": 80, "label_noise": 0.1}
        return {"class": "SyntheticTable", "parameters": parameters}
    sys.path.insert(0, str(ROOT / "src"))
    from erasure.config import load

    node = load(CENSUS).root.plain()["data"]["parameters"]["data_source"]
    node["parameters"]["path"] = [str(path) for path in files]
    return dict(node)


def configuration() -> dict[str, Any]:
    scrub = {"epochs": 2, "max_epochs": 1, "forget_batch_size": 256}
    return {
        "name": "executors",
        "data": {
            "data_source": source(),
            "partitions": [
                {"class": "StratifiedPercentage", "parameters": {"parts_names": ["train", "test"], "percentage": 0.7}},
                {
                    "class": "Percentage",
                    "parameters": {"parts_names": ["forget", "retain"], "ref_data": "train", "percentage": 0.02},
                },
            ],
            "batch_size": 256,
        },
        "predictor": {"model": {"class": "MLP", "parameters": {"hidden_sizes": [100, 100]}}, "epochs": 20},
        "unlearners": [{"class": "SCRUB", "parameters": scrub}],
        "evaluator": {"measures": ["Accuracy", "UMIA", "AverageGap", "RunTime"], "floor_repeats": 0},
        "sweep": {
            "over": {
                "unlearners[0].parameters.alpha": [0.001, 0.01, 0.1, 0.5],
                "unlearners[0].parameters.temperature": [1.0, 2.0, 4.0],
                "data.partitions[1].parameters.percentage": [0.02, 0.1],
            },
            "seeds": {"train": [0, 1, 2, 3, 4]},
        },
    }


def rows(folder: Path) -> list[tuple[Any, ...]]:
    keys = ("experiment", "label", "model", "measure", "partition", "seed_train", "value", "gap", "status")
    found = [
        tuple(row.get(key) for key in keys)
        for row in json.loads((folder / "rows.json").read_text("utf-8"))
        if row["unit"] not in TIMED
    ]
    return sorted(found, key=repr)


def run(executor: str, folder: Path, config: Path) -> tuple[float, list[tuple[Any, ...]]]:
    output = folder / executor
    options = ("--executor", executor, "--store", str(folder / f"{executor}-store"), "--output", str(output), "--no-report")
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "erasure", "sweep", str(config), *options, "--quiet"], check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - start, rows(output)


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = folder / "sweep.json"
        config.write_text(json.dumps(configuration()), "utf-8")
        serial_s, expected = run("serial", folder, config)
        processes_s, found = run("processes", folder, config)
    ratio, n_cores = processes_s / serial_s, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{len(expected)} rows; {n_cores} cores: serial {serial_s:.1f} s, processes {processes_s:.1f} s")
    print(f"ratio {ratio:.3f} (limit {LIMIT}); rows {'the same' if found == expected else 'DIFFER'}")
    return int(ratio > LIMIT or found != expected)


if __name__ == "__main__":
    sys.exit(main())
