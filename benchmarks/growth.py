"""How cost grows: ten times the rows, models, methods, stages and runs should take ten times as long, and memory stay flat above the cap.

CPU time on one thread, since other programs may share the machine; of several tries the fastest, which the rest of the machine disturbed
least. ``python benchmarks/growth.py --write`` also draws the figure of ``docs/performance.md``. Exits with 1 if ten times as much takes
less than 8 or more than 12 times as long, or memory above the cap grows by more than a tenth.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FIGURE = HERE.parent / "docs" / "pictures" / "growth.svg"
SIZES = (1, 2, 5, 10)
LEAST, MOST, MAX_MEMORY = 8.0, 12.0, 1.1
WIDTH = 784

Axis = Callable[[Path, int], Callable[[], object]]
"""Prepares work of a size, given as a multiple of the smallest."""


def rows(folder: Path, times: int) -> Callable[[], object]:
    """An epoch on 10,000 rows."""
    import torch

    from erasure.models.mlp import MLP
    from erasure.training.batches import TensorColumn
    from erasure.training.calls import Criterion, Optimizer
    from erasure.training.predictor import ModelInput, Predictor, build_model, train

    n = 10_000 * times
    x, y = torch.randn(n, 100), torch.arange(n) % 2
    recipe = Predictor(model=MLP(hidden_sizes=(100,)), epochs=1, optimizer=Optimizer.of("Adam", lr=1e-3))
    network = build_model(recipe.model, ModelInput((100,), 2), 0, torch.device("cpu"))
    criterion, ids = Criterion("classification"), torch.arange(n)
    return lambda: train(network, recipe, x=TensorColumn(x), y=y, ids=ids, criterion=criterion, seed=0, batch_size=64)


def models(folder: Path, times: int) -> Callable[[], object]:
    """16 shadows, a block."""
    import torch

    from erasure.models.mlp import MLP
    from erasure.training.batches import TensorColumn
    from erasure.training.calls import Criterion, Optimizer
    from erasure.training.ensemble import BLOCK_SIZE, train_together
    from erasure.training.predictor import ModelInput, Predictor, build_model

    x, y = torch.randn(600, 64), torch.arange(600) % 10
    recipe = Predictor(model=MLP(hidden_sizes=(128,)), epochs=2, optimizer=Optimizer.of("Adam", lr=1e-3))
    shape, cpu, column, criterion = ModelInput((64,), 10), torch.device("cpu"), TensorColumn(x), Criterion("classification")

    def run() -> None:
        for block in range(times):
            seeds = range(block * BLOCK_SIZE, (block + 1) * BLOCK_SIZE)
            networks = [build_model(recipe.model, shape, seed, cpu) for seed in seeds]
            ids = [torch.randperm(600)[:300] for _ in seeds]
            train_together(networks, recipe, x=column, y=y, ids=ids, criterion=criterion, seeds=seeds, batch_size=64)

    return run


def _configuration(n_methods: int) -> dict[str, Any]:
    def cut(names: list[str], **parameters: Any) -> dict[str, Any]:
        return {"class": "Percentage", "parameters": {"parts_names": names, **parameters}}

    return {
        "name": "growth",
        "data": {
            "data_source": {"class": "Sklearn", "parameters": {"name": "iris"}},
            "partitions": [cut(["train", "test"], percentage=0.7), cut(["forget", "retain"], ref_data="train", percentage=0.1)],
        },
        "predictor": {"model": {"class": "MLP", "parameters": {"hidden_sizes": [4]}}, "epochs": 1},
        "unlearners": [
            {
                "class": "Finetuning",
                "label": f"method {number}",
                "parameters": {"epochs": 1, "optimizer": {"class": "SGD", "parameters": {"lr": 1 / (number + 2)}}},
            }
            for number in range(n_methods)
        ],
        "evaluator": {"measures": [{"class": "Accuracy", "parameters": {"partition": "forget"}}, "UMIA"], "floor_repeats": 1},
    }


def methods(folder: Path, times: int) -> Callable[[], object]:
    """A configuration of 60 methods, checked and planned."""
    from erasure.experiment.configuration import load_experiment
    from erasure.planning.planner import build_plan
    from erasure.planning.seeds import Seeds

    file = folder / f"{times}.json"
    file.write_text(json.dumps(_configuration(60 * times)))
    return lambda: build_plan(load_experiment(file), [Seeds.all(0)])


def stages(folder: Path, times: int) -> Callable[[], object]:
    """50 objects of a store, published and read."""
    import torch

    from erasure.store import Store, Writer, address

    def write(writer: Writer) -> None:
        writer.save_tensors("t", {"a": torch.zeros(4)})

    def run() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            store = Store(place)
            for number in range(50 * times):
                where = address("values", {"n": number})
                store.get_or_compute(where, "values", {"n": number}, write)
                store.open(where).tensors("t")

    return run


def runs(folder: Path, times: int) -> Callable[[], object]:
    """The list of 20 runs."""
    import erasure
    from erasure.ui.library import Library

    place = folder / f"runs{times}"
    made = folder / "made"
    if not made.exists():
        erasure.run(_configuration(4), store=folder / "store", output=made)
    for number in range(20 * times):
        shutil.copytree(made, place / str(number))
    return lambda: Library(place).runs()


AXES: dict[str, Axis] = {"rows": rows, "models": models, "methods": methods, "stages": stages, "runs": runs}


def measure(name: str, tries: int) -> list[float]:
    """CPU seconds at each size."""
    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = []
        for times in SIZES:
            work = AXES[name](Path(folder), times)
            seconds = []
            for _ in range(tries):
                start = time.process_time()
                work()
                seconds.append(time.process_time() - start)
            found.append(min(seconds))
    return found


def memory() -> list[float]:
    """Peak MiB of an epoch on 20,000 rows and more of 784 numbers that stay on the disk."""
    import torch
    from safetensors.torch import save_file

    from erasure.data.dataset import Dataset
    from erasure.data.storage import to_artifact
    from erasure.training.batches import TensorColumn

    found = []
    with tempfile.TemporaryDirectory() as folder:
        for times in SIZES:
            n = 20_000 * times
            y = torch.arange(n) % 10
            tensors, facts = to_artifact(
                Dataset(name="rows", x=TensorColumn(torch.zeros(n, WIDTH)), y=y, n_classes=10, x_shape=(WIDTH,))
            )
            file = Path(folder) / "rows.safetensors"
            save_file(tensors, file)
            command = [sys.executable, str(HERE / "loading.py"), "--epoch", str(file), json.dumps(facts), json.dumps(0.03)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found.append(json.loads(done.stdout.splitlines()[-1])[1])
    return found


def draw(found: dict[str, list[float]]) -> None:
    """The figure: each cost as a multiple of the smallest, beside the line on which ten times as much costs ten times as much."""
    import vl_convert

    values = [
        {"axis": name, "times": times, "cost": cost / costs[0]}
        for name, costs in found.items()
        for times, cost in zip(SIZES, costs, strict=True)
    ]
    scale = {"type": "log", "domain": [1, 12]}
    times = {
        "field": "times",
        "type": "quantitative",
        "scale": scale,
        "title": "size, as a multiple",
        "axis": {"values": list(SIZES)},
    }
    cost = {
        "field": "cost",
        "type": "quantitative",
        "scale": {"type": "log"},
        "title": "cost, as a multiple",
        "axis": {"values": list(SIZES)},
    }
    spec = {
        "data": {"values": values},
        "facet": {"field": "axis", "type": "nominal", "columns": 3, "title": None, "sort": list(found)},
        "columns": 3,
        "spec": {
            "width": 180,
            "height": 150,
            "layer": [
                {
                    "mark": {"type": "line", "strokeDash": [4, 4], "color": "#888888"},
                    "encoding": {"x": times, "y": {**cost, "field": "times"}},
                },
                {"mark": {"type": "line", "point": True, "color": "#0a6fb0"}, "encoding": {"x": times, "y": cost}},
            ],
        },
    }
    FIGURE.write_text(vl_convert.vegalite_to_svg(spec, vl_version="5.20"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="draw the figure of the documentation")
    arguments = parser.parse_args()
    found, missed = {}, False
    print(f"{'':12}{'what the smallest is':50}{'cost':>10}{'ten times':>12}{'ratio':>8}")
    for name in AXES:
        costs = found[name] = measure(name, arguments.tries)
        ratio = costs[-1] / costs[0]
        is_off = not LEAST <= ratio <= MOST
        missed |= is_off
        what = (AXES[name].__doc__ or "").rstrip(".")
        print(f"{name:12}{what:50}{costs[0]:>8.3f} s{costs[-1]:>10.3f} s{ratio:>8.1f}{'  MISSED' if is_off else ''}", flush=True)
    peaks = memory()
    missed |= peaks[-1] > MAX_MEMORY * peaks[0]
    print(
        f"{'memory':12}{'an epoch on 20,000 rows above the cap':50}{peaks[0]:>6.0f} MiB{peaks[-1]:>8.0f} MiB{peaks[-1] / peaks[0]:>8.2f}"
    )
    if arguments.write:
        draw(found | {"memory above the cap": peaks})
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
