"""Today's build against an older one, on the same machine and data: the time of what people wait for, as ratios.

The older build is taken from the repository's history into a temporary folder; ``--base`` names the commit. Both run in processes of
their own that take turns, on one thread, and CPU time counts, since other programs may share the machine: of commands that of the
whole process with its children, of kernels that of the best of three calls. Exits with 1 if a row is more than a tenth slower than it
was. Run it with ``make bench`` or ``python benchmarks/baseline.py``; ``--long`` adds an experiment on pictures, which takes a quarter of
an hour a pair.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BASE = "0c639c9"
LIMIT = 1.1

N_NODES, N_TRAINED, N_WORDS, N_TOPICS = 2708, 1208, 1433, 7
"""The size of Cora, whose bags of words have 18 words on average."""


def citations() -> tuple[object, object]:
    """A graph of Cora's size, and labels."""
    import torch

    from erasure.training.graphs import NodeColumn

    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(N_NODES, N_WORDS, generator=generator) < 18 / N_WORDS).float()
    edges = torch.randint(0, N_NODES, (2, 2 * N_NODES), generator=generator)
    background = torch.arange(N_NODES) >= N_TRAINED
    column = NodeColumn(x, torch.cat([edges, edges.flip(0)], 1), background=background)
    return column, torch.randint(0, N_TOPICS, (N_NODES,), generator=generator)


def gcn() -> Callable[[], None]:
    """Twenty epochs on the whole graph."""
    import torch

    from erasure.models.graph import GNN
    from erasure.training.calls import Criterion, Optimizer
    from erasure.training.predictor import ModelInput, Predictor, build_model, train

    x, y = citations()
    model = GNN(conv="gcn", hidden=32, layers=2, dense_layers=0, batch_norm=False, dropout=0.5, input_dropout=0.5)
    network = build_model(model, ModelInput((N_WORDS,), N_TOPICS, modality="graph"), 0, torch.device("cpu"))
    recipe = Predictor(model=model, epochs=20, optimizer=Optimizer.of("Adam", lr=0.01))
    ids, criterion = torch.arange(N_TRAINED), Criterion("classification")
    return lambda: train(network, recipe, x=x, y=y, ids=ids, criterion=criterion, seed=0, batch_size=N_NODES)


def importances(conv: str) -> Callable[[], Callable[[], None]]:
    """Squared gradients of 160 nodes."""

    def prepare() -> Callable[[], None]:
        import torch

        from erasure.models.graph import GNN
        from erasure.training.batches import Batches
        from erasure.training.calls import Criterion
        from erasure.training.per_sample import squared_gradients
        from erasure.training.predictor import ModelInput, build_model

        x, y = citations()
        model = GNN(conv=conv, hidden=32, layers=2, dense_layers=0, batch_norm=False)
        network = build_model(model, ModelInput((N_WORDS,), N_TOPICS, modality="graph"), 0, torch.device("cpu")).eval()
        view, ids = x.within(torch.arange(N_TRAINED)), torch.arange(160)
        criterion = Criterion("classification")
        return lambda: squared_gradients(network, Batches(view, y, ids, 64), criterion.per_sample)

    return prepare


def together(name: str) -> Callable[[], Callable[[], None]]:
    """Sixteen models in one training."""

    def prepare() -> Callable[[], None]:
        import torch

        from erasure.models.cnn import CNN
        from erasure.models.mlp import MLP
        from erasure.training.batches import TensorColumn
        from erasure.training.calls import Criterion, Optimizer
        from erasure.training.ensemble import train_together
        from erasure.training.predictor import ModelInput, Predictor, build_model

        model = CNN() if name == "CNN" else MLP(hidden_sizes=(128,))
        generator = torch.Generator().manual_seed(0)
        x, y = torch.randn(1_800, 1, 8, 8, generator=generator), torch.randint(0, 10, (1_800,), generator=generator)
        ids = [torch.randperm(len(x), generator=generator)[:900] for _ in range(16)]
        recipe = Predictor(model=model, epochs=2, optimizer=Optimizer.of("Adam", lr=1e-3))
        shape, cpu = ModelInput((1, 8, 8), 10), torch.device("cpu")

        def run() -> None:
            models = [build_model(model, shape, seed, cpu) for seed in range(16)]
            column, criterion = TensorColumn(x), Criterion("classification")
            train_together(models, recipe, x=column, y=y, ids=ids, criterion=criterion, seeds=range(16), batch_size=64)

        return run

    return prepare


ROWS: dict[str, Callable[[], Callable[[], None]]] = {
    "20 epochs of a GCN on bags of words": gcn,
    "importances of 160 nodes, GCN": importances("gcn"),
    "importances of 160 nodes, GraphSAGE": importances("sage"),
    "importances of 160 nodes, GAT": importances("gat"),
    "importances of 160 nodes, GIN": importances("gin"),
    "16 MLPs together": together("MLP"),
    "16 CNNs together": together("CNN"),
}


Command = Callable[[Path], list[str]]
"""Arguments of the command line for a folder that a build has to itself."""

EXPERIMENT = ROOT / "benchmarks" / "small_experiment.jsonc"
PICTURES = {"class": "CNN", "parameters": {"channels": [32, 64], "hidden_sizes": [480]}}


def experiment(name: str, *options: str) -> Command:
    """A run of the small experiment into a folder of that name."""
    return lambda folder: [
        "run",
        str(EXPERIMENT),
        "--quiet",
        "--store",
        str(folder / name / "store"),
        "--output",
        str(folder / name / "out"),
        *options,
    ]


def pictures(folder: Path) -> list[str]:
    """The same on the digits as pictures of 28 × 28, with a network of 1.5 million parameters."""
    import torch
    from safetensors.torch import save_file
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = torch.nn.functional.interpolate(torch.tensor(digits.images).float().unsqueeze(1) / 16, size=(28, 28), mode="bilinear")
    file = folder / "digits.safetensors"
    save_file({"x": x.contiguous(), "y": torch.tensor(digits.target)}, file)
    source = {"class": "TensorFile", "parameters": {"path": str(file)}}
    changes = {"data.parameters.data_source": source, "predictor.parameters.model": PICTURES, "predictor.parameters.epochs": 10}
    return experiment(
        "pictures", *(part for path, value in changes.items() for part in ("--set", f"{path}={json.dumps(value)}"))
    )(folder)


COMMANDS: dict[str, Command] = {
    "validate, first time": lambda _: ["validate", str(ROOT / "configs" / "proof_of_concept.jsonc")],
    "validate, again": lambda _: ["validate", str(ROOT / "configs" / "proof_of_concept.jsonc")],
    "small experiment": experiment("small"),
    "small experiment, all in the store": experiment("small"),
}
"""Commands in their order: what is run again finds what was left before."""

LONG: dict[str, Command] = {"digits as pictures, CNN of 1.5 million": pictures}


def run_commands(source: Path, commands: Mapping[str, Command]) -> dict[str, float]:
    """CPU seconds of some commands with the build whose sources are given, in a fresh folder."""
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        environment = {**environment_of(source), "XDG_CACHE_HOME": folder}
        for name, arguments in commands.items():
            command = [sys.executable, "-m", "erasure", *arguments(Path(folder))]
            before = os.times()
            subprocess.run(command, env=environment, cwd=folder, check=True, capture_output=True)
            after = os.times()
            seconds[name] = after.children_user - before.children_user + after.children_system - before.children_system
    return seconds


def measure(names: list[str]) -> dict[str, float]:
    """CPU seconds of some rows, the least of three runs after one that is not counted."""
    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    seconds = {}
    for name in names:
        run = ROWS[name]()
        run()
        tries = []
        for _ in range(3):
            start = time.process_time()
            run()
            tries.append(time.process_time() - start)
        seconds[name] = min(tries)  # the one that the rest of the machine disturbed least
    return seconds


def environment_of(source: Path) -> dict[str, str]:
    """The environment of processes that run a build on one thread."""
    return {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def in_build(source: Path, names: list[str]) -> dict[str, float]:
    """CPU seconds of some rows with the build whose sources are given."""
    command = [sys.executable, __file__, "--measure", json.dumps(names)]
    done = subprocess.run(command, env=environment_of(source), check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def sources_of(commit: str) -> Iterator[Path]:
    """The sources of an older build, for as long as the block lasts."""
    with tempfile.TemporaryDirectory() as folder:
        packed = subprocess.run(["git", "-C", ROOT, "archive", commit, "src"], check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=packed, check=True)
        compileall.compile_dir(folder, quiet=1)  # as the present build has been before
        yield Path(folder) / "src"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default=BASE, help="commit of the older build")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--rows", default="", help="only rows whose name contains this")
    parser.add_argument("--long", action="store_true", help="also the experiment on pictures")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(json.loads(arguments.measure))))
        return 0
    import torch

    print(f"{platform.platform()}, {torch.backends.cpu.get_cpu_capability()}, 1 thread, torch {torch.__version__}")
    print(f"CPU seconds, medians of {arguments.pairs} pairs; the older build is {arguments.base}")
    print(f"{'':40}{'older':>10}{'now':>10}{'ratio':>9}{'least':>9}{'most':>9}")
    kernels = [name for name in ROWS if arguments.rows in name]
    commands = {
        name: command for name, command in (COMMANDS | (LONG if arguments.long else {})).items() if arguments.rows in name
    }

    def seconds(source: Path) -> dict[str, float]:
        return run_commands(source, commands) | (in_build(source, kernels) if kernels else {})

    with sources_of(arguments.base) as older:
        pairs = [(seconds(older), seconds(ROOT / "src")) for _ in range(arguments.pairs)]
    missed = False
    for name in (*commands, *kernels):
        ratios = [now[name] / before[name] for before, now in pairs]
        ratio = statistics.median(ratios)
        before, now = (statistics.median(each[name] for each in build) for build in zip(*pairs, strict=True))
        missed = missed or ratio > LIMIT
        times = f"{before:>10.3f}{now:>10.3f}{ratio:>9.3f}{min(ratios):>9.3f}{max(ratios):>9.3f}"
        print(f"{name:40}{times}{'  SLOWER' if ratio > LIMIT else ''}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
