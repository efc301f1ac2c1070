"""A sweep on all cores against the same sweep on one: 12 settings of a method, 2 forget sets and 5 seeds.

The sweep is run from the command line, start-up included: with ``--executor serial``, then with ``--executor processes``, each with a
store of its own; the rows must be the same, timings aside. It is ``configs/adult.jsonc`` on the census (Adult) where
``ERASURE_TEST_DATA`` has it, else on a table of its size, with SCRUB as the only method. Run it with ``make bench`` or
``python benchmarks/executors.py``, on a machine that does nothing else; it takes about ten minutes. Exits with 1 if the ratio of the
times is above its limit or a row differs.
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
CENSUS = ROOT / "configs" / "adult.jsonc"
TIMED = {"s", "MiB", "x"}


def configuration() -> dict[str, Any]:
    sys.path.insert(0, str(ROOT / "src"))
    from erasure.config import load

    experiment: dict[str, Any] = dict(load(CENSUS).root.plain())
    files = [ADULT / "adult.data.gz", ADULT / "adult.test.gz"]
    data = experiment["data"]["parameters"]
    if all(path.exists() for path in files):
        data["data_source"]["parameters"]["path"] = [str(path) for path in files]
    else:
        parameters = {"n_samples": 48_842, "n_features": 100, "label_noise": 0.1}
        data["data_source"] = {"class": "SyntheticTable", "parameters": parameters}
    scrub = next(entry for entry in experiment["unlearners"] if isinstance(entry, dict) and entry["class"] == "SCRUB")
    evaluator = {"measures": ["Accuracy", "UMIA", "AverageGap", "RunTime"], "floor_repeats": 0}
    sweep = {
        "over": {
            "unlearners[0].parameters.alpha": [0.001, 0.01, 0.05, 0.1],
            "unlearners[0].parameters.temperature": [1.0, 1.5, 2.0],
            "data.parameters.partitions[1].parameters.percentage": [0.02, 0.1],
        },
        "seeds": {"train": [0, 1, 2, 3, 4]},
    }
    return experiment | {"name": "executors", "unlearners": [scrub], "evaluator": evaluator, "sweep": sweep}


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
