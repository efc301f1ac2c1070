"""Checking a configuration, and remembering that it is valid.

Importing the classes that a configuration names takes seconds, checking it once they are there a few hundredths of one. What was found
valid is therefore kept under a digest of everything that the answer depends on: the composed configuration with its positions, our own
code, and the installed packages with their versions. Problems are never kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from erasure.config import Loaded, Node, load
from erasure.deferred import deferred
from erasure.memory import keep, memory_file, recall
from erasure.workflows.torch_by_name import without_torch

__all__ = ["digest_of", "has_pinned_files", "validated"]

_FORMAT = 2
_KEPT = 200
"""Configurations that are remembered; the oldest are dropped."""
_KERNELS_WITHOUT_NUMBERS = ("torch._meta_registrations", "torch.distributed._meta_registrations")
"""How torch computes shapes of tensors that have no values, which is a third of its import: no component is made of such tensors."""


def validated(config: Path, overrides: Sequence[str] = (), trust: Sequence[str] = ()) -> dict[str, Any]:
    """Check a configuration.

    Args:
        config: Path of a JSONC file.
        overrides: ``path=value`` settings, applied after composition.
        trust: Modules whose classes the configuration may name; with any, nothing is remembered.

    Returns:
        ``notices`` and ``names`` (records with their positions), ``labels`` of the unlearners, ``n_measures``, the experiment's
        ``name``, and ``experiment``, the configuration with every default filled in.

    Raises:
        ConfigError: With every problem.
    """
    loaded = load(config, overrides)
    file = memory_file("validated", digest_of(loaded))
    known: dict[str, Any] | None = None if trust else recall(file)
    if known is not None:
        return known
    record, is_our_own = _checked(config, overrides, trust)
    if is_our_own and not has_pinned_files(record["experiment"]):
        keep(file, record, at_most=_KEPT)
    return record


def has_pinned_files(canonical: Any) -> bool:
    """Whether a configuration with every default filled in names files whose content its components have digested."""
    if isinstance(canonical, dict):
        return any((name.endswith("_sha256") and value) or has_pinned_files(value) for name, value in canonical.items())
    return isinstance(canonical, list) and any(map(has_pinned_files, canonical))


def _checked(config: Path, overrides: Sequence[str], trust: Sequence[str]) -> tuple[dict[str, Any], bool]:
    """The record, and whether no other package takes part, whose code may change without a new version."""
    from erasure.catalogue import BUILTINS, plugins

    if trust and "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    is_our_own = not trust and not any(plugins(kind) for kind in BUILTINS)
    record = without_torch(lambda: _record(config, overrides, trust)) if is_our_own else None
    if record is None:
        with deferred(_KERNELS_WITHOUT_NUMBERS) if is_our_own else nullcontext():
            record = _record(config, overrides, trust)
    return record, is_our_own


def _record(config: Path, overrides: Sequence[str], trust: Sequence[str]) -> dict[str, Any]:
    from erasure.experiment.configuration import load_experiment

    experiment = load_experiment(config, overrides=overrides, trust=trust)
    places = sorted(experiment.places, key=lambda entry: entry[1].position)
    return {
        "name": experiment.name,
        "notices": [{"message": n.message, "path": n.path, "kind": n.kind, **_place(n.position)} for n in experiment.notices],
        "names": [_name(component, place) for component, place in places if place.name],
        "labels": [entry.label for entry in experiment.unlearners],
        "n_measures": len(experiment.evaluator.measures),
        "experiment": experiment.canonical(),
    }


def _name(component: Any, place: Any) -> dict[str, Any]:
    cls = type(component)
    target = component.path if hasattr(component, "namespaces") else f"{cls.__module__}:{cls.__qualname__}"
    record = {"name": place.name, "class": target, "path": place.path, **_place(place.position)}
    return record | {key: dict(getattr(place, key)) for key in ("renamed", "assumed") if getattr(place, key)}


def _place(position: Any) -> dict[str, Any]:
    return {"file": position.file, "line": position.line, "column": position.column}


def digest_of(loaded: Loaded) -> str:
    """Everything that decides what a configuration means: its content with positions, our code, the installed packages."""
    notices = [str(notice) for notice in loaded.notices]
    content = [_FORMAT, sys.version, _written(loaded.root), notices, list(_own_code()), sorted(_packages())]
    return hashlib.sha256(json.dumps(content, ensure_ascii=True).encode()).hexdigest()


def _written(node: Node) -> Any:
    """A node with the positions of its values and keys."""
    place = [node.position.file, node.position.line, node.position.column]
    if isinstance(node.value, dict):
        return [place, [[name, list(_key(node, name)), _written(child)] for name, child in node.value.items()]]
    if isinstance(node.value, list):
        return [place, *map(_written, node.value)]
    return [place, type(node.value).__name__, node.value]


def _key(node: Node, name: str) -> tuple[str, int, int]:
    position = node.key_position(name)
    return position.file, position.line, position.column


def _own_code() -> Iterator[tuple[str, int, int]]:
    package = Path(__file__).parents[1]
    for file in sorted(package.rglob("*.py")):
        stat = file.stat()
        yield str(file.relative_to(package)), stat.st_mtime_ns, stat.st_size


def _packages() -> set[str]:
    """Names with versions of everything that is installed, as the folders of their metadata are called."""
    found = set()
    for place in sys.path:
        with suppress(OSError):
            found |= {entry.name for entry in os.scandir(place or ".") if entry.name.endswith((".dist-info", ".egg-info"))}
    return found
