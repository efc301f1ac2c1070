"""A sweep on all cores against the same sweep on one: 12 settings of a method, 2 forget sets and 5 seeds.

The sweep is run from the command line, start-up included: with ``--executor serial``, then with ``--executor processes``, each with a
store of its own; the rows must be the same, timings aside. It is ``configs/adult.jsonc`` on the census (Adult) where
``ERASURE_TEST_DATA`` has it, else on a table of its size, with SCRUB as the only method. Run it with ``make bench-limits`` or
``python benchmarks/executors.py``, on a machine that does nothing else; it takes about ten minutes. Exits with 1 if the ratio of the
times is above its limit or a row differs.

Cores that share caches, power or a host with others are slower together than alone, and not steadily so. Before, between and after the
sweeps a fixed training loop is therefore run alone and once per core at the same time: the *floor* that is printed, the time at once
over the time one after the other, is the ratio that perfect scaling would reach at that moment.
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
LOOP = """
import time, torch
torch.set_num_threads(1)
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(108, 100), torch.nn.ReLU(), torch.nn.Linear(100, 2))
optimizer = torch.optim.Adam(model.parameters())
x, y = torch.randn(64, 108), torch.randint(2, (64,))
input()
start = time.perf_counter()
for _ in range(12_000):
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
print(time.perf_counter() - start)
"""


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
    keys = ("experiment", "label", "model_role", "measure", "partition", "seed_train", "value", "gap", "status")
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


def loops(count: int) -> float:
    """Mean seconds of the training loop over ``count`` processes that run it at the same time."""
    command = [sys.executable, "-c", LOOP]
    started = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    time.sleep(10)  # all have imported PyTorch and wait for their line
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return sum(float(process.communicate()[0]) for process in started) / count


def floor(n_cores: int) -> float:
    """The ratio that perfect scaling over ``n_cores`` would reach now: 1 / n_cores where cores do not slow each other."""
    return loops(n_cores) / (n_cores * loops(1))


def main() -> int:
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = folder / "sweep.json"
        config.write_text(json.dumps(configuration()), "utf-8")
        floors = [floor(n_cores)]
        serial_s, expected = run("serial", folder, config)
        floors.append(floor(n_cores))
        processes_s, found = run("processes", folder, config)
        floors.append(floor(n_cores))
    ratio = processes_s / serial_s
    print(f"{len(expected)} rows; {n_cores} cores: serial {serial_s:.1f} s, processes {processes_s:.1f} s")
    print(f"floor of this machine {' / '.join(f'{value:.3f}' for value in floors)} (before, between, after)")
    above = ratio - sorted(floors)[1]
    print(
        f"ratio {ratio:.3f} (limit {LIMIT}), {above:+.3f} from the median floor; rows {'the same' if found == expected else 'DIFFER'}"
    )
    return int(ratio > LIMIT or found != expected)


if __name__ == "__main__":
    sys.exit(main())
