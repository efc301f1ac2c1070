"""Today's build against an older one, on the same machine and data: the time of what people wait for, as ratios.

The older build is taken from the repository's history into a temporary folder; ``--base`` names the commit. Both run in processes of
their own that take turns, on one thread, and CPU time counts, since other programs may share the machine: of commands that of the
whole process with its children, of kernels that of the best of three calls. Exits with 1 if a row is more than a tenth slower than it
was. Run it with ``make bench`` or ``python benchmarks/baseline.py``; ``--long`` adds whole experiments on pictures, which take a quarter
of an hour and more a pair, and the peak memory of ResNet-18.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BASE = "0c639c9"
LIMIT = 1.1
PICTURES = {"class": "CNN", "parameters": {"channels": (32, 64), "hidden_sizes": (480,)}}

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


def convolutions() -> Callable[[], None]:
    """Ten steps of Adam on a network of 1.5 million weights, 32 pictures of 28 × 28 each."""
    import torch

    from erasure.models.cnn import CNN
    from erasure.training.batches import TensorColumn
    from erasure.training.calls import Criterion, Optimizer
    from erasure.training.predictor import ModelInput, Predictor, build_model, train

    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(320, 1, 28, 28, generator=generator), torch.randint(0, 10, (320,), generator=generator)
    model = CNN(**PICTURES["parameters"])
    network = build_model(model, ModelInput((1, 28, 28), 10), 0, torch.device("cpu"))
    recipe = Predictor(model=model, epochs=1, optimizer=Optimizer.of("Adam", lr=1e-3))
    ids, column, criterion = torch.arange(len(x)), TensorColumn(x), Criterion("classification")
    return lambda: train(network, recipe, x=column, y=y, ids=ids, criterion=criterion, seed=0, batch_size=32)


def importances(conv: str) -> Callable[[], Callable[[], None]]:
    """Squared gradients of 40 nodes."""

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
        view, ids = x.within(torch.arange(N_TRAINED)), torch.arange(40)
        criterion = Criterion("classification")
        return lambda: squared_gradients(network, Batches(view, y, ids, 64), criterion.per_sample)

    return prepare


def models(name: str, way: str) -> Callable[[], Callable[[], None]]:
    """64 models, in blocks of sixteen that are trained together, or one by one."""

    def prepare() -> Callable[[], None]:
        import torch

        from erasure.models.cnn import CNN
        from erasure.models.mlp import MLP
        from erasure.training.batches import TensorColumn
        from erasure.training.calls import Criterion, Optimizer
        from erasure.training.ensemble import train_together
        from erasure.training.predictor import ModelInput, Predictor, build_model, train

        hidden = {"MLP": (128,), "MLP of Adult's size": (100, 100, 100)}
        model = CNN() if name == "small CNN" else MLP(hidden_sizes=hidden[name])
        shape = ModelInput((100,), 2) if name == "MLP of Adult's size" else ModelInput((1, 8, 8), 10)
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(1_800, *shape.x_shape, generator=generator)
        y = torch.randint(0, shape.n_classes, (1_800,), generator=generator)
        ids = [torch.randperm(len(x), generator=generator)[:900] for _ in range(N_MODELS)]
        recipe = Predictor(model=model, epochs=1, optimizer=Optimizer.of("Adam", lr=1e-3))
        column, criterion, cpu = TensorColumn(x), Criterion("classification"), torch.device("cpu")

        def run() -> None:
            made = [build_model(model, shape, seed, cpu) for seed in range(N_MODELS)]
            if way == "one by one":
                for seed, each in enumerate(made):
                    train(each, recipe, x=column, y=y, ids=ids[seed], criterion=criterion, seed=seed, batch_size=64)
                return
            for first in range(0, N_MODELS, BLOCK):
                part = slice(first, first + BLOCK)
                seeds = range(N_MODELS)[part]
                train_together(made[part], recipe, x=column, y=y, ids=ids[part], criterion=criterion, seeds=seeds, batch_size=64)

        return run

    return prepare


N_MODELS, BLOCK = 64, 16
SHARES = {"MLP": 0.10, "MLP of Adult's size": 0.12, "small CNN": 0.20}
"""What 64 models together should cost at most, as a share of one by one."""

ROWS: dict[str, Callable[[], Callable[[], None]]] = {
    "10 steps of a CNN of 1.5 million": convolutions,
    "20 epochs of a GCN on bags of words": gcn,
    "importances of 40 nodes, GCN": importances("gcn"),
    "importances of 40 nodes, GraphSAGE": importances("sage"),
    "importances of 40 nodes, GAT": importances("gat"),
    "importances of 40 nodes, GIN": importances("gin"),
    **{f"64 models, {way}: {name}": models(name, way) for name in SHARES for way in ("together", "one by one")},
}


Command = Callable[[Path], list[str]]
"""Arguments of Python for a folder that a build has to itself."""

Pair = tuple[float, float]
"""What the older build and the present one take."""

EXPERIMENT = ROOT / "benchmarks" / "small_experiment.jsonc"
N_ROWS, N_RUNS = 200_000, 1_000


def experiment(name: str, changes: Mapping[str, object] | None = None) -> Command:
    """A run of the small experiment, with changes, into a folder of that name."""

    def arguments(folder: Path) -> list[str]:
        places = ["--store", str(folder / name / "store"), "--output", str(folder / name / "out")]
        settings = [part for path, value in (changes or {}).items() for part in ("--set", f"{path}={json.dumps(value)}")]
        return ["-m", "erasure", "run", str(EXPERIMENT), "--quiet", *places, *settings]

    return arguments


def validate(_: Path) -> list[str]:
    """The configuration of the proof of concept."""
    return ["-m", "erasure", "validate", str(ROOT / "configs" / "proof_of_concept.jsonc")]


def pictures(name: str, changes: Mapping[str, object], n: int | None = None) -> Command:
    """The same on the digits, all or the first ``n``, as pictures of 28 × 28, with a network of 1.5 million parameters."""

    def arguments(folder: Path) -> list[str]:
        import torch
        from safetensors.torch import save_file
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = torch.tensor(digits.images).float().unsqueeze(1) / 16
        x = torch.nn.functional.interpolate(images[:n], size=(28, 28), mode="bilinear").contiguous()
        file = folder / f"{name}.safetensors"
        save_file({"x": x, "y": torch.tensor(digits.target[:n])}, file)
        source = {"class": "TensorFile", "parameters": {"path": str(file)}}
        fixed = {"data.parameters.data_source": source, "predictor.parameters.model": PICTURES, "predictor.parameters.epochs": 10}
        return experiment(name, fixed | dict(changes))(folder)

    return arguments


def report(folder: Path) -> list[str]:
    """The page of a run of 588 methods with ten seeds each, made from the rows of the small experiment."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    rows = pq.read_table(folder / "small" / "out" / "rows.parquet")
    models = pc.field("model_role" if "model_role" in rows.column_names else "model") == "unlearned"
    fixed, measured = rows.filter(~models), rows.filter(models)
    copies = []
    for number in range(-(-N_ROWS // len(measured))):
        label = pc.binary_join_element_wise(measured["label"], str(number // 10), " ")
        seed = pa.array([number % 10] * len(measured), measured["seed_unlearn"].type)
        changed = measured.set_column(measured.schema.get_field_index("label"), measured.schema.field("label"), label)
        copies.append(
            changed.set_column(changed.schema.get_field_index("seed_unlearn"), changed.schema.field("seed_unlearn"), seed)
        )
    place = folder / "many rows"
    place.mkdir()
    pq.write_table(pa.concat_tables([fixed, *copies]), place / "rows.parquet")
    return ["-m", "erasure", "report", str(place)]


FIRST_STEP = """
import os, sys
import torch
def stop():
    return lambda *arguments, **options: os._exit(0)
torch.autograd.grad, torch.autograd.backward, torch.Tensor.backward = stop(), stop(), stop()
from erasure.cli import main
main()
os._exit(1)
"""


def first_step(folder: Path) -> list[str]:
    """The small experiment up to the first gradient."""
    return ["-c", FIRST_STEP, *experiment("first step")(folder)[2:]]


def adult(folder: Path) -> list[str]:
    """The small experiment on as many rows and columns as Adult has when its categories are columns, with 16 measures."""
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(48_842, 100, generator=generator)
    y = (x @ torch.randn(100, generator=generator) + 5 * torch.randn(len(x), generator=generator) > 0).long()
    save_file({"x": x, "y": y}, folder / "adult.safetensors")
    source = {"class": "TensorFile", "parameters": {"path": str(folder / "adult.safetensors")}}
    measures = [
        *({"class": "Accuracy", "parameters": {"partition": partition}} for partition in ("forget", "retain", "test")),
        *({"class": attack, "parameters": {"n_shadows": 16}} for attack in ("LiRA", "RMIA")),
        *({"class": kind, "parameters": {"partition": "test"}} for kind in ("ECE", "NLL", "Churn")),
        *("UMIA", "MIAEfficacy", "AverageGap", "ToW", "AUS", "Completeness", "RunTime", "SpeedUp"),
    ]
    changes = {
        "data.parameters.data_source": source,
        "data.parameters.batch_size": 512,
        "predictor.parameters.epochs": 3,
        "unlearners[9].parameters.optimizer.parameters.lr": 0.001,  # SCRUB's, whose loss becomes infinite here at that of so few rows
        "evaluator.parameters.measures": measures,
    }
    return experiment("adult", changes)(folder)


FIRST_PAGE = """
import sys
try:
    from erasure.ui.library import Library
except ImportError:
    from erasure.reports.ui.library import Library
from pathlib import Path
Library(Path(sys.argv[1])).runs()
"""


def first_page(folder: Path) -> list[str]:
    """What ``erasure ui`` reads for its first page."""
    place = folder / "many runs"
    for number in range(N_RUNS):
        source, left_out = folder / "small" / "out", shutil.ignore_patterns("report.html")
        shutil.copytree(source, place / str(number), ignore=left_out, copy_function=os.link)
    return ["-c", FIRST_PAGE, str(place)]


COMMANDS: dict[str, Command] = {
    "validate, first time": validate,
    "validate, again": validate,
    "first training step": first_step,
    "small experiment": experiment("small"),
    "small experiment, all in the store": experiment("small"),
    "report of 200,000 rows": report,
    "list of 1,000 runs, first time": first_page,
    "digits as pictures, cut": pictures(
        "cut",
        {
            "predictor.parameters.epochs": 2,
            "unlearners": ["GoldModel", {"class": "Finetuning", "parameters": {"epochs": 1}}, "SSD"],
            "evaluator.parameters.measures": ["RelearnTime", "AIN", {"class": "LiRA", "parameters": {"n_shadows": 4}}],
            "evaluator.parameters.floor_repeats": 1,
        },
    ),
}
"""Commands in their order: what is run again finds what was left before."""

NEEDED = {
    "validate, again": "validate, first time",
    **dict.fromkeys(
        ("small experiment, all in the store", "report of 200,000 rows", "list of 1,000 runs, first time"), "small experiment"
    ),
}
"""What has to be run before a command."""

LONG: dict[str, Command] = {
    "Adult as tensors, 14 methods": adult,
    "digits as pictures, CNN of 1.5 million": pictures("pictures", {}),
    "ResNet-18 on 240 pictures, peak MiB": pictures(
        "resnet",
        {
            "predictor.parameters.model": {"class": "TorchVisionModel", "parameters": {"name": "resnet18", "stem": "small"}},
            "predictor.parameters.epochs": 1,
            "evaluator.parameters.measures": ["NLL"],
            "evaluator.parameters.floor_repeats": 1,
        },
        n=240,
    ),
}


def run_command(source: Path, folder: Path, name: str, command: Command) -> float:
    """What a command takes with the build whose sources are given: CPU seconds, or MiB where the name says so."""
    environment = {**environment_of(source), "XDG_CACHE_HOME": str(folder)}
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen([sys.executable, *command(folder)], env=environment, cwd=folder, stdout=said, stderr=said)
        peak_mib = watched(process.pid) if name.endswith("MiB") else 0.0
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        words = said.read().decode()
        # A method that diverges makes a run fail at its end, and has taken its time and memory all the same.
        if process.returncode and not (name in LONG and "results in" in words):
            raise SystemExit(f"{name} failed with the sources in {source}:\n{words[-2000:]}")
    return peak_mib or usage.ru_utime + usage.ru_stime


def watched(pid: int) -> float:
    """Most memory of a process until it ends, MiB. A run resets the kernel's own mark at every stage, so it is read all the time."""
    peak, status = 0.0, Path(f"/proc/{pid}/status")
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        mark = next((line for line in status.read_text().splitlines() if line.startswith("VmHWM:")), None)
        peak = max(peak, int(mark.split()[1]) / 1024) if mark else peak
        time.sleep(0.01)
    return peak


def measured_commands(builds: Sequence[Path], commands: Mapping[str, Command], n_pairs: int) -> Iterator[tuple[str, list[Pair]]]:
    """Each command's name with its pairs, as soon as both builds have run it, each build and pair in a folder of its own."""
    with ExitStack() as stack:
        folders = [[Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in builds] for _ in range(n_pairs)]
        for name, command in commands.items():
            pairs = []
            for pair in folders:
                older, now = (run_command(build, folder, name, command) for build, folder in zip(builds, pair, strict=True))
                pairs.append((older, now))
            yield name, pairs


def measure(name: str) -> float:
    """CPU seconds of a row, the least of three runs after one that is not counted."""
    import torch

    from erasure.training.devices import warm_up

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    warm_up(torch.device("cpu"))  # as in a run
    run = ROWS[name]()
    run()
    tries = []
    for _ in range(3):
        start = time.process_time()
        run()
        tries.append(time.process_time() - start)
    return min(tries)  # the one that the rest of the machine disturbed least


def environment_of(source: Path) -> dict[str, str]:
    """The environment of processes that run a build on one thread."""
    return {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def in_build(source: Path, name: str) -> float:
    """CPU seconds of a row with the build whose sources are given."""
    command = [sys.executable, __file__, "--measure", name]
    done = subprocess.run(command, env=environment_of(source), check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


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
    parser.add_argument("--long", action="store_true", help="also whole experiments on pictures")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(measure(arguments.measure))
        return 0
    import torch

    print(f"{platform.platform()}, {torch.backends.cpu.get_cpu_capability()}, 1 thread, torch {torch.__version__}")
    print(f"CPU seconds, medians of {arguments.pairs} pairs; the older build is {arguments.base}")
    print(f"{'':40}{'older':>10}{'now':>10}{'ratio':>9}{'least':>9}{'most':>9}", flush=True)
    missed = False
    with sources_of(arguments.base) as older:
        builds = (older, ROOT / "src")
        wanted = COMMANDS | (LONG if arguments.long else {})
        shown = [name for name in wanted if arguments.rows in name]
        commands = {name: command for name, command in wanted.items() if name in {*shown, *(NEEDED.get(each) for each in shown)}}
        for name, pairs in measured_commands(builds, commands, arguments.pairs):
            missed |= name in shown and row(name, pairs)
        now: dict[str, list[float]] = {}
        for name in (name for name in ROWS if arguments.rows in name):
            pairs = [(in_build(older, name), in_build(ROOT / "src", name)) for _ in range(arguments.pairs)]
            missed |= row(name, pairs)
            now[name] = [each for _, each in pairs]
    for name, limit in SHARES.items():
        ways = [now.get(f"64 models, {way}: {name}") for way in ("together", "one by one")]
        if ways[0] and ways[1]:
            share = statistics.median(ways[0]) / statistics.median(ways[1])
            print(f"{f'64 models, together to one by one: {name}':60}{share:>9.3f}   to be at most {limit:.2f}")
    return int(missed)


def row(name: str, pairs: Sequence[Pair]) -> bool:
    """Print a row; whether the present build is slower."""
    ratios = [now / before for before, now in pairs]
    ratio = statistics.median(ratios)
    before, now = (statistics.median(each) for each in zip(*pairs, strict=True))
    times = f"{before:>10.3f}{now:>10.3f}{ratio:>9.3f}{min(ratios):>9.3f}{max(ratios):>9.3f}"
    print(f"{name:40}{times}{'  SLOWER' if ratio > LIMIT else ''}", flush=True)
    return ratio > LIMIT


if __name__ == "__main__":
    sys.exit(main())
