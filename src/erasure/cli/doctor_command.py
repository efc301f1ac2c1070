"""``erasure doctor``."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from erasure.cli.amounts import shown_size
from erasure.cli.prose import printable

__all__ = ["EXTRAS", "REQUIRED", "command"]

REQUIRED: dict[str, str] = {
    "annotated-types": "0.6",
    "click": "8.1",
    "filelock": "3.20",
    "jinja2": "3.1",
    "lark": "1.1.9",
    "numpy": "1.26",
    "pandas": "2.1",
    "pyarrow": "16",
    "pydantic": "2.6",
    "pydantic-core": "2.16",
    "rich": "13.5",
    "safetensors": "0.7",
    "scikit-learn": "1.4",
    "scipy": "1.11",
    "torch": "2.4",
    "vl-convert-python": "1.6",
}
"""Packages that every run needs, with their oldest versions."""

EXTRAS: dict[str, tuple[str, ...]] = {
    "vision": ("pillow", "timm", "torchvision"),
    "text": ("datasets", "peft", "tokenizers", "transformers"),
    "graph": ("rdkit", "torch_geometric"),
    "uci": ("ucimlrepo",),
    "ray": ("ray",),
    "fabric": ("lightning-fabric",),
    "lightning": ("pytorch-lightning",),
    "tune": ("optuna",),
    "query": ("duckdb", "polars"),
    "track": ("alembic", "mlflow-skinny", "sqlalchemy", "tensorboard", "wandb"),
    "certify": ("cryptography", "securesystemslib"),
    "report": ("jinja2", "vl-convert-python"),
}
"""Packages of each extra."""

_OLDEST_PYTHON = (3, 11)
_PATIENCE_S = 300
_PROBE = """
import json, os
import torch
found = {"version": torch.__version__, "threads": torch.get_num_threads(), "cuda_build": torch.version.cuda,
         "hip_build": getattr(torch.version, "hip", None), "mps": torch.backends.mps.is_available(), "cuda": []}
if torch.cuda.is_available():
    for number in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(number)
        found["cuda"].append({"name": facts.name, "memory": facts.total_memory})
found["sum"] = float(torch.ones(3).sum())
try:
    import torchvision
    box = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    found["torchvision"] = "works" if torchvision.ops.nms(box, torch.ones(1), 0.5).tolist() == [0] else "broken"
except ModuleNotFoundError as error:
    found["torchvision"] = "not installed" if error.name == "torchvision" else f"broken: {error}"
except Exception as error:
    found["torchvision"] = "other build" if "operator torchvision::" in str(error) else f"broken: {error}"
print("facts:" + json.dumps(found))
"""
_TORCHVISION = {
    "works": "its compiled operators work",
    "other build": "made for another build of torch: data sets, transforms and classifiers work, its compiled operators do not",
}


@click.command("doctor")
@click.option("--store", type=click.Path(path_type=Path), help="The store. [default: .erasure/store]")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def command(store: Path | None, as_json: bool) -> int:
    """Show what is installed, which devices there are, and whether the store is usable.

    The exit code is 1 if something essential is broken. Nothing is changed or sent anywhere.

    \b
    erasure doctor
    erasure doctor --json
    """  # noqa: D301 - click's mark for lines that stay as they are
    torch = _torch()
    findings: dict[str, Any] = {
        "erasure": _version("erasure-unlearning"),
        "python": {"version": platform.python_version(), "executable": sys.executable, "platform": platform.platform()},
        "packages": {name: _version(name) for name in REQUIRED},
        "torch": torch,
        "cpu_cores": _cores(),
        "extras": {name: {package: _version(package) for package in packages} for name, packages in EXTRAS.items()},
        "store": _store(store),
    }
    problems = _problems(findings)
    if as_json:
        click.echo(json.dumps(findings | {"missing": _missing(findings["extras"]), "problems": problems}))
    else:
        _print(findings, problems)
    return 1 if problems else 0


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _torch() -> dict[str, Any]:
    """Torch's own version facts, read in a process of its own: a library that crashes when it loads then ends only that."""
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and text
            [sys.executable, "-W", "ignore", "-c", _PROBE],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=_PATIENCE_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"error": f"torch could not be asked: {error}"}
    answer = [line for line in done.stdout.splitlines() if line.startswith("facts:")]
    if done.returncode or not answer:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return {"error": f"torch cannot be used: {reason}"}
    facts: dict[str, Any] = json.loads(answer[-1].removeprefix("facts:"))
    return facts


def _store(given: Path | None) -> dict[str, Any]:
    from erasure.errors import StoreError
    from erasure.store import FORMAT_VERSION, Store, default_base_path, default_store_path

    path = (given or default_store_path()).expanduser().absolute()
    found: dict[str, Any] = {"path": str(path), "format": FORMAT_VERSION, "exists": path.is_dir()}
    place = next((each for each in (path, *path.parents) if each.exists()), Path(path.anchor))
    try:
        with tempfile.TemporaryFile(dir=place):
            found["writable"] = True
    except OSError:
        found["writable"] = False
    found["free"] = shutil.disk_usage(place).free
    try:
        base = default_base_path()
        found["base"] = None if base is None else str(base)
        entries = list(Store(path, read_only=True).entries())
        if base is not None:
            Store(path, base=base, read_only=True)
        found |= {"objects": len(entries), "size": sum(entry.size for entry in entries)}
    except (StoreError, OSError) as error:
        found["error"] = str(error)
    return found


def _problems(findings: Mapping[str, Any]) -> list[str]:
    """What keeps every run from working, with what to do about it."""
    problems = []
    if sys.version_info < _OLDEST_PYTHON:
        problems.append(f"Python {platform.python_version()} is too old; {'.'.join(map(str, _OLDEST_PYTHON))} or newer is needed")
    for name, oldest in REQUIRED.items():
        installed = findings["packages"][name]
        if installed is None:
            problems.append(f'{name} is not installed; pip install "{name}>={oldest}"')
        elif _numbers(installed) < _numbers(oldest):
            problems.append(f'{name} {installed} is too old; pip install "{name}>={oldest}"')
    if "error" in findings["torch"]:
        problems.append(findings["torch"]["error"])
    store = findings["store"]
    if "error" in store:
        problems.append(store["error"])
    elif not store["writable"]:
        problems.append(f"the store {store['path']} cannot be written; give another with --store or ERASURE_STORE")
    return problems


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", re.split(r"[+a-z]", version, maxsplit=1)[0]))


def _missing(extras: Mapping[str, Mapping[str, str | None]]) -> dict[str, str]:
    """The line to type for each extra that is not all there."""
    return {name: f'pip install "erasure-unlearning[{name}]"' for name, packages in extras.items() if None in packages.values()}


def _print(findings: Mapping[str, Any], problems: list[str]) -> None:
    python, torch, store = findings["python"], findings["torch"], findings["store"]
    lines = [
        f"ERASURE   {findings['erasure'] or 'run from its source, not installed'}",
        f"Python    {python['version']} on {python['platform']}",
        "packages  " + ", ".join(f"{name} {version or 'MISSING'}" for name, version in findings["packages"].items()),
        "",
        "devices",
        f"  cpu     {findings['cpu_cores']} core{'' if findings['cpu_cores'] == 1 else 's'}",
    ]
    if "error" in torch:
        lines.append("  torch does not load, so other devices are unknown")
    else:
        build = torch["cuda_build"] or torch["hip_build"]
        cuda = [f"{d['name']}, {shown_size(d['memory'])}" for d in torch["cuda"]]
        none = "none found" if build else f"torch {torch['version']} is a build without CUDA"
        lines += [
            f"  cuda    {'; '.join(cuda) or none}",
            f"  mps     {'available' if torch['mps'] else 'none'}",
        ]
    lines += ["", "extras"]
    missing = _missing(findings["extras"])
    for name, packages in findings["extras"].items():
        shown = ", ".join(f"{package} {version}" for package, version in packages.items() if version is not None)
        absent = [package for package, version in packages.items() if version is None]
        lines.append(f"  {name:7} {shown}{'; ' if shown and absent else ''}{'without ' + ', '.join(absent) if absent else ''}")
        if name in missing:
            lines.append(f"  {'':7} {missing[name]}")
    vision = torch.get("torchvision", "not installed")
    if vision != "not installed":
        lines.append(f"  torchvision: {_TORCHVISION.get(vision, vision)}")
    lines += ["", "store", f"  {store['path']}, format {store['format']}"]
    if "error" not in store:
        where = f"{store['objects']} object{'' if store['objects'] == 1 else 's'}, {shown_size(store['size'])}"
        lines.append(f"  {where if store['exists'] else 'not made yet; the first run makes it'}")
        lines += [f"  over {store['base']}"] if store["base"] else []
    lines.append(f"  {'writable' if store['writable'] else 'NOT writable'}, {shown_size(store['free'])} free")
    click.echo("\n".join(map(printable, lines)))
    for problem in problems:
        click.echo(printable(f"problem: {problem}"), err=True)
    click.echo(f"\n{len(problems)} problem{'' if len(problems) == 1 else 's'}" if problems else "\nall is well")
