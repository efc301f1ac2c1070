"""Shadows on all cores against one.

Three networks that are too large or of another kind than those which are trained together, a CNN of 1.5 million weights, a ResNet-18, and a
small transformer; and 64 small CNNs, which are trained together in four blocks. The same command is run with ``--workers 1`` and with one
worker for each core, each with a store of its own; the shadows must be the same bytes. Run it with ``make bench-limits`` or
``python benchmarks/side_by_side.py``, on a machine that does nothing else; it takes about twelve minutes. Exits with 1 if a ratio of the
times is above its limit, or shadows differ.

The *floor* is that of ``benchmarks/executors.py``: what perfect scaling would reach at that moment.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from executors import floor
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import Tensor

LIMIT = 0.7
BASE = Path(__file__).parent / "small_experiment.jsonc"


def pictures() -> tuple[Tensor, Tensor]:
    """The digits as pictures of 28 × 28."""
    digits = load_digits()
    images = torch.tensor(digits.images).float().unsqueeze(1) / 16
    x = torch.nn.functional.interpolate(images, size=(28, 28), mode="bilinear").contiguous()
    return x, torch.tensor(digits.target)


def tokens() -> tuple[Tensor, Tensor]:
    """2,000 texts of 48 tokens of a thousand; what a text is about shows in which of them it has."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(0, 4, (2_000,), generator=generator)
    x = torch.randint(1, 1_000, (2_000, 48), generator=generator)
    about = torch.rand(x.shape, generator=generator) < 0.2
    return torch.where(about, y.unsqueeze(1) * 200 + x % 200 + 1, x), y


def small_pictures() -> tuple[Tensor, Tensor]:
    """The digits as they are, 8 × 8."""
    digits = load_digits()
    return torch.tensor(digits.images).float().unsqueeze(1) / 16, torch.tensor(digits.target)


CASES: dict[str, tuple[Callable[[], tuple[Tensor, Tensor]], int, dict[str, object], int, int]] = {
    "CNN of 1.5 million": (pictures, 1_797, {"class": "CNN", "parameters": {"channels": [32, 64], "hidden_sizes": [480]}}, 6, 8),
    "ResNet-18": (pictures, 480, {"class": "TorchVisionModel", "parameters": {"name": "resnet18", "stem": "small"}}, 1, 8),
    "small transformer": (tokens, 2_000, {"class": "SmallTransformer", "parameters": {"n_tokens": 1_001}}, 4, 8),
    "small CNN, in blocks": (small_pictures, 1_797, {"class": "CNN"}, 40, 64),
}
"""Data, how many samples of it, the network, epochs, and shadows."""


def run(name: str, workers: int, folder: Path) -> tuple[float, str]:
    """Seconds of the command, and a digest of the shadows."""
    data, n, model, epochs, n_shadows = CASES[name]
    x, y = data()
    file, place = folder / "data.safetensors", folder / str(workers)
    save_file({"x": x[:n].contiguous(), "y": y[:n].contiguous()}, file)
    changes = {
        "data.parameters.data_source": {"class": "TensorFile", "parameters": {"path": str(file)}},
        "predictor.parameters.model": model,
        "predictor.parameters.epochs": epochs,
        "unlearners": [],
        "evaluator.parameters.measures": [{"class": "LiRA", "parameters": {"n_shadows": n_shadows}}],
        "evaluator.parameters.floor_repeats": 0,
    }
    settings = [part for path, value in changes.items() for part in ("--set", f"{path}={json.dumps(value)}")]
    places = ["--store", str(place / "store"), "--output", str(place / "out"), "--no-report", "--quiet"]
    command = [sys.executable, "-m", "erasure", "run", str(BASE), "--workers", str(workers), *places, *settings]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    digest = hashlib.sha256()
    for path in sorted((place / "store").rglob("models.safetensors")):
        digest.update(path.read_bytes())
    return seconds, digest.hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="", help="only networks whose name contains this")
    chosen = [name for name in CASES if parser.parse_args().rows in name]
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    print(f"Shadows, original and gold: seconds with one worker and with {n_cores}, and their ratio")
    print(f"floor of this machine {floor(n_cores):.3f}", flush=True)
    missed = False
    for name in chosen:
        with tempfile.TemporaryDirectory() as folder:
            (alone_s, alone), (all_s, together) = (run(name, workers, Path(folder)) for workers in (1, n_cores))
        ratio = all_s / alone_s
        missed |= ratio > LIMIT or alone != together
        what = "the same bytes" if alone == together else "shadows DIFFER"
        print(f"{name:24}{alone_s:>10.1f}{all_s:>10.1f}{ratio:>9.3f}   to be at most {LIMIT:.2f}; {what}", flush=True)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
